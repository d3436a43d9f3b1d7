"""The newest state of every target: versions, status over time, restarts, and what views get."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any, List

import pytest
from tests.hub.readings import GB, busy, flat, gpu, process, snapshot

from gpuwatch.model.cluster import Target
from gpuwatch.model.snapshot import CollectorStatus, GpuReading
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Display, Latest, Report

NOW = 1_000_000.0
A, B = Target("a", "10.0.0.1", 7080), Target("b", "10.0.0.2", 7080)


@pytest.fixture
def latest() -> Latest:
    made = Latest(display=Display(5.0, "lab", "Europe/Berlin"))
    made.set_targets([(A, "id-a"), (B, "id-b")], NOW)
    return made


def give(latest: Latest, now: float, *gpus: GpuReading, name: str = "a", **more: Any) -> None:
    shape, values = flat(snapshot(now - 1, *gpus))
    known = latest.get(name)
    if known is not None and known.plan is not None and known.plan.shape.id == shape.id:
        shape = known.plan.shape
    latest.accept(name, shape, values, received_at=now, **more)


def status(latest: Latest, now: float, name: str = "a") -> Any:
    node = next(node for node in cluster(latest, now).nodes if node.name == name)
    return node.status, node.status_since_at


def test_targets_keep_the_order_of_the_file(latest: Latest) -> None:
    now = cluster(latest, NOW)
    assert [node.name for node in now.nodes] == ["a", "b"]
    assert (now.title, now.timezone, now.interval_seconds) == ("lab", "Europe/Berlin", 5.0)
    latest.set_targets([(B, "id-b"), (A, "id-a")], NOW)
    again = cluster(latest, NOW)
    assert [node.name for node in again.nodes] == ["b", "a"]
    assert again.version > now.version


def test_a_node_goes_up_stale_down_and_up_by_time(latest: Latest) -> None:
    assert status(latest, NOW) == ("unseen", NOW)
    give(latest, NOW + 1)
    assert status(latest, NOW + 1) == ("up", NOW + 1)
    give(latest, NOW + 6)
    assert status(latest, NOW + 6) == ("up", NOW + 1)
    version = latest.version
    latest.tick(NOW + 20)
    assert latest.version == version
    latest.tick(NOW + 21)
    assert latest.version > version
    assert status(latest, NOW + 21) == ("stale", NOW + 6)
    version = latest.version
    latest.tick(NOW + 60)
    assert latest.version == version
    latest.tick(NOW + 66)
    assert status(latest, NOW + 66) == ("down", NOW + 6)
    assert latest.version > version
    give(latest, NOW + 100)
    assert status(latest, NOW + 100) == ("up", NOW + 100)


def test_versions_grow_only_with_changes(latest: Latest) -> None:
    give(latest, NOW)
    before = cluster(latest, NOW)
    assert cluster(latest, NOW + 1).version == before.version
    assert cluster(latest, NOW + 1).nodes[0] is before.nodes[0]
    give(latest, NOW + 5)
    after = cluster(latest, NOW + 5)
    assert [node.version > before.version for node in after.nodes] == [True, False]
    assert after.nodes[1] is before.nodes[1]


def test_the_same_error_again_is_no_change(latest: Latest) -> None:
    latest.fail("a", "connection refused", NOW + 1)
    version = latest.version
    latest.fail("a", "connection refused", NOW + 6)
    assert latest.version == version
    latest.fail("a", "no answer", NOW + 11)
    assert latest.version > version


def test_a_failure_says_why_and_since_when(latest: Latest) -> None:
    latest.fail("a", "wrong password. Next: x", NOW + 1, answers=True)
    latest.fail("a", "wrong password. Next: x", NOW + 9, answers=True)
    node = cluster(latest, NOW + 9).nodes[0]
    assert (node.status, node.status_since_at, node.error) == ("error", NOW + 1, "wrong password. Next: x")


def test_a_single_failure_of_a_fresh_node_is_no_alarm(latest: Latest) -> None:
    give(latest, NOW)
    latest.fail("a", "no answer", NOW + 5)
    assert status(latest, NOW + 5)[0] == "up"
    give(latest, NOW + 10)
    assert cluster(latest, NOW + 10).nodes[0].error is None


def test_a_repeated_sample_is_no_new_reading(latest: Latest) -> None:
    """A node that samples more slowly than the hub asks, or whose sampler hangs without saying so."""
    shape, values = flat(snapshot(NOW - 1))
    for i in range(40):
        latest.accept("a", shape, values, received_at=NOW + i)
        latest.tick(NOW + i)
    node = cluster(latest, NOW + 39).nodes[0]
    assert node.received_at == NOW
    assert node.status == "stale"
    assert "gives no new reading" in (node.error or "")


def test_the_interval_of_the_slower_side_decides_what_is_stale(latest: Latest) -> None:
    shape, values = flat(snapshot(NOW - 1, interval_seconds=30.0))
    latest.accept("a", shape, values, received_at=NOW)
    latest.tick(NOW + 89)
    assert status(latest, NOW + 89)[0] == "up"
    latest.tick(NOW + 90)
    assert status(latest, NOW + 90)[0] != "up"


def test_a_line_s_own_interval_decides_too(latest: Latest) -> None:
    latest.set_targets([(Target("a", "10.0.0.1", 7080, interval_seconds=30.0), "id-a"), (B, "id-b")], NOW)
    give(latest, NOW)
    latest.tick(NOW + 59)
    assert status(latest, NOW + 59)[0] == "up"
    latest.tick(NOW + 90)
    assert status(latest, NOW + 90)[0] != "up"


def test_a_node_with_a_hung_driver(latest: Latest) -> None:
    give(latest, NOW, busy(0))
    known = latest.get("a")
    assert known is not None
    assert known.plan is not None
    report = Report(True, "driver hung since 14:31", NOW + 1)
    latest.accept("a", known.plan.shape, known.values, received_at=NOW + 5, report=report)
    node = cluster(latest, NOW + 5).nodes[0]
    assert (node.status, node.status_since_at) == ("stale", NOW)
    assert node.error == "driver hung since 14:31. Next: look at the node's log and at dmesg there."
    assert (node.gpus[0].state.state, node.gpus[0].state.was) == ("stale", "busy")
    latest.accept("a", known.plan.shape, known.values, received_at=NOW + 60, report=report)
    latest.tick(NOW + 61)
    assert status(latest, NOW + 61)[0] == "error"


def test_a_driver_that_does_not_match_is_an_error_with_host_readings(latest: Latest) -> None:
    message = "driver 550.90 loaded, library 550.107 installed. Next: reboot"
    snap = snapshot(NOW, collectors=(CollectorStatus("nvml", False, message),))
    shape, values = flat(snap.__class__(**{**vars(snap), "gpus": ()}))
    latest.accept("a", shape, values, received_at=NOW)
    node = cluster(latest, NOW).nodes[0]
    assert (node.status, node.status_since_at, node.error) == ("error", NOW, message + ".")
    assert node.snapshot is not None
    assert node.snapshot.host.cpu_percent == 5.0


def test_a_driver_that_was_upgraded_below_a_working_node_is_said(latest: Latest) -> None:
    status_of_driver = CollectorStatus("driver", False, "driver 550.90 loaded, library 550.107 installed: reboot")
    shape, values = flat(snapshot(NOW, gpu(0), collectors=(CollectorStatus("nvml"), status_of_driver)))
    latest.accept("a", shape, values, received_at=NOW)
    node = cluster(latest, NOW).nodes[0]
    assert node.status == "up"
    assert (node.error or "").startswith("driver 550.90 loaded, library 550.107 installed: reboot. Next: ")
    assert node.gpus[0].state.state == "free"


def test_a_machine_without_gpus_is_up(latest: Latest) -> None:
    snap = snapshot(NOW, collectors=(CollectorStatus("nvml", True, "no NVIDIA driver here"),))
    shape, values = flat(snap.__class__(**{**vars(snap), "gpus": ()}))
    latest.accept("a", shape, values, received_at=NOW)
    assert status(latest, NOW) == ("up", NOW)


def test_strangers_never_get_arguments_and_members_do(latest: Latest) -> None:
    give(latest, NOW, busy(0))
    stranger, member, admin = (cluster(latest, NOW, audience) for audience in ("stranger", "member", "admin"))
    assert "--lr" not in repr(stranger)
    assert stranger.nodes[0].gpus[0].reading.processes[0].command == "train.py"
    assert stranger.nodes[0].snapshot is not None
    assert stranger.nodes[0].snapshot.gpus[0].processes[0].command == "train.py"
    for seen in (member, admin):
        assert seen.nodes[0].gpus[0].reading.processes[0].command == "python train.py --lr 1"
    assert stranger.audience == "stranger"
    # whoever looked first, nothing crosses
    assert "--lr" not in repr(cluster(latest, NOW, "stranger"))


def test_show_arguments_shows_them_to_all() -> None:
    latest = Latest(display=Display(show_arguments=True))
    latest.set_targets([(A, "id-a")], NOW)
    give(latest, NOW, busy(0))
    assert cluster(latest, NOW).nodes[0].gpus[0].reading.processes[0].command == "python train.py --lr 1"


def test_views_carry_states_slices_and_columns(latest: Latest) -> None:
    hot = gpu(1, temperature_celsius=95, memory_used_bytes=GB, processes=(process(5, kind="C"),))
    give(latest, NOW, gpu(0), hot, GpuReading(uuid="GPU-lost", error="GPU is lost"))
    views = cluster(latest, NOW).nodes[0].gpus
    assert [view.state.state for view in views] == ["free", "busy", "lost"]
    assert views[1].state.marks == ("hot",)
    assert "Next: " in views[2].state.why
    assert views[0].recent_utilization[-1] == 0.0
    assert len(views[0].recent_utilization) == 36
    assert {view.host for view in views} == {"a"}


def test_simulated_is_said(latest: Latest) -> None:
    assert cluster(latest, NOW).simulated is False
    shape, values = flat(snapshot(NOW, simulated=True))
    latest.accept("b", shape, values, received_at=NOW)
    assert cluster(latest, NOW).simulated is True


def test_notices(latest: Latest) -> None:
    version = latest.version
    latest.notice("database", "disk is full")
    assert cluster(latest, NOW).notices == ("disk is full",)
    assert latest.version == version + 1
    latest.notice("database", "disk is full")
    latest.notice("other", None)
    assert latest.version == version + 1
    latest.notice("database", None)
    assert cluster(latest, NOW).notices == ()


def test_a_restored_reading_is_shown_at_once_and_marked_as_old(latest: Latest) -> None:
    shape, values = flat(snapshot(NOW - 5000, busy(0)))
    latest.restore("a", shape, values, NOW - 5000)
    node = cluster(latest, NOW).nodes[0]
    assert (node.status, node.status_since_at, node.received_at) == ("stale", NOW - 5000, NOW - 5000)
    assert node.gpus[0].reading.memory_used_bytes == 71 * GB
    assert (node.gpus[0].state.state, node.gpus[0].state.was) == ("stale", "busy")
    latest.tick(NOW + 59)
    assert status(latest, NOW + 59)[0] == "stale"
    latest.tick(NOW + 60)
    assert status(latest, NOW + 60)[0] == "down"
    latest.accept("a", shape, values, received_at=NOW + 61)
    assert status(latest, NOW + 61) == ("up", NOW + 61)


def test_a_restored_reading_never_replaces_a_newer_one(latest: Latest) -> None:
    give(latest, NOW, gpu(0))
    shape, values = flat(snapshot(NOW - 50, busy(0)))
    latest.restore("a", shape, values, NOW - 50)
    assert status(latest, NOW)[0] == "up"


def test_targets_that_go_are_forgotten_and_those_that_stay_keep_their_reading(latest: Latest) -> None:
    give(latest, NOW, busy(0))
    give(latest, NOW, busy(0), name="b")
    tagged = Target("a", "10.0.0.9", 7080, tags=("x",))
    latest.set_targets([(tagged, "id-a")], NOW + 1)
    (node,) = cluster(latest, NOW + 1).nodes
    assert (node.target, node.status) == (tagged, "up")
    assert latest.get("b") is None
    latest.fail("b", "late", NOW + 2)
    assert latest.accept("b", *flat(snapshot(NOW)), received_at=NOW + 2) is None
    latest.set_targets([(tagged, "other-id")], NOW + 3)
    assert status(latest, NOW + 3)[0] == "unseen"


def test_clock_skew_is_carried(latest: Latest) -> None:
    give(latest, NOW, clock_skew_seconds=-412.0)
    assert cluster(latest, NOW).nodes[0].clock_skew_seconds == -412.0


def test_readers_and_writers_do_not_disturb_each_other(latest: Latest) -> None:
    shapes = [flat(snapshot(NOW, *(busy(i) for i in range(count)))) for count in (1, 2, 3)]
    stop = threading.Event()
    wrong: List[BaseException] = []

    def read() -> None:
        try:
            version = 0
            while not stop.is_set():
                now = cluster(latest, NOW)
                assert now.version >= version
                version = now.version
                for node in now.nodes:
                    assert node.version <= now.version
                    assert node.snapshot is None or len(node.gpus) == len(node.snapshot.gpus)
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for i in range(300):
        shape, values = shapes[i % 3]
        latest.accept("a", shape, [NOW + i, *values[1:]], received_at=NOW + i)
        latest.fail("b", f"error {i}", NOW + i)
        latest.tick(NOW + i)
    stop.set()
    for reader in readers:
        reader.join(10)
    assert wrong == []


def test_a_dead_node_is_not_fresh_for_an_hour_when_the_clock_goes_back() -> None:
    latest = Latest()
    latest.set_targets([(Target("a", "h", 1), "a" * 32)], 10_000.0)
    latest.accept("a", *flat(snapshot(10_000.0)), received_at=10_000.0)
    for second in range(6_400, 6_480):
        latest.tick(float(second))
        latest.fail("a", "connection refused", second + 0.5)
    known = latest.get("a")
    assert known is not None
    assert (known.verdict.status, known.received_at) == ("down", 6_400.0)


def test_what_was_made_of_a_version_goes_with_it(latest: Latest) -> None:
    """Without the cycle collector, which a hub seldom runs: what views looked at of thousands of readings would pile up."""
    give(latest, NOW + 1, busy(0))
    node = next(node for node in cluster(latest, NOW + 1).nodes if node.name == "a")
    assert node.parts is not None
    assert node.parts.places().gpus[0].uuid == node.gpus[0].reading.uuid
    assert len(node.parts.texts()) == len(node.parts.values)
    assert node.gpus[0].recent_utilization == node.recent_utilization[0]
    seen = [weakref.ref(one) for one in (node, latest.get("a"), node.gpus[0])]
    del node
    gc.disable()
    try:
        give(latest, NOW + 6, busy(0))
        assert [one() for one in seen] == [None, None, None]
    finally:
        gc.enable()
