"""What a series says: runs, gaps, hours held without work, rows of a table, the end of the axis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.render import chart_samples, samples

from gpuwatch.model.series import FLEET_METRICS, GPU_METRICS, HOST_METRICS, USER_METRICS, Series
from gpuwatch.render.chart_strips import (
    FLEET_STRIPS,
    USER_STRIPS,
    Strip,
    gaps,
    gpu_strips,
    held_without_work,
    host_strips,
    round_up,
    rows,
    runs,
    summary,
    top_of,
)
from gpuwatch.render.chart_window import latest_window

N = None


def made(*mean, step=60, kept_since=0.0, **more):
    times = tuple(range(0, step * len(mean), step))
    count = tuple(0 if one is None else 2 for one in mean)
    values = {"minimum": mean, "mean": mean, "maximum": mean, "count": count, "coverage": tuple(0.0 if one is None else 1.0 for one in mean), **more}
    return Series("utilization_percent", "%", 0.0, float(step * len(mean)), step, 60, times, kept_since_at=kept_since, **values)


def test_runs_are_what_lies_between_gaps():
    assert list(runs((N, 1, 2, N, N, 0, N))) == [(1, 3), (5, 6)]
    assert list(runs((1.0, 0.0))) == [(0, 2)]
    assert list(runs((N, N))) == []


def test_a_gap_is_told_and_zero_is_none():
    assert gaps(made(5, N, N, 0, 7), now=1e9) == [(60.0, 180.0)]
    assert gaps(made(0, 0, 0), now=1e9) == []


def test_before_the_first_reading_that_is_kept_there_is_no_gap():
    assert gaps(made(N, N, 3, 4, kept_since=120.0), now=1e9) == []
    assert gaps(made(N, N, 3, 4, kept_since=60.0), now=1e9) == [(60.0, 120.0)]
    assert gaps(made(N, N, N, kept_since=None), now=1e9) == []


def test_what_is_yet_to_come_is_no_gap_and_what_just_went_missing_is():
    assert gaps(made(1, 2, N, N, N), now=125.0) == []
    assert gaps(made(1, 2, N, N, N), now=200.0) == [(120.0, 200.0)]


def test_summary_weighs_by_readings():
    series = made(10, N, 40, count=(30, 0, 10), minimum=(1, N, 2), maximum=(12, N, 90))
    told = summary(series)
    assert (told.mean, told.minimum, told.maximum, told.last) == (17.5, 1, 90, 40)
    assert summary(made(N, N)) == (N, N, N, N)
    assert summary(made(3, N, N)).last is None


def test_rows_of_a_table_weigh_by_readings_and_tell_coverage():
    series = made(10, N, 40, N, count=(30, 0, 10, 0), minimum=(1, N, 2, N), maximum=(12, N, 90, N))
    (row,) = rows(series, 1)
    assert row == (0, 17.5, 1, 90, 0.5)
    assert len(rows(series, 3)) == 2
    assert rows(series, 3)[1].mean == 40
    assert [row.mean for row in rows(series, 4)] == [10, N, 40, N]


def test_the_axis_ends_at_the_card_s_limit_or_at_a_round_number_and_never_below_a_reading():
    strip = Strip("power_watts", "Power", "W", top=400.0)
    assert top_of(strip, made(10, 390)) == 400.0
    assert top_of(strip, made(10, 410)) == 500.0
    assert top_of(replace(strip, top=None), made(10, 390)) == 400.0
    assert top_of(replace(strip, top=None, limit=64.0), made(1, 2)) == 80.0
    assert top_of(replace(strip, top=None), None) == 1.0
    assert top_of(replace(strip, top=None, scale=2.0**30), made(3 * 2.0**30)) == 4 * 2.0**30


@pytest.mark.parametrize(("value", "wanted"), [(0, 1), (0.3, 0.4), (1, 1), (7, 8), (9, 10), (11, 20), (64, 80), (390, 400), (12000, 20000)])
def test_round_numbers(value, wanted):
    assert round_up(value) == pytest.approx(wanted)


def test_held_without_work_needs_memory_no_work_and_time():
    memory = made(*[5e9] * 6)
    assert held_without_work(made(50, 0, 0, 0, 0, 60), memory, 1e8, 1.0, 240) == [(60.0, 300.0)]
    assert held_without_work(made(50, 0, 0, 0, 60, 60), memory, 1e8, 1.0, 240) == []
    assert held_without_work(made(0, 0, 0, 0, 0, 0), made(*[5e7] * 6), 1e8, 1.0, 240) == []
    assert held_without_work(made(0, 0, N, 0, 0, 0), memory, 1e8, 1.0, 240) == []
    assert held_without_work(made(0, 0, 0, 0, 0, 0), memory, 1e8, 1.0, 240) == [(0.0, 360.0)]
    spike = made(*[0] * 6, maximum=(0, 0, 90, 0, 0, 0))
    assert held_without_work(spike, memory, 1e8, 1.0, 240) == []


def test_every_metric_that_is_kept_has_its_strip():
    node = samples.lab().nodes[0]
    assert {strip.metric for strip in gpu_strips(node.gpus[0].reading)} == set(GPU_METRICS)
    assert {strip.metric for strip in gpu_strips(None)} == set(GPU_METRICS)
    of_host = {strip.metric for strip in host_strips(node.snapshot.host)}
    assert of_host == {strip.metric for strip in host_strips(None)} == {*HOST_METRICS, "utilization_percent", "power_watts"}
    assert {strip.metric for strip in FLEET_STRIPS} == set(FLEET_METRICS)
    assert {strip.metric for strip in USER_STRIPS} == set(USER_METRICS)


def test_samples_have_what_charts_must_show():
    window = latest_window(86400, samples.NOW)
    work, memory = (chart_samples.series(metric, window) for metric in ("utilization_percent", "memory_used_bytes"))
    assert len(gaps(work, samples.NOW)) == 1
    (held,) = held_without_work(work, memory, 1e8, 1.0, 1800)
    assert held[1] - held[0] == pytest.approx(6 * 3600, abs=600)
