"""What GPUs did minute by minute as CSV (RFC 4180), for spreadsheets and scripts. Pure; what was not measured is empty, never 0."""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat
from typing import Any, Iterable, Iterator, List, Mapping, Tuple

from gpuwatch.model.series import GPU_METRICS
from gpuwatch.render import words
from gpuwatch.render.csv_series import cell

_UNITS = {"%": "percent", "B": "bytes", "W": "watts", "C": "degrees Celsius", "MHz": "MHz"}
_FIXED = (
    ("start_at", "begin of the minute, epoch seconds"),
    ("start", "the same, ISO 8601 in the hub's time zone"),
    ("step_seconds", "length of the step: 60; where minutes are not kept any more 900 or 3600"),
    ("host", "name of the target"),
    ("index", "NVML's number of the GPU; empty = it is not there any more"),
    ("gpu", "UUID of the GPU or MIG slice"),
    ("model", "product name; empty = not known"),
    ("measured_seconds", "how much of the step was measured; steps without a reading are left out"),
    ("users", "who ran something on it in this step, separated by blanks"),
)


def log_columns(metrics: Mapping[str, str]) -> Tuple[Tuple[str, str], ...]:
    """(column, what it holds) of a log of these metrics (name: unit)."""
    of_metrics = [
        (f"{metric}{ending}", f"{what} of the step{', in ' if unit else ''}{_UNITS.get(unit, unit)}")
        for metric, unit in metrics.items()
        for ending, what in (("", "mean"), ("_minimum", "lowest reading"), ("_maximum", "highest reading"))
    ]
    return (*_FIXED, *of_metrics)


LOG_COLUMNS = log_columns(GPU_METRICS)
"""(column, what it holds)."""


_cell = lru_cache(maxsize=65536)(cell)
"""Rounded readings come again and again."""
_iso = lru_cache(maxsize=2048)(words.iso)
"""All GPUs have the minutes of a day."""


def log_csv(parts: Iterable[Any], timezone: str) -> Iterator[bytes]:
    """The lines, a GPU and day a piece (``query.logs.LogPart``); the first line holds the names of the columns."""
    yield (",".join(name for name, _ in LOG_COLUMNS) + "\r\n").encode()
    for part in parts:
        yield part_csv(part, timezone, GPU_METRICS)


def part_csv(part: Any, timezone: str, metrics: Iterable[str]) -> bytes:
    """The lines of one ``query.logs.LogPart``."""
    about = ",".join(map(cell, (part.step_seconds, part.gpu.host, part.gpu.number, part.uuid, part.gpu.model)))
    columns: List[Iterable[str]] = [
        map(str, part.times), map(_iso, part.times, repeat(timezone)), repeat(about), map(_cell, part.measured_seconds), map(_cell, part.users)
    ]  # fmt: skip
    for metric in metrics:
        found = part.values[metric]
        columns += [map(_cell, found.mean), map(_cell, found.minimum), map(_cell, found.maximum)]
    return "".join([",".join(row) + "\r\n" for row in zip(*columns)]).encode("utf-8", "replace")
