"""What a number of nodes needs of hubs, database and disk: measured here on a PostgreSQL of its own, then calculated. All assumptions are below.

Usage: scripts/scaling.py [--as-written]    With --as-written the figures of ``MEASURED`` are taken and nothing is measured.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "bench"), str(ROOT)]

FLEETS = (300, 1_000, 10_000, 100_000)
INTERVAL = 5.0
HUB_LOAD, LOCK_LOAD = 0.5, 0.5
"""Share of one core that a hub may use, and of the time that the database's one writer lock may be held: the rest is for peaks."""
LEAST_HUBS = 2
"""Of a database, so that one may die."""
DAYS = {"raw": 7, "thinned": 90, "minutes": 90, "quarters": 365}
TIER_BYTES = {"minutes": 46_000, "quarters": 3_600, "hours": 1_000}
"""Of a node of 8 GPUs and a day: 4 B a GPU-minute, and coarser tiers in proportion, with some more for the host."""
NODES_MEASURED, SNAPSHOTS = 40, 121
POLLING_MS = 0.25
"""CPU of asking and of reading the answer, without what is measured here: of ``bench/hub_poll.py``."""
MEASURED = {"poll_ms": 0.409, "peer_ms": 0.403, "insert_ms": 0.180, "pack_ms": 42.0, "pack_locked_ms": 29.1, "block_bytes": 6160.0, "journal_bytes": 241.0}


@contextmanager
def clocked(store: Any, spent: List[float]) -> Iterator[None]:
    """Adds up how long writers' transactions took meanwhile."""
    inner = store._transaction

    @contextmanager
    def timed() -> Iterator[None]:
        began = time.perf_counter()
        with inner():
            yield
        spent.append(time.perf_counter() - began)

    store._transaction = timed
    try:
        yield
    finally:
        del store._transaction


def measure() -> Dict[str, float]:
    """Per snapshot: what storing costs; per block of 120: what packing costs, and how long the one writer's lock is held. Noisy facts of ``bench/fleet.py``."""
    import fleet
    from tests.store.postgres import Server

    from gpuwatch.hub.ingest import Ingest
    from gpuwatch.hub.journal import ArrivalQueue
    from gpuwatch.model.cluster import Target
    from gpuwatch.query.latest import Latest
    from gpuwatch.store import machines, packing, snapshots
    from gpuwatch.store.database import open_store
    from gpuwatch.store.digests import Digester
    from gpuwatch.store.snapshots import JournalEntry

    server = Server()
    server.start()
    try:
        store = open_store(server.address())
        at = float(int(time.time()) - SNAPSHOTS * INTERVAL)
        nodes = [fleet.Node(number, at) for number in range(NODES_MEASURED)]
        ids = machines.ensure_all(store, {node.name: "a" for node in nodes})
        latest, spent, ingest_seconds = Latest(), [], 0.0
        ingest = Ingest(latest, ArrivalQueue())
        latest.set_targets([(Target(node.name, "127.0.0.1", 1), ids[node.name]) for node in nodes], at)
        with clocked(store, spent):
            for number in range(SNAPSHOTS):
                rows, docs = [], {}
                for node in nodes:
                    now = at + number * INTERVAL
                    node.advance(now)
                    body = node.frame(b'{"flat": "%s"}' % (node.shape_id.encode() if number else b""), now)
                    before = time.process_time()
                    ingest.accept(Target(node.name, "127.0.0.1", 1), ids[node.name], body, now, now)
                    ingest_seconds += time.process_time() - before
                for one in ingest.arrivals.take(10_000):
                    rows.append(JournalEntry(one.machine_id, round(one.taken_at * 1000), round(one.received_at * 1000), one.shape.id, one.texts))
                    docs[one.machine_id, one.shape.id] = one.shape.doc
                snapshots.append(store, rows, docs)
        count, inserting = NODES_MEASURED * SNAPSHOTS, sum(spent)
        peer_seconds = peer(store, ids)
        ((journal,),) = store.rows('SELECT avg(length("values")) FROM snapshot_journal')
        spent.clear()
        digester = Digester(shape_of=ingest.shape_of)
        began = time.process_time()
        with clocked(store, spent):
            for machine_id in ids.values():
                packing.pack_machine(store, machine_id, SNAPSHOTS - 1, digester=digester)
        packing_seconds = time.process_time() - began
        ((block,),) = store.rows("SELECT avg(size) FROM block")
        store.close()
        return {
            "poll_ms": POLLING_MS + 1000 * ingest_seconds / count,
            "peer_ms": 1000 * peer_seconds / len(nodes),
            "insert_ms": 1000 * inserting / count,
            "pack_ms": 1000 * packing_seconds / len(nodes),
            "pack_locked_ms": 1000 * sum(spent) / len(nodes),
            "block_bytes": float(block),
            "journal_bytes": float(journal),
        }
    finally:
        server.close()


