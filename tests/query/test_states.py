"""Since when: computed at ingest, kept over restarts, never claimed for times nobody looked."""

from __future__ import annotations

import time
from typing import Any, List, Optional

import pytest
from tests.hub.readings import GB, busy, flat, gpu, process, snapshot

from gpuwatch.model.snapshot import GpuReading, MigReading
from gpuwatch.query.plan import Plan
from gpuwatch.query.states import COLUMNS, SavedState, StateTracker
from gpuwatch.rules.limits import Limits

LIMITS = Limits()
M = "0" * 32
START = 1_000_200.0
"""Beginning of a column of 10 minutes."""


class Scene:
    """One machine seen by one tracker; ``restart`` goes through what the store keeps."""

    def __init__(self) -> None:
        self.tracker = StateTracker(LIMITS)
        self.kept: "dict[str, SavedState]" = {}
        self.plans: "dict[str, Plan]" = {}
        self.last: Any = None

    def look(self, now: float, *gpus: GpuReading) -> Any:
        shape, values = flat(snapshot(now, *gpus))
        plan = self.plans.setdefault(shape.id, Plan(shape))
        states = self.tracker.observe(M, plan, values, now)
        self.kept.update({row.uuid: row for row in self.tracker.take_changed(now)})
        self.last = (plan, values, now)
        return states

    def span(self, start: float, end: float, *gpus: GpuReading, step: float = 5.0) -> Any:
        now, states = start, None
        while now <= end:
            states = self.look(now, *gpus)
            now += step
        return states

    def restart(self) -> Any:
        self.tracker = StateTracker(LIMITS)
        self.tracker.load(self.kept.values())
        plan, values, now = self.last
        return self.tracker.restore(M, plan, values, now)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def brief(state: Any) -> Any:
    return state.state, state.since_at, state.at_least, state.no_work_since_at


def test_the_first_look_is_at_least(scene: Scene) -> None:
    free, work = scene.look(START, gpu(0), busy(1))
    assert brief(free) == ("free", START, True, START)
    assert brief(work) == ("busy", START, True, None)


def test_a_change_that_was_seen_is_exact(scene: Scene) -> None:
    scene.span(START, START + 60, gpu(0))
    (state,) = scene.look(START + 65, busy(0))
    assert brief(state) == ("busy", START + 65, False, None)
    (state,) = scene.span(START + 70, START + 500, busy(0))
    assert brief(state) == ("busy", START + 65, False, None)
    (state,) = scene.look(START + 505, gpu(0))
    assert brief(state) == ("free", START + 505, False, START + 505)


def test_states_are_the_same_objects_while_nothing_changes(scene: Scene) -> None:
    first = scene.look(START, gpu(0), busy(1))
    assert scene.look(START + 5, gpu(0), busy(1)) is first


def test_idle_after_half_an_hour_without_work(scene: Scene) -> None:
    scene.span(START, START + 100, busy(0))
    quiet = busy(0, utilization=0)
    (state,) = scene.span(START + 105, START + 105 + 1795, quiet)
    assert brief(state) == ("busy", START, True, START + 105)
    (state,) = scene.look(START + 105 + 1800, quiet)
    assert brief(state) == ("idle", START + 1905, False, START + 105)
    (state,) = scene.look(START + 1910, busy(0))
    assert brief(state) == ("busy", START + 1910, False, None)


def test_a_moment_of_work_begins_the_half_hour_anew(scene: Scene) -> None:
    quiet = busy(0, utilization=1)
    scene.span(START, START + 1700, quiet)
    scene.look(START + 1705, busy(0, utilization=2))
    (state,) = scene.span(START + 1710, START + 1710 + 1790, quiet)
    assert state.state == "busy"
    (state,) = scene.look(START + 1710 + 1800, quiet)
    assert state.state == "idle"


def test_a_job_that_just_began_is_not_idle_however_long_the_gpu_was_free(scene: Scene) -> None:
    scene.span(START, START + 4000, gpu(0), step=50)
    (state,) = scene.look(START + 4050, busy(0, utilization=0))
    assert brief(state) == ("busy", START + 4050, False, START + 4050)


def test_nobody_is_idle_on_missing_values(scene: Scene) -> None:
    (state,) = scene.span(START, START + 4000, gpu(0, utilization_percent=None, memory_used_bytes=GB, processes=(process(),)), step=50)
    assert brief(state) == ("busy", START, True, None)
    (state,) = scene.span(START + 5000, START + 9000, gpu(0, utilization_percent=0, memory_used_bytes=None, processes=(process(),)), step=50)
    assert state.state == "busy"


def test_less_memory_than_the_threshold_is_not_idle(scene: Scene) -> None:
    small = gpu(0, memory_used_bytes=50_000_000, processes=(process(),))
    (state,) = scene.span(START, START + 2000, small, step=50)
    assert state.state == "busy"
    (state,) = scene.look(START + 2050, gpu(0, memory_used_bytes=GB, processes=(process(),)))
    assert state.state == "idle"
    (state,) = scene.look(START + 2100, small)
    assert brief(state)[:3] == ("busy", START + 2100, False)


