"""The routes of the old programs, at their own addresses, with their bodies and error manners (``wire/legacy``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, Optional

from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.model.errors import UsageError
from gpuwatch.query import history
from gpuwatch.render import as_ascii, as_html
from gpuwatch.render.text_past import marked
from gpuwatch.web import views
from gpuwatch.web.context import Context
from gpuwatch.web.replies import JSON, TEXT, Body, Reply
from gpuwatch.wire.legacy import seed002_hub, seed003, seed004, seed004_sender


def front(ctx: Context) -> Reply:
    """The cluster; with ``fetch_element=true`` the piece of its page about the host ``element``, as seed 004's page asks for it."""
    if not ctx.params.flag("fetch_element"):
        return views.cluster(ctx)
    name = ctx.params.text("element")
    return ctx.kept(("element", name), seed004_sender.CONTENT_TYPE, lambda now: seed004_sender.element(as_html.host_element(now, name)), host=name)


def gpu_status(ctx: Context) -> Reply:
    """Seed 003's body: an entry for each GPU of the fleet under its number."""

    def render(now: ClusterNow) -> bytes:
        return seed003.gpu_status(now, ctx.hub.gpu_numbers.of(seed003.uuids(now)))

    return ctx.kept("003", JSON, render)


def nodes(ctx: Context) -> Reply:
    """Seed 002's hub: ``{"Nodes": [...]}``."""
    return ctx.kept("002", JSON, lambda now: seed002_hub.nodes_json(now, ctx.fragments))


def gpu_table(ctx: Context) -> Reply:
    """Seed 004's short table; on a page, the flat list of GPUs."""
    if ctx.params.format != "text":
        return views.cluster(ctx)
    options = ctx.options()

    def render(now: ClusterNow) -> bytes:
        return marked(now, options, as_ascii.gpu_table(now, options, ctx.fragments)).encode("utf-8", "replace")

    return ctx.kept(("gpu_table", options), TEXT, render)


def to_slash(ctx: Context) -> Reply:
    """``/states`` and ``/states/<host>`` live at the address with a slash."""
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in ctx.params.values.items())
    target = "/".join(_quoted(part) for part in ctx.url.split("/")) + "/" + (f"?{query}" if query else "")
    return Reply(Body(b"", seed004.CONTENT_TYPE), 308, {"Location": target})


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def states(ctx: Context) -> Reply:
    """Newest entry of each host, or the newest ``fetch_num`` of each; with ``at=`` the one of that moment."""
    count = _fetch_number(ctx)
    if count == 1 or ctx.hub.store is None:
        return ctx.kept("004", seed004.CONTENT_TYPE, lambda now: seed004.states(now, ctx.fragments))
    now = ctx.cluster()
    hosts = ((node, _entries(ctx, node, count)) for node in now.nodes)
    return Reply(ctx.streams.take(seed004.all_states(hosts, now.timezone)), content_type=seed004.CONTENT_TYPE)


def host_states(ctx: Context) -> Reply:
    """The newest ``fetch_num`` entries of one host, oldest first, also when it is down; with ``term=true`` its part of the detailed text.

    With ``at=`` the entry of that moment.
    """
    now = ctx.cluster()
    node = _find(now, ctx.path["name"])
    if node is None:
        return Reply(Body(seed004.not_found(), seed004.CONTENT_TYPE))
    if ctx.params.format == "text":
        return _host_text(ctx, node.name)
    count = _fetch_number(ctx)
    entries = _entries(ctx, node, count)
    pieces = seed004.host_states(node, entries, now.timezone)
    return Reply(pieces if count == 1 else ctx.streams.take(pieces), headers=ctx.dated(), content_type=seed004.CONTENT_TYPE)


def _fetch_number(ctx: Context) -> Optional[int]:
    """How many entries are asked for, None = all. Raises UsageError where there is but one."""
    count = seed004.fetch_number(ctx.params.values.get("fetch_num"))
    if count != 1 and ctx.at is not None:
        raise UsageError("fetch_num= counts from now and cannot be combined with at=.", "Leave one of them out.")
    return count


def _host_text(ctx: Context, name: str) -> Reply:
    options, style = ctx.options(), ctx.hub.settings.date_style

    def render(now: ClusterNow) -> bytes:
        alone = replace(now, nodes=tuple(node for node in now.nodes if node.name == name))
        return marked(now, options, as_ascii.detail(alone, options, ctx.fragments, style)).encode("utf-8", "replace")

    return ctx.kept(("004", name, options), TEXT, render)


def _find(now: ClusterNow, name: str) -> Optional[NodeState]:
    return next((node for node in now.nodes if node.name == name), None)


def _entries(ctx: Context, node: NodeState, count: Optional[int]) -> Iterator[seed004.Entry]:
    """From the store; the newest one from memory where the store is away or has nothing yet."""
    from_memory = [(node.snapshot, node.received_at)] if node.snapshot is not None else []
    store = ctx.hub.store
    if store is None or count == 1:
        yield from from_memory
        return
    found = False
    for entry in history.newest(store, node.machine_id, count, ctx.audience, ctx.hub.settings.show_arguments):
        found = True
        yield entry
    if not found and count != 0:
        yield from from_memory
