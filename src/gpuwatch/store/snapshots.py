"""Snapshots: one door in (``append``, to the journal), many ways out (over blocks and journal). Never decodes a snapshot into dataclasses.

The time that orders snapshots is ``taken_at_ms``; who appends must have corrected it for the node's clock. Blocks never change once they
are written, so a reader notes which there are (and takes the journal's rows) in one transaction and unpacks them one by one later.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import AbstractSet, Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.store import packing, shapes
from gpuwatch.store.blocks import Entry, Near, unpack
from gpuwatch.store.blocks import nearest as nearest_in_block
from gpuwatch.store.database import Rows, Store
from gpuwatch.store.journal_rows import Example
from gpuwatch.store.memory import ShapeKey, Waiting

pack_due = packing.pack_due
shape = shapes.read

MAX_MS = 2**62
"""Times beyond are refused: no clock shows them."""

LOOK_BACK_SECONDS = packing.MAX_SPAN_MS / 1000
"""``nearest`` looks no further back: no block spans more."""
_OLDEST = (
    "SELECT start_ms FROM block WHERE machine_id = ? ORDER BY start_ms LIMIT 1",
    "SELECT taken_at_ms FROM snapshot_journal WHERE machine_id = ? ORDER BY taken_at_ms LIMIT 1",
)
_THINNED = """SELECT data FROM block WHERE machine_id = ? AND start_ms < ? AND end_ms >= ? AND start_ms >= ? AND step_seconds > 0
    ORDER BY start_ms DESC LIMIT 1"""
"""The block that took in another one while a reader was on its way to it."""

OnDamage = Optional[Callable[[StoreError], None]]


class JournalEntry(NamedTuple):
    """A snapshot as it came: times in ms since the epoch, ``texts`` its numbers as JSON writes them, as received and checked; never changed."""

    machine_id: str
    taken_at_ms: int
    received_at_ms: int
    shape_id: str
    texts: Sequence[str]
    varying: Optional[AbstractSet[int]] = None
    """The places in which it may differ from any earlier entry of this machine and shape with this very set. It may grow; None = not known."""


def append(store: Store, entries: Sequence[JournalEntry], docs: Mapping[ShapeKey, Mapping[str, Any]]) -> Set[str]:
    """Keep snapshots of many machines, in one transaction: durable when this returns. One that is there already is left as it is.

    ``docs`` holds the shapes by (machine id, shape id), at least those not stored yet. Returns machine ids that do not exist (any more):
    their snapshots were not kept; ask ``machines.ensure`` again. Raises StoreError when nothing could be kept, ValueError for a missing shape.
    """
    if any(not 0 <= at < MAX_MS for entry in entries for at in entry[1:3]):
        raise ValueError("a snapshot's time is out of range")
    if not entries:
        return set()
    with store.writing():
        packing.refresh_memory(store)
        unknown = _unknown_machines(store, {entry.machine_id for entry in entries})
        kept = [entry for entry in entries if entry.machine_id not in unknown]
        used = {(entry.machine_id, entry.shape_id): (entry.taken_at_ms, entry.texts) for entry in kept}
        examples = shapes.write_missing(store, used, docs)
        rows = [(*entry[:4], examples[entry.machine_id, entry.shape_id].row(entry.texts, entry.varying)) for entry in kept]
        added = store.change_many(
            """INSERT INTO snapshot_journal (machine_id, taken_at_ms, received_at_ms, shape_id, "values") VALUES (?, ?, ?, ?, ?)
               ON CONFLICT DO NOTHING""",
            rows,
        )
        store.when_committed(lambda: _remember(store, rows, added, examples))
    return unknown


def _unknown_machines(store: Store, machine_ids: Iterable[str]) -> Set[str]:
    waiting = store.memory.waiting
    return {id for id in machine_ids if id not in waiting and not store.rows("SELECT 1 FROM machine WHERE id = ?", (id,))}


def _remember(store: Store, rows: Rows, added: int, examples: Mapping[ShapeKey, Example]) -> None:
    memory = store.memory
    if added != len(rows):  # some were there already: count anew
        memory.epoch = None
    for machine_id, _, received_at_ms, shape_id, data in rows:
        waiting = memory.waiting.setdefault(machine_id, Waiting())
        waiting.count += 1
        waiting.size += len(data)
        waiting.newest_ms = max(waiting.newest_ms, received_at_ms)
        memory.example[machine_id] = (shape_id, examples[machine_id, shape_id])


def read(
    store: Store, machine_id: str, start_at: Optional[float] = None, end_at: Optional[float] = None, *, on_damage: OnDamage = None
) -> Iterator[Entry]:
    """A machine's snapshots with start_at <= taken_at <= end_at (epoch seconds; None = open), oldest first.

    As stored at the time of the call: nothing is missing or twice because of packing. Unpacks block by block: memory stays small.
    A damaged block raises StoreError naming machine and time range; with ``on_damage`` that is called instead and reading goes on.
    """
    start_ms = -MAX_MS if start_at is None else round(start_at * 1000)
    end_ms = MAX_MS if end_at is None else round(end_at * 1000)
    with store.reading():
        keys = _block_keys(store, machine_id, start_ms, end_ms)
        rows = _journal_rows(store, machine_id, start_ms, end_ms)[::-1]
    merged = _merged(store, machine_id, keys, rows, on_damage)
    return (entry for entry in merged if start_ms <= entry.taken_at_ms <= end_ms)


def newest(store: Store, machine_id: str, count: Optional[int], *, on_damage: OnDamage = None) -> Iterator[Entry]:
    """The newest ``count`` snapshots of a machine (None = all), oldest of them first; otherwise as ``read``."""
    if count is None:
        return read(store, machine_id, on_damage=on_damage)
    count = max(0, min(count, MAX_MS))
    with store.reading():
        rows = _journal_rows(store, machine_id, -MAX_MS, MAX_MS, count)[::-1]
        start_ms = _start_of_newest(store, machine_id, count, [row[0] for row in rows])
        keys = _block_keys(store, machine_id, start_ms, MAX_MS)
    rows = [row for row in rows if row[0] >= start_ms]
    known = len(rows) + sum(key[3] for key in keys if key[0] >= start_ms)
    for key in keys:
        if key[0] < start_ms:  # it overlaps later ones: a clock jumped, or machines were merged
            known += sum(entry.taken_at_ms >= start_ms for entry in _block(store, machine_id, key, on_damage))
    merged = (entry for entry in _merged(store, machine_id, keys, rows, on_damage) if entry.taken_at_ms >= start_ms)
    return islice(merged, max(0, known - count), None)


def _start_of_newest(store: Store, machine_id: str, count: int, waiting_ms: Sequence[int]) -> int:
    """A time from which on there are at least ``count`` snapshots, at best few more; ``waiting_ms``: times of those in the journal."""
    start_ms, packed = waiting_ms[-count] if 0 < count <= len(waiting_ms) else MAX_MS, 0
    while packed + sum(at_ms >= start_ms for at_ms in waiting_ms) < count:
        found = store.rows(
            "SELECT start_ms, sum(count) FROM block WHERE machine_id = ? AND start_ms < ? GROUP BY start_ms ORDER BY start_ms DESC LIMIT 1",
            (machine_id, start_ms),
        )
        if not found:
            return -MAX_MS
        start_ms = found[0][0]
        packed += found[0][1]
    return start_ms


def nearest(store: Store, machine_id: str, at: float, *, on_damage: OnDamage = None) -> Optional[Near]:
    """A machine's newest snapshot at or before ``at`` (epoch seconds) and at most LOOK_BACK_SECONDS older; None = there is none.

    Decodes one block at most (a second one only where blocks overlap: a clock jumped, or machines were merged). Damage as in ``read``.
    """
    at_ms = round(max(0.0, min(at * 1000, float(MAX_MS))))
    least_ms = at_ms - packing.MAX_SPAN_MS
    with store.reading():
        rows = _journal_rows(store, machine_id, least_ms, at_ms, 1)
        keys = _block_keys(store, machine_id, least_ms, at_ms)[::-1]
    found = next((Near(entry, 0) for entry in _entries(machine_id, rows, on_damage)), None)
    for key in keys:
        if found is None or min(key[2], at_ms) > found.entry.taken_at_ms:
            near = _nearest_in(store, machine_id, key, at_ms, on_damage)
            if near is not None and near.entry.taken_at_ms >= (found.entry.taken_at_ms if found else least_ms):
                found = near
    return found


def count_between(store: Store, machine_id: str, start_ms: int, end_ms: int) -> int:
    """How many snapshots of a machine there are from one time to another, in ms; whole blocks are counted. Costs no decoding."""
    ((packed,),) = store.rows(
        "SELECT coalesce(sum(count), 0) FROM block WHERE machine_id = ? AND start_ms BETWEEN ? AND ? AND end_ms >= ?",
        (machine_id, start_ms - packing.MAX_SPAN_MS, end_ms, start_ms),
    )
    sql = "SELECT count(*) FROM snapshot_journal WHERE machine_id = ? AND taken_at_ms BETWEEN ? AND ?"
    return int(packed) + int(store.rows(sql, (machine_id, start_ms, end_ms))[0][0])


def kept_from(store: Store, machine_id: Optional[str] = None) -> Optional[float]:
    """Epoch seconds of the oldest snapshot that is kept of a machine, or of all; None = nothing is."""
    ids = [row[0] for row in store.rows("SELECT id FROM machine")] if machine_id is None else [machine_id]
    found = [row[0] for id in ids for table in _OLDEST for row in store.rows(table, (id,))]
    return min(found) / 1000 if found else None


def last_before(store: Store, machine_id: str, at: float) -> Optional[float]:
    """Epoch seconds of the end of the last block of a machine that begins before ``at``; None = there is none. Costs no decoding."""
    sql = "SELECT end_ms FROM block WHERE machine_id = ? AND start_ms <= ? ORDER BY start_ms DESC LIMIT 1"
    found = store.rows(sql, (machine_id, round(at * 1000)))
    return min(found[0][0] / 1000, at) if found else None


def latest_of_all(store: Store) -> Dict[str, Entry]:
    """Each machine's newest snapshot, by machine id; for the start of a hub. A damaged one is left out."""
    latest: Dict[str, Entry] = {}
    with store.reading():
        for (machine_id,) in store.rows("SELECT id FROM machine"):
            for row in store.rows(f"{packing.JOURNAL_ROWS} WHERE j.machine_id = ? ORDER BY j.taken_at_ms DESC LIMIT 1", (machine_id,)):
                latest.update((machine_id, entry) for entry in _entries(machine_id, [row], lambda error: None))
            if machine_id not in latest:
                latest.update((machine_id, entry) for entry in newest(store, machine_id, 1, on_damage=lambda error: None))
    return latest


