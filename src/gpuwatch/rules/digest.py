"""From consecutive samples of one machine to what is kept of them: minutes, days of GPUs and users, and intervals of processes. Pure.

A sample stands for the time until the next one; where that is more than three intervals away, for one interval only: what nobody measured is
missing. Everything works on whole columns of a *run* (samples of one shape without such a gap) at C speed: a sample of 8 GPUs and
20 processes costs about 0.01 ms, where a loop over its values in Python costs fifty times that.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import tzinfo
from operator import itemgetter
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.series import FLEET_METRICS, Bucket, Digest, Minute
from gpuwatch.model.snapshot import THROTTLE_ALARMS, Number, Snapshot
from gpuwatch.rules.digest_plan import Plan, Subject
from gpuwatch.rules.digest_usage import Column, Usage, Work, work_of
from gpuwatch.rules.limits import Limits

MOST_INTERVALS = 3.0
"""A sample stands for at most so many intervals."""
MINUTE = 60
THINNED_SECONDS = 60.0
"""Spacing of samples of which most were deleted."""


Buckets = List[Optional[Bucket]]
"""Of one metric, one for each minute of a run; None = nothing was measured."""


class Sample(NamedTuple):
    """One snapshot of the machine. ``places``: ``Shape.places()``, the same object for all samples of one shape."""

    at: float
    places: Snapshot
    values: Sequence[Number]


class Run:
    """Samples of one shape without a gap, as columns."""

    def __init__(
        self, plan: Plan, samples: Sequence[Sample], seconds: Sequence[float], interval_seconds: float, columns: Optional[Dict[int, Column]] = None
    ) -> None:
        self.plan = plan
        self.interval_seconds = interval_seconds
        self.times = [sample.at for sample in samples]
        self.seconds = seconds
        self.end_at = self.times[-1] + seconds[-1]
        self.next: Optional[Run] = None
        """The run that begins where this one ends."""
        self._columns = _columns(plan.wanted, samples) if columns is None else columns

    def column(self, place: Optional[int]) -> Optional[Column]:
        """The values of a place, one a sample; None where the shape has no such number."""
        return None if place is None else self._columns[place]

    def next_energy(self, uuid: str) -> Number:
        """The energy counter of a GPU at the first sample after the run."""
        for subject in self.next.plan.subjects if self.next is not None else ():
            if subject.row.uuid == uuid and self.next is not None and subject.energy_at is not None:
                energy: Number = self.next.column(subject.energy_at)[0]  # type: ignore[index]
                return energy
        return None


def digest(
    samples: Sequence[Sample],
    ends_at: Optional[float],
    *,
    limits: Limits,
    zone: tzinfo,
    asked_every_seconds: float = 0.0,
    following: Optional[Sample] = None,
    columns: Optional[Sequence[Column]] = None,
) -> Digest:
    """All that is kept of ``samples`` (ordered by time; epoch seconds). ``ends_at``: time of the snapshot after the last one; None = unknown.
    ``following``: that snapshot, whose energy counters tell what the last sample took; without it that is power times seconds.
    ``columns``: the values of all samples by place, where they are of one shape and whoever calls has them (one number alone: it is that in all
    samples); those in the samples are not looked at then.

    The interval is the node's own, that of whoever asks it (``asked_every_seconds``), or what the samples themselves keep, whichever is longest.

    Days are those of ``zone``. Two digests of adjoining stretches add up to the digest of both, where ``ends_at`` of the first is the
    start of the second.
    """
    found, usage = Digest(), Usage(zone, limits)
    runs = _runs(samples, ends_at, max(asked_every_seconds, _spacing_seconds(samples)), columns)
    if runs and following is not None and runs[-1].end_at == following.at:
        plan = runs[-1].plan if following.places is samples[-1].places else Plan(following.places)
        runs[-1].next = Run(plan, [following], [0.0], runs[-1].interval_seconds)
    for run in runs:
        _take(run, found, usage, limits)
    found.gpu_days, found.user_days = usage.gpu_days, usage.user_days
    found.intervals = tuple(sorted(usage.intervals, key=lambda interval: interval.start_at))
    return found


def _spacing_seconds(samples: Sequence[Sample]) -> float:
    """How far apart samples usually are: of a hub that asks seldom, or thinned ones. What is far apart is a gap, however often it occurs."""
    spacings = sorted([later.at - sample.at for sample, later in zip(samples, samples[1:])])
    return min(spacings[len(spacings) // 2], THINNED_SECONDS) if spacings else 0.0


def _runs(samples: Sequence[Sample], ends_at: Optional[float], least_seconds: float, columns: Optional[Sequence[Column]]) -> List[Run]:
    plans: Dict[int, Plan] = {}
    runs: List[Run] = []
    start, seconds, joined = 0, [], False
    last = len(samples) - 1
    for number, sample in enumerate(samples):
        plan = plans.get(id(sample.places))
        if plan is None:
            plan = plans[id(sample.places)] = Plan(sample.places)
        until = samples[number + 1].at if number < last else ends_at
        interval = max(plan.interval_seconds, least_seconds)
        spent = interval if until is None else max(0.0, until - sample.at)
        gap = spent > MOST_INTERVALS * interval
        seconds.append(interval if gap else spent)
        if gap or number == last or samples[number + 1].places is not sample.places:
            given = None if columns is None else {at: _piece(columns[at], start, number + 1) for at in plan.wanted}
            run = Run(plan, samples[start : number + 1], seconds, interval, given)
            if joined:
                runs[-1].next = run
            runs.append(run)
            start, seconds, joined = number + 1, [], not gap
    return runs


def _columns(wanted: Sequence[int], samples: Sequence[Sample]) -> Dict[int, Column]:
    if not wanted:
        return {}
    if len(wanted) == 1:
        return {wanted[0]: tuple([sample.values[wanted[0]] for sample in samples])}
    rows = map(itemgetter(*wanted), [sample.values for sample in samples])
    return dict(zip(wanted, zip(*rows)))


def _piece(column: Column, first: int, end: int) -> Column:
    return column[first:end] if len(column) > 1 else [column[0]] * (end - first)


def _take(run: Run, found: Digest, usage: Usage, limits: Limits) -> None:
    spans = _spans(run)
    _keep(found.minutes.setdefault("", {}), spans, _buckets(_host_columns(run), spans))
    usage.start(run.times, run.seconds, run.end_at, run.interval_seconds)
    fleet: Dict[str, Buckets] = {name: [None] * len(spans) for name in FLEET_METRICS}
    for gpu in run.plan.subjects:
        works = {subject.row.uuid: work_of(subject.row, run.column, limits) for subject in (gpu, *gpu.slices)}
        usage.add(gpu, works, run.column, run.next_energy(gpu.row.uuid))
        if gpu.row.lost:
            continue
        buckets = _buckets(_gpu_columns(gpu, run.column), spans)
        _keep(found.minutes.setdefault(gpu.row.uuid, {}), spans, buckets)
        held = _buckets([("held_percent", _held_percent(gpu, works, len(run.times)))], spans)
        for name, column in (*buckets, *held):
            _add(fleet[name], column)
        for part in gpu.slices:
            own = [(name, run.column(at)) for name, at in part.metrics]
            _keep(found.minutes.setdefault(part.row.uuid, {}), spans, _buckets(own, spans))
    measured = sum(not gpu.row.lost for gpu in run.plan.subjects)
    if measured:
        _keep(found.fleet, spans, list(fleet.items()), measured)


class _Span(NamedTuple):
    """A minute of a run: which samples count in it, and how many seconds of it the run covers."""

    start_at: int
    first: int
    end: int
    covered_seconds: float


def _spans(run: Run) -> List[_Span]:
    """A sample counts in the minute in which it was taken, and in each further minute that it covers wholly."""
    spans, times, first = [], run.times, 0
    start_at = int(times[0] // MINUTE) * MINUTE
    while first < len(times) or start_at < run.end_at:
        end = bisect_left(times, start_at + MINUTE, first)
        covered = max(0.0, min(run.end_at, start_at + MINUTE) - max(times[0], start_at))
        whole = end == first and covered == MINUTE
        spans.append(_Span(start_at, first - 1 if whole else first, end, covered))
        first, start_at = end, start_at + MINUTE
    return spans


def _keep(kept: Dict[int, Minute], spans: Sequence[_Span], named: Sequence[Tuple[str, Buckets]], subjects: int = 1) -> None:
    """Add buckets, one a span, to the minutes of the spans; they are the minutes' own then."""
    for place, span in enumerate(spans):
        minute = kept.get(span.start_at)
        if minute is None:
            minute = kept[span.start_at] = Minute(span.start_at)
        minute.covered_seconds += span.covered_seconds * subjects
        metrics = minute.metrics
        for name, buckets in named:
            bucket = buckets[place]
            if bucket is None:
                continue
            if name in metrics:
                metrics[name].merge(bucket)
            else:
                metrics[name] = bucket


