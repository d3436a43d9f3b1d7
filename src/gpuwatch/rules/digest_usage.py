"""Who had what: from the columns of a run to days of GPUs and users, and to intervals of processes. Pure; used by ``digest`` alone.

An *amount* is a column of what each sample adds to a sum (seconds, byte-seconds, joules). Where a day ends within a run, the amounts of the
sample that lasts over midnight are split by time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta, tzinfo
from itertools import compress
from operator import mul, sub
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from gpuwatch.model.series import GpuDay, ProcessInterval, UserDay
from gpuwatch.model.snapshot import Number, ProcessReading
from gpuwatch.model.units import GIB
from gpuwatch.rules.digest_plan import Subject
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.rows import Row
from gpuwatch.rules.states import base_state

MOST_INTERVALS = 3.0
"""A process that was not seen for more intervals has a new interval when it comes back."""
GIB_HOUR = GIB * 3600.0
MOST_WATTS = 3000.0
"""No card draws more: a counter that says so jumped."""

Column = Sequence[Any]
Columns = Callable[[Optional[int]], Optional[Column]]
Amounts = Sequence[float]
Chosen = Union[bool, Sequence[bool]]
"""Which samples: all, none, or one flag a sample."""


class Work(NamedTuple):
    """What a GPU or slice did in each sample of a run."""

    measured: Chosen
    """It is known whether somebody holds it."""
    held: Chosen
    busy: Chosen
    """Held and at work; and below, held while its utilization was not reported."""
    unknown: Chosen

    def held_percent(self, count: int) -> Optional[Column]:
        """100 where it is held, 0 where not, None where that is not known; None alone where it never is."""
        if isinstance(self.held, bool) and isinstance(self.measured, bool):
            return [100 if self.held else 0] * count if self.measured else None
        held, measured = _flags(self.held, count), _flags(self.measured, count)
        return [(100 if one else 0) if known else None for one, known in zip(held, measured)]


_NO_WORK = Work(False, False, False, False)


def work_of(row: Row, column: Columns, limits: Limits) -> Work:
    """By ``rules.states.base_state``: held = "busy". A card cut into slices and one that is lost are not measured themselves."""
    if row.lost or row.mig:
        return _NO_WORK
    utilization = column(row.utilization_at)
    measured, held = (True, True) if row.processes else _held(row, utilization, column(row.memory_at), limits)
    busy, unknown = _busy(utilization, limits.idle_utilization)
    return Work(measured, held, _both(held, busy), _both(held, unknown))


def _held(row: Row, utilization: Optional[Column], memory: Optional[Column], limits: Limits) -> Tuple[Chosen, Chosen]:
    """(known, held) where no process takes it. More memory or work never makes a GPU free: if the most of both leaves it free, all do."""

    def state(used: Number, work: Number) -> str:
        return base_state(False, False, row.processes, used, work, row.unified, limits)

    try:
        most = state(max(memory) if memory else None, max(utilization) if utilization else None)
        if most != "busy":
            return most == "free", False
    except TypeError:  # some are not reported
        pass
    count = len(memory or utilization or ())
    states = list(map(state, memory or [None] * count, utilization or [None] * count))
    return [one in ("busy", "free") for one in states], [one == "busy" for one in states]


def _busy(utilization: Optional[Column], idle_utilization: float) -> Tuple[Chosen, Chosen]:
    """(at work, not reported)."""
    if utilization is None:
        return False, True
    try:
        if min(utilization) > idle_utilization:
            return True, False
        return [value > idle_utilization for value in utilization], False
    except TypeError:
        return [value is not None and value > idle_utilization for value in utilization], [value is None for value in utilization]


def _flags(chosen: Chosen, count: int) -> Sequence[bool]:
    return [chosen] * count if isinstance(chosen, bool) else chosen


def _both(one: Chosen, other: Chosen) -> Chosen:
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    return [first and second for first, second in zip(one, other)]


class _Part(NamedTuple):
    """The samples of a run in one day, from ``first`` to before ``end``; of the outer ones only a share may be of this day."""

    day: str
    first: int
    end: int
    first_share: float
    last_share: float

    def sum(self, amounts: Amounts, chosen: Chosen, whole: bool) -> float:
        """What the chosen samples add up to in this day. ``whole``: the run is all in this day."""
        if chosen is False:
            return 0.0
        if not whole:
            amounts = list(amounts[self.first : self.end])
            amounts[0] *= self.first_share
            amounts[-1] *= self.last_share
            chosen = chosen if chosen is True else chosen[self.first : self.end]
        return float(sum(amounts) if chosen is True else sum(compress(amounts, chosen)))


class Usage:
    """Adds up one machine's runs, in their order."""

    def __init__(self, zone: tzinfo, limits: Limits) -> None:
        self.gpu_days: Dict[Tuple[str, str], GpuDay] = {}
        self.user_days: Dict[Tuple[str, str, str], UserDay] = {}
        self.intervals: List[ProcessInterval] = []
        self._open: Dict[Tuple[str, int, Optional[float]], ProcessInterval] = {}
        self._zone = zone
        self._day = ("", 0.0, 0.0)
        self._parts: List[_Part] = []
        self._seconds: Amounts = ()
        self._begin_at = self._end_at = self._patience = 0.0

    def start(self, times: Sequence[float], seconds: Amounts, end_at: float, interval_seconds: float) -> None:
        """Begin a run: the times of its samples, and how long each of them stands for."""
        self._seconds, self._begin_at, self._end_at = seconds, times[0], end_at
        self._patience = MOST_INTERVALS * interval_seconds
        self._parts = []
        at = times[0]
        while True:
            day, until = self._day_of(at)
            first = max(0, bisect_right(times, at) - 1) if self._parts else 0
            end = bisect_left(times, until)
            self._parts.append(_Part(day, first, end, *_shares(times, seconds, first, end, at, until)))
            if until >= end_at:
                return
            at = until

    def _day_of(self, at: float) -> Tuple[str, float]:
        """The day of a moment, and when it ends: 23 and 25 hours long where the clock changes."""
        if not self._day[1] <= at < self._day[2]:
            date = datetime.fromtimestamp(at, self._zone).date()
            begin, end = (
                datetime(one.year, one.month, one.day, tzinfo=self._zone).timestamp() for one in (date, date + timedelta(days=1))
            )
            self._day = date.isoformat(), begin, max(end, at + 1)
        return self._day[0], self._day[2]

    def add(self, gpu: Subject, works: Mapping[str, Work], column: Columns, next_energy: Number) -> None:
        """Add one GPU with its slices. One that is lost was there, and nothing of it was measured."""
        if gpu.row.lost:
            for part in self._parts:
                self._gpu_day(part.day, gpu.row.uuid)
            return
        joules = _joules(column(gpu.energy_at), column(gpu.power_at), self._seconds, next_energy)
        rest = joules
        if gpu.row.mig:
            for piece, weights in zip(gpu.slices, _weights(gpu, column, len(self._seconds))):
                own = list(map(mul, joules, weights))
                rest = list(map(sub, rest, own))
                self._add(piece, works[piece.row.uuid], column, list(map(mul, self._seconds, weights)), own)
        self._add(gpu, works[gpu.row.uuid], column, self._seconds, rest)

    def _add(self, subject: Subject, work: Work, column: Columns, seconds: Amounts, joules: Amounts) -> None:
        """``seconds``: GPU-seconds, for a slice its share of the card's."""
        memory = _over(column(subject.row.memory_at), self._seconds)
        processes = [(process, self._interval(subject.row.uuid, process, column)) for process in subject.processes]
        whole = len(self._parts) == 1
        for part in self._parts:
            day = self._gpu_day(part.day, subject.row.uuid)
            held = part.sum(seconds, work.held, whole)
            busy, unknown = part.sum(seconds, work.busy, whole), part.sum(seconds, work.unknown, whole)
            energy = part.sum(joules, work.held, whole)
            day.measured_seconds += part.sum(seconds, work.measured, whole)
            day.held_seconds += held
            day.busy_seconds += busy
            day.unknown_seconds += unknown
            day.idle_seconds += max(0.0, held - busy - unknown)
            day.unattributed_seconds += 0.0 if subject.users else held
            day.memory_gib_hours += memory.factor * part.sum(memory.amounts, work.held, whole) / GIB_HOUR
            day.energy_joules += part.sum(joules, True, whole)
            if not held:
                continue
            for user in subject.users:
                own = [one.factor * part.sum(one.amounts, work.held, whole) for process, one in processes if process.user == user]
                self._add_user((part.day, subject.row.uuid, user), len(subject.users), (held, busy, unknown, energy), sum(own) / GIB_HOUR)

    def _gpu_day(self, day: str, uuid: str) -> GpuDay:
        return self.gpu_days.setdefault((day, uuid), GpuDay())

    def _add_user(self, key: Tuple[str, str, str], sharers: int, sums: Tuple[float, ...], memory_gib_hours: float) -> None:
        day = self.user_days.setdefault(key, UserDay())
        held, busy, unknown, energy = [one / sharers for one in sums]
        day.held_seconds += held
        day.busy_seconds += busy
        day.unknown_seconds += unknown
        day.idle_seconds += max(0.0, held - busy - unknown)
        day.memory_gib_hours += memory_gib_hours
        day.energy_joules += energy

    def _interval(self, uuid: str, process: ProcessReading, column: Columns) -> _Product:
        """Open or extend the interval of a process; its byte-seconds."""
        memory = _over(column(None if process.gpu_memory_bytes is None else int(process.gpu_memory_bytes)), self._seconds)
        key = (uuid, process.pid, process.started_at)
        known = self._open.get(key)
        if known is None or self._begin_at - known.end_at > self._patience:
            known = self._open[key] = ProcessInterval(
                uuid, process.pid, process.started_at, process.user, process.name, process.command, self._begin_at, self._end_at
            )
            self.intervals.append(known)
        known.end_at = self._end_at
        known.user, known.name, known.command = known.user or process.user, known.name or process.name, known.command or process.command
        if memory.known:
            known.peak_memory_bytes = max(memory.most, known.peak_memory_bytes or 0.0)
            known.memory_byte_seconds += memory.factor * sum(memory.amounts)
            known.memory_seconds += sum(memory.known)
        return memory


