import math

import pytest

from gpuwatch.model.series import GpuDay, UserDay
from gpuwatch.store import machines, migrations, retention, usage
from gpuwatch.store.import_assign import assign


def add(store, machine_id, gpu_sums, user_sums=None):
    with store.writing():
        usage.merge(store, machine_id, gpu_sums, user_sums or {})


def test_days_add_up(store, machine):
    one = GpuDay(10, 8, 5, 2, 1, 3, 0.5, 1000)
    for _ in range(3):
        add(store, machine, {("2026-11-20", "GPU-1"): one, ("2026-11-21", "GPU-1"): one}, {("2026-11-20", "GPU-1", "ann"): UserDay(4, 3, 1, 0, 0.25, 500)})
    (row,) = usage.gpu_days(store, "2026-11-20", "2026-11-20")
    assert row == (machine, "2026-11-20", "GPU-1", GpuDay(30, 24, 15, 6, 3, 9, 1.5, 3000))
    assert [row.day for row in usage.gpu_days(store, "2026-11-01", "2026-12-01")] == ["2026-11-20", "2026-11-21"]
    assert usage.user_days(store, "2026-11-20", "2026-11-20") == [(machine, "2026-11-20", "GPU-1", "ann", UserDay(12, 9, 3, 0, 0.75, 1500))]


def test_sums_by_what_is_asked(store):
    ids = machines.ensure_all(store, {f"gpu{number}": "x" for number in range(3)})
    for place, machine_id in enumerate(ids.values()):
        for day in ("2026-11-20", "2026-11-21"):
            for user in ("ann", "bob"):
                add(store, machine_id, {(day, "GPU-1"): GpuDay(held_seconds=1.0 + place)}, {(day, "GPU-1", user): UserDay(held_seconds=1.0 + place)})
    by_user = usage.user_days(store, "2026-11-20", "2026-11-21", by=["user_name"])
    assert [(row.user_name, row.machine_id, row.day, row.sums.held_seconds) for row in by_user] == [("ann", "", "", 12), ("bob", "", "", 12)]
    assert {row.machine_id: row.sums.held_seconds for row in usage.gpu_days(store, "2026-11-20", "2026-11-20", by=["machine_id"])} == dict(
        zip(ids.values(), (2, 4, 6))
    )
    (total,) = usage.gpu_days(store, "2026-11-20", "2026-11-21", by=[])
    assert total == ("", "", "", GpuDay(held_seconds=24))
    assert usage.gpu_days(store, "2025-11-20", "2025-11-21", by=[]) == []
    (one,) = usage.user_days(store, "2026-11-20", "2026-11-21", [ids["gpu2"]], user="bob", by=["day", "user_name"])[:1]
    assert one == ("", "2026-11-20", "", "bob", UserDay(held_seconds=3))


def test_many_machines_are_asked_in_batches(store, machine, monkeypatch):
    monkeypatch.setattr(usage, "_BATCH", 1)
    other = machines.ensure(store, "gpu02", "b")
    for machine_id in (machine, other):
        add(store, machine_id, {("2026-11-20", "GPU-1"): GpuDay(held_seconds=1)})
    (total,) = usage.gpu_days(store, "2026-11-20", "2026-11-20", [machine, other, "unknown"], by=["day"])
    assert total.sums.held_seconds == 2
    assert usage.gpu_days(store, "2026-11-20", "2026-11-20", []) == []


def test_numbers_that_nothing_can_have_count_as_nothing(store, machine):
    add(store, machine, {("2026-11-20", "GPU-1"): GpuDay(held_seconds=math.nan, energy_joules=math.inf, busy_seconds=5)})
    (row,) = usage.gpu_days(store, "2026-11-20", "2026-11-20")
    assert row.sums == GpuDay(busy_seconds=5)


# ---- what each user had of all GPUs: kept beside what it adds up


