"""Consecutive intervals of one subject (a GPU, a host, the fleet) as columns of whole numbers, and sums over them. Pure.

Everything is exact: numbers are rounded once, when a digest becomes a chunk; after that only whole numbers are added and compared, so that
the order in which chunks are merged changes nothing, and every tier tells the same sums. Columns are worked on by functions that loop in C.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import chain, repeat
from math import ceil, floor
from operator import add, attrgetter, floordiv, mul, sub, truediv
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.series import Bucket, Minute

SPANS: Mapping[int, int] = {60: 10800, 900: 86400, 3600: 864000}
"""Seconds of one stored chunk, by tier. So few that noisy GPUs fit into a quarter of a page of SQLite, where it keeps rows whole."""

UNITS: Mapping[str, float] = {
    "utilization_percent": 0.1,
    "memory_used_bytes": 1024.0,
    "power_watts": 0.1,
    "temperature_celsius": 0.1,
    "sm_clock_mhz": 1.0,
    "throttled_percent": 1.0,
    "held_percent": 1.0,
    "cpu_percent": 0.1,
    "load_1m": 0.01,
    "disk_used_percent": 0.1,
}
"""What a metric's sums are rounded to. Chunks name a metric by its place here: new ones go to the end, none is ever removed."""
_COARSE: Mapping[str, int] = {"utilization_percent": 10, "power_watts": 10, "temperature_celsius": 10}
"""Units that extremes are rounded to, the lowest down and the highest up, so that the mean lies between; 1 unless said. Whole watts take half the bytes."""

COVERED_UNIT = 0.1
"""Seconds."""
MOST = 2**40
"""Readings beyond so many units are no readings: no GPU draws 100 GW."""
NOTHING = 2**62
"""Lowest (and, negative, highest) of an interval without a sample."""
_SLACK = 1e-6
_EMPTY = Bucket()
_NUMBERS = attrgetter("count", "total", "minimum", "maximum")
_INTEGERS = frozenset((int,))


class Column(NamedTuple):
    """One metric: parallel to ``Chunk.times``. Without a sample: 0, 0, NOTHING, -NOTHING."""

    counts: List[int]
    totals: List[int]
    lows: List[int]
    highs: List[int]


class Floats(NamedTuple):
    """One metric in its own unit; None where there is no sample."""

    minimum: List[Optional[float]]
    mean: List[Optional[float]]
    maximum: List[Optional[float]]
    counts: List[int]


@dataclass
class Chunk:
    """Intervals in order of time. ``times``: their starts in epoch seconds; ``covered``: what their samples stand for, in COVERED_UNIT."""

    times: List[int] = field(default_factory=list)
    covered: List[int] = field(default_factory=list)
    columns: Dict[str, Column] = field(default_factory=dict)

    def cut(self, start_at: float, end_at: float) -> Chunk:
        """The intervals that begin at or after ``start_at`` and before ``end_at``."""
        first, last = bisect_left(self.times, start_at), bisect_left(self.times, end_at)
        return self if (first, last) == (0, len(self.times)) else self.part(first, last)

    def part(self, first: int, last: int) -> Chunk:
        """The intervals from place ``first`` to before ``last``."""
        columns = {name: Column(*[one[first:last] for one in column]) for name, column in self.columns.items()}
        return Chunk(self.times[first:last], self.covered[first:last], columns)

    def only(self, names: Iterable[str]) -> Chunk:
        """The same with these metrics alone."""
        return Chunk(self.times, self.covered, {name: self.columns[name] for name in names if name in self.columns})

    def covered_seconds(self) -> List[float]:
        """Seconds that the samples of each interval stand for; of the fleet: GPU-seconds."""
        return list(map(mul, self.covered, repeat(COVERED_UNIT)))

    def floats(self, name: str) -> Floats:
        """A metric in its own unit. Of a metric that is not there: None and 0 throughout."""
        column = self.columns.get(name)
        if column is None:
            nothing: List[Optional[float]] = [None] * len(self.times)
            return Floats(nothing, nothing, nothing, [0] * len(self.times))
        per_unit = _per_unit(name)
        count, total, low, high = column
        if count and 0 not in count:
            scale = repeat(per_unit)
            lows: List[Optional[float]] = list(map(truediv, low, scale))
            parts = repeat(count[0] * per_unit) if count.count(count[0]) == len(count) else map(mul, count, scale)
            means: List[Optional[float]] = list(map(truediv, total, parts))
            return Floats(lows, means, lows if high == low else list(map(truediv, high, scale)), count)
        return Floats(
            [value / per_unit if number else None for value, number in zip(low, count)],
            [value / per_unit / number if number else None for value, number in zip(total, count)],
            [value / per_unit if number else None for value, number in zip(high, count)],
            count,
        )


