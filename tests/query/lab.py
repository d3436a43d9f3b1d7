"""A lab whose machines made up their readings, in a store: some packed and digested, some still in the journal. No test in here."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Dict, List, Optional
from zoneinfo import ZoneInfo

from tests.rules.machine import Machine

from gpuwatch.model.cluster import Target
from gpuwatch.model.series import Digest
from gpuwatch.query.latest import Display, Latest
from gpuwatch.rules.digest import Sample, digest
from gpuwatch.rules.limits import Limits
from gpuwatch.store import machines, packing, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.digests import Digester
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of

LIMITS = Limits()


class Lab:
    """Hosts by name. ``all``: every sample that was added."""

    def __init__(self, path: object, *names: str, zone: str = "Europe/Berlin") -> None:
        self.zone = ZoneInfo(zone)
        self.store = open_store(str(path))
        self.latest = Latest(LIMITS, Display(5.0, "Lab", zone))
        self.ids = machines.ensure_all(self.store, dict.fromkeys(names, "10.0.0.1"), now=0.0)
        tags = {name: ("eu", "big") if number else ("eu",) for number, name in enumerate(names)}
        self.latest.set_targets([(Target(name, "h", 7080, tags=tags[name]), self.ids[name]) for name in names], 0.0)
        self.all: Dict[str, List[Sample]] = {name: [] for name in names}

    def at(self, text: str) -> float:
        """Epoch seconds of a time in the lab's zone."""
        return datetime.fromisoformat(text).replace(tzinfo=self.zone).timestamp()

    def add(self, name: str, machine: Machine, count: int, *, packed: int = 0, block: int = 40, gaps: float = 0.03) -> None:
        """``count`` samples of the machine, of which at least the last one stays in the journal, and ``packed`` go into blocks."""
        found, _ = machine.samples(count, gaps)
        docs = {(self.ids[name], shape.id): shape.doc for shape, _ in machine.shapes.values()}
        ids = {id(places): shape.id for shape, places in machine.shapes.values()}
        entries = [
            JournalEntry(self.ids[name], round(one.at * 1000), round(one.at * 1000) + 50, ids[id(one.places)], texts_of(json.dumps(one.values).encode()))
            for one in found
        ]
        snapshots.append(self.store, entries, docs)
        self.all[name] += found
        shape = next(shape for shape, places in machine.shapes.values() if places is found[-1].places)
        self.latest.accept(name, shape, found[-1].values, received_at=found[-1].at)
        left = self.waiting(name) - packed
        while self.waiting(name) > left:
            packing.pack_machine(self.store, self.ids[name], min(block, self.waiting(name) - left), digester=Digester(LIMITS, self.zone))

    def waiting(self, name: str) -> int:
        """Its snapshots in the journal."""
        count: int = self.store.rows("SELECT count(*) FROM snapshot_journal WHERE machine_id = ?", (self.ids[name],))[0][0]
        return count

    @lru_cache(maxsize=None)
    def digest(self, name: str, count: Optional[int] = None) -> Digest:
        """The first ``count`` samples of a host, or all, digested at once."""
        samples = self.all[name]
        ends_at = samples[count].at if count is not None and count < len(samples) else None
        return digest(samples[:count], ends_at, limits=LIMITS, zone=self.zone)

    def end_at(self, name: str) -> float:
        """When its last sample was taken."""
        return self.all[name][-1].at