def fleet_adds_up(store):
    """The rows of the fleet are the sums of those of all machines that were not imported; how many there are."""
    expected = {}
    live = {one.id for one in machines.list_all(store) if not one.name.startswith("import:")}
    for machine_id, day, user, held, energy in store.rows("SELECT machine_id, day, user_name, held_seconds, energy_joules FROM user_day WHERE machine_id != ''"):
        if machine_id in live:
            known = expected.get((day, user), (0.0, 0.0))
            expected[day, user] = known[0] + held, known[1] + energy
    rows = store.rows("SELECT day, gpu_uuid, user_name, held_seconds, energy_joules FROM user_day WHERE machine_id = ''")
    assert {uuid for _, uuid, *_ in rows} <= {""}
    found = {(day, user): tuple(sums) for day, _, user, *sums in rows}
    assert found.keys() == expected.keys()
    for key, sums in found.items():
        assert sums == pytest.approx(expected[key], rel=1e-12)
    return len(found)


def lab(store):
    """Three machines, two GPUs, two users, two days; ids by name."""
    ids = machines.ensure_all(store, {f"gpu{number}": "x" for number in range(3)})
    for place, machine_id in enumerate(ids.values()):
        keys = [(day, gpu, user) for day in ("2026-11-20", "2026-11-21") for gpu in ("GPU-1", "GPU-2") for user in ("ann", "bob")]
        add(store, machine_id, {}, {key: UserDay(held_seconds=0.1 + place + number, energy_joules=number) for number, key in enumerate(keys)})
    return ids


def test_the_fleet_s_sums_follow_those_of_its_machines(store):
    ids = lab(store)
    assert fleet_adds_up(store) == 4
    machines.merge(store, ids["gpu0"], ids["gpu1"])
    assert fleet_adds_up(store) == 4
    machines.forget(store, ids["gpu1"])
    assert fleet_adds_up(store) == 4
    before = usage.user_days(store, "2026-11-20", "2026-11-21", user="bob", by=["user_name"])
    assert usage.forget_user(store, "ann") == 4  # two GPUs, two days: the fleet's rows are nobody's loss
    assert fleet_adds_up(store) == 2
    assert usage.user_days(store, "2026-11-20", "2026-11-21", by=["user_name"]) == before
    machines.forget(store, ids["gpu2"])
    assert fleet_adds_up(store) == 0


def test_what_is_imported_counts_when_it_is_given_to_a_host(store):
    ids = lab(store)
    guest = machines.ensure(store, "import:old", "")
    with store.writing():
        usage.merge(store, guest, {}, {("2026-11-20", "GPU-9", "eve"): UserDay(held_seconds=5.0)}, of_fleet=False)
    assert fleet_adds_up(store) == 4
    assert [row.user_name for row in usage.user_days(store, "2026-11-20", "2026-11-20", by=["user_name"])] == ["ann", "bob"]
    for _ in assign(store, guest, ids["gpu0"], []):
        pass
    assert fleet_adds_up(store) == 5
    assert usage.user_days(store, "2026-11-20", "2026-11-20", user="eve", by=["day"]) == [("", "2026-11-20", "", "", UserDay(held_seconds=5.0))]


def test_more_rows_than_a_block_can_bring_are_in_neither(store, machine, monkeypatch):
    monkeypatch.setattr(usage, "_MOST_ROWS", 3)
    add(store, machine, {}, {("2026-11-20", "GPU-1", f"user{number}"): UserDay(held_seconds=1.0) for number in range(9)})
    assert fleet_adds_up(store) == 3


def test_a_crowd_that_is_deleted_leaves_the_fleet_s_sums(store, machine, monkeypatch):
    monkeypatch.setattr(retention, "_MOST_OF_DAY", 5)
    lab(store)
    add(store, machine, {}, {("2026-11-20", "GPU-1", f"user{number}"): UserDay(held_seconds=1.0) for number in range(9)})
    assert fleet_adds_up(store) == 13
    for turn in range(4):  # one machine a turn
        retention._delete_crowds(store, turn * retention._TURN_SECONDS)
    assert fleet_adds_up(store) == 4


def test_a_database_without_the_fleet_s_sums_gets_them(store):
    lab(store)
    guest = machines.ensure(store, "import:old", "")
    with store.writing():
        usage.merge(store, guest, {}, {("2026-11-20", "GPU-9", "eve"): UserDay(held_seconds=5.0)}, of_fleet=False)
        store.change("DELETE FROM user_day WHERE machine_id = ''")
        for statement in migrations._USERS_OF_FLEET:
            store.change(store.spelled(statement))
    assert fleet_adds_up(store) == 4
