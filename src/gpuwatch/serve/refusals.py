"""How often somebody was refused, by reason: for metrics and pages, and for the log, once and then with a count. Never holds what was sent."""

from __future__ import annotations

import logging
import threading
import time
from typing import Dict, Tuple

log = logging.getLogger(__name__)

TELL_SECONDS = 60.0
"""The log has a line this often at most, however many are refused."""


class Refusals:
    """For all threads of a server. ``reason`` comes from a few words of ours, never from a stranger."""

    def __init__(self, reasons: Tuple[str, ...] = ()) -> None:
        """``reasons`` are told as 0 before they first happen."""
        self._lock = threading.Lock()
        self._counts: Dict[str, int] = dict.fromkeys(reasons, 0)
        self._untold: Dict[str, int] = {}
        self._told_at = float("-inf")

    def count(self, reason: str, address: str) -> None:
        """One more; ``address`` of the client, for the log."""
        now = time.monotonic()
        with self._lock:
            self._counts[reason] = self._counts.get(reason, 0) + 1
            self._untold[reason] = self._untold.get(reason, 0) + 1
            if now - self._told_at < TELL_SECONDS:
                return
            told, self._untold, self._told_at = self._untold, {}, now
        log.warning("refused: %s; the last one from %s", ", ".join(f"{name} {number}x" for name, number in told.items()), address)

    def counts(self) -> Dict[str, int]:
        """Refused since the start, by reason."""
        with self._lock:
            return dict(self._counts)
