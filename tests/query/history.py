"""A store with snapshots of machines at chosen times, and what the hub knows beside it; no test in here."""

from __future__ import annotations

import json
from typing import Any, Optional, Sequence, Tuple

from tests.hub.readings import flat, snapshot

from gpuwatch.model.cluster import ClusterNow, Target
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.query.latest import Display, Latest
from gpuwatch.query.past import Pasts, cluster_at
from gpuwatch.store import machines, packing, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.digests import Digester
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of

START = 1_790_000_000
"""Mon 21 Sep 2026 14:13:20 UTC."""

Sample = Tuple[float, Sequence[GpuReading]]


class History:
    """Machines by name; times are seconds after START."""

    def __init__(self, path: str, *names: str) -> None:
        self.store = open_store(path)
        self.latest = Latest(None, Display(5.0, "Lab", "UTC"))
        self.ids = machines.ensure_all(self.store, {name: f"10.0.0.{number}" for number, name in enumerate(names, 1)}, now=START - 60)
        self.watch(*names)

    def watch(self, *names: str) -> None:
        """These are the hosts file's now."""
        self.latest.set_targets([(Target(name, "h1", 7080), self.ids[name]) for name in names], START)

    def now(self, name: str, *gpus: GpuReading) -> None:
        """The newest reading, in memory only."""
        shape, values = flat(snapshot(START + 10**6, *gpus))
        self.latest.accept(name, shape, values, received_at=START + 10**6)

    def add(self, name: str, *samples: Sample, gpus_missing: bool = False, **facts: Any) -> None:
        """Snapshots into the journal; each came 50 ms after it was taken."""
        machine_id, entries, docs = self.ids[name], [], {}
        for seconds, gpus in samples:
            snap = snapshot(START + seconds, *gpus, **facts)
            shape, values = flat(snap if not gpus_missing else _without_gpus(snap))
            at_ms = round((START + seconds) * 1000)
            entries.append(JournalEntry(machine_id, at_ms, at_ms + 50, shape.id, texts_of(json.dumps(values).encode())))
            docs[machine_id, shape.id] = shape.doc
        assert snapshots.append(self.store, entries, docs) == set()

    def pack(self, digester: Optional[Digester] = None) -> None:
        """All but the newest of each machine go into blocks; with a digester, what follows from them is stored too."""
        for machine_id in self.ids.values():
            packing.pack_machine(self.store, machine_id, 1000, digester=digester)

    def at(self, at: float, audience: str = "stranger", *, now: float = START + 40 * 86400, pasts: Optional[Pasts] = None, **only: str) -> ClusterNow:
        """The cluster as it was."""
        return cluster_at(self.store, self.latest, at, now, audience, pasts=pasts, **only)


def _without_gpus(snap: Any) -> Any:
    from dataclasses import replace

    return replace(snap, gpus=())
