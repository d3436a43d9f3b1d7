"""Moves and deletes what was derived of a machine's snapshots: rollups, usage, intervals. A few rows at a time, in short transactions."""

from __future__ import annotations

from gpuwatch.store import intervals, rollups, usage
from gpuwatch.store.database import Store

_ROLLUPS = 20
_ROWS = 500
_KEYS = {
    "rollup": ("machine_id", "gpu_uuid", "tier_seconds", "start_ms"),
    "rollup_part": ("machine_id", "source_id", "start_ms", "sequence"),
    "gpu_day": usage.GPU_KEYS,
    "user_day": usage.USER_KEYS,
    "process_interval": ("machine_id", "gpu_uuid", "start_ms", "pid"),
}
"""Table: its key."""


def move_some(store: Store, source: str, into: str) -> int:
    """Add some of what is derived of machine ``source`` to that of ``into``, in one transaction; 0 = nothing is left. The fleet keeps its sums."""
    with store.writing():
        rollups.settle(store, source, 1)
        moved = rollups.move(store, source, into, _ROLLUPS)
        return moved + usage.move(store, source, into, _ROWS) + intervals.move(store, source, into, _ROWS)


def delete_some(store: Store, machine_id: str) -> int:
    """Delete some of what is derived of a machine, in one transaction; 0 = nothing is left. The fleet's rollups keep its share; reports do not."""
    deleted = 0
    with store.writing():
        for table, key in _KEYS.items():
            rows = store.rows(f"SELECT {', '.join(key)} FROM {table} WHERE machine_id = ? LIMIT ?", (machine_id, _ROWS))
            if rows:
                deleted += store.change_many(f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in key)}", rows)
            if table == "user_day":
                usage.recount(store, (day for _, day, *_ in rows))
    return deleted
