"""Moments and spans of time as people write them in an address or on a command line. Pure: the clock and the zone are arguments.

A time without a zone is a time of day in ``zone``. Where clocks go back it is the first of the two; where they go forward, a time that was
skipped is as far behind the change as it says. ``-2h`` and ``-1d`` are hours of 60 minutes and days of 24 hours, ``yesterday`` is by the calendar.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Optional

from gpuwatch.model.errors import UsageError

UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
MOST_TEXT = 60
LATEST_AT = 253370764800.0
"""1 January 9999: no later moment can be told as a date in every zone."""

FORMS = "2026-11-20T03:00:00+01:00, 2026-11-20 03:00, 03:00, today 15:00, yesterday 15:00, -2h (s, m, h, d, w), or seconds since 1970"
"""What ``parse_moment`` takes, for help texts."""

_AGO = re.compile(r"-\s?([0-9]{1,9}(?:\.[0-9]{1,6})?)\s?([smhdw])")
_EPOCH = re.compile(r"[0-9]{5,15}(?:\.[0-9]{1,9})?")
_CLOCK = r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
_ZONE = r"\s*(?P<zone>z|utc|gmt|[-+ ][0-9]{2}:?[0-9]{2})"
"""A ``+`` that an address does not encode arrives as a blank."""
_DAY = re.compile(rf"(?P<day>today|yesterday)(?:[ t,]\s*{_CLOCK})?(?:{_ZONE})?")
_DATE = re.compile(rf"(?P<date>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?:(?:t|\s+|_){_CLOCK}(?:{_ZONE})?)?")
_TIME = re.compile(rf"{_CLOCK}(?:{_ZONE})?")
_RANGE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s?([smhdwy])")


def parse_moment(text: str, now: float, zone: tzinfo, *, name: str = "at") -> float:
    """Epoch seconds of what ``text`` says (see ``FORMS``); ``now`` is epoch seconds, ``zone`` counts where the text names none.

    ``name``: the parameter, for the message. Raises UsageError.
    """
    said = text.strip().lower()
    try:
        at = None if len(said) > MOST_TEXT else _moment(said, now, zone)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{name}={_shown(text)!r} is no time: there is no such day, hour or zone.", f"Write it as {FORMS}.") from None
    if at is None:
        raise UsageError(f"{name}={_shown(text)!r} is not understood as a time.", f"Write it as {FORMS}.")
    if not 0 <= at < LATEST_AT:
        hint = "Epoch times are in seconds, not milliseconds." if _EPOCH.fullmatch(said) else f"Write it as {FORMS}."
        raise UsageError(f"{name}={_shown(text)!r} is not between 1970 and 9999.", hint)
    return at


def parse_range(text: str, *, name: str = "range") -> float:
    """Seconds of a span such as ``1h``, ``7d``, ``30d``, ``1y`` (365 days); more than 0. Raises UsageError."""
    match = _RANGE.fullmatch(text.strip().lower())
    seconds = float(match.group(1)) * UNIT_SECONDS[match.group(2)] if match else 0.0
    if not 0 < seconds <= LATEST_AT:
        raise UsageError(f"{name}={_shown(text)!r} is not a range of time.", "Write a number and s, m, h, d, w or y, such as 1h, 7d, 30d or 1y.")
    return seconds


def _shown(text: str) -> str:
    return text.strip()[:40]


def _moment(said: str, now: float, zone: tzinfo) -> Optional[float]:
    """None: no form fits. Raises ValueError for a 31 February and the like."""
    if said == "now":
        return now
    ago = _AGO.fullmatch(said)
    if ago:
        return now - float(ago.group(1)) * UNIT_SECONDS[ago.group(2)]
    if _EPOCH.fullmatch(said):
        return float(said)
    for form in (_DATE, _DAY, _TIME):
        match = form.fullmatch(said)
        if match:
            return _at(match, now, zone)
    return None


def _at(match: re.Match[str], now: float, zone: tzinfo) -> float:
    parts = match.groupdict()
    zone = _zone(parts["zone"]) if parts["zone"] else zone
    if parts.get("date"):
        day = datetime.strptime(parts["date"], "%Y-%m-%d").date()
    else:
        day = datetime.fromtimestamp(now, zone).date() - timedelta(days=1 if parts.get("day") == "yesterday" else 0)
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    if (hour, minute, second) == (24, 0, 0):
        day, hour = day + timedelta(days=1), 0
    micro = int((parts["fraction"] or "0").ljust(6, "0")[:6])
    return datetime(day.year, day.month, day.day, hour, minute, second, micro, zone).timestamp()


def _zone(said: str) -> tzinfo:
    if not said[-1].isdigit():
        return timezone.utc
    sign = -1 if said[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(said[1:3]), minutes=int(said[-2:])))
