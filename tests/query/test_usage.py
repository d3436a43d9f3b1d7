"""Reports add up: users and nobody to what was held, every way of grouping to the same total, and that to the samples themselves."""

from __future__ import annotations

import pytest
from tests.query.lab import Lab
from tests.rules.machine import Machine

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import GpuDay, UserDay
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.query import tail
from gpuwatch.query.usage import BY, report
from gpuwatch.store import imports, usage

SUMS = ("held_hours", "busy_hours", "idle_hours", "unknown_hours", "memory_gib_hours", "energy_joules")
DAYS = {"first_day": "2026-10-24", "last_day": "2026-10-27"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Two hosts over the night in which clocks go back."""
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab.db", "alpha", "beta", "silent")
    lab.add("alpha", Machine(1, lab.at("2026-10-24T21:11:13"), 300, name="a", power_is_known=True), 300, packed=270)
    lab.add("beta", Machine(2, lab.at("2026-10-25T01:31:00"), 60, name="b", power_is_known=True), 200, packed=180)
    lab.counted = {"alpha": lab.digest("alpha"), "beta": lab.digest("beta")}
    return lab


def asked(lab, by, **days):
    return report(lab.store, lab.latest, by=by, now=lab.end_at("alpha"), **{**DAYS, **days})


def total(days, kind):
    found = kind()
    for day in days:
        for name, value in vars(day).items():
            setattr(found, name, getattr(found, name) + value)
    return found


def near(value):
    return pytest.approx(value, rel=1e-9, abs=1e-6)


def hours(sums):
    return {"held_hours": near(sums.held_seconds / 3600), "busy_hours": near(sums.busy_seconds / 3600), "idle_hours": near(sums.idle_seconds / 3600),
            "unknown_hours": near(sums.unknown_seconds / 3600), "memory_gib_hours": near(sums.memory_gib_hours), "energy_joules": near(sums.energy_joules)}  # fmt: skip


def of(row):
    return {name: getattr(row, name) for name in SUMS}


@pytest.mark.parametrize("days", [{}, {"first_day": "2026-10-25", "last_day": "2026-10-25"}, {"first_day": "2026-10-26"}])
def test_the_total_is_what_the_samples_give(lab, days):
    found = asked(lab, "user", **days)
    wanted = total(
        [one for part in lab.counted.values() for (day, _), one in part.gpu_days.items() if found.first_day <= day <= found.last_day], GpuDay
    )
    assert of(found.total) == hours(wanted)
    assert found.total.measured_hours == near(wanted.measured_seconds / 3600)
    assert found.total.unattributed_hours == near(wanted.unattributed_seconds / 3600)
    assert found.total.held_hours == near(found.total.busy_hours + found.total.idle_hours + found.total.unknown_hours)
    assert found.total.held_hours > 0
    assert found.counted_until_at is None  # what waits in the journals is counted


def test_a_large_lab_says_until_when_it_counts(lab, monkeypatch):
    monkeypatch.setattr(tail, "MOST_WAITING", 10)
    found = asked(lab, "user", last_day="2026-11-20")
    packed = [lab.digest("alpha", 270), lab.digest("beta", 180)]
    assert of(found.total) == hours(total([one for part in packed for one in part.gpu_days.values()], GpuDay))
    assert found.counted_until_at == pytest.approx(min(lab.all["alpha"][270].at, lab.all["beta"][180].at), abs=0.001)
    assert asked(lab, "user", last_day="2026-10-24").counted_until_at is None  # that day is over, and all of it is packed


@pytest.mark.parametrize("by", [one for one in BY if one != "tag"])
def test_rows_add_up_to_the_total(lab, by):
    found = asked(lab, by)
    for name in (*SUMS, "unattributed_hours"):
        assert sum(getattr(row, name) for row in found.rows) == near(getattr(found.total, name))
    if by != "user":
        assert sum(row.measured_hours for row in found.rows) == near(found.total.measured_hours)
        assert sum(row.possible_hours for row in found.rows) == near(found.total.possible_hours)
    for row in found.rows:
        assert row.held_hours == near(row.busy_hours + row.idle_hours + row.unknown_hours)
    held = [row.held_hours for row in found.rows if row.key]
    assert held == sorted(held, reverse=True)


def test_by_user(lab):
    found = asked(lab, "user")
    assert [row.key for row in found.rows][-1] == ""
    users = {row.key: row for row in found.rows}
    assert set(users) == {"lisa", "chen", ""}
    for user in ("lisa", "chen"):
        wanted = total([one for part in lab.counted.values() for (_, _, name), one in part.user_days.items() if name == user], UserDay)
        assert of(users[user]) == hours(wanted)
        assert users[user].coverage is None
    assert users[""].held_hours == near(users[""].unattributed_hours)
    assert users[""].energy_joules > 0


def test_by_host_gpu_model_and_tag(lab):
    hosts = {row.key: row for row in asked(lab, "host").rows}
    assert set(hosts) == {"alpha", "beta"}
    assert of(hosts["alpha"]) == hours(total(lab.counted["alpha"].gpu_days.values(), GpuDay))
    gpus = {row.key: row for row in asked(lab, "gpu").rows}
    one = total([day for (_, uuid), day in lab.counted["beta"].gpu_days.items() if uuid == "GPU-b1"], GpuDay)
    assert of(gpus["GPU-b1"]) == hours(one)
    assert (gpus["GPU-b1"].name, gpus["MIG-b1"].name, gpus["MIG-b1"].coverage) == ("beta GPU 1", "beta GPU 2 0", None)
    models = {row.key for row in asked(lab, "model").rows}
    assert models <= {"H100", "unknown model"}
    assert "H100" in models
    tags = {row.key: row for row in asked(lab, "tag").rows}
    assert of(tags["big"]) == of(hosts["beta"])
    assert tags["eu"].held_hours == near(hosts["alpha"].held_hours + hosts["beta"].held_hours)


def test_coverage_counts_the_hours_that_there_were(tmp_path):
    lab = Lab(tmp_path / "one.db", "alpha")
    machine = Machine(9, lab.at("2026-10-24T00:00:00"), 600, name="a", trouble=0.0)
    machine.snapshot = lambda: _one_gpu(machine)
    lab.add("alpha", machine, 6 * 49 + 7, packed=6 * 49 + 6, gaps=0.0)
    found = report(lab.store, lab.latest, first_day="2026-10-24", last_day="2026-10-25", by="gpu", now=lab.at("2026-11-20T00:00:00"))
    (row,) = found.rows
    assert (row.measured_hours, row.possible_hours, row.coverage) == (near(49), near(49), 1.0)
    half = report(lab.store, lab.latest, first_day="2026-10-25", last_day="2026-10-25", by="gpu", now=lab.at("2026-10-25T12:00:00"))
    assert half.total.possible_hours == near(13)
    later = report(lab.store, lab.latest, first_day="2026-10-25", last_day="2026-10-29", by="host", now=lab.at("2026-10-30T00:00:00"))
    assert later.rows[0].coverage == near((26 + 1 / 6) / (25 + 4 * 24))  # the newest one waits in the journal, and counts
    before = report(lab.store, lab.latest, first_day="2026-10-20", last_day="2026-10-25", by="gpu", now=lab.at("2026-11-20T00:00:00"))
    assert before.rows[0].coverage == 1.0
    assert before.kept_since_at == lab.at("2026-10-24T00:00:00")


def _one_gpu(machine):
    from gpuwatch.model.snapshot import Snapshot

    return Snapshot(taken_at=machine.at, interval_seconds=600.0, gpus=(GpuReading(uuid="GPU-1", name="H100", memory_used_bytes=0, utilization_percent=0),))


def test_models_of_gpus_that_no_snapshot_tells_of_are_those_of_their_logs(tmp_path):
    lab = Lab(tmp_path / "one.db", "alpha")
    with lab.store.writing():
        usage.merge(lab.store, lab.ids["alpha"], {("2026-10-24", gpu): GpuDay(measured_seconds=3600.0, held_seconds=3600.0) for gpu in ("index 0", "GPU-x")}, {})
        imports.add_gpu_names(lab.store, lab.ids["alpha"], {"index 0": "NVIDIA A100"})
    found = asked_at(lab, "model")
    assert {row.key: row.held_hours for row in found.rows} == {"NVIDIA A100": 1.0, "unknown model": 1.0}


def asked_at(lab, by):
    return report(lab.store, lab.latest, by=by, now=lab.at("2026-10-30T00:00:00"), **DAYS)


def test_of_days_without_anything(lab):
    for by in BY:
        found = asked(lab, by, first_day="2020-01-01", last_day="2020-01-02")
        assert found.rows == ()
        assert found.total.held_hours == found.total.possible_hours == 0
        assert found.kept_since_at is not None


@pytest.mark.parametrize("wrong", [
    {"by": "colour"}, {"first_day": "2026-10-32"}, {"first_day": "x"}, {"last_day": ""}, {"first_day": "2026-10-28"}, {"first_day": "0001-01-01"},
])  # fmt: skip
def test_what_cannot_be_is_said(lab, wrong):
    with pytest.raises(UsageError):
        asked(lab, **{"by": "user", **wrong})
