"""``/api/v1/log.csv`` over a real store: the same numbers as the series, spans of days, users, formulas made harmless."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from tests.query.lab import Lab
from tests.rules.machine import Machine
from tests.web.readings import Readings

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import GPU_METRICS, ProcessInterval
from gpuwatch.query.series import series
from gpuwatch.render.csv_log import LOG_COLUMNS
from gpuwatch.store import intervals, machines, rollups
from gpuwatch.web import app as app_module
from gpuwatch.web.app import make_app
from gpuwatch.web.logs import days_asked
from gpuwatch.web.params import Params

TODAY = date(2026, 11, 21)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "=beta")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T22:00:00"), 20, name="a"), 500, packed=440)
    lab.add("=beta", Machine(2, lab.at("2026-11-20T23:31:00"), 60, name="b"), 20)
    eve = ProcessInterval("GPU-a0", 7, None, "=eve", "python", None, lab.at("2026-11-20T22:00:30"), lab.at("2026-11-20T22:02:30"))
    imported = machines.ensure(lab.store, "import:x", "")
    with lab.store.writing():
        intervals.merge(lab.store, lab.ids["alpha"], [eve], 0.0)
        lab.store.change("UPDATE machine SET removed_at_ms = 1 WHERE id = ?", (imported,))
    return lab


@pytest.fixture
def get(lab, monkeypatch):
    monkeypatch.setattr(app_module.time, "time", lambda: lab.end_at("alpha") + 5)
    app = make_app(Readings(lab))

    def get(query=""):
        told = {}
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/api/v1/log.csv", "QUERY_STRING": query, "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub", "SERVER_PORT": "1",
            "wsgi.url_scheme": "http",
        }  # fmt: skip
        pieces = app(environ, lambda status, headers, *_: told.update(status=int(status[:3]), headers=dict(headers)))
        body = b"".join(pieces)
        pieces.close() if hasattr(pieces, "close") else None
        return told["status"], told["headers"], body.decode()

    return get


def rows_of(body):
    return list(csv.DictReader(io.StringIO(body, newline="")))


def test_a_day_is_what_the_series_say(get, lab):
    status, headers, body = get("day=2026-11-20")
    assert status == 200
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    assert headers["Content-Disposition"] == 'attachment; filename="gpus-day-2026-11-20.csv"'
    assert body.splitlines()[0] == ",".join(name for name, _ in LOG_COLUMNS)
    rows = rows_of(body)
    begin, end = lab.at("2026-11-20T00:00:00"), lab.at("2026-11-21T00:00:00")
    assert {row["step_seconds"] for row in rows} == {"60"}
    assert all(begin <= int(row["start_at"]) < end for row in rows)
    for gpu in ("GPU-a0", "GPU-a1"):
        own = [row for row in rows if row["gpu"] == gpu]
        assert [row["start_at"] for row in own] == sorted({row["start_at"] for row in own})
        assert {(row["host"], row["index"]) for row in own} == {("alpha", gpu[-1])}
        for metric in GPU_METRICS:
            told = series(lab.store, lab.latest, metric=metric, gpu=gpu, start_at=begin, end_at=end, step=60, now=lab.end_at("alpha"))
            wanted = [(at, mean, low, high) for at, mean, low, high in zip(told.times, told.mean, told.minimum, told.maximum) if mean is not None]
            found = [(int(row["start_at"]), *(float(row[f"{metric}{ending}"]) for ending in ("", "_minimum", "_maximum"))) for row in own if row[metric]]
            assert found == [pytest.approx(one, rel=1e-4) for one in wanted]
    assert own[0]["start"] == "2026-11-20T22:00:00+01:00"


def test_users_of_each_minute(get):
    rows = {row["start"][11:16]: row["users"].split() for row in rows_of(get("day=2026-11-20&gpu=GPU-a0")[2])}
    assert ["=eve" in " ".join(rows[minute]) for minute in ("22:00", "22:01", "22:02", "22:03")] == [True, True, True, False]


def test_formulas_are_harmless(get):
    body = get("day=2026-11-20&host=%3Dbeta")[2]
    rows = rows_of(body)
    assert rows
    assert {row["host"] for row in rows} == {"'=beta"}
    assert all(not cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_a_week_and_a_month_hold_all_days(get, lab):
    day = [len(rows_of(get(query)[2])) for query in ("day=2026-11-20", "day=2026-11-21")]
    assert day[1] > 0
    week, month = (rows_of(get(query)[2]) for query in ("week=2026-W47", "month=2026-11"))
    assert len(week) == len(month) == sum(day)
    assert [row["start"][:10] for row in week] == sorted(row["start"][:10] for row in week)
    assert get("week=2026-11-18")[1]["Content-Disposition"] == 'attachment; filename="gpus-week-2026-11-16.csv"'
    assert get()[2] == get("day=today")[2] == get("day=2026-11-21")[2]
    assert rows_of(get("day=2026-11-19")[2]) == rows_of(get("month=2027-01")[2]) == []


def test_where_minutes_are_gone_longer_steps_are_told(get, lab):
    assert rollups.settle(lab.store, lab.ids["alpha"], 1)
    before = rows_of(get("day=2026-11-20&gpu=GPU-a0")[2])
    with lab.store.writing():
        gone = lab.store.rows("SELECT * FROM rollup WHERE tier_seconds = 60")
        lab.store.change("DELETE FROM rollup WHERE tier_seconds = 60")
    try:
        found = rows_of(get("day=2026-11-20&gpu=GPU-a0")[2])
        assert {row["step_seconds"] for row in found} == {"900"}
        assert 1 < len(found) < len(before)
    finally:
        with lab.store.writing():
            lab.store.change_many("INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?)", gone)


@pytest.mark.parametrize(("query", "status", "words"), [
    ("host=nobody", 404, "There is no host"), ("gpu=GPU-none", 404, "There is no GPU"), ("day=2026-02-30", 400, "day='2026-02-30' is not a day"),
    ("week=2026-W60", 400, "is not in the calendar"), ("month=2026-13", 400, "is not in the calendar"), ("day=today&week=today", 400, "cannot be combined"),
])  # fmt: skip
def test_what_cannot_be(get, query, status, words):
    found, _, body = get(query)
    assert found == status
    assert words in body


def test_days():
    def days(**given):
        return days_asked(Params(given), TODAY)[:2]

    assert days() == days(day="today") == ("2026-11-21", "2026-11-21")
    assert days(week="2026-W47") == days(week="2026-11-22") == days(week="yesterday") == ("2026-11-16", "2026-11-22")
    assert days(month="2026-02") == days(month="2026-02-03") == ("2026-02-01", "2026-02-28")
    with pytest.raises(UsageError):
        days(month="2026-00")
