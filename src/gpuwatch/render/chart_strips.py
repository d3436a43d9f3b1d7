"""What is drawn of a GPU, a host and all GPUs: metrics, their scales, and what a series says in words. Pure; shared by page, text and tables.

A gap is never joined and never falls to zero: ``runs`` gives the parts with readings, ``gaps`` those without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.series import Series
from gpuwatch.model.snapshot import GpuReading, HostReading
from gpuwatch.render import words

GIB = 2.0**30


@dataclass(frozen=True)
class Strip:
    """One metric's place among the charts. ``top`` and ``limit`` are in the series' own unit."""

    metric: str
    title: str
    unit: str
    note: str = ""
    """Behind the unit, with what joins them: `` of 80``, ``, cap 400``."""
    top: Optional[float] = None
    """The upper end of the axis, which begins at 0; None = what the data need."""
    limit: Optional[float] = None
    """A dotted line."""
    scale: float = 1.0
    """Divide by it before showing."""
    digits: int = 0
    kind: str = "line"
    """line (mean, and a band from min to max), area (filled under the mean), bad (filled red), bars and hold (a column a step, grey or orange)."""
    tall: bool = False

    def shown(self, value: Optional[float]) -> str:
        """The value without its unit; empty for None."""
        return "" if value is None else shown(value / self.scale, self.digits)


def shown(value: float, digits: int) -> str:
    """With so many decimals; a small value that would look like 0 with two digits that count."""
    return f"{value:.2g}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:,.{digits}f}"


_UTILIZATION = Strip("utilization_percent", "Utilization", "%", top=100.0, tall=True)
_MEMORY = Strip("memory_used_bytes", "Memory", "GB", scale=GIB, digits=1, kind="area", tall=True)
_POWER = Strip("power_watts", "Power", "W")
_TEMPERATURE = Strip("temperature_celsius", "Temperature", "°C", top=100.0)
_CLOCK = Strip("sm_clock_mhz", "SM clock", "MHz")
_THROTTLED = Strip("throttled_percent", "Throttled", "%", " of the time", top=100.0, kind="bad")


def gpu_strips(reading: Optional[GpuReading]) -> Tuple[Strip, ...]:
    """A GPU's charts, with the limits of its card; None = it is not there any more. Metrics are those of ``model.series.GPU_METRICS``."""
    total = reading.memory_total_bytes if reading else None
    cap = reading.power_limit_watts if reading else None
    slow = reading.temperature_slowdown_celsius if reading else None
    fastest = reading.sm_clock_max_mhz if reading else None
    return (
        _UTILIZATION,
        replace(_MEMORY, top=total or None, note=f" of {words.gb_total(total)}" if total else ""),
        replace(_POWER, top=cap or None, note=f", cap {cap:.0f}" if cap else ""),
        replace(_TEMPERATURE, top=max(100.0, slow or 0.0), limit=slow, note=f", slows at {slow:.0f}" if slow else ""),
        replace(_CLOCK, top=fastest or None, note=f", up to {fastest:,.0f}" if fastest else ""),
        _THROTTLED,
    )


def slice_strips(total_bytes: Optional[float]) -> Tuple[Strip, ...]:
    """A MIG slice's charts: it has no power or heat of its own."""
    return (_UTILIZATION, replace(_MEMORY, top=total_bytes or None, note=f" of {words.gb_total(total_bytes)}" if total_bytes else ""))


def host_strips(host: Optional[HostReading]) -> Tuple[Strip, ...]:
    """A machine's charts (``model.series.HOST_METRICS``), and what its GPUs do together."""
    total = host.memory_total_bytes if host else None
    cores = float(host.cpu_count) if host and host.cpu_count else None
    return (
        replace(_UTILIZATION, title="GPUs", note=" utilization, all of them"),
        replace(_POWER, note=" a GPU"),
        Strip("cpu_percent", "CPU", "%", top=100.0),
        replace(_MEMORY, top=total or None, note=f" of {words.gb_total(total)}" if total else "", tall=False),
        Strip("load_1m", "Load", "", f"{words.plural(int(cores), 'core')}" if cores else "", limit=cores, digits=1),
        Strip("disk_used_percent", "Fullest disk", "% used", top=100.0),
    )


FLEET_STRIPS: Tuple[Strip, ...] = (
    Strip("held_percent", "GPUs held", "%", " of all GPUs", top=100.0, kind="area", tall=True),
    replace(_UTILIZATION, note=", all GPUs"),
    replace(_MEMORY, note=" a GPU", kind="line", tall=False),
    replace(_POWER, note=" a GPU"),
    replace(_TEMPERATURE),
    replace(_CLOCK),
    replace(_THROTTLED, note=" of all readings"),
)
"""All GPUs together (``model.series.FLEET_METRICS``)."""

IMPORT_STRIPS: Tuple[Strip, ...] = (
    replace(_UTILIZATION, title="GPUs", note=" utilization, all of them"), replace(_POWER, note=" a GPU"), replace(_TEMPERATURE), replace(_CLOCK),
    replace(_THROTTLED, note=" of all readings"),
)  # fmt: skip
"""All GPUs of an import; logs tell nothing of the machine."""

