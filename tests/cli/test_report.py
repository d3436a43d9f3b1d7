"""``gpuwatch report`` over a database and over a hub's answer."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner
from tests.query.lab import Lab
from tests.rules.machine import Machine

from gpuwatch.cli import here, report
from gpuwatch.model.errors import GpuwatchError, UsageError

DAYS = ("--from", "2026-11-20", "--to", "2026-11-21")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    lab = Lab(folder / "lab.db", "alpha")
    lab.add("alpha", Machine(1, lab.at("2026-11-20T20:00:00"), 20, name="a"), 400, packed=360)
    lab.store.close()
    (folder / "gpuwatch.toml").write_text('timezone = "Europe/Berlin"\n', encoding="utf-8")
    return f"sqlite:///{folder / 'lab.db'}", str(folder / "gpuwatch.toml")


def run(database, *arguments):
    result = CliRunner().invoke(report.command, ["--database", database[0], "--config", database[1], *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_text_as_the_page_tells_it(database):
    text = run(database, *DAYS)
    assert text.startswith("GPU-hours by user, Fri 20 to Sat 21 Nov 2026")
    assert "h held = " in text
    assert "Hosts without readings: 1 of 1" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert run(database, *DAYS, "--ascii").isascii()
    assert "\x1b[1m" in run(database, *DAYS, "--color")


@pytest.mark.parametrize("by", ["user", "host", "gpu", "model"])
def test_json_and_csv_have_the_same_lines(database, by):
    document = json.loads(run(database, *DAYS, "--by", by, "--json"))
    rows = list(csv.DictReader(io.StringIO(run(database, *DAYS, "--by", by, "--csv"), newline="")))
    assert document["usage"]["by"] == by
    assert document["usage"]["timezone"] == "Europe/Berlin"
    assert [row["key"] for row in rows] == [row["key"] for row in document["usage"]["rows"]]
    assert sum(float(row["held_hours"]) for row in rows) == pytest.approx(document["usage"]["total"]["held_hours"], rel=1e-4)


def test_other_tables_are_csv_too(database):
    assert run(database, *DAYS, "--csv", "--table", "downtime").startswith("first_day,last_day,host,")
    assert json.loads(run(database, "--period", "month", "--json"))["usage"]["rows"] is not None


@pytest.mark.parametrize(("arguments", "words"), [
    (("--json", "--csv"), "--json and --csv exclude each other."), (("--period", "day", "--from", "today"), "--period and --from, --to exclude each other."),
    (("--hub", "http://127.0.0.1:1"), "--hub and --database exclude each other."), (("--by", "tag"), "Tags are in the hub's hosts file"), (("--from", "x"), "--from='x' is not a day."),
    (("--from", "2026-11-02", "--to", "2026-11-01"), "before it begins"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_words(database, arguments, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        run(database, *arguments)


def test_no_database_is_said_in_words(tmp_path):
    with pytest.raises(GpuwatchError):
        run((f"sqlite:///{tmp_path / 'none.db'}", str(tmp_path / "none.toml")))


def test_a_hub_is_asked_for_the_same(monkeypatch):
    asked = []
    monkeypatch.setattr(here, "ask_hub", lambda url, path, deadline: asked.append((url, path)) or b"told\n")
    result = CliRunner().invoke(report.command, ["--hub", "hub:7070", *DAYS, "--by", "tag", "--csv", "--table", "idle"])
    assert result.stdout == "told\n"
    assert asked == [("hub:7070", "/reports?from=2026-11-20&to=2026-11-21&by=tag&format=csv&table=idle&width=80")]
