"""A simulated life: a pure function of time, with days, nights and weekends, people who come and go, and faults where they were told to be."""

import pytest

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.sim.life import DAY, HOUR, WEEK, Faults, Life, load_seconds, since
from gpuwatch.sim.profiles import CARDS, Job
from gpuwatch.sim.source import make, trouble

MIDNIGHT = 1_795_305_600.0
"""Sunday 22 Nov 2026, UTC."""
MONDAY = MIDNIGHT - 6 * DAY
CARD = CARDS["h100"]


def life(seed="a", count=8, midnight_at=MIDNIGHT, **more):
    return Life(seed, [CARD] * count, midnight_at, **more)


def source(argument, interval=60.0):
    return make(SamplerOptions("sim-1", interval, 10.0, 60.0, 600.0, "", argument))


def test_the_order_of_questions_changes_nothing():
    times = [MONDAY + number * 7321.5 for number in range(120)]
    forward, backward = life(), life()
    found = [forward.jobs(gpu, at) for at in times for gpu in range(8)]
    again = [backward.jobs(gpu, at) for at in reversed(times) for gpu in reversed(range(8))]
    assert found == again[::-1]
    assert found != [life("b").jobs(gpu, at) for at in times for gpu in range(8)]


def test_the_past_is_what_the_live_machine_showed():
    argument = f"8xh100:life-hot:37:{MIDNIGHT:.0f}"
    live, past = source(argument, 2.0), source(argument)
    live.read(MIDNIGHT - DAY)
    for at in (MIDNIGHT + 3 * HOUR, MIDNIGHT + 3 * HOUR + 60):
        shown, told = live.read(at), past.read(at)
        for gpu, same in zip(shown.gpus, told.gpus):
            assert (gpu.uuid, gpu.processes, gpu.memory_used_bytes, gpu.energy_joules) == (same.uuid, same.processes, same.memory_used_bytes, same.energy_joules)
        assert shown.host.boot_at == told.host.boot_at


def held(days, hours):
    lives = [life(seed) for seed in "abcdef"]
    times = [MONDAY - 4 * WEEK + week * WEEK + day * DAY + hour * HOUR for week in range(5) for day in days for hour in hours]
    found = [bool(one.jobs(gpu, at)) for one in lives for at in times for gpu in range(8)]
    return sum(found) / len(found)


def test_days_nights_and_weekends():
    work, night, weekend = held(range(5), range(10, 17)), held(range(1, 5), range(3, 8)), held((5, 6), range(10, 17))
    assert work > 0.75
    assert night < work - 0.2
    assert weekend < work - 0.2


def test_the_lab_s_clock_is_that_of_its_midnight():
    eastern = life(midnight_at=MIDNIGHT - 5 * HOUR - 1800)
    assert eastern.hour_and_weekday(MIDNIGHT - 5 * HOUR - 1800) == (0.0, 6)
    assert eastern.hour_and_weekday(MIDNIGHT) == (5.5, 6)
    assert life().hour_and_weekday(MIDNIGHT - 1) == (pytest.approx(24, abs=0.001), 5)


def test_people_come_and_go_and_hold_gpus_for_days_without_work():
    lives = [life(seed) for seed in "abcd"]
    weeks = [{job.user for one in lives for gpu in range(8) for hour in range(0, 168, 3) for job in one.jobs(gpu, start + hour * HOUR)}
             for start in (MONDAY - number * WEEK for number in range(6))]  # fmt: skip
    assert all({"lisa", "chen.w"} <= users for users in weeks)
    assert len({frozenset(users) for users in weeks}) > 1
    idle = [job for one in lives for gpu in range(8) for hour in range(720) for job in one.jobs(gpu, MONDAY + hour * HOUR)
            if job.busy_until and MONDAY + hour * HOUR > job.busy_until + DAY]  # fmt: skip
    assert idle
    assert all(job.load_at(job.busy_until + 1) == 0 < job.load_at(job.busy_until - 1) for job in idle)


def test_one_gpu_may_never_rest():
    busy = life(always_busy=1)
    assert sum(bool(busy.jobs(1, MONDAY + hour * HOUR)) for hour in range(500)) > 450


def test_energy_grows_with_work_and_never_falls_but_once_a_week():
    readings = source(f"2xh100:life:1:{MIDNIGHT:.0f}")
    energy = [readings.read(MONDAY + 600 * number).gpus[0].energy_joules for number in range(1008)]
    steps = [after - before for before, after in zip(energy, energy[1:])]
    assert sum(step < 0 for step in steps) <= 1
    assert all(CARD.idle_watts * 600 - 2 <= step <= CARD.power_limit_watts * 600 for step in steps if step >= 0)


def test_load_seconds():
    job = Job("lisa", "x", 1, 50.0, 0.0, 100.0, 160.0)
    assert [load_seconds(job, at) for at in (90, 100, 130, 160, 500)] == [0, 0, 1500, 3000, 3000]
    assert load_seconds(Job("lisa", "x", 1, 50.0, 0.0, 100.0), 500) == 20000


def test_faults_come_when_they_come():
    assert since(((10.0, 20.0),), 9) == since(((10.0, 20.0),), 20) == since((), 5) == 0
    assert since(((10.0, 20.0), (30.0, 40.0)), 35) == 30
    assert trouble("life", MIDNIGHT) == Faults()
    readings = source(f"4xrtx2080s:life-lost:8:{MIDNIGHT:.0f}")
    before, after = readings.read(MIDNIGHT - 2.5 * DAY), readings.read(MIDNIGHT)
    assert before.gpus[-1].error is None
    assert before.xids == ()
    assert after.gpus[-1].error_since_at == after.xids[0].at == MIDNIGHT - 2.4 * DAY
    assert after.gpus[-1].utilization_percent is None


def test_hot_days():
    readings = source(f"4xl40s:life-hot:5:{MIDNIGHT:.0f}")
    noon = [readings.read(MIDNIGHT + day * DAY + 12 * HOUR).gpus[1] for day in range(-14, 1)]
    hot = [day for day, gpu in zip(range(-14, 1), noon) if (gpu.throttle_mask or 0) & 0x40]
    assert set(hot) <= {-12, -11, -10, -1, 0}
    assert len(hot) >= 3
    assert all(gpu.temperature_celsius > CARDS["l40s"].slowdown_celsius for day, gpu in zip(range(-14, 1), noon) if day in hot)


def test_slices_have_a_life_too():
    readings = source(f"mig:life:3:{MIDNIGHT:.0f}")
    cards = [readings.read(MONDAY + hour * HOUR).gpus[0] for hour in range(0, 120, 5)]
    assert len({tuple(part.memory_used_bytes for part in card.mig) for card in cards}) > 5
    for card in cards:
        assert card.memory_used_bytes == sum(part.memory_used_bytes for part in card.mig) == sum(one.gpu_memory_bytes for one in card.processes)
        assert all(part.memory_used_bytes < part.memory_total_bytes for part in card.mig)


def test_a_midnight_that_is_no_time():
    from gpuwatch.model.errors import UsageError

    with pytest.raises(UsageError, match="midnight 'noon'"):
        source("1xh100:life:1:noon")
