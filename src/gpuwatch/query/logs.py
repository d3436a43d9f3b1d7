"""What each GPU did minute by minute over whole days, read from the store a GPU and day at a time, so that any span takes the same memory. Never writes.

Where minutes are not kept any more it is a quarter of an hour, or an hour.
"""

from __future__ import annotations

from datetime import timezone
from itertools import accumulate
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.series import GPU_METRICS, HOST_METRICS, TIERS, Digest, ProcessInterval
from gpuwatch.query.days import Day, days_between, days_from
from gpuwatch.query.latest import Latest
from gpuwatch.query.subjects import Known, Names, Subject, find
from gpuwatch.query.tail import Tails, zone_of
from gpuwatch.query.usage import kept_since
from gpuwatch.store import intervals, rollups, snapshots
from gpuwatch.store.chunks import Chunk, Floats, coarsen, merge, of_minutes
from gpuwatch.store.database import Store
from gpuwatch.store.tables import IMPORTED

_METRICS = {**GPU_METRICS, **HOST_METRICS}
MOST_INTERVALS = 10_000
"""Processes of one GPU on one day that are looked at for its users."""


class LogPart(NamedTuple):
    """One GPU or slice (``uuid`` empty: the host) on one day; the lists are as long as ``times``."""

    gpu: Known
    uuid: str
    step_seconds: int
    times: Sequence[int]
    """Begins of its steps, epoch seconds; steps without a reading are left out."""
    measured_seconds: Sequence[float]
    values: Mapping[str, Floats]
    """By GPU_METRICS, and by HOST_METRICS."""
    users: Sequence[str]
    """Who ran something, by name, separated by blanks."""


def parts(
    store: Store, latest: Latest, *, first_day: str, last_day: str, host: str = "", gpu: str = "", now: float, tails: Optional[Tails] = None
) -> Iterator[LogPart]:
    """The days from ``first_day`` to ``last_day``, both included, day by day, host by host, GPU by GPU; of one host, or GPU, where that is named.

    Raises UsageError, before the first part is read, for days that are none and for what is not there. What was imported is told by its name alone.
    """
    days = [day for day in days_from(first_day, last_day, zone_of(latest.display.timezone)) if day.begin <= now]
    names = Names(store, latest)
    only = find(store, latest, host, gpu) if host or gpu else None
    return _parts(store, latest, days, names, _subjects(store, names, only), tails or Tails(), bool(gpu), TIERS, False)


def all_parts(store: Store, latest: Latest, tier: int, start_at: float, end_at: float, *, host: str = "") -> Iterator[LogPart]:
    """The steps of one of TIERS that begin in start_at <= t < end_at (epoch seconds), day of UTC by day, of GPUs, slices and the hosts themselves.

    Raises UsageError, before the first part is read, for a host that is not there.
    """
    first, last = -int(-start_at // tier) * tier, -int(-end_at // tier) * tier
    days = [Day(day.name, max(day.begin, first), min(day.end, last)) for day in days_between(first, last, timezone.utc)] if first < last else []
    names = Names(store, latest)
    only = find(store, latest, host) if host else None
    return _parts(store, latest, days, names, _subjects(store, names, only), Tails(), False, (tier,), True)


def oldest(store: Store, machine_ids: Iterable[str]) -> Optional[float]:
    """Epoch seconds from which there may be anything of these machines; None = there is nothing."""
    found = [rollups.kept_since(store, machine_id, uuid, TIERS[-1]) for machine_id in machine_ids for uuid in rollups.subjects(store, machine_id)]
    found += [snapshots.kept_from(store, machine_id) for machine_id in machine_ids]
    return min((at for at in found if at is not None), default=None)


def _subjects(store: Store, names: Names, only: Optional[Subject]) -> List[Tuple[str, List[str]]]:
    """(machine id, GPUs that there are rollups of), by the names of the machines."""
    if only is not None:
        return [(only.machine_id, [only.gpu] if only.gpu else rollups.subjects(store, only.machine_id))]
    live = sorted((name, machine_id) for machine_id, name in names.hosts.items() if not name.startswith(IMPORTED))
    return [(machine_id, rollups.subjects(store, machine_id)) for _, machine_id in live]


def _parts(
    store: Store, latest: Latest, days: Sequence[Day], names: Names, subjects: Sequence[Tuple[str, List[str]]], tails: Tails, only_one: bool,
    tiers: Sequence[int], hosts: bool,
) -> Iterator[LogPart]:  # fmt: skip
    since: Dict[Tuple[str, str], Optional[float]] = {}
    for day in days:
        for machine_id, uuids in subjects:
            waiting = tails.of(store, latest, machine_id)
            for uuid in uuids if only_one else sorted({*uuids, *waiting.minutes}):
                key = machine_id, uuid
                if not uuid and not hosts:
                    continue
                if key not in since:
                    since[key] = kept_since(store, *key)
                if _begins(since[key], day) or _has(waiting, uuid, day):
                    part = _part(store, day, machine_id, uuid, waiting, names, tiers)
                    if part is not None:
                        yield part


def _begins(since_at: Optional[float], day: Day) -> bool:
    return since_at is not None and since_at < day.end


def _has(waiting: Digest, uuid: str, day: Day) -> bool:
    return any(day.begin <= at < day.end for at in waiting.minutes.get(uuid, ()))


def _part(store: Store, day: Day, machine_id: str, uuid: str, waiting: Digest, names: Names, tiers: Sequence[int]) -> Optional[LogPart]:
    tail = of_minutes(waiting.minutes.get(uuid, {}))
    with store.reading():
        tier, chunk = tiers[0], Chunk()
        for tier in tiers:
            chunk = merge(rollups.read(store, machine_id, uuid, tier, day.begin, day.end), coarsen(tail, tier).cut(day.begin, day.end))
            if chunk.times:
                break
        if not chunk.times:
            return None
        rows = intervals.read(store, machine_id, uuid, start_at=day.begin, end_at=day.end, limit=MOST_INTERVALS)
    there = [row.interval for row in rows] + [one for one in waiting.intervals if one.gpu_uuid == uuid]
    values = {name: chunk.floats(name) for name in _METRICS}
    return LogPart(names.gpu(machine_id, uuid), uuid, tier, chunk.times, chunk.covered_seconds(), values, _users(there, day, tier, chunk.times))


def _users(found: Iterable[ProcessInterval], day: Day, step: int, times: Sequence[int]) -> List[str]:
    """Who was there in each step: what changes is summed up once for each user, not for each step and process."""
    steps = (day.end - day.begin) // step + 2
    changes: Dict[str, List[int]] = {}
    for one in found:
        first, last = (min(max(0, int((at - day.begin) // step)), steps - 2) for at in (one.start_at, max(one.start_at, one.end_at - 0.001)))
        if one.user and one.end_at > day.begin and one.start_at < day.end:
            row = changes.setdefault(one.user, [0] * steps)
            row[first] += 1
            row[last + 1] -= 1
    present = [(user, list(accumulate(row))) for user, row in sorted(changes.items())]
    return [" ".join(user for user, counts in present if counts[(at - day.begin) // step]) for at in times]
