"""Texts with gaps for numbers: a writer runs once per shape of a node, and each poll fills its gaps. Pure; knows no format.

The writer takes a ``NodeState``. It leaves a gap wherever a number or a GPU's state belongs, naming the function that writes it. Given real
readings, the gaps are filled at once (``Gaps.filled``): that is the slow way. Given the node in places (``in_places``), the text becomes a
``Template``, which is filled from a poll's flat values without building its readings. One writer, both ways, the same text.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, starmap
from secrets import token_hex
from typing import Any, Callable, Optional

from gpuwatch.model.cluster import GpuState, GpuView, NodeState
from gpuwatch.render.filling import Form, Group, Layout, Pool, alike, getter

MARK = "\0"
"""Stands for a gap. No format of ours has this letter: JSON writes it as an escape, everything else leaves it out."""

Write = Callable[..., Any]
Rows = Iterable[tuple[Any, ...]]
WriteAll = Callable[[Rows], Iterable[str]]
"""Does for many gaps, each with the numbers of one, what a ``Write`` does for one."""
Put = Callable[..., Any]
"""Called with a function and its numbers: gives what the function makes of them, or a ``Gap``."""


def at_once(function: Write, *numbers: Any) -> Any:
    """The ``Put`` of real readings."""
    return function(*numbers)


class Gap:
    """A value of a JSON document that is not known yet; as a ``Put``, of readings in places."""

    __slots__ = ("function", "numbers")

    def __init__(self, function: Write, numbers: tuple[Any, ...]) -> None:
        self.function, self.numbers = function, numbers

    @classmethod
    def of(cls, function: Write, *numbers: Any) -> Gap:
        """A gap for what ``function`` will make of the numbers at these places."""
        return cls(function, numbers)


UNTOLD = token_hex(12)
"""Stands for a gap while a document is written: a text that no stranger can guess."""
MEMBERS = f"{UNTOLD}:"
"""The key of a gap that is filled with members of its object."""


def with_marks(document: str) -> str:
    """A JSON document with ``UNTOLD`` in it, written compactly, as a text with marks."""
    return document.replace(f'"{MEMBERS}":"{UNTOLD}"', MARK).replace(f'"{UNTOLD}"', MARK)


class Gaps:
    """The gaps of one text, in its order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Write, tuple[Any, ...]]] = []

    def leave(self, function: Write, *numbers: Any) -> str:
        """The mark of a gap that ``function`` fills, from ``numbers`` or from what is at these places. None = not reported."""
        self.asked.append((function, numbers))
        return MARK

    def leave_each(self, function: Write, numbers: Iterable[Any]) -> None:
        """A gap for each number; the caller's document says ``UNTOLD`` for it."""
        self.asked += [(function, (number,)) for number in numbers]

    def filled(self, marked: str) -> str:
        """The text of real numbers."""
        row: list[str] = [""] * (2 * len(self.asked) + 1)
        row[::2] = marked.split(MARK)
        row[1::2] = [function(*numbers) for function, numbers in self.asked]
        return "".join(row)

    def untold(self, function: Write, *numbers: Any) -> str:
        """As ``leave``, for a document: what stands in it for the gap. Gaps must be left in the document's order."""
        self.asked.append((function, numbers))
        return UNTOLD

    def encode(self, encoder: json.JSONEncoder, value: Any) -> str:
        """What ``encoder`` makes of a document, compact separators or usual ones, with a mark in place of each ``Gap``. The encoder must write ASCII."""
        separators = encoder.item_separator, encoder.key_separator
        return with_marks(json.JSONEncoder(separators=separators, check_circular=False, default=self._left).encode(value))

    def _left(self, gap: Gap) -> str:
        return self.untold(gap.function, *gap.numbers)


