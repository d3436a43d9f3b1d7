"""``/api/v1/series``, ``processes`` and ``usage`` over a real store: JSON as it is described, the same as CSV, errors in words."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from tests.query.lab import Lab
from tests.render.test_openapi import answer_of, errors
from tests.rules.machine import Machine
from tests.web.readings import Readings

from gpuwatch.model.series import ProcessInterval
from gpuwatch.query import series as query_series
from gpuwatch.store import intervals
from gpuwatch.web import app as app_module
from gpuwatch.web.app import make_app


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "beta")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T21:00:00"), 20, name="a"), 500, packed=440)
    lab.add("beta", Machine(2, lab.at("2026-11-20T23:31:00"), 60, name="b"), 60, packed=50)
    evil = ProcessInterval("GPU-a0", 666, 1.0, "=cmd|'/c calc'!A0", '+1,"2"', "@SUM(A1)", lab.at("2026-11-20T22:00:00"), lab.at("2026-11-20T22:01:00"))
    with lab.store.writing():
        intervals.merge(lab.store, lab.ids["alpha"], [evil], 60.0)
    return lab


@pytest.fixture
def hub(lab):
    return Readings(lab)


@pytest.fixture
def get(hub, monkeypatch):
    monkeypatch.setattr(app_module.time, "time", lambda: hub.lab.end_at("alpha") + 5)
    app = make_app(hub)

    def ask(path, query=""):
        told = {}
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub", "SERVER_PORT": "1",
            "wsgi.url_scheme": "http",
        }  # fmt: skip
        body = b"".join(app(environ, lambda status, headers, *_: told.update(status=status, headers=dict(headers))))
        return told["status"][:3], told["headers"], body.decode()

    return ask


def lines(body):
    return list(csv.DictReader(io.StringIO(body)))


@pytest.mark.parametrize("query", [
    "metric=utilization_percent&gpu=GPU-a1", "metric=power_watts&host=alpha&gpu=1&range=7d&step=15m", "metric=cpu_percent&host=beta&range=6h",
    "metric=held_percent&points=10&range=1y", "metric=held_hours&user=lisa&range=7d", "metric=power_watts&host=alpha", "metric=memory_used_bytes&gpu=MIG-a1",
])  # fmt: skip
def test_a_series_is_as_described_and_its_csv_tells_the_same(get, query):
    status, headers, body = get("/api/v1/series", query)
    assert (status, headers["Content-Type"]) == ("200", "application/json")
    found = json.loads(body)
    assert errors(found, answer_of("/api/v1/series")) == []
    assert any(found["count"])
    assert len({len(found[name]) for name in ("times", "minimum", "mean", "maximum", "count", "coverage")}) == 1
    status, headers, body = get("/api/v1/series", query + "&format=csv")
    assert status == "200"
    assert headers["Content-Type"].startswith("text/csv")
    assert 'filename="series.csv"' in headers["Content-Disposition"]
    rows = lines(body)
    assert [int(row["start_at"]) for row in rows] == found["times"]
    assert [row["mean"] == "" for row in rows] == [mean is None for mean in found["mean"]]
    assert {row["metric"] for row in rows} == {found["metric"]}


def test_a_series_ends_now_and_has_no_more_points_than_asked_for(get, lab):
    found = json.loads(get("/api/v1/series", "metric=power_watts&gpu=GPU-a1&range=2h&points=50")[2])
    assert len(found["times"]) <= 50
    assert found["mean"][-1] is not None or found["mean"][-2] is not None
    assert found["end_at"] == lab.end_at("alpha") + 5


def test_at_ends_a_series_in_the_past(get):
    found = json.loads(get("/api/v1/series", "metric=power_watts&gpu=GPU-a1&range=1h&at=2026-11-20+22:00")[2])
    assert found["end_at"] - found["start_at"] == 3600
    assert any(found["count"])


def test_processes_are_as_described_and_their_csv_tells_the_same(get, lab):
    query = "host=alpha&gpu=1&from=2026-11-20&to=2026-11-21"
    status, _, body = get("/api/v1/processes", query)
    found = json.loads(body)
    assert status == "200"
    assert errors(found, answer_of("/api/v1/processes")) == []
    assert found["processes"]
    assert not found["truncated"]
    assert {one["gpu_uuid"] for one in found["processes"]} == {"GPU-a1"}
    assert all(one["start_at"] < lab.at("2026-11-21T00:00:00") for one in found["processes"])
    rows = lines(get("/api/v1/processes", query + "&format=csv")[2])
    assert [int(row["pid"]) for row in rows] == [one["pid"] for one in found["processes"]]
    few = json.loads(get("/api/v1/processes", query + "&limit=2")[2])
    assert (len(few["processes"]), few["truncated"], few["limit"]) == (2, True, 2)


def test_a_spreadsheet_does_not_run_a_name(get):
    rows = [row for row in lines(get("/api/v1/processes", "host=alpha&gpu=0&from=2026-11-20&format=csv")[2]) if row["pid"] == "666"]
    assert rows[0]["user"].startswith("'=cmd")
    assert rows[0]["name"] == "'+1,\"2\""
    assert not rows[0]["command"].startswith("@")
    assert json.loads(get("/api/v1/processes", "user=" + "%3Dcmd%7C'%2Fc%20calc'!A0" + "&from=2026-11-20")[2])["processes"][0]["pid"] == 666


@pytest.mark.parametrize("by", ["user", "host", "gpu", "model", "tag"])
def test_usage_is_as_described_and_its_csv_tells_the_same(get, by):
    status, _, body = get("/api/v1/usage", f"by={by}&range=7d")
    found = json.loads(body)
    assert status == "200"
    assert errors(found, answer_of("/api/v1/usage")) == []
    assert (found["by"], found["last_day"], found["timezone"]) == (by, "2026-11-21", "Europe/Berlin")
    assert found["total"]["held_hours"] > 0
    if by != "tag":
        assert sum(row["held_hours"] for row in found["rows"]) == pytest.approx(found["total"]["held_hours"], abs=1e-4)
    rows = lines(get("/api/v1/usage", f"by={by}&range=7d&format=csv")[2])
    assert [row["key"] for row in rows] == [row["key"] for row in found["rows"]]
    assert [float(row["held_hours"]) for row in rows] == [pytest.approx(row["held_hours"], rel=1e-5) for row in found["rows"]]
    assert {row["coverage"] == "" for row in rows} <= ({True} if by == "user" else {True, False})


@pytest.mark.parametrize(("path", "query", "status", "words"), [
    ("series", "", "400", "metric= is missing"), ("series", "metric=x", "400", "is not one of utilization_percent"),
    ("series", "metric=power_watts&gpu=nope", "404", "There is no GPU"), ("series", "metric=cpu_percent&host=nope", "404", "There is no host"),
    ("series", "metric=power_watts&host=alpha&gpu=9", "404", "has no GPU 9"), ("series", "metric=power_watts&from=x", "400", "from="),
    ("series", "metric=power_watts&points=5000", "400", "points="), ("series", "metric=power_watts&step=x", "400", "step="),
    ("series", "metric=power_watts&format=html", "400", "format="), ("processes", "from=2026-11-21&to=2026-11-20", "400", "later"),
    ("processes", "gpu=nope", "404", "no GPU"), ("processes", "limit=0", "400", "limit="), ("usage", "by=colour", "400", "by="),
    ("usage", "from=2026-11-21&to=2026-11-20", "400", "before"), ("usage", "range=x", "400", "range="),
])  # fmt: skip
def test_what_cannot_be_is_said_in_words(get, path, query, status, words):
    for twin in ("", "&format=csv") if "format" not in query else ("",):
        told, headers, body = get(f"/api/v1/{path}", query + twin)
        assert told == status
        assert headers["Content-Type"] == "application/json"
        assert words in json.loads(body)["error"]


def test_without_a_database_it_says_so(hub, get):
    hub.store = None
    for path in ("series?metric=power_watts", "processes?", "usage?"):
        name, _, query = path.partition("?")
        status, _, body = get(f"/api/v1/{name}", query)
        assert status == "503"
        assert "database is not open" in json.loads(body)["error"]


def test_who_asks_the_same_at_the_same_time_gets_the_same_answer(get, monkeypatch):
    asked = []
    real = query_series.series
    monkeypatch.setattr(query_series, "series", lambda *args, **kwargs: asked.append(1) or real(*args, **kwargs))
    bodies = {get("/api/v1/series", "metric=power_watts&gpu=GPU-a1")[2] for _ in range(3)}
    assert (len(bodies), len(asked)) == (1, 1)


def test_strangers_see_no_arguments(get, lab):
    with lab.store.writing():
        one = ProcessInterval("GPU-b0", 77, 1.0, "lisa", "python", "python train.py --token hunter2", lab.at("2026-11-20T22:00:00"), lab.at("2026-11-20T22:01:00"))
        intervals.merge(lab.store, lab.ids["beta"], [dataclasses.replace(one)], 60.0)
    for twin in ("", "&format=csv"):
        body = get("/api/v1/processes", "host=beta&gpu=0&from=2026-11-20" + twin)[2]
        assert "train.py" in body
        assert "hunter2" not in body
