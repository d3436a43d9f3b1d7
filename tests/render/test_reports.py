"""Reports as page, text, CSV and JSON: days, sums that reconcile, coverage beside every number, hostile names, width."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from tests.render import report_samples, samples
from tests.render.test_html_charts import Parser, well_formed
from tests.render.test_html_contrast import SCHEMES, contrast

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import UsageRow
from gpuwatch.render.csv_reports import COLUMNS, reports_csv
from gpuwatch.render.html_reports import reports_page
from gpuwatch.render.json_reports import reports_json
from gpuwatch.render.reports import (
    BY,
    TABLES,
    Days,
    Rates,
    cost,
    days_between,
    days_of,
    days_words,
    hours,
    neighbours,
    parse_day,
    percent,
    reconciliation,
)
from gpuwatch.render.text_cells import Look, width
from gpuwatch.render.text_reports import reports_text

TODAY = date(2026, 11, 18)
RATES = Rates(0.32, "EUR", 380.0)
HOSTILE = '<img src=x onerror=alert(1)>=cmd()\x1b[31m\u202e'
BY_NAMES = [name for name, _ in BY]


# ---- days


@pytest.mark.parametrize(("period", "day", "first", "last"), [
    ("day", TODAY, "2026-11-18", "2026-11-18"), ("week", TODAY, "2026-11-16", "2026-11-22"), ("month", TODAY, "2026-11-01", "2026-11-30"),
    ("month", date(2028, 2, 29), "2028-02-01", "2028-02-29"), ("month", date(2026, 12, 31), "2026-12-01", "2026-12-31"), ("week", date(2027, 1, 1), "2026-12-28", "2027-01-03"),
])  # fmt: skip
def test_days_of_the_calendar(period, day, first, last):
    assert days_of(period, day) == Days(first, last, period)


def test_neighbours_are_as_long():
    assert neighbours(days_of("month", TODAY)) == (days_of("month", date(2026, 10, 5)), days_of("month", date(2026, 12, 5)))
    assert neighbours(Days("2026-11-10", "2026-11-12")) == (Days("2026-11-07", "2026-11-09"), Days("2026-11-13", "2026-11-15"))
    assert neighbours(Days("0001-01-01", "0001-01-02")) == (None, None)


def test_days_that_are_a_week_are_called_one():
    assert days_between(date(2026, 11, 16), date(2026, 11, 22)).period == "week"
    assert days_between(date(2026, 11, 1), date(2026, 11, 30)).period == "month"
    assert days_between(date(2026, 11, 1), date(2026, 11, 29)).period == ""
    with pytest.raises(UsageError):
        days_between(date(2026, 11, 2), date(2026, 11, 1))


@pytest.mark.parametrize(("text", "day"), [("2026-11-01", date(2026, 11, 1)), ("today", TODAY), (" Yesterday", date(2026, 11, 17)), ("-30d", date(2026, 10, 19))])
def test_days_as_people_write_them(text, day):
    assert parse_day(text, TODAY, "from") == day


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "2026-02-30", "26-11-01", "-99999999d", "-xd", "2026-11-01T00:00", "١٢٣٤-11-01", "x" * 999])
def test_what_is_no_day_is_refused_in_words(text):
    with pytest.raises(UsageError, match="is not a day"):
        parse_day(text, TODAY, "from")


def test_days_in_words():
    assert days_words(days_of("day", TODAY), "2026-11-19") == "Wed 18 Nov 2026"
    assert days_words(days_of("week", TODAY), "2026-11-30") == "Mon 16 to Sun 22 Nov 2026"
    assert days_words(days_of("month", TODAY), "2026-11-18") == "Sun 1 to Mon 30 Nov 2026, so far"
    assert days_words(Days("2026-12-28", "2027-01-03"), "2027-02-01") == "Mon 28 Dec 2026 to Sun 3 Jan 2027"
    assert days_words(Days("2026-10-28", "2026-11-03"), "2027-02-01") == "Wed 28 Oct to Tue 3 Nov 2026"


def test_numbers_in_words():
    assert [hours(value) for value in (0.0, 0.04, 4.24, 99.94, 99.96, 1234.5)] == ["0", "0.04", "4.2", "99.9", "100", "1,234"]
    assert [percent(share) for share in (None, 0.0, 0.5, 0.974, 0.988, 0.9991, 1.0)] == ["", "0 %", "50 %", "97 %", "98.8 %", "99.9 %", "100 %"]
    assert cost(3.6e6 * 10, RATES) == "3.20 EUR"
    assert cost(3.6e6 * 10, Rates()) == ""
    assert reconciliation(UsageRow("", 10.0, 7.0, 3.0)) == "10.0 h held = 7.0 h at work + 3.0 h idle"


# ---- the page


@pytest.mark.parametrize("by", BY_NAMES)
def test_the_page_has_every_part(by):
    html = reports_page(samples.lab(), report_samples.reports(by, rates=RATES))
    well_formed(html.replace("<!doctype html>", ""))
    for part in ("Most idle GPU-hours", "GPUs that nobody held", "Hosts without readings", "by hour of the week", "Measured"):
        assert part in html
    assert html.count('<rect class="work"') == len(report_samples.KEYS[by])
    assert ("unattributed" in html) == (by != "user")
    assert "EUR" in html
    assert "kg CO2" in html


def test_the_page_s_links_keep_days_and_rows():
    html = reports_page(samples.lab(), report_samples.reports("host"))
    assert 'rel="prev" href="/reports?period=week&amp;day=2026-11-09&amp;by=host"' in html
    assert 'rel="next"' not in html
    assert 'href="/reports?period=week&amp;by=gpu"' in html
    assert 'href="/reports?period=week&amp;by=host&amp;heat=held_percent"' in html
    for table in TABLES[1:]:
        assert f'href="/reports?period=week&amp;by=host&amp;format=csv&amp;table={table}"' in html
    old = report_samples.reports("host", days=Days("2026-11-02", "2026-11-08", "week"))
    assert 'rel="next" href="/reports?period=week&amp;by=host"' not in reports_page(samples.lab(), old)
    assert 'rel="next" href="/reports?period=week&amp;day=2026-11-09&amp;by=host"' in reports_page(samples.lab(), old)


def test_rows_lead_to_their_pages():
    links = {"user": "/history?user=lisa", "host": "/hosts/dgx-a", "gpu": "/gpus/GPU-1", "model": "/?model=NVIDIA", "tag": "/?tag=train"}
    for by, link in links.items():
        assert f'href="{link}' in reports_page(samples.lab(), report_samples.reports(by))


def test_nothing_measured_is_a_hatched_hour_and_not_zero():
    html = reports_page(samples.lab(), report_samples.reports())
    assert html.count('class="none"') == 3
    assert 'class="none" title="Sun 02:00: no reading"' in html
    assert 'class="h0" title="Sat 00:00: 0.0 over 4 hours"' in html
    assert 'class="h4"' in html


def test_nothing_at_all_is_said():
    nothing = report_samples.reports(usage=replace(report_samples.usage(kept_since=None), rows=(), total=UsageRow("")))
    fleet = replace(nothing.fleet, most_idle=(), inactive=(), downtime=())
    html = reports_page(samples.lab(), replace(nothing, fleet=fleet))
    good = ("nothing was held", "no GPU was held without work", "each GPU was held at some time", "every host was read all the time")
    assert "Nothing is kept yet." in html
    assert html.count("no readings in these days") == len(good)
    assert not [words for words in good if words in html], "nobody knows"
    assert "hold" not in re.findall(r'<b[^>]*>0</b> h', html)[-1], "none idle is no warning"
    measured = replace(nothing.usage, total=replace(nothing.usage.total, measured_hours=24.0))
    html = reports_page(samples.lab(), replace(nothing, usage=measured, fleet=fleet))
    assert [words for words in good if words in html] == list(good)
    text = reports_text(replace(nothing, fleet=fleet), Look())
    assert "Nothing is kept yet." in text
    assert "nothing was held" in text


def test_before_what_is_kept_is_said():
    late = report_samples.reports(usage=report_samples.usage(kept_since=report_samples.NOW - 3600))
    assert "No readings before 13:32." in reports_page(samples.lab(), late)
    assert "No readings before 13:32." in reports_text(late, Look())


def hostile():
    one = report_samples.reports("host")
    use = report_samples.use(1, 5.0, 9.0, HOSTILE)
    process = use.processes[0]
    use = replace(use, processes=(replace(process, interval=replace(process.interval, user=HOSTILE, command=HOSTILE)),))
    downtime = replace(one.fleet.downtime[0], host=HOSTILE)
    usage = replace(one.usage, rows=(report_samples.row(HOSTILE, 0, "host"),))
    return replace(one, usage=usage, fleet=replace(one.fleet, most_idle=(use,), inactive=(use,), downtime=(downtime,)), rates=Rates(1.0, HOSTILE, 1.0))


def test_hostile_names_stay_text():
    html = reports_page(samples.lab(), hostile())
    assert "img" not in Parser(html.replace("<!doctype html>", "")).tags
    for text in (html, reports_text(hostile(), Look(200)), reports_csv(hostile(), "idle").decode()):
        assert "\x1b" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_numbers_of_the_hours_can_be_read_on_every_shade(scheme):
    colors = SCHEMES[scheme]
    assert contrast(colors["--ink-3"], colors["--hair"]) >= 4.5
    for shade in ("--r1", "--r2", "--r3", "--r4"):
        assert contrast(colors["--ink"], colors[shade]) >= 4.5, shade


# ---- text


@pytest.mark.parametrize("columns", [60, 80, 120, 200, 400])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("by", BY_NAMES)
def test_no_line_is_wider_than_the_screen(columns, ascii_only, by):
    text = reports_text(report_samples.reports(by, rates=RATES), Look(columns, ascii_only))
    assert max(width(line) for line in text.splitlines()) <= columns
    assert text.isascii() or not ascii_only
    assert max(width(line) for line in reports_text(hostile(), Look(columns)).splitlines()) <= columns


def test_text_tells_the_same_as_the_page():
    text = reports_text(report_samples.reports(), Look())
    assert "GPU-hours by user, Mon 16 to Sun 22 Nov 2026, so far" in text
    assert "2,205 h held = 1,870 h at work + 334 h idle + 1.5 h with utilization not\nreported" in text
    assert re.search(r"^chen\.w +900 +855 +45\.0 +261 ", text, re.M)
    assert re.search(r"^all GPUs +2,205 +1,870 +334 +639 ", text, re.M)
    assert re.search(r"^Sun  0  0 \.\. \.\. \.\.  0  5 ", text, re.M)
    assert "dgx-a GPU 1                  88.2      120  lisa ipykernel_launcher" in text
    assert "dgx-a GPU 7              A100 80GB, measured 166 h, last held not known" in text
    assert "gpu03            2 h 30 m, measured 96 %: Tue 13:32 2 h 00 m; 12:02 30 m" in text


def test_gpus_of_a_host_with_a_long_name_keep_their_numbers():
    long = "gpu-workstation-of-the-perception-laboratory"
    found = report_samples.reports(usage=report_samples.usage("gpu"))
    rows = tuple(replace(row, name=f"{long if number else '視覚研究室-第二計算機サーバー'} GPU {number}") for number, row in enumerate(found.usage.rows))
    text = reports_text(replace(found, usage=replace(found.usage, rows=rows)), Look(width=80))
    names = [line.partition("  ")[0] for line in text.splitlines() if "… GPU " in line]
    assert [name[-5:] for name in names[:3]] == ["GPU 0", "GPU 1", "GPU 2"]
    assert max(map(width, text.splitlines())) <= 80


def test_wide_text_has_a_bar_with_its_idle_part():
    line = next(line for line in reports_text(report_samples.reports("host"), Look(200)).splitlines() if line.startswith("dgx-b"))
    drawn = re.search(r"(#+)(=+)(-+)", line)
    assert 0.1 < len(drawn[2]) / (len(drawn[1]) + len(drawn[2])) < 0.15


# ---- CSV and JSON


@pytest.mark.parametrize("table", TABLES)
def test_each_table_is_a_csv_of_its_columns(table):
    rows = list(csv.DictReader(io.StringIO(reports_csv(report_samples.reports("host"), table).decode(), newline="")))
    assert rows
    assert list(rows[0]) == [name for name, _ in COLUMNS[table]]
    assert all(None not in row and None not in row.values() for row in rows)


def test_csv_leaves_unknown_empty():
    users = list(csv.DictReader(io.StringIO(reports_csv(report_samples.reports("user")).decode(), newline="")))
    assert (users[0]["key"], users[0]["held_hours"], users[0]["measured_hours"], users[0]["coverage"], users[0]["cost"]) == ("chen.w", "900", "", "", "")
    assert (users[-1]["key"], users[-1]["name"]) == ("", "nobody known")
    hosts = list(csv.DictReader(io.StringIO(reports_csv(report_samples.reports("host", rates=RATES)).decode(), newline="")))
    assert hosts[0]["coverage"] == "0.987654"
    assert float(hosts[0]["cost"]) == pytest.approx(float(hosts[0]["energy_kwh"]) * 0.32)
    heat = list(csv.DictReader(io.StringIO(reports_csv(report_samples.reports(), "heat").decode(), newline="")))
    assert len(heat) == 168
    assert heat[6 * 24 + 2]["mean"] == ""
    assert heat[5 * 24]["mean"] == "0"


def test_csv_makes_formulas_harmless():
    (row,) = csv.DictReader(io.StringIO(reports_csv(replace(hostile(), usage=replace(hostile().usage, rows=(UsageRow("=1+2"),)))).decode(), newline=""))
    assert row["key"] == "'=1+2"


def test_json_is_the_model_with_its_coverage():
    document = json.loads(reports_json(report_samples.reports("host", rates=RATES)))
    assert document["usage"]["rows"][0]["coverage"] == pytest.approx(0.98765, abs=1e-4)
    assert document["fleet"]["heat"]["mean"][6][2] is None
    assert document["rates"] == {"price": 0.32, "currency": "EUR", "co2_grams": 380.0}
    assert json.loads(reports_json(report_samples.reports(with_fleet=False)))["fleet"] is None


def test_the_docs_tell_every_column():
    docs = (Path(__file__).resolve().parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")
    for columns in COLUMNS.values():
        for name, words in columns:
            assert f"| `{name}` | {words} |" in docs
