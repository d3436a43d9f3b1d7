"""Seed 000's routes about one machine, all machines and uploads, with its bodies and error texts (``wire.legacy.seed000``).

Those about one machine take ``host=``: else it is the hub's own machine where that is a target, else the first.
"""

from __future__ import annotations

import socket
from datetime import tzinfo
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import bottle

from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.model.series import ProcessInterval
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.query import series
from gpuwatch.query.days import days_from
from gpuwatch.query.processes import MOST_ROWS, processes
from gpuwatch.query.tail import Tails
from gpuwatch.render import words
from gpuwatch.web.context import Context
from gpuwatch.web.replies import JSON, Body, Reply
from gpuwatch.web.uploads import file_of
from gpuwatch.wire.csv_in import text
from gpuwatch.wire.legacy import seed000

MOST_UPLOAD_BYTES = 8 * 1024**2
"""Of a file: its answer holds all of it."""
POINTS = 1000
DAY_SECONDS = 86400.0
_METRICS = ("utilization_percent", "memory_used_bytes")


def gpu_stats(ctx: Context) -> Reply:
    """The GPUs of one machine."""
    return _of_machine(ctx, seed000.gpu_stats)


def cpu_live_info(ctx: Context) -> Reply:
    """Its processors."""
    return _of_machine(ctx, seed000.cpu_live_info)


def user_gpu_usage(ctx: Context) -> Reply:
    """Who holds how much of its GPUs' memory."""
    return _of_machine(ctx, seed000.user_gpu_usage)


def all_gpu_status(ctx: Context) -> Reply:
    """The GPUs of all machines."""
    return ctx.kept("000", JSON, lambda now: seed000.dump(seed000.all_gpu_status(now)))


def analyze_csv(ctx: Context) -> Reply:
    """What an uploaded CSV tells of GPUs; nothing of it is kept. As many at a time as there may be long answers."""
    ctx.uploads.count(str(bottle.request.environ.get("REMOTE_ADDR")))
    turn: Any = ctx.streams.take(())
    try:
        upload = _upload()
        name = upload.raw_filename if upload is not None else None
        lines = [] if upload is None else list(text.lines(iter(lambda: upload.file.read(65536), b"")))
        return _reply(seed000.dump(seed000.analyze(name, lines)))
    except seed000.Refused as error:
        return _reply(seed000.error(str(error)), 400)
    finally:
        turn.close()


def _upload() -> Any:
    """The part called ``csvFile``."""
    if (bottle.request.content_length or 0) > MOST_UPLOAD_BYTES:
        raise UsageError(f"The file is larger than {MOST_UPLOAD_BYTES // 1024**2} MiB.", "Import it on the hub: gpuwatch db import FILE")
    return file_of(bottle.request, "csvFile")


class _Span(NamedTuple):
    start_at: float
    end_at: float
    step_seconds: int


def historical_gpu_stats(ctx: Context) -> Reply:
    """Utilization and memory of the GPUs of one machine over ``range=`` or from ``start_date=`` to ``end_date=``."""

    def answer(node: NodeState, snapshot: Optional[Snapshot], span: _Span, zone: tzinfo) -> List[seed000.Document]:
        tails: Tails = ctx.fragments.get("tails", 0, Tails)
        found = []
        for gpu in snapshot.gpus if snapshot is not None else ():
            both = series.many(
                ctx.hub.store, ctx.hub.latest, _METRICS, host=node.name, gpu=gpu.uuid, start_at=span.start_at, end_at=span.end_at,
                step=span.step_seconds, points=POINTS, now=ctx.now, tails=tails,
            )  # fmt: skip
            found.append(seed000.gpu_history(gpu.index, gpu.name, both["utilization_percent"], both["memory_used_bytes"], zone))
        return [one for one in found if one["timestamps"]]

    return _of_past(ctx, answer)


def historical_user_gpu_usage(ctx: Context) -> Reply:
    """The memory that each user's processes held on one machine, over the same spans."""

    def answer(node: NodeState, snapshot: Optional[Snapshot], span: _Span, zone: tzinfo) -> List[seed000.Document]:
        parts = [gpu.memory_total_bytes for gpu in snapshot.gpus] if snapshot is not None else []
        total = None if None in parts else sum(part for part in parts if part is not None)
        return seed000.user_histories(_intervals(ctx, node.name, span), span.start_at, span.end_at, span.step_seconds, total, zone)

    return _of_past(ctx, answer)


