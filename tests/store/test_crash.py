"""kill -9 of a writer, again and again: the database opens, passes its integrity check, and has all that was said to be kept."""

import os
import random
import signal
import subprocess
import sys
import threading

from tests.store.samples import numbers_of

from gpuwatch.store import machines, snapshots, upkeep
from gpuwatch.store.database import open_store

KILLS = {"sqlite": 20, "postgresql": 6}


def test_a_killed_writer_loses_nothing_that_was_kept(url, request):
    kept, kills = -1, KILLS[url.partition(":")[0]]
    chance = random.Random(7)
    for _ in range(kills):
        kept, pid = write_and_kill(url, kept + 1, after=chance.randrange(1, 25))
        if not url.startswith("sqlite"):  # the server may still do what the killed one had asked for last
            request.getfixturevalue("postgres").until_gone(f"application_name LIKE 'gpuwatch %:{pid}'")
        store = open_store(url)
        assert upkeep.check(store, thorough=True) == []
        for machine in machines.list_all(store):
            numbers = numbers_of(snapshots.read(store, machine.id))
            assert numbers == list(range(len(numbers)))
            assert len(numbers) >= kept + 1
        kept = len(numbers) - 1
        assert {len(numbers_of(snapshots.read(store, machine.id))) for machine in machines.list_all(store)} == {kept + 1}
        store.close()
    assert kept > kills


def write_and_kill(url, first, after):
    """Let a child write, kill it once it has kept ``after`` snapshots more; the last number it said to have kept, and its pid."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.store.crash_writer", url, str(first)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    watchdog = threading.Timer(60, child.kill)
    watchdog.start()
    try:
        for line in child.stdout:
            if int(line) >= first + after:
                break
        os.kill(child.pid, signal.SIGKILL)
        said = [int(line), *(int(rest) for rest in child.stdout.read().split(b"\n")[:-1])]
        child.wait()
    finally:
        watchdog.cancel()
        child.kill()
        child.stderr.close()
        child.stdout.close()
    return said[-1], child.pid
