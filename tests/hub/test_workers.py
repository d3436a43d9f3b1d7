"""Seed 001's workers at a hub's side: who is let in, from where, and that strangers cannot make it keep more than a bound."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Iterator

import pytest
from tests.captures.read import exchange
from tests.hub.test_service import Lab, node, parked, status, stored, until

from gpuwatch.config.settings import CompatSettings
from gpuwatch.hub import workers as module
from gpuwatch.hub.pace import Pace
from gpuwatch.hub.service import Hub
from gpuwatch.hub.workers import is_private
from gpuwatch.model.errors import StoreError, WireError
from gpuwatch.store import workers
from gpuwatch.wire.legacy.seed001 import CommandReport

BODY = exchange("001_metrics").request.body
PUBLIC = "203.0.113.9"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr("gpuwatch.hub.old_systems.TARGET_SECONDS", 60.0)
    made = Lab(tmp_path)
    made.write("")
    yield made
    made.stop()


def hub_of(lab: Lab, mode: str) -> Hub:
    return lab.start(compat=CompatSettings(workers=mode))


def send(hub: Hub, token: str, address: str = "10.0.0.7") -> bool:
    row = hub.workers.of_token(token)
    if row is None:
        return False
    hub.workers.accept(row, BODY, address, time.time())
    return True


def test_open_lets_in_private_addresses_at_first_sight(lab: Lab) -> None:
    hub = hub_of(lab, "open")
    token = hub.workers.register("w", "10.0.0.7", time.time())
    assert send(hub, token)
    assert status(hub, "w") == "up"
    until(lambda: stored(hub, "w") == 1)
    assert hub.workers.register("w", "10.0.0.7", time.time()) == token, "the same again"
    stranger = hub.workers.register("v", PUBLIC, time.time())
    assert send(hub, stranger, PUBLIC)
    assert [one.worker_id for one in workers.list_all(hub.store) if one.row.state == "waiting"] == ["v"]
    assert node(hub, "v") is None


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True), ("10.255.0.1", True), ("172.16.0.1", True), ("172.32.0.1", False), ("192.168.9.9", True), ("169.254.1.1", True), ("8.8.8.8", False),
        (PUBLIC, False), ("100.64.0.1", False), ("::1", True), ("fd00::1", True), ("fe80::1%eth0", True), ("2001:db8::1", False), ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False), ("", False), ("localhost", False), ("0.0.0.0", False),
    ],
)  # fmt: skip
def test_which_addresses_are_private(address: str, private: bool) -> None:
    assert is_private(address) is private


def test_approve_lets_nobody_in_by_itself(lab: Lab) -> None:
    hub = hub_of(lab, "approve")
    token = hub.workers.register("w", "127.0.0.1", time.time())
    assert send(hub, token)
    assert node(hub, "w") is None
    until(lambda: "1 worker waits for approval. Next: gpuwatch worker list" in hub.cluster().notices)
    row = hub.workers.of_token(token)
    assert row is not None
    assert hub.workers.take_command(row, time.time()) is None
    assert not hub.workers.report(row, CommandReport(1, "completed", ""), time.time())
    workers.approve(hub.store, "w")
    until(lambda: send(hub, token) and status(hub, "w") == "up")
    until(lambda: hub.cluster().notices == ())
    assert hub.workers.register("w", "127.0.0.1", time.time()) == token


def test_an_id_belongs_to_its_address(lab: Lab) -> None:
    hub = hub_of(lab, "open")
    own = hub.workers.register("w", "10.0.0.7", time.time())
    send(hub, own)
    thief = hub.workers.register("w", "10.0.0.8", time.time())
    assert thief != own
    assert send(hub, thief, "10.0.0.8")
    row = hub.workers.of_token(thief)
    assert row is not None
    assert row.state == "waiting"
    assert hub.workers.host_of("w") == "w"
    machine_id = node(hub, "w").machine_id
    moved = workers.approve(hub.store, row.name)
    assert (moved.address, moved.row.name) == ("10.0.0.8", "w")
    until(lambda: hub.workers.of_token(own) is None)
    assert send(hub, thief, "10.0.0.8")
    until(lambda: (found := node(hub, "w")) is not None and found.target.host == "10.0.0.8")
    assert node(hub, "w").machine_id == machine_id
    assert [one.worker_id for one in workers.list_all(hub.store)] == ["w"]


def test_no_name_of_the_hosts_file_is_taken(lab: Lab) -> None:
    lab.write("gpu1=127.0.0.1:1")
    hub = hub_of(lab, "open")
    hub.workers.register("gpu1", "10.0.0.7", time.time())
    assert hub.workers.host_of("gpu1") == "gpu1-2"
    assert hub.workers.host_of("nobody") == "nobody"


def test_what_strangers_make_the_hub_keep_is_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 4)
    monkeypatch.setattr(module, "MOST_WAITING_OF_ADDRESS", 3)
    hub = hub_of(lab, "approve")
    tokens = [hub.workers.register(f"w{place}", PUBLIC, time.time()) for place in range(6)]
    assert all(len(token) == 32 for token in tokens)
    assert len(set(tokens)) == 6
    assert len(workers.list_all(hub.store)) == 3
    assert [hub.workers.of_token(token) is not None for token in tokens] == [True] * 3 + [False] * 3
    assert [hub.workers.is_inert(token, PUBLIC) for token in tokens[3:]] == [True] * 3
    assert not hub.workers.is_inert(tokens[3], "10.0.0.1"), "there is room for this one: it is to register again"
    assert not hub.workers.is_inert("f" * 32, PUBLIC)
    assert not hub.workers.is_inert("", PUBLIC)
    hub.workers.register("x", "10.0.0.1", time.time())
    hub.workers.register("y", "10.0.0.1", time.time())
    assert len(workers.list_all(hub.store)) == 4
    assert hub.workers.register("w0", PUBLIC, time.time()) == tokens[0], "who waits is known"


def test_new_ones_come_slowly(lab: Lab) -> None:
    hub = hub_of(lab, "open")
    for place in range(module.NEW_A_MINUTE + 5):
        hub.workers.register(f"w{place}", "10.0.0.7", 1000.0)
    assert len(workers.list_all(hub.store)) == module.NEW_A_MINUTE
    hub.workers.register("late", "10.0.0.7", 1061.0)
    assert len(workers.list_all(hub.store)) == module.NEW_A_MINUTE + 1


def test_a_body_that_is_none_is_refused_and_without_a_database_nobody_is_known(lab: Lab) -> None:
    hub = hub_of(lab, "open")
    token = hub.workers.register("w", "10.0.0.7", time.time())
    row = hub.workers.of_token(token)
    assert row is not None
    with pytest.raises(WireError):
        hub.workers.accept(row, b"{}", "10.0.0.7", time.time())
    with parked(hub):
        store, hub.store = hub.store, None
        try:
            for act in (lambda: hub.workers.register("v", "10.0.0.7", time.time()), lambda: hub.workers.of_token(token)):
                with pytest.raises(StoreError):
                    act()
        finally:
            hub.store = store


def test_a_token_outlives_a_restart(lab: Lab) -> None:
    hub = hub_of(lab, "open")
    token = hub.workers.register("w", "10.0.0.7", time.time())
    lab.stop()
    again = hub_of(lab, "open")
    until(lambda: send(again, token) and status(again, "w") == "up")
    row = again.workers.of_token(token)
    assert row is not None
    assert row.name == "w"


def test_pace() -> None:
    pace = Pace(2, 60.0)
    assert [pace.allows("a", at) for at in (0.0, 1.0, 2.0, 59.9, 60.0, 60.5, 61.0)] == [True, True, False, False, True, False, True]
    assert pace.allows("b", 2.0)
    assert pace.allows("a", -5000.0), "the clock was set back"
