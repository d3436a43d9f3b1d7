"""Snapshots between their arrival and the store: a bounded queue in memory. When the disk takes nothing, the oldest go, counted."""

from __future__ import annotations

import threading
from collections import deque
from typing import Deque, List, NamedTuple, Sequence

from gpuwatch.wire.flat import Shape

MOST_BYTES = 64 * 1024**2


class Arrival(NamedTuple):
    """One snapshot as it came. ``values`` are the bytes that came, checked; ``shape_bytes`` came with them if the shape was new."""

    machine_id: str
    taken_at: float
    received_at: float
    shape: Shape
    values: bytes
    shape_bytes: int = 0
    sent: bool = False
    """The machine sent it to this hub, which stores it: no lease is asked for."""

    @property
    def size_bytes(self) -> int:
        """What it counts in the bound."""
        return len(self.values) + self.shape_bytes


class ArrivalQueue:
    """First in, first out; thread-safe."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._waiting: Deque[Arrival] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.dropped = 0
        """Snapshots lost because the store took none for too long."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, arrival: Arrival) -> None:
        """One more; the oldest go if the queue is full."""
        with self._lock:
            self._waiting.append(arrival)
            self._bytes += arrival.size_bytes
            self._shrink()

    def take(self, at_most: int) -> List[Arrival]:
        """The oldest ones, taken out."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(at_most, len(self._waiting)))]
            self._bytes -= sum(one.size_bytes for one in taken)
            return taken

    def put_back(self, arrivals: Sequence[Arrival]) -> None:
        """Those that could not be stored, back to the front."""
        with self._lock:
            self._waiting.extendleft(reversed(arrivals))
            self._bytes += sum(one.size_bytes for one in arrivals)
            self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self._most_bytes and len(self._waiting) > 1:
            self._bytes -= self._waiting.popleft().size_bytes
            self.dropped += 1