def _journal_rows(store: Store, machine_id: str, start_ms: int, end_ms: int, count: int = MAX_MS) -> Rows:
    """At most ``count`` rows, newest first."""
    where = "WHERE j.machine_id = ? AND j.taken_at_ms BETWEEN ? AND ? ORDER BY j.taken_at_ms DESC LIMIT ?"
    return store.rows(f"{packing.JOURNAL_ROWS} {where}", (machine_id, start_ms, end_ms, count))


def _block_keys(store: Store, machine_id: str, start_ms: int, end_ms: int) -> Rows:
    return store.rows(
        """SELECT start_ms, sequence, end_ms, count FROM block WHERE machine_id = ? AND start_ms BETWEEN ? AND ? AND end_ms >= ?
           ORDER BY start_ms, sequence""",
        (machine_id, start_ms - packing.MAX_SPAN_MS, end_ms, start_ms),
    )


def _merged(store: Store, machine_id: str, keys: Rows, rows: Rows, on_damage: OnDamage) -> Iterator[Entry]:
    """Journal and blocks as one stream by time. A block is unpacked when its turn comes; few ever overlap."""
    heap: List[Tuple[int, int, Entry, Iterator[Entry]]] = []

    def push(number: int, entries: Iterator[Entry]) -> None:
        for entry in islice(entries, 1):
            heapq.heappush(heap, (entry.taken_at_ms, number, entry, entries))

    push(0, _entries(machine_id, rows, on_damage))
    for number, key in enumerate((*keys, None), 1):
        while heap and (key is None or heap[0][0] < key[0]):
            _, place, entry, entries = heapq.heappop(heap)
            yield entry
            push(place, entries)
        if key is not None:
            push(number, _block(store, machine_id, key, on_damage))


