"""A node that pushes, and one that is polled, through an outage of the hub: kill -9, a cut cable. Every sample is in the store afterwards, once.

What the node sampled is told by a second hub, the witness, which asks the node itself more often than it samples, and is never away. On a busy machine it
may come too late for a sample now and then: so what it saw must be there, and there may be more.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any, List, Tuple

from tests.e2e.processes import Lab, eventually, free_port, until_status
from tests.e2e.test_network import Network, PluggedLab, network, plugged  # noqa: F401  (fixtures)

from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store

SAMPLE_SECONDS = 0.4
OUTAGE_SECONDS = 6.0


def times(path: Path, name: str) -> List[int]:
    """ms of all stored samples of a host."""
    store = open_store(str(path), create=False, read_only=True)
    try:
        return [entry.taken_at_ms for entry in snapshots.read(store, machines.find(store, name).id)]
    finally:
        store.close()


def code_of(lab: Lab, database: str, *options: str) -> str:
    done = lab.run("enroll", "--database", database, "create", "--json", *options)
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)
    return str(made["code"])


def now_ms() -> int:
    return round(time.time() * 1000)


def settled(lab: Lab, name: str, since_ms: int, until_ms: float = float("inf")) -> Tuple[List[int], List[int]]:
    """What hub and witness have of a host from that time, once the hub has all that the witness has; else what they had last."""
    found: Tuple[List[int], List[int]] = ([], [])

    def whole() -> bool:
        nonlocal found
        kept, witnessed = (times(lab.folder / f"{each}.db", name) for each in ("hub", "witness"))
        last = min(max(kept, default=0), max(witnessed, default=0) - 500, until_ms)
        found = [at for at in kept if since_ms <= at <= last], [at for at in witnessed if since_ms <= at <= last]
        return set(found[0]) >= set(found[1])

    eventually(whole)
    return found


def check(kept: List[int], witnessed: List[int], least: int = int(OUTAGE_SECONDS / SAMPLE_SECONDS / 2)) -> None:
    assert sorted(set(witnessed) - set(kept)) == []
    assert len(kept) == len(set(kept))
    assert len(witnessed) > least
    assert max(b - a for a, b in zip(witnessed, witnessed[1:])) < 8 * SAMPLE_SECONDS * 1000, "the witness has a hole, so this proves nothing"


def stored_from(lab: Lab, name: str, since_ms: int, database: str = "hub") -> None:
    """Wait until a hub has stored a sample of that time."""
    assert eventually(lambda: max(times(lab.folder / f"{database}.db", name), default=0) >= since_ms), f"{database} stores nothing of {name}"


def test_a_node_pushes_through_a_hub_that_is_killed_and_its_own_end(lab: Lab) -> None:
    port = free_port()
    hub = lab.hub("", {"interval": 1.0, "port": port})
    settings = {"push": f"http://127.0.0.1:{port}", "enroll": code_of(lab, lab.database()), "interval": SAMPLE_SECONDS, "push_spool": 2**21}
    node = lab.simulated("p1", **settings)
    witness = lab.hub(f"p1={node.url().rpartition('/')[2]}\n", {"interval": 0.1}, name="witness")
    until_status(hub, "p1", "up")
    until_status(witness, "p1", "up")
    since_ms = now_ms() + 500
    stored_from(lab, "p1", since_ms)
    hub.kill()
    time.sleep(OUTAGE_SECONDS)
    assert eventually(lambda: list((lab.folder / "p1" / "spool").glob("*.segment"))), node.output
    again = lab.hub("", {"interval": 1.0, "port": port})
    up = until_status(again, "p1", "up")
    assert up["address"] == "push://127.0.0.1"
    stored_from(lab, "p1", now_ms())
    stored_from(lab, "p1", now_ms(), "witness")
    check(*settled(lab, "p1", since_ms))
    assert eventually(lambda: not list((lab.folder / "p1" / "spool").glob("*.segment")))

    # the hub is away, and the node is killed meanwhile: what it sampled before is delivered by the one that is started then
    again.kill()
    time.sleep(4.0)
    before_ms = max(times(lab.folder / "witness.db", "p1")) - 2000
    node.kill()
    lab.hub("", {"interval": 1.0, "port": port})
    lab.simulated("p1", **{**settings, "enroll": "used-already"})
    stored_from(lab, "p1", before_ms + 2000)
    check(*settled(lab, "p1", since_ms, before_ms))
    with sqlite3.connect(lab.folder / "hub.db") as connection:
        assert connection.execute("SELECT count(*) FROM enrolled").fetchone() == (1,)


def test_a_node_whose_key_was_ended_comes_back_with_a_new_code(lab: Lab) -> None:
    """Running, with the code in its file; then restarted. The same host, its history without a hole; the hub's connections for pushes take no codes."""
    hub = lab.hub("", {"interval": 1.0})
    codes, port = lab.folder / "code", free_port()
    codes.write_text(code_of(lab, lab.database()))
    codes.chmod(0o600)
    settings = {"push": hub.url(), "enroll_file": str(codes), "interval": SAMPLE_SECONDS, "port": port}
    node = lab.simulated("p1", **settings)
    witness = lab.hub(f"p1=127.0.0.1:{port}\n", {"interval": 0.1}, name="witness")
    until_status(hub, "p1", "up")
    until_status(witness, "p1", "up")
    since_ms = now_ms()
    stored_from(lab, "p1", since_ms)
    for again in (False, True):
        assert lab.run("enroll", "--database", lab.database(), "revoke", "p1").returncode == 0
        if again:
            assert node.stop() == 0
            codes.write_text(code_of(lab, lab.database(), "--for", "p1"))
            node = lab.simulated("p1", **settings)
        else:
            node.wait_for("answered 401: .* needs a code")
            codes.write_text(code_of(lab, lab.database(), "--for", "p1"))
        node.wait_for("knows this node as p1" if again else "(?s)knows this node as p1.*knows this node as p1")
        until_status(hub, "p1", "up")
    for database in ("hub", "witness"):
        stored_from(lab, "p1", now_ms(), database)
    kept, witnessed = settled(lab, "p1", since_ms)
    assert sorted(set(witnessed) - set(kept)) == []
    assert len(kept) == len(set(kept)) > 5
    assert "takes pushes alone" not in node.output


