"""Blocks that are old are packed anew with one snapshot a minute. What was derived of them is not touched: it was made from all snapshots."""

from __future__ import annotations

import logging
from itertools import groupby
from typing import Any, Callable, Dict, List, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.model.snapshot import SCHEMA
from gpuwatch.store.blocks import CODEC, Entry, first_of_each, pack
from gpuwatch.store.database import Rows, Store

STEP_SECONDS = 60
WINDOW_MS = 2 * 3_600_000
"""Blocks that start within one window become one: 120 snapshots."""
_BATCH = 200
_SIZES = "count = ?, end_ms = ?, codec = ?, schema = ?, size = ?, data = ?"
_KEY = "machine_id = ? AND start_ms = ? AND sequence = ? AND step_seconds = 0"
_log = logging.getLogger(__name__)


class _Overtaken(Exception):
    """Retention, or someone who merged or deleted the machine, was faster."""


def thin(store: Store, before_ms: int, going: Callable[[], bool], progress: Callable[[int], None] = lambda done: None) -> int:
    """Thin what ended before ``before_ms`` and is digested, as long as ``going()``; how many blocks were taken. Raises StoreError."""
    taken = 0
    for (machine_id,) in store.rows("SELECT id FROM machine ORDER BY id"):
        after_ms = -1
        while going():
            rows = store.rows(
                """SELECT start_ms, sequence, end_ms, digested FROM block WHERE machine_id = ? AND step_seconds = 0 AND start_ms > ? AND start_ms < ?
                   ORDER BY start_ms, sequence LIMIT ?""",
                (machine_id, after_ms, before_ms // WINDOW_MS * WINDOW_MS, _BATCH),
            )
            windows = [list(window) for _, window in groupby(rows, key=lambda row: row[0] // WINDOW_MS)]
            if len(rows) == _BATCH and len(windows) > 1:
                windows.pop()  # there may be more of it
            for window in windows:
                if not going():
                    return taken
                after_ms = window[-1][0]
                if all(row[2] < before_ms and row[3] for row in window):
                    taken += _thin_window(store, machine_id, window)
                    progress(len(window))
                    store.rest()
            if not windows or len(rows) < _BATCH:
                break
    return taken


def _thin_window(store: Store, machine_id: str, window: Rows) -> int:
    keys = [(machine_id, row[0], row[1]) for row in window]
    kept: Dict[int, Entry] = {}
    damaged: List[Tuple[Any, ...]] = []
    for key in keys:
        try:
            for entry in _entries(store, key):
                minute = entry.taken_at_ms // (1000 * STEP_SECONDS)
                if minute not in kept or entry.taken_at_ms < kept[minute].taken_at_ms:
                    kept[minute] = entry
        except StoreError as error:
            _log.warning("snapshots of machine %s from %.3f stay as they are: %s", machine_id, key[1] / 1000, error)
            damaged.append(key)
    sound = [key for key in keys if key not in damaged]
    entries = sorted(kept.values(), key=lambda entry: entry.taken_at_ms)
    data = pack(entries) if entries else b""
    try:
        with store.writing():
            if entries:
                _swap(store, sound, entries, data)
            if damaged:
                store.change_many(f"UPDATE block SET step_seconds = {STEP_SECONDS} WHERE {_KEY}", damaged)
    except _Overtaken:
        return 0
    return len(keys)


def _entries(store: Store, key: Tuple[Any, ...]) -> List[Entry]:
    rows = store.rows(f"SELECT data FROM block WHERE {_KEY}", key)
    return [entry for (data,) in rows for entry in first_of_each(bytes(data), 1000 * STEP_SECONDS)]


def _swap(store: Store, keys: List[Tuple[Any, ...]], entries: List[Entry], data: bytes) -> None:
    """The first block takes all that is kept, the others go: whoever is reading finds it under the first one's key, or by its time."""
    sizes = (len(entries), entries[-1].taken_at_ms, CODEC, SCHEMA, len(data), data)
    changed = store.change(f"UPDATE block SET step_seconds = {STEP_SECONDS}, {_SIZES} WHERE {_KEY}", (*sizes, *keys[0]))
    deleted = store.change_many(f"DELETE FROM block WHERE {_KEY}", keys[1:]) if len(keys) > 1 else 0
    if changed + deleted != len(keys):
        raise _Overtaken
