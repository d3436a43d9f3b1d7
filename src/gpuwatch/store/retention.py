"""How long rollups and intervals are kept, and the work that blocks wait for: digesting late, thinning. ``upkeep.prune`` deletes blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Tuple

from gpuwatch.store import intervals, rollups, usage
from gpuwatch.store.backfill import backfill
from gpuwatch.store.chunks import SPANS
from gpuwatch.store.database import Store
from gpuwatch.store.digests import Digester
from gpuwatch.store.thinning import thin

_BATCH = 500
_MOST_SUBJECTS = 4096
"""GPUs and slices of one machine that there are rollups of; a hostile node makes up new ones at each poll."""
_MOST_OF_DAY = 20_000
"""Rows of usage of one machine and day."""
_MOST_INTERVALS = 1_000_000
"""Of one machine."""
_DAYS = (180, 90, 30, 7, 1, 0)
"""Of too many intervals, those go that ended so long ago: the first that is enough."""
_TURN_SECONDS = 600.0


@dataclass(frozen=True)
class Retention:
    """Seconds; the defaults are those of the hub's settings."""

    raw: float = 7 * 86400.0
    """Blocks are thinned when they are older."""
    minutes: float = 90 * 86400.0
    quarters: float = 365 * 86400.0
    """Rollups of 60 and of 900 s. Those of an hour are kept for ever."""
    processes: float = 365 * 86400.0
    """Intervals of processes."""


@dataclass(frozen=True)
class Tended:
    """What was done: blocks digested late, blocks thinned, chunks and intervals deleted."""

    digested: int = 0
    thinned: int = 0
    chunks: int = 0
    intervals: int = 0


def tend(
    store: Store, now: float, kept: Retention, digester: Digester, going: Callable[[], bool], *, progress: Callable[[int], None] = lambda done: None
) -> Tended:
    """Everything of the above, in short transactions; what is long goes on as long as ``going()``, and next time. Raises StoreError.

    ``progress`` is told of blocks thinned.
    """
    chunks = _delete_rollups(store, now, kept)
    intervals = _delete_intervals(store, now - kept.processes)
    more_chunks, more_intervals = _delete_crowds(store, now)
    digested = backfill(store, digester, going)
    thinned = thin(store, round((now - kept.raw) * 1000), going, progress)
    return Tended(digested, thinned, chunks + more_chunks, intervals + more_intervals)


def _delete_rollups(store: Store, now: float, kept: Retention) -> int:
    """Chunks of which the newest interval is too old."""
    return sum(delete_rollups(store, tier, round((now - seconds) * 1000)) for tier, seconds in ((60, kept.minutes), (900, kept.quarters)))


def delete_rollups(store: Store, tier: int, old_ms: int) -> int:
    """Chunks of a tier of which the newest interval is before ``old_ms``, in short transactions; how many. A server drops whole partitions."""
    deleted = store.drop_before("rollup", old_ms, tier).rows
    before_ms = store.cutoff_ms("rollup", old_ms, tier) - SPANS[tier] * 1000
    for machine_id in (rollups.FLEET, *_machines(store)):
        for uuid in rollups.subjects(store, machine_id):
            deleted += _delete_chunks(store, (machine_id, uuid, tier), before_ms)
    return deleted


def _delete_chunks(store: Store, key: Tuple[str, str, int], before_ms: int) -> int:
    where = "machine_id = ? AND gpu_uuid = ? AND tier_seconds = ? AND start_ms <= ?"
    if not store.rows(f"SELECT 1 FROM rollup WHERE {where} LIMIT 1", (*key, before_ms)):
        return 0
    with store.writing():
        deleted = store.change(f"DELETE FROM rollup WHERE {where}", (*key, before_ms))
    store.rest()
    return deleted


def _delete_intervals(store: Store, before: float) -> int:
    """Those that ended before (epoch seconds)."""
    old_ms = round(before * 1000)
    deleted = store.drop_before("process_interval", old_ms).rows
    old_ms = store.cutoff_ms("process_interval", old_ms)
    for machine_id in _machines(store):
        for uuid in intervals.gpus(store, machine_id):
            deleted += _delete_some(store, "machine_id = ? AND gpu_uuid = ? AND end_ms < ?", (machine_id, uuid, old_ms))
    return deleted


def _delete_some(store: Store, where: str, parameters: Tuple[object, ...]) -> int:
    """Intervals, in batches."""
    deleted = 0
    while True:
        keys = store.rows(f"SELECT machine_id, gpu_uuid, start_ms, pid FROM process_interval WHERE {where} LIMIT ?", (*parameters, _BATCH))
        if not keys:
            return deleted
        with store.writing():
            deleted += store.change_many("DELETE FROM process_interval WHERE machine_id = ? AND gpu_uuid = ? AND start_ms = ? AND pid = ?", keys)
        store.rest()


def _delete_crowds(store: Store, now: float) -> Tuple[int, int]:
    """What only a hostile node makes so much of; it pays with its own history. One machine a turn: counting takes a while."""
    machines = _machines(store)
    if not machines:
        return 0, 0
    machine_id = machines[int(now // _TURN_SECONDS) % len(machines)]
    with store.writing():
        for table in ("gpu_day", "user_day"):
            days = store.rows(f"SELECT day FROM {table} WHERE machine_id = ? GROUP BY day HAVING count(*) > ?", (machine_id, _MOST_OF_DAY))
            if days:
                store.change_many(f"DELETE FROM {table} WHERE machine_id = ? AND day = ?", [(machine_id, day) for (day,) in days])
                usage.recount(store, (day for (day,) in days))
    return _delete_subjects(store, machine_id), _delete_surplus_intervals(store, machine_id, now)


def _delete_subjects(store: Store, machine_id: str) -> int:
    """Of too many, the half that brought nothing for longest."""
    found = rollups.subjects(store, machine_id, 10 * _MOST_SUBJECTS)
    if len(found) <= _MOST_SUBJECTS:
        return 0
    newest = "SELECT max(start_ms) FROM rollup WHERE machine_id = ? AND gpu_uuid = ?"
    found.sort(key=lambda uuid: store.rows(newest, (machine_id, uuid))[0][0] or 0)
    deleted = 0
    gone = found[: -_MOST_SUBJECTS // 2]
    for first in range(0, len(gone), _BATCH):
        with store.writing():
            deleted += store.change_many(
                "DELETE FROM rollup WHERE machine_id = ? AND gpu_uuid = ?", [(machine_id, uuid) for uuid in gone[first : first + _BATCH] if uuid]
            )
        store.rest()
    return deleted


def _delete_surplus_intervals(store: Store, machine_id: str, now: float) -> int:
    """Of too many, the oldest."""
    deleted = 0
    for days in _DAYS:
        ((count,),) = store.rows("SELECT count(*) FROM process_interval WHERE machine_id = ?", (machine_id,))
        if count <= _MOST_INTERVALS:
            break
        deleted += _delete_some(store, "machine_id = ? AND end_ms < ?", (machine_id, round((now - days * 86400) * 1000)))
    return deleted


def _machines(store: Store) -> List[str]:
    return [machine_id for (machine_id,) in store.rows("SELECT id FROM machine ORDER BY id")]
