"""What the database holds, as rows for a file: read in small pieces, so that any span takes the same memory. Never writes.

Rows have the columns of ``render.csv_export``. Of all machines together, those that were imported are left out.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from itertools import islice
from math import isfinite
from operator import attrgetter
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import GpuwatchError, StoreError
from gpuwatch.model.series import GpuDay, UserDay
from gpuwatch.model.snapshot import GpuReading, Snapshot, throttle_reasons
from gpuwatch.query.subjects import Names
from gpuwatch.render import words
from gpuwatch.render.as_csv import NUMBERS
from gpuwatch.render.csv_export import HOST_NUMBERS
from gpuwatch.store import events, intervals, machines, snapshots, usage
from gpuwatch.store.blocks import Entry
from gpuwatch.store.database import Store
from gpuwatch.store.machines import MachineRow
from gpuwatch.store.tables import IMPORTED
from gpuwatch.wire.flat import Shape

OnDamage = Callable[[StoreError], None]
Cells = Tuple[Any, ...]
_BATCH = 200
"""Snapshots of one piece."""
_MOST_SHAPES = 64
"""Kept parsed, of one machine."""
_MOST_MS = snapshots.MAX_MS - 1
_gpu_numbers = attrgetter(*NUMBERS)
_host_numbers = attrgetter(*HOST_NUMBERS)


class Piece(NamedTuple):
    """Some rows, and how much of ``Export.work`` they took."""

    work: int
    rows: List[Cells]


class Export(NamedTuple):
    """What is to be written. ``work``: snapshots, rows or days in all, as far as that is known before."""

    work: int
    pieces: Iterator[Piece]


class Span(NamedTuple):
    """start_at <= t < end_at, epoch seconds; None = open. ``zone``: of days, and of times in words."""

    start_at: Optional[float]
    end_at: Optional[float]
    zone: tzinfo
    zone_name: str

    @property
    def start_ms(self) -> int:
        """0 where it is open."""
        return 0 if self.start_at is None else round(self.start_at * 1000)

    @property
    def end_ms(self) -> int:
        """Beyond every time where it is open."""
        return _MOST_MS if self.end_at is None else round(self.end_at * 1000)


def chosen(store: Store, host: str) -> List[MachineRow]:
    """The machine of that name, or all that were not imported. Raises UsageError."""
    return [machines.find(store, host)] if host else [one for one in machines.list_all(store) if not one.name.startswith(IMPORTED)]


def snapshot_rows(store: Store, found: Sequence[MachineRow], span: Span, on_damage: OnDamage) -> Export:
    """Every snapshot, host by host, oldest first: a row for each GPU; one for a host without GPUs. ``on_damage`` gets what cannot be read."""
    work = sum(snapshots.count_between(store, one.id, span.start_ms, span.end_ms) for one in found)
    return Export(work, (piece for one in found for piece in _of_machine(store, one, span, on_damage)))


def _of_machine(store: Store, machine: MachineRow, span: Span, on_damage: OnDamage) -> Iterator[Piece]:
    entries = snapshots.read(store, machine.id, span.start_ms / 1000, (span.end_ms - 1) / 1000, on_damage=on_damage)
    shapes: Dict[str, Optional[Shape]] = {}
    while True:
        some = list(islice(entries, _BATCH))
        if not some:
            return
        rows: List[Cells] = []
        for entry in some:
            if entry.shape_id not in shapes:
                if len(shapes) >= _MOST_SHAPES:
                    shapes.clear()
                shapes[entry.shape_id] = _shape(store, machine, entry, on_damage)
            rows += _rows_of(machine.name, entry, shapes[entry.shape_id], span.zone_name)
        yield Piece(len(some), rows)


def _shape(store: Store, machine: MachineRow, entry: Entry, on_damage: OnDamage) -> Optional[Shape]:
    try:
        return Shape.parse(snapshots.shape(store, machine.id, entry.shape_id))
    except GpuwatchError as error:
        on_damage(StoreError(f"Snapshots of {machine.name} like that of {entry.taken_at_ms / 1000:.3f} (epoch seconds) are left out: {error.message}"))
        return None


def _rows_of(host: str, entry: Entry, shape: Optional[Shape], zone: str) -> Iterator[Cells]:
    if shape is None or len(entry.values) != shape.count:
        return
    snapshot: Snapshot = shape.build([value if value is None or isfinite(value) else None for value in entry.values])
    taken_at = entry.taken_at_ms / 1000
    head = (host, taken_at, words.iso(taken_at, zone), entry.received_at_ms / 1000)
    whole = _host_numbers(snapshot.host) if snapshot.host is not None else (None,) * len(HOST_NUMBERS)
    for gpu in snapshot.gpus:
        yield (*head, *_gpu_cells(gpu), *_gpu_numbers(gpu), *whole)
    if not snapshot.gpus:
        yield (*head, *(None,) * (7 + len(NUMBERS)), *whole)


def _gpu_cells(gpu: GpuReading) -> Cells:
    users = dict.fromkeys(one.user for one in gpu.processes if one.user)
    counted = None if gpu.error else len(gpu.processes)
    return gpu.index, gpu.uuid, gpu.name, ";".join(throttle_reasons(gpu.throttle_mask)), " ".join(users), counted, gpu.error


def process_rows(store: Store, found: Sequence[MachineRow], span: Span, names: Names) -> Export:
    """Every interval of a process that reaches into the span: host by host, GPU by GPU, by start."""
    work = sum(intervals.count_of(store, one.id) for one in found)
    return Export(work, (piece for one in found for piece in _processes(store, one, span, names)))


def _processes(store: Store, machine: MachineRow, span: Span, names: Names) -> Iterator[Piece]:
    for page in intervals.pages(store, machine.id):
        rows = [
            (
                machine.name, names.gpu(machine.id, one.gpu_uuid).number, one.gpu_uuid, one.user, one.pid, one.start_at, words.iso(one.start_at, span.zone_name),
                one.end_at, words.iso(one.end_at, span.zone_name), one.peak_memory_bytes, one.mean_memory_bytes, one.name, one.command,
            )
            for one in page
            if one.end_at * 1000 >= span.start_ms and one.start_at * 1000 < span.end_ms
        ]  # fmt: skip
        yield Piece(len(page), rows)


def event_rows(store: Store, machine: Optional[MachineRow], span: Span) -> Export:
    """Every event, in the order in which they were noted; of one machine, or of all that were not imported."""
    machine_id = machine.id if machine else None
    found = (
        Piece(
            len(page),
            [(one.at, words.iso(one.at, span.zone_name), one.host, one.gpu_uuid, one.kind, one.message) for one in page],
        )
        for page in events.pages(store, span.start_ms, span.end_ms, machine_id)
    )
    return Export(events.count_between(store, span.start_ms, span.end_ms, machine_id), found)


def usage_rows(store: Store, found: Sequence[MachineRow], span: Span, names: Names) -> Export:
    """Sums of every day of the span, host by host: a row for each GPU, and one for each of its users."""
    first, last = _day(span.start_at, span.zone, "0000-01-01"), _day(None if span.end_at is None else span.end_at - 0.001, span.zone, "9999-12-31")
    days = [(one, usage.days(store, one.id, first, last)) for one in found]
    work = sum(len(of_machine) for _, of_machine in days)
    return Export(work, (Piece(1, _usage(store, one, day, names)) for one, of_machine in days for day in of_machine))


def _day(at: Optional[float], zone: tzinfo, otherwise: str) -> str:
    return otherwise if at is None else datetime.fromtimestamp(max(0.0, at), zone).date().isoformat()


def _usage(store: Store, machine: MachineRow, day: str, names: Names) -> List[Cells]:
    rows = [_usage_row("gpu", machine, day, names, row.gpu_uuid, None, row.sums) for row in usage.gpu_days(store, day, day, [machine.id])]
    return rows + [_usage_row("user", machine, day, names, row.gpu_uuid, row.user_name, row.sums) for row in usage.user_days(store, day, day, [machine.id])]


def _usage_row(by: str, machine: MachineRow, day: str, names: Names, uuid: str, user: Optional[str], sums: Any) -> Cells:
    known = names.gpu(machine.id, uuid)
    of_gpu = isinstance(sums, GpuDay)
    assert of_gpu or isinstance(sums, UserDay)
    held = [seconds / 3600 for seconds in (sums.held_seconds, sums.busy_seconds, sums.idle_seconds, sums.unknown_seconds)]
    more = [sums.unattributed_seconds / 3600, sums.measured_seconds / 3600] if of_gpu else [None, None]
    return (day, by, machine.name, known.number, uuid, known.model, user, *held, *more, sums.memory_gib_hours, sums.energy_joules)
