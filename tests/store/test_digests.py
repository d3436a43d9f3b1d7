import os
import random
import signal
import subprocess
import sys
import time
from zoneinfo import ZoneInfo

import pytest
from tests.store.gpus import INTERVAL, START, UUIDS, all_sums, entries

from gpuwatch.model.errors import StoreError
from gpuwatch.store import digests, intervals, machines, packing, rollups, snapshots, usage
from gpuwatch.store.database import open_store
from gpuwatch.store.digests import Digester

COUNT = 241
KILLS = 25


def fill(store, machine, numbers=range(COUNT), **options):
    found, docs = entries(machine, numbers, **options)
    snapshots.append(store, found, docs)


def pack_all(store, machine, per_block=30, digester=None):
    while packing.pack_machine(store, machine, per_block, digester=digester or Digester()):
        pass


@pytest.fixture
def at_once(tmp_path):
    """Sums of the same snapshots in one block."""
    store = open_store(str(tmp_path / "at_once.db"))
    machine = machines.ensure(store, "gpu01", "10.0.0.1", now=1.0)
    fill(store, machine)
    pack_all(store, machine, COUNT)
    sums = all_sums(store, machine)
    store.close()
    return sums


def without_energy(sums):
    """Energy between two blocks is power times seconds: a little other than the counter's difference."""
    for rows in (sums["gpus"], sums["users"]):
        for row in rows:
            row[-1].pop("energy_joules", None)
    return sums


def test_blocks_are_digested_as_they_are_packed(store, machine):
    fill(store, machine)
    pack_all(store, machine)
    hours = (COUNT - 1) * INTERVAL / 3600
    gpus = {row.gpu_uuid: row.sums for row in usage.gpu_days(store, "0", "9", by=["gpu_uuid"])}
    assert set(gpus) == set(UUIDS)
    assert gpus[UUIDS[0]].held_seconds == pytest.approx(3600 * hours)
    assert gpus[UUIDS[1]].held_seconds == pytest.approx(120 * INTERVAL)
    users = {row.user_name: row.sums.held_seconds for row in usage.user_days(store, "0", "9", by=["user_name"])}
    assert users == {"ann": pytest.approx(3600 * hours), "bob": pytest.approx(120 * INTERVAL)}
    chunk = rollups.read(store, machine, UUIDS[0], 60, 0, START + 10**6)
    assert chunk.times == list(range(START, START + 1200, 60))
    assert chunk.floats("utilization_percent").counts == [12] * 20
    assert sum(chunk.covered_seconds()) == pytest.approx(1200, abs=0.5)
    fleet = rollups.read(store, rollups.FLEET, rollups.HOST, 3600, 0, START + 10**6)
    assert sum(fleet.columns["held_percent"].counts) == 2 * (COUNT - 1)
    spans = [(row.interval.user, row.interval.start_at - START, row.interval.end_at - START) for row in intervals.read(store, start_at=0, end_at=START + 10**6, limit=10)]
    assert spans == [("bob", 800, 1000), ("bob", 400, 600), ("ann", 0, 1200), ("bob", 0, 200)]
    assert store.rows("SELECT DISTINCT digested FROM block") == [(1,)]


@pytest.mark.parametrize("per_block", [2, 7, 60])
def test_the_size_of_blocks_changes_no_sum(store, machine, at_once, per_block):
    fill(store, machine)
    pack_all(store, machine, per_block)
    assert without_energy(all_sums(store, machine)) == without_energy(at_once)


def test_a_packing_that_fails_at_any_statement_counts_nothing_twice(file_store, machine, at_once, monkeypatch):
    monkeypatch.setattr(rollups, "SETTLE_AT", 2)
    monkeypatch.setattr(rollups, "SETTLE_FLEET_AT", 3)
    fill(file_store, machine)
    calls = [0, 0]

    def failing(name):
        real = getattr(file_store, name)

        def run(*arguments):
            calls[0] += 1
            if calls[0] == calls[1]:
                raise StoreError("The disk is full.")
            return real(*arguments)

        return run

    for name in ("change", "change_many"):
        monkeypatch.setattr(file_store, name, failing(name))
    more, failures = True, 0
    while more:
        try:
            calls[0] = 0
            calls[1] += 1
            more = packing.pack_machine(file_store, machine, 9, digester=Digester())
            if calls[0] < calls[1]:
                calls[1] = 0  # no statement was the one that fails: from the first again, for the next block
        except StoreError:
            failures += 1
    monkeypatch.undo()
    assert failures > 50
    assert without_energy(all_sums(file_store, machine)) == without_energy(at_once)


