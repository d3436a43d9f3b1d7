"""Asks every target for its readings, all on one event loop: no thread per host, one keep-alive connection each.

Starts are spread over the interval and stay on their grid; a bad target costs itself only. Never logs or shows the password.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import MappingProxyType
from typing import Awaitable, Callable, Deque, Dict, Mapping, Optional, Protocol, Sequence, Tuple

from gpuwatch.hub.link import Link
from gpuwatch.hub.resolver import Resolver
from gpuwatch.hub.slots import Slot
from gpuwatch.hub.speakers import SPEAKERS, ForeignLink
from gpuwatch.model.cluster import Target
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.query.latest import Report

BUFFER_BYTES = 128 * 1024
FIRST_SPREAD_SECONDS = 0.01
"""The first polls after a start come so far apart, or closer when the interval asks for it: few targets answer at once."""
SLOT_SECONDS = 0.1
"""Polls begin on multiples of it: those of one slot find each other's code and data in the processor's caches, which halves their cost."""
GOLDEN = 0.6180339887498949
"""Multiples of it spread evenly over an interval, however many targets come and go."""


class Sink(Protocol):
    """Who takes the answers (``hub.ingest``). Called inside the event loop: quick, never blocking."""

    def shape_id(self, machine_id: str) -> str:
        """The shape the hub has of this machine; empty for none."""

    def accept(self, target: Target, machine_id: str, body: bytes, asked_at: float, answered_at: float) -> None:
        """A 200 of a node. Raises WireError where it holds no readings."""

    def accept_snapshot(self, target: Target, machine_id: str, snapshot: Snapshot, answered_at: float, *, report: Report = ...) -> None:
        """A 200 of a program that is not gpuwatch, as its speaker read it. Raises WireError where it is refused."""

    def fail(self, target: Target, error: str, now: float, answers: bool) -> None:
        """A poll failed, in words."""


class AnyLink(Protocol):
    """One target as it is read: ``hub.link.Link`` asks over HTTP, others as they do. All calls inside the event loop."""

    target: Target
    machine_id: str

    def start(self, first: float, grid: float) -> None:
        """Begin at ``first``, go on at ``grid`` plus whole intervals (times of the event loop)."""

    def close(self) -> None:
        """End; nothing is reported any more."""


class PollerStats:
    """Counters of the polls, and how late the last ones began. Read from any thread."""

    def __init__(self, keep: int = 8192) -> None:
        self.started = 0
        self.good = 0
        self.failed = 0
        self.skipped = 0
        """The poll before was still under way: the node is slow."""
        self.missed = 0
        """The hub itself came a whole interval or more too late."""
        self._lateness: Deque[float] = deque(maxlen=keep)

    def began(self, late_seconds: float, interval_seconds: float) -> None:
        """One poll began ``late_seconds`` after it was due."""
        self.started += 1
        self._lateness.append(late_seconds)
        if late_seconds >= interval_seconds:
            self.missed += int(late_seconds // interval_seconds)

    def lateness_seconds(self, quantile: float) -> Optional[float]:
        """A quantile (0 to 1) of the lateness of the last polls; None before the first."""
        values = sorted(self._lateness.copy())
        return values[min(int(len(values) * quantile), len(values) - 1)] if values else None

    def summary(self) -> Dict[str, Optional[float]]:
        """All counters by name."""
        return {
            "started": self.started,
            "good": self.good,
            "failed": self.failed,
            "skipped": self.skipped,
            "missed": self.missed,
            "lateness_p50_seconds": self.lateness_seconds(0.5),
            "lateness_p99_seconds": self.lateness_seconds(0.99),
        }


NewLink = Callable[["Poller", Target, str, float], AnyLink]
"""(poller, target, machine id, interval in seconds) -> what reads that target."""
HTTP_ONLY: Mapping[str, NewLink] = MappingProxyType({"http": Link, "https": Link, **dict.fromkeys(SPEAKERS, ForeignLink)})


class Poller:
    """Polls the targets it was last given. ``run`` is the main coroutine of an AsyncLoop; all else may be called from any thread."""

    loop: asyncio.AbstractEventLoop
    resolver: Resolver

    def __init__(
        self,
        sink: Sink,
        password: Callable[[Target], str],
        *,
        interval_seconds: float = 5.0,
        deadline_seconds: float = 4.0,
        max_bytes: int = 4 * 1024**2,
        new_resolver: Callable[[], Resolver] = Resolver,
        links: Mapping[str, NewLink] = HTTP_ONLY,
        at_end: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """``password(target)`` is asked at each poll and must be quick; it may raise GpuwatchError in words.

        ``links``: what reads a target, by the scheme of its address; ``at_end``: awaited once all of them are closed.
        """
        self.sink = sink
        self.password = password
        self.interval_seconds = interval_seconds
        self.deadline_seconds = deadline_seconds
        self.max_bytes = max_bytes
        self.stats = PollerStats()
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self._new_resolver = new_resolver
        self._new_link = {**HTTP_ONLY, **links}
        self._at_end = tuple(at_end)
        self._wanted: Tuple[Tuple[Target, str], ...] = ()
        self._links: Dict[str, AnyLink] = {}
        self._slots: Dict[Tuple[float, float], Slot] = {}
        self._made = 0
        self._running = False

    async def run(self) -> None:
        """Poll until cancelled."""
        self.loop = asyncio.get_running_loop()
        self.resolver = self._new_resolver()
        self._running = True
        try:
            self._apply()
            await asyncio.Event().wait()
        finally:
            self._running = False
            for link in self._links.values():
                link.close()
            self._links.clear()
            self._slots.clear()
            for end in self._at_end:
                await end()

    def set_targets(self, targets: Sequence[Tuple[Target, str]]) -> None:
        """Targets and their machine ids. Those that stay as they are keep their connection and rhythm."""
        self._wanted = tuple(targets)
        if self._running:
            try:
                self.loop.call_soon_threadsafe(self._apply)
            except RuntimeError:  # stopped meanwhile
                pass

    def _apply(self) -> None:
        if not self._running:
            return
        wanted = {target.name: (target, machine_id) for target, machine_id in self._wanted}
        for name, link in list(self._links.items()):
            if wanted.get(name) != (link.target, link.machine_id):
                link.close()
                del self._links[name]
        new = [name for name in wanted if name not in self._links]
        for place, name in enumerate(new):
            self._add(*wanted[name], place, len(new))

    def _add(self, target: Target, machine_id: str, place: int, count: int) -> None:
        interval = target.interval_seconds or self.interval_seconds
        link = self._new_link[target.scheme](self, target, machine_id, interval)
        self._made += 1
        now = self.loop.time()
        first = now + place / count * min(interval, FIRST_SPREAD_SECONDS * count)
        link.start(first, _slot(now + (self._made * GOLDEN) % 1.0 * interval, interval))
        self._links[target.name] = link

    def slot(self, grid: float, interval_seconds: float) -> Slot:
        """The slot of polls that begin at ``grid`` plus whole intervals."""
        found = self._slots.get((grid, interval_seconds))
        if found is None:
            self._slots = {key: slot for key, slot in self._slots.items() if not slot.is_empty}
            found = self._slots[grid, interval_seconds] = Slot(self.loop, grid, interval_seconds, self.deadline_seconds)
        return found


def _slot(at: float, interval: float) -> float:
    """The slot that ``at`` falls into; finer ones for short intervals."""
    slot = min(SLOT_SECONDS, interval / 10)
    return at // slot * slot
