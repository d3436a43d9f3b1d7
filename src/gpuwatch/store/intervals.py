"""Who was on which GPU when: one row for each process on each GPU without a gap. What a later block brings extends the rows of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from gpuwatch.model.series import ProcessInterval
from gpuwatch.store.database import Store
from gpuwatch.store.tables import IMPORTED_MACHINES, LIVE_MACHINES

_COLUMNS = (
    "gpu_uuid, pid, process_started_ms, user_name, name, command, start_ms, end_ms, peak_memory_bytes, memory_byte_seconds, memory_seconds"
)
_MOST_ROWS = 5000
"""Intervals of one block: more than any machine has. Those beyond are a hostile node's."""
_MOST_BYTES = 1e24
_BATCH = 500
_FORGET_BATCH = 1000
_INSERT = f"""INSERT INTO process_interval (machine_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (machine_id, gpu_uuid, start_ms, pid) DO UPDATE SET process_started_ms = excluded.process_started_ms,
    end_ms = excluded.end_ms, user_name = excluded.user_name, name = excluded.name, command = excluded.command,
    peak_memory_bytes = excluded.peak_memory_bytes, memory_byte_seconds = excluded.memory_byte_seconds,
    memory_seconds = excluded.memory_seconds"""
_EXTEND = """UPDATE process_interval SET end_ms = ?, peak_memory_bytes = ?, memory_byte_seconds = ?, memory_seconds = ?
    WHERE machine_id = ? AND gpu_uuid = ? AND start_ms = ? AND pid = ?"""
"""Most are longer than a block. It leaves the index over users alone."""
_DELETE = "DELETE FROM process_interval WHERE machine_id = ? AND gpu_uuid = ? AND start_ms = ? AND pid = ?"
Key = Tuple[Any, ...]


@dataclass(frozen=True)
class IntervalRow:
    """A stored interval and the machine it belongs to."""

    machine_id: str
    interval: ProcessInterval


def merge(store: Store, machine_id: str, intervals: Sequence[ProcessInterval], gap_seconds: float) -> None:
    """Inside ``writing()``: add a digest's intervals (ordered by start). One that begins, or ends, at most ``gap_seconds`` from a stored one
    of the same process on the same GPU becomes one with it.
    """
    new = [_sound(one) for one in intervals[:_MOST_ROWS]]
    if not new:
        return
    gap_ms = round(gap_seconds * 1000)
    known: Dict[Key, List[ProcessInterval]] = {}
    for old in _near(store, machine_id, new, gap_ms):
        known.setdefault(_identity(old), []).append(old)
    stored = {_key(machine_id, old) for row in known.values() for old in row}
    gone: Set[Key] = set()
    kept: Dict[Key, ProcessInterval] = {}
    for one in new:
        row = known.setdefault(_identity(one), [])
        for old in [other for other in row if _touch(other, one, gap_ms)]:
            row.remove(old)
            gone.add(_key(machine_id, old))
            kept.pop(_key(machine_id, old), None)
            one = _joined(old, one)
        row.append(one)
        kept[_key(machine_id, one)] = one
    _write(store, {key: one for key, one in kept.items() if key in stored}, {key: one for key, one in kept.items() if key not in stored}, gone - set(kept))


def _write(store: Store, longer: Mapping[Key, ProcessInterval], added: Mapping[Key, ProcessInterval], gone: Iterable[Key]) -> None:
    work = (
        (_DELETE, sorted(gone)),
        (_EXTEND, [(*_row_of(one)[-4:], *key) for key, one in longer.items()]),
        (_INSERT, [(key[0], *_row_of(one)) for key, one in added.items()]),
    )
    for statement, rows in work:
        if rows:
            store.change_many(statement, rows)


def _identity(interval: ProcessInterval) -> Key:
    return interval.gpu_uuid, interval.pid, _ms(interval.process_started_at)


def _key(machine_id: str, interval: ProcessInterval) -> Key:
    return machine_id, interval.gpu_uuid, round(interval.start_at * 1000), interval.pid