def _shares(times: Sequence[float], seconds: Amounts, first: int, end: int, at: float, until: float) -> Tuple[float, float]:
    """Which share of the first and of the last sample lies between ``at`` and ``until``; of a single one, the first share is all."""

    def share(number: int) -> float:
        begin, whole = times[number], seconds[number]
        return max(0.0, min(begin + whole, until) - max(begin, at)) / whole if whole else 1.0

    return share(first), share(end - 1) if end - first > 1 else 1.0


def _joules(energy: Optional[Column], power: Optional[Column], seconds: Amounts, next_energy: Number) -> Amounts:
    """By the card's counter where this sample and the next one have it and it moves as a card's can, else by power and time."""
    drawn = _over(power, seconds).each()
    if energy is None:
        return drawn
    following = [*energy[1:], next_energy]
    steps = [None if later is None or now is None else later - now for later, now in zip(following, energy)]
    most = [MOST_WATTS * length for length in seconds]
    return [estimate if step is None or not 0 <= step <= limit else step for step, limit, estimate in zip(steps, most, drawn)]


class _Product(NamedTuple):
    """A value over time: ``factor`` times ``amounts``, one a sample; ``known``: seconds in which there was a value, () where there never was."""

    factor: float
    amounts: Amounts
    known: Amounts
    most: float
    """The largest value."""

    def each(self) -> Amounts:
        return self.amounts if self.factor == 1.0 else [self.factor * amount for amount in self.amounts]