def _buckets(columns: Sequence[Tuple[str, Optional[Column]]], spans: Sequence[_Span]) -> List[Tuple[str, Buckets]]:
    """The hot loop: a bucket for each metric and minute."""
    return [(name, _of_column(column, spans)) for name, column in columns if column is not None]


def _of_column(column: Column, spans: Sequence[_Span]) -> Buckets:
    first = column[0]
    if first is not None and column.count(first) == len(column):
        counts = [span.end - span.first for span in spans]
        return [Bucket(count, count * first, first, first) if count else None for count in counts]
    parts = [column[span.first : span.end] for span in spans]
    try:
        return [Bucket(len(part), sum(part), min(part), max(part)) if part else None for part in parts]
    except TypeError:  # some are not reported
        known = [[value for value in part if value is not None] for part in parts]
        return [Bucket(len(part), sum(part), min(part), max(part)) if part else None for part in known]


def _add(sums: Buckets, buckets: Buckets) -> None:
    """Merge the buckets of one more GPU into ``sums``, which are nobody else's."""
    for place, one in enumerate(buckets):
        if one is None:
            continue
        known = sums[place]
        if known is None:
            sums[place] = Bucket(one.count, one.total, one.minimum, one.maximum)
            continue
        known.count += one.count
        known.total += one.total
        if one.minimum < known.minimum:
            known.minimum = one.minimum
        if one.maximum > known.maximum:
            known.maximum = one.maximum


