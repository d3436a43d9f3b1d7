"""Times of logs, which are local and name no zone, to epoch seconds. Pure but for what it remembers of each GPU's last time.

Where clocks go back, an hour is written twice. Logs run forward: a time that lies before the last one of the same GPU is of the second.
"""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from functools import lru_cache
from typing import Dict, Tuple

from gpuwatch.wire.csv_in.rows import Unreadable
from gpuwatch.wire.csv_in.text import shown

EARLIEST_AT = 946684800.0
"""1 January 2000: what is before comes from a machine whose clock was not set."""
LATEST_AT = 4102444800.0
"""1 January 2100."""
_MOST_KEYS = 8192


class Clock:
    """The local time of one file, in ``zone``."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._last: Dict[str, float] = {}
        self._minute = lru_cache(maxsize=4096)(self._minute_at)

    def at(self, text: str, key: str = "") -> float:
        """Epoch seconds of ``2026/11/20 03:00:00.123``, ``2025-04-29 14:18:23``, also with ``T``, ``Z`` or ``+01:00``.

        ``key``: whose time it is, for the hour that is there twice. Raises Unreadable.
        """
        try:
            first, second = self._minute(text[:16])
            seconds, offset = _seconds(text[16:])
        except (ValueError, OverflowError, OSError):
            raise Unreadable(f"{shown(text)} is not a time such as 2026/11/20 03:00:00.123") from None
        if offset is not None:
            return _checked(_utc(text[:16]) + seconds - offset, text)
        at = first + seconds
        if second > first and at < self._last.get(key, 0.0):
            at = second + seconds
        if key in self._last or len(self._last) < _MOST_KEYS:
            self._last[key] = at
        return _checked(at, text)

    def _minute_at(self, text: str) -> Tuple[float, float]:
        """Epoch seconds of a minute, and of the second one of that name (the same where there is but one)."""
        first = _minute_of(text).replace(tzinfo=self.zone)
        return first.timestamp(), first.replace(fold=1).timestamp()


def epoch(value: float) -> float:
    """Epoch seconds that are written as such. Raises Unreadable."""
    return _checked(value, f"{value:.20g}")


def _checked(at: float, text: str) -> float:
    if not EARLIEST_AT <= at < LATEST_AT:
        raise Unreadable(f"{shown(text)} is not between the years 2000 and 2100: the clock was not set")
    return at


def _minute_of(text: str) -> datetime:
    if len(text) != 16 or not text.isascii() or text[4] not in "/-" or text[7] != text[4] or text[10] not in " T" or text[13] != ":":
        raise ValueError(text)
    parts = text[:4], text[5:7], text[8:10], text[11:13], text[14:16]
    if not all(part.isdigit() for part in parts):
        raise ValueError(text)
    year, month, day, hour, minute = map(int, parts)
    return datetime(year, month, day, hour, minute)


@lru_cache(maxsize=4096)
def _utc(text: str) -> float:
    return _minute_of(text).replace(tzinfo=timezone.utc).timestamp()


@lru_cache(maxsize=16384)
def _seconds(text: str) -> Tuple[float, float | None]:
    """(seconds, offset of the zone or None) of what follows the minute: nothing, ``:23``, ``:23.456``, ``:23+01:00``."""
    if len(text) > 24 or not text.isascii():
        raise ValueError(text)
    offset = None
    if text[-1:] in ("Z", "z"):
        text, offset = text[:-1], 0.0
    elif len(text) >= 6 and text[-3:-2] == ":" and text[-6] in "+-":
        hours, minutes = text[-5:-3], text[-2:]
        if not (hours.isdigit() and minutes.isdigit()):
            raise ValueError(text)
        text, offset = text[:-6], (int(hours) * 3600 + int(minutes) * 60) * (-1.0 if text[-6] == "-" else 1.0)
    if not text:
        return 0.0, offset
    whole, _, fraction = text[1:].partition(".")
    if text[0] != ":" or len(whole) != 2 or not (whole + fraction).isdigit() or int(whole) > 60:
        raise ValueError(text)
    return float(text[1:]), offset
