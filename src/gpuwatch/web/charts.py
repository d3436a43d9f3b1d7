"""What a page's charts show, gathered for one request: the span, the series of all strips, and who was there. Trouble becomes words in their place."""

from __future__ import annotations

from typing import Hashable, Optional, Tuple

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.errors import StoreError
from gpuwatch.model.imports import IMPORTED
from gpuwatch.query import series
from gpuwatch.query.processes import processes
from gpuwatch.query.subjects import SLICE, Subject, find
from gpuwatch.query.tail import Tails
from gpuwatch.render import words
from gpuwatch.render.chart_strips import FLEET_STRIPS, IMPORT_STRIPS, USER_STRIPS, Strip, gpu_strips, host_strips, slice_strips
from gpuwatch.render.chart_window import (
    LEAST_USER_SECONDS,
    MOST_POINTS,
    RANGES,
    USUAL_RANGE,
    USUAL_USER_RANGE,
    Window,
    latest_window,
    window_between,
)
from gpuwatch.render.charts import Charts
from gpuwatch.render.html_charts import charts_html
from gpuwatch.rules.moments import parse_moment, parse_range
from gpuwatch.web.context import Context

MOST_PROCESSES = 2000
FRESH_SECONDS = 20.0
"""Charts of a page that is asked for again and again are read this often; the script reads more rarely."""
NO_STORE = "The database is not open, so there are no charts. The notice at the top of the cluster page says why."


def section(ctx: Context, now: ClusterNow, page: str, *, host: str = "", gpu: str = "") -> str:
    """The charts of a host or GPU as HTML for its own page; the same for all readers of some seconds. Raises UsageError for a span that is none."""
    window = window_of(ctx)
    if ctx.hub.store is None:  # the page shows the last hours from memory
        return ""
    key = ("charts", page, window, ctx.audience)
    return ctx.fragments.get(key, int(ctx.now // FRESH_SECONDS), lambda: charts_html(gather(ctx, now, window, host=host, gpu=gpu), page))


def span_key(ctx: Context) -> Hashable:
    """What of the address changes the charts."""
    return tuple(ctx.params.text(name) for name in ("range", "from", "to"))


def window_of(ctx: Context, *, user: str = "", most_points: int = MOST_POINTS) -> Window:
    """The span of ``range=``, or of ``from=`` and ``to=``; it ends at ``at=`` or now. Raises UsageError."""
    zone, now = words.zone_of(ctx.hub.timezone), ctx.now
    end_at = now if ctx.at is None else ctx.at
    begin, end = ctx.params.text("from"), ctx.params.text("to")
    if begin or end:
        until = parse_moment(end, now, zone, name="to") if end else end_at
        since = parse_moment(begin, now, zone, name="from") if begin else until - dict(_SECONDS)[USUAL_RANGE]
        return window_between(since, until, most_points)
    name = ctx.params.text("range") or (USUAL_USER_RANGE if user else USUAL_RANGE)
    seconds = dict(_SECONDS).get(name) or parse_range(name)
    name = next((usual for usual, length in _SECONDS if length == seconds), name)  # 1d is what the button calls 24h
    return latest_window(max(seconds, LEAST_USER_SECONDS) if user else seconds, end_at, name, most_points)


_SECONDS = tuple((name, float(seconds)) for name, _, seconds in RANGES)


def gather(ctx: Context, now: ClusterNow, window: Window, *, host: str = "", gpu: str = "", user: str = "") -> Charts:
    """Everything the charts show. ``now``: where the subject is looked up, for limits and names. Raises UsageError (no such host or GPU)."""
    store, latest = ctx.hub.store, ctx.hub.latest
    idle = (now.idle_memory_bytes, now.idle_utilization_percent, now.idle_after_seconds)
    at = ctx.params.text("at") if ctx.at is not None else ""
    if store is None:
        return Charts(window, (), {}, ctx.now, now.timezone, host, gpu, user, gpu or host or user or "All GPUs", at=at, trouble=NO_STORE, idle=idle)
    tails = ctx.fragments.get("tails", 0, Tails)
    strips: Tuple[Strip, ...] = ()
    name, trouble, found, who = gpu or host or user or "All GPUs", "", {}, None
    subject = Subject("", host, gpu)
    try:
        subject = find(store, latest, host, gpu) if host or gpu else subject
        strips, name = _strips(now, subject, user)
        found = series.many(
            store, latest, [strip.metric for strip in strips], host=subject.host, gpu=subject.gpu, user=user, start_at=window.start_at,
            end_at=window.end_at, step=window.step_seconds, now=ctx.now, tails=tails,
        )  # fmt: skip
        if subject.gpu or user:
            who = processes(
                store, latest, host=subject.host, gpu=subject.gpu, user=user, start_at=window.start_at, end_at=min(ctx.now + 1, window.end_at),
                limit=MOST_PROCESSES, audience=ctx.audience, tails=tails,
            )  # fmt: skip
    except StoreError as error:
        trouble = str(error)
    return Charts(window, strips, found, ctx.now, now.timezone, subject.host, subject.gpu, user, name, who, at, trouble, idle)


def _strips(now: ClusterNow, subject: Subject, user: str) -> Tuple[Tuple[Strip, ...], str]:
    """What is drawn of the subject, with the limits of its card as far as that is there, and what it is called."""
    node = next((node for node in now.nodes if node.name == subject.host), None)
    if subject.gpu:
        view = _view(node, subject.gpu)
        number = f"GPU {view.reading.index}" if view else subject.gpu
        if subject.gpu.startswith(SLICE):
            part = next((part for part in view.reading.mig if part.uuid == subject.gpu), None) if view else None
            name = f"{subject.host} {number} {part.profile or part.index}" if part else f"{subject.host} {subject.gpu}"
            strips = slice_strips(part.memory_total_bytes if part else None)
        else:
            name, strips = f"{subject.host} {number}", gpu_strips(view.reading if view else None)
    elif subject.host:
        own = host_strips(node.snapshot.host if node and node.snapshot else None)
        name, strips = subject.host, IMPORT_STRIPS if subject.host.startswith(IMPORTED) else own
    else:
        name, strips = "All GPUs", FLEET_STRIPS
    if user:
        return USER_STRIPS, user if name == "All GPUs" else f"{user} on {name}"
    return strips, name


def _view(node: Optional[NodeState], uuid: str) -> Optional[GpuView]:
    for view in node.gpus if node else ():
        if view.reading.uuid == uuid or any(part.uuid == uuid for part in view.reading.mig):
            return view
    return None
