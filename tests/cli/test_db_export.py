"""``gpuwatch db export``: every row that is kept, once; columns, formulas, spans, files."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from tests.query.lab import Lab
from tests.rules.machine import Machine

from gpuwatch.cli import db
from gpuwatch.model.errors import UsageError
from gpuwatch.model.event import Event
from gpuwatch.model.series import GPU_METRICS, HOST_METRICS
from gpuwatch.query import export as exports
from gpuwatch.render import csv_export
from gpuwatch.store import events, intervals, machines, rollups, usage
from gpuwatch.wire.csv_in import gpuwatch_export
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import Report

WHATS = tuple(csv_export.COLUMNS)
MIDDLE = "2026-11-20 22:40:07"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = filled(tmp_path_factory.mktemp("lab") / "lab.db")
    (tmp_path_factory.getbasetemp() / "gpuwatch.toml").write_text('timezone = "Europe/Berlin"\n', encoding="utf-8")
    lab.config = str(tmp_path_factory.getbasetemp() / "gpuwatch.toml")
    return lab


def filled(path):
    lab = Lab(path, "alpha", "=beta")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T22:00:00"), 20, name="a"), 300, packed=240)
    lab.add("=beta", Machine(2, lab.at("2026-11-20T23:31:00"), 60, name="b"), 20)
    told = [Event(lab.at("2026-11-20T22:30:00") + n, "xid", lab.ids["alpha"], "alpha", f"=Xid {n}, \"quoted\"", "GPU-a0") for n in range(1200)]
    events.add(lab.store, [*told, Event(lab.at("2026-11-21T01:00:00"), "down", lab.ids["=beta"], "=beta", "away")])
    imported = machines.ensure(lab.store, "import:x", "")
    with lab.store.writing():
        lab.store.change("UPDATE machine SET removed_at_ms = 1 WHERE id = ?", (imported,))
    events.add(lab.store, [Event(5.0, "down", imported, "import:x", "of an import")])
    return lab


def run(lab, *words):
    done = CliRunner().invoke(db.command, ["--database", getattr(lab, "url", lab.store.path), "--config", lab.config, "export", *map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout_bytes.decode()


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("what", WHATS)
def test_csv_and_json_have_the_documented_columns_and_the_same_rows(lab, what):
    text = run(lab, "--what", what)
    rows, objects = rows_of(text), [json.loads(line) for line in run(lab, "--what", what, "--json").splitlines()]
    names = [name for name, _ in csv_export.COLUMNS[what]]
    assert text.splitlines()[0] == ",".join(names)
    assert text.endswith("\r\n")
    assert rows
    assert len(rows) == len(objects)
    assert all(None not in row and None not in row.values() for row in rows)
    assert all(list(one) == names for one in objects)
    for row, one in zip(rows, objects):
        for name, value in one.items():
            if value is None:
                assert row[name] == ""
            elif isinstance(value, (int, float)):
                assert float(row[name]) == pytest.approx(value, rel=1e-5, abs=1e-3)
            else:
                assert row[name] == csv_export.cell(value).replace('""', '"').strip('"') or '"' in value
    assert all(not value.startswith(("=", "+", "@")) for row in rows for value in row.values())


@pytest.mark.parametrize("what", [what for what in WHATS if what not in ("processes", "usage")])  # those reach into both
def test_two_spans_that_meet_have_every_row_once(lab, what):
    first, second = rows_of(run(lab, "--what", what, "--to", MIDDLE)), rows_of(run(lab, "--what", what, "--from", MIDDLE))
    assert first
    assert second
    assert sorted(map(str, first + second)) == sorted(map(str, rows_of(run(lab, "--what", what))))


@pytest.mark.parametrize("what", WHATS)
def test_one_host(lab, what):
    every = rows_of(run(lab, "--what", what))
    beta = rows_of(run(lab, "--what", what, "--host", "=beta"))
    assert beta == [row for row in every if row["host"] == "'=beta"]
    with pytest.raises(UsageError, match="knows no machine 'nobody'"):
        run(lab, "--what", what, "--host", "nobody")


def test_snapshots_are_all_readings(lab):
    rows = rows_of(run(lab, "--what", "snapshots", "--host", "alpha"))
    wanted = [(sample, gpu) for sample in lab.all["alpha"] for gpu in sample.places.gpus]
    assert len(rows) == len(wanted)
    for row, (sample, gpu) in zip(rows, wanted):
        assert (float(row["taken_at"]), row["uuid"], row["index"], row["error"]) == (pytest.approx(sample.at), gpu.uuid, str(gpu.index), gpu.error or "")
        for name in ("memory_used_bytes", "utilization_percent", "power_watts"):
            place = getattr(gpu, name)
            value = None if place is None else sample.values[place]
            assert row[name] == ("" if value is None else csv_export.cell(value))
        assert row["users"].split() == list(dict.fromkeys(one.user for one in gpu.processes if one.user))


def test_our_own_import_reads_the_snapshots(lab, tmp_path):
    run(lab, "--what", "snapshots", "--host", "alpha", "--output", tmp_path / "alpha.csv")
    done = CliRunner().invoke(db.command, ["--database", str(tmp_path / "none.db"), "import", "--dry-run", "--json", str(tmp_path / "alpha.csv")])
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["format"], told["refused_count"]) == ("gpuwatch", 0)
    report, text = Report(), run(lab, "--what", "snapshots")
    found = [row for row in gpuwatch_export.rows(io.StringIO(text), report, Clock(ZoneInfo("UTC"))) if row.user is None]
    assert report.refused == []
    assert {row.machine for row in found} == {"alpha", "=beta"}
    assert [round(row.at, 3) for row in found] == [float(row["taken_at"]) for row in rows_of(text)]


@pytest.mark.parametrize(("what", "tier"), [("minutes", 60), ("quarters", 900), ("hours", 3600)])
def test_steps_are_those_of_the_rollups_and_of_what_waits(lab, what, tier):
    rows = rows_of(run(lab, "--what", what, "--host", "alpha"))
    assert {row["step_seconds"] for row in rows} == {str(tier)}
    for subject, metrics in (("GPU-a0", GPU_METRICS), ("", HOST_METRICS)):
        own = [row for row in rows if row["gpu"] == subject]
        minutes = lab.digest("alpha").minutes[subject]
        assert [int(row["start_at"]) for row in own] == sorted({at // tier * tier for at in minutes})
        covered = sum(minute.covered_seconds for minute in minutes.values())
        assert sum(float(row["measured_seconds"]) for row in own) == pytest.approx(covered, abs=0.1 * len(minutes) + 1)
        for metric in metrics:
            buckets = [minute.metrics[metric] for minute in minutes.values() if metric in minute.metrics and minute.metrics[metric].count]
            highest = [float(row[f"{metric}_maximum"]) for row in own if row[f"{metric}_maximum"]]
            assert max(highest, default=None) == (pytest.approx(max(one.maximum for one in buckets), rel=0.02) if buckets else None)


def test_usage_is_what_the_store_sums_up(lab):
    rows = rows_of(run(lab, "--what", "usage"))
    for by, stored in (("gpu", usage.gpu_days(lab.store, "0", "9")), ("user", usage.user_days(lab.store, "0", "9"))):
        own = [row for row in rows if row["by"] == by]
        assert len(own) == len(stored)
        assert sum(float(row["held_hours"]) for row in own) == pytest.approx(sum(row.sums.held_seconds for row in stored) / 3600, rel=1e-4)
    assert {row["measured_hours"] for row in rows if row["by"] == "user"} == {""}
    day = rows_of(run(lab, "--what", "usage", "--from", "2026-11-21", "--to", "2026-11-22"))
    assert day == [row for row in rows if row["day"] == "2026-11-21"]


def test_processes_are_all_intervals(lab):
    stored = intervals.read(lab.store, start_at=0, end_at=1e12, limit=10**6)
    assert len(stored) > intervals._BATCH / 5
    found = [(row["gpu"], row["pid"], float(row["start_at"]), float(row["end_at"]), row["user"]) for row in rows_of(run(lab, "--what", "processes"))]
    wanted = [(one.gpu_uuid, str(one.pid), one.start_at, one.end_at, one.user or "") for one in (row.interval for row in stored)]
    assert sorted(found) == sorted(wanted)
    at = stored[len(stored) // 2].interval.start_at
    touching = [one for one in wanted if one[3] >= at and one[2] < at + 1]
    assert len(rows_of(run(lab, "--what", "processes", "--from", at, "--to", at + 1))) == len(touching) > 0


def test_pages_miss_nothing(lab, monkeypatch):
    whole = {what: run(lab, "--what", what) for what in ("processes", "events", "snapshots")}
    monkeypatch.setattr(intervals, "_BATCH", 3)
    monkeypatch.setattr(events, "_PAGE", 7)
    monkeypatch.setattr(exports, "_BATCH", 1)
    assert {what: run(lab, "--what", what) for what in whole} == whole


def test_events(lab):
    rows = rows_of(run(lab, "--what", "events"))
    assert [row["message"] for row in rows] == [*(f"'=Xid {n}, \"quoted\"" for n in range(1200)), "away"]
    assert rows[0]["time"] == "2026-11-20T22:30:00+01:00"
    assert [row["message"] for row in rows_of(run(lab, "--what", "events", "--host", "import:x"))] == ["of an import"]


@pytest.mark.parametrize("what", WHATS)
def test_a_file_holds_the_same(lab, tmp_path, what):
    path = tmp_path / "out.csv"
    assert f"{path} holds the {what}:" in run(lab, "--what", what, "--output", path)
    assert path.read_bytes().decode() == run(lab, "--what", what)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="exists already"):
        run(lab, "--what", what, "--output", path)
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_file_is_whole_or_not_there(lab, tmp_path, monkeypatch):
    def fail(rows):
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match=r"cannot be written: No such file"):
        run(lab, "--what", "events", "--output", tmp_path / "none" / "out.csv")
    monkeypatch.setattr(csv_export, "rows_csv", fail)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        run(lab, "--what", "events", "--output", tmp_path / "out.csv")
    assert os.listdir(tmp_path) == []


def test_progress_comes_to_the_whole(lab):
    span = exports.Span(None, None, lab.zone, "Europe/Berlin")
    found, names = exports.chosen(lab.store, ""), exports.Names(lab.store, lab.latest)
    for made in (
        exports.snapshot_rows(lab.store, found, span, pytest.fail),
        exports.process_rows(lab.store, found, span, names),
        exports.usage_rows(lab.store, found, span, names),
        exports.event_rows(lab.store, None, span),
    ):
        assert made.work == sum(piece.work for piece in made.pieces) > 0


def test_times_that_cannot_be(lab):
    with pytest.raises(UsageError, match="--from='soon' is not understood"):
        run(lab, "--what", "events", "--from", "soon")
    with pytest.raises(UsageError, match="--to is not later than --from"):
        run(lab, "--what", "events", "--from", "2026-11-21", "--to", "2026-11-20")


def test_what_is_damaged_is_told_and_the_rest_written(lab):
    told = []
    ((start_ms, data),) = lab.store.rows("SELECT start_ms, data FROM block WHERE machine_id = ? ORDER BY start_ms LIMIT 1", (lab.ids["alpha"],))
    with lab.store.writing():
        lab.store.change("UPDATE block SET data = ? WHERE start_ms = ?", (b"\x01x", start_ms))
    try:
        span = exports.Span(None, None, lab.zone, "Europe/Berlin")
        made = exports.snapshot_rows(lab.store, exports.chosen(lab.store, "alpha"), span, told.append)
        assert sum(piece.work for piece in made.pieces) == 260
    finally:
        with lab.store.writing():
            lab.store.change("UPDATE block SET data = ? WHERE start_ms = ?", (data, start_ms))
    assert len(told) == 1


def test_an_empty_database_gives_the_head_alone(tmp_path, lab):
    empty = Lab(tmp_path / "empty.db")
    empty.config = lab.config
    for what in WHATS:
        assert run(empty, "--what", what) == csv_export.head(what).decode()
        assert run(empty, "--what", what, "--json") == ""


def test_memory_does_not_grow_with_what_is_written(tmp_path, lab):
    big = Lab(tmp_path / "big.db", "alpha")
    count = 20_000
    with big.store.writing():
        big.store.change_many(
            """INSERT INTO process_interval (machine_id, gpu_uuid, start_ms, pid, end_ms, command, memory_byte_seconds, memory_seconds)
               VALUES (?, 'GPU-1', ?, ?, ?, ?, 0, 0)""",
            [(big.ids["alpha"], 1000 * n, n, 1000 * n + 500, f"python {n:0400d}") for n in range(count)],
        )
    span, lines = exports.Span(None, None, lab.zone, "Europe/Berlin"), 0
    made = exports.process_rows(big.store, exports.chosen(big.store, ""), span, exports.Names(big.store, big.latest))
    tracemalloc.start()
    try:
        for piece in made.pieces:
            lines += csv_export.rows_json("processes", piece.rows).count(b"\n")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines == count
    assert peak < 6e6, "all of it is 10 MB and more"


def test_a_reader_that_goes_away_is_no_error(lab):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "gpuwatch", "db", "--database", lab.store.path, "export", "--what", "snapshots"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert child.stdout.readline().startswith(b"host,taken_at,")
    child.stdout.close()
    told = child.stderr.read()
    child.stderr.close()
    child.wait(60)
    assert told == b""


def test_rollups_that_wait_in_parts_are_written(lab):
    """Nothing was settled in this lab: chunks are empty, all stands in parts."""
    assert rollups.kept_since(lab.store, lab.ids["=beta"], "GPU-b0", 3600) is None
    assert rows_of(run(lab, "--what", "minutes", "--host", "=beta"))


def test_a_server_gives_the_same(lab, postgres):
    with postgres.new_url() as url:
        other = filled(url)
        other.url, other.config = url, lab.config
        try:
            for what in WHATS:
                assert run(other, "--what", what) == run(lab, "--what", what), what
        finally:
            other.store.close()