USER_STRIPS: Tuple[Strip, ...] = (
    Strip("held_hours", "GPU-hours held", "h", " a day", kind="bars", digits=1, tall=True),
    Strip("busy_hours", "Held at work", "h", " a day", kind="bars", digits=1),
    Strip("idle_hours", "Held without work", "h", " a day", kind="hold", digits=1),
    Strip("memory_gib_hours", "Memory", "GB h", " a day", kind="bars"),
    Strip("energy_joules", "Energy", "kWh", " a day", kind="bars", scale=3.6e6, digits=1),
)
"""One user, in sums a day (``model.series.USER_METRICS``)."""


# ---- what a series says


class Summary(NamedTuple):
    """A whole series in numbers, in its own unit; None where nothing was measured."""

    last: Optional[float]
    """Mean of the last step; None where that has no reading."""
    mean: Optional[float]
    minimum: Optional[float]
    maximum: Optional[float]


def summary(series: Series) -> Summary:
    """Mean over what was measured, weighted by readings; lowest and highest reading."""
    count = sum(series.count)
    total = sum(mean * number for mean, number in zip(series.mean, series.count) if mean is not None)
    return Summary(
        next((mean for mean in reversed(series.mean[-2:]) if mean is not None), None),  # the step that has just begun may be empty
        total / count if count else None,
        min((value for value in series.minimum if value is not None), default=None),
        max((value for value in series.maximum if value is not None), default=None),
    )


def total(series: Series) -> float:
    """The sum of all steps, of series whose steps are sums."""
    return sum(mean for mean in series.mean if mean is not None)


def top_of(strip: Strip, series: Optional[Series]) -> float:
    """The upper end of the strip's axis: the card's limit, or a round number over all readings; never below a reading."""
    highest = max((value for value in series.maximum if value is not None), default=0.0) if series else 0.0
    if strip.top is not None and highest <= strip.top:
        return strip.top
    return round_up(max(highest, strip.top or 0.0, (strip.limit or 0.0) if strip.top is None else 0.0) / strip.scale) * strip.scale


def round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 6, 8, 10, 20 ...: its half is a number that one can read."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 < value:
        power *= 10
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value * 0.999999)


def runs(values: Sequence[Optional[float]]) -> Iterator[Tuple[int, int]]:
    """(first, behind the last) of each part that has values."""
    start = -1
    for place, value in enumerate(values):
        if value is None:
            if start >= 0:
                yield start, place
            start = -1
        elif start < 0:
            start = place
    if start >= 0:
        yield start, len(values)


def measured(found: Sequence[Series]) -> Optional[Series]:
    """A series that has a value wherever any of these has one: elsewhere there was no reading, where one is missing alone it was not reported."""
    alike = [series for series in found if series.times == found[0].times]
    if not alike:
        return None
    mean = tuple(next((value for value in values if value is not None), None) for values in zip(*(series.mean for series in alike)))
    since = min((series.kept_since_at for series in alike if series.kept_since_at is not None), default=None)
    return replace(found[0], mean=mean, kept_since_at=since)


def gaps(series: Series, now: float) -> List[Tuple[float, float]]:
    """(from, to) of each gap: steps without a reading, after the first that is kept and before ``now``; what is not counted yet is none."""
    since = series.kept_since_at
    if since is None:
        return []
    found, end = [], max(series.start_at, since)
    step = series.step_seconds
    for first, behind in runs(series.mean):
        if series.times[first] - end >= step:  # what is kept may begin within a step
            found.append((end, float(series.times[first])))
        end = max(end, float(series.times[behind]) if behind < len(series.times) else float(series.times[-1] + step))
    until = min(series.end_at, now, series.counted_until_at or now)
    if until - end > step:  # the step that has just begun has no reading yet
        found.append((end, until))
    return found


def held_without_work(work: Series, memory: Series, least_bytes: float, most_percent: float, after_seconds: float) -> List[Tuple[float, float]]:
    """(from, to) where memory was held and no reading showed work, for as long as the idle rule asks. Missing data hold nothing."""
    found: List[Tuple[float, float]] = []
    start: Optional[int] = None
    quiet = [
        highest is not None and held is not None and highest <= most_percent and held >= least_bytes
        for highest, held in zip(work.maximum, memory.mean)
    ]
    for place, is_quiet in enumerate([*quiet, False]):
        if is_quiet and start is None:
            start = place
        elif not is_quiet and start is not None:
            since, until = work.times[start], work.times[place - 1] + work.step_seconds
            if until - since >= after_seconds:
                found.append((float(since), float(until)))
            start = None
    return found


class Row(NamedTuple):
    """Several steps together, for a table."""

    start_at: int
    mean: Optional[float]
    minimum: Optional[float]
    maximum: Optional[float]
    coverage: float


def rows(series: Series, most: int) -> List[Row]:
    """The series in at most ``most`` rows of equally many steps each; means are weighted by readings."""
    steps = len(series.times)
    each = max(1, -(-steps // max(1, most)))
    return [_row(series, first, min(steps, first + each), each) for first in range(0, steps, each)]


def _row(series: Series, first: int, behind: int, each: int) -> Row:
    part = slice(first, behind)
    count = sum(series.count[part])
    total = sum(mean * number for mean, number in zip(series.mean[part], series.count[part]) if mean is not None)
    return Row(
        series.times[first],
        total / count if count else None,
        min((value for value in series.minimum[part] if value is not None), default=None),
        max((value for value in series.maximum[part] if value is not None), default=None),
        sum(series.coverage[part]) / (behind - first),
    )
