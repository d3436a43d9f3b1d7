"""Counts failed tries by address (or by account, or key): 10 in a minute, and it waits. Never sleeps, never grows without bound."""

from __future__ import annotations

import math
import socket
import threading
from collections import OrderedDict, deque
from typing import Deque

FAILURES = 10
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 4096


class Throttle:
    """For all threads of the server. Times (``now``) are of ``time.monotonic``."""

    def __init__(self, failures: int = FAILURES) -> None:
        """``failures``: so many in a minute, and it waits."""
        self._most = failures
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, Deque[float]] = OrderedDict()

    def wait_seconds(self, address: str, now: float) -> int:
        """0 if this address may try; else in how many seconds it may again."""
        with self._lock:
            times = self._failures.get(_network(address))
            if times is None or len(times) < self._most:
                return 0
            left = times[0] + WINDOW_SECONDS - now
            return math.ceil(left) if left > 0 else 0

    def failed(self, address: str, now: float) -> None:
        """A wrong password came from this address."""
        network = _network(address)
        with self._lock:
            times = self._failures.setdefault(network, deque(maxlen=self._most))
            times.append(now)
            self._failures.move_to_end(network)
            if len(self._failures) > MOST_ADDRESSES:
                self._failures.popitem(last=False)


def _network(address: str) -> str:
    """An IPv6 client has 2^64 addresses, so all of its network count as one."""
    try:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()
    except (OSError, ValueError):
        return address
