"""Series for tests and pictures of charts: a day of training with a gap, throttling and hours held without work. No randomness."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Optional
from zoneinfo import ZoneInfo

from tests.render.samples import GIB, NOW

from gpuwatch.model.series import FLEET_METRICS, GPU_METRICS, HOST_METRICS, USER_METRICS, PastProcess, ProcessInterval, Series
from gpuwatch.render.chart_window import Window

METRICS = {**HOST_METRICS, **FLEET_METRICS, **GPU_METRICS}
GAP = (NOW - 11 * 3600, NOW - 10.3 * 3600)
QUIET_SINCE = NOW - 6 * 3600
THROTTLED = (NOW - 19 * 3600, NOW - 18.5 * 3600)
KEPT_SINCE = NOW - 40 * 86400
LIMITS = {"utilization_percent": 100.0, "held_percent": 100.0, "power_watts": 400.0, "sm_clock_mhz": 1410.0}


def wave(at: float) -> float:
    """A number from -1 to 1 that looks like work."""
    return 0.5 * math.sin(at / 700.0) + 0.3 * math.sin(at / 331.0) + 0.2 * math.sin(at / 5300.0)


def value(metric: str, at: float) -> float:
    quiet = at >= QUIET_SINCE
    if metric == "throttled_percent":
        return 80.0 if THROTTLED[0] <= at < THROTTLED[1] else 0.0
    level = {
        "utilization_percent": (88.0, 11.0, 0.0), "memory_used_bytes": (66 * GIB, 3 * GIB, 62 * GIB), "power_watts": (350.0, 40.0, 64.0),
        "temperature_celsius": (66.0, 6.0, 38.0), "sm_clock_mhz": (1350.0, 60.0, 210.0), "cpu_percent": (41.0, 20.0, 3.0), "load_1m": (30.0, 9.0, 1.0),
        "disk_used_percent": (71.0, 2.0, 72.0), "held_percent": (77.0, 14.0, 60.0),
    }[metric]  # fmt: skip
    return level[2] if quiet else min(level[0] + level[1] * wave(at), LIMITS.get(metric, 1e12))


def series(metric: str, window: Window, kept_since: Optional[float] = KEPT_SINCE, now: float = NOW, empty: bool = False, **about: str) -> Series:
    """One metric over the window: nothing before ``kept_since``, in GAP, and after ``now``."""
    step = window.step_seconds
    times = tuple(range(window.start_at, window.end_at, step))
    known = [not empty and kept_since is not None and kept_since <= at < now and not GAP[0] <= at < GAP[1] for at in times]
    mean = [value(metric, at) if ok else None for at, ok in zip(times, known)]
    spread = abs(value(metric, NOW - 12 * 3600)) * 0.08
    return Series(
        metric, METRICS[metric], window.start_at, window.end_at, step, 60, times,
        tuple(None if one is None else max(0.0, one - spread * (1.5 + wave(at * 3))) if one > spread else one for at, one in zip(times, mean)),
        tuple(mean),
        tuple(None if one is None else min(one + (spread if one > spread else 0.0), LIMITS.get(metric, 1e12)) for one in mean),
        tuple(step // 5 if ok else 0 for ok in known), tuple(1.0 if ok else 0.0 for ok in known), kept_since_at=kept_since, **about,
    )  # fmt: skip


def processes(uuid: str) -> tuple[PastProcess, ...]:
    """Processes of four users on one GPU, some short, one of nobody known, one that began before and runs still."""
    hour = 3600.0
    made = (
        ("lisa", "/usr/bin/python3 -m ipykernel_launcher -f diffusion-ablation.json", 26 * hour, 0.0, 71.0),
        ("chen.w", "python debug_attention.py --layers 12", 22.5 * hour, 20 * hour, 12.5),
        ("chen.w", "python debug_attention.py --layers 24", 19.7 * hour, 17 * hour, 14.5),
        ("student7", "python hw2_gan.py", 18.4 * hour, 17.9 * hour, 4.4),
        ("root", "nccl_selftest.py", 14.4 * hour, 14.3 * hour, None),
        (None, None, 9 * hour, 8 * hour, 0.4),
    )
    return tuple(
        past("dgx-a", 1, ProcessInterval(uuid, 4000 + place, NOW - start, user, None, command, NOW - start, NOW - end, None if gb is None else gb * GIB,
                        0.0 if gb is None else (start - end) * gb * 0.9 * GIB, 0.0 if gb is None else start - end))
        for place, (user, command, start, end, gb) in enumerate(made)
    )  # fmt: skip


def past(host: str, index: Optional[int], interval: ProcessInterval) -> PastProcess:
    """An interval with its GPU's name; it runs still where it ends now."""
    return PastProcess(host, index, interval, interval.end_at >= NOW)


def user_series(metric: str, days: int = 30, user: str = "lisa", zone: str = "Europe/Berlin") -> Series:
    """Sums of one user by day, from the day of NOW backwards: nothing at weekends, a day without readings, none before."""
    first = datetime.fromtimestamp(NOW, ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    begins = [first + timedelta(days=number) for number in range(days)]
    held = [None if number == 20 else 0.0 if day.weekday() > 4 else 20.0 + 9 * math.sin(number) for number, day in enumerate(begins)]
    factor = {"held_hours": 1.0, "busy_hours": 0.8, "idle_hours": 0.2, "memory_gib_hours": 60.0, "energy_joules": 0.3 * 3.6e6}[metric]
    values = tuple(None if one is None else one * factor for one in held)
    times = tuple(int(day.timestamp()) for day in begins)
    return Series(
        metric, USER_METRICS[metric], times[0], NOW, 86400, 86400, times, values, values, values, tuple(int(one is not None) for one in held),
        tuple(0.0 if one is None else 1.0 for one in held), user=user, kept_since_at=KEPT_SINCE,
    )  # fmt: skip