def _gpu_columns(gpu: Subject, column: Callable[[Optional[int]], Optional[Column]]) -> List[Tuple[str, Optional[Column]]]:
    masks = column(gpu.throttle_at)
    throttled: Optional[Column] = None
    if masks is not None:
        throttled = [None if mask is None else 100 if int(mask) & THROTTLE_ALARMS else 0 for mask in masks] if any(masks) else masks
    return [(name, column(at)) for name, at in gpu.metrics] + [("throttled_percent", throttled)]


def _held_percent(gpu: Subject, works: Dict[str, Work], count: int) -> Optional[Column]:
    """100 where somebody holds the GPU or one of its slices, 0 where nobody does, None where that is not known."""
    if not gpu.row.mig:
        return works[gpu.row.uuid].held_percent(count)
    columns = [works[part.row.uuid].held_percent(count) or [None] * count for part in gpu.slices]
    return [100 if 100 in row else None if None in row else 0 for row in zip(*columns)] or None


def _host_columns(run: Run) -> List[Tuple[str, Optional[Column]]]:
    found: List[Tuple[str, Optional[Column]]] = [(name, run.column(at)) for name, at in run.plan.host]
    disks = [list(map(_share, run.column(used) or (), run.column(total) or ())) for used, total in run.plan.disks]
    if disks:
        found.append(("disk_used_percent", [max((share for share in row if share is not None), default=None) for row in zip(*disks)]))
    return found


def _share(used: Number, total: Number) -> Number:
    return None if used is None or not total else 100.0 * used / total