def _over(values: Optional[Column], seconds: Amounts) -> _Product:
    """Value times seconds; 0 where it is not reported. Most values of memory do not change within a run."""
    if values is None:
        return _Product(0.0, seconds, (), 0.0)
    first = values[0]
    if values.count(first) == len(values):
        return _Product(0.0, seconds, (), 0.0) if first is None else _Product(first, seconds, seconds, first)
    try:
        return _Product(1.0, list(map(mul, values, seconds)), seconds, max(values))
    except TypeError:
        known = [0.0 if value is None else length for value, length in zip(values, seconds)]
        amounts = [0.0 if value is None else value * length for value, length in zip(values, seconds)]
        return _Product(1.0, amounts, known, max(value for value in values if value is not None))


def _weights(gpu: Subject, column: Columns, count: int) -> List[Amounts]:
    """Each slice's share of its card, by memory; equal shares where that is not reported. Together at most 1."""
    nothing = [None] * count
    totals = column(gpu.total_at) or nothing
    rows = [
        [min(1.0, size / total) if size is not None and total else 1.0 / len(gpu.slices) for size, total in zip(sizes, totals)]
        for sizes in [column(part.total_at) or nothing for part in gpu.slices]
    ]
    sums = [max(1.0, sum(row)) for row in zip(*rows)]
    return [[weight / most for weight, most in zip(row, sums)] for row in rows]
