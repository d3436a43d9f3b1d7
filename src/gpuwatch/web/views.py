"""The pages for reading, and their twins: text, JSON and CSV from the same URL."""

from __future__ import annotations

import json
from typing import Callable, Mapping, Optional

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.render import as_ascii, as_csv, as_html, as_json, words
from gpuwatch.render.csv_processes import processes_now_csv
from gpuwatch.render.html_parts import gpu_url, host_url
from gpuwatch.render.static_files import static_file
from gpuwatch.render.text_past import marked
from gpuwatch.web import charts
from gpuwatch.web.app import NotFound
from gpuwatch.web.base import checked
from gpuwatch.web.context import Context
from gpuwatch.web.replies import CSV, HTML, JSON, TEXT, Body, Reply, text_reply
from gpuwatch.wire.legacy import seed004

Makers = Mapping[str, Callable[[ClusterNow], bytes]]
CSV_TABLES = ("gpus", "processes")
"""Tables of the page of a host or GPU, each a CSV of its own (``table=``)."""
TYPES = {"html": HTML, "text": TEXT, "json": JSON, "csv": CSV}


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def cluster(ctx: Context) -> Reply:
    """Every GPU of every host at a glance."""
    format = ctx.params.format
    if format == "text" and ctx.params.negative("page"):  # as seed 004 says it
        return Reply(Body(seed004.error(404, "invalid page number."), seed004.CONTENT_TYPE))
    options = ctx.options()
    style = ctx.hub.settings.date_style
    makers: Makers = {
        "html": lambda now: _utf8(as_html.cluster_page(now, options, ctx.fragments)),
        "text": lambda now: _utf8(marked(now, options, as_ascii.cluster_text(now, options, ctx.fragments, style))),
        "json": lambda now: as_json.cluster_json(now, options, ctx.fragments),
        "csv": lambda now: _utf8(as_csv.cluster_csv(now, options, ctx.fragments)),
    }
    return ctx.kept(("cluster", format, options), TYPES[format], makers[format])


def api_cluster(ctx: Context) -> Reply:
    """The cluster as typed JSON."""
    options = ctx.options()
    return ctx.kept(("cluster", "json", options), JSON, lambda now: as_json.cluster_json(now, options, ctx.fragments))


def find_host(now: ClusterNow, name: str) -> NodeState:
    """The node of that name. Raises NotFound."""
    for node in now.nodes:
        if node.name == name:
            return node
    raise NotFound(f"There is no host {name[:100]!r}.", "The hosts are listed at /.")


def find_gpu(now: ClusterNow, uuid: str) -> tuple[NodeState, GpuView]:
    """The GPU (or the GPU of the MIG slice) of that UUID and its node. Raises NotFound."""
    for node in now.nodes:
        for gpu in node.gpus:
            if gpu.reading.uuid == uuid or any(slice_.uuid == uuid for slice_ in gpu.reading.mig):
                return node, gpu
    if now.at is not None and now.nodes:  # the host that has it now
        when = words.date_time(now.at, now.timezone)
        raise NotFound(f"There is no reading of the GPU {uuid[:100]!r} at {when}.", f"{now.nodes[0].name}: {now.nodes[0].error or 'it had others.'}")
    raise NotFound(f"There is no GPU {uuid[:100]!r}.", "The GPUs are listed at /.")


def _page_of(now: ClusterNow, uuid: str) -> str:
    """The UUID of the GPU whose page shows the GPU or slice; of the past also one without a reading: its page says so. Raises NotFound."""
    try:
        return find_gpu(now, uuid)[1].reading.uuid
    except NotFound:
        if now.at is None or not now.nodes:
            raise
        return uuid


