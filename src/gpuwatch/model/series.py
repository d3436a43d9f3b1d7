"""What a question about time is answered with: rollups, series, usage and process intervals. Pure data, no input or output.

Times are UTC epoch seconds. What was not measured is None or absent, and how much was measured stands beside every number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

TIERS = (60, 900, 3600)
"""Seconds of the intervals that rollups are kept for. Intervals start at multiples of them since the epoch."""

GPU_METRICS: Mapping[str, str] = {
    "utilization_percent": "%",
    "memory_used_bytes": "B",
    "power_watts": "W",
    "temperature_celsius": "°C",
    "sm_clock_mhz": "MHz",
    "throttled_percent": "%",
}
"""Metrics of a GPU (of a MIG slice: the first two) and their units. ``throttled_percent``: 100 in a sample whose throttle mask has an alarm, else 0."""

HOST_METRICS: Mapping[str, str] = {"cpu_percent": "%", "memory_used_bytes": "B", "load_1m": "", "disk_used_percent": "%"}
"""Metrics of a host. ``disk_used_percent``: of its fullest file system."""

FLEET_METRICS: Mapping[str, str] = {**GPU_METRICS, "held_percent": "%"}
"""Metrics of all GPUs together: each sample of each GPU counts once. ``held_percent``: 100 in a sample in which somebody holds the GPU, else 0."""


USER_METRICS: Mapping[str, str] = {"held_hours": "h", "busy_hours": "h", "idle_hours": "h", "memory_gib_hours": "GiB h", "energy_joules": "J"}
"""Sums of one user, a day of the hub's zone each: GPU-hours, memory of the user's processes, energy."""


@dataclass
class Bucket:
    """One metric over one interval: enough to merge two of them. Mutable while it is filled."""

    count: int = 0
    total: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0

    def merge(self, other: Bucket) -> None:
        """Take in the samples of another bucket."""
        if other.count:
            self.minimum = min(self.minimum, other.minimum) if self.count else other.minimum
            self.maximum = max(self.maximum, other.maximum) if self.count else other.maximum
            self.count += other.count
            self.total += other.total

    @property
    def mean(self) -> Optional[float]:
        """None where nothing was measured."""
        return self.total / self.count if self.count else None


@dataclass
class Minute:
    """The 60 s from ``start_at`` of one subject: seconds that its samples stand for, and a bucket a metric."""

    start_at: int
    covered_seconds: float = 0.0
    metrics: Dict[str, Bucket] = field(default_factory=dict)


@dataclass
class GpuDay:
    """One GPU (or MIG slice) on one day of the hub's zone, all users together. Seconds are GPU-seconds, a slice counts as its share of the card.

    held = busy + idle + unknown; measured = held + free. ``unattributed_seconds``: held, and nobody's process is seen.
    """

    measured_seconds: float = 0.0
    held_seconds: float = 0.0
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0
    unknown_seconds: float = 0.0
    """Held while utilization was not reported."""
    unattributed_seconds: float = 0.0
    memory_gib_hours: float = 0.0
    energy_joules: float = 0.0


@dataclass
class UserDay:
    """What one user had of one GPU on one day: the GPU's time is split equally among the users who are on it at that moment."""

    held_seconds: float = 0.0
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0
    unknown_seconds: float = 0.0
    memory_gib_hours: float = 0.0
    """Memory of the user's own processes."""
    energy_joules: float = 0.0


@dataclass
class ProcessInterval:
    """One process on one GPU without a gap of more than three intervals."""

    gpu_uuid: str
    pid: int
    process_started_at: Optional[float]
    user: Optional[str]
    name: Optional[str]
    command: Optional[str]
    start_at: float
    end_at: float
    """Until when its samples stand for it."""
    peak_memory_bytes: Optional[float] = None
    memory_byte_seconds: float = 0.0
    memory_seconds: float = 0.0
    """Seconds over which memory was measured: mean = byte_seconds / seconds."""

    @property
    def mean_memory_bytes(self) -> Optional[float]:
        """None where its memory was never reported."""
        return self.memory_byte_seconds / self.memory_seconds if self.memory_seconds else None


@dataclass
class Digest:
    """All that is derived of consecutive snapshots of one machine, to be added to what is stored already."""

    minutes: Dict[str, Dict[int, Minute]] = field(default_factory=dict)
    """By GPU or slice UUID, and "" for the host; then by start of the minute."""
    fleet: Dict[int, Minute] = field(default_factory=dict)
    """This machine's part of the fleet's minutes: whole GPUs only, no slices."""
    gpu_days: Dict[Tuple[str, str], GpuDay] = field(default_factory=dict)
    """By (YYYY-MM-DD in the hub's zone, UUID)."""
    user_days: Dict[Tuple[str, str, str], UserDay] = field(default_factory=dict)
    """By (day, UUID, user)."""
    intervals: Tuple[ProcessInterval, ...] = ()
    """Ordered by start."""


