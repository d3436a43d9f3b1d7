"""When the processes on GPUs changed: the moment before or after another at which one began or ended. For the time machine's steps. Never writes."""

from __future__ import annotations

from itertools import islice
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from gpuwatch.query.latest import Latest
from gpuwatch.query.processes import MOST_ROWS, processes
from gpuwatch.query.subjects import Subject, find, with_slices
from gpuwatch.query.tail import Tails
from gpuwatch.store import intervals, machines, snapshots
from gpuwatch.store.database import Store
from gpuwatch.store.tables import IMPORTED

MOST_TRIES = 100
"""Changes between two readings that are passed over."""
SEEN_SECONDS = 600.0
"""Within so long after a change there is a reading that shows it; thinned ones are a minute apart."""


class _Change(NamedTuple):
    """Of one machine; ``at_ms`` in ms since the epoch."""

    at_ms: int
    machine_id: str


class _Place(NamedTuple):
    """Where changes are looked for. ``waits_ms``: from then on the machine's journal knows better than the stored intervals, which are not over."""

    machine_id: str
    gpus: Tuple[str, ...]
    waits_ms: int


def change(
    store: Store, latest: Latest, at: float, now: float, *, later: bool, host: str = "", gpu: str = "", tails: Optional[Tails] = None
) -> Optional[float]:
    """The moment (epoch seconds) of the first reading after ``at`` that shows a process which began, or no more one that ended; not ``later``:
    the last such before ``at``. On all GPUs, or those of ``host``, or on ``gpu`` (UUID) and its slices; None = there is none.

    Raises UsageError (unknown host or GPU), StoreError.
    """
    subject = find(store, latest, host, gpu) if host or gpu else Subject("", "")
    with store.reading():
        places = list(_places(store, latest, subject))
        recent = _recent(store, latest, subject, places, now, tails or Tails())
        found, at_ms = _next(store, places, recent, round(at * 1000), later), round(at * 1000)
        for _ in range(MOST_TRIES):
            if found is None:
                return None
            seen_ms = _seen_ms(store, found)
            if seen_ms > at_ms if later else seen_ms < at_ms:
                return seen_ms / 1000
            found = _next(store, places, recent, found.at_ms, later)
    return None


def _places(store: Store, latest: Latest, subject: Subject) -> Iterator[_Place]:
    ids = [subject.machine_id] if subject.machine_id else [one.id for one in machines.list_all(store) if not one.name.startswith(IMPORTED)]
    for machine_id in ids:
        gpus = with_slices(latest, subject) if subject.gpu else intervals.gpus(store, machine_id)
        ((waits_ms,),) = store.rows("SELECT min(taken_at_ms) FROM snapshot_journal WHERE machine_id = ?", (machine_id,))
        yield _Place(machine_id, tuple(gpus), snapshots.MAX_MS if waits_ms is None else waits_ms)


def _recent(store: Store, latest: Latest, subject: Subject, places: List[_Place], now: float, tails: Tails) -> List[_Change]:
    """Since the journals begin."""
    since_ms = min((place.waits_ms for place in places), default=snapshots.MAX_MS)
    if since_ms >= now * 1000:
        return []
    ids: Dict[str, str] = {one.name: one.id for one in machines.list_all(store)}
    ids.update((known.target.name, known.machine_id) for known in latest.all()[1])
    found = []
    for one in processes(
        store, latest, host=subject.host, gpu=subject.gpu, start_at=since_ms / 1000, end_at=now + 1, limit=MOST_ROWS, tails=tails
    ):
        times = [one.interval.start_at] if one.is_running else [one.interval.start_at, one.interval.end_at]
        found += [_Change(round(at * 1000), ids.get(one.host, one.host)) for at in times if since_ms <= at * 1000 <= now * 1000]
    return found


def _next(store: Store, places: List[_Place], recent: List[_Change], at_ms: int, later: bool) -> Optional[_Change]:
    found = [one for one in recent if (one.at_ms > at_ms if later else one.at_ms < at_ms)]
    for place in places:
        stored_ms = intervals.next_change(store, place.machine_id, place.gpus, at_ms if later else min(at_ms, place.waits_ms), later=later)
        if stored_ms is not None and stored_ms < place.waits_ms:
            found.append(_Change(stored_ms, place.machine_id))
    return (min if later else max)(found, default=None)


def _seen_ms(store: Store, change: _Change) -> int:
    """The first reading that shows the change: of old ones most are gone."""
    entries = snapshots.read(store, change.machine_id, change.at_ms / 1000, change.at_ms / 1000 + SEEN_SECONDS, on_damage=lambda error: None)
    return next((entry.taken_at_ms for entry in islice(entries, 1)), change.at_ms)
