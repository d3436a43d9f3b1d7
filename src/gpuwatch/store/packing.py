"""From the journal to blocks. Reads the journal on disk, packs outside any transaction, and swaps rows for a block in one transaction.

Each machine's newest snapshot stays in the journal, so that a hub that starts finds it without unpacking a block.
"""

from __future__ import annotations

import logging
import zlib
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple

from gpuwatch.model.errors import StoreError, WireError
from gpuwatch.model.snapshot import SCHEMA
from gpuwatch.store import digests, shapes
from gpuwatch.store.blocks import CODEC, Entry, Run, pack_runs
from gpuwatch.store.database import Rows, Store
from gpuwatch.store.digests import Digester
from gpuwatch.store.journal_rows import cut, entries_of, heads_of, runs_of
from gpuwatch.store.memory import JournalMemory, Waiting
from gpuwatch.wire.numbers import Numbers

SILENT_SECONDS = 3600.0
"""A machine that sent nothing for so long is packed as it is."""
REST_SECONDS = 60.0
"""A machine that could not be packed is tried again after so long."""
MAX_BLOCK_BYTES = 2 * 1024**2
"""Compressed journal rows of one block. Usual machines have a tenth of it."""
MAX_SPAN_MS = 6 * 3_600_000
"""No block spans more: readers need not look further back for blocks that reach into their range."""

JOURNAL_ROWS = """SELECT j.taken_at_ms, j.received_at_ms, j.shape_id, j."values", shape.example FROM snapshot_journal j
    LEFT JOIN shape ON shape.machine_id = j.machine_id AND shape.id = j.shape_id"""
"""What ``entry_of`` takes; the WHERE is to follow."""

_log = logging.getLogger(__name__)


def target_count(machine_id: str, per_block: int, *, first: bool = False) -> int:
    """Snapshots per block for this machine: 50 % to 150 % of ``per_block`` by its id, so that not all machines are due at once.

    ``first``: 25 % to 100 % of that, so that machines that all began to report at once spread soon, and the journal never holds the
    most of all of them.
    """
    bits = zlib.crc32(machine_id.encode())
    count = per_block * (0.5 + (bits >> 16) / 2**16)
    return max(2, round(count * (0.25 + 0.75 * (bits & 0xFFFF) / 2**16) if first else count))


def pack_due(
    store: Store,
    now: float,
    at_most: int,
    per_block: int = 120,
    digester: Optional[Digester] = None,
    mine: Callable[[str], bool] = lambda machine_id: True,
) -> int:
    """Pack up to ``at_most`` blocks of machines that have enough snapshots waiting; how many were packed. Call it again and again.

    ``per_block``: the same at each call; ``digester``: see ``pack_machine``; ``mine``: which machines are this hub's to pack.
    Raises StoreError when the database refuses for some machine, after trying the others; what waits then waits on.
    """
    if store.memory.epoch is None:
        with store.writing():
            refresh_memory(store)
    packed = 0
    failures: List[StoreError] = []
    for machine_id, waiting in _due(store.memory, now, per_block):
        if packed + len(failures) >= at_most:
            break
        if mine(machine_id):
            try:
                packed += pack_machine(store, machine_id, waiting.enough, digester=digester)
            except StoreError as error:
                waiting.rest_until_ms = (now + REST_SECONDS) * 1000
                failures.append(error)
    if failures:
        raise failures[0]
    return packed


def _due(memory: JournalMemory, now: float, per_block: int) -> List[Tuple[str, Waiting]]:
    """Who has enough waiting, or is silent. A thousand machines are asked each second: only those that may be due are looked at twice."""
    silent_ms = (now - SILENT_SECONDS) * 1000
    near = [item for item in memory.waiting.items() if item[1].count > item[1].enough or item[1].newest_ms < silent_ms or item[1].size > MAX_BLOCK_BYTES]
    return [(machine_id, waiting) for machine_id, waiting in near if _is_due(machine_id, waiting, now, per_block)]


