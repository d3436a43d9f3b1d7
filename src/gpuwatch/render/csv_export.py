"""Files of what the database holds: CSV (RFC 4180), or JSON, one object a line. Pure; what is not reported is empty (JSON: null), never 0."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Dict, Iterable, Iterator, Mapping, Sequence, Tuple

from gpuwatch.model.fields import describe
from gpuwatch.model.series import GPU_METRICS, HOST_METRICS
from gpuwatch.model.snapshot import GpuReading, HostReading
from gpuwatch.render import words
from gpuwatch.render.as_csv import NUMBERS
from gpuwatch.render.csv_log import log_columns, part_csv
from gpuwatch.render.csv_series import PROCESS_COLUMNS, cell

Columns = Tuple[Tuple[str, str], ...]
HOST_NUMBERS = ("cpu_percent", "load_1m", "memory_used_bytes", "memory_total_bytes", "swap_used_bytes", "uptime_seconds")
"""Of a snapshot's host."""
LOG_METRICS: Mapping[str, str] = {**GPU_METRICS, **HOST_METRICS}
"""Of minutes, quarters and hours: a host's rows have its own."""
_HELP = {name: told for name, _, told, _ in describe(GpuReading)}
_HOST_HELP = {name: told for name, _, told, _ in describe(HostReading)}

COLUMNS: Dict[str, Columns] = {
    "snapshots": (
        ("host", "name of the target"),
        ("taken_at", "when the reading was taken, epoch seconds of the hub's clock"),
        ("taken", "the same, ISO 8601 in the hub's time zone"),
        ("received_at", "when the hub got it, epoch seconds"),
        ("index", "NVML's number of the GPU"),
        ("uuid", "UUID of the GPU; empty in the line of a host without GPUs"),
        ("name", "product name"),
        ("throttle_reasons", "why clocks are held back, separated by ';'"),
        ("users", "who runs something on the GPU, separated by blanks"),
        ("process_count", "how many processes"),
        ("error", "why the GPU does not answer (lost)"),
        *((name, _HELP[name]) for name in NUMBERS),
        *((f"host_{name}", f"of the host: {_HOST_HELP[name]}") for name in HOST_NUMBERS),
    ),
    "usage": (
        ("day", "YYYY-MM-DD in the hub's time zone"),
        ("by", "gpu: sums of the GPU, all users together; user: the share of one of them. Add up one of the two"),
        ("host", "name of the target"),
        ("index", "NVML's number of the GPU; empty = it is not there any more"),
        ("gpu", "UUID of the GPU or MIG slice"),
        ("model", "product name; empty = not known"),
        ("user", "who; empty in rows by gpu"),
        ("held_hours", "GPU-hours that somebody held"),
        ("busy_hours", "of them at work"),
        ("idle_hours", "of them without work"),
        ("unknown_hours", "of them with utilization not reported"),
        ("unattributed_hours", "of them with nobody's process seen; empty for users"),
        ("measured_hours", "GPU-hours with readings; empty for users"),
        ("memory_gib_hours", "GiB of GPU memory times hours"),
        ("energy_joules", "energy in joules"),
    ),
    "processes": PROCESS_COLUMNS,
    "events": (
        ("at", "when it was noted, epoch seconds"),
        ("time", "the same, ISO 8601 in the hub's time zone"),
        ("host", "name that the target had"),
        ("gpu", "UUID; empty = it is about the host"),
        ("kind", "what kind of event"),
        ("message", "what happened, in words"),
    ),
    **dict.fromkeys(("minutes", "quarters", "hours"), log_columns(LOG_METRICS)),
}
"""By what is exported: (column, what it holds). Rows of ``query.export`` are in this order; of steps, of ``query.logs``."""

_cell = lru_cache(maxsize=8192)(cell)
"""Readings are rounded and come again and again. Texts may be long: so few that they take little memory."""


def head(what: str) -> bytes:
    """The first line of a CSV file: the names of the columns."""
    return (",".join(name for name, _ in COLUMNS[what]) + "\r\n").encode()


def rows_csv(rows: Iterable[Sequence[Any]]) -> bytes:
    """Lines of a CSV file."""
    return "".join([",".join(map(_cell, row)) + "\r\n" for row in rows]).encode("utf-8", "replace")


def rows_json(what: str, rows: Iterable[Sequence[Any]]) -> bytes:
    """The same as JSON, an object a line."""
    names = [name for name, _ in COLUMNS[what]]
    return "".join([json.dumps(dict(zip(names, row)), separators=(",", ":")) + "\n" for row in rows]).encode()


def steps_csv(part: Any, timezone: str) -> bytes:
    """The lines of one ``query.logs.LogPart``."""
    return part_csv(part, timezone, LOG_METRICS)


def steps_json(part: Any, timezone: str) -> bytes:
    """The same as JSON."""
    return rows_json("minutes", _part_rows(part, timezone))


def _part_rows(part: Any, timezone: str) -> Iterator[Tuple[Any, ...]]:
    about = (part.step_seconds, part.gpu.host, part.gpu.number, part.uuid, part.gpu.model)
    values = [column for metric in LOG_METRICS for column in (part.values[metric].mean, part.values[metric].minimum, part.values[metric].maximum)]
    for at, measured, users, *numbers in zip(part.times, part.measured_seconds, part.users, *values):
        yield (at, words.iso(at, timezone), *about, measured, users, *numbers)