def _per_unit(name: str) -> float:
    """How many units one is: exact for decimal units, where the unit itself is not."""
    unit = UNITS[name]
    return 1 / unit if unit > 1 else float(round(1 / unit))


def of_minutes(minutes: Mapping[int, Minute]) -> Chunk:
    """A digest's minutes of one subject. Metrics that UNITS does not know, and readings that are no numbers, are left out."""
    times = sorted(minutes)
    rows = [minutes[at] for at in times]
    covered = [round(row.covered_seconds / COVERED_UNIT) for row in rows]
    names = set().union(*(row.metrics for row in rows))
    columns = {}
    for name in UNITS:
        if name in names:
            column = _column(name, [row.metrics.get(name, _EMPTY) for row in rows])
            if any(column.counts):
                columns[name] = column
    return Chunk(times, covered, columns)


def _column(name: str, buckets: Sequence[Bucket]) -> Column:
    counts, totals, lows, highs = map(list, zip(*map(_NUMBERS, buckets)))
    per_unit, coarse = _per_unit(name), _COARSE.get(name, 1)
    try:
        if _INTEGERS.issuperset(map(type, chain(totals, lows, highs))) and per_unit in (1, coarse):
            if coarse != 1:
                totals, lows, highs = (list(map(mul, column, repeat(coarse))) for column in (totals, lows, highs))
        else:
            step, slack = repeat(per_unit / coarse), repeat(_SLACK)
            lows = list(map(mul, map(floor, map(add, map(mul, lows, step), slack)), repeat(coarse)))
            highs = list(map(mul, map(ceil, map(sub, map(mul, highs, step), slack)), repeat(coarse)))
            totals = list(map(round, map(mul, totals, repeat(per_unit))))
        sound = 0 not in counts and min(lows) >= -MOST and max(highs) <= MOST
    except (ValueError, OverflowError):  # not a number, infinite
        sound = False
    return Column(counts, totals, lows, highs) if sound else _column_with_gaps(name, buckets)


def _column_with_gaps(name: str, buckets: Sequence[Bucket]) -> Column:
    """The same, where some have no sample, or one that cannot be: those are gaps."""
    per_unit, count = _per_unit(name), len(buckets)
    places = [place for place, bucket in enumerate(buckets) if bucket.count and _can_be(bucket, per_unit)]
    column = Column([0] * count, [0] * count, [NOTHING] * count, [-NOTHING] * count)
    if places:
        for whole, values in zip(column, _column(name, [buckets[place] for place in places])):
            for place, value in zip(places, values):
                whole[place] = value
    return column


def _can_be(bucket: Bucket, per_unit: float) -> bool:
    """Far enough below MOST that rounding does not lead beyond it."""
    most = MOST - 1000
    return -most <= bucket.minimum * per_unit <= bucket.maximum * per_unit <= most and abs(bucket.total) < NOTHING


def merge_all(chunks: Iterable[Chunk]) -> Chunk:
    """The sums of all, in any order."""
    waiting = sorted((chunk for chunk in chunks if chunk.times), key=_begin)
    if len(waiting) < 2:
        return waiting[0] if waiting else Chunk()
    if all(one.times[-1] <= other.times[0] for one, other in zip(waiting, waiting[1:])):
        return _chained(waiting)
    while len(waiting) > 1:  # in pairs: each interval is copied a few times, not once for each chunk
        waiting = [merge(*waiting[place : place + 2]) if place + 1 < len(waiting) else waiting[place] for place in range(0, len(waiting), 2)]
    return waiting[0]


def _begin(chunk: Chunk) -> int:
    return chunk.times[0]


