"""A report as text: usage, hours of the week, idle GPU-hours, GPUs that nobody held, hosts without readings. Pure; no line is wider than asked."""

from __future__ import annotations

from typing import List, Optional, Sequence

from gpuwatch.model.series import Downtime, GpuUse, HeatMap, UsageRow
from gpuwatch.render import words
from gpuwatch.render.reports import (
    HEATS,
    JOULES_PER_KWH,
    Reports,
    co2,
    cost,
    counted_words,
    days_words,
    has_user_only,
    holders,
    hours,
    kwh,
    label,
    percent,
    reconciliation,
)
from gpuwatch.render.text_cells import BOLD, DIM, HELD, Look, bar, width

MOST_ROWS, MOST_IDLE, MOST_OTHERS, MOST_OUTAGES = 60, 15, 30, 3
NUMBER = 9
"""Columns of a number."""


def reports_text(reports: Reports, look: Look) -> str:
    """Everything of the page."""
    lines = [*_head(reports, look), "", *_usage(reports, look)]
    if reports.fleet is not None:
        fleet = reports.fleet
        lines += ["", *_heat(fleet.heat, look), "", *_idle(fleet.most_idle, look), "", *_inactive(reports, fleet.inactive, look)]
        lines += ["", *_downtime(reports, fleet.downtime, look)]
    foot = filter(None, (f"Days are of {words.zone_label(reports.now, reports.usage.timezone)}", counted_words(reports.usage, reports.now)))
    lines += ["", *(look.paint(line, DIM) for text in foot for line in look.wrap(f"{text}.", look.width))]
    return look.final("\n".join(line.rstrip() for line in lines) + "\n")


def _title(text: str, look: Look) -> str:
    return look.paint(look.cut(text, look.width), BOLD)


def _head(reports: Reports, look: Look) -> List[str]:
    total, rates = reports.usage.total, reports.rates
    energy = ", ".join(filter(None, (f"{kwh(total.energy_joules)} kWh", cost(total.energy_joules, rates), co2(total.energy_joules, rates) and f"{co2(total.energy_joules, rates)} CO2")))
    lines = [_title(f"GPU-hours by {reports.by_noun}, {days_words(reports.days, reports.today)}", look)]
    measured = f"measured: {percent(total.coverage) or 'nothing'}, {hours(total.measured_hours)} of {hours(total.possible_hours)} h"
    lines += [line for text in (reconciliation(total), f"energy: {energy}; {measured}") for line in look.wrap(text, look.width)]
    since = reports.usage.kept_since_at
    if since is None:
        lines.append("Nothing is kept yet. The first sums are here after some minutes.")
    elif words.iso(since, reports.usage.timezone)[:10] > reports.days.first:
        lines.append(f"No readings before {words.clock(since, reports.now, reports.usage.timezone)}.")
    return lines


# ---- usage


