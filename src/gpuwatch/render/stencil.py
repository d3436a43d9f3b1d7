"""Texts with holes: what is made of a host's facts is made once, what its numbers change is filled in at each poll. Pure.

A renderer gives a host as pieces: texts made of facts, and ``Hole``s for all that depends on a number, on the time or on recent
utilization. It must not look at a number outside of a hole: while facts stay the same it gets a node that has each number's *place*
there, and what it makes of that is kept. A node that nobody took apart (``parts`` None), or that is not up, is written out at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, Callable, NamedTuple, TypeVar, Union

from gpuwatch.model.cluster import GpuView, NodeState
from gpuwatch.model.snapshot import Number
from gpuwatch.render.filling import Form, Group, Layout, Pool, alike, getter
from gpuwatch.render.select import Shown
from gpuwatch.render.text_words import Cache, cached

T = TypeVar("T")
Numbers = Callable[[Sequence[Any]], Sequence[Any]]
"""The numbers that stand at these places."""


class Hole(NamedTuple):
    """A part of a text that numbers change: ``make(*facts, *numbers)``."""

    make: Callable[..., str]
    numbers: tuple[Any, ...]
    """Numbers, or places of numbers. The time and recent utilization count as numbers."""
    facts: tuple[Any, ...] = ()


Piece = Union[str, Hole]
Draw = Callable[[NodeState, tuple[GpuView, ...], Any], Iterable[Piece]]
"""Draws these GPUs of a node at a time (epoch seconds, or its place)."""


def written(pieces: Iterable[Piece]) -> str:
    """The text of pieces that hold numbers."""
    return "".join([piece if isinstance(piece, str) else piece.make(*piece.facts, *piece.numbers) for piece in pieces])


def host_text(row: Shown, now: float, cache: Cache | None, key: tuple[object, ...], draw: Draw) -> str:
    """A host as text. Kept under ``key`` and its name: the text while its version is the same, what is made of facts while they are."""
    node, gpus = row
    if gpus is not None:
        return written(draw(node, gpus, now))
    return cached(cache, node, key, lambda: drawn(node, now, cache, key, draw))


def drawn(node: NodeState, now: float, cache: Cache | None, key: tuple[object, ...], draw: Draw, recent: bool = False) -> str:
    """All GPUs of a node as text. ``recent``: their recent utilization is in it."""
    if cache is None or not _is_apart(node):
        return written(draw(node, node.gpus, now))
    stencil, pool = seen(node, now, cache, key, lambda node, now: Stencil(draw(node, node.gpus, now), now - TIME), recent)
    assert isinstance(pool, Pool)
    return stencil.fill(pool)


def seen(
    node: NodeState, now: float, cache: Cache | None, key: tuple[object, ...], make: Callable[[NodeState, Any], T], recent: bool = False
) -> tuple[T, Numbers]:
    """What ``make`` makes of the facts of a node, kept under ``key`` while they are the same, and the way from places to numbers.

    ``make`` gets the node and the time with places in place of numbers; or, where these are not apart, with the numbers themselves.
    """
    parts = node.parts
    if cache is None or parts is None or node.status != "up":
        return make(node, now), _themselves
    values = parts.values
    facts = (parts.key, node.target, node.error, node.states)
    made = cache.get(("facts", *key, node.name), facts, lambda: make(_with_places(node), len(values) + TIME))
    return made, Pool(values, (None, node.received_at, now, *(node.recent_utilization if recent else ())))


def kept(
    node: NodeState, cache: Cache | None, key: tuple[object, ...], asks: Callable[[NodeState], Sequence[Number]], make: Callable[[NodeState], T]
) -> T:
    """What ``make`` makes of a node, kept under ``key`` as long as no fact changes, and none of the numbers that it ``asks`` for."""
    if cache is None or not _is_apart(node):
        return make(node) if cache is None else cache.get((*key, node.name), node.version, lambda: make(node))

    def look() -> T:
        asked, numbers = seen(node, 0.0, cache, key, lambda node, _: _Asked(tuple(asks(node))))
        found, made = numbers(asked.places), asked.made
        if made is None or made[0] != found:
            made = asked.made = found, make(node)
        return made[1]  # type: ignore[no-any-return]

    return cache.get((*key, node.name), node.version, look)


class _Asked:
    """Where numbers stand that were asked for, and what was made when they were looked at last."""

    def __init__(self, places: Sequence[Any]) -> None:
        self.places = places
        self.made: Any = None
        self.size = 500 + 8 * len(places)


def _is_apart(node: NodeState) -> bool:
    return node.status == "up" and node.parts is not None


def _themselves(numbers: Sequence[Any]) -> Sequence[Any]:
    return numbers


RECEIVED_AT, TIME, RECENT = 1, 2, 3
"""Places behind a node's own numbers; the first of them is nothing's."""


def _with_places(node: NodeState) -> NodeState:
    """The node with each number's place instead of the number: the snapshot's, then ``received_at``, the time, recent utilizations."""
    assert node.parts is not None
    snapshot, count = node.parts.places(), len(node.parts.values)
    recent: Any = range(count + RECENT, count + RECENT + len(snapshot.gpus))
    views = [GpuView(node.name, *parts) for parts in zip(snapshot.gpus, *zip(*node.states), recent)] if snapshot.gpus else []
    facts = node.target, node.machine_id, node.status, None, node.error
    return NodeState(*facts, snapshot, count + RECEIVED_AT, gpus=tuple(views))


class Stencil(Form):
    """Pieces, ready to be filled in again and again."""

    __slots__ = ("size",)

    def __init__(self, pieces: Iterable[Piece], count: int) -> None:
        """``count``: of the numbers of its node."""
        texts: list[str] = [""]
        holes: list[Hole] = []
        for piece in pieces:
            if isinstance(piece, str):
                texts[-1] += piece
            else:
                holes.append(piece)
                texts.append("")
        layout, groups = _layout(tuple([(hole.make, len(hole.facts), hole.numbers) for hole in holes]), count)
        writes = [partial(map, make, *zip(*[holes[place].facts for place in places])) for make, places in groups]
        super().__init__(list(map(alike, texts)), layout, writes)
        self.size = sum(map(len, texts)) + 60 * len(texts)
        """Bytes that it takes in memory, about."""


Kinds = tuple[tuple[Callable[..., str], int, tuple[Any, ...]], ...]
"""Of each hole its function, how many facts it has, and its numbers."""


@lru_cache(maxsize=2048)
def _layout(kinds: Kinds, count: int) -> tuple[Layout, tuple[tuple[Callable[..., str], tuple[int, ...]], ...]]:
    """How holes are filled; and for each group its function and which of the holes are its."""
    found: dict[tuple[Any, int, int], list[int]] = {}
    for place, (make, facts, numbers) in enumerate(kinds):
        found.setdefault((make, facts, len(numbers)), []).append(place)
    groups = tuple([Group.of(zip(*[kinds[place][2] for place in places]), count, *kind[::2]) for kind, places in found.items()])
    behind = {hole: place for place, hole in enumerate([hole for places in found.values() for hole in places])}
    layout = Layout(groups, getter([behind[hole] for hole in range(len(kinds))]), False)
    return layout, tuple([(kind[0], tuple(places)) for kind, places in found.items()])