def test_a_hub_that_was_killed_fetches_what_it_missed_of_a_polled_node(lab: Lab) -> None:
    node = lab.simulated("q1", interval=SAMPLE_SECONDS)
    line = f"q1={node.url().rpartition('/')[2]}\n"
    hub, witness = lab.hub(line, {"interval": 0.15}), lab.hub(line, {"interval": 0.1}, name="witness")
    until_status(hub, "q1", "up")
    until_status(witness, "q1", "up")
    for database in ("hub", "witness"):
        stored_from(lab, "q1", now_ms(), database)
    hub.kill()
    killed_ms = now_ms()
    time.sleep(OUTAGE_SECONDS)
    started_ms = now_ms()
    again = lab.hub(line, {"interval": 0.15})
    until_status(again, "q1", "up")
    for database in ("hub", "witness"):
        stored_from(lab, "q1", now_ms(), database)
    check(*settled(lab, "q1", killed_ms, started_ms))


def test_a_cut_cable_leaves_no_hole(plugged: PluggedLab, network: Network) -> None:  # noqa: F811
    """``one`` pushes, ``two`` is polled; each has a witness of its own, which asks it on its own loopback."""
    plugged.hub("two=10.77.0.12\n", {"port": 7070, "interval": 0.3, "host": "0.0.0.0", "poll_deadline": 0.9, "stale_intervals": 8})
    code = code_of(plugged, plugged.database())
    plugged.simulated("one", host="127.0.0.1", port=7080, interval=SAMPLE_SECONDS, push="http://10.77.0.1:7070", enroll=code)
    plugged.simulated("two", host="0.0.0.0", port=7080, interval=SAMPLE_SECONDS)
    for host in ("one", "two"):
        plugged.hosts_file(f"witness-{host}").write_text(f"{host}=127.0.0.1:7080\n")
        settings = {"port": 7071, "interval": 0.1, "hosts": str(plugged.hosts_file(f"witness-{host}")), "database": plugged.database(f"witness-{host}")}
        config = plugged.toml(f"witness-{host}", "hub", settings)
        started = plugged.start(host, "hub", "--config", config, env={"GPUWATCH_PASSWORD": "x", "STATE_DIRECTORY": str(plugged.folder / f"witness-{host}")})
        started.url()

    def statuses() -> Any:
        return {name: one["status"] for name, one in plugged.nodes().items()}

    assert eventually(lambda: statuses() == {"one": "up", "two": "up"}), statuses()
    for host in ("one", "two"):
        for database in ("hub", f"witness-{host}"):
            stored_from(plugged, host, now_ms(), database)
    for host in ("one", "two"):
        network.cable(host, up=False)
    cut_ms = now_ms()
    time.sleep(OUTAGE_SECONDS)
    assert eventually(lambda: statuses() == {"one": "stale", "two": "stale"}), statuses()
    mended_ms = now_ms()
    for host in ("one", "two"):
        network.cable(host, up=True)
    assert eventually(lambda: statuses() == {"one": "up", "two": "up"}), statuses()
    for host in ("one", "two"):
        for database in ("hub", f"witness-{host}"):
            stored_from(plugged, host, now_ms(), database)
        (plugged.folder / "witness.db").unlink(missing_ok=True)
        (plugged.folder / "witness.db").symlink_to(plugged.folder / f"witness-{host}.db")
        for ending in ("-wal", "-shm"):
            (plugged.folder / f"witness.db{ending}").unlink(missing_ok=True)
            (plugged.folder / f"witness.db{ending}").symlink_to(plugged.folder / f"witness-{host}.db{ending}")
        check(*settled(plugged, host, cut_ms, mended_ms))


def test_who_has_no_code_does_not_get_in(lab: Lab) -> None:
    hub = lab.hub("")
    node = lab.simulated("p1", push=hub.url(), enroll="WRONG-WRONG-WRONG-WRONG")
    node.wait_for(r"answered 403: The code is wrong, used, or too old\. Make another one on the hub: gpuwatch enroll create")
    assert "WRONG-WRONG" not in node.output
    assert json.loads(lab.run("enroll", "--database", lab.database(), "list", "--json").stdout)["enrolled"] == []
