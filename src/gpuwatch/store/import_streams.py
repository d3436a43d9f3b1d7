"""Imported rows to what is kept of them: each GPU's readings gathered into stretches, each stretch digested by the rules of live ones. Pure.

A stretch ends at a reading that opens the next one, so that no time is counted twice or lost between them. Lines may come GPU after GPU or by
turns, and newest first; only within what was digested already nothing can be added. Memory is bounded whatever the file holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo
from operator import attrgetter
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import GpuDay, Minute, ProcessInterval, UserDay
from gpuwatch.model.snapshot import GpuReading, Number, ProcessReading, Snapshot
from gpuwatch.rules.digest import MOST_INTERVALS, Sample, digest
from gpuwatch.rules.limits import Limits
from gpuwatch.wire.csv_in.rows import ImportedRow

MOST_WAITING = 40_000
"""Readings that are gathered, of all GPUs together, before they are digested."""
MOST_STREAMS = 4096
MOST_PROCESSES = 500
"""Of one GPU at one time."""
INTERVAL_SECONDS = 5.0
"""What a reading stands for of which there is but one."""
_SAMPLES_OF_INTERVAL = 500
METRICS = (
    "utilization_percent", "memory_used_bytes", "power_watts", "temperature_celsius", "sm_clock_mhz", "throttle_mask", "memory_total_bytes",
    "energy_joules",
)  # fmt: skip
"""The fields of a reading that digests read; their places among a sample's values."""
_by_time = attrgetter("at")


class Process(NamedTuple):
    """One process at one time. ``pid`` below 0: only its user is known."""

    pid: int
    user: Optional[str]
    name: Optional[str]


class Moment:
    """One GPU at one time."""

    __slots__ = ("at", "memory", "processes", "values")

    def __init__(self, at: float, values: Tuple[Number, ...]) -> None:
        self.at, self.values = at, values
        self.processes: List[Process] = []
        self.memory: List[Number] = []


@dataclass
class Portion:
    """What one stretch of one GPU (or of processes that name none) adds to the tables of a machine."""

    machine: str
    gpu: str
    minutes: Dict[int, Minute] = field(default_factory=dict)
    """With ``held_percent``, which the fleet has once somebody says whose GPU it is."""
    gpu_days: Dict[Tuple[str, str], GpuDay] = field(default_factory=dict)
    user_days: Dict[Tuple[str, str, str], UserDay] = field(default_factory=dict)
    intervals: Tuple[ProcessInterval, ...] = ()
    gap_seconds: float = 0.0
    """Intervals of one process that are so near to each other are one."""


class Streams:
    """The readings of one import, by machine and GPU."""

    def __init__(self, limits: Limits, zone: tzinfo) -> None:
        self._limits, self._zone = limits, zone
        self._streams: Dict[Tuple[str, str, bool], _Stream] = {}
        self.waiting = 0
        """Readings gathered and not digested yet."""
        self.repeated = 0
        """Readings left out because their GPU has one of that time already."""

    def add(self, row: ImportedRow) -> None:
        """Take in one row. Raises UsageError for a file with more GPUs than any cluster has."""
        if row.pid is None and row.user is None:
            self._stream(row.machine, row.gpu, True).open(row)
            self.waiting += 1
            return
        own = self._streams.get((row.machine, row.gpu, True))
        if own is not None and own.moments and own.moments[-1].at == row.at:
            own.join(row)
            return
        stream = self._stream(row.machine, row.gpu, False)
        if not stream.moments or stream.moments[-1].at != row.at:
            stream.open(row._replace(values={}))
            self.waiting += 1
        stream.join(row)

    def flush(self, *, last: bool = False) -> List[Portion]:
        """Digest all that was gathered but the newest reading of each GPU, which opens its next stretch; with ``last`` that too."""
        portions = []
        for stream in self._streams.values():
            portions += stream.portion(self._limits, self._zone, last)
        self._settled()
        return portions

    def skip(self) -> None:
        """As ``flush``, for what was digested and stored by an earlier, interrupted import of the same file."""
        for stream in self._streams.values():
            stream.take(False)
        self._settled()

    def _settled(self) -> None:
        self.waiting = sum(len(stream.moments) for stream in self._streams.values())
        self.repeated = sum(stream.repeated for stream in self._streams.values())

    def _stream(self, machine: str, gpu: str, of_gpu: bool) -> _Stream:
        key = machine, gpu, of_gpu
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= MOST_STREAMS:
                raise UsageError(f"The file names more than {MOST_STREAMS} GPUs.", "Is a column of numbers read as the GPU's index?")
            stream = self._streams[key] = _Stream(machine, gpu, of_gpu)
        return stream


