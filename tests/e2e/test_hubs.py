"""Two hubs, one PostgreSQL, simulated nodes, real processes: both show all; one is killed; gaps and duplicates are counted in the store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.processes import Lab, Running, address, eventually, get, get_json, nodes_of

from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store

INTERVAL = 2.0
NODES = 6


@pytest.fixture
def url(postgres: Any) -> Iterator[str]:
    with postgres.new_url() as made:
        yield made


def shares(hub: Running) -> list[int]:
    return sorted(one["targets"] for one in get_json(f"{hub.url()}/api/v1/hubs")["hubs"] if one["alive"])


def all_up(hub: Running) -> bool:
    nodes = nodes_of(hub).values()
    return len(nodes) == NODES and all(node["status"] == "up" for node in nodes)


def stored(url: str) -> dict[str, list[int]]:
    """By node: when each of its snapshots was taken, ms."""
    store = open_store(url)
    try:
        return {one.name: [entry.taken_at_ms for entry in snapshots.read(store, one.id)] for one in machines.list_all(store)}
    finally:
        store.close()


def test_a_hub_that_is_killed_is_followed_by_the_other(lab: Lab, url: str) -> None:
    nodes = [lab.simulated(f"n{number}", f"2xh100:mixed:{number}", interval=1.0) for number in range(NODES)]
    hosts = "".join(f"n{number}={address(node)}\n" for number, node in enumerate(nodes))
    settings = {"database": url, "interval": INTERVAL, "pack_snapshots": 4}
    first = lab.hub(hosts, settings, name="first")
    assert eventually(lambda: all_up(first)), first.output
    second = lab.hub(hosts, settings, name="second")
    assert eventually(lambda: len(shares(first)) == 2 and sum(shares(first)) == NODES and shares(first) == shares(second)), second.output
    assert eventually(lambda: all_up(first) and all_up(second))
    # a lease of 2 s is short: a hub that stood still for so long counts as dead until it says something again
    table = eventually(lambda: (found := get(f"{second.url()}/hubs?term=true")[1]).count("alive") == 2 and found)
    assert table, get(f"{second.url()}/hubs?term=true")[1]
    assert table.count("this one") == 1
    assert get(f"{second.url()}/hubs")[2]["content-type"].startswith("text/html")

    time.sleep(2 * INTERVAL)
    before = stored(url)
    first.kill()
    killed_at = time.time()
    assert eventually(lambda: all(len(times) >= len(before[name]) + 6 for name, times in stored(url).items())), second.output
    assert all_up(second)
    assert eventually(lambda: shares(second) == [NODES]), shares(second)
    assert second.stop() == 0
    for name, times in stored(url).items():
        assert len(set(times)) == len(times), name
        after = [at / 1000 for at in times if at / 1000 > killed_at - 3 * INTERVAL]
        # three intervals, and what a busy machine adds
        assert max(later - earlier for earlier, later in zip(after, after[1:])) < 3 * INTERVAL + 5, (name, json.dumps(after))
