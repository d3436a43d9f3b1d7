"""Charts as text: width, ASCII, gaps that are neither zero nor nothing, lanes, notes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.render import chart_samples, samples

from gpuwatch.model.series import ProcessInterval
from gpuwatch.render.chart_strips import FLEET_STRIPS, USER_STRIPS, gpu_strips
from gpuwatch.render.chart_window import RANGES, latest_window
from gpuwatch.render.charts import Charts, by_metric
from gpuwatch.render.text_cells import Look, width
from gpuwatch.render.text_chart import LABEL, chart_columns, charts_text

NOW, ZONE = samples.NOW, "Europe/Berlin"


def charts(columns=80, seconds=86400, **more):
    window = latest_window(seconds, NOW, "", chart_columns(columns))
    strips = more.pop("strips", gpu_strips(samples.lab().nodes[0].gpus[1].reading))
    series_more = more.pop("series_more", {})
    found = by_metric(chart_samples.series(strip.metric, window, **series_more) for strip in strips)
    return Charts(window, strips, found, NOW, ZONE, **{"gpu": "u", "subject": "dgx-a GPU 1", "processes": chart_samples.processes("u"), **more})


def strip_of(text, title):
    lines = text.splitlines()
    first = next(place for place, line in enumerate(lines) if title in line)
    return [line[LABEL + 1 :] for line in lines[first + 1 : first + 4]]


@pytest.mark.parametrize("columns", [60, 80, 120, 200, 400])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("seconds", [3600, 86400, 2592000, 31536000])
def test_no_line_is_wider_than_the_screen(columns, ascii_only, seconds):
    text = charts_text(charts(columns, seconds), Look(columns, ascii_only), detail=True)
    assert max(width(line) for line in text.splitlines()) <= columns
    assert text.isascii() or not ascii_only
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_gap_zero_and_what_is_not_kept_look_different():
    text = charts_text(charts(series_more={"kept_since": NOW - 20 * 3600}), Look())
    top, _, low = strip_of(text, "Throttled")
    columns = chart_columns(80)
    gap = [place for place, sign in enumerate(low) if sign == "░"]
    assert gap == [place for place, sign in enumerate(top) if sign == "░"]
    middle = sum(chart_samples.GAP) / 2
    assert abs(gap[0] + len(gap) / 2 - columns * (1 - (NOW - middle) / 86400)) < 2
    assert low[: columns // 8].strip() == ""
    assert set(low[gap[-1] + 1 : columns - 1]) == {"_"}
    assert "No readings before Tue 18:32." in text
    assert "░ no reading" in text


def test_heights_tell_values():
    text = charts_text(charts(), Look())
    top, middle, low = strip_of(text, "Power, W, cap 400")
    assert top[0] in "▅▆▇█"
    assert middle[0] == low[0] == "█"
    assert (top + " " * 99)[chart_columns(80) - 3] == " "
    assert low[chart_columns(80) - 3] == "▄"


def test_numbers_stand_beside_each_strip():
    text = charts_text(charts(), Look())
    assert "mean 65, 0 to 100, last 0" in text
    assert "80 ┤" in text
    assert "1,410 ┤" in text
    assert "memory held without work: 6 h 00 m" in text
    assert "times: Europe/Berlin (UTC+01:00)" in text


def test_ascii_has_its_own_signs():
    text = charts_text(charts(), Look(80, True))
    assert "Temperature, C, slows at 92" in text
    assert "/ no reading" in text
    assert any(line.startswith("     100 |") for line in text.splitlines())


def test_lanes_say_who_and_the_list_says_what():
    text = charts_text(charts(), Look())
    lanes = {line[:LABEL].strip(): line[LABEL + 1 :] for line in text.splitlines() if "━" in line}
    assert list(lanes) == ["lisa", "chen.w", "student7", "root", "unknown"]
    assert set(lanes["lisa"]) == {"━"}
    assert lanes["root"].count("━") == 1
    assert "hw2_gan.py" not in text
    detailed = charts_text(charts(), Look(), detail=True)
    assert "student7           4003  Tue 20:08    Tue 20:38       4.4  hw2_gan.py" in detailed
    assert "root               4004  00:08        00:14           n/r  nccl_selftest.py" in detailed
    assert "nobody, as far as is recorded" in charts_text(charts(processes=()), Look())
    assert "Processes" not in charts_text(charts(processes=None), Look())


def test_a_user_s_lanes_are_gpus_and_their_strips_sums_by_day():
    found = by_metric(chart_samples.user_series(strip.metric) for strip in USER_STRIPS)
    one = Charts(latest_window(30 * 86400, NOW, "30d", 70), USER_STRIPS, found, NOW, ZONE, user="lisa", subject="lisa", processes=chart_samples.processes("u"))
    text = charts_text(one, Look())
    assert "GPU-hours held, h a day" in text
    assert "in all, a day" in text
    assert "│dgx-a GPU 1" in text


def test_the_axis_names_hours_and_the_new_day_under_midnight():
    lines = charts_text(charts(), Look()).splitlines()
    axis = next(place for place, line in enumerate(lines) if "└" in line)
    assert lines[axis + 1].split() == ["18:00", "00:00", "06:00", "12:00"]
    assert lines[axis + 2].strip() == "Wed 18"
    midnight = LABEL + 1 + int(chart_columns(80) * latest_window(86400, NOW, "", chart_columns(80)).share(1794956400))
    assert lines[axis][midnight] == "┴"


def test_nothing_kept_trouble_and_what_could_not_be_read_are_said():
    text = charts_text(charts(series_more={"kept_since": None}), Look())
    assert "No readings are kept yet." in text
    assert text.count("no reading\n") == 6
    assert "The database is away." in charts_text(charts(trouble="The database is away."), Look())
    one = charts()
    assert "not read" in charts_text(replace(one, series={}), Look())


def test_hostile_names_do_not_steer_the_terminal():
    bad = "\x1b[31mred\u202e\r\nx"
    interval = ProcessInterval("u", 1, None, bad, bad, bad, NOW - 5000, NOW)
    text = charts_text(charts(subject=bad, processes=(chart_samples.past(bad, 1, interval),)), Look(), detail=True)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\r" not in text


def test_colour_only_where_it_is_asked_for():
    assert "\x1b[1;31m" in charts_text(charts(), Look(80, False, True))


@pytest.mark.parametrize("seconds", [seconds for _, _, seconds in RANGES])
def test_the_fleet_has_no_lanes(seconds):
    text = charts_text(charts(200, seconds, strips=FLEET_STRIPS, gpu="", processes=None, subject="All GPUs"), Look(200))
    assert "GPUs held, % of all GPUs" in text
