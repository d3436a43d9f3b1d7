"""Logs of ``nvidia-smi --query-gpu=... --format=csv[,noheader][,nounits]`` and ``--query-compute-apps``, of any fields. Pure.

A GPU is known by its UUID, else its PCI address, else its index. Heads may come again (logs that were appended to), with other fields too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, Iterable, Iterator, List, Optional, Pattern, Sequence, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import THROTTLE_ALARMS
from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in import nvidia_fields as known
from gpuwatch.wire.csv_in.cells import MAX_CELL, is_absent, metric, name_of, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable
from gpuwatch.wire.csv_in.text import cells_of, shown

NO_FIELDS = "The log has no line with the names of its columns."
NAME_FIELDS = "Name them in their order, as nvidia-smi was asked for them: --fields timestamp,index,utilization.gpu,..."
MOST_BEFORE_HEAD = 100
"""Lines that may stand before the head: messages of nvidia-smi or of a shell."""
_UNIT = re.compile(r"\s*\[[^\]]{0,10}\]$")
_PSTATE = re.compile(r"P([0-9]{1,2})", re.IGNORECASE)
_MASK = re.compile(r"0x[0-9a-f]{1,16}", re.IGNORECASE)

Number = Tuple[int, str, str, float]
"""Place of a column, its field, our field, and what one is worth without a unit."""


def field_of(cell: str) -> str:
    """The field that a head's cell names: ``utilization.gpu [%]`` is ``utilization.gpu``."""
    return _UNIT.sub("", cell.strip()[:200]).lower()


def rows(lines: Iterable[str], report: Report, clock: Clock, fields: Sequence[str] = ()) -> Iterator[ImportedRow]:
    """The rows of a log; ``fields`` names the columns of one without a head.

    Raises UsageError when nothing says which column is which, or none is the time.
    """
    columns = _Columns(fields, report) if fields else None
    for number, cells in cells_of(lines, report):
        if known.TIMESTAMP in cells:
            columns = _Columns(cells, report)
            continue
        if columns is None:
            if report.refused_count >= MOST_BEFORE_HEAD:
                break
            report.refuse(number, "stands before the line with the names of the columns")
            continue
        try:
            row = columns.row(cells, clock)
        except Unreadable as error:
            report.refuse(number, str(error))
            continue
        report.rows += 1
        yield row
    if columns is None and report.lines:
        raise UsageError(NO_FIELDS, NAME_FIELDS)


