"""Spans of charts and the ticks of their axis, on both days of a clock change too."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.render.chart_window import MOST_POINTS, RANGES, STEPS, Window, latest_window, step_for, ticks, window_between

BERLIN = "Europe/Berlin"
NOW = 1795008730.0


def berlin(*when: int) -> float:
    return datetime(*when, tzinfo=ZoneInfo(BERLIN)).timestamp()


@pytest.mark.parametrize(("name", "label", "seconds"), RANGES)
def test_every_range_ends_now_in_whole_steps_and_few_points(name, label, seconds):
    window = latest_window(seconds, NOW, name)
    assert window.end_at - window.step_seconds <= NOW < window.end_at
    assert window.start_at % window.step_seconds == window.end_at % window.step_seconds == 0
    assert abs(window.seconds - seconds) < window.step_seconds
    assert window.seconds // window.step_seconds <= MOST_POINTS
    assert window.label == label
    assert window.range == name


def test_steps_are_multiples_of_the_tier_they_are_read_from():
    assert all(step % 60 == 0 for step in STEPS)
    assert all(step % 900 == 0 for step in STEPS if step >= 900)
    assert all(step % 3600 == 0 for step in STEPS if step >= 3600)
    assert step_for(30 * 86400) == 7200
    assert step_for(20 * 31536000) / STEPS[-1] == int(step_for(20 * 31536000) / STEPS[-1])


def test_a_span_between_two_times_covers_both():
    window = window_between(NOW - 5000.5, NOW - 100)
    assert window.start_at <= NOW - 5000.5
    assert window.end_at >= NOW - 100
    assert window.range == ""


def test_nobody_zooms_into_nothing():
    window = window_between(NOW, NOW + 1)
    assert window.seconds >= 300
    assert window.start_at < NOW < window.end_at


@pytest.mark.parametrize(("start", "end"), [(NOW, NOW), (NOW, NOW - 5), (0.0, NOW)])
def test_spans_that_cannot_be_drawn_are_refused(start, end):
    with pytest.raises(UsageError):
        window_between(start, end)


@pytest.mark.parametrize("seconds", [0, -1, 21 * 31536000, float("inf")])
def test_ranges_that_cannot_be_drawn_are_refused(seconds):
    with pytest.raises(UsageError):
        latest_window(seconds, NOW)


def test_ticks_of_a_day_name_the_new_day_at_midnight():
    found = ticks(berlin(2026, 11, 17, 15), berlin(2026, 11, 18, 15), BERLIN)
    assert ("Wed 18", "00:00") in [(day, time) for _, day, time in found]
    assert [time for _, _, time in found] == ["15:00", "18:00", "21:00", "00:00", "03:00", "06:00", "09:00", "12:00", "15:00"]


def test_ticks_when_clocks_go_back_name_each_hour_once_and_keep_their_distance():
    found = ticks(berlin(2026, 10, 25, 0), berlin(2026, 10, 25, 7), BERLIN)
    assert [time for _, _, time in found] == ["00:00", "01:00", "02:00", "03:00", "04:00", "05:00", "06:00", "07:00"]
    apart = [later[0] - former[0] for former, later in zip(found, found[1:])]
    assert apart == [3600, 3600, 7200, 3600, 3600, 3600, 3600]


def test_ticks_when_clocks_go_forward_leave_out_the_hour_that_is_not():
    found = ticks(berlin(2027, 3, 28, 0), berlin(2027, 3, 28, 7), BERLIN)
    assert [time for _, _, time in found] == ["00:00", "01:00", "03:00", "04:00", "05:00", "06:00", "07:00"]
    assert {later[0] - former[0] for former, later in zip(found, found[1:])} == {3600.0}


def test_ticks_of_weeks_are_midnights_of_the_zone_through_a_clock_change():
    found = ticks(berlin(2026, 10, 20), berlin(2026, 10, 30), BERLIN, most=12)
    assert [datetime.fromtimestamp(at, ZoneInfo(BERLIN)).hour for at, _, _ in found] == [0] * len(found)
    assert found[0][1:] == ("Tue", "20 Oct")
    assert len(found) == 11


def test_ticks_of_a_year_are_months_with_the_year_at_january():
    found = ticks(berlin(2026, 3, 3), berlin(2027, 3, 3), BERLIN, most=14)
    assert [time for _, _, time in found] == ["Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb", "Mar"]
    assert found[9][1] == "2027"
    assert len(ticks(berlin(2026, 3, 3), berlin(2027, 3, 3), BERLIN)) <= 7


@pytest.mark.parametrize("seconds", [300, 3600, 86400, 604800, 2592000, 31536000, 10 * 31536000])
def test_there_are_never_too_many_ticks(seconds):
    assert 1 <= len(ticks(NOW - seconds, NOW, BERLIN)) <= 11


def test_places_on_the_axis_stay_on_it():
    window = Window(0, 1000, 10)
    assert [window.share(at) for at in (-5, 0, 250, 2000)] == [0.0, 0.0, 0.25, 1.0]
