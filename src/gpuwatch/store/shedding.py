"""What goes when the database is larger than it may be, beside snapshots: fine rollups, the oldest first. Hours, sums of days and intervals stay.

Works in small steps, as all retention does.
"""

from __future__ import annotations

from typing import Optional

from gpuwatch.store import rollups
from gpuwatch.store.chunks import SPANS
from gpuwatch.store.database import Store
from gpuwatch.store.retention import delete_rollups

DAY_MS = 86_400_000
LEAST_MS = {60: DAY_MS, 900: 7 * DAY_MS}
"""So much of each tier is left, whatever the size: it is little, and charts of now need it."""


def shed_rollups(store: Store, now: float, max_bytes: int) -> int:
    """Delete minutes, then quarters of an hour, a day after the other, until the content is at most ``max_bytes``; chunks deleted. Raises StoreError."""
    deleted = 0
    for tier, least_ms in LEAST_MS.items():
        limit_ms = round(now * 1000) - least_ms
        while store.used_bytes() > max_bytes:
            before_ms = _next_cut(store, tier, limit_ms)
            count = 0 if before_ms is None else delete_rollups(store, tier, before_ms)
            if not count:
                break
            deleted += count
    return deleted


def _next_cut(store: Store, tier: int, limit_ms: int) -> Optional[int]:
    """The next moment, days after the oldest chunk, before which anything would go; None = not before ``limit_ms``."""
    starts = [rollups.oldest_ms(store, owner, tier) for owner in (rollups.FLEET, *(id for (id,) in store.rows("SELECT id FROM machine")))]
    oldest_ms = min((start for start in starts if start is not None), default=limit_ms)
    cut_ms = oldest_ms + SPANS[tier] * 1000
    while cut_ms < limit_ms:
        cut_ms = min(limit_ms, cut_ms + DAY_MS)
        if store.cutoff_ms("rollup", cut_ms, tier) >= oldest_ms + SPANS[tier] * 1000:  # a server drops whole partitions
            return cut_ms
    return None