def _usage(reports: Reports, look: Look) -> List[str]:
    """Name, bar where there is room for it, then numbers from the right as many as fit."""
    rows, total = reports.usage.rows, reports.usage.total
    heads = _heads(reports)
    room = look.width - 16
    heads = heads[: max(3, room // (NUMBER + 1))]
    space = look.width - len(heads) * (NUMBER + 1)
    name = min(max(16, space if space < 36 else 20), 32)
    bars = space - name - 2 if space - name >= 12 else 0
    most = max((row.held_hours for row in rows), default=0.0)
    lines = [_title(_line(look, reports.by_word.upper(), name, bars and " " * bars, heads), look)]
    for row in rows[:MOST_ROWS]:
        shown = _bar(row, most, bars, look) if bars else ""
        lines.append(_line(look, label(reports, row), name, shown, _numbers(reports, row)[: len(heads)]))
    if len(rows) > MOST_ROWS:
        lines.append(f"+{len(rows) - MOST_ROWS} more: format=csv gives all")
    if not rows:
        lines.append("nothing was held")
    lines.append(_title(_line(look, "all GPUs", name, bars and " " * bars, _numbers(reports, total)[: len(heads)]), look))
    return lines


def _line(look: Look, name: str, columns: int, shown: object, numbers: Sequence[str]) -> str:
    middle = f" {shown} " if shown else ""
    return f"{look.left(_short(look, name, columns), columns)}{middle}{''.join(f' {look.right(number, NUMBER)}' for number in numbers)}"


def _short(look: Look, name: str, columns: int) -> str:
    """A name that is too long, cut; of a GPU the host's part, so that its number stays: two GPUs of a host must not look alike."""
    host, found, number = name.rpartition(" GPU ")
    if not found or width(name) <= columns or width(number) > columns // 2:
        return name
    return look.cut(host, columns - width(found + number)) + found + number


def _heads(reports: Reports) -> List[str]:
    """The most telling first: narrow screens leave out the last ones."""
    rates = reports.rates
    heads = ["HELD H", "AT WORK", "IDLE", "KWH"] + ([] if has_user_only(reports) else ["MEASURED", "UNATTRIB."]) + ["GB H", "UNKNOWN"]
    return heads + (["COST"] if rates.price else []) + (["CO2"] if rates.co2_grams else [])


def _numbers(reports: Reports, row: UsageRow) -> List[str]:
    rates = reports.rates
    numbers = [hours(row.held_hours), hours(row.busy_hours), hours(row.idle_hours), kwh(row.energy_joules)]
    numbers += [] if has_user_only(reports) else [percent(row.coverage), hours(row.unattributed_hours)]
    numbers += [f"{row.memory_gib_hours:,.0f}", hours(row.unknown_hours)]
    numbers += [f"{row.energy_joules / JOULES_PER_KWH * rates.price:,.2f}"] if rates.price else []
    return numbers + ([co2(row.energy_joules, rates)] if rates.co2_grams else [])


def _bar(row: UsageRow, most: float, columns: int, look: Look) -> str:
    """``#`` at work, ``=`` held without work, against the most of any line."""
    held = bar(100 * row.held_hours / most if most else 0.0, columns, "#", "-")
    filled = held.count("#")
    idle = min(filled, round(filled * row.idle_hours / row.held_hours)) if row.held_hours else 0
    return f"{'#' * (filled - idle)}{look.paint('=' * idle, HELD)}{'-' * (columns - filled)}"


# ---- the fleet


def _heat(heat: HeatMap, look: Look) -> List[str]:
    """Two digits an hour; ``..`` where nothing was measured; 100 is ``**``."""
    word = dict(HEATS).get(heat.metric, heat.metric)
    lines = [_title(f"{word} by hour of the week, mean in {heat.unit}, measured {percent(heat.coverage)}", look)]
    step = 1 if look.width >= 4 + 24 * 3 else 2
    lines.append("    " + " ".join(f"{hour:02d}" for hour in range(0, 24, step)))
    for day, row in enumerate(heat.mean):
        lines.append(f"{words.DAYS[day]} " + " ".join(_two(_merged(row[hour : hour + step])) for hour in range(0, 24, step)))
    if any(value is None for row in heat.mean for value in row):
        lines.append(look.paint(".. no reading", DIM))
    return lines


def _merged(values: Sequence[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _two(value: Optional[float]) -> str:
    return ".." if value is None else "**" if value >= 99.5 else f"{value:2.0f}"


def _idle(found: Sequence[GpuUse], look: Look) -> List[str]:
    lines = [_title("Most idle GPU-hours: memory held, no work", look)]
    if not found:
        return [*lines, "none"]
    lines.append(f"{'GPU':24} {'IDLE H':>8} {'HELD H':>8}  HELD LONGEST BY")
    for use in found[:MOST_IDLE]:
        who = "; ".join(f"{user} {program} {hours(held)} h" for user, program, held in holders(use)) or "no process is known"
        lines.append(f"{look.left(_short(look, use.name, 24), 24)} {hours(use.idle_hours):>8} {hours(use.held_hours):>8}  {look.cut(who, look.width - 45)}")
    return lines + ([f"+{len(found) - MOST_IDLE} more: format=csv&table=idle gives all"] if len(found) > MOST_IDLE else [])


def _inactive(reports: Reports, found: Sequence[GpuUse], look: Look) -> List[str]:
    lines = [_title(f"GPUs that nobody held: {len(found)}", look)]
    for use in found[:MOST_OTHERS]:
        last = words.clock(use.last_held_at, reports.now, reports.usage.timezone)
        told = f"{words.model_name(use.model)}, measured {hours(use.measured_hours)} h, last held {last or 'not known'}"
        lines.append(f"{look.left(_short(look, use.name, 24), 24)} {look.cut(told, look.width - 25)}")
    return lines + ([f"+{len(found) - MOST_OTHERS} more: format=csv&table=inactive gives all"] if len(found) > MOST_OTHERS else [])


def _downtime(reports: Reports, found: Sequence[Downtime], look: Look) -> List[str]:
    away = [one for one in found if one.down_seconds >= 60]
    lines = [_title(f"Hosts without readings: {len(away)} of {len(found)}", look)]
    zone = reports.usage.timezone
    for one in away[:MOST_OTHERS]:
        share = percent(one.measured_seconds / one.possible_seconds if one.possible_seconds else None)
        shown = "; ".join(f"{words.clock(since, reports.now, zone)} {words.span(until - since)}" for since, until in one.outages[:MOST_OUTAGES])
        told = f"{words.span(one.down_seconds)}, measured {share}{f': {shown}' if shown else ''}"
        lines.append(f"{look.left(one.host, 16)} {look.cut(told, look.width - 17)}")
    return lines + ([f"+{len(away) - MOST_OTHERS} more: format=csv&table=downtime gives all"] if len(away) > MOST_OTHERS else [])
