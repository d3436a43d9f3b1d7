"""``gpuwatch db forget-user``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from gpuwatch.cli.db import DB_COMMANDS
from gpuwatch.cli.db_forget import forget_user
from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import GpuDay, ProcessInterval, UserDay
from gpuwatch.store import intervals, machines, usage
from gpuwatch.store.database import open_store


@pytest.fixture
def url(tmp_path):
    path = tmp_path / "gpuwatch.db"
    store = open_store(str(path))
    for number, name in enumerate(("alpha", "import:x")):
        machine_id = machines.ensure(store, name, "10.0.0.1")
        stretches = [ProcessInterval("GPU-a", pid, None, user, "python", None, 100.0 + pid, 200.0 + pid) for pid, user in enumerate(("lisa", "chen", "lisa"))]
        sums = {(f"2026-11-{day:02d}", "GPU-a", user): UserDay(held_seconds=60.0) for day in range(1, 21) for user in ("lisa", "chen")}
        with store.writing():
            intervals.merge(store, machine_id, stretches[: 3 - number], 0.0)
            usage.merge(store, machine_id, {("2026-11-01", "GPU-a"): GpuDay(held_seconds=120.0)}, sums)
    store.close()
    return f"sqlite:///{path}"


def run(url, *words, answer=None):
    return CliRunner().invoke(forget_user, words, obj=(url, None), input=answer)


def left(url):
    store = open_store(url, read_only=True)
    try:
        users = [row[0] for row in store.rows("SELECT DISTINCT user_name FROM user_day ORDER BY 1")]
        return users, [row[0] for row in store.rows("SELECT DISTINCT user_name FROM process_interval ORDER BY 1")], usage.gpu_days(store, "0", "9", by=())[0].sums.held_seconds
    finally:
        store.close()


def test_all_of_a_user_goes_and_sums_of_gpus_stay(url):
    result = run(url, "lisa", answer="y\n")
    assert result.exit_code == 0, result.output
    assert "Delete 3 stretches of processes and 40 daily sums of lisa?" in result.output
    assert "Deleted of lisa: 3 stretches of processes, 40 daily sums." in result.output
    assert "Snapshots of the last 90 days" in result.output
    assert left(url) == (["chen"], ["chen"], 120.0)


def test_a_no_changes_nothing(url):
    assert run(url, "lisa", answer="n\n").exit_code == 1
    assert left(url) == (["chen", "lisa"], ["chen", "lisa"], 120.0)


def test_for_scripts(url):
    assert json.loads(run(url, "chen", "--yes", "--json").output) == {"user": "chen", "process_intervals": 2, "user_days": 40}


def test_one_that_nobody_knows(url):
    result = run(url, "nobody", "--yes")
    assert isinstance(result.exception, UsageError)
    assert "Nothing is kept of a user 'nobody'." in str(result.exception)


def test_it_is_a_command():
    assert DB_COMMANDS["forget-user"][0] == "gpuwatch.cli.db_forget:forget_user"
