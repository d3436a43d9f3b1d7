"""Texts with holes: what is made of a host's facts is made once, what its numbers change is filled in at each poll. Pure.

A renderer gives a host as pieces: texts made of facts, and ``Hole``s for all that depends on a number, on the time or on recent
utilization. It must not look at a number outside of a hole: while facts stay the same it gets a node that has each number's *place*
there, and what it makes of that is kept. A node that nobody took apart (``parts`` None), or that is not up, is written out at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Callable, NamedTuple, Optional, TypeVar, Union

from gpuwatch.model.cluster import GpuView, NodeState
from gpuwatch.model.snapshot import Number
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
    stencil, pool = seen(node, now, cache, key, lambda node, now: Stencil(draw(node, node.gpus, now)), recent)
    assert isinstance(pool, list)
    return stencil.fill(pool)


def seen(
    node: NodeState, now: float, cache: Cache | None, key: tuple[object, ...], make: Callable[[NodeState, Any], T], recent: bool = False
) -> tuple[T, Numbers]:
    """What ``make`` makes of the facts of a node, kept under ``key`` while they are the same, and the way from places to numbers.

    ``make`` gets the node and the time with places in place of numbers; or, where these are not apart, with the numbers themselves.
    """
    parts = node.parts
    if cache is None or parts is None or not _is_apart(node):
        return make(node, now), _themselves
    values = parts.values
    facts = (parts.key, node.target, node.status, node.status_since_at, node.error, node.states)
    made = cache.get(("facts", *key, node.name), facts, lambda: make(_with_places(node), len(values) + 1))
    return made, _Pool(values, (node.received_at, now, *(node.recent_utilization if recent else ())))


def kept(
    node: NodeState, cache: Cache | None, key: tuple[object, ...], asks: Callable[[NodeState], Sequence[Number]], make: Callable[[NodeState], T]
) -> T:
    """What ``make`` makes of a node, kept under ``key`` as long as no fact changes, and none of the numbers that it ``asks`` for."""
    if cache is None:
        return make(node)

    def look() -> tuple[object, ...]:
        asked, numbers = seen(node, 0.0, cache, key, lambda node, _: _Asked(asks(node)))
        return asked, *numbers(asked.places)

    version = cache.get(("asked", *key, node.name), node.version, look)
    return cache.get(("kept", *key, node.name), version, lambda: make(node))


class _Pool(list[Any]):
    """All numbers of a look by place; the last one is None, which stands for what is not reported. As a function: the numbers at these places."""

    def __init__(self, values: Sequence[Any], more: Sequence[Any]) -> None:
        super().__init__(values)
        self += more
        self.append(None)

    def __call__(self, places: Sequence[Optional[int]]) -> Sequence[Any]:
        return [None if place is None else self[place] for place in places]


class _Asked:
    """Where numbers stand that were asked for. Equal to itself alone: others were made of other facts."""

    def __init__(self, places: Sequence[Any]) -> None:
        self.places = places
        self.size = 100 + 8 * len(places)


def _is_apart(node: NodeState) -> bool:
    return node.parts is not None and node.status == "up"


def _themselves(numbers: Sequence[Any]) -> Sequence[Any]:
    return numbers


def _with_places(node: NodeState) -> NodeState:
    """The node with each number's place instead of the number: the snapshot's, then ``received_at``, the time, recent utilizations."""
    assert node.parts is not None
    snapshot, received_at = node.parts.places(), len(node.parts.values)
    recent: Any = range(received_at + 2, received_at + 2 + len(snapshot.gpus))
    views = [GpuView(node.name, *parts) for parts in zip(snapshot.gpus, *zip(*node.states), recent)] if snapshot.gpus else []
    return NodeState(
        node.target, node.machine_id, node.status, node.status_since_at, node.error, snapshot, received_at, gpus=tuple(views)
    )


class Stencil:
    """Pieces, ready to be filled in again and again."""

    __slots__ = ("_groups", "_texts", "size")

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._texts: list[str] = [""]
        holes: dict[tuple[Any, int, int], list[tuple[int, Hole]]] = {}
        for piece in pieces:
            if isinstance(piece, str):
                self._texts[-1] += piece
            else:
                kind = piece.make, len(piece.facts), len(piece.numbers)
                holes.setdefault(kind, []).append((len(self._texts), piece))
                self._texts += ("", "")
        self._texts = list(map(_shared, self._texts))
        self._groups = [_Group.of(kind[0], found) for kind, found in holes.items()]
        self.size = sum(map(len, self._texts)) + 60 * len(self._texts)
        """Bytes that it takes in memory, about."""

    def fill(self, pool: Sequence[Any]) -> str:
        """The text with the numbers of a pool (``seen``)."""
        texts = self._texts[:]
        for make, slots, facts, columns in self._groups:
            for slot, text in zip(slots, map(make, *facts, *[column(pool) for column in columns])):
                texts[slot] = text
        return "".join(texts)


class _Group(NamedTuple):
    """The holes that the same function fills: it is called for all of them in one go, which costs half as much."""

    make: Callable[..., str]
    slots: tuple[int, ...]
    facts: tuple[tuple[Any, ...], ...]
    """The first fact of each hole, the second of each ..."""
    columns: tuple[Callable[[Sequence[Any]], Sequence[Any]], ...]
    """As ``facts``: what takes the first number of each hole from a pool, the second ..."""

    @classmethod
    def of(cls, make: Callable[..., str], holes: Sequence[tuple[int, Hole]]) -> _Group:
        """The group of these holes, each with its place among the texts."""
        slots = tuple([slot for slot, _ in holes])
        facts = zip(*[[_shared(fact) if isinstance(fact, str) else fact for fact in hole.facts] for _, hole in holes])
        return cls(make, _shared(slots), tuple(facts), tuple(map(_column, zip(*[hole.numbers for _, hole in holes]))))


@lru_cache(maxsize=16384)
def _shared(part: T) -> T:
    """One object for what many hosts have alike: a thousand stencils are filled in faster where they fit into the processor's memory."""
    return part


@lru_cache(maxsize=16384)
def _column(places: tuple[Optional[int], ...]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What is at these places of a pool; None is its last one. One object for all hosts that have it alike."""
    found = [-1 if place is None else place for place in places]
    return itemgetter(*found) if len(found) > 1 else lambda pool: (pool[found[0]],)
