"""What the answers at the top of a page count, host by host, so that a host of which nothing of it changed is not counted again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import Number
from gpuwatch.render import words
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.html_gpu_row import people, slice_processes
from gpuwatch.render.html_host import AWAY, split_next, unseen_word
from gpuwatch.render.stencil import kept

_COUNTED_AS = {"mig": "busy", "lost": "down"}


class Pool(NamedTuple):
    """The GPUs of a host that are of one model, or the slices of one profile."""

    name: str
    query: str
    """What finds the GPUs."""
    is_slices: bool
    size: float
    total: int
    free: Tuple[str, ...]
    """Numbers of the free ones."""
    reserved: int
    unknown: int


class Held(NamedTuple):
    """A GPU, or a slice of one, whose memory is held without work."""

    host: str
    user: str
    """Empty where nobody is seen."""
    number: str
    used_bytes: Number
    no_work_since_at: Optional[float]


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong: what, where, since when."""

    rank: int
    shape: str
    kind: str
    text: str
    host: str
    index: Optional[int]
    uuid: str
    since_at: Optional[float]


class HostTally(NamedTuple):
    """What is counted of one host."""

    host: str
    figures: Counter[str]
    """How many GPUs per figure; a GPU cut into slices counts as busy, a lost one as down."""
    pools: Tuple[Pool, ...]
    idle: Tuple[Held, ...]
    troubles: Tuple[Trouble, ...]


def tallies(cluster: ClusterNow, fragments: Fragments) -> list[HostTally]:
    """Of all hosts, in order."""
    key = ("html tally", cluster.audience)
    return [kept(node, fragments, key, _asked, _counted) for node in cluster.nodes]


def figures(found: Sequence[HostTally]) -> Counter[str]:
    """How many GPUs per figure, of all hosts."""
    counts: Counter[str] = Counter()
    for one in found:
        for figure, count in one.figures.items():
            counts[figure] += count
    return counts


def _asked(node: NodeState) -> list[Number]:
    """The numbers that are looked at."""
    numbers: list[Number] = []
    for view in node.gpus:
        numbers.append(view.reading.memory_total_bytes)
        if view.state.state == "idle":
            numbers.append(view.reading.memory_used_bytes)
        numbers += [one.memory_used_bytes for one, state in zip(view.reading.mig, view.mig_states) if state.state == "idle"]
        if "hot" in view.state.marks:
            numbers.append(view.reading.temperature_celsius)
    return numbers


def _counted(node: NodeState) -> HostTally:
    states = [view.state.state for view in node.gpus]
    return HostTally(
        node.name, Counter([_COUNTED_AS.get(state, state) for state in states]), tuple(_pools(node)), tuple(_idle(node)), tuple(_troubles(node))
    )  # fmt: skip


def _pools(node: NodeState) -> Iterator[Pool]:
    found: dict[str, list[tuple[GpuView, Number, str, str]]] = {}
    for view in node.gpus:
        reading = view.reading
        name = words.model_name(reading.name)
        found.setdefault(name, []).append((view, reading.memory_total_bytes or 0.0, view.state.state, str(reading.index)))
        for one, state in zip(reading.mig, view.mig_states):
            name = f"MIG {words.clean(one.profile)}".strip()
            found.setdefault(name, []).append((view, None, state.state, f"{reading.index}.{one.index}"))
    for name, members in found.items():
        states = [state for _, _, state, _ in members]
        yield Pool(
            name, words.clean(members[0][0].reading.name), members[0][1] is None, max([size or 0.0 for _, size, _, _ in members]), len(members),
            tuple([number for _, _, state, number in members if state == "free"]), states.count("reserved"),
            sum(state not in ("free", "reserved", "busy", "idle", "mig") for state in states),
        )  # fmt: skip


def _idle(node: NodeState) -> Iterator[Held]:
    for view in node.gpus:
        if view.state.state == "idle":
            reading = view.reading
            user = (people(reading.processes) or [""])[0]
            yield Held(node.name, user, str(reading.index), reading.memory_used_bytes, view.state.no_work_since_at)
        for one, state in zip(view.reading.mig, view.mig_states):
            if state.state == "idle":
                user = (people(slice_processes(view.reading, one)) or [""])[0]
                yield Held(node.name, user, f"{view.reading.index}.{one.index}", one.memory_used_bytes, state.no_work_since_at)


_NODE_TROUBLE = {"down": (0, "down", "unreachable"), "error": (1, "warn", "no GPU data"), "stale": (5, "stale", "stale: no new reading"),
                 "unseen": (6, "stale", "unseen")}  # fmt: skip


def _troubles(node: NodeState) -> Iterator[Trouble]:
    if node.status in _NODE_TROUBLE:
        rank, shape, kind = _NODE_TROUBLE[node.status]
        if node.status == "unseen":
            kind = unseen_word(node)
        why, text = split_next(node.error)[0], kind
        if why and node.status in ("error", "stale"):
            text = why if node.status == "error" else f"stale: {why}"
        since = node.received_at if node.status == "stale" else node.status_since_at
        yield Trouble(rank, shape, kind, text, node.name, None, "", since)
    if node.status in AWAY:
        return
    for view in node.gpus:
        yield from _gpu_troubles(node, view)
    if node.status == "up":
        yield from _warnings(node)


def _warnings(node: NodeState) -> Iterator[Trouble]:
    """What an up node says of itself: parts of its collecting that fail, and its own sentence where it tells something else."""
    parts = [part for part in (node.snapshot.collectors if node.snapshot else ()) if not part.ok]
    for part in parts:
        text = f"{words.clean(part.name)}: {split_next(part.message)[0]}"
        yield Trouble(4, "warn", "readings missing", text, node.name, None, "", part.since_at)
    said = split_next(node.error)[0]
    if said and not any(part.message and said.startswith(words.clean(part.message).rstrip(".")) for part in parts):
        yield Trouble(4, "warn", "with a warning", said, node.name, None, "", None)


def _gpu_troubles(node: NodeState, view: GpuView) -> Iterator[Trouble]:
    reading, state = view.reading, view.state
    if state.state == "lost":
        why = state.why or reading.error or "it does not answer"
        text = why if why.startswith("GPU is lost") else f"GPU lost: {why}"
        since = reading.error_since_at if reading.error_since_at is not None else state.since_at
        yield Trouble(2, "down", "a GPU lost", split_next(text)[0], node.name, reading.index, reading.uuid, since)
    elif state.marks:
        hot = f"{reading.temperature_celsius:.0f} °C" if "hot" in state.marks and reading.temperature_celsius is not None else ""
        text = ", ".join(filter(None, [hot, *(mark for mark in state.marks if mark != "hot")]))
        yield Trouble(3, "warn", "a GPU hot, throttled", text, node.name, reading.index, reading.uuid, None)
