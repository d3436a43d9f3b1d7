"""Snapshots between their arrival and the store: a bounded queue in memory. When the disk takes nothing, the oldest go, counted."""

from __future__ import annotations

import threading
from collections import deque
from typing import AbstractSet, Deque, List, NamedTuple, Optional, Sequence

from gpuwatch.wire.flat import Shape

MOST_BYTES = 128 * 1024**2
"""Two minutes of a thousand machines of 8 GPUs at 5 s."""
_TEXT_BYTES = 10
"""Of a snapshot: a list's place for each text, and what few of them are objects that no other snapshot has."""


class Mark(NamedTuple):
    """Which of an enrolled node's snapshots it is."""

    id: str
    sequence: int


class Arrival(NamedTuple):
    """One snapshot as it came. ``texts`` are its numbers as they came, checked; ``shape_bytes`` came with them if the shape was new."""

    machine_id: str
    taken_at: float
    received_at: float
    shape: Shape
    texts: Sequence[str]
    varying: Optional[AbstractSet[int]] = None
    """See ``snapshots.JournalEntry``."""
    shape_bytes: int = 0
    sent: bool = False
    """The machine sent it to this hub, which stores it: no lease is asked for."""
    mark: Optional[Mark] = None
    """Of one that was pushed. Without ``texts`` it is stored already, and only the mark is to be noted."""

    @property
    def size_bytes(self) -> int:
        """What it counts in the bound."""
        return _TEXT_BYTES * len(self.texts) + self.shape_bytes


class ArrivalQueue:
    """First in, first out; thread-safe. What was pushed never goes: its node was told that the hub has it, and keeps the next ones while this is filling."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._waiting: Deque[Arrival] = deque()
        self._pushed: Deque[Arrival] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.dropped = 0
        """Snapshots lost because the store took none for too long."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._pushed)

    @property
    def is_filling(self) -> bool:
        """It is so full that whoever can wait should."""
        return self._bytes > self._most_bytes // 4

    def put(self, arrival: Arrival) -> None:
        """One more; the oldest go if the queue is full."""
        with self._lock:
            (self._waiting if arrival.mark is None else self._pushed).append(arrival)
            self._bytes += arrival.size_bytes
            self._shrink()

    def take(self, at_most: int) -> List[Arrival]:
        """The oldest ones, taken out."""
        with self._lock:
            taken = [self._pushed.popleft() for _ in range(min(at_most, len(self._pushed)))]
            taken += [self._waiting.popleft() for _ in range(min(at_most - len(taken), len(self._waiting)))]
            self._bytes -= sum(one.size_bytes for one in taken)
            return taken

    def put_back(self, arrivals: Sequence[Arrival]) -> None:
        """Those that could not be stored, back to the front."""
        with self._lock:
            self._pushed.extendleft(one for one in reversed(arrivals) if one.mark is not None)
            self._waiting.extendleft(one for one in reversed(arrivals) if one.mark is None)
            self._bytes += sum(one.size_bytes for one in arrivals)
            self._shrink()

    def clear(self) -> None:
        """Nothing of it is to be stored."""
        with self._lock:
            self._waiting.clear()
            self._pushed.clear()
            self._bytes = 0

    def _shrink(self) -> None:
        while self._bytes > self._most_bytes and len(self._waiting) > 1:
            self._bytes -= self._waiting.popleft().size_bytes
            self.dropped += 1
