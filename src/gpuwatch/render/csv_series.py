"""Series and processes over time as CSV (RFC 4180): one line a step and metric, one a process. Pure; missing values are empty, never 0."""

from __future__ import annotations

from typing import Iterable, Iterator, Optional, Sequence, Union

from gpuwatch.model.series import PastProcess, Series
from gpuwatch.render import words
from gpuwatch.render.as_csv import harmless

SERIES_COLUMNS = (
    ("host", "name of the target; empty = all GPUs or a user"),
    ("gpu", "UUID; empty = the host or all GPUs"),
    ("user", "user, where the series is one user's"),
    ("metric", "name of the metric; its unit is in the next column"),
    ("unit", "unit of minimum, mean and maximum"),
    ("start_at", "begin of the step, epoch seconds"),
    ("start", "begin of the step, ISO 8601 in the hub's time zone"),
    ("step_seconds", "length of the step in seconds"),
    ("minimum", "lowest reading of the step"),
    ("mean", "mean of the readings of the step"),
    ("maximum", "highest reading of the step"),
    ("readings", "number of readings in the step"),
    ("coverage", "share of the step that was measured, 0 to 1"),
)
"""(column, what it holds). A step in which nothing was measured has empty values and 0 readings."""

PROCESS_COLUMNS = (
    ("host", "name of the target"),
    ("index", "NVML's number of the GPU; empty = it is not there any more"),
    ("gpu", "UUID"),
    ("user", "who ran it; empty = unknown"),
    ("pid", "process id on its host"),
    ("start_at", "first reading with the process, epoch seconds"),
    ("start", "the same, ISO 8601 in the hub's time zone"),
    ("end_at", "until when its last reading stands for it, epoch seconds"),
    ("end", "the same, ISO 8601 in the hub's time zone"),
    ("peak_memory_bytes", "most GPU memory of any reading"),
    ("mean_memory_bytes", "mean GPU memory over its readings"),
    ("name", "name of the program"),
    ("command", "command line as far as the reader may see it"),
)


def series_csv(found: Iterable[Series], timezone: str) -> Iterator[bytes]:
    """The lines of several series, one series a piece; the first line holds the names of the columns."""
    yield (",".join(name for name, _ in SERIES_COLUMNS) + "\r\n").encode()
    for series in found:
        about = [series.host, series.gpu, series.user, series.metric, series.unit]
        head = ",".join(map(cell, about))
        values = zip(series.times, series.minimum, series.mean, series.maximum, series.count, series.coverage)
        yield "".join(
            f"{head},{at},{words.iso(at, timezone)},{series.step_seconds},{cell(low)},{cell(mean)},{cell(high)},{count},{cell(covered)}\r\n"
            for at, low, mean, high, count, covered in values
        ).encode("utf-8", "replace")


def processes_csv(found: Sequence[PastProcess], timezone: str) -> bytes:
    """The processes, a line each."""
    lines = [",".join(name for name, _ in PROCESS_COLUMNS)]
    for process in found:
        one = process.interval
        cells: Sequence[Union[str, float, None]] = (
            process.host, process.gpu_index, one.gpu_uuid, one.user, one.pid, one.start_at, words.iso(one.start_at, timezone), one.end_at, words.iso(one.end_at, timezone),
            one.peak_memory_bytes, one.mean_memory_bytes, one.name, one.command,
        )  # fmt: skip
        lines.append(",".join(map(cell, cells)))
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def cell(value: Optional[Union[str, float]]) -> str:
    """One field: empty for None, numbers without noise, text made harmless for spreadsheets and quoted where it must be."""
    if value is None:
        return ""
    if isinstance(value, str):
        shown = harmless(value)
        return '"{}"'.format(shown.replace('"', '""')) if "," in shown or '"' in shown else shown
    return str(int(value)) if value == int(value) else f"{value:.6g}" if abs(value) < 1e6 else f"{value:.3f}"
