"""Series and processes as CSV: columns, empty values for what is not known, nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tests.render import chart_samples, samples

from gpuwatch.model.series import ProcessInterval
from gpuwatch.render.chart_window import window_between
from gpuwatch.render.csv_series import PROCESS_COLUMNS, SERIES_COLUMNS, cell, processes_csv, series_csv

NOW = samples.NOW


def test_a_line_a_step_with_empty_values_in_a_gap():
    window = window_between(chart_samples.GAP[0] - 600, chart_samples.GAP[0] + 600)
    pieces = series_csv([chart_samples.series(metric, window, host="dgx-a", gpu="GPU-1") for metric in ("power_watts", "utilization_percent")], "Europe/Berlin")
    rows = list(csv.DictReader(io.StringIO(b"".join(pieces).decode(), newline="")))
    assert list(rows[0]) == [name for name, _ in SERIES_COLUMNS]
    assert len(rows) == 2 * window.seconds // window.step_seconds
    first, last = rows[0], rows[len(rows) // 2 - 1]
    assert (first["host"], first["metric"], first["unit"], first["step_seconds"]) == ("dgx-a", "power_watts", "W", "60")
    assert first["start_at"] == str(window.start_at)
    assert first["start"].startswith("2026-11-18T03:")
    assert first["start"].endswith("+01:00")
    assert float(first["minimum"]) <= float(first["mean"]) <= float(first["maximum"])
    assert (last["minimum"], last["mean"], last["maximum"], last["readings"], last["coverage"]) == ("", "", "", "0", "0")


def test_processes_have_their_gpu_and_their_times():
    rows = list(csv.DictReader(io.StringIO(processes_csv(chart_samples.processes("GPU-1"), "Europe/Berlin").decode(), newline="")))
    assert list(rows[0]) == [name for name, _ in PROCESS_COLUMNS]
    assert (rows[0]["host"], rows[0]["index"], rows[0]["gpu"], rows[0]["user"], rows[0]["pid"]) == ("dgx-a", "1", "GPU-1", "lisa", "4000")
    assert rows[-1]["user"] == rows[4]["peak_memory_bytes"] == ""


def test_the_docs_tell_every_column():
    docs = (Path(__file__).resolve().parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")
    for name, words in SERIES_COLUMNS:
        assert f"| `{name}` | {words} |" in docs


def test_a_formula_is_made_harmless():
    found = chart_samples.past("=cmd()", None, ProcessInterval("+1", 1, None, "@x", '=1,"2"', "-3", NOW - 60, NOW))
    (row,) = csv.DictReader(io.StringIO(processes_csv([found], "UTC").decode(), newline=""))
    assert (row["host"], row["gpu"], row["user"], row["name"], row["command"], row["index"]) == ("'=cmd()", "'+1", "'@x", "'=1,\"2\"", "'-3", "")


def test_numbers_are_short_and_exact():
    assert [cell(value) for value in (None, 0.0, 3.0, 0.1, 66.66666666, 70866960384.0, 70866960384.5)] == [
        "", "0", "3", "0.1", "66.6667", "70866960384", "70866960384.500",
    ]  # fmt: skip
