import math

from gpuwatch.model.series import GpuDay, UserDay
from gpuwatch.store import machines, usage


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
