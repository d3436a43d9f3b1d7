"""Leases on a real PostgreSQL, each hub with its own connection: claims, compare-and-set, whose clock, hubs that come, go and are cut off."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.e2e.processes import eventually
from tests.store.postgres import Server
from tests.store.samples import docs_for, journal_entry

from gpuwatch.model.errors import StoreError
from gpuwatch.store import leases, machines, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.leases import HubFacts, Leases

LEASE = 60.0
"""Long: none ends because a machine is slow. Where one is to end, ``pass_time`` moves it into the past, as the database's clock would."""
TARGETS = [f"{number:032x}" for number in range(60)]


@pytest.fixture
def url(postgres, server_store):
    return server_store._url


@pytest.fixture
def hub(url):
    made = []

    def new(name, lease_seconds=LEASE):
        one = Leases(url, HubFacts(name, name, f"{name}:7070", "1.0"), lease_seconds=lease_seconds)
        made.append(one)
        return one

    yield new
    for one in made:
        one.close()


def beat(hub, targets=TARGETS, targets_hash="h", now=None):
    return hub.beat(targets, targets_hash, time.time() if now is None else now)


def until(condition):
    assert eventually(condition)


def pass_time(store, seconds):
    """For the leases, which the database's clock measures."""
    with store.writing():
        store.change("UPDATE hub SET seen_ms = seen_ms - ?", (round(seconds * 1000),))


def hand_over(store, hub, shares):
    with store.writing():
        leases.give_up(store, hub.me.id, shares.unwanted)


def test_a_hub_alone_has_everything_at_its_first_beat(hub):
    shares = beat(hub("a"))
    assert shares.held == set(TARGETS)
    assert not shares.unwanted
    assert not shares.others
    assert shares.elected
    (one,) = shares.hubs
    assert (one.id, one.name, one.address, one.version, one.targets) == ("a", "a", "a:7070", "1.0", 60)
    assert one.alive
    assert one.elected
    assert one.is_this
    assert abs(one.clock_seconds) < 5


def test_a_second_hub_gets_its_share_from_the_first(hub, server_store):
    a, b = hub("a"), hub("b")
    beat(a)
    assert beat(b).held == set()
    before = beat(a)
    assert before.held == set(TARGETS)
    assert 15 <= len(before.unwanted) <= 45
    hand_over(server_store, a, before)
    of_b, of_a = beat(b), beat(a)
    assert of_b.held == before.unwanted
    assert of_a.held == set(TARGETS) - of_b.held
    assert of_a.others == of_b.held
    assert of_b.others == of_a.held
    assert not of_a.unwanted
    assert not of_b.unwanted
    assert of_a.elected
    assert not of_b.elected
    assert {one.id: one.targets for one in beat(a).hubs} == {"a": len(of_a.held), "b": len(of_b.held)}


def test_of_hubs_that_claim_at_once_one_gets_each_machine(hub):
    hubs = [hub(f"hub{number}") for number in range(4)]
    gate, found = threading.Barrier(4), {}

    def run(one):
        gate.wait()
        found[one.me.id] = beat(one, targets_hash=one.me.id).held  # each thinks that it is alone with its hosts file

    threads = [threading.Thread(target=run, args=(one,)) for one in hubs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(id for held in found.values() for id in held) == sorted(TARGETS)


def test_a_dead_hubs_targets_are_taken_when_its_lease_is_over(hub, server_store):
    a, b = hub("a"), hub("b")
    beat(a)
    died_at = time.monotonic()
    beat(a)
    with server_store.writing():
        server_store.change("UPDATE hub SET lease_ms = 1000 WHERE id = 'a'")
    until(lambda: beat(b).held == set(TARGETS))
    assert time.monotonic() - died_at > 0.9
    assert beat(b).elected
    assert {one.id: one.alive for one in beat(b).hubs} == {"a": False, "b": True}
    assert beat(a).held == set()


def test_beats_hold_the_leases(hub, server_store):
    a, b = hub("a"), hub("b")
    beat(a), beat(b)
    for _ in range(4):
        pass_time(server_store, 0.6 * LEASE)
        assert beat(a).held == set(TARGETS)
        assert beat(b).held == set()
    pass_time(server_store, 1.1 * LEASE)
    assert beat(b).held == set(TARGETS)


def test_a_hub_that_is_stopped_in_the_middle_of_a_beat_gives_nothing_up(hub, server_store):
    a = hub("a")
    beat(a)
    with server_store.writing():  # its beat is always too long ago when it looks
        server_store.change("UPDATE hub SET lease_ms = -1")
    shares = beat(a)
    assert shares.held == set(TARGETS)
    assert not shares.unwanted


def test_a_hub_that_leaves_is_followed_at_once(hub):
    a, b = hub("a"), hub("b")
    beat(a)
    a.leave()
    assert beat(b).held == set(TARGETS)
    assert [one.id for one in beat(b).hubs] == ["b"]


def test_only_the_clock_of_the_database_counts(hub, server_store):
    a, b = hub("a"), hub("b")
    beat(a, now=1.0)
    assert beat(b, now=4e9).held == set()
    clocks = {one.id: one.clock_seconds for one in beat(b, now=4e9).hubs}
    assert clocks["a"] < -1e9
    assert clocks["b"] > 1e9
    with server_store.writing():  # as if the database's clock had been set back by an hour
        server_store.change("UPDATE hub SET seen_ms = seen_ms + 3600000 WHERE id = 'a'")
    assert beat(b).held == set(TARGETS)


def test_hubs_of_different_hosts_files_leave_each_other_what_they_have(hub):
    a, b = hub("a"), hub("b")
    assert beat(a, TARGETS[:40], "first").held == set(TARGETS[:40])
    assert beat(b, TARGETS[20:], "second").held == set(TARGETS[40:])
    assert not beat(a, TARGETS[:40], "first").unwanted
    assert beat(a, TARGETS[:30], "third").unwanted == set(TARGETS[30:40])


def test_when_all_were_away_each_gets_its_own_back(hub, server_store, monkeypatch):
    a, b = hub("a"), hub("b")
    beat(a), beat(b)
    hand_over(server_store, a, beat(a))
    of_b = beat(b).held
    of_a = beat(a).held
    assert of_a
    assert of_b
    pass_time(server_store, 1.5 * LEASE)  # the database was away
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 1.5 * LEASE))
    assert beat(b).held == of_b  # it is the first to be back, and does not take those of a
    assert beat(a).held == of_a


