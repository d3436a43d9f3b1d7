"""The file that seed 000's ``logger.sh`` writes every 5 seconds: lines of type ``GPU`` and of type ``USER``, in the same columns. Pure.

A ``USER`` line is of one process and names no GPU.
"""

from __future__ import annotations

from typing import Iterable, Iterator

from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in.cells import name_of, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.columns import Cells, read_metrics, table_rows
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable
from gpuwatch.wire.csv_in.text import shown

COLUMNS = (
    "timestamp", "type", "gpu_id", "gpu_name", "username", "pid", "utilization_gpu", "utilization_mem", "memory_total", "memory_used",
    "memory_free", "temperature", "used_memory",
)  # fmt: skip
_OF_GPU = {
    "utilization_gpu": ("utilization_percent", 1.0),
    "utilization_mem": ("memory_utilization_percent", 1.0),
    "memory_total": ("memory_total_bytes", float(MIB)),
    "memory_used": ("memory_used_bytes", float(MIB)),
    "memory_free": ("memory_free_bytes", float(MIB)),
    "temperature": ("temperature_celsius", 1.0),
}
_OF_PROCESS = {"used_memory": ("gpu_memory_bytes", float(MIB))}


def rows(lines: Iterable[str], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The rows of a log. Raises UsageError where the first line is no head of it."""

    def make(cells: Cells) -> Iterator[ImportedRow]:
        if cells["type"] == "GPU":
            index = whole(cells["gpu_id"])
            if index is None:
                raise Unreadable("the index of the GPU is not there")
            gpu = f"index {index}"
            yield ImportedRow(clock.at(cells["timestamp"], gpu), "", gpu, name_of(cells["gpu_name"]), read_metrics(cells, _OF_GPU))
        elif cells["type"] == "USER":
            at, values = clock.at(cells["timestamp"]), read_metrics(cells, _OF_PROCESS)
            yield ImportedRow(at, "", "", None, values, name_of(cells["username"]), whole(cells["pid"]))
        else:
            raise Unreadable(f"its type is {shown(cells['type'])}, neither GPU nor USER")

    return table_rows(lines, report, COLUMNS, make)
