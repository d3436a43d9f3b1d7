"""One metric over time, of a GPU, a host, all GPUs or a user: rollups of the tier that fits the step, and what still waits in the journal.

A step in which nothing was measured is a gap: None, never 0. Never writes.
"""

from __future__ import annotations

import math
from operator import add
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import FLEET_METRICS, GPU_METRICS, HOST_METRICS, TIERS, USER_METRICS, Series, UserDay
from gpuwatch.query.days import Day, days_between
from gpuwatch.query.latest import Latest
from gpuwatch.query.subjects import SLICE, Subject, card_uuids, cards, find
from gpuwatch.query.tail import Tails, Waiting, fleet_of, waiting, zone_of
from gpuwatch.store import rollups, usage
from gpuwatch.store.chunks import COVERED_UNIT, Chunk, coarsen, merge, merge_all, of_minutes
from gpuwatch.store.database import Store

MOST_POINTS = 4000
STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
"""What a step is made when the one that was asked for gives too many points."""
MOST_SECONDS = 100 * 366 * 86400.0
SLICE_METRICS: Mapping[str, str] = {name: GPU_METRICS[name] for name in ("utilization_percent", "memory_used_bytes")}
DAY_SECONDS = 86400
_EVER = 2.0**40

Value = TypeVar("Value")


def series(
    store: Store,
    latest: Latest,
    *,
    metric: str,
    host: str = "",
    gpu: str = "",
    user: str = "",
    start_at: float,
    end_at: float,
    step: float = 0,
    points: int = MOST_POINTS,
    now: float,
    tails: Optional[Tails] = None,
) -> Series:
    """One metric from ``start_at`` to ``end_at`` (epoch seconds); see ``many``."""
    found = many(
        store, latest, (metric,), host=host, gpu=gpu, user=user, start_at=start_at, end_at=end_at, step=step, points=points, now=now, tails=tails
    )  # fmt: skip
    return found[metric]


def many(
    store: Store,
    latest: Latest,
    metrics: Sequence[str],
    *,
    host: str = "",
    gpu: str = "",
    user: str = "",
    start_at: float,
    end_at: float,
    step: float = 0,
    points: int = MOST_POINTS,
    now: float,
    tails: Optional[Tails] = None,
) -> Dict[str, Series]:
    """Several metrics of one subject, read once: of the GPU ``gpu`` (UUID, or with ``host`` its number), else of ``host``, else of all GPUs.

    A GPU's metric with ``host`` alone is over all GPUs of the host. With ``user``: sums a day (``USER_METRICS``), of one GPU or host or of all.
    Steps are ``step`` seconds (0 = as fine as ``points`` allow), rounded up to whole intervals of the coarsest tier not above it, and
    further until there are at most ``points``; they begin at multiples of themselves, a user's at midnight. What waits in the journal is counted
    in, of all machines together where it is little; else ``counted_until_at`` says until when they count. Raises UsageError (unknown metric, host or GPU; no time), StoreError.
    """
    if not (0 <= start_at < end_at and end_at - start_at <= MOST_SECONDS):
        raise UsageError("The series would end before it begins, or is over more than 100 years.", "Give a to= that is later than from=.")
    units = units_of(host, gpu, user)
    for metric in metrics:
        if metric not in units:
            raise UsageError(f"metric={metric[:40]!r} is not one of {', '.join(units)}.")
    if user:
        return _of_user(store, latest, metrics, (host, gpu, user), start_at, end_at, tails or Tails())
    grid = _grid(start_at, end_at, step, max(1, points))
    source = _Source(store, latest, tails or Tails(), grid)
    if not host and not gpu:
        return {metric: _series(metric, units[metric], source.fleet(metric), grid, (start_at, end_at, now), source.subject) for metric in metrics}
    source.subject = find(store, latest, host, gpu)
    return {metric: _series(metric, units[metric], source.one(metric, metrics), grid, (start_at, end_at, now), source.subject) for metric in metrics}