def _chained(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks of which each begins after, or in, the last interval of the one before: what blocks bring. One pass for all of them."""
    whole = Chunk(columns={name: _gap(0) for name in dict.fromkeys(chain.from_iterable(chunk.columns for chunk in chunks))})
    for chunk in chunks:
        size = len(chunk.times)
        shared = int(whole.times[-1:] == chunk.times[:1])
        whole.times.extend(chunk.times[shared:])
        if shared:
            whole.covered[-1] += chunk.covered[0]
        whole.covered.extend(chunk.covered[shared:])
        for name, (counts, totals, lows, highs) in whole.columns.items():
            more = chunk.columns.get(name) or _gap(size)
            if shared:
                counts[-1] += more.counts[0]
                totals[-1] += more.totals[0]
                lows[-1] = min(lows[-1], more.lows[0])
                highs[-1] = max(highs[-1], more.highs[0])
            for mine, its in zip((counts, totals, lows, highs), more):
                mine.extend(its[shared:])
    return whole


def merge(first: Chunk, second: Chunk) -> Chunk:
    """The sums of two chunks of one tier. What stands in one of them alone is copied."""
    if not first.times or not second.times:
        return first if first.times else second
    begin, end = max(first.times[0], second.times[0]), min(first.times[-1], second.times[-1])
    if begin > end:
        return join([first, second] if first.times[0] < second.times[0] else [second, first])
    pieces: List[Chunk] = []
    shared: List[Chunk] = []
    tails: List[Chunk] = []
    for chunk in (first, second):
        left, right = bisect_left(chunk.times, begin), bisect_right(chunk.times, end)
        pieces += [chunk.part(0, left)] if left else []
        shared.append(chunk.part(left, right))
        tails += [chunk.part(right, len(chunk.times))] if right < len(chunk.times) else []
    return join([*pieces, _added(*shared), *tails])


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks that follow each other in time, none overlapping, as one."""
    if len(chunks) < 2:
        return chunks[0] if chunks else Chunk()
    names = dict.fromkeys(chain.from_iterable(chunk.columns for chunk in chunks))
    columns = {}
    for name in names:
        parts = [chunk.columns.get(name) or _gap(len(chunk.times)) for chunk in chunks]
        columns[name] = Column(*map(_joined, zip(*parts)))
    times, covered = map(_joined, zip(*((chunk.times, chunk.covered) for chunk in chunks)))
    return Chunk(times, covered, columns)


def _joined(lists: Iterable[List[int]]) -> List[int]:
    found: List[int] = []
    for one in lists:
        found += one
    return found


def _gap(count: int) -> Column:
    return Column([0] * count, [0] * count, [NOTHING] * count, [-NOTHING] * count)


def _added(first: Chunk, second: Chunk) -> Chunk:
    """Chunks over the same stretch of time."""
    if first.times != second.times:
        times = sorted({*first.times, *second.times})
        first, second = _spread(first, times), _spread(second, times)
    columns = {}
    for name in dict.fromkeys((*first.columns, *second.columns)):
        one, other = first.columns.get(name), second.columns.get(name)
        if one is None or other is None:
            columns[name] = one or other or _gap(0)
        else:
            columns[name] = Column(
                list(map(add, one.counts, other.counts)),
                list(map(add, one.totals, other.totals)),
                list(map(min, one.lows, other.lows)),
                list(map(max, one.highs, other.highs)),
            )
    return Chunk(first.times, list(map(add, first.covered, second.covered)), columns)


def _spread(chunk: Chunk, times: List[int]) -> Chunk:
    """The same over more intervals: those it does not have are empty."""
    place = {at: number for number, at in enumerate(chunk.times)}
    places = [place.get(at) for at in times]

    def over(values: List[int], empty: int) -> List[int]:
        return [empty if number is None else values[number] for number in places]

    columns = {
        name: Column(over(one.counts, 0), over(one.totals, 0), over(one.lows, NOTHING), over(one.highs, -NOTHING))
        for name, one in chunk.columns.items()
    }
    return Chunk(times, over(chunk.covered, 0), columns)


def coarsen(chunk: Chunk, step_seconds: int, origin: int = 0) -> Chunk:
    """The same over intervals of ``step_seconds``, which begin at multiples of it counted from ``origin``."""
    shifted = chunk.times if not origin else [at - origin for at in chunk.times]
    numbers = list(map(floordiv, shifted, repeat(step_seconds)))
    bounds = list(_bounds(numbers))
    if len(bounds) == len(numbers):
        return Chunk([number * step_seconds + origin for number in numbers], chunk.covered, chunk.columns)
    columns = {}
    for name, (count, total, low, high) in chunk.columns.items():
        columns[name] = Column(
            [sum(count[first:last]) for first, last in bounds],
            [sum(total[first:last]) for first, last in bounds],
            [min(low[first:last]) for first, last in bounds],
            [max(high[first:last]) for first, last in bounds],
        )
    times = [numbers[first] * step_seconds + origin for first, _ in bounds]
    return Chunk(times, [sum(chunk.covered[first:last]) for first, last in bounds], columns)


def _bounds(numbers: List[int]) -> Iterator[Tuple[int, int]]:
    """First place of each stretch of equal numbers (they only grow), and the place after its last."""
    first = 0
    while first < len(numbers):
        last = bisect_right(numbers, numbers[first], first)
        yield first, last
        first = last


def split(chunk: Chunk, span_seconds: int) -> Iterator[Tuple[int, Chunk]]:
    """The stored chunks that it belongs into: (start in epoch seconds, its part of that chunk)."""
    spans = list(map(floordiv, chunk.times, repeat(span_seconds)))
    for first, last in _bounds(spans):
        yield spans[first] * span_seconds, chunk.part(first, last)