def _intervals(ctx: Context, host: str, span: _Span) -> List[ProcessInterval]:
    """Who was on its GPUs, newest first; where there were very many, asked for day by day."""
    tails: Tails = ctx.fragments.get("tails", 0, Tails)

    def asked(start_at: float, end_at: float) -> List[ProcessInterval]:
        found = processes(
            ctx.hub.store, ctx.hub.latest, host=host, start_at=start_at, end_at=end_at, limit=MOST_ROWS, audience=ctx.audience, tails=tails
        )  # fmt: skip
        return [one.interval for one in found]

    rows = asked(span.start_at, span.end_at)
    if len(rows) < MOST_ROWS:
        return rows
    by_key: Dict[Tuple[str, int, float], ProcessInterval] = {}
    start_at = span.start_at
    while start_at < span.end_at:
        for one in asked(start_at, min(start_at + DAY_SECONDS, span.end_at)):
            by_key[one.gpu_uuid, one.pid, one.start_at] = one
        start_at += DAY_SECONDS
    return list(by_key.values())


def _of_machine(ctx: Context, make: Callable[[Snapshot], Any]) -> Reply:
    node = _machine(ctx)
    if node.snapshot is None or node.status not in seed000.ALIVE:
        return _reply(seed000.error(node.error or f"{node.name} has no readings"), 500)
    try:
        return _reply(seed000.dump(make(node.snapshot)), headers=ctx.dated())
    except seed000.Refused as error:
        return _reply(seed000.error(str(error)), 500)


def _of_past(ctx: Context, answer: Callable[[NodeState, Optional[Snapshot], _Span, tzinfo], Any]) -> Reply:
    zone = words.zone_of(ctx.hub.timezone)
    if ctx.hub.store is None:
        raise GpuwatchError("The database is not open, so there is no history.", "The page of now says why.")
    try:
        span = _span(ctx, zone)
    except seed000.Refused as error:
        return _reply(seed000.error(str(error)), 400)
    node = _machine(ctx)
    return _reply(seed000.dump(answer(node, node.snapshot, span, zone)))


def _span(ctx: Context, zone: tzinfo) -> _Span:
    """``range=daily`` (the default), weekly or monthly, back from now (or ``at=``); or whole days, which seed 000 documents and breaks on."""
    now = ctx.now if ctx.at is None else ctx.at
    first, last = ctx.params.text("start_date"), ctx.params.text("end_date")
    if first or last:
        days = days_from(first or last, last or first, zone)
        start_at, end_at = float(days[0].begin), float(min(max(now, days[0].begin + 1), days[-1].end))
        step = next((step for seconds, step in seed000.RANGES.values() if end_at - start_at <= seconds), 86400)
        return _Span(start_at, end_at, step)
    known = seed000.RANGES.get(ctx.params.text("range") or "daily")
    if known is None:
        raise seed000.Refused(seed000.UNKNOWN_RANGE)
    return _Span(now - known[0], now, known[1])


def _machine(ctx: Context) -> NodeState:
    """Raises UsageError where ``host=`` names none, or there are none."""
    host = ctx.params.text("host")
    name = host or own_machine(ctx.hub.cluster(ctx.audience), socket.gethostname())
    node = next((node for node in ctx.cluster(host=name).nodes if node.name == name), None) if name else None
    if node is None:
        raise UsageError(f"There is no host {host[:100]!r}." if host else "There are no hosts.", "The hosts are listed at /.")
    return node


def own_machine(cluster: ClusterNow, hostname: str) -> str:
    """The target that is the machine called ``hostname``, on which this runs, else the first; empty where there is none."""
    own = ("127.0.0.1", "::1", "localhost", hostname, hostname.partition(".")[0])
    found = next((node for node in cluster.nodes if node.target.host in own), None)
    return (found or cluster.nodes[0]).name if cluster.nodes else ""


def _reply(data: bytes, status: int = 200, headers: Any = None) -> Reply:
    return Reply(Body(data, JSON), status, headers or {})
