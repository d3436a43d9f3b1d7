"""``/history`` and its twins over a real store: subjects, spans, caches, errors in words."""

from __future__ import annotations

import csv
import io
import json

import pytest
from tests.query.lab import LIMITS, Lab
from tests.rules.machine import Machine
from tests.web.readings import Readings

from gpuwatch.config.settings import HubSettings
from gpuwatch.model.errors import StoreError
from gpuwatch.web import app as app_module
from gpuwatch.web import charts as charts_module
from gpuwatch.web import history_views as views_module
from gpuwatch.web.app import make_app

START = "2026-11-20T20:00:00"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "beta")
    lab.add("alpha", Machine(1, lab.at(START), 20, name="a"), 700, packed=640)
    lab.add("beta", Machine(2, lab.at("2026-11-20T23:31:00"), 60, name="b"), 20)
    assert LIMITS
    return lab


@pytest.fixture
def hub(lab):
    return Readings(lab)


@pytest.fixture
def get(hub, monkeypatch):
    monkeypatch.setattr(app_module.time, "time", lambda: hub.lab.end_at("alpha") + 5)
    app = make_app(hub)

    def ask(path, query="", accept="*/*"):
        told = {}
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(), "SERVER_NAME": "hub", "SERVER_PORT": "1",
            "wsgi.url_scheme": "http", "HTTP_ACCEPT": accept,
        }  # fmt: skip
        body = b"".join(app(environ, lambda status, headers, *_: told.update(status=status, headers=dict(headers))))
        return told["status"][:3], told["headers"], body.decode()

    return ask


def test_the_page_of_all_gpus(get):
    status, headers, body = get("/history", accept="text/html")
    assert status == "200"
    assert headers["Content-Type"].startswith("text/html")
    assert "<h1>All GPUs</h1>" in body
    assert '<option value="beta">' in body
    assert body.count('class="strip" data-src=') == 7


@pytest.mark.parametrize(("query", "name", "strips"), [
    ("host=alpha", "alpha", 6), ("host=alpha&gpu=1", "alpha GPU 1", 6), ("gpu=GPU-a0", "alpha GPU 0", 6), ("gpu=MIG-a1", "alpha GPU 2 0", 2),
    ("user=lisa", "lisa", 5), ("user=lisa&host=alpha", "lisa on alpha", 5),
])  # fmt: skip
def test_every_subject_has_its_charts(get, query, name, strips):
    status, _, body = get("/history", query + "&range=6h")
    assert status == "200"
    assert f'data-name="{name}"' in body
    assert body.count('class="strip" data-src=') == strips
    assert 'class="mean"' in body or 'class="bars"' in body
    assert ("who, and since when" in body) == ("gpu=" in query)
    assert ("where lisa ran something" in body) == ("user=" in query)


def test_the_text_twin_is_as_wide_as_asked_for(get):
    status, headers, body = get("/history", "term=true&host=alpha&gpu=1&range=6h&width=120&detail=true")
    assert status == "200"
    assert headers["Content-Type"].startswith("text/plain")
    assert body.startswith("alpha GPU 1, 6 h: ")
    assert 100 < max(map(len, body.splitlines())) <= 120
    assert "COMMAND" in body
    assert get("/history", "term=true&ascii=true&range=6h")[2].isascii()


def test_json_holds_what_is_drawn(get):
    found = json.loads(get("/history", "format=json&gpu=GPU-a1&range=6h")[2])["series"]
    assert [one["metric"] for one in found][:2] == ["utilization_percent", "memory_used_bytes"]
    assert {len(one["times"]) for one in found} == {360}
    assert found[0]["gpu"] == "GPU-a1"
    assert found[0]["host"] == "alpha"
    assert any(value is not None for value in found[0]["mean"])


def test_csv_is_a_file_with_a_line_a_step_and_metric(get):
    status, headers, body = get("/history", "format=csv&host=alpha&range=1h")
    assert status == "200"
    assert headers["Content-Disposition"] == 'attachment; filename="history-alpha.csv"'
    rows = list(csv.DictReader(io.StringIO(body, newline="")))
    assert len(rows) == 6 * 60
    assert {row["metric"] for row in rows} >= {"cpu_percent", "load_1m"}


