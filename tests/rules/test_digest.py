"""The digest of random machines is what a count second by second gives, however the stretch is cut; days are as long as they are."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import groupby
from zoneinfo import ZoneInfo

import pytest
from tests.rules import brute
from tests.rules.machine import Machine

from gpuwatch.model.snapshot import GpuReading, HostReading, MigReading, ProcessReading, Snapshot
from gpuwatch.rules.digest import Sample, digest
from gpuwatch.rules.limits import Limits
from gpuwatch.wire.flat import Flattener, Shape

LIMITS = Limits()
BERLIN = ZoneInfo("Europe/Berlin")
GIB = 2**30
UTC = timezone.utc


def start(day, zone=BERLIN):
    return datetime.fromisoformat(day).replace(tzinfo=zone).timestamp()


def near(value):
    return pytest.approx(value, rel=1e-9, abs=1e-6)


def assert_equal(found, wanted):
    assert found.minutes.keys() == {uuid for uuid, minutes in wanted.minutes.items() if minutes}
    for uuid, minutes in wanted.minutes.items():
        assert_minutes(found.minutes[uuid], minutes, uuid)
    assert_minutes(found.fleet, wanted.fleet, "fleet")
    for days, kept in ((wanted.gpu_days, found.gpu_days), (wanted.user_days, found.user_days)):
        assert {key for key, day in kept.items() if any(vars(day).values())} == {key for key, day in days.items() if any(vars(day).values())}
        for key, day in days.items():
            assert vars(kept[key]) == {name: near(value) for name, value in vars(day).items()}, key


def assert_minutes(found, wanted, uuid):
    assert found.keys() == wanted.keys(), uuid
    for start_at, minute in wanted.items():
        assert found[start_at].covered_seconds == near(minute.covered_seconds), (uuid, start_at)
        assert {name: vars(one) for name, one in found[start_at].metrics.items()} == {
            name: {part: near(value) for part, value in vars(one).items()} for name, one in minute.metrics.items()
        }, (uuid, start_at)


def who_and_when(interval):
    return interval.start_at, interval.gpu_uuid, interval.pid, interval.process_started_at or 0


def assert_same_intervals(found, wanted):
    assert [vars(one) for one in found] == [
        {name: near(value) if isinstance(value, float) else value for name, value in vars(one).items()} for one in wanted
    ]


def assert_reconciles(found):
    for (day, uuid), gpu in found.gpu_days.items():
        assert gpu.held_seconds == near(gpu.busy_seconds + gpu.idle_seconds + gpu.unknown_seconds)
        users = [user for (other_day, other, _), user in found.user_days.items() if (other_day, other) == (day, uuid)]
        assert sum(user.held_seconds for user in users) + gpu.unattributed_seconds == near(gpu.held_seconds)
        assert gpu.held_seconds <= gpu.measured_seconds + 1e-6
        for user in users:
            assert user.held_seconds == near(user.busy_seconds + user.idle_seconds + user.unknown_seconds)


@pytest.mark.parametrize("seed", range(6))
def test_columns_give_what_rows_give(seed):
    machine = Machine(seed, start("2026-11-20T23:50:00") + seed * 7, 5, trouble=(0.0, 0.1, 0.5)[seed % 3])
    samples, _ = machine.samples(120)
    stretches = [list(group) for _, group in groupby(samples, key=lambda one: id(one.places))]
    assert max(map(len, stretches)) > 2
    for stretch in stretches:
        columns = [column if len(set(column)) > 1 else column[:1] for column in zip(*(one.values for one in stretch))]
        bare = [one._replace(values=()) for one in stretch]
        assert digest(bare, None, limits=LIMITS, zone=BERLIN, columns=columns) == digest(stretch, None, limits=LIMITS, zone=BERLIN)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ends", ["known", "late", "unknown"])
def test_a_random_machine_is_counted_as_second_by_second(seed, ends):
    machine = Machine(seed, start("2026-11-20T23:50:00") + seed * 7, 5 + seed % 3, trouble=(0.0, 0.1, 0.5)[seed % 3])
    samples, snapshots = machine.samples(120)
    ends_at = {"known": samples[-1].at + machine.interval + 1, "late": samples[-1].at + 999, "unknown": None}[ends]
    found = digest(samples, ends_at, limits=LIMITS, zone=BERLIN)
    assert_equal(found, brute.count(samples, snapshots, ends_at, LIMITS, BERLIN))
    assert_reconciles(found)
    wanted = brute.intervals(samples, snapshots, ends_at)
    assert_same_intervals(sorted(found.intervals, key=who_and_when), sorted(wanted, key=who_and_when))
    assert [one.start_at for one in found.intervals] == sorted(one.start_at for one in found.intervals)
    assert any(day.held_seconds for day in found.user_days.values())


@pytest.mark.parametrize("seed", range(7))
def test_two_pieces_add_up_to_the_whole(seed):
    machine = Machine(seed, start("2026-11-20T23:57:00") + 0.123, 4.5, power_is_known=True, trouble=0.1)
    samples, _ = machine.samples(120)
    cut, ends_at = 1 + seed * 11, samples[-1].at + 5
    whole = digest(samples, ends_at, limits=LIMITS, zone=BERLIN)
    first = digest(samples[:cut], samples[cut].at, limits=LIMITS, zone=BERLIN, following=samples[cut])
    second = digest(samples[cut:], ends_at, limits=LIMITS, zone=BERLIN)
    both = brute.add(first, second, 3 * machine.interval)
    for days in (whole.gpu_days, both.gpu_days):
        for day in days.values():
            day.energy_joules = round(day.energy_joules, 3)
    assert_equal(whole, both)
    assert_same_intervals(both.intervals, whole.intervals)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
@pytest.mark.parametrize("interval", [60, 600])
def test_a_day_is_as_long_as_the_zone_says(day, hours, interval):
    gpu = GpuReading(uuid="GPU-1", memory_used_bytes=GIB, utilization_percent=50, processes=(ProcessReading(pid=1, user="lisa"),))
    flat = Flattener().flatten(Snapshot(interval_seconds=interval, gpus=(gpu,)))
    places = Shape.parse(flat.shape).places()
    begin = start(day) - 7000
    samples = [Sample(begin + number * interval, places, flat.values) for number in range(30 * 3600 // interval)]
    found = digest(samples, None, limits=LIMITS, zone=BERLIN)
    assert found.gpu_days[day, "GPU-1"].busy_seconds == near(hours * 3600)
    assert found.user_days[day, "GPU-1", "lisa"].held_seconds == near(hours * 3600)
    assert found.user_days[day, "GPU-1", "lisa"].memory_gib_hours == 0
    assert found.gpu_days[day, "GPU-1"].memory_gib_hours == near(hours)
    assert sum(one.measured_seconds for one in found.gpu_days.values()) == near(30 * 3600)


def test_a_random_machine_over_the_hour_that_is_repeated():
    machine = Machine(3, start("2026-10-25T01:13:07"), 120)
    samples, snapshots = machine.samples(90)
    found = digest(samples, None, limits=LIMITS, zone=BERLIN)
    assert_equal(found, brute.count(samples, snapshots, None, LIMITS, BERLIN))


def one_gpu(at, *gpus, interval=5.0, **host):
    flat = Flattener().flatten(Snapshot(interval_seconds=interval, gpus=gpus, host=HostReading(**host)))
    return Sample(at, Shape.parse(flat.shape).places(), flat.values)


def test_nothing_gives_nothing():
    assert digest([], None, limits=LIMITS, zone=UTC) == digest([], 5.0, limits=LIMITS, zone=UTC)
    found = digest([one_gpu(60.0)], None, limits=LIMITS, zone=UTC)
    assert (found.fleet, found.gpu_days, found.intervals) == ({}, {}, ())
    assert found.minutes[""][60].covered_seconds == 5.0


def test_after_a_gap_a_process_has_a_new_interval_and_a_short_miss_does_not_end_it():
    held = GpuReading(uuid="GPU-1", processes=(ProcessReading(pid=7, started_at=1.0, user="lisa", gpu_memory_bytes=GIB),))
    more = GpuReading(uuid="GPU-1", processes=(ProcessReading(pid=7, started_at=1.0, user="lisa", gpu_memory_bytes=3 * GIB),))
    free = GpuReading(uuid="GPU-1")
    samples = [one_gpu(at, gpu) for at, gpu in ((100.0, held), (105.0, free), (110.0, more), (115.0, more), (400.0, held))]
    first, second = digest(samples, 405.0, limits=LIMITS, zone=UTC).intervals
    assert (first.start_at, first.end_at, first.peak_memory_bytes, first.memory_seconds) == (100.0, 120.0, 3 * GIB, 15.0)
    assert first.mean_memory_bytes == near((GIB + 2 * 3 * GIB) / 3)
    assert (second.start_at, second.end_at) == (400.0, 405.0)


def test_energy_over_a_gap_a_jump_or_a_reset_is_power_and_time():
    def gpu(joules, watts=100):
        return GpuReading(uuid="GPU-1", energy_joules=joules, power_watts=watts)

    samples = [one_gpu(at, gpu(joules)) for at, joules in ((0.0, 1000), (5.0, 1700), (10.0, 3), (15.0, 900_000), (500.0, 990_000))]
    (day,) = digest(samples, 505.0, limits=LIMITS, zone=UTC).gpu_days.values()
    assert day.energy_joules == near(700 + 500 + 500 + 500 + 500)


def test_slices_share_their_card():
    slices = tuple(
        MigReading(uuid=f"MIG-{n}", gpu_instance=n, compute_instance=0, memory_total_bytes=20 * GIB, memory_used_bytes=n * GIB, sm_activity_percent=0)
        for n in (1, 2)
    )
    process = ProcessReading(pid=5, user="lisa", gpu_instance=2, compute_instance=0)
    card = GpuReading(uuid="GPU-1", mig_enabled=True, mig=slices, processes=(process,), memory_total_bytes=80 * GIB, power_watts=80)
    found = digest([one_gpu(0.0, card)], 8.0, limits=LIMITS, zone=UTC)
    days = {uuid: day for (_, uuid), day in found.gpu_days.items()}
    assert (days["MIG-2"].held_seconds, days["MIG-2"].idle_seconds, days["MIG-2"].unattributed_seconds) == (2.0, 2.0, 0.0)
    assert days["MIG-1"].unattributed_seconds == 2.0
    assert days["GPU-1"].measured_seconds == 0.0
    assert [days[uuid].energy_joules for uuid in ("GPU-1", "MIG-1", "MIG-2")] == [320.0, 160.0, 160.0]
    assert found.fleet[0].metrics["held_percent"].mean == 100.0
    assert [interval.gpu_uuid for interval in found.intervals] == ["MIG-2"]


def test_a_desktop_shares_a_gpu_only_when_it_is_alone_on_it():
    desktop = ProcessReading(pid=1, user="root", kind="G")
    training = ProcessReading(pid=2, user="lisa")
    both, alone = (GpuReading(uuid="GPU-1", memory_used_bytes=GIB, processes=found) for found in ((training, desktop), (desktop,)))
    found = digest([one_gpu(0.0, both), one_gpu(5.0, alone)], 10.0, limits=LIMITS, zone=UTC)
    assert {user: day.held_seconds for (_, _, user), day in found.user_days.items()} == {"lisa": 5.0, "root": 5.0}


def test_a_sample_an_hour_counts_in_each_minute_that_it_covers_wholly():
    gpu = GpuReading(uuid="GPU-1", utilization_percent=40, memory_used_bytes=0)
    minutes = digest([one_gpu(90.0, gpu, interval=150.0), one_gpu(240.0, gpu, interval=150.0)], 300.0, limits=LIMITS, zone=UTC).minutes["GPU-1"]
    assert {at: (one.covered_seconds, one.metrics["utilization_percent"].count) for at, one in minutes.items()} == {
        60: (30.0, 1), 120: (60.0, 1), 180: (60.0, 1), 240: (60.0, 1),
    }  # fmt: skip


def test_a_hub_that_asks_more_seldom_than_the_node_samples_leaves_no_gaps() -> None:
    """A node samples every 4 s; polled every 30 s its samples stand for 30 s each, and 10 minutes without any are still a gap."""
    samples, _ = Machine(5, 1_790_000_000.0, 4.0).samples(20, gaps=0.0)
    spaced = [sample._replace(at=1_790_000_000.0 + 30 * place) for place, sample in enumerate(samples)]
    found = digest(spaced, spaced[-1].at + 30, limits=LIMITS, zone=UTC, asked_every_seconds=30.0)
    assert sum(minute.covered_seconds for minute in found.minutes[""].values()) == 600
    away = [*spaced[:10], *(sample._replace(at=sample.at + 600) for sample in spaced[10:])]
    found = digest(away, away[-1].at + 30, limits=LIMITS, zone=UTC, asked_every_seconds=30.0)
    assert sum(minute.covered_seconds for minute in found.minutes[""].values()) == 600
