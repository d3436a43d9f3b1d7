"""Makes a slow body shortly before it is asked for again, where a reader comes in a rhythm: Prometheus does. Knows no bottle and no hub.

Each asking foresees at most one more, so what nobody asks for any longer is made once in vain and no more. Bodies that are made quickly are left
to their readers.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, Dict, Hashable, List, NamedTuple, Optional, Tuple

from gpuwatch.loops import Loop

SLOW_SECONDS = 0.1
"""What is made faster is made when it is asked for."""
LEAST_RHYTHM_SECONDS, MOST_RHYTHM_SECONDS = 3.0, 120.0
USUAL_RHYTHM_SECONDS = 15.0
"""Of a reader that came once: Prometheus' most usual one."""
SPARE_SECONDS = 0.5
"""Ready so long before, and half as long again as the making takes."""
BEAT_SECONDS = 0.25
MOST_READERS = 32


class _Due(NamedTuple):
    at: float
    key: Hashable
    make: Callable[[], object]


class Ahead:
    """Safe on any thread. Its own thread begins with the first rhythm."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at: Dict[Tuple[Hashable, str], float] = {}
        self._due: Dict[Tuple[Hashable, str], _Due] = {}
        self._took: Dict[Hashable, float] = {}
        self._lock = threading.Lock()
        self._loop: Optional[Loop] = None

    def took(self, key: Hashable, seconds: float) -> None:
        """How long the body under ``key`` took to make."""
        with self._lock:
            if len(self._took) < MOST_READERS or key in self._took:
                self._took[key] = seconds

    def asked(self, key: Hashable, reader: str, make: Callable[[], object]) -> None:
        """``reader`` (an address) asked for ``key``; ``make`` makes it and keeps it ready. Quick."""
        now, who = self._clock(), (key, reader)
        with self._lock:
            before = self._asked_at.pop(who, None)
            self._asked_at[who] = now
            while len(self._asked_at) > MOST_READERS:
                oldest = next(iter(self._asked_at))
                del self._asked_at[oldest]
                self._due.pop(oldest, None)
            took, rhythm = self._took.get(key, 0.0), USUAL_RHYTHM_SECONDS if before is None else now - before
            if rhythm < LEAST_RHYTHM_SECONDS:  # a second look: what was foreseen stays so
                return
            if took < SLOW_SECONDS or rhythm > MOST_RHYTHM_SECONDS:
                self._due.pop(who, None)
                return
            self._due[who] = _Due(now + rhythm - 1.5 * took - SPARE_SECONDS, key, make)
            if self._loop is None:
                self._loop = Loop("ahead", lambda _: self.run_once(self._clock()), BEAT_SECONDS).start()

    def run_once(self, now: float) -> None:
        """Make what is due at ``now`` (of the clock), each key once."""
        with self._lock:
            due = [who for who, one in self._due.items() if one.at <= now]
            taken: List[_Due] = [self._due.pop(who) for who in due]
        for one in {one.key: one for one in taken}.values():
            one.make()
