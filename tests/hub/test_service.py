"""A whole hub over fake nodes: what is stored, what a restart shows, what a bad disk or hosts file does."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List, Optional

import pytest
from tests.hub import nodes
from tests.hub.nodes import Street
from tests.hub.readings import gpu, snapshot

from gpuwatch.config.settings import HubSettings
from gpuwatch.hub.restore import from_row, latest_from_store, to_row
from gpuwatch.hub.service import Hub
from gpuwatch.loops import Loop, Stop
from gpuwatch.model.cluster import NodeState, Target
from gpuwatch.model.errors import StoreError, UsageError
from gpuwatch.query.cluster import cluster
from gpuwatch.query.states import SavedState
from gpuwatch.store import events, machines, rollups, snapshots, usage
from gpuwatch.store.database import Store, open_store
from gpuwatch.store.states import GpuStateRow


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "did not happen in time"
        time.sleep(0.02)


class Lab:
    """A folder with a hosts file and a database, and the hubs started on it: their readings are fresh for a while though this machine stands still."""

    def __init__(self, folder: Path) -> None:
        self.hosts = folder / "hosts.txt"
        self.database = folder / "hub.db"
        self.hubs: List[Hub] = []

    def write(self, *lines: str) -> None:
        new = self.hosts.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        os.replace(new, self.hosts)

    def hub(self, **settings: Any) -> Hub:
        made = Hub(
            HubSettings(
                **{
                    "hosts": str(self.hosts),
                    "database": f"sqlite:///{self.database}",
                    "interval": 0.2,
                    "timezone": "UTC",
                    "password": "x",
                    "pack_snapshots": 4,
                    "stale_intervals": 100.0,
                    **settings,
                }
            )
        )
        self.hubs.append(made)
        return made

    def start(self, **settings: Any) -> Hub:
        made = self.hub(**settings)
        made.start()
        return made

    def stop(self) -> None:
        for hub in self.hubs:
            hub.stop()
        self.hubs.clear()


@contextmanager
def parked(hub: Hub) -> Iterator[None]:
    """Its writer does nothing meanwhile, and is not in the middle of anything."""
    writer, idle = hub._writer, threading.Event()
    beat, writer.run_once = writer.run_once, lambda now: idle.set()
    try:
        writer.wake()
        assert idle.wait(60)
        yield
    finally:
        writer.run_once = beat
        writer.wake()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def street() -> Iterator[Street]:
    made = Street()
    yield made
    made.close()


def node(hub: Hub, name: str, audience: str = "stranger") -> Optional[NodeState]:
    return next((one for one in hub.cluster(audience).nodes if one.name == name), None)


def status(hub: Hub, name: str) -> str:
    found = node(hub, name)
    return found.status if found else "absent"


def stored(hub: Hub, name: str) -> int:
    assert hub.store is not None
    return len(list(snapshots.read(hub.store, machines.find(hub.store, name).id)))


def test_good_and_bad_nodes_side_by_side(lab: Lab, street: Street) -> None:
    fine, bad = street.node(gpus=2), street.node(nodes.garbage)
    lab.write(f"fine=127.0.0.1:{fine.port} tags=lab", f"bad=127.0.0.1:{bad.port}", "dead=127.0.0.1:1", "this is no line")
    hub = lab.start()
    until(lambda: status(hub, "fine") == "up" and status(hub, "bad") == "error" and "refused" in (hub.cluster().nodes[2].error or ""))
    now = hub.cluster()
    assert [one.name for one in now.nodes] == ["fine", "bad", "dead"]
    assert now.nodes[0].target.tags == ("lab",)
    assert [view.state.state for view in now.nodes[0].gpus] == ["busy", "free"]
    assert abs(now.nodes[0].clock_skew_seconds or 0) < 5
    assert "not HTTP" in (now.nodes[1].error or "")
    assert now.nodes[2].status == "unseen"
    assert any("line 4" in notice for notice in now.notices)
    until(lambda: stored(hub, "fine") >= 8)
    version = hub.version()
    until(lambda: hub.version() > version)


def test_everything_that_came_is_stored_when_it_stops(lab: Lab, street: Street) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start()
    until(lambda: hub.poller.stats.good >= 9)
    lab.stop()
    store = open_store(str(lab.database), read_only=True)
    kept = list(snapshots.read(store, machines.find(store, "fine").id))
    store.close()
    assert len(kept) == hub.poller.stats.good
    assert machines.find is not None


def test_a_restart_shows_the_last_state_at_once_and_keeps_since(lab: Lab, street: Street) -> None:
    fine = street.node(gpus=2)
    lab.write(f"fine=127.0.0.1:{fine.port}", "dead=127.0.0.1:1")
    hub = lab.start()
    until(lambda: hub.poller.stats.good >= 5)
    before = node(hub, "fine")
    assert before is not None
    lab.stop()
    fine.behaviour = nodes.silent
    again = lab.start(poll_deadline=0.3)
    shown = node(again, "fine")
    assert shown is not None
    assert shown.status == "stale"
    assert any(words in (shown.error or "") for words in ("last reading", "no whole answer", "no answer from"))
    assert [view.state.was for view in shown.gpus] == ["busy", "free"]
    assert shown.gpus[0].reading.processes[0].command == "train.py"
    assert shown.machine_id == before.machine_id
    fine.behaviour = nodes.good
    until(lambda: status(again, "fine") == "up")
    after = node(again, "fine")
    assert after is not None
    for old, new in zip(before.gpus, after.gpus):
        assert (new.state.state, new.state.since_at, new.state.at_least) == (old.state.state, round(old.state.since_at or 0, 3), old.state.at_least)
    assert fine.requests[-1]["flat"]


def test_the_database_alone_tells_the_last_state(lab: Lab, street: Street) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start()
    until(lambda: hub.poller.stats.good >= 3)
    lab.stop()
    store = open_store(str(lab.database), create=False, read_only=True)
    now = time.time()
    (shown,) = cluster(latest_from_store(store, hub.settings, "UTC", now), now, "admin").nodes
    store.close()
    assert (shown.name, shown.status, shown.gpus[0].state.was) == ("fine", "stale", "busy")
    assert shown.gpus[0].reading.processes[0].command == "python train.py --lr 1"


def test_the_hosts_file_is_followed(lab: Lab, street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.hub.hosts.LOOK_SECONDS", 0.1)
    one, two = street.node(), street.node()
    lab.write(f"one=127.0.0.1:{one.port}")
    hub = lab.start()
    until(lambda: status(hub, "one") == "up")
    first = node(hub, "one")
    lab.write(f"two=127.0.0.1:{two.port}", f"one=127.0.0.1:{one.port} tags=new", "broken line here")
    until(lambda: status(hub, "two") == "up")
    assert [found.name for found in hub.cluster().nodes] == ["two", "one"]
    assert hub.cluster().nodes[1].target.tags == ("new",)
    assert any("line 3" in notice for notice in hub.cluster().notices)
    lab.write(f"two=127.0.0.1:{two.port}")
    until(lambda: status(hub, "one") == "absent")
    assert hub.cluster().notices == ()
    assert hub.store is not None
    assert machines.find(hub.store, "one").removed_at is not None
    lab.write(f"two=127.0.0.1:{two.port}", f"one=127.0.0.1:{one.port}")
    until(lambda: status(hub, "one") == "up")
    back = node(hub, "one")
    assert first is not None
    assert back is not None
    assert back.machine_id == first.machine_id


def test_a_database_that_cannot_be_opened_leaves_the_live_view(lab: Lab, street: Street) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    lab.database.write_bytes(b"this is not a database" * 100)
    before = lab.database.read_bytes()
    hub = lab.start()
    until(lambda: status(hub, "fine") == "up")
    assert hub.store is None
    (notice,) = hub.cluster().notices
    assert "not a database" in notice
    assert "The live view goes on" in notice
    assert lab.database.read_bytes() == before
    until(lambda: len(hub.ingest.arrivals) > 0)  # a moment after it is shown


def test_a_store_that_refuses_for_a_while_loses_nothing(lab: Lab, street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start()
    until(lambda: stored(hub, "fine") >= 1)
    assert hub.store is not None
    real, full = hub.store.change_many, [True]

    def change_many(*args: Any) -> Any:
        if full[0]:
            raise StoreError("The database hub.db cannot grow: the disk is full.", "Free some space.")
        return real(*args)

    monkeypatch.setattr(hub.store, "change_many", change_many)
    until(lambda: any("disk is full" in notice for notice in hub.cluster().notices))
    until(lambda: len(hub.ingest.arrivals) >= 5)
    assert status(hub, "fine") == "up"
    full[0] = False
    until(lambda: hub.cluster().notices == ())
    good = hub.poller.stats.good
    until(lambda: stored(hub, "fine") >= good)


def test_a_snapshot_that_cannot_be_kept_does_not_block_the_others(lab: Lab, street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    fine, odd = street.node(), street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}", f"odd=127.0.0.1:{odd.port}")
    real: Any = snapshots.append

    def append(store: Store, entries: Any, docs: Any) -> Any:
        if any(machines.find(store, "odd").id == entry.machine_id for entry in entries):
            raise ValueError("a snapshot's time is out of range")
        return real(store, entries, docs)

    monkeypatch.setattr(snapshots, "append", append)
    hub = lab.start()
    until(lambda: stored(hub, "fine") >= 3)
    assert stored(hub, "odd") == 0


def test_a_machine_that_was_forgotten_beside_the_hub_gets_a_new_id(lab: Lab, street: Street) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start()
    until(lambda: stored(hub, "fine") >= 1)
    other = open_store(str(lab.database))
    old = machines.find(other, "fine").id
    machines.forget(other, old)
    other.close()
    until(lambda: (lambda found: found is not None and found.machine_id != old and found.status == "up")(node(hub, "fine")))
    until(lambda: stored(hub, "fine") >= 1)
    found = node(hub, "fine")
    assert found is not None
    assert hub.store is not None
    assert machines.find(hub.store, "fine").id == found.machine_id != old


def test_events_and_hostnames_are_kept(lab: Lab, street: Street) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start(poll_deadline=1.0)
    until(lambda: hub.store is not None and machines.find(hub.store, "fine").hostname == "dgx-a")
    until(lambda: hub.store is not None and [event.kind for event in events.newest(hub.store, 5)] == ["node_up"])
    fine.behaviour = nodes.silent
    silence = f"answer from 127.0.0.1:{fine.port} within 1 s"
    until(lambda: silence in (getattr(node(hub, "fine"), "error", None) or ""))
    hub.latest.limits = replace(hub.latest.limits, stale_intervals=3.0, down_after=1.0)  # only now: it was up all the time until here
    until(lambda: status(hub, "fine") == "down")
    assert hub.store is not None
    until(lambda: hub.store is not None and [event.kind for event in events.newest(hub.store, 5)] == ["node_down", "node_up"])
    assert silence in events.newest(hub.store, 1)[0].message


def test_a_database_that_is_removed_under_the_hub_is_made_anew(lab: Lab, street: Street) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start()
    until(lambda: stored(hub, "fine") >= 1)
    before = hub.store
    for path in lab.database.parent.glob("hub.db*"):
        path.unlink()
    until(lambda: hub.store not in (None, before))
    until(lambda: any(one.name == "fine" for one in machines.list_all(hub.store)))
    until(lambda: stored(hub, "fine") >= 1)
    until(lambda: status(hub, "fine") == "up")
    other = open_store(str(lab.database), read_only=True)
    assert [one.name for one in machines.list_all(other)] == ["fine"]
    other.close()


def test_health_covers_loops_that_others_run_for_the_hub(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write()
    hub = lab.start()
    until(lambda: hub.health() == "")
    monkeypatch.setattr("gpuwatch.loops.HANGS_SECONDS", 0.3)
    hold, stop = threading.Event(), Stop()
    pushes = Loop("push reader", lambda _: hold.wait(30), 0.05, stop)
    hub.watch(pushes.start())
    until(lambda: hub.health().startswith("The hub's push reader hangs for "))
    hold.set()
    until(lambda: hub.health() == "")
    monkeypatch.setattr("gpuwatch.loops.HANGS_SECONDS", 60.0)
    stop.set()
    assert pushes.join(60)
    assert hub.health() == "The hub's push reader does not run."


def test_health_names_the_part_that_does_not_work(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write()
    hub = lab.start()
    until(lambda: hub.health() == "")
    monkeypatch.setattr("gpuwatch.loops.HANGS_SECONDS", 0.3)
    hold = threading.Event()
    monkeypatch.setattr(hub._writer, "run_once", lambda _: hold.wait(30))
    until(lambda: hub.health().startswith("The hub's writer hangs for "))
    hold.set()
    lab.stop()
    assert hub.health() == "The hub's poller does not run. The hub's clock does not run. The hub's writer does not run."


def test_a_second_hub_on_the_same_database_stores_nothing_until_the_first_ends(
    lab: Lab, street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuwatch.hub.service.REOPEN_SECONDS", 0.2)
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    first = lab.start()
    until(lambda: stored(first, "fine") >= 1)
    id_of_first = machines.find(first.store, "fine").id
    second = lab.start()
    until(lambda: status(second, "fine") == "up")
    (notice,) = second.cluster().notices
    assert f"Another hub (process {os.getpid()}) keeps the database" in notice
    assert second.store is None
    beside = open_store(str(lab.database))  # as the command line does
    machines.ensure_all(beside, {"other": "192.0.2.1"}, now=time.time())
    beside.close()
    polls = second.poller.stats.good
    until(lambda: second.poller.stats.good >= polls + 5)
    first.stop()
    lab.hubs.remove(first)
    until(lambda: second.store is not None and second.cluster().notices == ())
    assert machines.find(second.store, "fine").id == id_of_first
    kept = stored(second, "fine")
    until(lambda: stored(second, "fine") >= kept + 2)
    times = [one.taken_at_ms for one in snapshots.read(second.store, id_of_first)]
    assert len(set(times)) == len(times)


def test_on_postgresql_a_restart_of_the_server_and_the_end_of_a_hub_lose_nothing(
    lab: Lab, street: Street, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuwatch.hub.service.REOPEN_SECONDS", 0.2)
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    with postgres.new_url() as url:
        first = lab.start(database=url)
        until(lambda: stored(first, "fine") >= 2)
        machine_id = machines.find(first.store, "fine").id
        opened = first.store
        postgres.stop()
        until(lambda: any("does not answer" in notice for notice in first.cluster().notices))
        assert status(first, "fine") == "up"
        polls, away_at = first.poller.stats.good, time.time()
        until(lambda: first.poller.stats.good >= polls + 4)
        back_at = time.time()
        postgres.start()
        until(lambda: first.cluster().notices == () and first.store not in (None, opened))
        kept = stored(first, "fine")
        until(lambda: stored(first, "fine") >= kept + 2)
        second = lab.start(database=url)
        until(lambda: second.store is not None and status(second, "fine") == "up")
        assert second.cluster().notices == ()
        first.stop()
        lab.hubs.remove(first)
        kept = stored(second, "fine")
        until(lambda: stored(second, "fine") >= kept + 2)
        times = [one.taken_at_ms for one in snapshots.read(second.store, machine_id)]
        assert len(set(times)) == len(times)
        assert sum(away_at < at / 1000 < back_at for at in times) >= 3
        assert max(later - earlier for earlier, later in zip(times, times[1:])) < 10_000
        lab.stop()


def test_stopping_does_not_wait_for_ever_for_a_disk_that_hangs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.hub.service.STOP_SECONDS", 0.3)
    lab.write()
    hub = lab.start()
    hold, entered = threading.Event(), threading.Event()
    monkeypatch.setattr(hub._writer, "run_once", lambda _: (entered.set(), hold.wait(100)))
    assert entered.wait(60)
    began = time.monotonic()
    hub.stop()
    assert time.monotonic() - began < 40
    hold.set()
    until(lambda: not hub._writer.alive)


def test_nodes_are_not_down_because_the_hub_stood_still(lab: Lab) -> None:
    lab.write("one=127.0.0.1:1", "two=127.0.0.1:1")
    hub, at = lab.hub(interval=5.0, poll_deadline=4.0, stale_intervals=3.0, down_after=60.0), time.time()
    hub.write(at)

    def send(name: str, now: float) -> None:
        pair = hub.pair(name)
        assert pair is not None
        hub.ingest.accept_snapshot(*pair, snapshot(now, gpu()), now)

    def told() -> List[str]:
        return [f"{event.kind} {event.host}" for event in hub.ingest.take_events()]

    hub._tick(at)
    for name in ("one", "two"):
        send(name, at + 1)
    hub._tick(at + 1)
    assert told() == ["node_up one", "node_up two"]
    for second in (200, 201, 204):
        hub._tick(at + second)
        assert (status(hub, "one"), told()) == ("up", [])
    send("one", at + 205)
    for second in range(205, 212):
        hub._tick(at + second)
    assert (status(hub, "one"), status(hub, "two"), told()) == ("up", "down", ["node_down two"])


def test_of_two_that_steer_at_once_the_newer_targets_stay(lab: Lab) -> None:
    """The writer follows the hosts file while a beat of the hubs, which began before, is late."""
    hub, entered, go = lab.hub(), threading.Event(), threading.Event()

    def polled(pairs: Any) -> Any:
        if not entered.is_set():
            entered.set()
            assert go.wait(60)
        return pairs

    hub._share = SimpleNamespace(polled=polled)
    old, new = (((Target("a", address, 1), "id-a"),) for address in ("10.0.0.1", "10.0.0.2"))
    hub._pairs = old
    late = threading.Thread(target=hub._steer)
    late.start()
    assert entered.wait(60)
    hub._pairs = new
    newer = threading.Thread(target=hub._steer)
    newer.start()
    newer.join(0.5)  # it waits for the late one, or is done before it
    go.set()
    for thread in (late, newer):
        thread.join(60)
    assert hub.poller._wanted == new
    hub._share = None


def test_what_came_in_is_stored_within_an_interval(lab: Lab) -> None:
    assert lab.hub(interval=0.2)._writer.interval_seconds == 0.1
    assert lab.hub(interval=30.0)._writer.interval_seconds == 1.0


def test_retention_runs(lab: Lab) -> None:
    lab.write()
    hub = lab.hub()
    hub.prune(time.time())
    hub.write(time.time())
    hub.prune(time.time())
    assert hub.cluster().nodes == ()


def test_what_is_packed_is_in_the_rollups(lab: Lab, street: Street) -> None:
    fine = street.node(gpus=2)
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start()

    def measured() -> float:
        assert hub.store is not None
        return sum(row.sums.measured_seconds for row in usage.gpu_days(hub.store, "0", "9", by=()))

    until(lambda: hub.store is not None and measured() > 0)
    assert hub.store is not None
    assert hub.store.rows("SELECT DISTINCT digested FROM block") == [(1,)]
    assert rollups.read(hub.store, rollups.FLEET, rollups.HOST, 60, 0, time.time() + 60).times
    with hub.store.writing():  # as if it were from before there were rollups
        hub.store.change("UPDATE block SET digested = 0")
    hub.prune(time.time())
    assert hub.store.rows("SELECT count(*) FROM block WHERE digested = 0") == [(0,)]


def test_settings_that_cannot_be(lab: Lab) -> None:
    with pytest.raises(UsageError, match="not a time zone"):
        lab.hub(timezone="Mars/Olympus")
    lab.hubs.clear()
    with pytest.raises(UsageError) as error:
        lab.hub(database="mysql://x:SECRET@db/x")
    assert "SECRET" not in str(error.value)
    lab.hubs.clear()


def test_states_go_to_the_store_and_back_unchanged() -> None:
    saved = SavedState("m", "GPU-1", "idle", 5.0, True, 3.25, True, 77, (1.5, None, 0.0))
    assert from_row(to_row(saved)) == saved


@pytest.mark.parametrize("recent", [b"", b"{}", b"[1]", b"[1,0,[{}]]", b"\xff", b"[[],0,[]]", b"[" * 10_000])
def test_a_damaged_state_is_left_out(recent: bytes) -> None:
    assert from_row(GpuStateRow("m", "GPU-1", "busy", 5.0, recent=recent)) is None
