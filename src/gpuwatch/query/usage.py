"""Who used what over whole days: sums by user, host, GPU, model or tag, that add up to the sums over all GPUs. Never writes.

What still waits in the journals is counted in where it is little; else the report says until when it counts (``counted_until_at``).
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import TIERS, GpuDay, UsageReport, UsageRow, UserDay
from gpuwatch.query.days import Day, days_from
from gpuwatch.query.latest import Latest
from gpuwatch.query.subjects import SLICE, Known, Names
from gpuwatch.query.tail import Tails, Waiting, waiting, zone_of
from gpuwatch.store import rollups, usage
from gpuwatch.store.database import Store
from gpuwatch.store.tables import LIVE_MACHINES
from gpuwatch.store.usage import GpuDayRow

BY = ("user", "host", "gpu", "model", "tag")
UNKNOWN_MODEL = "unknown model"
HOUR = 3600.0
_EVER = 2.0**40

Gpu = Tuple[str, str]
"""(machine id, UUID)."""
Sums = Union[GpuDay, UserDay]


class Period(NamedTuple):
    """The days of a report, and its begin and end in epoch seconds: not before anything was kept, and not after now."""

    days: Sequence[Day]
    start_at: float
    end_at: float
    kept_since_at: Optional[float]

    @property
    def names(self) -> Tuple[str, str]:
        """First and last day."""
        return self.days[0].name, self.days[-1].name


def period_of(store: Store, latest: Latest, first_day: str, last_day: str, now: float, tail: Waiting) -> Period:
    """The days from ``first_day`` to ``last_day``, both included (YYYY-MM-DD). Raises UsageError for what are no days."""
    days = days_from(first_day, last_day, zone_of(latest.display.timezone))
    kept = kept_since(store, rollups.FLEET, rollups.HOST)
    if kept is None:
        kept = min((float(at) for one in tail.digests.values() for at in one.fleet), default=None)
    start_at = float(days[0].begin) if kept is None else min(max(float(days[0].begin), kept), float(days[-1].end))
    return Period(days, start_at, max(start_at, min(now, days[-1].end)), kept)


def kept_since(store: Store, machine_id: str, uuid: str) -> Optional[float]:
    """Since when a subject is known, to the hour; None = it is not yet."""
    since = rollups.kept_since(store, machine_id, uuid, TIERS[-1])
    if since is not None:
        return since
    times = rollups.read(store, machine_id, uuid, TIERS[-1], 0, _EVER, ()).times  # what waits in parts
    return float(times[0]) if times else None


def gpu_sums(store: Store, period: Period, tail: Waiting, by: Sequence[str]) -> List[GpuDayRow]:
    """Sums of GPUs over the period, by some of ``usage.GPU_KEYS``, with what waits in the journals."""
    found = {(row.machine_id, row.day, row.gpu_uuid): row for row in usage.gpu_days(store, *period.names, by=by)}
    for machine_id, one in tail.digests.items():
        for (day, uuid), sums in one.gpu_days.items():
            if period.days[0].name <= day <= period.days[-1].name:
                key = (machine_id if "machine_id" in by else "", day if "day" in by else "", uuid if "gpu_uuid" in by else "")
                known = found.get(key)
                found[key] = GpuDayRow(*key, sums if known is None else _added((known.sums, sums)))
    return list(found.values())


def user_sums(store: Store, period: Period, tail: Waiting) -> Dict[str, UserDay]:
    """Sums of users over the period, with what waits in the journals."""
    found = {row.user_name: row.sums for row in usage.user_days(store, *period.names, by=("user_name",))}
    for one in tail.digests.values():
        for (day, _, user), sums in one.user_days.items():
            if period.days[0].name <= day <= period.days[-1].name:
                known = found.get(user, UserDay())
                found[user] = UserDay(**{name: value + getattr(known, name) for name, value in vars(sums).items()})
    return found


def report(
    store: Store, latest: Latest, *, first_day: str, last_day: str, by: str = "user", now: float, tails: Optional[Tails] = None
) -> UsageReport:
    """Usage of the days from ``first_day`` to ``last_day``, both included; rows by ``by`` (one of BY), most held first.

    Rows add up to ``total``; by tag they may be more, for a host counts in each of its tags. By user the row without a key is nobody: what is held
    though nobody's process is seen, and the energy of GPUs that nobody holds. A MIG slice counts as its share of the card, to the card's
    model. Raises UsageError, StoreError.
    """
    if by not in BY:
        raise UsageError(f"by={by[:40]!r} is not one of {', '.join(BY)}.")
    with store.reading():
        tail = waiting(store, latest, tails or Tails())
        period = period_of(store, latest, first_day, last_day, now, tail)
        names = Names(store, latest)
        possible = possible_seconds(store, names, period, tail)
        sums = gpu_sums(store, period, tail, () if by == "user" else ("machine_id", "gpu_uuid"))
        total = _row("", _added(one.sums for one in sums), sum(possible.values()))
        rows = _by_user(user_sums(store, period, tail), total) if by == "user" else _by_gpus(sums, names, by, possible)
    ordered = tuple(sorted(rows, key=lambda row: (not row.key, -row.held_hours, row.name or row.key)))
    return UsageReport(*period.names, by, latest.display.timezone, ordered, total, period.kept_since_at, counted_until(period, tail))


def counted_until(period: Period, tail: Waiting) -> Optional[float]:
    """Until when the period is counted; None = all of it, as far as it is over."""
    until = tail.counted_until_at
    return None if until is None or until >= period.end_at else max(until, period.start_at)


def _row(key: str, sums: Sums, possible_seconds: float = 0.0, name: str = "") -> UsageRow:
    return UsageRow(
        key,
        sums.held_seconds / HOUR,
        sums.busy_seconds / HOUR,
        sums.idle_seconds / HOUR,
        sums.unknown_seconds / HOUR,
        sums.unattributed_seconds / HOUR if isinstance(sums, GpuDay) else 0.0,
        sums.measured_seconds / HOUR if isinstance(sums, GpuDay) else 0.0,
        possible_seconds / HOUR,
        sums.memory_gib_hours,
        sums.energy_joules,
        name,
    )


def _by_user(sums: Dict[str, UserDay], total: UsageRow) -> List[UsageRow]:
    rows = [_row(user, one) for user, one in sorted(sums.items())]
    rest = {
        name: _rest(getattr(total, name), sum(getattr(row, name) for row in rows))
        for name in ("held_hours", "busy_hours", "idle_hours", "unknown_hours", "memory_gib_hours", "energy_joules")
    }
    return [*rows, UsageRow("", unattributed_hours=total.unattributed_hours, **rest)] if total.measured_hours or rest["energy_joules"] else rows


def _rest(total: Any, known: Any) -> Any:
    """What is left, without what rounding leaves."""
    return total - known if total - known > 1e-9 * total else 0.0


def _added(days: Iterable[GpuDay]) -> GpuDay:
    found = GpuDay()
    for day in days:
        for name, value in vars(day).items():
            setattr(found, name, getattr(found, name) + value)
    return found


def _by_gpus(rows: Sequence[GpuDayRow], names: Names, by: str, possible: Dict[Gpu, float]) -> List[UsageRow]:
    groups: Dict[str, List[GpuDayRow]] = {}
    labels: Dict[str, str] = {}
    for row in rows:
        gpu = names.gpu(row.machine_id, row.gpu_uuid)
        for key in _KEYS[by](gpu, row.gpu_uuid):
            groups.setdefault(key, []).append(row)
            labels[key] = gpu.name if by == "gpu" else ""
    return [
        _row(key, _added(row.sums for row in group), sum(possible.get((row.machine_id, row.gpu_uuid), 0.0) for row in group), labels[key])
        for key, group in groups.items()
    ]


_KEYS: Dict[str, Callable[[Known, str], Sequence[str]]] = {
    "host": lambda gpu, uuid: (gpu.host,),
    "gpu": lambda gpu, uuid: (uuid,),
    "model": lambda gpu, uuid: (gpu.model or UNKNOWN_MODEL,),
    "tag": lambda gpu, uuid: gpu.tags or ("",),
}


def possible_seconds(store: Store, names: Names, period: Period, tail: Waiting) -> Dict[Gpu, float]:
    """For how long each whole GPU could have been measured: from when it was first seen; to the end of the period, or of the last day on which
    it was seen where it is not in its machine, or the machine not in the hosts file, any more.
    """
    ends = {day.name: day.end for day in period.days}
    begins = {day.name: day.begin for day in period.days}
    known_since: Dict[str, float] = {}
    opening = next((day.name for day in period.days if period.start_at < day.end), "")
    found: Dict[Gpu, float] = {}
    for (machine_id, uuid), (first, last) in _seen(store, period, tail).items():
        if uuid.startswith(SLICE):
            continue
        start_at, end_at = period.start_at, period.end_at
        if first != opening:  # was it there before, and not measured?
            if machine_id not in known_since:
                known_since[machine_id] = kept_since(store, machine_id, rollups.HOST) or 0.0
            since_at = known_since[machine_id]
            if since_at < begins[first]:  # else they came together
                since_at = kept_since(store, machine_id, uuid) or 0.0
            start_at = max(start_at, since_at)
        if machine_id not in names.present or not names.has(machine_id, uuid):
            end_at = min(end_at, ends[last])
        found[machine_id, uuid] = max(0.0, end_at - start_at)
    return found


def _seen(store: Store, period: Period, tail: Waiting) -> Dict[Gpu, Tuple[str, str]]:
    """(first, last day) of each GPU and slice that was seen in the period."""
    rows = store.rows(
        f"""SELECT machine_id, gpu_uuid, min(day), max(day) FROM gpu_day
           WHERE machine_id IN ({LIVE_MACHINES}) AND day BETWEEN ? AND ? GROUP BY machine_id, gpu_uuid""",
        period.names,
    )
    found = {(machine_id, uuid): (first, last) for machine_id, uuid, first, last in rows}
    for machine_id, one in tail.digests.items():
        for day, uuid in one.gpu_days:
            if period.days[0].name <= day <= period.days[-1].name:
                first, last = found.get((machine_id, uuid), (day, day))
                found[machine_id, uuid] = min(first, day), max(last, day)
    return found