def test_a_span_between_two_times(get, lab):
    found = json.loads(get("/history", "format=json&from=2026-11-20+20:10&to=2026-11-20+20:30")[2])["series"]
    assert found[0]["start_at"] == lab.at("2026-11-20T20:10:00")
    assert found[0]["end_at"] == lab.at("2026-11-20T20:30:00")
    assert found[0]["step_seconds"] == 60
    assert json.loads(get("/history", f"format=json&to={lab.at(START)}")[2])["series"][0]["step_seconds"] == 300


def test_the_past_ends_where_at_says(get, lab):
    _, headers, body = get("/history", "at=2026-11-20+22:00&range=1h&host=alpha")
    assert "Memento-Datetime" in headers
    assert "at=2026-11-20+22%3A00" in body
    assert 'data-live="1"' not in body
    found = json.loads(get("/history", "at=2026-11-20+22:00&range=1h&format=json&host=alpha")[2])["series"]
    assert found[0]["end_at"] == lab.at("2026-11-20T22:01:00")


@pytest.mark.parametrize(("query", "status", "words"), [
    ("host=nobody", "404", "There is no host 'nobody'."), ("gpu=GPU-none", "404", "There is no GPU 'GPU-none'."), ("host=alpha&gpu=9", "404", "'alpha' has no GPU 9."),
    ("range=tomorrow", "400", "range='tomorrow' is not a range of time."), ("range=90y", "400", "A chart shows up to 20 years."),
    ("from=now&to=-2h", "400", "The chart would end before it begins."), ("from=x", "400", "from='x' is not understood as a time."),
])  # fmt: skip
def test_what_cannot_be_is_said_in_words(get, query, status, words):
    told, _, body = get("/history", query)
    assert told == status
    assert body.startswith(words)
    assert "Traceback" not in body
    assert "&lt;" in get("/history", "host=%3Cscript%3E", accept="text/html")[2]


def test_without_a_database_the_page_says_so(hub, get):
    hub.store = None
    status, _, body = get("/history", "range=1h")
    assert status == "200"
    assert "The database is not open, so there are no charts." in body
    assert "range=30d" in body


def test_a_broken_database_is_said_in_the_charts_place(get, monkeypatch):
    def broken(*_, **__):
        raise StoreError("The database is damaged.", "Next: gpuwatch db verify.")

    monkeypatch.setattr(charts_module.series, "many", broken)
    status, _, body = get("/history", "host=alpha&range=1h")
    assert status == "200"
    assert "The database is damaged. Next: gpuwatch db verify." in body


def test_pages_of_hosts_and_gpus_have_their_charts(get):
    for path, name in (("/hosts/alpha", "alpha"), ("/gpus/GPU-a1", "alpha GPU 1")):
        body = get(path, "range=6h", accept="text/html")[2]
        assert f'data-name="{name}"' in body
        assert f'href="{path}?range=30d"' in body
        assert 'aria-current="true">6 h' in body
        assert "charts.js" in body
    assert get("/gpus/GPU-a1", "range=nonsense")[0] == "400"
    assert "charts.js" not in get("/", accept="text/html")[2]


def test_charts_of_a_page_are_read_once_for_all_who_look(get, hub, monkeypatch):
    asked = []
    many = charts_module.series.many
    monkeypatch.setattr(charts_module.series, "many", lambda *args, **more: asked.append(1) or many(*args, **more))
    for _ in range(3):
        get("/gpus/GPU-a1", "range=24h", accept="text/html")
        hub.latest.notice("hosts", f"{len(asked)}")
    assert len(asked) == 1
    get("/gpus/GPU-a1", "range=7d", accept="text/html")
    assert len(asked) == 2


# ---- reports


