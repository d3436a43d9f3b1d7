"""The tables of a report as CSV (RFC 4180), each by itself. Pure; what is not known is empty, never 0."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from gpuwatch.model.series import GpuUse
from gpuwatch.render import words
from gpuwatch.render.csv_series import cell
from gpuwatch.render.reports import JOULES_PER_KWH, Reports, holders, label

Cells = Sequence[Optional[Union[str, float]]]
Columns = Tuple[Tuple[str, str], ...]

_SPAN: Columns = (("first_day", "first day of the report, in the hub's zone"), ("last_day", "its last day"))
COLUMNS: Dict[str, Columns] = {
    "usage": (
        *_SPAN,
        ("by", "what the lines are: user, host, gpu, model or tag"),
        ("key", "user, host, UUID, model or tag; empty = nobody known, or no tag"),
        ("name", "what people call it"),
        ("held_hours", "GPU-hours that somebody held"),
        ("busy_hours", "of them at work"),
        ("idle_hours", "of them without work"),
        ("unknown_hours", "of them with utilization not reported"),
        ("unattributed_hours", "of them with nobody's process seen; empty for users"),
        ("measured_hours", "GPU-hours with readings; empty for users"),
        ("possible_hours", "GPU-hours that could have been measured; empty for users"),
        ("coverage", "measured of possible, 0 to 1"),
        ("memory_gib_hours", "GiB of GPU memory times hours"),
        ("energy_kwh", "energy in kWh"),
        ("cost", "energy times the price of the settings; empty = no price is set"),
        ("co2_kg", "energy times the rate of the settings; empty = no rate is set"),
    ),
    "heat": (
        *_SPAN,
        ("metric", "utilization_percent or held_percent, of all GPUs"),
        ("weekday", "Mon to Sun"),
        ("hour", "hour of the day, 0 to 23, in the hub's zone"),
        ("mean", "mean in percent; empty = nothing was measured"),
        ("hours", "how many hours of the report it is over"),
    ),
    "idle": (
        *_SPAN,
        ("gpu", "UUID"),
        ("host", "name of the target"),
        ("name", "what people call the GPU"),
        ("model", "product name"),
        ("idle_hours", "GPU-hours held without work"),
        ("held_hours", "GPU-hours held"),
        ("measured_hours", "GPU-hours with readings"),
        ("user", "who ran a process that held it; a line each, the longest first"),
        ("program", "the process"),
        ("process_hours", "how long it was there"),
    ),
    "inactive": (
        *_SPAN,
        ("gpu", "UUID"),
        ("host", "name of the target"),
        ("name", "what people call the GPU"),
        ("model", "product name"),
        ("measured_hours", "GPU-hours with readings, none of them held"),
        ("last_held_at", "end of the last process on it, epoch seconds; empty = none is known"),
    ),
    "downtime": (
        *_SPAN,
        ("host", "name of the target"),
        ("possible_seconds", "how long it could have been read"),
        ("measured_seconds", "how long there were readings"),
        ("down_seconds", "how long there were none"),
        ("outage_from_at", "begin of an outage, epoch seconds; a line each, the longest first"),
        ("outage_to_at", "its end"),
        ("exact_seconds", "how exact begin and end are"),
    ),
}
"""By name of the table (``table=``): (column, what it holds)."""


def reports_csv(reports: Reports, table: str = "usage") -> bytes:
    """One table of ``render.reports.TABLES``; the first line holds the names of the columns."""
    lines = [",".join(name for name, _ in COLUMNS[table])]
    span = [reports.days.first, reports.days.last]
    lines += [",".join(map(cell, [*span, *row])) for row in _ROWS[table](reports)]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def _usage(reports: Reports) -> Iterable[Cells]:
    usage, rates = reports.usage, reports.rates
    users = usage.by == "user"
    for row in usage.rows:
        energy = row.energy_joules / JOULES_PER_KWH
        of_gpus: List[Optional[float]] = [row.unattributed_hours, row.measured_hours, row.possible_hours, row.coverage]
        yield [
            usage.by, row.key, label(reports, row), row.held_hours, row.busy_hours, row.idle_hours, row.unknown_hours, *([None] * 4 if users else of_gpus),
            row.memory_gib_hours, energy, energy * rates.price if rates.price else None, energy * rates.co2_grams / 1000 if rates.co2_grams else None,
        ]  # fmt: skip


def _heat(reports: Reports) -> Iterable[Cells]:
    heat = reports.fleet.heat if reports.fleet else None
    for day, row in enumerate(heat.mean if heat else ()):
        for hour, mean in enumerate(row):
            assert heat is not None
            yield [heat.metric, words.DAYS[day], hour, mean, heat.hours[day][hour]]


def _gpu(use: GpuUse) -> List[Optional[Union[str, float]]]:
    return [use.gpu_uuid, use.host, use.name, use.model]


def _idle(reports: Reports) -> Iterable[Cells]:
    for use in reports.fleet.most_idle if reports.fleet else ():
        sums = [*_gpu(use), use.idle_hours, use.held_hours, use.measured_hours]
        who: List[Cells] = [[*one] for one in holders(use)] or [["", "", None]]
        for one in who:
            yield [*sums, *one]


def _inactive(reports: Reports) -> Iterable[Cells]:
    for use in reports.fleet.inactive if reports.fleet else ():
        yield [*_gpu(use), use.measured_hours, use.last_held_at]


def _downtime(reports: Reports) -> Iterable[Cells]:
    for one in reports.fleet.downtime if reports.fleet else ():
        for since, until in one.outages or ((None, None),):
            yield [one.host, one.possible_seconds, one.measured_seconds, one.down_seconds, since, until, one.step_seconds]


_ROWS: Dict[str, Callable[[Reports], Iterable[Cells]]] = {
    "usage": _usage, "heat": _heat, "idle": _idle, "inactive": _inactive, "downtime": _downtime,
}  # fmt: skip
