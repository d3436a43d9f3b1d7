"""Spans of time and of days out of an address: ``from``, ``to``, ``range``, ``step``. Pure. What cannot be is refused by name."""

from __future__ import annotations

from datetime import date, datetime, timedelta, tzinfo
from typing import Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.rules.moments import parse_moment, parse_range
from gpuwatch.web.params import Params

DAY_SECONDS = 86400.0


def span_of(params: Params, now: float, zone: tzinfo, usual: str = "24h") -> Tuple[float, float]:
    """(start, end) in epoch seconds: from ``from=`` to ``to=``; where one of them is absent, ``range=`` (else ``usual``) after or before the other.

    Without both it ends at ``now``; ``from=`` alone without ``range=`` reaches until ``now``. Raises UsageError.
    """
    begin, end, length = (params.text(name) for name in ("from", "to", "range"))
    seconds = parse_range(length or usual)
    if begin:
        start_at = parse_moment(begin, now, zone, name="from")
        if end:
            return _in_order(start_at, parse_moment(end, now, zone, name="to"))
        return _in_order(start_at, start_at + seconds if length else now)
    end_at = parse_moment(end, now, zone, name="to") if end else now
    return max(0.0, end_at - seconds), end_at


def _in_order(start_at: float, end_at: float) -> Tuple[float, float]:
    if end_at <= start_at:
        raise UsageError("to= is not later than from=.", "Give a to= that is later, or a range= such as 7d.")
    return start_at, end_at


def days_of(params: Params, now: float, zone: tzinfo, usual: str = "30d") -> Tuple[str, str]:
    """(first, last) day, both included, as YYYY-MM-DD: those of ``from=`` and ``to=``, or of the last ``range=`` until today. Raises UsageError."""
    begin, end, length = (params.text(name) for name in ("from", "to", "range"))
    last = _day(parse_moment(end, now, zone, name="to") if end else now, zone)
    if begin:
        first = _day(parse_moment(begin, now, zone, name="from"), zone)
    else:
        days = max(1, round(parse_range(length or usual) / DAY_SECONDS))
        first = last - timedelta(days=min(days, (last - date(1970, 1, 2)).days + 1) - 1)
    if last < first:
        raise UsageError("to= is before from=.", "Give two days in their order, such as from=2026-11-01&to=2026-11-30.")
    return first.isoformat(), last.isoformat()


def _day(at: float, zone: tzinfo) -> date:
    return datetime.fromtimestamp(at, zone).date()


def step_of(params: Params) -> float:
    """``step=`` in seconds: a number, or a span such as 15m; 0 where it is absent. Raises UsageError."""
    text = params.text("step")
    if not text:
        return 0.0
    if text.isascii() and text.isdigit() and len(text) < 12:
        return float(text)
    return parse_range(text, name="step")