def test_a_packer_that_is_killed_counts_nothing_twice(tmp_path, at_once):
    path = str(tmp_path / "gpuwatch.db")
    store = open_store(path)
    machine = machines.ensure(store, "gpu01", "10.0.0.1", now=1.0)
    fill(store, machine)
    store.close()
    dice, kills = random.Random(11), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(200):
        child = subprocess.Popen([sys.executable, "-m", "tests.store.crash_digester", path], stdout=subprocess.PIPE, env=environment)
        try:
            assert child.stdout.readline() == b"open\n"
            said = b""
            if kills < KILLS:
                time.sleep(dice.random() * 0.01)
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
            said = child.stdout.read()
            child.wait(60)
        finally:
            child.kill()
            child.stdout.close()
        if said.endswith(b"done\n"):
            break
    store = open_store(path)
    assert without_energy(all_sums(store, machine)) == without_energy(at_once)
    assert store.rows("SELECT DISTINCT digested FROM block") == [(1,)]
    store.close()


def test_snapshots_whose_shape_is_gone_are_left_out(store, machine):
    fill(store, machine, range(20))
    with store.writing():
        store.change("UPDATE shape SET doc = ? WHERE machine_id = ?", (b"damaged", machine))
    assert packing.pack_machine(store, machine, 30, digester=Digester()) == 1
    assert usage.gpu_days(store, "0", "9") == []
    assert store.rows("SELECT digested FROM block") == [(1,)]


def test_what_no_digest_can_read_does_not_stop_packing(store, machine, monkeypatch):
    def fail(*arguments, **options):
        raise TypeError("a text where a number belongs")

    monkeypatch.setattr(digests, "digest", fail)
    fill(store, machine, range(20))
    assert packing.pack_machine(store, machine, 30, digester=Digester()) == 1


def test_days_are_those_of_the_zone(store, machine):
    offset = 1_790_114_400 - START  # 2026-09-22 22:00 UTC, midnight in Berlin
    fill(store, machine, range(-120, 121), offset=offset)
    pack_all(store, machine, digester=Digester(zone=ZoneInfo("Europe/Berlin")))
    days = {row.day: row.sums.held_seconds for row in usage.gpu_days(store, "2026-09-22", "2026-09-24") if row.gpu_uuid == UUIDS[0]}
    assert days == {"2026-09-22": pytest.approx(600), "2026-09-23": pytest.approx(600)}


def test_names_that_cannot_be_keys_are_left_out(store, machine):
    found, docs = entries(machine, range(20))
    for doc in docs.values():
        doc["facts"]["gpus"][0]["uuid"] = "GPU-\0"
        doc["facts"]["gpus"][1]["processes"][0]["user"] = "x" * 300
    snapshots.append(store, found, docs)
    pack_all(store, machine)
    assert {row.gpu_uuid for row in usage.gpu_days(store, "0", "9")} == {UUIDS[1]}
    assert usage.user_days(store, "0", "9") == []


@pytest.mark.parametrize("packed_first", [False, True])
def test_what_comes_late_is_counted_once_in_its_own_minutes(store, machine, at_once, packed_first):
    """A hub was away: the present goes on, and is packed (or not), before what was missed comes in pieces, in any order."""
    fill(store, machine, range(81))
    pack_all(store, machine, 13)
    fill(store, machine, range(161, 200))
    for number, missed in enumerate((range(120, 140), range(81, 120), range(140, 161))):
        if packed_first and number < 2:
            pack_all(store, machine, 13)
        fill(store, machine, missed)
    pack_all(store, machine, 13)
    fill(store, machine, range(200, COUNT))
    pack_all(store, machine, 13)
    assert snapshots.count_between(store, machine, 0, 2**61) == COUNT
    assert without_energy(all_sums(store, machine)) == without_energy(at_once)
