"""What a report shows, and how its numbers are put into words: shared by page, text, CSV and JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import List, NamedTuple, Optional, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import FleetReport, GpuUse, UsageReport, UsageRow
from gpuwatch.render import words
from gpuwatch.render.chart_strips import shown

BY = (("user", "User"), ("host", "Host"), ("gpu", "GPU"), ("model", "Model"), ("tag", "Tag"))
"""(name in the address, head of the column)."""
PERIODS = (("day", "Day"), ("week", "Week"), ("month", "Month"))
HEATS = (("utilization_percent", "Utilization"), ("held_percent", "GPUs held"))
TABLES = ("usage", "heat", "idle", "inactive", "downtime")
"""Tables of a report, each a CSV of its own (``table=``)."""
JOULES_PER_KWH = 3.6e6


class Days(NamedTuple):
    """First and last day (YYYY-MM-DD), both included; ``period`` is one of PERIODS where they are one of the calendar, else empty."""

    first: str
    last: str
    period: str = ""


class Rates(NamedTuple):
    """What a kWh costs and emits; 0 = not known, and not shown."""

    price: float = 0.0
    currency: str = ""
    co2_grams: float = 0.0


@dataclass(frozen=True)
class Reports:
    """One report. ``fleet`` is None where only usage was asked for."""

    days: Days
    today: str
    usage: UsageReport
    fleet: Optional[FleetReport]
    now: float
    rates: Rates = Rates()

    @property
    def by_word(self) -> str:
        """Head of the first column."""
        return dict(BY).get(self.usage.by, self.usage.by)

    @property
    def by_noun(self) -> str:
        """As it stands in a sentence."""
        return self.by_word if self.usage.by == "gpu" else self.by_word.lower()


# ---- days


def counted_words(report: UsageReport, now: float) -> str:
    """Until when the report counts, where that is not now; empty otherwise."""
    until = report.counted_until_at
    return "" if until is None else f"Counted up to {words.clock(until, now, report.timezone)}; what was read since follows within a quarter of an hour"


def days_of(period: str, day: date) -> Days:
    """The calendar's day, week (Monday to Sunday) or month in which ``day`` lies."""
    if period == "day":
        return Days(day.isoformat(), day.isoformat(), period)
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return Days(monday.isoformat(), (monday + timedelta(days=6)).isoformat(), period)
    first = day.replace(day=1)
    return Days(first.isoformat(), ((first + timedelta(days=32)).replace(day=1) - timedelta(days=1)).isoformat(), "month")


def neighbours(days: Days) -> Tuple[Optional[Days], Optional[Days]]:
    """The days before and after, as long as these; None at the ends of the calendar."""
    first, last = date.fromisoformat(days.first), date.fromisoformat(days.last)
    length = (last - first) + timedelta(days=1)
    try:
        if days.period:
            return days_of(days.period, first - timedelta(days=1)), days_of(days.period, last + timedelta(days=1))
        return Days((first - length).isoformat(), (last - length).isoformat()), Days((first + length).isoformat(), (last + length).isoformat())
    except OverflowError:
        return None, None


def parse_day(text: str, today: date, name: str) -> date:
    """``2026-11-20``, ``today``, ``yesterday`` or ``-30d``. Raises UsageError."""
    said = text.strip().lower()
    if said in ("today", "yesterday"):
        return today - timedelta(days=said == "yesterday")
    try:
        if said.startswith("-") and said.endswith("d"):
            return today - timedelta(days=int(said[1:-1]))
        return date(*map(int, _parts(said)))
    except (ValueError, OverflowError, TypeError):
        raise UsageError(f"{name}={text.strip()[:40]!r} is not a day.", "Write it as 2026-11-20, today, yesterday or -30d.") from None


def _parts(said: str) -> List[str]:
    parts = said.split("-")
    if len(parts) != 3 or len(parts[0]) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(said)
    return parts


def days_between(first: date, last: date) -> Days:
    """From one day to another. Raises UsageError where they are in the wrong order."""
    if last < first:
        raise UsageError(f"The report would end on {last} before it begins on {first}.", "Give a to= that is not before from=.")
    days = Days(first.isoformat(), last.isoformat())
    return next((named for name, _ in PERIODS for named in [days_of(name, first)] if named[:2] == days[:2]), days)


def days_words(days: Days, today: str) -> str:
    """``Wed 18 Nov 2026``, ``Mon 16 to Sun 22 Nov 2026``, ``November 2026``."""
    first, last = date.fromisoformat(days.first), date.fromisoformat(days.last)
    if first == last:
        return f"{words.DAYS[first.weekday()]} {_day(first, True)}"
    begin = f"{words.DAYS[first.weekday()]} {_day(first, first.year != last.year) if (first.year, first.month) != (last.year, last.month) else first.day}"
    told = f"{begin} to {words.DAYS[last.weekday()]} {_day(last, True)}"
    return f"{told}, so far" if days.first <= today <= days.last else told


def _day(day: date, with_year: bool) -> str:
    return f"{day.day} {words.MONTHS[day.month - 1]}{f' {day.year}' if with_year else ''}"


# ---- numbers


def hours(value: float) -> str:
    """``0``, ``0.014``, ``4.2``, ``1,234``: one decimal below 100, more where it would look like nothing."""
    return shown(value, 1) if 0 < value < 99.95 else f"{value:,.0f}"


def kwh(joules: float) -> str:
    """Energy in kWh."""
    return hours(joules / JOULES_PER_KWH)


def percent(share: Optional[float]) -> str:
    """``97 %``; empty for None; never 100 % where something is missing."""
    if share is None:
        return ""
    return "99.9 %" if 0.9985 <= share < 0.99999 else f"{100 * share:.1f} %" if 0.985 <= share < 1 else f"{100 * share:.0f} %"


def cost(joules: float, rates: Rates) -> str:
    """``12.30 EUR``; empty where no price is set."""
    return f"{joules / JOULES_PER_KWH * rates.price:,.2f} {words.clean(rates.currency)}".strip() if rates.price else ""


def co2(joules: float, rates: Rates) -> str:
    """``12.3 kg``; empty where no rate is set."""
    return f"{hours(joules / JOULES_PER_KWH * rates.co2_grams / 1000)} kg" if rates.co2_grams else ""


def label(reports: Reports, row: UsageRow) -> str:
    """What the line is called."""
    if row.name or row.key:
        name = words.clean(row.name or row.key)
        return name.removeprefix("NVIDIA ") if reports.usage.by == "model" else name  # else they all begin alike where room is short
    return {"user": "nobody known", "tag": "no tag"}.get(reports.usage.by, "unknown")


def has_user_only(reports: Reports) -> bool:
    """Users have no measured hours of their own: coverage and hours of nobody are of GPUs."""
    return reports.usage.by == "user"


def holders(use: GpuUse) -> List[Tuple[str, str, float]]:
    """(user, program, hours) of the processes that held the GPU longest."""
    return [
        (
            words.clean(one.interval.user) or "unknown user",
            words.short_command(one.interval.command) or words.clean(one.interval.name) or "unknown program",
            (one.interval.end_at - one.interval.start_at) / 3600,
        )
        for one in use.processes
    ]


def reconciliation(total: UsageRow) -> str:
    """The sums in a sentence: held = at work + idle (+ unknown)."""
    unknown = f" + {hours(total.unknown_hours)} h with utilization not reported" if total.unknown_hours >= 0.05 else ""
    return f"{hours(total.held_hours)} h held = {hours(total.busy_hours)} h at work + {hours(total.idle_hours)} h idle{unknown}"
