"""Retention, checks and figures of the database. Works in small steps, so that the hub's appends never wait long."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, count
from typing import Callable, List, Optional, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.store import packing, shapes, verifying
from gpuwatch.store.database import Rows, Store
from gpuwatch.store.shedding import shed_rollups
from gpuwatch.store.snapshots import MAX_MS

_BATCH = 100
LAST_SECONDS = 86400.0
"""Snapshots of the last day go last of all."""
EVENT_SECONDS = 400 * 86400.0
"""Events are few and kept for over a year, whatever the retention of snapshots."""
_MOST_EVENTS = 20_000
_MOST_STATES = 4096
"""Of one machine: a hostile node makes up events and GPUs at each poll."""
_SHAPES_SHARE = 10
"""The shapes of one machine may take a tenth of the database."""
_BATCHES_A_TURN = 25
_BLOCKS = "SELECT machine_id, start_ms, sequence, count, size FROM block"


@dataclass(frozen=True)
class PruneResult:
    """What retention deleted."""

    blocks: int = 0
    snapshots: int = 0
    bytes: int = 0
    shapes: int = 0
    events: int = 0
    rollups: int = 0
    """Chunks of fine rollups, for the size alone."""


@dataclass(frozen=True)
class StoreInfo:
    """Figures of the database; sizes in bytes, times in epoch seconds (None: nothing stored)."""

    path: str
    file_bytes: int
    wal_bytes: int
    free_bytes: int
    machines: int
    shapes: int
    events: int
    blocks: int
    block_snapshots: int
    block_bytes: int
    journal_snapshots: int
    journal_bytes: int
    oldest_at: Optional[float]
    newest_at: Optional[float]


def prune(
    store: Store, now: float, retention_seconds: float, max_bytes: int, *, progress: Callable[[int], None] = lambda done: None
) -> PruneResult:
    """Delete snapshots older than ``retention_seconds``; then, until the database's content is at most ``max_bytes``, the oldest snapshots, but not
    those of the last day, then fine rollups (``shedding``), then the snapshots of the last day too.

    ``progress`` is told of blocks deleted.
    """
    cutoff_ms = round((now - retention_seconds) * 1000)
    block_cutoff_ms = store.cutoff_ms("block", cutoff_ms)
    dropped = store.drop_before("block", cutoff_ms)
    progress(dropped.rows)
    deleted, gone = _delete_of_greedy(store, max_bytes // _SHAPES_SHARE)
    shed = 0
    for least_ms in (round((now - LAST_SECONDS) * 1000), MAX_MS):
        more, unused = _delete_blocks_to_fit(store, block_cutoff_ms, least_ms, max_bytes, progress)
        deleted, gone = deleted + more, gone + unused
        shed += shed_rollups(store, now, max_bytes)
        if store.used_bytes() <= max_bytes:
            break
    journal = _delete_old_journal(store, cutoff_ms)
    with store.writing():
        events = store.change("DELETE FROM event WHERE at_ms < ?", (round((now - EVENT_SECONDS) * 1000),)) + _delete_floods(store)
    gone += _delete_unused_shapes(store) if deleted or journal or dropped.rows else 0
    store.shrink(max_bytes)
    snapshots = journal + dropped.snapshots + sum(block[3] for block in deleted)
    return PruneResult(len(deleted) + dropped.rows, snapshots, dropped.bytes + sum(block[4] for block in deleted), gone, events, shed)


def _delete_blocks_to_fit(
    store: Store, cutoff_ms: int, least_ms: int, max_bytes: int, progress: Callable[[int], None]
) -> Tuple[Rows, int]:
    """Blocks that are old, and the oldest that end before ``least_ms`` while the content is too large; and how many shapes nobody needs any more."""
    deleted: Rows = []
    gone = 0
    for turn in count(1):
        too_large = store.used_bytes() > max_bytes
        batch = _delete_oldest_blocks(store, max(cutoff_ms, least_ms) if too_large else cutoff_ms, few=too_large)
        deleted += batch
        progress(len(batch))
        if not batch:
            break
        if too_large and turn % _BATCHES_A_TURN == 0:
            gone += _delete_unused_shapes(store)  # they take space too, which need not be made by deleting more blocks
        store.rest()
    return deleted, gone


def old_blocks(store: Store, now: float, retention_seconds: float) -> int:
    """How many blocks ``prune`` will delete for their age. Raises StoreError."""
    cutoff_ms = store.cutoff_ms("block", round((now - retention_seconds) * 1000))
    count: int = store.rows("SELECT count(*) FROM block WHERE end_ms < ?", (cutoff_ms,))[0][0]
    return count


def blocks_to_thin(store: Store, now: float, raw_seconds: float) -> int:
    """How many blocks are kept at full rate although they are older. Raises StoreError."""
    before_ms = round((now - raw_seconds) * 1000)
    count: int = store.rows("SELECT count(*) FROM block WHERE step_seconds = 0 AND end_ms < ?", (before_ms,))[0][0]
    return count


def _delete_of_greedy(store: Store, most_bytes: int) -> Tuple[Rows, int]:
    """Blocks (as ``_delete_oldest_blocks`` tells them) and shapes of machines whose shapes take more than ``most_bytes``.

    Facts are small and much alike. A node that sends new ones at each poll pays with its own history, not with that of all others.
    """
    deleted: Rows = []
    shapes_gone = 0
    greedy = store.rows("SELECT machine_id FROM shape GROUP BY machine_id HAVING sum(length(doc)) > ?", (most_bytes,))
    for (machine_id,) in greedy:
        sizes = store.rows("SELECT last_ms, length(doc) FROM shape WHERE machine_id = ? ORDER BY last_ms DESC", (machine_id,))
        totals = accumulate(size for _, size in sizes)
        cut_ms = next((last_ms for (last_ms, _), total in zip(sizes, totals) if total > most_bytes // 2), 0)
        while True:
            with store.writing():
                batch = store.rows(f"{_BLOCKS} WHERE machine_id = ? AND start_ms <= ? LIMIT ?", (machine_id, cut_ms, _BATCH))
                _delete_blocks(store, batch)
            deleted += batch
            if not batch:
                break
            store.rest()
        with store.writing():
            shapes_gone += shapes.delete_unused(store, machine_id)
            packing.start_epoch(store)
    return deleted, shapes_gone


def _delete_floods(store: Store) -> int:
    """Inside ``writing()``: all but the newest events of a machine with very many, and states of one with more GPUs than there can be."""
    store.change("DELETE FROM gpu_state WHERE machine_id IN (SELECT machine_id FROM gpu_state GROUP BY machine_id HAVING count(*) > ?)", (_MOST_STATES,))
    many = store.rows("SELECT machine_id FROM event GROUP BY machine_id HAVING count(*) > ?", (_MOST_EVENTS,))
    return store.change_many(
        "DELETE FROM event WHERE machine_id = ? AND id NOT IN (SELECT id FROM event WHERE machine_id = ? ORDER BY id DESC LIMIT ?)",
        [(machine_id, machine_id, _MOST_EVENTS) for (machine_id,) in many],
    ) if many else 0


def _delete_oldest_blocks(store: Store, before_ms: int, *, few: bool) -> Rows:
    """Delete up to a batch of blocks that end before ``before_ms``, the oldest first: what ``_BLOCKS`` tells of each."""
    with store.writing():
        rows = store.rows(f"{_BLOCKS} WHERE end_ms < ? ORDER BY end_ms LIMIT ?", (before_ms, _BATCH // 5 if few else _BATCH))
        _delete_blocks(store, rows)
    return rows


def _delete_blocks(store: Store, rows: Rows) -> None:
    if rows:
        store.change_many("DELETE FROM block WHERE machine_id = ? AND start_ms = ? AND sequence = ?", [row[:3] for row in rows])


def _delete_old_journal(store: Store, cutoff_ms: int) -> int:
    """Delete what waits longer than retention: of machines that are gone for so long."""
    total = 0
    for (machine_id,) in store.rows("SELECT id FROM machine"):
        oldest = store.rows("SELECT min(taken_at_ms) FROM snapshot_journal WHERE machine_id = ?", (machine_id,))[0][0]
        if oldest is not None and oldest < cutoff_ms:
            with store.writing():
                total += store.change("DELETE FROM snapshot_journal WHERE machine_id = ? AND taken_at_ms < ?", (machine_id, cutoff_ms))
                packing.start_epoch(store)
    return total


def _delete_unused_shapes(store: Store) -> int:
    total = 0
    for (machine_id,) in store.rows("SELECT id FROM machine"):
        with store.writing():
            count = shapes.delete_unused(store, machine_id)
            if count:
                packing.start_epoch(store)
        total += count
    return total


def check(store: Store, *, thorough: bool = False, progress: Callable[[int], None] = lambda done: None) -> List[str]:
    """What is wrong with the database, in words; empty = nothing found. ``thorough``: also indexes, and reads all that is kept.

    ``progress`` is told of blocks done.
    """
    try:
        return store.problems(thorough=thorough) + (list(verifying.damage(store, progress)) if thorough else [])
    except StoreError as error:
        return [str(error)]


def info(store: Store) -> StoreInfo:
    """Figures of the database. Raises StoreError."""
    with store.reading():
        sizes = store.sizes()
        machines, shape_count, events = (store.rows(f"SELECT count(*) FROM {name}")[0][0] for name in ("machine", "shape", "event"))
        blocks = store.rows("SELECT count(*), coalesce(sum(count), 0), coalesce(sum(size), 0), min(start_ms), max(end_ms) FROM block")[0]
        journal = store.rows(
            'SELECT count(*), coalesce(sum(length("values")), 0), min(taken_at_ms), max(taken_at_ms) FROM snapshot_journal'
        )[0]
    times = [ms / 1000 for ms in (*blocks[3:], *journal[2:]) if ms is not None]
    return StoreInfo(
        path=store.path,
        file_bytes=sizes.total,
        wal_bytes=sizes.waiting,
        free_bytes=sizes.free,
        machines=machines,
        shapes=shape_count,
        events=events,
        blocks=blocks[0],
        block_snapshots=blocks[1],
        block_bytes=blocks[2],
        journal_snapshots=journal[0],
        journal_bytes=journal[1],
        oldest_at=min(times, default=None),
        newest_at=max(times, default=None),
    )