def _block(store: Store, machine_id: str, key: Tuple[Any, ...], on_damage: OnDamage) -> Iterator[Entry]:
    start_ms, sequence, end_ms, _ = key
    try:
        rows = store.rows("SELECT data FROM block WHERE machine_id = ? AND start_ms = ? AND sequence = ?", (machine_id, start_ms, sequence))
        if not rows:
            rows = store.rows(_THINNED, (machine_id, start_ms, start_ms, start_ms - packing.MAX_SPAN_MS))
        for (data,) in rows:  # none: retention deleted it meanwhile
            entries = sorted(unpack(bytes(data)), key=lambda entry: entry.taken_at_ms)
            yield from (entry for entry in entries if start_ms <= entry.taken_at_ms <= end_ms)
    except StoreError as error:
        _damaged(f"snapshots of machine {machine_id} from {start_ms / 1000:.3f} to {end_ms / 1000:.3f}", error, on_damage)


def _nearest_in(store: Store, machine_id: str, key: Tuple[Any, ...], at_ms: int, on_damage: OnDamage) -> Optional[Near]:
    start_ms, sequence, end_ms, _ = key
    try:
        rows = store.rows("SELECT data FROM block WHERE machine_id = ? AND start_ms = ? AND sequence = ?", (machine_id, start_ms, sequence))
        return nearest_in_block(bytes(rows[0][0]), at_ms) if rows else None
    except StoreError as error:
        _damaged(f"snapshots of machine {machine_id} from {start_ms / 1000:.3f} to {end_ms / 1000:.3f}", error, on_damage)
        return None


def _entries(machine_id: str, rows: Rows, on_damage: OnDamage) -> Iterator[Entry]:
    for row in rows:
        try:
            yield packing.entry_of(*row)
        except StoreError as error:
            _damaged(f"snapshot of machine {machine_id} at {row[0] / 1000:.3f}", error, on_damage)


def _damaged(what: str, error: StoreError, on_damage: OnDamage) -> None:
    told = StoreError(f"The {what} (epoch seconds) cannot be read: {error.message}", error.next_step or "The others are unharmed.")
    if on_damage is None:
        raise told from None
    on_damage(told)


__all__ = ["Entry", "JournalEntry", "Near", "append", "count_between", "kept_from", "last_before", "latest_of_all", "nearest", "newest", "pack_due", "read", "shape"]
