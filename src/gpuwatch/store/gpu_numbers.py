"""The number of each GPU of the fleet, as seed 003 counts: given once per UUID, kept for ever, the same for all hubs of one database."""

from __future__ import annotations

from typing import Dict, Sequence

from gpuwatch.store.database import Store

MOST = 100_000
"""Numbers in all: whoever may send readings may make up UUIDs. What comes after them has none."""


def load(store: Store) -> Dict[str, int]:
    """UUID -> number of all that have one. Raises StoreError."""
    return dict(store.rows("SELECT gpu_uuid, number FROM gpu_number"))


def assign(store: Store, uuids: Sequence[str]) -> Dict[str, int]:
    """All numbers, after those of ``uuids`` that had none got the next ones, in this order. Raises StoreError."""
    with store.writing():
        known = load(store)
        new = [uuid for uuid in dict.fromkeys(uuids) if uuid not in known][: MOST - len(known)]
        first = max(known.values(), default=-1) + 1
        rows = [(uuid, first + place) for place, uuid in enumerate(new)]
        store.change_many("INSERT INTO gpu_number (gpu_uuid, number) VALUES (?, ?)", rows)
    return {**known, **dict(rows)}