def host(ctx: Context) -> Reply:
    """One host, its GPUs and their processes."""
    options, format, name = ctx.options(), ctx.params.format, ctx.path["name"]
    table = ctx.params.choice("table", CSV_TABLES)
    style = ctx.hub.settings.date_style
    makers: Makers = {
        "html": lambda now: _utf8(as_html.host_page(now, find_host(now, name).name, options, charts.section(ctx, now, host_url(name), host=name))),
        "text": lambda now: _utf8(marked(now, options, as_ascii.host_detail(now, find_host(now, name), options, style))),
        "json": lambda now: as_json.host_json(now, find_host(now, name)),
        "csv": lambda now: _utf8(_csv(now, find_host(now, name), None, table)),
    }
    return ctx.kept(("host", name, format, table, options, charts.span_key(ctx)), TYPES[format], makers[format], host=name)


def gpu(ctx: Context) -> Reply:
    """One GPU and its processes."""
    options, format, uuid = ctx.options(), ctx.params.format, ctx.path["uuid"]
    table = ctx.params.choice("table", CSV_TABLES)
    makers: Makers = {
        "html": lambda now: _utf8(as_html.gpu_page(now, _page_of(now, uuid), options, charts.section(ctx, now, gpu_url(uuid), gpu=uuid))),
        "text": lambda now: _utf8(marked(now, options, as_ascii.gpu_detail(now, *find_gpu(now, uuid), options))),
        "json": lambda now: as_json.gpu_json(now, *find_gpu(now, uuid)),
        "csv": lambda now: _utf8(_csv(now, *find_gpu(now, uuid), table)),
    }
    return ctx.kept(("gpu", uuid, format, table, options, charts.span_key(ctx)), TYPES[format], makers[format], gpu=uuid)


def _csv(now: ClusterNow, node: NodeState, gpu: Optional[GpuView], table: str) -> str:
    if table == "processes":
        return processes_now_csv(node, node.gpus if gpu is None else (gpu,))
    return as_csv.host_csv(now, node) if gpu is None else as_csv.gpu_csv(now, node, gpu)


def api_host(ctx: Context) -> Reply:
    """One host as JSON."""
    name = ctx.path["name"]
    return ctx.kept(("host", name, "json"), JSON, lambda now: as_json.host_json(now, find_host(now, name)), host=name)


def api_gpu(ctx: Context) -> Reply:
    """One GPU as JSON."""
    uuid = ctx.path["uuid"]
    return ctx.kept(("gpu", uuid, "json"), JSON, lambda now: as_json.gpu_json(now, *find_gpu(now, uuid)), gpu=uuid)


def live(ctx: Context) -> Reply:
    """What changed since a version: the page puts it in place. A tiny answer when nothing did (a 304 would cost the connection)."""
    since = ctx.params.whole("since", 0, 0, 2**53)
    options = ctx.options()

    def update(now: ClusterNow) -> bytes:
        return json.dumps(as_html.live_update(now, options, since, ctx.fragments), separators=(",", ":")).encode()

    return ctx.kept(("live", since, options), JSON, update)


def openapi(ctx: Context) -> Reply:
    """The OpenAPI description of /api/v1."""
    from gpuwatch.render.openapi import document  # large, and asked for rarely

    return ctx.kept("openapi", JSON, lambda _: json.dumps(document(checked(ctx.hub.settings.base_path)), indent=1).encode())


def healthz(ctx: Context) -> Reply:
    """One line for supervisors: 503 when a part of the hub that others wait for is dead or hangs."""
    trouble = ctx.hub.health()
    return text_reply(f"{trouble}\n", 503) if trouble else text_reply("ok\n")


def static(ctx: Context) -> Reply:
    """The program's own style sheet and script."""
    name = ctx.path["name"]
    try:
        data, content_type, digest = static_file(name)
    except KeyError:
        raise NotFound(f"There is no file {name[:60]!r}.") from None
    lasting = ctx.params.text("v") == digest
    return Reply(Body(data, content_type), headers={"Cache-Control": "public, max-age=31536000, immutable"} if lasting else {})


def favicon(ctx: Context) -> Reply:
    """Browsers ask for it unasked; the pages carry their own icon."""
    return Reply(Body(b"", "image/x-icon"), 404)
