"""``gpuwatch host``: what cannot be undone is asked first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuwatch.cli.host import command
from gpuwatch.model.errors import UsageError
from gpuwatch.store import machines
from gpuwatch.store.database import open_store

SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture
def url(tmp_path):
    path = tmp_path / "gpuwatch.db"
    store = open_store(str(path))
    for name in ("alpha", "beta"):
        machines.ensure(store, name, "10.0.0.1")
    store.close()
    return f"sqlite:///{path}"


def run(url, *words, answer=""):
    return CliRunner().invoke(command, ["--database", url, *words], input=answer)


def names(url):
    store = open_store(url, read_only=True)
    try:
        return [machine.name for machine in machines.list_all(store)]
    finally:
        store.close()


@pytest.mark.parametrize(
    ("words", "question", "left"),
    [
        (("merge", "alpha", "beta"), "Give the whole history of alpha to beta, and forget alpha? [y/N]", ["beta"]),
        (("forget", "beta"), "Delete beta and its whole history? [y/N]", ["alpha"]),
    ],
)
def test_it_asks_first(url, words, question, left):
    for answer in ("n\n", "\n"):
        refused = run(url, *words, answer=answer)
        assert refused.exit_code == 1
        assert question in refused.output
        assert names(url) == ["alpha", "beta"]
    command_line = [sys.executable, "-m", "gpuwatch", "host", "--database", url, *words]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    unheard = subprocess.run(command_line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment)
    assert (unheard.returncode, unheard.stdout.strip()) == (1, "")
    assert unheard.stderr.splitlines()[1:] == ["gpuwatch: Nobody answered, nothing was changed. To do it without a question: --yes"]
    assert names(url) == ["alpha", "beta"]
    done = run(url, *words, answer="y\n")
    assert (done.exit_code, question in done.output) == (0, True)
    assert names(url) == left


@pytest.mark.parametrize(("words", "left"), [(("merge", "alpha", "beta"), ["beta"]), (("forget", "beta"), ["alpha"])])
def test_yes_asks_nothing(url, words, left):
    done = run(url, *words, "--yes")
    assert (done.exit_code, "[y/N]" in done.output) == (0, False)
    assert names(url) == left


@pytest.mark.parametrize("words", [("merge", "alpha", "nobody"), ("merge", "nobody", "alpha"), ("forget", "nobody")])
def test_who_is_not_known_is_said_before_a_question(url, words):
    done = run(url, *words, answer="y\n")
    assert isinstance(done.exception, UsageError)
    assert "nobody" in str(done.exception)
    assert "[y/N]" not in done.output
