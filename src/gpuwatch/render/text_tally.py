"""What the heads of text views count: states, kinds of cards and of their slices, host by host, so that a host that did not change is not counted again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from gpuwatch.model.cluster import NodeState
from gpuwatch.model.snapshot import Number
from gpuwatch.render import words
from gpuwatch.render.stencil import kept
from gpuwatch.render.text_words import Cache


class Cards(NamedTuple):
    """GPUs of one host that have the same name and size, or slices of the same profile."""

    host: str
    model: str
    label: str
    """``RTX 3090 24GB``; empty where they do not tell their size."""
    total: int
    free: tuple[str, ...]
    """Numbers of the free ones: ``3``, of slices ``3.0``."""


class Tally(NamedTuple):
    """What is counted of one host."""

    states: dict[str, int]
    """How many GPUs are in each state."""
    cards: tuple[Cards, ...]


def tally(node: NodeState, cache: Cache | None = None, audience: str = "") -> Tally:
    """The counts of one host, from the cache where nothing of it changed. ``audience``: whose cluster it is."""
    return kept(node, cache, ("text tally", audience), _totals, _counted)


def cards(host: str, names: tuple[str | None, ...], totals: tuple[Number, ...], free: tuple[int | None, ...]) -> tuple[Cards, ...]:
    """GPUs of a host by name and size. ``free``: the number of each that is free, None for the others."""
    kinds: dict[tuple[str, str], list[int | None]] = {}
    for name, total, number in zip(names, totals, free):
        kinds.setdefault(_kind(name, total), []).append(number)
    return tuple([Cards(host, *kind, len(found), tuple([str(n) for n in found if n is not None])) for kind, found in kinds.items()])


def by_label(found: Iterable[Cards]) -> dict[str, list[Cards]]:
    """Cards by what they are called. Those that do not tell their size (lost ones) are counted with the others of their name."""
    found = tuple(found)
    sized: dict[str, str] = {}
    for one in found:
        if one.label:
            sized.setdefault(one.model, one.label)
    kinds: dict[str, list[Cards]] = {}
    for one in found:
        kinds.setdefault(one.label or sized.get(one.model, one.model), []).append(one)
    return kinds


def _totals(node: NodeState) -> tuple[Number, ...]:
    return tuple([gpu.reading.memory_total_bytes for gpu in node.gpus])


def _counted(node: NodeState) -> Tally:
    states: dict[str, int] = {}
    for gpu in node.gpus:
        states[gpu.state.state] = states.get(gpu.state.state, 0) + 1
    names = tuple([gpu.reading.name for gpu in node.gpus])
    free = tuple([gpu.reading.index if gpu.state.state == "free" else None for gpu in node.gpus])
    return Tally(states, (*cards(node.name, names, _totals(node), free), *_slices(node)))


def _slices(node: NodeState) -> Iterator[Cards]:
    kinds: dict[str, list[tuple[str, bool]]] = {}
    for gpu in node.gpus:
        for one, state in zip(gpu.reading.mig, gpu.mig_states):
            kinds.setdefault(f"MIG {words.clean(one.profile)}".strip(), []).append((f"{gpu.reading.index}.{one.index}", state.state == "free"))
    for label, found in kinds.items():
        yield Cards(node.name, label, label, len(found), tuple([number for number, free in found if free]))


@lru_cache(maxsize=1024)
def _kind(name: str | None, total_bytes: float | None) -> tuple[str, str]:
    """(``RTX 3090``, ``RTX 3090 24GB``)."""
    model, size = words.model_name(name), words.gb_total(total_bytes)
    return model, (f"{model} {size}GB" if size and not model.upper().endswith("GB") else model) if size else ""