class _Columns:
    """Which column is what, for the lines below one head."""

    def __init__(self, head: Sequence[str], report: Report) -> None:
        fields = [field_of(cell) for cell in head]
        if known.TIMESTAMP not in fields:
            raise UsageError("No column is the timestamp, so nothing says when a line was read.", "Log it: --query-gpu=timestamp,...")
        self._count = len(fields)
        self._time = fields.index(known.TIMESTAMP)
        self._of_processes = any(field in fields for field in (*known.PIDS, *known.PROCESS_MEMORY))
        self._uuid, self._bus_id = _place(fields, known.UUIDS), _place(fields, known.BUS_IDS)
        self._index, self._host = _place(fields, known.INDEXES), _place(fields, known.HOSTS)
        self._name = _place(fields, known.NAMES[1:] if self._of_processes else known.NAMES)
        self._pid, self._process = _place(fields, known.PIDS), _place(fields, known.PROCESS_NAMES)
        self._memory = _place(fields, known.PROCESS_MEMORY)
        self._pstate, self._mask = _place(fields, (known.PSTATE,)), _place(fields, known.MASKS)
        self._reasons = _reasons(fields)
        self._numbers: List[Number] = [(fields.index(field), field, *ours) for field, ours in known.NUMBERS.items() if field in fields]
        self._tell(fields, report)

    def _tell(self, fields: Sequence[str], report: Report) -> None:
        if None is self._uuid is self._bus_id is self._index:
            report.note("No column says which GPU a line is of (uuid, pci.bus_id or index): all lines count as one GPU, index 0.")
        unused = [field for field in fields if field not in known.KNOWN]
        if unused:
            more = f" and {len(unused) - 12} more" if len(unused) > 12 else ""
            report.note(f"Columns that are not read: {', '.join(shown(field)[1:-1] for field in unused[:12])}{more}.")

    def row(self, cells: List[str], clock: Clock) -> ImportedRow:
        """What one line says. Raises Unreadable."""
        if len(cells) != self._count:
            raise Unreadable(f"has {len(cells)} columns, the head has {self._count}: {shown(cells[0])}")
        gpu = self._gpu(cells)
        at = clock.at(cells[self._time], gpu)
        machine = (name_of(cells[self._host]) or "") if self._host is not None else ""
        name = name_of(cells[self._name]) if self._name is not None else None
        if self._of_processes:
            return self._process_row(cells, at, machine, gpu, name)
        return ImportedRow(at, machine, gpu, name, self._values(cells))

    def _gpu(self, cells: Sequence[str]) -> str:
        for place in (self._uuid, self._bus_id):
            found = name_of(cells[place]) if place is not None else None
            if found:
                return found
        return _indexed(cells[self._index]) if self._index is not None else "index 0"

    def _values(self, cells: Sequence[str]) -> Dict[str, float]:
        values: Dict[str, float] = {}
        field = ""
        try:
            for place, field, ours, factor in self._numbers:  # noqa: B007 (the message names it)
                value = metric(cells[place], ours, factor)
                if value is not None and ours not in values:
                    values[ours] = value
            field = known.PSTATE
            if self._pstate is not None:
                _set(values, "performance_state", _number_of(_PSTATE, cells[self._pstate]))
            field = "clocks_event_reasons"
            if self._mask is not None:
                _set(values, "throttle_mask", _number_of(_MASK, cells[self._mask]))
            elif self._reasons:
                _set(values, "throttle_mask", _bits(self._reasons, cells))
        except Unreadable as error:
            raise Unreadable(f"{field}: {error}") from None
        return values

    def _process_row(self, cells: Sequence[str], at: float, machine: str, gpu: str, name: Optional[str]) -> ImportedRow:
        values: Dict[str, float] = {}
        if self._memory is not None:
            _set(values, "gpu_memory_bytes", metric(cells[self._memory], "gpu_memory_bytes", MIB))
        pid = whole(cells[self._pid]) if self._pid is not None else None
        process = name_of(cells[self._process]) if self._process is not None else None
        return ImportedRow(at, machine, gpu, name, values, None, pid, process)


def _set(values: Dict[str, float], name: str, value: Optional[float]) -> None:
    if value is not None:
        values[name] = value


def _place(fields: Sequence[str], names: Sequence[str]) -> Optional[int]:
    return next((fields.index(name) for name in names if name in fields), None)


@lru_cache(maxsize=1024)
def _indexed(cell: str) -> str:
    index = whole(cell[:MAX_CELL])
    if index is None:
        raise Unreadable("the index of the GPU is not there")
    return f"index {index}"


@lru_cache(maxsize=1024)
def _read(pattern: Pattern[str], cell: str) -> Optional[float]:
    if is_absent(cell):
        return None
    if not pattern.fullmatch(cell):
        raise Unreadable(f"{shown(cell)} is not understood")
    return float(int(cell, 16)) if pattern is _MASK else float(cell[1:])


def _number_of(pattern: Pattern[str], cell: str) -> Optional[float]:
    return _read(pattern, cell[:MAX_CELL])


def _reasons(fields: Sequence[str]) -> List[Tuple[int, int]]:
    """(place, bit) of the columns that say one reason each; none unless all that alarm are there, for the others would count as absent."""
    found = [
        (fields.index(prefix + reason), bit) for prefix in known.REASON_PREFIXES for reason, bit in known.REASONS.items() if prefix + reason in fields
    ]
    return found if THROTTLE_ALARMS & ~sum({bit for _, bit in found}) == 0 else []


def _bits(reasons: Sequence[Tuple[int, int]], cells: Sequence[str]) -> Optional[float]:
    words = [(cells[place].lower(), bit) for place, bit in reasons]
    if any(word not in ("active", "not active") for word, _ in words):
        return None  # N/A, or a driver that does not tell
    return float(sum(bit for word, bit in words if word == "active"))