class Template(Form):
    """A text whose gaps are filled from a pool of numbers, or of texts that go in as they are."""

    __slots__ = ("_states", "size")

    def __init__(self, marked: str, gaps: Gaps, count: int, instead: Mapping[Write, Optional[WriteAll]]) -> None:
        """``count``: of the numbers of its node; what stands behind them in a pool begins with nothing.

        ``instead``: what writes all the gaps of one of the writer's functions; None = what the pool holds are texts that go in as they are.
        """
        pieces = list(map(alike, marked.split(MARK)))
        super().__init__(pieces, *_layout(tuple(gaps.asked), count, tuple(instead.items())))
        self._states: tuple[object, list[str]] = (None, [])
        self.size = len(marked) + 8 * len(pieces)
        """Bytes that it takes in memory, about: half of the pieces are those of other hosts."""

    def states(self, node: NodeState, write: Callable[[GpuState], str]) -> list[str]:
        """What ``write`` makes of the states of GPUs and slices, for the end of a pool. Kept while they hold: for many polls, mostly."""
        states, texts = self._states
        if states != node.states:
            texts = [write(state) for own, slices in node.states for state in (own, *slices)]
            self._states = node.states, texts
        return texts


Asked = tuple[tuple[Write, tuple[Any, ...]], ...]


@lru_cache(maxsize=512)
def _layout(asked: Asked, count: int, pairs: tuple[tuple[Write, Optional[WriteAll]], ...]) -> tuple[Layout, list[Callable[..., Iterable[str]]]]:
    instead = dict(pairs)
    calls: dict[Write, list[tuple[int, ...]]] = {}
    slots: list[tuple[Optional[Write], int]] = []
    for function, numbers in asked:
        if instead.get(function, function) is None:
            slots.append((None, count if numbers[0] is None else numbers[0]))
        else:
            same = calls.setdefault(function, [])
            slots.append((function, len(same)))
            same.append(numbers)
    starts: dict[Optional[Write], int] = {}
    done = 0
    for function, same in calls.items():
        starts[function] = done
        done += len(same)
    starts[None] = done  # the pool comes behind what is written anew
    groups = tuple([Group.of([tuple(chain.from_iterable(same))], count, function, len(same[0])) for function, same in calls.items()])
    order = getter([starts[function] + place for function, place in slots])
    takes_pool = any(function is None for function, _ in slots)
    return Layout(groups, order, takes_pool), [_by_rows(instead.get(function) or partial(starmap, function), len(same[0])) for function, same in calls.items()]


def _by_rows(write_all: WriteAll, width: int) -> Callable[[Iterable[Any]], Iterable[str]]:
    """What writes rows that stand one behind the other."""
    return lambda numbers: write_all(zip(*[iter(numbers)] * width))


# ---- a node in places. A pool is the node's values, and more: None, received_at, clock_skew_seconds, status_since_at, and where the writer
# shows states, one for each GPU, followed by those of its slices.


def facts_of(node: NodeState) -> Hashable:
    """Everything of a live node but numbers and states: as long as it is the same, so is the template."""
    assert node.parts is not None
    return node.parts.key, node.target, node.status, node.error, node.restored


def in_places(node: NodeState) -> NodeState:
    """A live node with places in a pool in place of its numbers and of its GPUs' states."""
    assert node.parts is not None
    count = len(node.parts.values)
    snapshot, place = node.parts.places(), count + 4
    gpus: list[Any] = []
    for gpu in snapshot.gpus:
        own: Any = place
        slices: Any = tuple(range(place + 1, place + 1 + len(gpu.mig)))
        gpus.append(GpuView(node.name, gpu, own, slices))
        place += 1 + len(slices)
    facts = node.target, node.machine_id, node.status, count + 3, node.error
    return NodeState(*facts, snapshot, received_at=count + 1, clock_skew_seconds=count + 2, restored=node.restored, gpus=tuple(gpus))


def numbers_of(node: NodeState) -> Pool:
    """The pool of a live node's numbers."""
    assert node.parts is not None
    return Pool(node.parts.values, (None, node.received_at, node.clock_skew_seconds, node.status_since_at))


def texts_of(node: NodeState) -> Optional[Sequence[str]]:
    """The numbers of a node as JSON writes them, by place; None for a node that nobody took apart."""
    texts = node.parts.texts() if node.parts is not None else ()
    if node.parts is None or len(texts) != len(node.parts.values):  # of no numbers at all there is one text, an empty one
        return None
    return texts


def template(marked: str, gaps: Gaps, node: NodeState, instead: Mapping[Write, Optional[WriteAll]]) -> Template:
    """The template for a writer's text of ``in_places(node)``."""
    assert node.parts is not None
    return Template(marked, gaps, len(node.parts.values), instead)
