"""``gpuwatch db import`` killed between and inside its transactions: what is stored in the end is what one undisturbed run stores."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from gpuwatch.store import machines, rollups, usage
from gpuwatch.store.database import open_store

SRC = str(Path(__file__).resolve().parents[2] / "src")
CHILD = """
import os, signal, sys
from gpuwatch.cli.db_import import import_command
from gpuwatch.store import imports, usage
from gpuwatch.store.database import Store
imports.MOST_WAITING = 300
where, left = os.environ["KILLED"].split()
def stepping(real):
    def run(*given, **options):
        global left
        real(*given, **options)
        left = int(left) - 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return run
if where == "inside":
    usage.merge = stepping(usage.merge)
else:
    Store.rest = stepping(Store.rest)
import_command.main(sys.argv[2:], obj=("sqlite:///" + sys.argv[1], None), standalone_mode=False)
"""


def start(database, log, killed="never 0"):
    """``killed``: inside a transaction, at that many sums, or between two, after so many."""
    words = [sys.executable, "-c", CHILD, str(database), str(log), "--zone", "UTC"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": SRC, "KILLED": killed})


def contents(database):
    store = open_store(str(database))
    try:
        (machine,) = machines.list_all(store)
        chunks = {
            (gpu, tier): rollups.read(store, machine.id, gpu, tier, 0, 4e9) for gpu in rollups.subjects(store, machine.id) for tier in (60, 900, 3600)
        }
        days = {(row.day, row.gpu_uuid): {name: round(value, 3) for name, value in vars(row.sums).items()} for row in usage.gpu_days(store, "0", "9")}
        return {key: (chunk.times, chunk.covered, chunk.columns) for key, chunk in chunks.items()}, days
    finally:
        store.close()


def test_killed_four_times(tmp_path):
    log = tmp_path / "a.csv"
    lines = [
        f"2026/11/20 {number // 720:02d}:{number // 12 % 60:02d}:{number % 12 * 5:02d}.000, {gpu}, {number % 100} %, {number} MiB"
        for number in range(1500) for gpu in (0, 1)
    ]  # fmt: skip
    log.write_text("\n".join(["timestamp, index, utilization.gpu [%], memory.used [MiB]", *lines]))
    for name in ("killed.db", "whole.db"):
        open_store(str(tmp_path / name)).close()
    for killed in ("inside 1", "between 2", "inside 4", "inside 3"):
        child = start(tmp_path / "killed.db", log, killed)
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
    for name in ("killed.db", "whole.db"):
        child = start(tmp_path / name, log)
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        assert "3000 rows" in output
    assert contents(tmp_path / "killed.db") == contents(tmp_path / "whole.db")
    assert len(contents(tmp_path / "whole.db")[0]) == 6
