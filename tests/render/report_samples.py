"""A month's report for tests and pictures. No randomness; sums reconcile."""

from __future__ import annotations

import math
from dataclasses import fields, replace

from tests.render.chart_samples import past
from tests.render.samples import GIB, NOW

from gpuwatch.model.series import Downtime, FleetReport, GpuUse, HeatMap, ProcessInterval, UsageReport, UsageRow
from gpuwatch.render.reports import Days, Rates, Reports

ZONE = "Europe/Berlin"
DAYS = Days("2026-11-16", "2026-11-22", "week")
TODAY = "2026-11-18"
NO_RATES = Rates()
KEYS = {
    "user": ("chen.w", "lisa", "mkato", "student7", "sofia", ""),
    "host": ("dgx-a", "dgx-b", "gpu01", "vision-2", "nlp-1"),
    "gpu": ("GPU-1", "GPU-2", "GPU-3"),
    "model": ("NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090"),
    "tag": ("train", "vision", ""),
}


def row(key: str, number: int, by: str) -> UsageRow:
    held = 900.0 / (number + 1)
    idle = held * (0.05 + 0.07 * number)
    unknown = 1.5 if number == 1 else 0.0
    gpus = by != "user"
    return UsageRow(
        key, held, held - idle - unknown, idle, unknown, 12.0 if gpus and number == 1 else 0.0, held * 1.6 if gpus else 0.0, held * 1.62 if gpus else 0.0,
        held * 38, held * 0.29 * 3.6e6, f"dgx-a GPU {number}" if by == "gpu" else "",
    )  # fmt: skip


def usage(by: str = "user", kept_since: float | None = NOW - 40 * 86400) -> UsageReport:
    rows = tuple(row(key, number, by) for number, key in enumerate(KEYS[by]))
    sums = {field.name: sum(getattr(one, field.name) for one in rows) for field in fields(UsageRow) if field.name.endswith(("hours", "joules"))}
    total = replace(UsageRow(""), **{**sums, "measured_hours": 3900.0, "possible_hours": 4004.0, "unattributed_hours": 12.0})
    return UsageReport(DAYS.first, DAYS.last, by, ZONE, rows, total, kept_since)


def heat(metric: str = "utilization_percent") -> HeatMap:
    def one(day: int, hour: int) -> float | None:
        if day == 6 and 2 <= hour < 5:
            return None
        if day > 4 and hour < 3:
            return 0.0
        return max(0.0, min(100.0, (30 if day > 4 else 62) + 36 * math.sin((hour - 9) / 24 * 2 * math.pi)))

    mean = tuple(tuple(one(day, hour) for hour in range(24)) for day in range(7))
    return HeatMap(metric, "%", mean, tuple(tuple(0 if value is None else 4 for value in line) for line in mean), 0.94)


def use(number: int, idle: float, held: float, name: str = "") -> GpuUse:
    interval = ProcessInterval(f"GPU-{number}", 4000, None, "lisa", "python3", "python -m ipykernel_launcher -f diffusion.json", NOW - 3e5, NOW - 1e5, 71 * GIB)
    other = ProcessInterval(f"GPU-{number}", 4001, None, None, None, None, NOW - 9e4, NOW - 8e4)
    processes = (past("dgx-a", number, interval), past("dgx-a", number, other)) if held else ()
    return GpuUse(f"GPU-{number}", "dgx-a", name or f"dgx-a GPU {number}", "NVIDIA A100-SXM4-80GB", idle, held, 166.0, processes, None if number == 7 else NOW - 9e5)


def fleet(metric: str = "utilization_percent") -> FleetReport:
    week = 2.6 * 86400
    return FleetReport(
        DAYS.first, DAYS.last, ZONE, heat(metric), (use(1, 88.2, 120.0), use(2, 61.0, 90.5), use(3, 4.2, 12.0)), (use(5, 0, 0), use(7, 0, 0)),
        (
            Downtime("old-1", week, 0.0, ((NOW - week, NOW),), 900), Downtime("gpu03", week, week - 9000, ((NOW - 90000, NOW - 82800), (NOW - 9000, NOW - 7200)), 900),
            Downtime("dgx-a", week, week, (), 900), Downtime("dgx-b", week, week, (), 900),
        ),
    )  # fmt: skip


def reports(by: str = "user", with_fleet: bool = True, rates: Rates = NO_RATES, **more) -> Reports:
    return Reports(**{"days": DAYS, "today": TODAY, "usage": usage(by), "fleet": fleet() if with_fleet else None, "now": NOW, "rates": rates, **more})


