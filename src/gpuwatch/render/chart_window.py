"""Which span of time a chart shows: ranges, steps, the ticks of its axis. Pure; ticks are times of day of the hub's zone, also on days of 23 or 25 hours."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Iterator, List, NamedTuple, Optional, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.render import words

RANGES = (("1h", "1 h", 3600), ("6h", "6 h", 21600), ("24h", "24 h", 86400), ("7d", "7 d", 604800), ("30d", "30 d", 2592000), ("1y", "1 y", 31536000))
"""(name in the address, on the button, seconds)."""
USUAL_RANGE, USUAL_USER_RANGE = "24h", "30d"
LEAST_USER_SECONDS = 604800
"""What a user had is kept by days: shorter spans say nothing."""
STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)
"""Steps a chart may have: each a multiple of the tier that it is read from."""
MOST_POINTS = 370
LEAST_SECONDS, MOST_SECONDS = 300.0, 20 * 31536000.0
UNITS = {"h": 3600, "d": 86400, "w": 604800, "y": 31536000}


class Window(NamedTuple):
    """The span of a chart, in whole steps: ``start_at`` and ``end_at`` are multiples of the step."""

    start_at: int
    end_at: int
    step_seconds: int
    range: str = ""
    """The name in the address, where the span ends now; empty for a span between two times."""

    @property
    def seconds(self) -> int:
        """Length."""
        return self.end_at - self.start_at

    @property
    def label(self) -> str:
        """``24 h``, ``30 d``: how a sentence names the span."""
        return next((label for _, label, seconds in RANGES if seconds == self.seconds), words.span(self.seconds))

    @property
    def step_label(self) -> str:
        """``5 min``, ``2 h``, ``1 d``."""
        for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
            if self.step_seconds % unit == 0:
                return f"{self.step_seconds // unit} {name}"
        return f"{self.step_seconds} s"

    def share(self, at: float) -> float:
        """Where a time lies on the axis: 0 at the left, 1 at the right end; kept within."""
        return min(1.0, max(0.0, (at - self.start_at) / self.seconds))


def latest_window(seconds: float, now: float, name: str = "", most_points: int = MOST_POINTS) -> Window:
    """The last ``seconds`` until ``now``. Raises UsageError for a span that cannot be drawn."""
    step = step_for(seconds, most_points)
    end = -(-int(now + 1) // step) * step
    return Window(end - max(1, round(seconds / step)) * step, end, step, name)


def window_between(start_at: float, end_at: float, most_points: int = MOST_POINTS) -> Window:
    """From one time to another, in whole steps. Raises UsageError when it ends before it begins or is far too long."""
    if end_at <= start_at:
        raise UsageError("The chart would end before it begins.", "Give a to= that is later than from=.")
    if end_at - start_at < LEAST_SECONDS:  # one zooms in by hand: never into nothing
        middle = (start_at + end_at) / 2
        start_at, end_at = middle - LEAST_SECONDS / 2, middle + LEAST_SECONDS / 2
    step = step_for(end_at - start_at, most_points)
    return Window(int(start_at // step) * step, -int(-end_at // step) * step, step)


def step_for(seconds: float, most_points: int = MOST_POINTS) -> int:
    """The smallest step of STEPS that needs at most so many points. Raises UsageError for a span of no time, or of more than 20 years."""
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"A chart shows up to {MOST_SECONDS / 31536000:.0f} years.", "Choose a shorter range, such as 30d.")
    return next((step for step in STEPS if seconds / step <= most_points), STEPS[-1] * (int(seconds / STEPS[-1] / most_points) + 1))


# ---- the axis

Tick = Tuple[float, str, str]
"""(when, day where a new one begins or empty, time of day or date)."""

_MINUTES = (5, 10, 15, 30, 60, 120, 180, 360, 720)
_DAYS = (1, 2, 7, 14)
_MONTHS = (1, 2, 3, 6, 12, 24, 60)


def ticks(start_at: float, end_at: float, zone: str, most: int = 9) -> List[Tick]:
    """At most about ``most`` round times between two times, oldest first."""
    seconds = end_at - start_at
    for minutes in _MINUTES:
        if seconds / (60 * minutes) <= most:
            return list(_hours(start_at, end_at, zone, minutes))
    for days in _DAYS:
        if seconds / (86400 * days) <= most:
            return list(_dates(start_at, end_at, zone, days))
    months = next((months for months in _MONTHS if seconds / (2629800 * months) <= most), _MONTHS[-1])
    return list(_month_starts(start_at, end_at, zone, months))


def _hours(start_at: float, end_at: float, zone: str, minutes: int) -> Iterator[Tick]:
    for midnight in _midnights(start_at, end_at, zone):
        seen = -1.0
        for minute in range(0, 1440, minutes):
            local = midnight + timedelta(minutes=minute)
            at = local.timestamp()
            if not start_at <= at <= end_at or at <= seen or f"{datetime.fromtimestamp(at, local.tzinfo):%H:%M}" != f"{local:%H:%M}":
                continue  # the hour that is skipped when clocks go forward has no place
            seen = at
            yield at, (_day(local) if minute == 0 else ""), f"{local:%H:%M}"


def _dates(start_at: float, end_at: float, zone: str, days: int) -> Iterator[Tick]:
    for midnight in _midnights(start_at, end_at, zone):
        number = midnight.toordinal()
        if (number - 1) % days == 0 if days in (7, 14) else number % days == 0:  # weeks begin on Mondays
            at = midnight.timestamp()
            if start_at <= at <= end_at:
                yield at, words.DAYS[midnight.weekday()], f"{midnight.day} {words.MONTHS[midnight.month - 1]}"


def _month_starts(start_at: float, end_at: float, zone: str, months: int) -> Iterator[Tick]:
    first = datetime.fromtimestamp(start_at, words.zone_of(zone))
    number = (first.year * 12 + first.month - 1) // months * months
    while True:
        local = datetime(number // 12, number % 12 + 1, 1, tzinfo=first.tzinfo)
        at = local.timestamp()
        if at > end_at:
            return
        if at >= start_at:
            yield at, (str(local.year) if local.month == 1 else ""), words.MONTHS[local.month - 1]
        number += months


def _midnights(start_at: float, end_at: float, zone: str) -> Iterator[datetime]:
    """Each day that the span touches, at 00:00 of its clock."""
    tz = words.zone_of(zone)
    day: Optional[datetime] = datetime.fromtimestamp(start_at, tz).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    while day is not None and day.timestamp() <= end_at:
        yield day
        day += timedelta(days=1)  # of the calendar: the zone's offset is looked up anew


def _day(local: datetime) -> str:
    return f"{words.DAYS[local.weekday()]} {local.day}"
