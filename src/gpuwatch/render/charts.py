"""Everything that the charts of one page show, as page, text, CSV and JSON take it. Pure data and what is asked of it in several places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from gpuwatch.model.series import PastProcess, Series
from gpuwatch.render import words
from gpuwatch.render.chart_strips import Strip, gaps, held_without_work, measured
from gpuwatch.render.chart_window import Window


@dataclass(frozen=True)
class Charts:
    """The charts of a GPU, a host, a user or of all GPUs over one span. ``series`` by metric; one that is absent could not be read."""

    window: Window
    strips: Tuple[Strip, ...]
    series: Mapping[str, Series]
    now: float
    timezone: str
    host: str = ""
    gpu: str = ""
    """UUID."""
    user: str = ""
    subject: str = ""
    """What the charts are of, in words, for headings and names of files."""
    processes: Optional[Tuple[PastProcess, ...]] = None
    """Who was on the GPU, or where the user was; None where that is not asked. Commands are cut to what the audience may see."""
    at: str = ""
    """The past moment that the page is about, as an address has it; empty = now. The span ends there."""
    trouble: str = ""
    """Why there are no readings, with the next step; in place of the strips."""
    idle: Tuple[float, float, float] = (100e6, 1.0, 1800.0)
    """Memory in bytes from which, utilization in percent up to which, and seconds after which a GPU is held without work."""

    @property
    def by_gpu(self) -> bool:
        """Lanes of processes are GPUs, not users: it is about one user."""
        return bool(self.user) and not self.gpu

    @property
    def shown(self) -> List[Tuple[Strip, Series]]:
        """The strips whose series could be read."""
        return [(strip, self.series[strip.metric]) for strip in self.strips if strip.metric in self.series]

    @cached_property
    def gaps(self) -> List[Tuple[float, float]]:
        """(from, to) in which there was no reading of anything: a single metric that is missing was not reported, which is no gap."""
        found = measured([series for _, series in self.shown])
        return [] if found is None else gaps(found, self.now)

    @cached_property
    def held(self) -> List[Tuple[float, float]]:
        """(from, to) of the hours in which the GPU's memory was held without work; none where it is not one GPU."""
        work, memory = self.series.get("utilization_percent"), self.series.get("memory_used_bytes")
        if not self.gpu or work is None or memory is None:
            return []
        return held_without_work(work, memory, *self.idle)

    @property
    def kept_since_at(self) -> Optional[float]:
        """The first reading that is kept of any of the series; None = nothing is kept yet."""
        return min((series.kept_since_at for series in self.series.values() if series.kept_since_at is not None), default=None)


def by_metric(found: Iterable[Series]) -> Dict[str, Series]:
    """Series by their metric, as ``Charts`` wants them."""
    return {series.metric: series for series in found}


def counted_words(charts: Charts) -> str:
    """Until when the charts count, where that is not now; empty otherwise."""
    until = min((series.counted_until_at for series in charts.series.values() if series.counted_until_at is not None), default=None)
    return "" if until is None else f"Counted up to {words.clock(until, charts.now, charts.timezone)}; what was read since follows within a quarter of an hour."


def nothing_words(charts: Charts) -> str:
    """What stands where a metric has no value at all: it was not reported, where others were."""
    return "not reported" if any(any(series.count) for _, series in charts.shown) else "no reading"


def kept_words(charts: Charts) -> str:
    """Where what is kept begins, if that is within the span; empty otherwise."""
    since = charts.kept_since_at
    if since is None:
        return "No readings are kept yet. The first ones are here after some minutes."
    if since > charts.window.start_at + charts.window.step_seconds:
        return f"No readings before {words.clock(since, charts.now, charts.timezone)}."
    return ""


def gpu_name(process: PastProcess) -> str:
    """``dgx-a GPU 1``; the UUID where the GPU is gone."""
    number = process.interval.gpu_uuid if process.gpu_index is None else f"GPU {process.gpu_index}"
    return f"{process.host} {number}"


def until_words(process: PastProcess, now: float, zone: str) -> str:
    """When it ended, or ``now``."""
    return "now" if process.is_running else words.clock(process.interval.end_at, now, zone)
