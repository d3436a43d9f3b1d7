"""What is still in the journals, digested on the fly, so that an answer ends now: of one machine, or of all of a small lab. Never writes."""

from __future__ import annotations

from datetime import tzinfo
from functools import lru_cache
from typing import List, Mapping, NamedTuple, Optional
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gpuwatch.model.errors import StoreError
from gpuwatch.model.series import Digest
from gpuwatch.query.latest import Latest
from gpuwatch.rules.digest import digest
from gpuwatch.store import digests, packing
from gpuwatch.store.blocks import Entry
from gpuwatch.store.chunks import Chunk, merge_all, of_minutes
from gpuwatch.store.database import Store
from gpuwatch.store.memory import Recent
from gpuwatch.wire.numbers import Numbers

MOST_SAMPLES = 2000
"""Newest rows of a journal that are looked at; packing keeps far fewer there."""
MOST_WAITING = 1500
"""Rows of all journals together that are digested for an answer about all machines: a quarter of a second's work. A hub of twenty nodes has so many."""


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
    found, numbers = [], Numbers()
    for row in rows:
        try:
            found.append(packing.entry_of(*row, numbers=numbers))
        except StoreError:  # it is packed as lost; it must not hide the others
            continue
    return found


class Waiting(NamedTuple):
    """What waits in the journals of all machines."""

    digests: Mapping[str, Digest]
    """By machine id; empty where too much waits."""
    counted_until_at: Optional[float]
    """Epoch seconds: all that was read before is packed, and of what was read since then some waits and is not in ``digests``. None = all is there."""


def waiting(store: Store, latest: Latest, tails: Tails) -> Waiting:
    """What waits of all machines; their newest snapshots always do. For one picture with the sums call it inside the same ``reading()``."""
    spans = store.rows(
        """SELECT id, (SELECT min(taken_at_ms) FROM snapshot_journal WHERE machine_id = machine.id),
           (SELECT max(taken_at_ms) FROM snapshot_journal WHERE machine_id = machine.id) FROM machine"""
    )
    found = [(machine_id, first_ms, last_ms) for machine_id, first_ms, last_ms in spans if first_ms is not None]
    ((count,),) = store.rows("SELECT count(*) FROM (SELECT 1 FROM snapshot_journal LIMIT ?) AS some", (MOST_WAITING + 1,))
    if count > MOST_WAITING:
        firsts = [first_ms / 1000 for _, first_ms, last_ms in found if last_ms > first_ms]
        return Waiting({}, min(firsts, default=None))
    return Waiting({machine_id: tails.of(store, latest, machine_id) for machine_id, _, _ in found}, None)


def fleet_of(found: Waiting) -> Chunk:
    """The fleet's minutes of what waits."""
    return merge_all(of_minutes(one.fleet) for one in found.digests.values())


@lru_cache(maxsize=16)
def zone_of(name: str) -> tzinfo:
    """The zone of that name; UTC for one that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