def test_what_may_be_stored_is_decided_by_the_lease_and_not_by_the_time(hub, server_store):
    a, b = hub("a"), hub("b")
    beat(a)
    pass_time(server_store, 1.3 * LEASE)
    with server_store.writing():
        assert leases.of_hub(server_store, "a") >= set(TARGETS)
    assert beat(b).held == set(TARGETS)
    with server_store.writing():
        assert leases.of_hub(server_store, "a") == set()


def test_the_newest_snapshots_of_other_hubs(hub, server_store):
    first, second = (machines.ensure(server_store, name, "a") for name in ("gpu01", "gpu02"))
    entries = [journal_entry(machine, number) for machine in (first, second) for number in range(3)]
    snapshots.append(server_store, entries, {**docs_for(first), **docs_for(second)})
    newest = {entry.machine_id: entry for entry in entries}
    found = hub("a").newest({first: 0, second: newest[second].received_at_ms, "f" * 32: 0})
    assert set(found) == {first}
    assert (found[first].taken_at_ms, found[first].shape_id) == (newest[first].taken_at_ms, newest[first].shape_id)
    assert hub("a").newest({}) == {}


def test_a_server_that_does_not_answer_is_given_up_in_time(hub, postgres, server_store):
    """The server holds the table: the statement waits, and no time of the network's ends it."""
    a = hub("a", 12.0)
    beat(a)
    began_at = time.monotonic()
    with server_store.writing():
        server_store.change("LOCK TABLE hub IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError):
            beat(a)
    assert time.monotonic() - began_at < 12
    assert beat(a).held == set(TARGETS)


@contextmanager
def frozen(server):
    """All processes of a server are stopped meanwhile; the first one first: then none is made or reaped before the others are."""
    first = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    pids = [first]
    try:
        os.kill(first, signal.SIGSTOP)
        assert eventually(lambda: Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        pids += [int(pid) for task in Path(f"/proc/{first}/task").glob("*/children") for pid in task.read_text().split()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_frozen_server_is_noticed():
    """Its system takes what is sent and answers nothing, as behind a stopped proxy."""
    server = Server()
    try:
        server.start()
        one = Leases(server.address(), HubFacts("a", "a", "a:1", "1"), lease_seconds=12.0)
        store = open_store(server.address())
        beat(one)
        with frozen(server):
            began_at = time.monotonic()
            with pytest.raises(StoreError, match="does not answer"):
                beat(one)
            assert time.monotonic() - began_at < 12
        until(lambda: beat(one).held == set(TARGETS))
        one.close()
        store.close()
    finally:
        server.close()


def test_old_hubs_and_leases_of_forgotten_machines_are_tidied(hub, server_store):
    machine = machines.ensure(server_store, "gpu01", "a")
    a = hub("a")
    beat(a, [*TARGETS, machine])
    with server_store.writing():
        server_store.change("INSERT INTO hub SELECT 'old', name, address, version, targets, started_ms, seen_ms - 200000000, lease_ms, 0 FROM hub")
    leases.tidy(server_store)
    assert {id for (id,) in server_store.rows("SELECT id FROM hub")} == {"a"}
    assert {id for (id,) in server_store.rows("SELECT machine_id FROM lease")} == {machine, leases.ELECTED}
    assert [one.id for one in beat(a, [machine]).hubs] == ["a"]
