"""Seed 004's (vesta) database: a table a host of ``(timestamp INTEGER, data BLOB)``, data = bz2 of a pickle of its dict of GPUs. Pure.

The timestamp is YYYYMMDDhhmmss in the local time of its server. The pickle is read by ``pickles``, which runs nothing.
"""

from __future__ import annotations

import bz2
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple

from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in import pickles
from gpuwatch.wire.csv_in.cells import fitting, name_of, number, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable

MAX_GPUS = 64
MAX_PROCESSES = 5000
MACHINES = "machines"
"""Its table of hosts; every other one with these columns is a host."""
COLUMNS = ("timestamp", "data")
_NUMBERS = {
    "gpu_volatile": ("utilization_percent", 1.0),
    "temperature": ("temperature_celsius", 1.0),
    "used_memory": ("memory_used_bytes", float(MIB)),
    "total_memory": ("memory_total_bytes", float(MIB)),
    "available_memory": ("memory_free_bytes", float(MIB)),
}


def rows(records: Iterable[Tuple[int, Any, Any]], machine: str, report: Report, clock: Clock) -> Iterator[ImportedRow]:
    """The readings of the table of ``machine``: (rowid, timestamp, data), by time. A row that is not understood is refused whole."""
    for rowid, timestamp, data in records:
        report.lines += 1
        try:
            at = clock.at(_time(timestamp), machine)
            found = list(_readings(at, machine, _gpus(data)))
        except Unreadable as error:
            report.refuse(rowid, f"{machine}: {error}")
            continue
        report.rows += len(found)
        yield from found


def _time(value: Any) -> str:
    text = str(value)
    if isinstance(value, (bytes, float)) or len(text) != 14 or not (text.isascii() and text.isdigit()):
        raise Unreadable("its timestamp is not YYYYMMDDhhmmss")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[8:10]}:{text[10:12]}:{text[12:]}"


def _gpus(data: Any) -> Mapping[Any, Any]:
    """The dict of a host's GPUs, as its sender posted it."""
    found = pickles.loads(_unpacked(data))
    if isinstance(found, dict) and isinstance(found.get("gpu_data"), dict):
        found = found["gpu_data"]
    if not isinstance(found, dict) or len(found) > MAX_GPUS:
        raise Unreadable("its data is not a dict of GPUs")
    return found


def _unpacked(data: Any) -> bytes:
    """At most MAX_BYTES are unpacked, whatever a bomb claims."""
    if not isinstance(data, bytes):
        raise Unreadable("its data is not a BLOB")
    unpacker = bz2.BZ2Decompressor()
    try:
        found = unpacker.decompress(data, pickles.MAX_BYTES)
    except (OSError, EOFError, ValueError):
        raise Unreadable("its data is not bz2") from None
    if not unpacker.eof:
        raise Unreadable("its data is cut off, or far too long")
    return found


def _readings(at: float, machine: str, gpus: Mapping[Any, Any]) -> Iterator[ImportedRow]:
    for entry in gpus.values():
        if not isinstance(entry, dict):
            raise Unreadable("one of its GPUs is not a dict")
        index = whole(entry.get("device_num"))
        gpu = _text(entry.get("uuid")) or (f"index {index}" if index is not None else None)
        if gpu is None:
            raise Unreadable("one of its GPUs has neither uuid nor device_num")
        name = _text(entry.get("gpu_name"))
        yield ImportedRow(at, machine, gpu, name, _numbers(entry, _NUMBERS))
        processes = entry.get("processes") or ()
        if not isinstance(processes, (list, tuple)) or len(processes) > MAX_PROCESSES:
            raise Unreadable("its processes are not a list")
        for process in processes:
            yield _process(at, machine, gpu, name, process)


def _process(at: float, machine: str, gpu: str, name: Optional[str], entry: Any) -> ImportedRow:
    if not isinstance(entry, dict):
        raise Unreadable("one of its processes is not a dict")
    values = _numbers(entry, {"used_memory": ("gpu_memory_bytes", float(MIB))})
    return ImportedRow(at, machine, gpu, name, values, _text(entry.get("user")), whole(entry.get("pid")), _text(entry.get("name")))


def _numbers(entry: Mapping[Any, Any], columns: Mapping[str, Tuple[str, float]]) -> Dict[str, float]:
    values: Dict[str, float] = {}
    for key, (name, factor) in columns.items():
        try:
            value = fitting(name, number(entry.get(key), factor))
        except Unreadable as error:
            raise Unreadable(f"{key}: {error}") from None
        if value is not None:
            values[name] = value
    return values


def _text(value: Any) -> Optional[str]:
    return name_of(value[:200]) if isinstance(value, str) else None
