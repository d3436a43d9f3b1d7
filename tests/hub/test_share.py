"""Several hubs on one PostgreSQL, in one process: shares, what a peer's readings do, a hub cut off from the database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from tests.hub.nodes import Street
from tests.hub.test_service import Lab, status, until

from gpuwatch.hub.service import Hub
from gpuwatch.model.errors import StoreError
from gpuwatch.store import events, machines, snapshots
from gpuwatch.store.database import Store, open_store


@pytest.fixture
def street() -> Iterator[Street]:
    made = Street()
    yield made
    made.close()


@pytest.fixture
def lab(tmp_path: Path, postgres: Any, street: Street) -> Iterator[Lab]:
    made = Lab(tmp_path)
    made.write(*(f"node{number}=127.0.0.1:{street.node(gpus=1).port}" for number in range(8)))
    yield made
    made.stop()


@pytest.fixture
def url(postgres: Any) -> Iterator[str]:
    with postgres.new_url() as made:
        yield made


def shares(hub: Hub) -> Dict[str, int]:
    return {one.id: one.targets for one in hub.hubs() if one.alive}


def asked_by(hub: Hub) -> List[str]:
    return sorted(hub.poller._links)


def times(store: Store) -> Dict[str, List[int]]:
    return {one.name: [entry.taken_at_ms for entry in snapshots.read(store, one.id)] for one in machines.list_all(store)}


def test_two_hubs_divide_the_targets_and_both_show_all(lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.hub.share.LEAST_LEASE_SECONDS", 30.0)  # no hub counts as cut off because this machine stands still
    monkeypatch.setattr("gpuwatch.hub.share.BEATS_A_LEASE", 60)
    first = lab.start(database=url)
    until(lambda: len(asked_by(first)) == 8)
    second = lab.start(database=url)
    until(lambda: len(asked_by(first)) + len(asked_by(second)) == 8 and asked_by(second))
    assert not set(asked_by(first)) & set(asked_by(second))
    for hub in (first, second):
        until(lambda hub=hub: all(status(hub, f"node{number}") == "up" for number in range(8)))
        until(lambda hub=hub: sorted(shares(hub).values()) == sorted((len(asked_by(first)), len(asked_by(second)))))
    version = first.cluster().nodes[0].version
    until(lambda: first.cluster().nodes[0].version > version)  # a peer's reading, or its own, refreshes it
    assert [one.elected for one in first.hubs()].count(True) == 1
    gone, left = (first, second) if first.hubs() else (second, first)
    gone.stop()
    lab.hubs.remove(gone)
    until(lambda: len(asked_by(left)) == 8)
    before = {name: len(found) for name, found in times(left.store).items()}
    until(lambda: all(len(found) > before[name] + 1 for name, found in times(left.store).items()))
    found = times(left.store)
    assert all(len(set(one)) == len(one) for one in found.values())
    kinds = [event.kind for event in events.newest(left.store, 100)]
    assert kinds.count("node_up") <= 8
    assert "node_down" not in kinds


def test_a_hub_that_is_cut_off_shows_all_and_stores_nothing_that_another_took(lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.hub.service.REOPEN_SECONDS", 0.2)
    monkeypatch.setattr("gpuwatch.hub.share.LEAST_LEASE_SECONDS", 4.0)  # longer than this machine stands still
    monkeypatch.setattr("gpuwatch.hub.share.BEATS_A_LEASE", 8)
    first, second = lab.start(database=url), lab.start(database=url)
    until(lambda: len(asked_by(first)) + len(asked_by(second)) == 8 and asked_by(first) and asked_by(second))
    cut = Cut(first, monkeypatch)
    until(lambda: len(asked_by(second)) == 8)
    until(lambda: len(asked_by(first)) == 8)  # for its pages alone
    until(lambda: all(status(first, f"node{number}") == "up" for number in range(8)))
    until(lambda: any("nothing is kept" in notice for notice in first.cluster().notices))
    time.sleep(1.0)
    cut.end()
    until(lambda: 0 < len(asked_by(first)) < 8 and len(asked_by(first)) + len(asked_by(second)) == 8)
    before = {name: len(found) for name, found in times(second.store).items()}
    until(lambda: all(len(found) > before[name] + 2 for name, found in times(second.store).items()))
    found = times(second.store)
    assert all(len(set(one)) == len(one) for one in found.values())
    assert max(b - a for one in found.values() for a, b in zip(one, one[1:])) < 10_000
    until(lambda: first.cluster().notices == ())


class Cut:
    """One hub of this process does not get through to the database."""

    def __init__(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hub, self._share, self._on = hub, hub._share, True
        assert self._share is not None
        self._run = self._share._leases._run
        self._share._leases._run = self._beat
        self._open = open_store
        monkeypatch.setattr("gpuwatch.hub.service.open_store", self._store)

    def _beat(self, sql: str, values: Any) -> Any:
        if self._on:
            raise StoreError("The server does not answer.")
        return self._run(sql, values)

    def _store(self, url: str) -> Store:
        if self._on:
            raise StoreError("The server does not answer.")
        return self._open(url)

    def end(self) -> None:
        self._on = False