def _is_due(machine_id: str, waiting: Waiting, now: float, per_block: int) -> bool:
    if waiting.count < 2 or 0 < waiting.rest_until_ms - now * 1000 <= REST_SECONDS * 1000:  # the clock may have been set back
        return False
    waiting.enough = target_count(machine_id, per_block, first=not waiting.packed)
    return waiting.count > waiting.enough or waiting.size > MAX_BLOCK_BYTES or now * 1000 - waiting.newest_ms > SILENT_SECONDS * 1000


def pack_machine(store: Store, machine_id: str, count: int, *, keep_newest: bool = True, digester: Optional[Digester] = None) -> int:
    """Pack the oldest waiting snapshots, at most ``count``, into one block; 1, or 0 when there are none or another one was faster.

    With a ``digester`` what follows from them is added to rollups, usage and intervals in the same transaction; without one, ``backfill``
    does that later.
    """
    waiting = store.rows(f"{JOURNAL_ROWS} WHERE j.machine_id = ? ORDER BY j.taken_at_ms LIMIT ?", (machine_id, count + 1))
    rows = _fitting(waiting[:-1] if keep_newest or len(waiting) > count else waiting)
    if not rows:
        store.memory.epoch = None
        return 0
    runs = _readable(machine_id, rows)
    columns = runs[0].columns if len(runs) == 1 else None  # the digest takes them as they are
    entries = entries_of(runs) if columns is None else heads_of(runs)
    data = pack_runs(runs) if entries else b""
    ends_ms = waiting[len(rows)][0] if len(rows) < len(waiting) else None
    following = entries_of(_readable(machine_id, waiting[len(rows) : len(rows) + 1], quiet=True)) if digester else []
    derived = digester.derive(store, machine_id, entries, ends_ms, following[0] if following else None, columns) if digester and entries else None
    try:
        with store.writing():
            _swap(store, machine_id, rows, entries, data, digester is not None)
            store.when_committed(lambda: _forget_waiting(store, machine_id, rows, {row[2] for row in waiting[len(rows) :]}))
            if derived is not None:
                digests.add(store, machine_id, derived)
    except _Overtaken:
        return 0
    if derived is not None:
        digests.settle(store, machine_id)
    return 1


class _Overtaken(Exception):
    """Another packer, or someone who deleted the machine, was faster."""


def _swap(store: Store, machine_id: str, rows: Rows, entries: List[Entry], data: bytes, digested: bool) -> None:
    refresh_memory(store)
    deleted = store.change_many(
        "DELETE FROM snapshot_journal WHERE machine_id = ? AND taken_at_ms = ?", [(machine_id, row[0]) for row in rows]
    )
    if deleted != len(rows):
        raise _Overtaken
    if entries:
        insert_block(store, machine_id, entries, data, digested=digested)
    shapes.drop_examples(store, machine_id, {row[2] for row in rows})


def _fitting(rows: Rows) -> Rows:
    """The first rows, at least one, that fit into one block."""
    size = 0
    for place, row in enumerate(rows):
        size += len(row[3])
        if place and (size > MAX_BLOCK_BYTES or row[0] - rows[0][0] > MAX_SPAN_MS):
            return rows[:place]
    return rows


def entry_of(
    taken_at_ms: int, received_at_ms: int, shape_id: str, data: bytes, example: Optional[bytes], *, numbers: Optional[Numbers] = None
) -> Entry:
    """A row of JOURNAL_ROWS as an Entry; ``numbers`` of many rows are read faster together. Raises StoreError for a damaged one."""
    try:
        values = (Numbers() if numbers is None else numbers).of(cut(taken_at_ms, received_at_ms, shape_id, data, example).texts)
    except WireError:
        raise StoreError("The row is damaged: its values are not a JSON list of numbers.") from None
    return Entry(taken_at_ms, received_at_ms, shape_id, values)


