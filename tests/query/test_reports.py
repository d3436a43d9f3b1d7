"""When the fleet works, what stands idle, what nobody uses, which hosts were away."""

from __future__ import annotations

import dataclasses

import pytest
from tests.query.lab import Lab
from tests.rules.machine import Machine

from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.query.reports import fleet_report
from gpuwatch.store import machines

GIB = 2**30
FREE = GpuReading(uuid="GPU-free", index=0, name="H100", memory_used_bytes=0, utilization_percent=0)
IDLE = GpuReading(
    uuid="GPU-idle", index=1, name="H100", memory_used_bytes=9 * GIB, utilization_percent=0,
    processes=(ProcessReading(pid=7, started_at=5.0, user="lisa", name="python", command="python notebook.py --token secret", gpu_memory_bytes=9 * GIB),),
)  # fmt: skip
WORK = dataclasses.replace(IDLE, uuid="GPU-work", index=2, utilization_percent=80)


class Plain(Machine):
    """GPUs that stay as they are: 600 s between samples."""

    def __init__(self, at, *gpus):
        super().__init__(1, at, 600)
        self.gpus = gpus

    def snapshot(self):
        return Snapshot(taken_at=self.at, interval_seconds=600.0, gpus=self.gpus)


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path / "lab.db", "alpha", "beta")


def add(lab, name, begin, hours, *gpus):
    lab.add(name, Plain(lab.at(begin), *gpus), 6 * hours + 1, packed=6 * hours, gaps=0.0)


def test_the_heat_map_is_by_hours_of_the_zone(lab):
    add(lab, "alpha", "2026-10-24T00:00:00", 49, FREE, WORK)
    found = fleet_report(lab.store, lab.latest, first_day="2026-10-24", last_day="2026-10-25", now=lab.at("2026-11-01T00:00:00"))
    assert {value for row in found.heat.mean for value in row} == {None, 40.0}
    assert [sum(row) for row in found.heat.hours] == [0, 0, 0, 0, 0, 24, 25]
    assert found.heat.hours[6][2] == 2  # the hour that is repeated
    assert (found.heat.coverage, found.heat.unit) == (1.0, "%")


def test_idle_ones_with_who_holds_them_and_inactive_ones(lab):
    add(lab, "alpha", "2026-11-10T00:00:00", 24, FREE, IDLE)
    add(lab, "beta", "2026-11-10T12:00:00", 6, WORK)
    found = fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-10", now=lab.at("2026-11-11T00:10:00"))
    (idle,) = found.most_idle
    assert (idle.host, idle.name, idle.model, idle.idle_hours, idle.held_hours) == ("alpha", "alpha GPU 1", "H100", 24.0, 24.0)
    (holder,) = idle.processes
    assert (holder.interval.user, holder.interval.pid, holder.interval.command) == ("lisa", 7, "notebook.py")
    (inactive,) = found.inactive
    assert (inactive.name, inactive.measured_hours, inactive.last_held_at) == ("alpha GPU 0", 24.0, None)


def test_when_an_inactive_one_was_held_last(lab):
    add(lab, "alpha", "2026-11-09T00:00:00", 24, FREE, IDLE)
    free_now = dataclasses.replace(IDLE, memory_used_bytes=0, processes=())
    add(lab, "alpha", "2026-11-10T00:10:00", 23, FREE, free_now)
    found = fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-10", now=lab.at("2026-11-11T00:10:00"))
    # the newest sample of the first night is still in the journal until the second day's are packed
    assert {use.name: use.last_held_at for use in found.inactive}["alpha GPU 0"] is None
    found = fleet_report(lab.store, lab.latest, first_day="2026-11-11", last_day="2026-11-11", now=lab.at("2026-11-11T00:10:00"))
    assert found.inactive == ()


def test_hosts_that_were_away(lab):
    add(lab, "alpha", "2026-11-10T00:00:00", 48, FREE)
    add(lab, "beta", "2026-11-10T00:00:00", 20, WORK)
    add(lab, "beta", "2026-11-11T02:00:00", 22, WORK)
    now = lab.at("2026-11-12T00:00:00")
    found = fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-11", now=now)
    beta, alpha = found.downtime
    assert (alpha.host, alpha.possible_seconds, alpha.down_seconds, alpha.outages) == ("alpha", 48 * 3600, 0.0, ())
    assert (beta.host, beta.possible_seconds) == ("beta", 48 * 3600)
    assert beta.down_seconds == pytest.approx(6 * 3600 - 600, abs=1)  # the last reading stands for its interval
    assert beta.outages == ((lab.at("2026-11-10T20:15:00"), lab.at("2026-11-11T02:00:00")),)
    assert beta.step_seconds == 900
    month = fleet_report(lab.store, lab.latest, first_day="2026-11-01", last_day="2026-11-11", now=now)
    assert month.downtime[0].outages == ((lab.at("2026-11-10T20:00:00"), lab.at("2026-11-11T02:00:00")),)
    assert month.downtime[0].possible_seconds == 48 * 3600


def test_what_is_still_in_the_journal_is_no_downtime(lab):
    lab.add("alpha", Plain(lab.at("2026-11-10T00:00:00"), FREE), 6 * 12 + 1, packed=6 * 10, gaps=0.0)
    now = lab.at("2026-11-10T12:00:00")
    (found,) = [one for one in fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-10", now=now).downtime if one.host == "alpha"]
    assert found.down_seconds == pytest.approx(0, abs=1)


def test_a_host_that_never_answered_and_one_that_was_removed(lab):
    add(lab, "alpha", "2026-11-10T00:00:00", 24, FREE)
    lab.latest.set_targets([], 0.0)
    machines.set_present(lab.store, [lab.ids["beta"]], lab.at("2026-11-10T12:00:00"))
    found = fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-10", now=lab.at("2026-11-11T00:00:00"))
    beta, alpha = found.downtime
    assert (beta.down_seconds, len(beta.outages)) == (24 * 3600, 1)
    assert (alpha.possible_seconds, alpha.down_seconds) == (12 * 3600, 0)


def test_what_was_imported_is_no_host_that_was_away(lab):
    add(lab, "alpha", "2026-11-10T00:00:00", 24, FREE)
    machines.ensure(lab.store, "import:old logs", "", now=lab.at("2026-11-01T00:00:00"))
    found = fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-10", now=lab.at("2026-11-11T00:00:00"))
    assert {one.host for one in found.downtime} == {"alpha", "beta"}


def test_nothing_at_all(tmp_path):
    lab = Lab(tmp_path / "none.db")
    found = fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-10", now=lab.at("2026-11-11T00:00:00"))
    assert (found.most_idle, found.inactive, found.downtime, found.kept_since_at) == ((), (), (), None)
    assert {value for row in found.heat.mean for value in row} == {None}
    with pytest.raises(UsageError):
        fleet_report(lab.store, lab.latest, first_day="2026-11-10", last_day="2026-11-10", now=0.0, metric="colour")
