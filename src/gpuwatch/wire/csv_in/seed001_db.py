"""Seed 001's (gpu-monitoring-system) database: its newer versions' history, and of every version each worker's last metrics. Pure.

Times are UTC without saying so; memory is in MiB though it says MB. It knows GPUs by their number and no users.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.model.units import MIB
from gpuwatch.wire import frame
from gpuwatch.wire.csv_in.cells import fitting, name_of, number, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable

WORKER = ("id", "worker_id", "last_seen", "metrics")
"""Columns of table ``worker`` that are read."""
HISTORY = ("id", "worker_id", "gpu_index", "timestamp", "temperature", "utilization", "memory_used", "memory_total", "power_usage")
"""Columns of table ``gpu_metrics_history``."""
MAX_JSON = 1024**2
MAX_GPUS = 64
_METRICS = ("temperature_celsius", "utilization_percent", "memory_used_bytes", "memory_total_bytes", "power_watts")
_FACTORS = (1.0, 1.0, float(MIB), float(MIB), 1.0)


def history(records: Iterable[Tuple[Any, ...]], workers: Mapping[Any, str], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The rows of ``gpu_metrics_history`` (HISTORY's columns, by time); ``workers``: its row ids to names. ``clock`` is in UTC."""
    for id, worker, gpu_index, timestamp, *numbers in records:
        report.lines += 1
        try:
            machine = name_of(str(workers.get(worker, worker))[:200]) or ""
            row = _row(timestamp, machine, gpu_index, None, numbers, clock)
        except Unreadable as error:
            report.refuse(_line(id), f"gpu_metrics_history: {error}")
            continue
        report.rows += 1
        yield row


def newest(records: Iterable[Tuple[Any, ...]], report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The last metrics of each row of ``worker`` (WORKER's columns): all that its first version keeps."""
    for id, worker, last_seen, metrics in records:
        report.lines += 1
        if metrics is None or last_seen is None:
            continue
        try:
            found = list(_last(name_of(str(worker)[:200]) or "", last_seen, metrics, clock))
        except Unreadable as error:
            report.refuse(_line(id), f"worker: {error}")
            continue
        report.rows += len(found)
        yield from found


def _last(machine: str, last_seen: Any, metrics: Any, clock: Clock) -> Iterator[ImportedRow]:
    for index, gpu in enumerate(_gpus(metrics)):
        memory = gpu.get("memory")
        if not isinstance(memory, dict):
            raise Unreadable("the memory of a GPU is not an object")
        numbers = [gpu.get("temp"), gpu.get("util"), memory.get("used"), memory.get("total"), gpu.get("power_usage")]
        model = gpu.get("model")
        yield _row(last_seen, machine, index, model if isinstance(model, str) else None, numbers, clock)


def _gpus(metrics: Any) -> List[Dict[str, Any]]:
    if not isinstance(metrics, str) or len(metrics) > MAX_JSON:
        raise Unreadable("its metrics are not a JSON text")
    try:
        found = frame.loads(metrics.encode("utf-8", "replace"))
    except WireError:
        raise Unreadable("its metrics are not JSON") from None
    if isinstance(found, dict) and isinstance(found.get("metrics"), dict):
        found = found["metrics"]
    gpus = found.get("gpus") if isinstance(found, dict) else None
    if not isinstance(gpus, list) or len(gpus) > MAX_GPUS or not all(isinstance(gpu, dict) for gpu in gpus):
        raise Unreadable("its metrics have no list of GPUs")
    return gpus


def _row(timestamp: Any, machine: str, gpu_index: Any, model: Any, numbers: Iterable[Any], clock: Clock) -> ImportedRow:
    index = whole(gpu_index)
    if index is None or not isinstance(timestamp, str):
        raise Unreadable("the index of the GPU or the time is not there")
    values = {}
    for name, factor, value in zip(_METRICS, _FACTORS, numbers):
        try:
            found = fitting(name, number(value, factor))
        except Unreadable as error:
            raise Unreadable(f"{name}: {error}") from None
        if found is not None:
            values[name] = found
    return ImportedRow(clock.at(timestamp), machine, f"index {index}", name_of(model[:200]) if model else None, values)


def _line(id: Any) -> int:
    return id if isinstance(id, int) else 0