def _readable(machine_id: str, rows: Rows, *, quiet: bool = False) -> List[Run]:
    """The rows that can be read: a damaged one must not keep the others from being packed for ever. ``quiet``: they are not packed yet."""
    try:
        return runs_of([cut(*row) for row in rows])
    except (StoreError, WireError):
        return runs_of([cut(*row) for row in rows if _is_readable(machine_id, row, quiet)])


def _is_readable(machine_id: str, row: Tuple[Any, ...], quiet: bool) -> bool:
    try:
        entry_of(*row)
    except StoreError as error:
        if not quiet:
            _log.warning("snapshot of machine %s at %.3f is lost: %s", machine_id, row[0] / 1000, error)
        return False
    return True


def insert_block(store: Store, machine_id: str, entries: List[Entry], data: bytes, *, digested: bool = False) -> None:
    """Inside ``writing()``: a block of ``entries`` (sorted by time), packed as ``data``. Not ``digested``: ``backfill`` will do it."""
    last_ms: Dict[str, int] = {entry.shape_id: entry.taken_at_ms for entry in entries}
    shapes.needed_until(store, machine_id, last_ms)
    start_ms = entries[0].taken_at_ms
    store.change(
        """INSERT INTO block (machine_id, start_ms, sequence, end_ms, count, codec, schema, size, data, digested)
           SELECT ?, ?, coalesce(max(sequence) + 1, 0), ?, ?, ?, ?, ?, ?, ? FROM block WHERE machine_id = ? AND start_ms = ?""",
        (machine_id, start_ms, entries[-1].taken_at_ms, len(entries), CODEC, SCHEMA, len(data), data, int(digested), machine_id, start_ms),
    )


def _forget_waiting(store: Store, machine_id: str, rows: Rows, shapes_left: Set[str]) -> None:
    waiting = store.memory.waiting.get(machine_id)
    if waiting is not None:
        waiting.packed = True
        waiting.count -= len(rows)
        waiting.size -= sum(len(row[3]) for row in rows)
    shape_id, example = store.memory.example.get(machine_id, ("", None))
    if example is None or shape_id not in shapes_left:
        store.memory.example.pop(machine_id, None)  # it may be dropped
    else:
        example.packed()


def refresh_memory(store: Store) -> None:
    """Inside ``writing()``: build the memory, at the start and after another process moved or deleted what it holds."""
    ((epoch,),) = store.rows("SELECT value FROM meta WHERE key = 'journal_epoch'")
    memory = store.memory
    if memory.epoch == epoch:
        return
    memory.waiting = {id: Waiting() for (id,) in store.rows("SELECT id FROM machine")}
    _adopt(memory, _counted(store))
    memory.example.clear()
    memory.epoch = epoch


def recount(store: Store) -> None:
    """Count anew what waits, where others than this process store snapshots too. Raises StoreError."""
    with store.writing():
        refresh_memory(store)
        counted = _counted(store)
        store.when_committed(lambda: _adopt(store.memory, counted))


def _adopt(memory: JournalMemory, counted: Mapping[str, Tuple[int, int, int]]) -> None:
    for machine_id in {*memory.waiting, *counted}:
        waiting = memory.waiting.setdefault(machine_id, Waiting())
        waiting.count, waiting.size, waiting.newest_ms = counted.get(machine_id, (0, 0, 0))


def _counted(store: Store) -> Dict[str, Tuple[int, int, int]]:
    """By machine: snapshots in the journal, their bytes, when the newest came (ms)."""
    sql = 'SELECT machine_id, count(*), sum(length("values")), max(received_at_ms) FROM snapshot_journal GROUP BY machine_id'
    return {machine_id: (count, size, newest_ms) for machine_id, count, size, newest_ms in store.rows(sql)}


def start_epoch(store: Store) -> None:
    """Inside ``writing()``: tell all writers, in this process and others, that journal rows, shapes or machines were moved or deleted."""
    store.change("UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'journal_epoch'")
