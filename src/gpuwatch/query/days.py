"""Days of the hub's zone as spans of time: 23 and 25 hours long where the clock changes. Pure."""

from __future__ import annotations

from datetime import date, datetime, timedelta, tzinfo
from typing import List, NamedTuple

from gpuwatch.model.errors import UsageError

MOST_DAYS = 36600


class Day(NamedTuple):
    """``begin`` and ``end`` are epoch seconds; ``name`` is YYYY-MM-DD."""

    name: str
    begin: int
    end: int


def days_between(start_at: float, end_at: float, zone: tzinfo) -> List[Day]:
    """The days of which any moment is in start_at <= t < end_at; at least one."""
    first = datetime.fromtimestamp(start_at, zone).date()
    last = datetime.fromtimestamp(max(start_at, end_at - 0.001), zone).date()
    return list(_days(first, last, zone))


def days_from(first_day: str, last_day: str, zone: tzinfo) -> List[Day]:
    """The days from one name to another, both included. Raises UsageError for names that are no days, or in the wrong order."""
    try:
        first, last = date.fromisoformat(first_day), date.fromisoformat(last_day)
        datetime(first.year, first.month, first.day, tzinfo=zone).timestamp()
        datetime(last.year, last.month, last.day, tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{first_day[:20]!r} to {last_day[:20]!r} are not two days.", "Write them as 2026-11-20.") from None
    if not 0 <= (last - first).days < MOST_DAYS:
        raise UsageError(f"{first_day} to {last_day} ends before it begins, or is over more than 100 years.", "Give a later last day.")
    return list(_days(first, last, zone))


def _days(first: date, last: date, zone: tzinfo) -> List[Day]:
    dates = [first + timedelta(days=number) for number in range((last - first).days + 2)]
    begins = [int(datetime(one.year, one.month, one.day, tzinfo=zone).timestamp()) for one in dates]
    return [Day(one.isoformat(), begin, end) for one, begin, end in zip(dates, begins, begins[1:])]
