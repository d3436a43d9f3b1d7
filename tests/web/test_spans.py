"""Spans and days out of an address."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.web.params import Params
from gpuwatch.web.spans import days_of, span_of, step_of

ZONE = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 15, 30, tzinfo=ZONE).timestamp()
HOUR = 3600.0


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()


@pytest.mark.parametrize(("query", "span"), [
    ("", (NOW - 24 * HOUR, NOW)), ("range=7d", (NOW - 168 * HOUR, NOW)), ("from=-2h", (NOW - 2 * HOUR, NOW)),
    ("from=2026-11-17&to=2026-11-18", (at("2026-11-17"), at("2026-11-18"))), ("to=2026-11-18&range=1h", (at("2026-11-18") - HOUR, at("2026-11-18"))),
    ("from=2026-11-01&range=1d", (at("2026-11-01"), at("2026-11-02"))), ("from=100000&to=200000&range=5y", (100000.0, 200000.0)), ("range=99y", (0.0, NOW)),
])  # fmt: skip
def test_spans(query, span):
    assert span_of(Params.parse(query), NOW, ZONE) == span


@pytest.mark.parametrize("query", ["from=2026-11-18&to=2026-11-17", "from=2026-11-18&to=2026-11-18", "from=x", "to=x", "range=x", "range=-1h", "from=2026-11-21"])
def test_spans_that_are_none(query):
    with pytest.raises(UsageError):
        span_of(Params.parse(query), NOW, ZONE)


@pytest.mark.parametrize(("query", "days"), [
    ("", ("2026-10-22", "2026-11-20")), ("range=1d", ("2026-11-20", "2026-11-20")), ("range=7d", ("2026-11-14", "2026-11-20")),
    ("from=2026-11-01&to=2026-11-30", ("2026-11-01", "2026-11-30")), ("from=2026-11-03", ("2026-11-03", "2026-11-20")),
    ("to=2026-03-31&range=31d", ("2026-03-01", "2026-03-31")), ("from=2026-11-19T23:59:00Z&to=today", ("2026-11-20", "2026-11-20")),
    ("range=2h", ("2026-11-20", "2026-11-20")), ("range=99y", ("1970-01-02", "2026-11-20")),
])  # fmt: skip
def test_days(query, days):
    assert days_of(Params.parse(query), NOW, ZONE) == days


def test_days_in_the_wrong_order():
    with pytest.raises(UsageError, match="before"):
        days_of(Params.parse("from=2026-11-18&to=2026-11-17"), NOW, ZONE)


def test_steps():
    assert [step_of(Params.parse(query)) for query in ("", "step=60", "step=15m", "step=1h", "step=0")] == [0, 60, 900, 3600, 0]
    for wrong in ("step=-5", "step=x", "step=1e3", "step=" + "9" * 50):
        with pytest.raises(UsageError):
            step_of(Params.parse(wrong))
