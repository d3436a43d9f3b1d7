"""Texts whose holes are filled from the numbers of a look: how, worked out once for all hosts that are built alike. Pure; knows no format.

What one function makes of numbers that did not change is kept: of a thousand hosts that are looked at again and again, much stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Callable, NamedTuple, Optional, TypeVar

T = TypeVar("T")
Getter = Callable[[Sequence[Any]], Sequence[Any]]
MOST_KEPT = 4
"""Numbers of a hole, of those whose texts are kept."""
MOST_VAIN = 2
"""A group whose numbers were others so many times in a row is not kept any longer."""

OWN, MORE, ALL = range(3)


class Pool:
    """All numbers of a look by place: a node's own, then ``more``, of which the first stands for what is not reported."""

    __slots__ = ("more", "values")

    def __init__(self, values: Sequence[Any], more: Sequence[Any]) -> None:
        self.values, self.more = values, more

    def __call__(self, places: Sequence[Optional[int]]) -> Sequence[Any]:
        """The numbers at these places; None for None."""
        return column(tuple(places), len(self.values)).of(self)


class Column(NamedTuple):
    """What is at some places of a pool. Mostly all of them are of one kind: then the others need not be touched."""

    kind: int
    get: Getter

    def of(self, pool: Pool) -> Sequence[Any]:
        """What is there."""
        return self.get(pool.values if self.kind == OWN else pool.more if self.kind == MORE else [*pool.values, *pool.more])


@lru_cache(maxsize=16384)
def column(places: tuple[Optional[int], ...], count: int) -> Column:
    """What is at these places of a pool with ``count`` numbers of a node. One object for all hosts that have it alike."""
    found = [count if place is None else place for place in places]
    if not found or max(found) < count:
        return Column(OWN, getter(found))
    return Column(MORE, getter([place - count for place in found])) if min(found) >= count else Column(ALL, getter(found))


def getter(places: Sequence[int]) -> Getter:
    """What is at these places of a sequence, always as a sequence."""
    if len(places) == 1:
        return itemgetter(slice(places[0], places[0] + 1))
    return itemgetter(*map(alike, places)) if places else lambda pool: ()


@lru_cache(maxsize=16384)
def alike(part: T) -> T:
    """One object for what many hosts have alike: a thousand texts are filled faster where they fit into the processor's memory."""
    return part


class Group(NamedTuple):
    """The holes that one function fills: it is called for all of them in one go, which costs half as much."""

    columns: tuple[Column, ...]
    is_kept: bool
    """What it makes is kept while the numbers are the same."""

    @classmethod
    def of(cls, columns: Iterable[tuple[Optional[int], ...]], count: int, make: Callable[..., Any], numbers: int) -> Group:
        """The group with these columns, each with the places that ``make`` takes one number of; ``numbers``: of each hole.

        What the time or the node's last answer is part of is new at each look, and so is a hole of many numbers; some functions keep by themselves.
        """
        found = tuple([column(one, count) for one in columns])
        return cls(found, numbers <= MOST_KEPT and all(one.kind == OWN for one in found) and not hasattr(make, "cache_info"))


class Layout(NamedTuple):
    """The same for all hosts that have as many GPUs and processes, whatever they are called."""

    groups: tuple[Group, ...]
    order: Getter
    """From what the groups made, one behind the other, to the order of the holes."""
    takes_pool: bool
    """Behind what the groups made come the pool's own texts, which go in as they are."""


_NOTHING: tuple[Any, list[str], int] = (None, [], -1)


class Form:
    """Pieces of text, and holes between them."""

    __slots__ = ("_kept", "_layout", "_pieces", "_writes")

    def __init__(self, pieces: list[str], layout: Layout, writes: Sequence[Callable[..., Iterable[str]]]) -> None:
        """``writes``: for each group what makes texts of its columns."""
        self._pieces, self._layout, self._writes = pieces, layout, writes
        self._kept: list[Any] = [_NOTHING if group.is_kept else None for group in layout.groups]
        """For each group the numbers, what was made of them, and how often in vain. Replaced as a whole, so that threads may meet."""

    def fill(self, pool: Pool) -> str:
        """The text of one look."""
        done: list[str] = []
        values, more = pool.values, pool.more
        for place, (columns, _) in enumerate(self._layout.groups):
            numbers = [get(values if kind == OWN else more if kind == MORE else [*values, *more]) for kind, get in columns]
            kept = self._kept[place]
            if kept is None:
                done += self._writes[place](*numbers)
            elif kept[0] == numbers:
                done += kept[1]
                if kept[2]:
                    self._kept[place] = *kept[:2], 0
            else:
                texts = list(self._writes[place](*numbers))
                self._kept[place] = (numbers, texts, kept[2] + 1) if kept[2] < MOST_VAIN else None
                done += texts
        if self._layout.takes_pool:
            done += values
            done += more
        row = [""] * (2 * len(self._pieces) - 1)
        row[::2] = self._pieces
        row[1::2] = self._layout.order(done)
        return "".join(row)
