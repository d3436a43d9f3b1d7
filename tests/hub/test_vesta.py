"""Seed 004's senders at a hub's side: who is who, bounds, the store away, several hubs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from tests.captures.read import exchange
from tests.hub.test_service import Lab, node, parked, status, stored, until

from gpuwatch.config.settings import CompatSettings
from gpuwatch.hub import vesta as module
from gpuwatch.hub.vesta import TooMany
from gpuwatch.model.errors import GpuwatchError, StoreError, WireError
from gpuwatch.store import enrolled

BODY = exchange("004_update").request.body
OTHER = exchange("004v030_update").request.body
COMPAT = CompatSettings(vesta_token="t0ken")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr("gpuwatch.hub.old_systems.TARGET_SECONDS", 60.0)
    made = Lab(tmp_path)
    made.write("")
    yield made
    made.stop()


def test_the_token_is_compared_as_a_whole(lab: Lab) -> None:
    on, off = lab.hub(compat=COMPAT).vesta, lab.hub().vesta
    assert on.is_on
    assert [on.allows(token) for token in ("t0ken", "", "t0ke", "t0ken ", "\ud800", "T0KEN")] == [True, False, False, False, False, False]
    assert not off.is_on
    assert not off.allows("")


def test_a_host_is_shown_and_stored_with_its_first_post(lab: Lab) -> None:
    hub = lab.start(compat=COMPAT)
    id, name = hub.vesta.register("vm", "10.0.0.7", time.time())
    assert hub.vesta.update(id, BODY, "10.0.0.7", time.time())
    assert status(hub, "vm") == "up"
    shown = node(hub, name)
    assert shown is not None
    assert (shown.target.scheme, shown.target.host, shown.snapshot and shown.snapshot.gpus[0].utilization_percent) == ("vesta", "10.0.0.7", 37)
    until(lambda: stored(hub, "vm") == 1)
    assert hub.vesta.update(id, BODY, "10.0.0.8", time.time())
    until(lambda: (found := node(hub, "vm")) is not None and found.target.host == "10.0.0.8")


def test_only_ids_of_senders_are_known(lab: Lab) -> None:
    hub = lab.start(compat=COMPAT)
    assert hub.store is not None
    pushing = enrolled.add(hub.store, kind="push", name="gpu1", address="h", now=time.time(), secret="00" * 32)
    hub.enrolled()
    until(lambda: hub.roster.get(pushing.id))
    for id in (pushing.id, "None", "", "deadbeef", "x" * 5000, "'; DROP TABLE enrolled", "0" * 64):
        assert not hub.vesta.update(id, BODY, "10.0.0.7", time.time()), id


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": 1}'])
def test_a_body_that_is_none_changes_nothing(lab: Lab, body: bytes) -> None:
    hub = lab.start(compat=COMPAT)
    id, name = hub.vesta.register("vm", "10.0.0.7", time.time())
    with pytest.raises(WireError):
        hub.vesta.update(id, body, "10.0.0.7", time.time())
    until(lambda: status(hub, name) == "unseen")


def test_no_name_of_the_hosts_file_or_of_another_is_taken(lab: Lab) -> None:
    lab.write("gpu1=127.0.0.1:1")
    hub = lab.start(compat=COMPAT)
    now = time.time()
    assert hub.vesta.register("gpu1", "10.0.0.1", now)[1] == "gpu1-2"
    assert [hub.vesta.register("a b", f"10.0.0.{place}", now)[1] for place in range(3)] == ["a-b", "a-b-2", "a-b-3"]
    assert hub.vesta.register("a b", "10.0.0.1", now)[1] == "a-b-2", "the same name from the same address is the same host"
    assert hub.vesta.register("a-b", "10.0.0.1", now)[1] == "a-b-4", "another name"
    assert len(hub.vesta.register("x" * 5000, "10.0.0.1", now)[1]) <= 60


def test_of_several_of_one_name_the_one_heard_longest_ago_has_lost_its_id(lab: Lab) -> None:
    hub = lab.start(compat=COMPAT)
    now = time.time()
    first, name = hub.vesta.register("vm", "10.0.0.7", now)
    assert hub.vesta.update(first, BODY, "10.0.0.7", now)
    assert hub.vesta.register("vm", "10.0.0.7", now)[0] == first
    assert not hub.vesta.update(first, OTHER, "10.0.0.7", now + 1), "these are other GPUs"
    second, other = hub.vesta.register("vm", "10.0.0.7", now + 1)
    assert (name, other, second != first) == ("vm", "vm-2", True)
    assert hub.vesta.update(second, OTHER, "10.0.0.7", now + 2)
    assert hub.vesta.update(first, BODY, "10.0.0.7", now + 3)
    assert hub.vesta.register("vm", "10.0.0.7", now + 4)[0] == second, "its last post is the older one"


def test_new_cards_after_a_while_are_the_same_host(lab: Lab) -> None:
    hub = lab.start(compat=COMPAT)
    now = time.time() - 1000
    id, _ = hub.vesta.register("vm", "10.0.0.7", now)
    assert hub.vesta.update(id, BODY, "10.0.0.7", now)
    assert not hub.vesta.update(id, OTHER, "10.0.0.7", now + 60)
    assert hub.vesta.update(id, OTHER, "10.0.0.7", now + 200)
    assert hub.vesta.update(id, b"{}", "10.0.0.7", now + 201), "a machine without GPUs tells nobody apart"


def test_strangers_with_the_token_are_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEW_A_MINUTE", 3)
    monkeypatch.setattr(module, "MOST_HOSTS", 5)
    hub = lab.start(compat=COMPAT)
    for place in range(3):
        hub.vesta.register(f"h{place}", "10.0.0.1", 1000.0)
    with pytest.raises(TooMany):
        hub.vesta.register("h3", "10.0.0.1", 1001.0)
    assert hub.vesta.register("h2", "10.0.0.1", 1001.0)[1] == "h2", "who is known is not counted"
    hub.vesta.register("h3", "10.0.0.2", 1001.0)
    hub.vesta.register("h4", "10.0.0.1", 1061.0)
    with pytest.raises(TooMany):
        hub.vesta.register("h5", "10.0.0.3", 1200.0)


def test_without_a_database_known_senders_go_on_and_new_ones_are_told(lab: Lab) -> None:
    hub = lab.start(compat=COMPAT)
    id, _ = hub.vesta.register("vm", "10.0.0.7", time.time())
    assert hub.vesta.update(id, BODY, "10.0.0.7", time.time())
    with parked(hub):
        store, hub.store = hub.store, None
        try:
            assert hub.vesta.update(id, BODY, "10.0.0.7", time.time())
            with pytest.raises(StoreError):
                hub.vesta.register("other", "10.0.0.7", time.time())
            with pytest.raises(StoreError):
                hub.vesta.update("deadbeef", BODY, "10.0.0.7", time.time())
        finally:
            hub.store = store


def test_one_that_is_not_a_target_in_time_is_told_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.hub.old_systems.TARGET_SECONDS", 0.2)
    hub = lab.hub(compat=COMPAT)
    hub.write(time.time())  # the writer does not run: nobody makes it a target
    id, _ = hub.vesta.register("vm", "10.0.0.7", time.time())
    with pytest.raises(GpuwatchError, match="vm is no target yet"):
        hub.vesta.update(id, BODY, "10.0.0.7", time.time())


def test_a_damaged_row_is_that_of_its_name(lab: Lab) -> None:
    hub = lab.start(compat=COMPAT)
    assert hub.store is not None
    for detail in ("", "[]", '{"asked": '):
        enrolled.add(hub.store, kind="vesta", name="vm", address="10.0.0.7", now=time.time(), detail=detail)
    hub.enrolled()
    until(lambda: len(hub.roster.all()) == 3)
    assert hub.vesta.register("vm", "10.0.0.7", time.time())[1] == "vm"


def test_hubs_of_one_database_know_each_others_senders_and_count_gpus_alike(lab: Lab, postgres: Any) -> None:
    with postgres.new_url() as url:
        first, second = lab.start(database=url, compat=COMPAT), lab.start(database=url, compat=COMPAT)
        id, _ = first.vesta.register("vm", "10.0.0.7", time.time())
        assert second.vesta.update(id, BODY, "10.0.0.7", time.time()), "a moment after"
        for hub in (first, second):
            until(lambda hub=hub: status(hub, "vm") == "up")
        until(lambda: stored(first, "vm") == 1)
        uuids = [gpu.uuid for gpu in node(first, "vm").snapshot.gpus]
        assert second.gpu_numbers.of([uuids[1]]) == {uuids[1]: 0}
        assert first.gpu_numbers.of(uuids) == second.gpu_numbers.of(uuids) == {uuids[1]: 0, uuids[0]: 1}
        lab.stop()


def test_what_a_sender_is_known_by_stands_in_its_row(lab: Lab) -> None:
    hub = lab.start(compat=COMPAT)
    id, _ = hub.vesta.register('a "b"\n', "10.0.0.7", time.time())
    assert hub.store is not None
    row = enrolled.find(hub.store, id)
    assert row is not None
    assert (row.kind, row.secret, json.loads(row.detail)) == ("vesta", "", {"asked": 'a "b"\n'})
