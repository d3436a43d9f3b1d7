"""Seed 000's (AccessGrid) ``gpu_logs.db``, which its ``gpu_logger.py`` fills every 5 minutes: tables ``gpu_logs`` and ``user_gpu_logs``. Pure.

Times are local. What a user held is summed over all GPUs, so its rows name no GPU; its percentages are of a fixed 25,000 MiB and not read.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Optional, Tuple

from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in.cells import fitting, name_of, number, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable

GPU_LOGS = ("id", "gpu_index", "gpu_name", "utilization_percent", "memory_used_mib", "timestamp")
USER_LOGS = ("id", "username", "gpu_memory_mib", "timestamp")


def gpus(records: Iterable[Tuple[Any, ...]], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The rows of ``gpu_logs`` (GPU_LOGS's columns, by time)."""
    for id, gpu_index, gpu_name, utilization, memory_used, timestamp in records:
        report.lines += 1
        try:
            index = whole(gpu_index)
            if index is None:
                raise Unreadable("the index of the GPU is not there")
            values = {}
            for name, value in (("utilization_percent", number(utilization)), ("memory_used_bytes", number(memory_used, MIB))):
                if fitting(name, value) is not None:
                    values[name] = value
            row = ImportedRow(_at(timestamp, f"index {index}", clock), "", f"index {index}", _text(gpu_name), values)  # type: ignore[arg-type]
        except Unreadable as error:
            report.refuse(id if isinstance(id, int) else 0, f"gpu_logs: {error}")
            continue
        report.rows += 1
        yield row


def users(records: Iterable[Tuple[Any, ...]], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The rows of ``user_gpu_logs`` (USER_LOGS's columns, by time)."""
    for id, username, memory_used, timestamp in records:
        report.lines += 1
        try:
            value = fitting("gpu_memory_bytes", number(memory_used, MIB))
            user = _text(username)
            if user is None:
                raise Unreadable("the user's name is not there")
            row = ImportedRow(_at(timestamp, "", clock), "", "", None, {} if value is None else {"gpu_memory_bytes": value}, user)
        except Unreadable as error:
            report.refuse(id if isinstance(id, int) else 0, f"user_gpu_logs: {error}")
            continue
        report.rows += 1
        yield row


def _at(timestamp: Any, key: str, clock: Clock) -> float:
    if not isinstance(timestamp, str):
        raise Unreadable("the time is not there")
    return clock.at(timestamp, key)


def _text(value: Any) -> Optional[str]:
    return name_of(value[:200]) if isinstance(value, str) else None
