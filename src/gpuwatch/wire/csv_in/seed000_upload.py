"""The CSV that seed 000 (AccessGrid) lets people upload: ``GPU Index, GPU Name, Timestamp, Utilization %, Memory Used (MiB)``. Pure."""

from __future__ import annotations

from typing import Iterable, Iterator

from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in.cells import name_of, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.columns import Cells, key_of, read_metrics, table_rows
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable

COLUMNS = ("GPU Index", "GPU Name", "Timestamp", "Utilization %", "Memory Used (MiB)")
"""In this order they stand in its error text."""
INDEX, NAME, TIMESTAMP, UTILIZATION, MEMORY = (key_of(column) for column in COLUMNS)
_NUMBERS = {UTILIZATION: ("utilization_percent", 1.0), MEMORY: ("memory_used_bytes", float(MIB))}


def rows(lines: Iterable[str], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The rows of an upload; further columns are not read. Raises UsageError where the first line is no head of it."""

    def make(cells: Cells) -> Iterator[ImportedRow]:
        index = whole(cells[INDEX])
        if index is None:
            raise Unreadable("the index of the GPU is not there")
        gpu = f"index {index}"
        yield ImportedRow(clock.at(cells[TIMESTAMP], gpu), "", gpu, name_of(cells[NAME]), read_metrics(cells, _NUMBERS))

    return table_rows(lines, report, COLUMNS, make)
