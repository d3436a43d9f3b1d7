"""The files that seed 000's ``gpu_logger.sh`` writes each minute: one line a process, with its user; no GPU is named. Pure.

``GPU_Usage_Logs/gpu_usage_{daily,weekly,monthly}_*.csv`` hold the same lines three times: import one kind of them.
"""

from __future__ import annotations

from typing import Iterable, Iterator

from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in.cells import name_of, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.columns import Cells, read_metrics, table_rows
from gpuwatch.wire.csv_in.rows import ImportedRow, Report

COLUMNS = ("timestamp", "user", "pid", "process_name", "used_gpu_memory")
_NUMBERS = {"used_gpu_memory": ("gpu_memory_bytes", float(MIB))}


def rows(lines: Iterable[str], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The rows of a log. Raises UsageError where the first line is no head of it."""
    report.note("The log says which user's process held how much memory, and not on which GPU.")

    def make(cells: Cells) -> Iterator[ImportedRow]:
        at, values = clock.at(cells["timestamp"]), read_metrics(cells, _NUMBERS)
        yield ImportedRow(at, "", "", None, values, name_of(cells["user"]), whole(cells["pid"]), name_of(cells["process_name"]))

    return table_rows(lines, report, COLUMNS, make)