def _ms(seconds: Optional[float]) -> Optional[int]:
    return None if seconds is None else round(seconds * 1000)


def _sound(one: ProcessInterval) -> ProcessInterval:
    """Without a hostile node's endless numbers, which no database can add up."""
    peak = one.peak_memory_bytes
    if (peak is None or 0 <= peak < _MOST_BYTES) and 0 <= one.memory_byte_seconds < _MOST_BYTES and 0 <= one.memory_seconds < _MOST_BYTES:
        return one
    return replace(one, peak_memory_bytes=None, memory_byte_seconds=0.0, memory_seconds=0.0)


def _touch(one: ProcessInterval, other: ProcessInterval, gap_ms: int) -> bool:
    return max(one.start_at, other.start_at) * 1000 <= min(one.end_at, other.end_at) * 1000 + gap_ms


def _joined(old: ProcessInterval, new: ProcessInterval) -> ProcessInterval:
    """``old``, changed: it was made for this."""
    peaks = [peak for peak in (old.peak_memory_bytes, new.peak_memory_bytes) if peak is not None]
    old.start_at, old.end_at = min(old.start_at, new.start_at), max(old.end_at, new.end_at)
    old.peak_memory_bytes = max(peaks, default=None)
    old.memory_byte_seconds += new.memory_byte_seconds
    old.memory_seconds += new.memory_seconds
    return old


def _near(store: Store, machine_id: str, new: Sequence[ProcessInterval], gap_ms: int) -> List[ProcessInterval]:
    """Stored intervals of the same GPUs that reach into the time of the new ones, or nearly so."""
    low = round(min(one.start_at for one in new) * 1000) - gap_ms
    high = round(max(one.end_at for one in new) * 1000) + gap_ms
    uuids = sorted({one.gpu_uuid for one in new})
    found: List[ProcessInterval] = []
    for first in range(0, len(uuids), _BATCH):
        some = uuids[first : first + _BATCH]
        rows = store.rows(
            f"""SELECT {_COLUMNS} FROM process_interval
                WHERE machine_id = ? AND gpu_uuid IN ({", ".join("?" * len(some))}) AND end_ms >= ? AND start_ms <= ?""",
            (machine_id, *some, low, high),
        )
        found += map(_interval_of, rows)
    return found


def _row_of(one: ProcessInterval) -> Tuple[Any, ...]:
    """In the order of _COLUMNS."""
    return (
        one.gpu_uuid, one.pid, _ms(one.process_started_at), one.user, one.name, one.command, round(one.start_at * 1000),
        round(one.end_at * 1000), one.peak_memory_bytes, one.memory_byte_seconds, one.memory_seconds,
    )  # fmt: skip


def _interval_of(row: Sequence[Any]) -> ProcessInterval:
    uuid, pid, started_ms, user, name, command, start_ms, end_ms, *memory = row
    started_at = None if started_ms is None else started_ms / 1000
    return ProcessInterval(uuid, pid, started_at, user, name, command, start_ms / 1000, end_ms / 1000, *memory)


def read(
    store: Store,
    machine_id: Optional[str] = None,
    gpu_uuid: Optional[str] = None,
    user: Optional[str] = None,
    *,
    start_at: float,
    end_at: float,
    limit: int,
) -> List[IntervalRow]:
    """Intervals that reach into start_at <= t < end_at (epoch seconds), newest start first, at most ``limit``.

    Of all machines, GPUs and users, or of one. What is still in the journal is not in them. Raises StoreError.
    """
    wanted = {"machine_id": machine_id, "gpu_uuid": gpu_uuid, "user_name": user}
    given = {name: value for name, value in wanted.items() if value is not None}
    if machine_id is None and user is None:  # so that each machine's index is used
        where = f"machine_id IN ({LIVE_MACHINES}) AND "
    else:
        where = "" if machine_id is not None else f"machine_id NOT IN ({IMPORTED_MACHINES}) AND "
    where += "".join(f"{name} = ? AND " for name in given)
    if machine_id is not None and gpu_uuid is None and user is None:
        where += "gpu_uuid IN (SELECT DISTINCT gpu_uuid FROM process_interval WHERE machine_id = ?) AND "
        given["gpu_uuid"] = machine_id
    rows = store.rows(
        f"""SELECT machine_id, {_COLUMNS} FROM process_interval WHERE {where}end_ms >= ? AND start_ms < ?
            ORDER BY start_ms DESC, machine_id, gpu_uuid, pid LIMIT ?""",
        (*given.values(), round(start_at * 1000), round(end_at * 1000), max(0, limit)),
    )
    return [IntervalRow(machine, _interval_of(row)) for machine, *row in rows]