def test_unknown_lost_and_back(scene: Scene) -> None:
    scene.look(START, gpu(0))
    (state,) = scene.look(START + 5, gpu(0, memory_used_bytes=None))
    assert brief(state)[:3] == ("unknown", START + 5, False)
    lost = GpuReading(uuid="GPU-00000000", error="GPU is lost")
    (state,) = scene.look(START + 10, lost)
    assert brief(state)[:3] == ("lost", START + 10, False)
    (state,) = scene.look(START + 15, gpu(0))
    assert brief(state)[:3] == ("free", START + 15, False)


def test_blind_for_long_is_at_least_again(scene: Scene) -> None:
    scene.span(START, START + 60, gpu(0))
    (state,) = scene.look(START + 60 + 599, gpu(0))
    assert brief(state)[:3] == ("free", START, True)
    (state,) = scene.look(START + 60 + 599 + 601, gpu(0))
    assert brief(state) == ("free", START + 1260, True, START + 1260)


def test_a_change_found_after_a_pause_is_at_least(scene: Scene) -> None:
    scene.span(START, START + 60, gpu(0))
    (state,) = scene.look(START + 200, busy(0))
    assert brief(state)[:3] == ("busy", START + 200, True)


def test_a_gpu_that_was_away_for_long_is_looked_at_anew(scene: Scene) -> None:
    scene.look(START, gpu(0), gpu(1))
    scene.span(START + 5, START + 700, gpu(0))
    _, back = scene.look(START + 705, gpu(0), gpu(1))
    assert brief(back)[:3] == ("free", START + 705, True)


def test_a_gpu_that_was_away_for_a_moment_keeps_its_since(scene: Scene) -> None:
    scene.look(START, gpu(0), gpu(1))
    scene.look(START + 5, gpu(0))
    _, back = scene.look(START + 10, gpu(0), gpu(1))
    assert brief(back)[:3] == ("free", START, True)


def test_a_restart_keeps_since(scene: Scene) -> None:
    scene.look(START, gpu(0), gpu(1), busy(2))
    scene.look(START + 5, gpu(0), busy(1), busy(2))
    before = scene.span(START + 10, START + 2005, gpu(0), busy(1), busy(2, utilization=0))
    assert [state.state for state in before] == ["free", "busy", "idle"]
    assert scene.restart() == before
    after = scene.look(START + 2050, gpu(0), busy(1), busy(2, utilization=0))
    assert after == before


def test_a_restart_during_a_change_says_at_least(scene: Scene) -> None:
    scene.span(START, START + 10, gpu(0))
    scene.restart()
    (state,) = scene.look(START + 300, busy(0))
    assert brief(state)[:3] == ("busy", START + 300, True)


def test_a_long_absence_of_the_hub_says_at_least(scene: Scene) -> None:
    scene.span(START, START + 10, gpu(0))
    scene.restart()
    (state,) = scene.look(START + 90_000, gpu(0))
    assert brief(state)[:3] == ("free", START + 90_000, True)


def test_no_work_goes_on_over_a_restart(scene: Scene) -> None:
    scene.look(START, gpu(0))
    scene.span(START + 5, START + 1000, busy(0, utilization=0))
    scene.restart()
    (state,) = scene.look(START + 1020, busy(0, utilization=0))
    assert brief(state) == ("busy", START + 5, False, START + 5)
    (state,) = scene.span(START + 1025, START + 1810, busy(0, utilization=0))
    assert brief(state) == ("idle", START + 1805, False, START + 5)


def test_what_was_never_kept_is_still_shown_after_a_restart(scene: Scene) -> None:
    scene.look(START, gpu(0), busy(1))
    scene.kept.clear()
    assert [brief(state)[:2] for state in scene.restart()] == [("free", None), ("busy", None)]


def test_only_changes_are_handed_to_the_store(scene: Scene) -> None:
    shape, values = flat(snapshot(START, gpu(0), busy(1)))
    plan = Plan(shape)
    scene.tracker.observe(M, plan, values, START)
    assert {row.uuid for row in scene.tracker.take_changed(START)} == {"GPU-00000000", "GPU-00000001"}
    for i in range(5):
        scene.tracker.observe(M, plan, values, START + i)
        assert scene.tracker.take_changed(START + i) == []
    (row,) = scene.tracker.take_changed(START + 61)  # free, and now without work for a minute
    assert (row.uuid, row.no_work_since_at) == ("GPU-00000000", START)
    scene.tracker.put_back([row])
    assert scene.tracker.take_changed(START + 62) == [row]
    assert scene.tracker.take_changed(START + 63) == []


