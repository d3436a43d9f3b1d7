"""What the text views say about a node or a GPU, in one place so that all of them say the same. Pure; never says 0 for unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Callable, Protocol, TypeVar

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import ProcessReading
from gpuwatch.model.units import MIB
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.select import AWAY, page_count, shown

UNKNOWN = "n/r"
DATE_STYLES = {"YMD": "%Y/%m/%d", "MDY": "%m/%d/%Y", "DMY": "%d/%m/%Y"}
"""Seed 004's ``timestamp_format``."""

T = TypeVar("T")


class Cache(Protocol):
    """Rendered pieces, kept while what they were made from has the same version (``render.fragments.Fragments``)."""

    def get(self, key: tuple[object, ...], version: object, make: Callable[[], T]) -> T:
        """The piece, made anew if the version is another."""


def cached(cache: Cache | None, node: NodeState, key: tuple[object, ...], make: Callable[[], T]) -> T:
    """A piece of one host. Of hosts that are up alone: what is said about the others grows older without a new version."""
    if cache is None or node.status != "up":
        return make()
    return cache.get((*key, node.name), node.version, make)


def number(value: float | None) -> str:
    """A whole number; ``n/r`` for None."""
    return UNKNOWN if value is None else str(round(value))


@lru_cache(maxsize=32768)
def mib(size_bytes: float | None) -> str:
    """Whole MiB, as seed 004 and nvidia-smi count; ``n/r`` for None."""
    return UNKNOWN if size_bytes is None else str(int(size_bytes // MIB))


@lru_cache(maxsize=4096)
def date(at: float | None, zone: str, style: str = "YMD", *, milliseconds: bool = False) -> str:
    """``2018/12/03 23:16:59`` in the zone, with ``.140`` on demand; ``n/r`` for None. An unknown style counts as YMD."""
    if at is None:
        return UNKNOWN
    try:
        fraction, second = math.modf(at)
        second, microsecond = divmod(int(second) * 10**6 + round(fraction * 1e6), 10**6)
        text = _second(second, zone, style)
    except (OverflowError, ValueError, OSError):
        return UNKNOWN
    return f"{text}.{microsecond // 1000:03d}" if milliseconds else text


@lru_cache(maxsize=1024)
def _second(at: int, zone: str, style: str) -> str:
    """The hosts of a cluster are read in the same few seconds."""
    return datetime.fromtimestamp(at, words.zone_of(zone)).strftime(f"{DATE_STYLES.get(style, DATE_STYLES['YMD'])} %H:%M:%S")


def memory_percent(used: float | None, total: float | None) -> float | None:
    """Share of the memory in use; None if either number is not reported."""
    return None if used is None or not total else 100.0 * used / total


def program(process: ProcessReading) -> str:
    """What runs: the command from its script on where the reader may see it, else the process's name."""
    return words.short_command(process.command) or words.clean(process.name) or UNKNOWN


def shown_since(gpu: GpuView) -> float | None:
    """What *since* says: since when the main process runs (busy, idle), else since when the state holds."""
    if (gpu.state.was or gpu.state.state) in ("busy", "idle") and gpu.reading.processes:
        started_at = gpu.reading.processes[0].started_at
        if started_at is not None:
            return started_at
    if gpu.state.state == "idle" and gpu.state.no_work_since_at is not None:
        return gpu.state.no_work_since_at  # nobody is seen who began; "idle" itself came only after a while without work
    return gpu.state.since_at


def node_word(node: NodeState) -> str:
    """The status of a node that has no rows of its own, in the words of the page; empty where its GPUs speak for it."""
    if node.status in AWAY:
        if node.status == "unseen" and node.status_since_at is None:  # of the past: nothing is expected
            return "no reading"
        return "no GPU data" if node.status == "error" else node.status
    if node.status == "stale":  # first: a driver that did not answer has no GPUs in its last reading
        return "stale"
    return "no GPU" if node.snapshot is not None and not node.gpus else ""


def node_reason(node: NodeState) -> str:
    """Why there are no (fresh) GPU readings; empty if nothing is wrong."""
    if node.error:
        return words.sentence(words.clean(node.error), node.name)
    if node.gpus or node.snapshot is None:
        return ""
    told = (collector.message for collector in node.snapshot.collectors if collector.name == "nvml" and collector.message)
    return words.sentence(words.clean(next(told, "")))


def node_span(node: NodeState, now: float) -> str:
    """How long the node has had its status: ``2 m 40 s``, ``12 m``; empty if unknown."""
    since = node.received_at if node.status == "stale" and node.received_at is not None else node.status_since_at
    if since is None or node.status == "up":
        return ""
    return words.span_exact(now - since) if node.status == "stale" else words.span(now - since)


def lost_reason(gpu: GpuView) -> str:
    """Why a lost GPU does not answer, and what to do."""
    return words.clean(gpu.state.why or gpu.reading.error or "")


def nothing_shown(cluster: ClusterNow, options: ViewOptions) -> str:
    """Why a view has no rows, and what to do about it."""
    if not cluster.nodes:
        return "No nodes yet. Next: run `gpuwatch node` on a GPU machine and put its name into the hosts file."
    if not options.filtered:
        return "There is no such page."
    wanted = " ".join(filter(None, (options.query, options.host, options.user, options.tag, options.model, options.state)))
    if options.free_only and not wanted:
        return "No GPU is free."
    return f'No {"free " * options.free_only}GPU matches "{words.clean(wanted)}".'


def notes(cluster: ClusterNow, options: ViewOptions, rows: Sequence[object], *, titled: bool = False, times: bool = False) -> list[str]:
    """Lines below a text view: nothing found, page, trouble of the hub; past, demo (unless ``titled``), time zone (``times``)."""
    lines = [] if rows else [nothing_shown(cluster, options)]
    if options.page:
        lines.append(f"page {options.page} of {page_count(len(shown(cluster, options)), options)}")
    if options.at is not None and not titled:
        lines.append(f"as it was at {date(cluster.taken_at, cluster.timezone)}")
    if cluster.simulated and not titled:
        lines.append("demo: these GPUs are simulated")
    if times or (options.at is not None and not titled):
        lines.append(f"times: {words.zone_label(cluster.taken_at, cluster.timezone)}")
    return lines + [f"hub: {words.clean(notice)}" for notice in cluster.notices]