class _Stream:
    def __init__(self, machine: str, gpu: str, of_gpu: bool) -> None:
        self.machine, self.gpu, self.of_gpu = machine, gpu, of_gpu
        self.moments: List[Moment] = []
        self.repeated = 0
        self.interval_seconds = 0.0
        self._digested: List[Tuple[float, float]] = []
        """Stretches of time from which nothing more is taken."""
        self._until = 0.0
        """The end of the last of them."""

    def open(self, row: ImportedRow) -> None:
        self.moments.append(Moment(row.at, tuple(map(row.values.get, METRICS))))

    def join(self, row: ImportedRow) -> None:
        """A process of the newest moment."""
        moment = self.moments[-1]
        if len(moment.processes) < MOST_PROCESSES:
            pid = -1 - len(moment.processes) if row.pid is None else row.pid
            moment.processes.append(Process(pid, row.user, row.process))
            moment.memory.append(row.values.get("gpu_memory_bytes"))

    def take(self, last: bool) -> Tuple[List[Moment], Optional[float]]:
        """The moments to be digested now, in order, each time once, and the time of the one after them."""
        ordered = sorted(self.moments, key=_by_time)
        found: List[Moment] = []
        for moment in ordered:
            if (found and found[-1].at == moment.at) or self._is_digested(moment.at):
                self.repeated += 1
            else:
                found.append(moment)
        self._learn_interval(found)
        ends_at = None
        self.moments = []
        if found and not last:
            self.moments = [found.pop()]
            ends_at = self.moments[0].at
        if found:
            self._digested.append((found[0].at, found[-1].at + 0.001 if ends_at is None else ends_at))
            self._until = max(self._until, self._digested[-1][1])
        return found, ends_at

    def _is_digested(self, at: float) -> bool:
        return at < self._until and any(start <= at < end for start, end in reversed(self._digested))

    def _learn_interval(self, moments: Sequence[Moment]) -> None:
        """The median of the gaps, so that single ones count as what they are."""
        some = moments[: _SAMPLES_OF_INTERVAL + 1]
        gaps = sorted(later.at - earlier.at for earlier, later in zip(some, some[1:]))
        if gaps:
            self.interval_seconds = gaps[len(gaps) // 2]

    def portion(self, limits: Limits, zone: tzinfo, last: bool) -> List[Portion]:
        moments, ends_at = self.take(last)
        if not moments:
            return []
        places: Dict[Tuple[Process, ...], Snapshot] = {}
        samples = []
        for moment in moments:
            key = tuple(moment.processes)
            shape = places.get(key)
            if shape is None:
                shape = places[key] = self._places(key)
            samples.append(Sample(moment.at, shape, (*moment.values, *moment.memory)))
        found = digest(samples, ends_at, limits=limits, zone=zone)
        intervals = tuple(interval for interval in found.intervals if interval.pid >= 0)
        gap_seconds = MOST_INTERVALS * (self.interval_seconds or INTERVAL_SECONDS)
        if self.of_gpu:
            return [Portion(self.machine, self.gpu, found.fleet, found.gpu_days, found.user_days, intervals, gap_seconds)]
        memory = {key: UserDay(memory_gib_hours=day.memory_gib_hours) for key, day in found.user_days.items()}
        return [Portion(self.machine, self.gpu, user_days=memory, intervals=intervals, gap_seconds=gap_seconds)]

    def _places(self, processes: Sequence[Process]) -> Snapshot:
        """A snapshot of this GPU whose numbers are their places among a sample's values."""
        readings = tuple(
            ProcessReading(pid=one.pid, user=one.user, name=one.name, gpu_memory_bytes=len(METRICS) + place)
            for place, one in enumerate(processes)
        )
        numbers: Dict[str, Any] = {name: place for place, name in enumerate(METRICS)}
        gpu = GpuReading(uuid=self.gpu, processes=readings, **numbers)
        return Snapshot(taken_at=0.0, interval_seconds=self.interval_seconds or INTERVAL_SECONDS, gpus=(gpu,))
