"""The text views that are no table of GPUs, as golden files: charts, reports, hubs, imports, and what stands over a view of the past.

Those of the GPUs are in test_ascii.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.render import chart_samples, golden, report_samples, samples
from tests.render.test_hubs import ALONE, HUBS
from tests.render.test_hubs import NOW as HUBS_NOW
from tests.render.test_text_chart import charts

from gpuwatch.model.imports import ImportedGpu, ImportedMachine
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_ascii
from gpuwatch.render.chart_strips import FLEET_STRIPS, USER_STRIPS, host_strips
from gpuwatch.render.chart_window import latest_window
from gpuwatch.render.charts import Charts, by_metric
from gpuwatch.render.hubs import hubs_text
from gpuwatch.render.imports import dry_run_text, imports_text
from gpuwatch.render.reports import BY, Rates
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_chart import charts_text
from gpuwatch.render.text_past import marked
from gpuwatch.render.text_reports import reports_text

NOW, ZONE = samples.NOW, "Europe/Berlin"
LOOKS = {"80": Look(80), "200": Look(200), "ascii": Look(80, True), "color": Look(80, False, True)}


def told(parts: dict[str, str]) -> str:
    return "".join(f"=== {name}\n{text}\n" for name, text in parts.items())


def of_a_user(columns: int) -> Charts:
    found = by_metric(chart_samples.user_series(strip.metric) for strip in USER_STRIPS)
    window = latest_window(30 * 86400, NOW, "30d", columns - 10)
    return Charts(window, USER_STRIPS, found, NOW, ZONE, user="lisa", subject="lisa", processes=chart_samples.processes("u"))


@pytest.mark.parametrize("look", LOOKS)
def test_charts(look):
    columns = LOOKS[look].width
    parts = {
        "a GPU, a day": charts_text(charts(columns), LOOKS[look]),
        "a GPU, a week, with its processes": charts_text(charts(columns, 7 * 86400), LOOKS[look], detail=True),
        "a host": charts_text(charts(columns, strips=host_strips(samples.lab().nodes[0].snapshot.host), gpu="", processes=None, subject="dgx-a"), LOOKS[look]),
        "all GPUs, a month": charts_text(charts(columns, 30 * 86400, strips=FLEET_STRIPS, gpu="", processes=None, subject="All GPUs"), LOOKS[look]),
        "a user": charts_text(of_a_user(columns), LOOKS[look]),
        "nothing kept": charts_text(charts(columns, series_more={"kept_since": None}, trouble="The database is away."), LOOKS[look]),
    }
    golden.check(f"history_{look}.txt", told(parts))


@pytest.mark.parametrize("look", LOOKS)
def test_reports(look):
    parts = {by: reports_text(report_samples.reports(by), LOOKS[look]) for by, _ in BY}
    parts["with a price"] = reports_text(report_samples.reports("user", rates=Rates(0.32, "EUR", 380.0)), LOOKS[look])
    parts["without the fleet"] = reports_text(report_samples.reports("user", with_fleet=False), LOOKS[look])
    golden.check(f"reports_{look}.txt", told(parts))


def test_the_past_hubs_and_imports():
    then = replace(samples.lab(), at=NOW, asked_at=NOW + 90_000, timezone=ZONE)
    options = ViewOptions(at=NOW, host="old-1")
    card = ImportedGpu("index 0", "NVIDIA A100", NOW - 86400, NOW)
    doc = {
        "file": "a.csv", "format": "nvidia-smi", "why": "Its head names timestamp and index.", "rows": 2, "refused_count": 1, "users": 0, "zone": ZONE,
        "gpus": [{"host": "", "gpu": "index 0", "name": "NVIDIA A100", "rows": 2, "first_at": NOW - 60, "last_at": NOW}],
        "refused": [{"line": 3, "why": "'x' is no number."}], "notes": ["Its times have no zone."], "imports": ["import:a"], "fields": "", "host": "",
    }  # fmt: skip
    parts = {
        "past, table": marked(then, options, as_ascii.table(then, options)),
        "past, details": marked(then, options, as_ascii.detail(then, options)),
        "past, rows": marked(then, options, as_ascii.rows(then, options)),
        "hubs": hubs_text(HUBS, HUBS_NOW).decode(),
        "one hub": hubs_text([ALONE], HUBS_NOW).decode(),
        "imports": imports_text([ImportedMachine("import:a", (card,), "a.csv", 9, NOW), ImportedMachine("import:b", (), "b.csv", 0, NOW, False)], ZONE),
        "no imports": imports_text([], ZONE),
        "a dry run": dry_run_text(doc),
    }
    golden.check("others.txt", told(parts))
