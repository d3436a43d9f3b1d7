"""What the heads of text views count: states and kinds of cards, host by host, so that a host that did not change is not counted again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from gpuwatch.model.cluster import NodeState
from gpuwatch.render import words
from gpuwatch.render.text_words import Cache


class Cards(NamedTuple):
    """GPUs of one host that have the same name and size."""

    host: str
    model: str
    label: str
    """``RTX 3090 24GB``; empty where they do not tell their size."""
    total: int
    free: tuple[int, ...]
    """Numbers of the free ones."""


class Tally(NamedTuple):
    """What is counted of one host."""

    states: dict[str, int]
    """How many GPUs are in each state."""
    cards: tuple[Cards, ...]


def tally(node: NodeState, cache: Cache | None = None) -> Tally:
    """The counts of one host, from the cache where its version did not change."""
    return _counted(node) if cache is None else cache.get(("tally", node.name), node.version, lambda: _counted(node))


def by_label(cards: Iterable[Cards]) -> dict[str, list[Cards]]:
    """Cards by what they are called. Those that do not tell their size (lost ones) are counted with the others of their name."""
    cards = tuple(cards)
    sized: dict[str, str] = {}
    for one in cards:
        if one.label:
            sized.setdefault(one.model, one.label)
    kinds: dict[str, list[Cards]] = {}
    for one in cards:
        kinds.setdefault(one.label or sized.get(one.model, one.model), []).append(one)
    return kinds


def _counted(node: NodeState) -> Tally:
    states: dict[str, int] = {}
    kinds: dict[tuple[str, str], list[int | None]] = {}
    for gpu in node.gpus:
        state = gpu.state.state
        states[state] = states.get(state, 0) + 1
        kind = _kind(gpu.reading.name, gpu.reading.memory_total_bytes)
        kinds.setdefault(kind, []).append(gpu.reading.index if state == "free" else None)
    cards = [Cards(node.name, *kind, len(free), tuple(n for n in free if n is not None)) for kind, free in kinds.items()]
    return Tally(states, tuple(cards))


@lru_cache(maxsize=1024)
def _kind(name: str | None, total_bytes: float | None) -> tuple[str, str]:
    """(``RTX 3090``, ``RTX 3090 24GB``)."""
    model, size = words.model_name(name), words.gb_total(total_bytes)
    return model, (f"{model} {size}GB" if size and not model.upper().endswith("GB") else model) if size else ""
