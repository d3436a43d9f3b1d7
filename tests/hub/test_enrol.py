"""Machines that send by themselves, in a whole hub: they appear, grow old, survive a restart, never replace a host of ours."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Iterator, List, Optional

import pytest
from tests.hub.nodes import Street
from tests.hub.readings import busy, snapshot
from tests.hub.test_service import Lab, node, status, stored, until

from gpuwatch.config.hosts import is_name
from gpuwatch.hub.enrol import Roster, clean_name
from gpuwatch.hub.service import Hub
from gpuwatch.model.cluster import Target
from gpuwatch.store import enrolled, machines
from gpuwatch.store.enrolled import Enrolled


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


def enrol(hub: Hub, name: str, kind: str = "vesta", **more: str) -> Enrolled:
    assert hub.store is not None
    made = enrolled.add(hub.store, kind=kind, name=name, address="10.9.9.9", now=time.time(), **more)
    hub.enrolled()
    return made


def send(hub: Hub, name: str) -> None:
    pair = hub.pair(name)
    assert pair is not None
    now = time.time()
    hub.ingest.accept_snapshot(*pair, snapshot(now, busy(0)), now, sent=True)


def test_one_that_sends_is_shown_stored_and_old_after_a_while(lab: Lab) -> None:
    lab.write("")
    hub = lab.start(down_after=1.5, stale_intervals=2.0)  # of the 4 s that it says itself
    enrol(hub, "v1")
    until(lambda: hub.pair("v1"))
    first = node(hub, "v1")
    assert first is not None
    assert (first.status, first.error, first.target.address) == ("unseen", "Nothing came yet from vesta://10.9.9.9.", "vesta://10.9.9.9")
    send(hub, "v1")
    assert status(hub, "v1") == "up"
    until(lambda: stored(hub, "v1") == 1)
    until(lambda: status(hub, "v1") == "down")
    assert "sends no new reading" in (getattr(node(hub, "v1"), "error", None) or "")
    lab.stop()
    again = lab.start()
    until(lambda: again.pair("v1"))
    assert status(again, "v1") in ("stale", "down")
    assert [view.state.was for view in getattr(node(again, "v1"), "gpus", ())] == ["busy"]
    send(again, "v1")
    until(lambda: stored(again, "v1") == 2)


def test_who_waits_is_no_target_until_approved_and_none_when_removed(lab: Lab) -> None:
    lab.write("")
    hub = lab.start()
    made = enrol(hub, "w1", "worker", state=enrolled.WAITING)
    until(lambda: hub.roster.get(made.id))
    assert status(hub, "w1") == "absent"
    assert hub.store is not None
    enrolled.change(hub.store, made.id, state=enrolled.APPROVED)
    until(lambda: status(hub, "w1") == "unseen")
    enrolled.remove(hub.store, made.id)  # as another process would
    until(lambda: status(hub, "w1") == "absent")
    assert hub.pair("w1") is None


def test_a_polled_host_is_never_replaced_by_a_foreign_one(lab: Lab, street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.hub.hosts.LOOK_SECONDS", 0.1)
    fine = street.node()
    lab.write("")
    hub = lab.start()
    made = enrol(hub, "fine")
    until(lambda: hub.pair("fine"))
    send(hub, "fine")
    until(lambda: stored(hub, "fine") == 1)
    lab.write(f"fine=127.0.0.1:{fine.port}")
    until(lambda: [(one.name, one.target.scheme) for one in hub.cluster().nodes] == [("fine", "http"), ("fine-2", "vesta")])
    until(lambda: status(hub, "fine") == "up")
    assert hub.pair("fine-2")
    assert hub.roster.get(made.id) is not None
    assert stored(hub, "fine-2") == 1  # its past went with it
    assert hub.store is not None
    assert machines.find(hub.store, "fine").id != machines.find(hub.store, "fine-2").id


def test_a_node_that_is_polled_and_pushes_is_one_node(lab: Lab, street: Street) -> None:
    fine = street.node()
    lab.write(f"fine=127.0.0.1:{fine.port}")
    hub = lab.start()
    until(lambda: status(hub, "fine") == "up")
    enrol(hub, "fine", "push", may_take={"fine"})
    until(lambda: hub.roster.all())
    assert [(one.name, one.target.scheme) for one in hub.cluster().nodes] == [("fine", "http")]


def test_heard_at_a_new_address_it_is_noted_at_once(lab: Lab) -> None:
    lab.write("")
    hub = lab.start()
    made = enrol(hub, "v1")
    until(lambda: hub.roster.get(made.id))
    hub.roster.seen(made.id, "10.1.1.1", time.time())
    assert hub.store is not None
    store = hub.store
    until(lambda: enrolled.require(store, made.id).last_address == "10.1.1.1")


class Slow:
    """The roster's store, in the middle of whose answer something else happens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: List[Enrolled]) -> None:
        self.rows, self.meanwhile, self.epoch = rows, lambda: None, 0
        monkeypatch.setattr(enrolled, "epoch", lambda store: str(self.epoch))
        monkeypatch.setattr(enrolled, "list_all", lambda store: self.answer())
        monkeypatch.setattr(enrolled, "touch", lambda store, rows: self.meanwhile())

    def answer(self) -> List[Enrolled]:
        rows = list(self.rows)
        self.meanwhile()
        return rows


