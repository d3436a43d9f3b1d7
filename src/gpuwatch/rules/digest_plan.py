"""What ``digest`` reads of samples of one shape, worked out once per shape: subjects (GPUs and MIG slices), and where their numbers stand. Pure."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.snapshot import GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.rules.rows import Row, place, rows, slice_processes
from gpuwatch.rules.states import GRAPHICS

LEAST_INTERVAL_SECONDS, MOST_INTERVAL_SECONDS = 0.1, 3600.0

Metrics = Tuple[Tuple[str, int], ...]
"""Names of metrics and the places of their values."""


class Subject(NamedTuple):
    """One GPU or MIG slice. Places are None where the shape has no such number."""

    row: Row
    metrics: Metrics
    throttle_at: Optional[int]
    total_at: Optional[int]
    """Its memory in all."""
    energy_at: Optional[int]
    power_at: Optional[int]
    processes: Tuple[ProcessReading, ...]
    """Those that are on it and in none of its slices."""
    users: Tuple[str, ...]
    """Who shares it: the users of what computes; where nothing does, of what draws."""
    slices: Tuple[Subject, ...]


class Plan:
    """Places of one shape."""

    __slots__ = ("disks", "host", "interval_seconds", "subjects", "wanted")

    def __init__(self, places: Snapshot) -> None:
        self.interval_seconds = min(max(float(places.interval_seconds), LEAST_INTERVAL_SECONDS), MOST_INTERVAL_SECONDS)
        self.subjects: Tuple[Subject, ...] = tuple(_subject(gpu) for gpu in places.gpus)
        host = places.host
        self.host = _host_metrics(host)
        self.disks = [
            (int(disk.used_bytes), int(disk.total_bytes))
            for disk in host.disks
            if disk.used_bytes is not None and disk.total_bytes is not None
        ]
        self.wanted: Sequence[int] = sorted(set(self._wanted()))
        """Every place that is read, each once."""

    def _wanted(self) -> List[int]:
        found = [at for _, at in self.host] + [at for disk in self.disks for at in disk]
        for subject in self.subjects:
            for one in (subject, *subject.slices):
                found += [at for _, at in one.metrics]
                numbers = (one.row.utilization_at, one.row.memory_at, one.throttle_at, one.total_at, one.energy_at, one.power_at)
                found += [at for at in numbers if at is not None]
                found += [int(process.gpu_memory_bytes) for process in one.processes if process.gpu_memory_bytes is not None]
        return found


def _subject(gpu: GpuReading) -> Subject:
    own, *others = rows(gpu)
    inside = slice_processes(gpu)
    in_slices = {id(process) for processes in inside for process in processes}
    processes = [process for process in gpu.processes if id(process) not in in_slices]
    metrics = _places(
        ("utilization_percent", gpu.utilization_percent),
        ("memory_used_bytes", gpu.memory_used_bytes),
        ("power_watts", gpu.power_watts),
        ("temperature_celsius", gpu.temperature_celsius),
        ("sm_clock_mhz", gpu.sm_clock_mhz),
    )
    slices = tuple(
        Subject(row, _slice_metrics(row), None, place(part.memory_total_bytes), None, None, _once(found), _users(found), ())
        for part, row, found in zip(gpu.mig, others, inside)
        if row.uuid
    )
    return Subject(
        own,
        metrics,
        place(gpu.throttle_mask),
        place(gpu.memory_total_bytes),
        place(gpu.energy_joules),
        place(gpu.power_watts),
        _once(processes),
        _users(processes),
        slices,
    )


def _slice_metrics(row: Row) -> Metrics:
    return _places(("utilization_percent", row.utilization_at), ("memory_used_bytes", row.memory_at))


def _host_metrics(host: HostReading) -> Metrics:
    return _places(("cpu_percent", host.cpu_percent), ("memory_used_bytes", host.memory_used_bytes), ("load_1m", host.load_1m))


def _places(*named: Tuple[str, Optional[float]]) -> Metrics:
    return tuple((name, int(at)) for name, at in named if at is not None)


def _once(processes: Sequence[ProcessReading]) -> Tuple[ProcessReading, ...]:
    """A process that is listed twice (as C and as G) is there once."""
    return tuple({(one.pid, one.started_at): one for one in reversed(processes)}.values())[::-1]


def _users(processes: Sequence[ProcessReading]) -> Tuple[str, ...]:
    computing = {one.user for one in processes if one.user and one.kind != GRAPHICS}
    return tuple(sorted(computing or {one.user for one in processes if one.user}))