@dataclass(frozen=True)
class Series:
    """One metric over time. The tuples are parallel; a step in which nothing was measured has None in all and count 0."""

    metric: str
    unit: str
    start_at: float
    end_at: float
    step_seconds: int
    tier_seconds: int
    times: Tuple[int, ...]
    minimum: Tuple[Optional[float], ...]
    mean: Tuple[Optional[float], ...]
    maximum: Tuple[Optional[float], ...]
    count: Tuple[int, ...]
    coverage: Tuple[float, ...]
    """Share of each step that was measured, 0 to 1."""
    host: str = ""
    gpu: str = ""
    user: str = ""
    kept_since_at: Optional[float] = None
    """Before this time there are no readings of this tier; None = nothing is kept yet."""
    counted_until_at: Optional[float] = None
    """Later readings may not be counted yet; None = all are."""


@dataclass(frozen=True)
class UsageRow:
    """One line of a report: sums over its period. Hours are GPU-hours."""

    key: str
    """User, host, GPU (UUID), model or tag; empty = nobody (unattributed), or a host without tags."""
    held_hours: float = 0.0
    busy_hours: float = 0.0
    idle_hours: float = 0.0
    unknown_hours: float = 0.0
    unattributed_hours: float = 0.0
    measured_hours: float = 0.0
    possible_hours: float = 0.0
    """Hours that would have been measured without gaps; coverage = measured / possible."""
    memory_gib_hours: float = 0.0
    energy_joules: float = 0.0
    name: str = ""
    """What people call it, where the key is a UUID: ``dgx-a GPU 1``."""

    @property
    def coverage(self) -> Optional[float]:
        """Share of the possible hours that was measured, 0 to 1; None where that is not known (users, slices)."""
        return min(1.0, self.measured_hours / self.possible_hours) if self.possible_hours else None


@dataclass(frozen=True)
class UsageReport:
    """Usage of the fleet over whole days of the hub's zone: rows by ``by``, and the same sums over all GPUs counted apart."""

    first_day: str
    last_day: str
    by: str
    timezone: str
    rows: Tuple[UsageRow, ...]
    total: UsageRow
    kept_since_at: Optional[float] = None
    counted_until_at: Optional[float] = None
    """Later readings of the period may not be counted yet; None = all are."""


@dataclass(frozen=True)
class PastProcess:
    """A process interval with what people call its GPU. The command is cut to what the audience may see."""

    host: str
    gpu_index: Optional[int]
    """NVML's number of the GPU; None where it is not there any more."""
    interval: ProcessInterval
    is_running: bool = False
    """It was there at the machine's newest reading, and that is fresh."""


@dataclass(frozen=True)
class HeatMap:
    """One metric of the fleet by hour of the week in the hub's zone: 7 rows (Monday first) of 24 hours. None = nothing was measured."""

    metric: str
    unit: str
    mean: Tuple[Tuple[Optional[float], ...], ...]
    hours: Tuple[Tuple[int, ...], ...]
    """How many hours of the period with readings each mean is over."""
    coverage: float = 0.0
    """Share of the period's hours in which anything was measured, 0 to 1."""


@dataclass(frozen=True)
class GpuUse:
    """One GPU or MIG slice in a report: the most idle ones with the processes that held them longest, or those that nobody held."""

    gpu_uuid: str
    host: str
    name: str
    """``dgx-a GPU 1``."""
    model: str
    idle_hours: float
    held_hours: float
    measured_hours: float
    processes: Tuple[PastProcess, ...] = ()
    last_held_at: Optional[float] = None
    """End of the last process on it, in or before the period; None = none is known."""


@dataclass(frozen=True)
class Downtime:
    """One host over a period: how long there was no reading of it."""

    host: str
    possible_seconds: float
    """Since it was first seen, or the period's begin, until it was removed, or the period's end."""
    measured_seconds: float
    outages: Tuple[Tuple[float, float], ...] = ()
    """(from, to) of each stretch without a reading, as far as the tier tells; longest first, at most 20."""
    step_seconds: int = 3600
    """How exact the outages are."""

    @property
    def down_seconds(self) -> float:
        """Seconds without a reading."""
        return max(0.0, self.possible_seconds - self.measured_seconds)


@dataclass(frozen=True)
class FleetReport:
    """What a page of reports shows beside usage: over whole days of the hub's zone."""

    first_day: str
    last_day: str
    timezone: str
    heat: HeatMap
    most_idle: Tuple[GpuUse, ...]
    inactive: Tuple[GpuUse, ...]
    downtime: Tuple[Downtime, ...]
    kept_since_at: Optional[float] = None
