"""What is still in the journal of one machine, digested on the fly, so that an answer about it ends now. Never writes."""

from __future__ import annotations

from datetime import tzinfo
from functools import lru_cache
from typing import List
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gpuwatch.model.errors import StoreError
from gpuwatch.model.series import Digest
from gpuwatch.query.latest import Latest
from gpuwatch.rules.digest import digest
from gpuwatch.store import digests, packing
from gpuwatch.store.blocks import Entry
from gpuwatch.store.database import Store
from gpuwatch.store.memory import Recent

MOST_SAMPLES = 2000
"""Newest rows of a journal that are looked at; packing keeps far fewer there."""


class Tails:
    """Digests of journals, kept until a new snapshot comes: the charts of one page ask one after the other."""

    def __init__(self) -> None:
        self._digests = Recent(64)

    def of(self, store: Store, latest: Latest, machine_id: str) -> Digest:
        """The digest of what waits in the machine's journal. For one picture with the rollups, call it inside the same ``reading()``."""
        ((first_ms, last_ms, count),) = store.rows(
            "SELECT min(taken_at_ms), max(taken_at_ms), count(*) FROM snapshot_journal WHERE machine_id = ?", (machine_id,)
        )
        if not count:
            return Digest()
        key = (first_ms, last_ms, count)
        kept, found = self._digests.get(machine_id) or (None, Digest())
        if kept != key:
            samples = digests.samples_of(store, machine_id, _journal(store, machine_id))
            display = latest.display
            found = digest(samples, None, limits=latest.limits, zone=zone_of(display.timezone), asked_every_seconds=display.interval_seconds)
            self._digests.put(machine_id, (key, found))
        return found


def _journal(store: Store, machine_id: str) -> List[Entry]:
    rows = store.rows(f"{packing.JOURNAL_ROWS} WHERE j.machine_id = ? ORDER BY j.taken_at_ms DESC LIMIT ?", (machine_id, MOST_SAMPLES))
    found = []
    for row in rows:
        try:
            found.append(packing.entry_of(*row))
        except StoreError:  # it is packed as lost; it must not hide the others
            continue
    return found


@lru_cache(maxsize=16)
def zone_of(name: str) -> tzinfo:
    """The zone of that name; UTC for one that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
