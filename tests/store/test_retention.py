import pytest
from tests.store.test_backfill import always
from tests.store.test_intervals import START as BEGIN
from tests.store.test_intervals import add, interval
from tests.store.test_rollups import HOUR, bring

from gpuwatch.model.series import GpuDay
from gpuwatch.store import intervals, machines, retention, rollups, usage
from gpuwatch.store.digests import Digester
from gpuwatch.store.retention import Retention, Tended, tend

DAY = 86400


def tended(store, now, kept=None):
    return tend(store, now, kept or Retention(), Digester(), always)


def chunks(store):
    return dict(store.rows("SELECT tier_seconds, count(*) FROM rollup GROUP BY tier_seconds"))


def test_each_tier_goes_in_its_time(file_store, machine):
    store = file_store
    for day in range(3):
        bring(store, machine, 1440 * day, 1440)
    for owner in (machine, rollups.FLEET):
        rollups.settle(store, owner, 1)
    end = HOUR + 3 * DAY
    assert tended(store, end) == Tended()
    before = chunks(store)
    assert tended(store, end + 89 * DAY, Retention()).chunks > 0
    left = rollups.read(store, machine, "GPU-1", 60, 0, end).times
    assert end + 89 * DAY - 90 * DAY - 14400 <= left[0] <= end - DAY
    assert left[-1] == end - 60
    assert chunks(store)[900] == before[900]
    tended(store, end + 400 * DAY)
    assert set(chunks(store)) == {3600}
    assert len(rollups.read(store, machine, "GPU-1", 3600, 0, end).times) == 72
    assert len(rollups.read(store, rollups.FLEET, rollups.HOST, 3600, 0, end).times) == 72


def test_intervals_go_after_a_year(file_store, machine):
    add(file_store, machine, interval(0, 100), interval(0, 50, pid=2, gpu="GPU-2"), interval(0, 100 + 2 * DAY, pid=3))
    assert tended(file_store, BEGIN + 366 * DAY).intervals == 2
    assert [row.interval.pid for row in intervals.read(file_store, start_at=0, end_at=BEGIN + DAY, limit=9)] == [3]


def test_a_server_drops_old_rollups_and_intervals(store, machine):
    bring(store, machine, 0, 1440)
    rollups.settle(store, machine, 1)
    add(store, machine, interval(0, 100))
    tended(store, HOUR + 800 * DAY)
    assert set(chunks(store)) == {3600}
    assert intervals.read(store, start_at=0, end_at=BEGIN + DAY, limit=9) == []


def test_crowds_of_a_hostile_node_go(store, machine, monkeypatch):
    monkeypatch.setattr(retention, "_MOST_SUBJECTS", 10)
    monkeypatch.setattr(retention, "_MOST_INTERVALS", 5)
    monkeypatch.setattr(retention, "_MOST_OF_DAY", 3)
    for number in range(30):
        bring(store, machine, 14400 * number, 1, uuid=f"GPU-{number:02d}")
        rollups.settle(store, machine, 1)
    add(store, machine, *(interval(0, 10 + DAY * number, pid=number) for number in range(1, 9)))
    with store.writing():
        usage.merge(store, machine, {**{("2026-11-20", f"GPU-{n}"): GpuDay() for n in range(9)}, ("2026-11-21", "GPU-1"): GpuDay()}, {})
    tended(store, BEGIN + 10 * DAY)
    assert rollups.subjects(store, machine) == [f"GPU-{number}" for number in range(25, 30)]
    assert store.rows("SELECT count(*) FROM process_interval")[0][0] <= 5
    assert [row.day for row in usage.gpu_days(store, "0", "9")] == ["2026-11-21"]


def test_work_stops_when_told(store, machine):
    assert tend(store, 1.0, Retention(), Digester(), lambda: False) == Tended()


@pytest.mark.parametrize("kind", ["merge", "forget"])
def test_what_is_derived_follows_its_machine(store, machine, kind, monkeypatch):
    other = machines.ensure(store, "gpu02", "b")
    monkeypatch.setattr("gpuwatch.store.derived._ROLLUPS", 3)
    monkeypatch.setattr("gpuwatch.store.derived._ROWS", 3)
    for owner in (machine, other):
        bring(store, owner, 0, 600)
        add(store, owner, *(interval(0, 10, pid=number + (100 if owner == other else 0)) for number in range(8)))
        with store.writing():
            usage.merge(store, owner, {(f"2026-11-{day}", "GPU-1"): GpuDay(held_seconds=day) for day in range(10, 20)}, {})
    rollups.settle(store, other, 1)
    before = rollups.read(store, other, "GPU-1", 60, 0, HOUR + DAY).columns["power_watts"]
    if kind == "merge":
        machines.merge(store, machine, other)
        after = rollups.read(store, other, "GPU-1", 60, 0, HOUR + DAY).columns["power_watts"]
        assert after.totals == [2 * total for total in before.totals]
        assert {row.sums.held_seconds for row in usage.gpu_days(store, "0", "9")} == {2 * day for day in range(10, 20)}
        assert len(intervals.read(store, other, start_at=0, end_at=BEGIN + DAY, limit=99)) == 16
    else:
        machines.forget(store, machine)
        assert rollups.read(store, other, "GPU-1", 60, 0, HOUR + DAY).columns["power_watts"] == before
    for table in ("rollup", "rollup_part", "gpu_day", "user_day", "process_interval"):
        assert store.rows(f"SELECT count(*) FROM {table} WHERE machine_id = ?", (machine,)) == [(0,)]
