"""How much one client may ask for in a span of time. Bounded, whoever comes."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Deque

MOST_CLIENTS = 4096


class Pace:
    """At most ``most`` in ``seconds`` for each key. Thread-safe."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._times: OrderedDict[str, Deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def allows(self, key: str, now: float) -> bool:
        """Count one, if it is not too much; ``now`` may go back."""
        with self._lock:
            times = self._times.setdefault(key, deque(maxlen=self._most))
            self._times.move_to_end(key)
            if len(self._times) > MOST_CLIENTS:
                self._times.popitem(last=False)
            if len(times) == self._most and 0 <= now - times[0] < self._seconds:
                return False
            times.append(now)
            return True
