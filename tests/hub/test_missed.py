"""What a hub missed of polled nodes: asked afterwards, stored once, never in the way; over real sockets, with the real node's app."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from tests.hub.readings import busy, flat, snapshot
from tests.hub.test_service import Lab, node, status, stored, until

from gpuwatch.hub.ingest import Ingest
from gpuwatch.hub.journal import ArrivalQueue
from gpuwatch.hub.missed import Missed
from gpuwatch.hub.service import Hub
from gpuwatch.model.cluster import Target
from gpuwatch.node.app import NodeApp
from gpuwatch.node.newest import Newest, Sample
from gpuwatch.node.ring import Ring
from gpuwatch.query.latest import Latest
from gpuwatch.serve.http import Server
from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store


class Machine:
    """A node's app on a real server; its samples are given by the test."""

    def __init__(self, with_ring: bool = True) -> None:
        self.newest, self.ring = Newest(), Ring()
        self.newest.listen(self.ring.add)
        self.server = Server(NodeApp(self.newest, "x", ring=self.ring if with_ring else None), "127.0.0.1", 0, 2, False)
        self.taken: List[float] = []
        threading.Thread(target=self.server.run, daemon=True).start()

    def sample(self, at: float) -> None:
        shape, values = flat(snapshot(at, busy(0, len(self.taken) % 100), interval_seconds=0.2))
        self.taken.append(at)
        self.newest.accept(Sample(shape, json.dumps(values, separators=(",", ":")).encode()))

    def line(self) -> str:
        return f"m=127.0.0.1:{self.server.port}"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.server.close()


def times(hub: Hub) -> List[float]:
    assert hub.store is not None
    return [entry.taken_at_ms / 1000 for entry in snapshots.read(hub.store, machines.find(hub.store, "m").id)]


def test_after_an_outage_of_the_hub_nothing_is_missing_or_twice(lab: Lab, machine: Machine) -> None:
    lab.write(machine.line())
    began = time.time() - 110
    machine.sample(began)
    hub = lab.start()
    until(lambda: stored(hub, "m") == 1)
    lab.stop()
    for number in range(1, 200):  # three pieces and more; the hub is away
        machine.sample(began + number * 0.5)
    again = lab.start()
    until(lambda: stored(again, "m") >= 200)
    machine.sample(time.time())
    until(lambda: stored(again, "m") == 201)
    assert times(again) == [pytest.approx(at, abs=0.002) for at in machine.taken]
    assert status(again, "m") in ("up", "stale")


def test_the_newest_state_is_not_touched_by_what_is_late(lab: Lab, machine: Machine) -> None:
    lab.write(machine.line())
    machine.sample(time.time() - 60)
    hub = lab.start()
    until(lambda: stored(hub, "m") == 1)
    for number in range(50):
        machine.sample(time.time() - 50 + number)
    until(lambda: stored(hub, "m") == 51)
    shown = node(hub, "m")
    assert shown is not None
    assert shown.snapshot is not None
    assert shown.snapshot.taken_at == pytest.approx(machine.taken[-1], abs=0.002)


def test_a_node_that_does_not_know_the_question_is_left_alone(lab: Lab) -> None:
    machine = Machine(with_ring=False)
    try:
        lab.write(machine.line())
        machine.sample(time.time() - 60)
        hub = lab.start()
        until(lambda: stored(hub, "m") == 1)
        machine.sample(time.time())
        until(lambda: stored(hub, "m") == 2)
        until(lambda: hub.ingest.missed.__self__ is not None and len(hub.ingest.missed.__self__) == 0)
        assert status(hub, "m") in ("up", "stale")
    finally:
        machine.server.close()


class AheadByTenMinutes:
    """The node's clock."""

    @staticmethod
    def time() -> float:
        return time.time() + 600


def test_a_node_whose_clock_is_wrong_gives_what_belongs_there(lab: Lab, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.node.app.time", AheadByTenMinutes)
    lab.write(machine.line())
    began = time.time() - 40
    machine.sample(600 + began)
    hub = lab.start()
    until(lambda: stored(hub, "m") == 1)
    machine.sample(600 + began + 20)
    machine.sample(600 + began + 39)
    until(lambda: stored(hub, "m") == 3)
    # the clock is 600 s wrong; how well that can be measured depends on how long the hub waited for the answer
    assert times(hub) == [pytest.approx(began + passed, abs=5.0) for passed in (0, 20, 39)]


def test_a_gap_that_grows_while_it_is_filled_brings_nothing_twice(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.hub.missed.PIECE", 4)
    store, latest = open_store(str(tmp_path / "hub.db")), Latest()
    id = machines.ensure(store, "m", "127.0.0.1")
    ingest = Ingest(latest, ArrivalQueue())
    target = Target("m", "127.0.0.1", machine.server.port)
    latest.set_targets([(target, id)], time.time())
    missed = Missed(ingest, lambda target: "x", lambda: store, threading.Event())
    begin = time.time() - 60
    for number in range(10):
        machine.sample(begin + number)
    keep_late, kept = ingest.keep_late, []

    def keep(*arguments: Any) -> Any:
        kept.append(arguments)
        if len(kept) == 6:
            missed.note(target, id, begin + 20, begin + 30)
        return keep_late(*arguments)

    monkeypatch.setattr(ingest, "keep_late", keep)
    missed.note(target, id, begin - 1, begin + 10)
    missed.run_once(time.time())
    assert len(missed) == 0
    assert len(kept) > 10
    assert [round(one.taken_at - begin, 3) for one in ingest.arrivals.take(100)] == list(range(10))
    store.close()
