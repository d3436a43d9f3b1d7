"""Which hosts and GPUs a view shows, and in which order: filter, sort and page, the same for HTML, text, CSV and JSON.

Pure: changes nothing, knows no format. What is not reported sorts last in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Callable, Optional

from gpuwatch.model.cluster import GPU_STATES, ClusterNow, GpuView, NodeState
from gpuwatch.model.view import ViewOptions

HOSTS_PER_PAGE = 60
GPUS_PER_PAGE = 480
"""Rows of a page of ``view=flat``."""

AWAY = ("down", "error", "unseen")
"""Statuses of nodes whose GPUs nobody can say anything about."""

Selected = tuple[NodeState, tuple[GpuView, ...]]
Shown = tuple[NodeState, Optional[tuple[GpuView, ...]]]
"""A node and its GPUs that match; None = all of them, which need not be looked at (the readings of a node are made when they are)."""


def select(cluster: ClusterNow, options: ViewOptions) -> list[Selected]:
    """What the view shows, in order: (node, its GPUs that match). One entry a host; a GPU where the layout is ``flat``.

    A node without GPUs has an entry too if it matches by itself. ``options.page`` 1, 2 ... cuts; 0 leaves all.
    """
    return [(node, gpus_of((node, gpus))) for node, gpus in page_of(shown(cluster, options), options)]


def shown(cluster: ClusterNow, options: ViewOptions) -> list[Shown]:
    """Like ``select``, all pages, without looking at the GPUs of a host that is shown whole."""
    rows: list[Shown] = [(node, None) for node in cluster.nodes]
    if options.filtered:
        rows = [kept for kept in (_filtered(node, options) for node in cluster.nodes) if kept is not None]
    if options.layout == "flat":
        found = [(node, gpus_of((node, gpus))) for node, gpus in rows]
        one_by_one: list[Shown] = [(node, (gpu,)) for node, gpus in found for gpu in gpus]
        rows = one_by_one + [(node, None) for node, gpus in found if not gpus]
    return _sorted(rows, options)


def page_of(rows: list[Shown], options: ViewOptions) -> list[Shown]:
    """The rows of ``options.page``."""
    if options.page < 1:
        return rows
    size = _page_size(options)
    return rows[(options.page - 1) * size : options.page * size]


def gpus_of(row: Shown) -> tuple[GpuView, ...]:
    """The GPUs that the row shows."""
    node, gpus = row
    return node.gpus if gpus is None else gpus


def gpu_count(row: Shown) -> int:
    """How many GPUs the row shows."""
    node, gpus = row
    return len(node.states if gpus is None else gpus)


def page_count(rows: int, options: ViewOptions) -> int:
    """How many pages ``rows`` entries of ``shown`` fill; at least 1."""
    return max(1, -(-rows // _page_size(options)))


def users(gpu: GpuView) -> tuple[str, ...]:
    """Who runs something on the GPU, most memory first, each once."""
    return tuple(dict.fromkeys(process.user for process in gpu.reading.processes if process.user))


def natural(text: str) -> tuple[Any, ...]:
    """Sort key in which ``gpu2`` comes before ``gpu10``."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return tuple((int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts)


def _page_size(options: ViewOptions) -> int:
    return GPUS_PER_PAGE if options.layout == "flat" else HOSTS_PER_PAGE


def _filtered(node: NodeState, options: ViewOptions) -> Shown | None:
    """The node with its matching GPUs; None if nothing of it matches."""
    if options.host and options.host.casefold() != node.name.casefold():
        return None
    if options.tag and options.tag.casefold() not in (tag.casefold() for tag in node.target.tags):
        return None
    words = options.query.casefold().split()
    about_host = _host_text(node)
    if not node.gpus:
        return (node, None) if _bare_matches(node, options, words, about_host) else None
    gpus = tuple(gpu for gpu in node.gpus if _gpu_matches(gpu, options, words, about_host))
    if len(gpus) == len(node.gpus):
        return (node, None)
    return (node, gpus) if gpus else None


def _host_text(node: NodeState) -> str:
    names = (node.name, node.snapshot.hostname if node.snapshot else "", *node.target.tags)
    return "\n".join(names).casefold()


def _bare_matches(node: NodeState, options: ViewOptions, words: Sequence[str], about_host: str) -> bool:
    """A node that shows no GPU: only what is said about the host can match."""
    if options.user or options.model or options.free_only:
        return False
    if options.state and options.state != node.status and not (options.state == "down" and node.status in AWAY):
        return False
    return all(word in about_host for word in words)


def _gpu_matches(gpu: GpuView, options: ViewOptions, words: Sequence[str], about_host: str) -> bool:
    if options.free_only and not _has_state(gpu, "free"):
        return False
    if options.state and not _has_state(gpu, options.state):
        return False
    model = (gpu.reading.name or "").casefold()
    if options.model.casefold() not in model:
        return False
    if not (options.user or words):
        return True
    people = [user.casefold() for user in users(gpu)]
    if options.user and options.user.casefold() not in people:
        return False
    text = "\n".join((about_host, model, *people))
    return all(word in text for word in words)


def _has_state(gpu: GpuView, state: str) -> bool:
    """The GPU is in the state, or one of its MIG slices is. ``down`` is every GPU that the figure at the top counts as down: lost ones too."""
    if state == "down" and gpu.state.state == "lost":
        return True
    return gpu.state.state == state or any(slice_.state == state for slice_ in gpu.mig_states)


_RANK = {state: rank for rank, state in enumerate(GPU_STATES)}
_GPU_VALUE: dict[str, Callable[[GpuView], Any]] = {
    "state": lambda gpu: _RANK.get(gpu.state.state),
    "user": lambda gpu: next((user.casefold() for user in users(gpu)), None),
    "since": lambda gpu: gpu.state.since_at,
    "utilization": lambda gpu: gpu.reading.utilization_percent,
    "memory": lambda gpu: gpu.reading.memory_used_bytes,
    "temperature": lambda gpu: gpu.reading.temperature_celsius,
    "power": lambda gpu: gpu.reading.power_watts,
}


def _sorted(rows: list[Shown], options: ViewOptions) -> list[Shown]:
    """A host stands where its first GPU would: the least when ascending, the greatest when descending."""
    if options.sort == "name":
        return sorted(rows, key=lambda row: natural(row[0].name), reverse=options.descending)
    value_of = _GPU_VALUE.get(options.sort)
    if value_of is None:
        return rows[::-1] if options.descending else rows
    extreme: Callable[[Any], Any] = max if options.descending else min
    known, unknown = [], []
    for row in rows:
        values = [value for value in map(value_of, gpus_of(row)) if value is not None]
        if values:
            known.append((extreme(values), row))
        else:
            unknown.append(row)
    known.sort(key=lambda pair: pair[0], reverse=options.descending)
    return [row for _, row in known] + unknown