def peer(store: Any, ids: Dict[str, str]) -> float:
    """CPU seconds to take in the newest snapshot of each machine as another hub stored it."""
    from gpuwatch.hub.ingest import Ingest
    from gpuwatch.hub.journal import ArrivalQueue
    from gpuwatch.model.cluster import Target
    from gpuwatch.query.latest import Latest
    from gpuwatch.store import packing, shapes
    from gpuwatch.wire.flat import Shape

    latest = Latest()
    ingest = Ingest(latest, ArrivalQueue())
    targets = {id: Target(name, "127.0.0.1", 1) for name, id in ids.items()}
    latest.set_targets([(target, id) for id, target in targets.items()], 0.0)
    spent = 0.0
    for place in (1, 0):  # the second one counts: its shape and plan are known, as of all but the first
        before = time.process_time()
        for id, target in targets.items():
            (row,) = store.rows(f"{packing.JOURNAL_ROWS} WHERE j.machine_id = ? ORDER BY j.taken_at_ms DESC LIMIT 1 OFFSET {place}", (id,))
            entry = packing.entry_of(*row)
            shape = ingest.shape_of(id) or Shape.parse(shapes.read(store, id, entry.shape_id))
            ingest.refresh(target, id, shape, entry, time.time() + 3600)
        spent = time.process_time() - before
    return spent


def _hubs(own: float, shown: float) -> int:
    """Hubs of one database, of which each has its part of ``own`` (seconds a second) and shows what the others read."""
    found = LEAST_HUBS
    while found < 100 and own / found + shown * (1 - 1 / found) > HUB_LOAD:
        found += 1
    return found if found < 100 else 10**6


def needs(nodes: int, cost: Dict[str, float]) -> Dict[str, str]:
    """What so many nodes of 8 GPUs and 20 processes need."""
    polls = nodes / INTERVAL
    blocks = polls / (SNAPSHOTS - 1)
    locked = (polls * cost["insert_ms"] + blocks * cost["pack_locked_ms"]) / 1000
    own = (polls * (cost["poll_ms"] + cost["insert_ms"]) + blocks * cost["pack_ms"]) / 1000
    shown = polls * cost["peer_ms"] / 1000
    least = max(1, -int(-locked // LOCK_LOAD))
    # with more hubs on a database each has fewer nodes to poll, but shows them all: the fewest hubs together
    hubs, databases = min((_hubs(own / count, shown / count) * count, count) for count in range(least, 100 * least))
    raw = 86_400 / INTERVAL * cost["block_bytes"] / (SNAPSHOTS - 1)
    thinned = raw * INTERVAL / 60
    disk = raw * DAYS["raw"] + thinned * (DAYS["thinned"] - DAYS["raw"]) + sum(TIER_BYTES[tier] * DAYS[tier] for tier in ("minutes", "quarters")) + 365 * TIER_BYTES["hours"]
    return {
        "polls a second": f"{polls:,.0f}",
        "rows written a second": f"{polls:,.0f}, {polls * cost['journal_bytes'] / 1e3:,.0f} kB",
        "writer's lock held": f"{100 * locked / databases:,.0f} % of the time",
        "databases": f"{databases:,}",
        "hubs of half a core": f"{hubs:,} ({hubs // databases} a database, {nodes / hubs:,.0f} nodes each)",
        "connections a database": f"{10 * (hubs // databases)}",
        "blocks a day": f"{nodes * 86_400 / INTERVAL / (SNAPSHOTS - 1) / 1e6:,.2f} M",
        "snapshots a day": f"{nodes * raw / 1e9:,.1f} GB",
        "rollups a day": f"{nodes * sum(TIER_BYTES.values()) / 1e9:,.2f} GB",
        "partitions kept": f"{14 + 1 + 14 + 14 + 8 + 1}",
        "disk after a year": f"{nodes * disk / 1e9:,.0f} GB a copy",
    }


def main() -> None:
    """Measure, calculate, print two tables of Markdown."""
    cost = dict(MEASURED)
    if "--as-written" not in sys.argv:
        cost.update(measure())
        print(f"measured on {os.cpu_count()} cores: " + ", ".join(f"{name} {value:,.3g}" for name, value in cost.items()), end="\n\n")
    found = {nodes: needs(nodes, cost) for nodes in FLEETS}
    print("| nodes |" + "".join(f" {nodes:,} |" for nodes in FLEETS))
    print("| --- |" + " --- |" * len(FLEETS))
    for name in found[FLEETS[0]]:
        print(f"| {name} |" + "".join(f" {found[nodes][name]} |" for nodes in FLEETS))


if __name__ == "__main__":
    main()