def row(id: str, name: str = "", seen_at: Optional[float] = None) -> Enrolled:
    return Enrolled(id, "vesta", name or id, "", "approved", "", "h", "h", 0.0, seen_at)


def test_who_is_learned_while_the_store_answers_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    roster, store = Roster(), Slow(monkeypatch, [row("1")])
    store.meanwhile = lambda: roster.learn(row("2"))
    assert roster.refresh(store, [], 1000.0)
    assert [one.id for one in roster.all()] == ["1", "2"]
    store.meanwhile, store.rows = lambda: None, [row("1")]
    assert roster.refresh(store, [], 1001.0), "what is known of the second may be old: it is asked about"
    assert [one.id for one in roster.all()] == ["1"], "it was removed meanwhile, and nothing else changed"
    assert not roster.refresh(store, [], 1002.0)


def test_one_that_was_heard_is_so_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    roster, store, heard = Roster(), Slow(monkeypatch, [row("1", seen_at=10.0)]), []
    roster.refresh(store, [], 1000.0)
    roster.seen("1", "h", 990.0)
    store.meanwhile = lambda: heard.append(roster.heard_at("1"))
    roster.refresh(store, [], 1001.0)
    assert heard == [990.0]
    assert roster.heard_at("1") == 990.0


def test_many_threads_change_the_roster_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who is learned is lost, nor breaks the writer's round."""
    roster, store, errors = Roster(), Slow(monkeypatch, []), []
    switch = sys.getswitchinterval()

    def learn(thread: int) -> None:
        try:
            for number in range(200):
                one = row(f"{thread}-{number}")
                store.rows.append(one)
                store.epoch += 1
                roster.learn(one)
                roster.seen(one.id, f"10.0.0.{number}", 1.0)
                assert roster.get(one.id) is not None
        except BaseException as error:
            errors.append(error)

    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=learn, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            roster.refresh(store, [], 1000.0)
    finally:
        sys.setswitchinterval(switch)
    roster.refresh(store, [], 1000.0)
    assert errors == []
    assert len(roster.all()) == 800
    assert {one.last_address for one in roster.all()} <= {"h", *(f"10.0.0.{number}" for number in range(200))}


@pytest.mark.parametrize("name", ["a b", "1gpu", "machines", 'x"y', "é" * 300, "", "///", "a=b", "\u202e", "import:x", "..", "a\nb"])
def test_any_name_becomes_one_that_is_harmless(name: str) -> None:
    made = clean_name(name)
    assert is_name(made)
    assert 0 < len(made) <= 60


def test_the_hosts_file_comes_first() -> None:
    roster = Roster()
    roster.learn(Enrolled("1", "push", "a", "", "approved", "", "h", "h", 0.0, None))
    roster.learn(Enrolled("2", "push", "b", "", "waiting", "", "h", "h", 0.0, None))
    assert [one.name for one in roster.targets([Target("z", "z", 1)])] == ["z", "a"]
