"""Who was on which GPU when: the same whether it is packed or still in the journal; strangers see no arguments."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tests.hub.readings import flat, gpu, process, snapshot
from tests.query.lab import Lab
from tests.rules.machine import Machine

from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import MigReading
from gpuwatch.query import processes as module
from gpuwatch.query.processes import processes
from gpuwatch.store import packing, snapshots
from gpuwatch.store.digests import Digester
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of

EVER = {"start_at": 0.0, "end_at": 4e9}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "beta")
    lab.add("alpha", Machine(5, lab.at("2026-11-20T23:11:13"), 20, name="a"), 300, packed=240)
    lab.add("beta", Machine(6, lab.at("2026-11-20T23:31:00"), 60, name="b"), 90, packed=80)
    return lab


def wanted(lab, *names):
    return sorted(
        (name, one.gpu_uuid, one.pid, one.process_started_at or 0, round(one.start_at, 3), round(one.end_at, 3), one.peak_memory_bytes, one.user)
        for name in names
        for one in lab.digest(name).intervals
    )


def told(found):
    return sorted(
        (one.host, one.interval.gpu_uuid, one.interval.pid, one.interval.process_started_at or 0, round(one.interval.start_at, 3),
         round(one.interval.end_at, 3), one.interval.peak_memory_bytes, one.interval.user)
        for one in found
    )  # fmt: skip


def test_all_processes_of_all_hosts(lab):
    found = processes(lab.store, lab.latest, limit=10000, **EVER)
    assert told(found) == wanted(lab, "alpha", "beta")
    starts = [one.interval.start_at for one in found]
    assert starts == sorted(starts, reverse=True)


def test_of_one_host_gpu_and_user(lab):
    assert told(processes(lab.store, lab.latest, host="alpha", limit=10000, **EVER)) == wanted(lab, "alpha")
    of_gpu = [one for one in wanted(lab, "beta") if one[1] == "GPU-b1"]
    assert told(processes(lab.store, lab.latest, gpu="GPU-b1", **EVER)) == of_gpu
    assert told(processes(lab.store, lab.latest, host="beta", gpu="1", **EVER)) == of_gpu
    of_user = [one for one in wanted(lab, "alpha", "beta") if one[7] == "lisa"]
    assert told(processes(lab.store, lab.latest, user="lisa", limit=10000, **EVER)) == of_user
    assert processes(lab.store, lab.latest, user="lisa' OR '1'='1", **EVER) == ()


def test_a_card_includes_its_slices(lab):
    uuids = {one.interval.gpu_uuid for one in processes(lab.store, lab.latest, gpu="GPU-a2", **EVER)}
    assert uuids == {"MIG-a1", "MIG-a2"}


def test_a_span_of_time_and_a_limit(lab):
    start_at, end_at = lab.at("2026-11-20T23:30:00"), lab.at("2026-11-20T23:40:00")
    found = processes(lab.store, lab.latest, host="alpha", start_at=start_at, end_at=end_at)
    assert told(found) == [one for one in wanted(lab, "alpha") if one[5] >= start_at and one[4] < end_at]
    assert found[:3] == processes(lab.store, lab.latest, host="alpha", start_at=start_at, end_at=end_at, limit=3)


def test_no_time_is_refused(lab):
    with pytest.raises(UsageError):
        processes(lab.store, lab.latest, start_at=5.0, end_at=5.0)


class One:
    """One host whose snapshots a test chooses."""

    def __init__(self, path):
        self.lab = Lab(path, "dgx-a", zone="UTC")
        self.at = 1_790_000_000.0

    def see(self, *gpus, packed=False):
        shape, values = flat(dataclasses.replace(snapshot(self.at, *gpus), interval_seconds=5.0))
        machine_id, at_ms = self.lab.ids["dgx-a"], round(self.at * 1000)
        entry = JournalEntry(machine_id, at_ms, at_ms, shape.id, texts_of(json.dumps(values).encode()))
        snapshots.append(self.lab.store, [entry], {(machine_id, shape.id): shape.doc})
        self.lab.latest.accept("dgx-a", shape, values, received_at=self.at)
        self.at += 5
        if packed:
            packing.pack_machine(self.lab.store, machine_id, 1000, digester=Digester())

    def ask(self, **about):
        return processes(self.lab.store, self.lab.latest, **{**EVER, **about})


def test_a_process_that_runs_over_the_end_of_a_block_is_one_and_runs(tmp_path):
    one = One(tmp_path / "one.db")
    one.see(gpu(0, processes=(process(7, gpu_memory_bytes=5.0),)))
    one.see(gpu(0, processes=(process(7, gpu_memory_bytes=9.0),)), packed=True)
    one.see(gpu(0, processes=(process(7, gpu_memory_bytes=7.0),)))
    (found,) = one.ask()
    assert (found.host, found.gpu_index, found.is_running) == ("dgx-a", 0, True)
    assert (found.interval.start_at, found.interval.end_at) == (one.at - 15, one.at)
    assert (found.interval.peak_memory_bytes, found.interval.mean_memory_bytes) == (9.0, 7.0)
    one.see(gpu(0))
    assert [row.is_running for row in one.ask()] == [False]


def test_only_the_newest_interval_of_a_process_runs(tmp_path):
    one = One(tmp_path / "one.db")
    one.see(gpu(0, processes=(process(7),)), packed=True)
    one.at += 1000
    one.see(gpu(0, processes=(process(7),)))
    assert [row.is_running for row in one.ask()] == [True, False]


def test_strangers_see_the_program_and_not_its_arguments(tmp_path):
    one = One(tmp_path / "one.db")
    one.see(gpu(0, processes=(process(7, command="python train.py --token secret"), process(8, command="python train.py --token secret"))), packed=True)
    one.see(gpu(0, processes=(process(8, command="python train.py --token secret"),)))
    assert {row.interval.command for row in one.ask()} == {"train.py"}
    assert {row.interval.command for row in one.ask(audience="admin")} == {"python train.py --token secret"}


def test_of_a_large_lab_the_journals_of_a_users_machines_are_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_TAILS", 0)
    one = One(tmp_path / "one.db")
    one.see(gpu(0, processes=(process(7),)))
    assert one.ask() == ()
    monkeypatch.setattr(module, "MOST_TAILS", 1)
    assert len(one.ask(user="lisa")) == 1
    assert one.ask(user="chen") == ()


def test_a_slice_that_runs(tmp_path):
    one = One(tmp_path / "one.db")
    part = MigReading(uuid="MIG-1", index=0, profile="1g.10gb", gpu_instance=3, compute_instance=0)
    one.see(gpu(0, mig_enabled=True, mig=(part,), processes=(process(7, gpu_instance=3, compute_instance=0),)))
    (found,) = one.ask(gpu="MIG-1")
    assert (found.interval.gpu_uuid, found.is_running, found.gpu_index) == ("MIG-1", True, 0)