def test_the_report_of_days_reconciles_in_every_form(get):
    for by in ("user", "host", "gpu", "model", "tag"):
        document = json.loads(get("/reports", f"format=json&from=2026-11-20&to=2026-11-21&by={by}")[2])
        total, rows = document["usage"]["total"], document["usage"]["rows"]
        assert total["held_hours"] > 1
        assert total["held_hours"] == pytest.approx(total["busy_hours"] + total["idle_hours"] + total["unknown_hours"])
        if by != "tag":
            assert sum(row["held_hours"] for row in rows) == pytest.approx(total["held_hours"])
        assert document["fleet"]["heat"]["metric"] == "utilization_percent"
        status, _, body = get("/reports", f"from=2026-11-20&to=2026-11-21&by={by}", accept="text/html")
        assert status == "200"
        assert body.count('<rect class="work"') == len(rows)
        text = get("/reports", f"term=true&from=2026-11-20&to=2026-11-21&by={by}")[2]
        assert "h held = " in text
        lines = list(csv.DictReader(io.StringIO(get("/reports", f"format=csv&from=2026-11-20&to=2026-11-21&by={by}")[2], newline="")))
        assert [line["key"] for line in lines] == [row["key"] for row in rows]


def test_periods_of_the_calendar(get):
    for query, first, last in (
        ("", "2026-11-16", "2026-11-22"), ("period=month", "2026-11-01", "2026-11-30"), ("period=day&day=2026-11-20", "2026-11-20", "2026-11-20"),
        ("from=-1d", "2026-11-20", "2026-11-21"), ("from=2026-11-16&to=2026-11-22", "2026-11-16", "2026-11-22"),
    ):  # fmt: skip
        usage = json.loads(get("/reports", f"format=json&{query}")[2])["usage"]
        assert (usage["first_day"], usage["last_day"]) == (first, last)
    assert 'aria-current="true">Week' in get("/reports", "from=2026-11-16&to=2026-11-22", accept="text/html")[2]


def test_each_table_is_a_file_of_its_own(get):
    for table in ("usage", "heat", "idle", "inactive", "downtime"):
        status, headers, body = get("/reports", f"format=csv&table={table}")
        assert status == "200"
        assert headers["Content-Disposition"] == f'attachment; filename="reports-{table}-2026-11-16-2026-11-22.csv"'
        assert body.startswith("first_day,last_day,")


def test_the_rates_of_the_settings_give_cost_and_co2(hub, get):
    hub.settings = HubSettings(price_per_kwh=1000.0, currency="CHF", co2_grams_per_kwh=400.0)
    body = get("/reports", "by=host", accept="text/html")[2]
    assert " CHF" in body
    assert "kg CO2" in body
    assert "CHF" not in get("/history", accept="text/html")[2]


@pytest.mark.parametrize(("query", "words"), [
    ("from=tomorrow", "from='tomorrow' is not a day."), ("by=colour", "by='colour' is not one of user, host, gpu, model, tag."),
    ("from=2026-11-20&to=2026-11-19", "The report would end on 2026-11-19 before it begins on 2026-11-20."), ("period=year", "period='year' is not one of week, day, month."),
    ("table=x&format=csv", "table='x' is not one of"), ("heat=x", "heat='x' is not one of"),
])  # fmt: skip
def test_reports_that_cannot_be_are_refused_in_words(get, query, words):
    status, _, body = get("/reports", query)
    assert status == "400"
    assert body.startswith(words)


def test_without_a_database_there_is_no_report(hub, get):
    hub.store = None
    status, _, body = get("/reports", "term=true")
    assert status == "503"
    assert body.startswith("The database is not open, so there is nothing to report.")


def test_a_report_is_worked_out_once_for_all_who_look(get, hub, monkeypatch):
    asked = []
    report = views_module.past_usage.report
    monkeypatch.setattr(views_module.past_usage, "report", lambda *args, **more: asked.append(1) or report(*args, **more))
    for query in ("", "term=true", "term=true&width=200", "format=csv"):
        get("/reports", query)
        hub.latest.notice("hosts", query)
    assert len(asked) == 1