def gpus(store: Store, machine_id: str) -> List[str]:
    """UUIDs of the GPUs and slices that a machine has intervals of: a seek for each, whatever lies between."""
    found: List[str] = []
    rows = store.rows("SELECT min(gpu_uuid) FROM process_interval WHERE machine_id = ?", (machine_id,))
    while rows[0][0] is not None:
        found.append(rows[0][0])
        rows = store.rows("SELECT min(gpu_uuid) FROM process_interval WHERE machine_id = ? AND gpu_uuid > ?", (machine_id, found[-1]))
    return found


def next_change(store: Store, machine_id: str, gpu_uuids: Iterable[str], at_ms: int, *, later: bool) -> Optional[int]:
    """When the next interval on one of these GPUs begins or ends after ``at_ms``, or the last one before it, in ms; None = never. Two seeks a GPU."""
    first, sign = ("min", ">") if later else ("max", "<")
    found = []
    for uuid in gpu_uuids:
        for column in ("start_ms", "end_ms"):
            where = f"machine_id = ? AND gpu_uuid = ? AND {column} {sign} ?"
            found += store.rows(f"SELECT {first}({column}) FROM process_interval WHERE {where}", (machine_id, uuid, at_ms))
    times = [at for (at,) in found if at is not None]
    return (min(times) if later else max(times)) if times else None


def count_of(store: Store, machine_id: str) -> int:
    """How many intervals a machine has."""
    return int(store.rows("SELECT count(*) FROM process_interval WHERE machine_id = ?", (machine_id,))[0][0])


def pages(store: Store, machine_id: str) -> Iterator[List[ProcessInterval]]:
    """All intervals of a machine, GPU by GPU, by start, some hundreds at a time. What is still in the journal is not in them."""
    after: Tuple[Any, ...] = ("", -1, -1)
    while True:
        rows = store.rows(
            f"""SELECT {_COLUMNS} FROM process_interval WHERE machine_id = ? AND (gpu_uuid, start_ms, pid) > (?, ?, ?)
                ORDER BY gpu_uuid, start_ms, pid LIMIT ?""",
            (machine_id, *after, _BATCH),
        )
        if not rows:
            return
        page = [_interval_of(row) for row in rows]
        yield page
        after = _key(machine_id, page[-1])[1:]


def forget_user(store: Store, user: str) -> int:
    """Delete all intervals of a user, in small transactions; how many. Sums by day are not touched."""
    total = 0
    while True:
        with store.writing():
            keys = store.rows("SELECT machine_id, gpu_uuid, start_ms, pid FROM process_interval WHERE user_name = ? LIMIT ?", (user, _FORGET_BATCH))
            total += store.change_many(_DELETE, keys) if keys else 0
        if not keys:
            return total
        store.rest()


def move(store: Store, source: str, into: str, most: int) -> int:
    """Inside ``writing()``: make at most ``most`` intervals of machine ``source`` ones of ``into``; how many."""
    rows = store.rows(f"SELECT {_COLUMNS} FROM process_interval WHERE machine_id = ? LIMIT ?", (source, most))
    if rows:
        store.change_many(_DELETE, [_key(source, _interval_of(row)) for row in rows])
        store.change_many(_INSERT, [(into, *row) for row in rows])
    return len(rows)
