"""Moments as people write them: every form, both days of a clock change, and what is refused in which words."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.rules.moments import parse_moment, parse_range

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 16, 30, tzinfo=BERLIN).timestamp()


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-2h", NOW - 7200),
        ("-90s", NOW - 90),
        ("-15m", NOW - 900),
        ("-3d", NOW - 3 * 86400),
        ("-1w", NOW - 7 * 86400),
        ("-1.5h", NOW - 5400),
        ("2026-11-20 03:00", utc(2026, 11, 20, 2)),
        ("2026-11-20T03:00:05", utc(2026, 11, 20, 2, 0, 5)),
        ("2026-11-20T03:00:05.250", utc(2026, 11, 20, 2, 0, 5) + 0.25),
        ("2026-11-20T03:00:05Z", utc(2026, 11, 20, 3, 0, 5)),
        ("2026-11-20T03:00+05:30", utc(2026, 11, 19, 21, 30)),
        ("2026-11-20T03:00 05:30", utc(2026, 11, 19, 21, 30)),  # a plus that the address did not encode
        ("2026-11-20 03:00 -0800", utc(2026, 11, 20, 11)),
        ("2026-11-20 03:00 UTC", utc(2026, 11, 20, 3)),
        ("2026-11-20", utc(2026, 11, 19, 23)),
        ("2026-11-20T24:00", utc(2026, 11, 20, 23)),
        ("today 15:00", utc(2026, 11, 20, 14)),
        ("Today", utc(2026, 11, 19, 23)),
        ("yesterday 15:00", utc(2026, 11, 19, 14)),
        (" yesterday ", utc(2026, 11, 18, 23)),
        ("03:07", utc(2026, 11, 20, 2, 7)),
        ("1795000000", 1795000000.0),
        ("1795000000.5", 1795000000.5),
    ],
)
def test_forms(text: str, expected: float) -> None:
    assert parse_moment(text, NOW, BERLIN) == pytest.approx(expected, abs=1e-6)


def test_the_zone_of_the_text_wins_and_today_is_a_day_of_that_zone() -> None:
    late = utc(2026, 11, 20, 23, 30)  # 21 November in Berlin already
    assert parse_moment("today 00:15", late, BERLIN) == utc(2026, 11, 20, 23, 15)
    assert parse_moment("today 00:15Z", late, BERLIN) == utc(2026, 11, 20, 0, 15)


def test_clocks_go_back_the_day_has_25_hours() -> None:
    """25 October 2026: 03:00 becomes 02:00 at 01:00 UTC."""
    after = utc(2026, 10, 26, 12)
    assert parse_moment("2026-10-25 01:59", after, BERLIN) == utc(2026, 10, 24, 23, 59)
    assert parse_moment("2026-10-25 02:30", after, BERLIN) == utc(2026, 10, 25, 0, 30), "the first of the two"
    assert parse_moment("2026-10-25 02:30+01:00", after, BERLIN) == utc(2026, 10, 25, 1, 30), "the second, by its offset"
    assert parse_moment("2026-10-25 03:00", after, BERLIN) == utc(2026, 10, 25, 2)
    assert parse_moment("2026-10-26", after, BERLIN) - parse_moment("2026-10-25", after, BERLIN) == 25 * 3600
    noon = utc(2026, 10, 25, 11)
    assert parse_moment("yesterday 12:00", noon, BERLIN) == noon - 25 * 3600, "by the calendar"
    assert parse_moment("-1d", noon, BERLIN) == noon - 24 * 3600, "24 hours"


def test_clocks_go_forward_the_day_has_23_hours() -> None:
    """29 March 2026: 02:00 becomes 03:00 at 01:00 UTC."""
    after = utc(2026, 3, 30, 12)
    assert parse_moment("2026-03-29 01:59", after, BERLIN) == utc(2026, 3, 29, 0, 59)
    assert parse_moment("2026-03-29 02:30", after, BERLIN) == utc(2026, 3, 29, 1, 30), "skipped: as far behind the change"
    assert parse_moment("2026-03-29 03:30", after, BERLIN) == utc(2026, 3, 29, 1, 30)
    assert parse_moment("2026-03-30", after, BERLIN) - parse_moment("2026-03-29", after, BERLIN) == 23 * 3600
    assert parse_moment("today 12:00", utc(2026, 3, 29, 20), BERLIN) == utc(2026, 3, 29, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not understood"),
        ("soon", "not understood"),
        ("-2x", "not understood"),
        ("2h", "not understood"),
        ("2026-11-31 03:00", "no time"),
        ("2026-13-01", "no time"),
        ("2026-11-20 25:00", "no time"),
        ("2026-11-20 03:60", "no time"),
        ("2026-11-20T03:00+99:00", "no time"),
        ("1795000000000", "not between 1970 and 9999"),
        ("0000-01-01", "no time"),
        ("0001-01-01", "not between 1970 and 9999"),
        ("9999-12-31 23:59", "not between 1970 and 9999"),
        ("-999999999w", "not between 1970 and 9999"),
        ("1969-12-31 12:00", "not between 1970 and 9999"),
        ("9" * 500, "not understood"),
        ("２０２６-11-20", "not understood"),
    ],
)
def test_what_cannot_be_is_refused_with_value_and_next_step(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_moment(text, NOW, BERLIN, name="from")
    assert said in caught.value.message
    assert f"from={text[:40]!r}" in caught.value.message
    assert caught.value.next_step.endswith(".")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("7d", 604800), ("30d", 2592000), ("1y", 31536000), (" 90M ", 5400), ("2w", 1209600)])
def test_ranges(text: str, seconds: float) -> None:
    assert parse_range(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "0h", "-1h", "1 month", "1h30m", "999999999999y"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"range=.* is not a range of time\. Write a number"):
        parse_range(text)


def test_milliseconds_are_pointed_out() -> None:
    with pytest.raises(UsageError, match="seconds, not milliseconds"):
        parse_moment("1795000000000", NOW, BERLIN)