def test_short_pauses_of_work_cost_no_writes(scene: Scene) -> None:
    scene.look(START, busy(0))
    scene.kept.clear()
    for i in range(100):
        scene.look(START + 5 + 5 * i, busy(0, utilization=0 if i % 2 else 80))
    assert scene.kept == {}


def mig_gpu(*slices: MigReading, **more: Any) -> GpuReading:
    return gpu(0, mig_enabled=True, mig=slices, utilization_percent=None, **more)


def test_each_slice_has_a_state_of_its_own(scene: Scene) -> None:
    parts = [
        MigReading("MIG-1", 0, "3g.40gb", 1, 0, 0, 40 * GB),
        MigReading("MIG-2", 1, "3g.40gb", 2, 0, 0, 40 * GB),
        MigReading("MIG-3", 2, "1g.10gb", 7, 0, None, 10 * GB),
        MigReading("MIG-4", 3, "1g.10gb", 8, 0, 5 * GB, 10 * GB, sm_activity_percent=0),
    ]
    one = mig_gpu(*parts, processes=(process(1, gpu_instance=2, compute_instance=0),))
    states = scene.span(START, START + 1800, one, gpu(1), step=100)
    assert [state.state for state in states] == ["mig", "free", "busy", "unknown", "idle", "free"]


def test_slices_of_a_lost_gpu_are_lost(scene: Scene) -> None:
    states = scene.look(START, mig_gpu(MigReading("MIG-1", 0), error="lost"))
    assert [state.state for state in states] == ["lost", "lost"]


def columns(scene: Scene, now: float, uuid: str = "GPU-00000000") -> List[Optional[float]]:
    (recent,) = scene.tracker.recent(M, [uuid], now)
    return list(recent)


def test_recent_utilization_in_columns_of_ten_minutes(scene: Scene) -> None:
    scene.span(START, START + 595, busy(0, utilization=40))
    scene.span(START + 600, START + 1195, busy(0, utilization=60))
    scene.look(START + 1200, busy(0, utilization=10))
    scene.look(START + 1205, busy(0, utilization=21))
    found = columns(scene, START + 1210)
    assert len(found) == COLUMNS
    assert found[-3:] == [40.0, 60.0, 15.5]
    assert found[:-3] == [None] * 33


def test_gaps_are_none_never_zero(scene: Scene) -> None:
    scene.look(START, busy(0, utilization=40))
    scene.look(START + 600 * 3, busy(0, utilization=0))
    assert columns(scene, START + 600 * 3 + 1)[-4:] == [40.0, None, None, 0.0]
    assert columns(scene, START + 600 * 5)[-6:] == [40.0, None, None, 0.0, None, None]
    scene.look(START + 600 * 100, busy(0, utilization=7))
    assert columns(scene, START + 600 * 100) == [None] * 35 + [7.0]


def test_no_utilization_is_a_gap(scene: Scene) -> None:
    scene.look(START, gpu(0, utilization_percent=None))
    scene.look(START + 600, gpu(0, utilization_percent=None))
    assert columns(scene, START + 600) == [None] * 36
    assert columns(scene, START, "unknown") == []


def test_columns_survive_a_restart(scene: Scene) -> None:
    for i in range(40):
        scene.look(START + 600 * i, busy(0, utilization=i))
    before = columns(scene, START + 600 * 39)
    assert before == [float(i) for i in range(4, 40)]
    scene.restart()
    scene.look(START + 600 * 41, busy(0, utilization=99))
    # the open column of the restart is lost, the closed ones are not
    assert columns(scene, START + 600 * 41) == [float(i) for i in range(6, 39)] + [None, None, 99.0]


def test_gpus_kept_at_different_times_are_aligned(scene: Scene) -> None:
    rows = [
        SavedState(M, "GPU-00000000", "busy", START, False, None, False, 1000, (1.0, 2.0)),
        SavedState(M, "GPU-00000001", "busy", START, False, None, False, 1002, (3.0,)),
        SavedState(M, "GPU-00000002", "busy", START, False, None, False, 1001, (4.0,)),
    ]
    scene.tracker.load(rows)
    now = 1002 * 600.0
    assert columns(scene, now)[-4:-1] == [2.0, None, None]
    assert columns(scene, now, "GPU-00000001")[-2:] == [3.0, None]
    assert columns(scene, now, "GPU-00000002")[-3:] == [4.0, None, None]


def test_forget(scene: Scene) -> None:
    scene.look(START, gpu(0))
    scene.tracker.forget(M)
    assert scene.tracker.take_changed(START) == []


def test_it_is_cheap() -> None:
    tracker = StateTracker(LIMITS)
    shape, values = flat(snapshot(START, *(busy(i) for i in range(8))))
    plan = Plan(shape)
    spent = []
    for turn in range(10):  # a machine below this one that stands still counts as work of this process: not in all of them
        started = time.process_time()
        for i in range(200):
            tracker.observe(M, plan, values, START + (200 * turn + i) * 5)
        spent.append((time.process_time() - started) / 200)
    assert min(spent) < 0.0005
