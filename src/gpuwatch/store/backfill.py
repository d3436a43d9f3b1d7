"""Digests blocks that were packed without it: from before there were rollups, of merged machines, imported. Broken off, it goes on where it was."""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any, Callable, Optional, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.store import digests, snapshots
from gpuwatch.store.blocks import Entry, unpack
from gpuwatch.store.database import Store
from gpuwatch.store.digests import Digester

_BATCH = 50
_KEY = "machine_id = ? AND start_ms = ? AND sequence = ?"
_log = logging.getLogger(__name__)


def backfill(store: Store, digester: Digester, going: Callable[[], bool]) -> int:
    """Digest what is not, block by block, as long as ``going()``; how many blocks. Raises StoreError.

    Each block is a transaction of its own, which also notes that it is done.
    """
    done = 0
    while going():
        rows = store.rows(
            "SELECT machine_id, start_ms, sequence, end_ms FROM block WHERE digested = 0 ORDER BY machine_id, start_ms, sequence LIMIT ?", (_BATCH,)
        )
        if not rows:
            break
        for row in rows:
            if not going():
                break
            done += _digest(store, digester, row)
            store.rest()
    return done


def _digest(store: Store, digester: Digester, row: Tuple[Any, ...]) -> bool:
    machine_id, start_ms, sequence, end_ms = row
    key = (machine_id, start_ms, sequence)
    derived = None
    for (data,) in store.rows(f"SELECT data FROM block WHERE {_KEY}", key):
        try:
            entries = sorted(unpack(bytes(data)), key=lambda entry: entry.taken_at_ms)
            derived = digester.derive(store, machine_id, entries, *_next(store, machine_id, end_ms)) if entries else None
        except StoreError as error:
            _log.warning("snapshots of machine %s from %.3f are not in its rollups: %s", machine_id, start_ms / 1000, error)
    with store.writing():
        if not store.change(f"UPDATE block SET digested = 1 WHERE {_KEY} AND digested = 0", key):
            return False  # deleted or moved meanwhile, or another one was faster
        if derived is not None:
            digests.add(store, machine_id, derived)
    digests.settle(store, machine_id)
    return True


def _next(store: Store, machine_id: str, end_ms: int) -> Tuple[Optional[int], Optional[Entry]]:
    """Time of the machine's first snapshot after ``end_ms``, and that snapshot, where it can be read."""
    at_ms = _next_ms(store, machine_id, end_ms)
    if at_ms is None:
        return None, None
    found = islice(snapshots.read(store, machine_id, at_ms / 1000, at_ms / 1000, on_damage=lambda error: None), 1)
    return at_ms, next(found, None)


def _next_ms(store: Store, machine_id: str, end_ms: int) -> Optional[int]:
    """Time of the machine's first snapshot after ``end_ms``."""
    block = store.rows("SELECT start_ms FROM block WHERE machine_id = ? AND start_ms > ? ORDER BY start_ms LIMIT 1", (machine_id, end_ms))
    journal = store.rows(
        "SELECT taken_at_ms FROM snapshot_journal WHERE machine_id = ? AND taken_at_ms > ? ORDER BY taken_at_ms LIMIT 1", (machine_id, end_ms)
    )
    return min((ms for (ms,) in (*block, *journal)), default=None)