def units_of(host: str = "", gpu: str = "", user: str = "") -> Mapping[str, str]:
    """The metrics of such a subject, and their units."""
    if user:
        return USER_METRICS
    if gpu:
        return SLICE_METRICS if gpu.startswith(SLICE) else GPU_METRICS
    return {**GPU_METRICS, **HOST_METRICS} if host else FLEET_METRICS


class Grid(NamedTuple):
    """The steps of a series: from ``begin`` to before ``end``, both multiples of the step."""

    begin: int
    end: int
    step: int
    tier: int


def _grid(start_at: float, end_at: float, step: float, points: int) -> Grid:
    wanted = max(TIERS[0], math.ceil(step))
    for wider in (wanted, *(one for one in STEPS if one > wanted)):
        grid = _steps(start_at, end_at, wider)
        if (grid.end - grid.begin) // grid.step <= points:
            return grid
    weeks = math.ceil((end_at - start_at) / points / STEPS[-1]) + 1
    return _steps(start_at, end_at, max(weeks * STEPS[-1], wanted))


def _steps(start_at: float, end_at: float, wanted: int) -> Grid:
    tier = max(one for one in TIERS if one <= wanted)
    step = -(-wanted // tier) * tier
    return Grid(int(start_at // step) * step, -int(-end_at // step) * step, step, tier)


class _Found(NamedTuple):
    """Intervals of the grid's tier; ``cards``: how many GPUs ``covered`` is of; ``since``: before it nothing is kept; ``until``: see ``Series``."""

    chunk: Chunk
    cards: int
    since_at: Optional[float]
    until_at: Optional[float] = None


class _Source:
    """Reads rollups and journal of one subject, each once."""

    def __init__(self, store: Store, latest: Latest, tails: Tails, grid: Grid) -> None:
        self.subject = Subject("", "")
        self._store, self._latest, self._tails, self._grid = store, latest, tails, grid
        self._chunks: Dict[str, _Found] = {}

    def fleet(self, metric: str) -> _Found:
        """All GPUs."""
        grid = self._grid
        if "" not in self._chunks:
            with self._store.reading():
                tail = waiting(self._store, self._latest, self._tails)
                chunk = rollups.read(self._store, rollups.FLEET, rollups.HOST, grid.tier, grid.begin, grid.end)
                more = fleet_of(tail)
                since = _since(self._store, rollups.FLEET, rollups.HOST, grid.tier, more)
            chunk = merge(chunk, coarsen(more, grid.tier).cut(grid.begin, grid.end))
            most = max(chunk.covered_seconds(), default=0.0) / grid.tier
            self._chunks[""] = _Found(chunk, max(1, cards(self._latest), math.ceil(most - 0.01)), since, tail.counted_until_at)
        return self._chunks[""]

    def one(self, metric: str, metrics: Sequence[str]) -> _Found:
        """The GPU or host, or all GPUs of the host where the metric is not the host's own."""
        uuid = self.subject.gpu or rollups.HOST
        key = "cards" if not self.subject.gpu and metric not in HOST_METRICS else "own"
        if key not in self._chunks:
            with self._store.reading():
                uuids = card_uuids(self._store, self.subject.machine_id) if key == "cards" else [uuid]
                minutes = self._tails.of(self._store, self._latest, self.subject.machine_id).minutes
                uuids += [one for one in minutes if key == "cards" and one and not one.startswith(SLICE) and one not in uuids]
                found = [self._read(one, of_minutes(minutes.get(one, {})), metrics) for one in uuids]
            starts = [since for _, since in found if since is not None]
            self._chunks[key] = _Found(merge_all(chunk for chunk, _ in found), max(1, len(uuids)), min(starts, default=None))
        return self._chunks[key]

    def _read(self, uuid: str, waiting: Chunk, metrics: Sequence[str]) -> Tuple[Chunk, Optional[float]]:
        grid, machine_id = self._grid, self.subject.machine_id
        stored = rollups.read(self._store, machine_id, uuid, grid.tier, grid.begin, grid.end, metrics)
        chunk = merge(stored, coarsen(waiting.only(metrics), grid.tier).cut(grid.begin, grid.end))
        return chunk, _since(self._store, machine_id, uuid, grid.tier, waiting)


def _since(store: Store, machine_id: str, uuid: str, tier: int, waiting: Chunk) -> Optional[float]:
    """Before it there is no reading of this tier. ``waiting``: what is in the journal, by minute."""
    since = rollups.kept_since(store, machine_id, uuid, tier)
    if since is None:  # all that there is waits in parts, or in the journal
        times = [*rollups.read(store, machine_id, uuid, tier, 0, _EVER, ()).times[:1], *coarsen(waiting, tier).times[:1]]
        return float(min(times)) if times else None
    return since


def _series(metric: str, unit: str, found: _Found, grid: Grid, span: Tuple[float, float, float], subject: Subject) -> Series:
    """On the grid, with a gap wherever nothing was measured."""
    start_at, end_at, now = span
    chunk = found.chunk.only((metric,))
    if grid.step != grid.tier:
        chunk = coarsen(chunk, grid.step)
    minima, means, maxima, counts = chunk.floats(metric)
    coverage, at = _coverage(chunk, counts, grid, now, found.cards), _stretches(chunk, grid)
    return Series(
        metric, unit, start_at, end_at, grid.step, grid.tier, tuple(range(grid.begin, grid.end, grid.step)), _placed(minima, None, at, grid),
        _placed(means, None, at, grid), _placed(maxima, None, at, grid), _placed(counts, 0, at, grid), _placed(coverage, 0.0, at, grid),
        subject.host, subject.gpu, "", found.since_at, None if found.until_at is None or found.until_at >= end_at else found.until_at,
    )  # fmt: skip


def _coverage(chunk: Chunk, counts: Sequence[int], grid: Grid, now: float, cards: int) -> List[float]:
    """Share of each of the chunk's steps, as far as it is over, that was measured."""
    shares = {units: min(1.0, round(units * COVERED_UNIT / grid.step / cards, 4)) for units in set(chunk.covered)}
    found = list(shares.values()) * len(chunk.covered) if len(shares) == 1 else list(map(shares.__getitem__, chunk.covered))
    if chunk.times and chunk.times[-1] + grid.step > now:
        found[-1] = min(1.0, round(chunk.covered[-1] * COVERED_UNIT / max(1.0, now - chunk.times[-1]) / cards, 4))
    return found if 0 not in counts else [share if count else 0.0 for share, count in zip(found, counts)]


Stretch = Tuple[int, int, int]
"""(step of the grid, first place, place after the last) of intervals of a chunk that follow each other without a gap."""


def _stretches(chunk: Chunk, grid: Grid) -> List[Stretch]:
    return [((chunk.times[first] - grid.begin) // grid.step, first, end) for first, end in _whole(chunk.times, grid.step, 0, len(chunk.times))]


def _whole(times: Sequence[int], step: int, first: int, end: int) -> List[Tuple[int, int]]:
    """(first place, place after the last) of stretches without a gap, by halving: gaps are few, and steps are many."""
    if first == end:
        return []
    if times[end - 1] - times[first] == step * (end - 1 - first):
        return [(first, end)]
    middle = (first + end) // 2
    left, right = _whole(times, step, first, middle), _whole(times, step, middle, end)
    if times[middle] - times[middle - 1] == step:
        return [*left[:-1], (left[-1][0], right[0][1]), *right[1:]]
    return left + right


def _placed(values: Sequence[Value], empty: Value, stretches: Sequence[Stretch], grid: Grid) -> Tuple[Value, ...]:
    """The chunk's values at their steps of the grid, ``empty`` elsewhere."""
    filled = [empty] * ((grid.end - grid.begin) // grid.step)
    for step, first, end in stretches:
        filled[step : step + end - first] = values[first:end]
    return tuple(filled)


# ---- users: sums by day


def _of_user(
    store: Store, latest: Latest, metrics: Sequence[str], about: Tuple[str, str, str], start_at: float, end_at: float, tails: Tails
) -> Dict[str, Series]:
    """A day on which the user had nothing is 0; one on which nothing at all was measured is a gap."""
    host, gpu, user = about
    subject = find(store, latest, host, gpu) if host or gpu else Subject("", "")
    days = days_between(start_at, end_at, zone_of(latest.display.timezone))
    with store.reading():
        tail = Waiting({subject.machine_id: tails.of(store, latest, subject.machine_id)}, None) if subject.machine_id else waiting(store, latest, tails)
        sums = _sums_of_user(store, subject, user, days, tail)
        found = _measured(store, latest, subject, days, tail)
    most = 1 if subject.machine_id else found.cards
    coverage = [min(1.0, round(sum(found.chunk.cut(day.begin, day.end).covered_seconds()) / (day.end - day.begin) / most, 4)) for day in days]
    coverage = [max(share, 0.0001) if day.name in sums else share for day, share in zip(days, coverage)]
    until = None if found.until_at is None or found.until_at >= end_at else found.until_at
    made = {}
    for metric in metrics:
        values = tuple(_user_value(metric, sums.get(day.name, UserDay())) if share else None for day, share in zip(days, coverage))
        made[metric] = Series(
            metric, USER_METRICS[metric], start_at, end_at, DAY_SECONDS, DAY_SECONDS, tuple(day.begin for day in days), values, values, values,
            tuple(int(value is not None) for value in values), tuple(coverage), subject.host, subject.gpu, user, found.since_at, until,
        )  # fmt: skip
    return made


def _sums_of_user(store: Store, subject: Subject, user: str, days: Sequence[Day], tail: Waiting) -> Dict[str, UserDay]:
    """By day, of one GPU or host or of all, with what waits."""
    by = ("day", "gpu_uuid") if subject.gpu else ("day",)
    ids = [subject.machine_id] if subject.machine_id else None
    rows = usage.user_days(store, days[0].name, days[-1].name, ids, user=user, by=by)
    sums = {row.day: row.sums for row in rows if not subject.gpu or row.gpu_uuid == subject.gpu}
    for one in tail.digests.values():
        for (day, uuid, name), its in one.user_days.items():
            if name == user and (not subject.gpu or uuid == subject.gpu):
                sums[day] = _added(sums.get(day, UserDay()), its)
    return sums


def _measured(store: Store, latest: Latest, subject: Subject, days: Sequence[Day], tail: Waiting) -> _Found:
    """The hours in which the host, or the fleet, was measured at all."""
    owner = subject.machine_id or rollups.FLEET
    more = of_minutes(tail.digests[owner].minutes.get("", {})) if subject.machine_id else fleet_of(tail)
    stored = rollups.read(store, owner, rollups.HOST, TIERS[-1], days[0].begin, days[-1].end, ())
    chunk = merge(stored, coarsen(more.only(()), TIERS[-1]).cut(days[0].begin, days[-1].end))
    most = max(1, cards(latest), math.ceil(max(chunk.covered_seconds(), default=0.0) / TIERS[-1] - 0.01))
    return _Found(chunk, most, _since(store, owner, rollups.HOST, TIERS[-1], more), tail.counted_until_at)


def _added(one: UserDay, other: UserDay) -> UserDay:
    return UserDay(*map(add, vars(one).values(), vars(other).values()))


def _user_value(metric: str, sums: UserDay) -> float:
    if metric in ("held_hours", "busy_hours", "idle_hours"):
        return float(getattr(sums, metric.replace("_hours", "_seconds"))) / 3600
    return float(getattr(sums, metric))
