"""What a page of reports shows beside usage: when the fleet works, what stands idle and who held it, what nobody uses, which hosts were away.

Over whole days of the hub's zone. Never writes.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Dict, List, Optional, Sequence, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import FLEET_METRICS, Downtime, FleetReport, GpuUse, HeatMap, PastProcess
from gpuwatch.query.latest import Latest
from gpuwatch.query.processes import longest
from gpuwatch.query.subjects import Names
from gpuwatch.query.tail import Tails, Waiting, fleet_of, waiting, zone_of
from gpuwatch.query.usage import HOUR, Period, gpu_sums, kept_since, period_of
from gpuwatch.rules.permissions import STRANGER
from gpuwatch.store import intervals, machines, rollups
from gpuwatch.store.chunks import coarsen, merge
from gpuwatch.store.database import Store
from gpuwatch.store.tables import IMPORTED
from gpuwatch.store.usage import GpuDayRow

MOST_IDLE, MOST_INACTIVE, MOST_HOLDERS, MOST_OUTAGES = 20, 100, 5, 20
FEW_DAYS = 7
"""Outages of so few days are told to the quarter of an hour, of more to the hour."""
LEAST_SHARE = 0.5
"""An interval with less of it covered is part of an outage."""


def fleet_report(
    store: Store,
    latest: Latest,
    *,
    first_day: str,
    last_day: str,
    now: float,
    metric: str = "utilization_percent",
    audience: str = STRANGER,
    tails: Optional[Tails] = None,
) -> FleetReport:
    """The days from ``first_day`` to ``last_day``, both included. ``metric``: of the heat map. Raises UsageError, StoreError."""
    if metric not in FLEET_METRICS:
        raise UsageError(f"metric={metric[:40]!r} is not one of {', '.join(FLEET_METRICS)}.")
    zone = zone_of(latest.display.timezone)
    with store.reading():
        tail = waiting(store, latest, tails or Tails())
        period = period_of(store, latest, first_day, last_day, now, tail)
        names = Names(store, latest)
        rows = gpu_sums(store, period, tail, ("machine_id", "gpu_uuid"))
        return FleetReport(
            *period.names,
            latest.display.timezone,
            heat_map(store, period, zone, metric, tail),
            _most_idle(store, latest, names, period, rows, audience),
            _inactive(store, names, period, rows),
            _downtime(store, latest, names, period),
            period.kept_since_at,
        )


def heat_map(store: Store, period: Period, zone: tzinfo, metric: str, tail: Waiting) -> HeatMap:
    """One of FLEET_METRICS by hour of the week: means over all readings. The hour that is repeated when clocks go back counts twice."""
    chunk = rollups.read(store, rollups.FLEET, rollups.HOST, 3600, period.start_at // 3600 * 3600, period.end_at, (metric,))
    more = coarsen(fleet_of(tail).only((metric,)), 3600).cut(period.start_at // 3600 * 3600, period.end_at)
    chunk = merge(chunk, more)
    _, means, _, counts = chunk.floats(metric)
    total = [[0.0] * 24 for _ in range(7)]
    count = [[0] * 24 for _ in range(7)]
    hours = [[0] * 24 for _ in range(7)]
    for at, mean, number in zip(chunk.times, means, counts):
        if mean is not None:
            local = datetime.fromtimestamp(at, zone)
            day, hour = local.weekday(), local.hour
            total[day][hour] += mean * number
            count[day][hour] += number
            hours[day][hour] += 1
    mean_rows = tuple(
        tuple(one / number if number else None for one, number in zip(row, numbers)) for row, numbers in zip(total, count)
    )
    possible = max(1.0, (period.end_at - period.start_at) / HOUR)
    coverage = min(1.0, sum(map(sum, hours)) / possible)
    return HeatMap(metric, FLEET_METRICS[metric], mean_rows, tuple(map(tuple, hours)), coverage)


def _most_idle(
    store: Store, latest: Latest, names: Names, period: Period, rows: Sequence[GpuDayRow], audience: str
) -> Tuple[GpuUse, ...]:
    chosen = sorted((row for row in rows if row.sums.idle_seconds > 0), key=lambda row: (-row.sums.idle_seconds, row.gpu_uuid))[:MOST_IDLE]
    return tuple(
        _use(names, row, longest(store, latest, names, row.machine_id, row.gpu_uuid, period.start_at, period.end_at, MOST_HOLDERS, audience))
        for row in chosen
    )


def _inactive(store: Store, names: Names, period: Period, rows: Sequence[GpuDayRow]) -> Tuple[GpuUse, ...]:
    """Measured, and never held; those measured longest first."""
    chosen = [row for row in rows if row.sums.measured_seconds > 0 and not row.sums.held_seconds]
    chosen.sort(key=lambda row: (-row.sums.measured_seconds, names.host(row.machine_id), row.gpu_uuid))
    found = []
    for row in chosen[:MOST_INACTIVE]:
        last = intervals.read(store, row.machine_id, row.gpu_uuid, start_at=0.0, end_at=period.end_at, limit=1)
        found.append(_use(names, row, (), last[0].interval.end_at if last else None))
    return tuple(found)


def _use(names: Names, row: GpuDayRow, holders: Tuple[PastProcess, ...], last_held_at: Optional[float] = None) -> GpuUse:
    gpu, sums = names.gpu(row.machine_id, row.gpu_uuid), row.sums
    hours = sums.idle_seconds / HOUR, sums.held_seconds / HOUR, sums.measured_seconds / HOUR
    return GpuUse(row.gpu_uuid, gpu.host, gpu.name, gpu.model, *hours, holders, last_held_at)


# ---- hosts that were away


def _downtime(store: Store, latest: Latest, names: Names, period: Period) -> Tuple[Downtime, ...]:
    """Every host that was watched in the period, by how long there was no reading of it."""
    tier = 900 if len(period.days) <= FEW_DAYS else 3600
    found = []
    for machine in machines.list_all(store):
        if machine.name.startswith(IMPORTED):  # it was never watched
            continue
        known_since = kept_since(store, machine.id, rollups.HOST)
        start_at = max(period.start_at, machine.created_at if known_since is None else min(known_since, machine.created_at))
        removed_at = machine.removed_at if machine.id not in names.present else None
        end_at = period.end_at if removed_at is None else min(period.end_at, removed_at)
        if end_at > start_at:
            covered = _covered(store, latest, machine.id, tier, start_at, end_at)
            measured = min(end_at - start_at, sum(covered.values()))
            found.append(Downtime(names.host(machine.id), end_at - start_at, measured, _outages(covered, tier, start_at, end_at), tier))
    return tuple(sorted(found, key=lambda one: (-one.down_seconds, one.host)))


def _covered(store: Store, latest: Latest, machine_id: str, tier: int, start_at: float, end_at: float) -> Dict[int, float]:
    """Seconds of each interval of which there are readings, those of the journal included as far as its ends tell."""
    chunk = rollups.read(store, machine_id, rollups.HOST, tier, start_at // tier * tier, end_at, ())
    covered = dict(zip(chunk.times, chunk.covered_seconds()))
    first, last = (
        store.rows(f"SELECT taken_at_ms FROM snapshot_journal WHERE machine_id = ? ORDER BY taken_at_ms {order} LIMIT 1", (machine_id,))
        for order in ("ASC", "DESC")
    )
    if first and last:
        at, until = max(start_at, first[0][0] / 1000), min(end_at, last[0][0] / 1000 + latest.display.interval_seconds)
        while at < until:
            begin = int(at // tier) * tier
            covered[begin] = covered.get(begin, 0.0) + min(until, begin + tier) - at
            at = float(begin + tier)
    return covered


def _outages(covered: Dict[int, float], tier: int, start_at: float, end_at: float) -> Tuple[Tuple[float, float], ...]:
    """Stretches of intervals of which less than half is covered, longest first."""
    found: List[Tuple[float, float]] = []
    for begin in range(int(start_at // tier) * tier, int(end_at // tier) * tier + tier, tier):
        low, high = max(start_at, begin), min(end_at, begin + tier)
        if high <= low or covered.get(begin, 0.0) >= LEAST_SHARE * (high - low):
            continue
        if found and found[-1][1] == low:
            low = found.pop()[0]
        found.append((float(low), float(high)))
    return tuple(sorted(found, key=lambda one: (one[0] - one[1], one[0]))[:MOST_OUTAGES])
