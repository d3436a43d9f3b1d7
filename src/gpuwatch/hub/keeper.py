"""Writes what the hub gathers to the store, once a second or twice an interval: snapshots, states, events; packs what is due. The hub's one writer.

When the store refuses, that becomes a notice on every page, what waits is put back, and the live view goes on.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, Optional, Sequence, Set

from gpuwatch.hub.ingest import Ingest
from gpuwatch.hub.journal import Arrival
from gpuwatch.hub.restore import to_row
from gpuwatch.hub.share import Share
from gpuwatch.loops import Repeats
from gpuwatch.model.errors import StoreError
from gpuwatch.query.latest import Latest
from gpuwatch.store import enrolled, events, leases, machines, packing, snapshots, states
from gpuwatch.store.database import Store
from gpuwatch.store.digests import Digester
from gpuwatch.store.snapshots import JournalEntry

log = logging.getLogger(__name__)
MOST_AT_ONCE = 5000
BLOCKS_AT_ONCE = 20
RECOUNT_INTERVALS = 12
"""So often what waits is counted anew where several hubs store: what is pushed to one of them is packed by another."""
NOTICE = "database"


class Keeper:
    """The hub's hand on the store. ``write`` is called by one thread."""

    def __init__(
        self,
        store: Store,
        latest: Latest,
        ingest: Ingest,
        *,
        interval_seconds: float,
        per_block: int,
        digester: Digester,
        lost: Callable[[Set[str]], None],
        share: Optional[Share] = None,
        stored: Callable[[Mapping[str, int]], None] = lambda sequences: None,
    ) -> None:
        """``digester``: makes rollups, usage and intervals; ``lost``: called with machine ids that the store does not know any more.

        ``share``: what of all this is this hub's, where there are several; None = everything. ``stored``: told how far pushes are stored, by id.
        """
        self.store = store
        self._latest = latest
        self._ingest = ingest
        self._interval_seconds = interval_seconds
        self._per_block = per_block
        self._digester = digester
        self._lost = lost
        self._share = share
        self._stored = stored
        self._gains = 0
        self._states_due_at = 0.0
        self._recount_at = 0.0
        self._hostnames: Dict[str, str] = {}
        self._repeats = Repeats("store")

    def write(self, now: float) -> None:
        """One beat. Never raises StoreError: that becomes the notice."""
        if self._share is not None and not self._share.connected:
            return  # what waits may be another hub's by now
        try:
            self._snapshots()
            self._events()
            if not 0 < self._states_due_at - now <= self._interval_seconds:  # the clock may have been set back
                self._states(now)
                self._states_due_at = now + self._interval_seconds
            if self._share is not None and not 0 < self._recount_at - now <= RECOUNT_INTERVALS * self._interval_seconds:
                packing.recount(self.store)
                self._recount_at = now + RECOUNT_INTERVALS * self._interval_seconds
            snapshots.pack_due(self.store, now, BLOCKS_AT_ONCE, self._per_block, self._digester, self._share.packs if self._share else _all)
        except StoreError as error:
            self._latest.notice(NOTICE, f"{self._lossy(str(error))} The live view goes on; what comes in is not kept meanwhile.")
            self._repeats.failed(error)
        else:
            self._latest.notice(NOTICE, None)
            self._repeats.worked()

    def finish(self, now: float) -> None:
        """At the end: everything that waits."""
        self._states_due_at = 0.0
        while self._ingest.arrivals:
            waiting = len(self._ingest.arrivals)
            self.write(now)
            if len(self._ingest.arrivals) >= waiting:
                return
        self.write(now)

    def _snapshots(self) -> None:
        arrivals = self._ingest.arrivals.take(MOST_AT_ONCE)
        if not arrivals and (self._share is None or not self._share.leaving):
            return
        try:
            unknown = self._append(arrivals) if self._share is None else self._append_of(self._share, arrivals)
        except BaseException:
            self._ingest.arrivals.put_back(arrivals)
            raise
        if unknown:
            self._lost(unknown)

    def _append_of(self, share: Share, arrivals: Sequence[Arrival]) -> Set[str]:
        """What is this hub's to store; then machines that other hubs should have are given up, in the same transaction."""
        if share.gains != self._gains:
            self._gains = share.gains
            self.store.memory.epoch = None
        leaving = frozenset() if self._ingest.arrivals else share.leaving
        with self.store.writing():
            polled = share.mine(self.store, [one for one in arrivals if not one.sent], lambda one: (one.machine_id, one.received_at))
            unknown = self._append([*polled, *(one for one in arrivals if one.sent)])
            leases.give_up(self.store, share.id, leaving)
        if leaving:
            share.given_up(leaving)
        return unknown

    def _append(self, arrivals: Sequence[Arrival]) -> Set[str]:
        """One transaction. A snapshot that cannot be kept for its own fault is left out, for it must not block all others for ever."""
        try:
            if not any(one.mark for one in arrivals):
                return snapshots.append(self.store, [_entry(one) for one in arrivals], _Docs(arrivals))
            return self._append_pushed(arrivals)
        except (ValueError, OverflowError) as error:
            if len(arrivals) == 1:
                log.error("a snapshot of machine %s cannot be kept: %s", arrivals[0].machine_id, error)
                return set()
            return set().union(*(self._append([one]) for one in arrivals))

    def _append_pushed(self, arrivals: Sequence[Arrival]) -> Set[str]:
        """What was pushed is stored once: how far a node's pushes are stored is written in the same transaction, and asked there."""
        marks: Dict[str, int] = {}
        for one in arrivals:
            if one.mark is not None:
                marks[one.mark.id] = max(marks.get(one.mark.id, 0), one.mark.sequence)
        with self.store.writing():
            before = enrolled.pushed(self.store, list(marks))
            new = [one for one in arrivals if one.texts and (one.mark is None or one.mark.sequence > before.get(one.mark.id, 0))]
            unknown = snapshots.append(self.store, [_entry(one) for one in new], _Docs(new))
            enrolled.set_pushed(self.store, marks)
            self.store.when_committed(lambda: self._stored(marks))
        return unknown

    def _events(self) -> None:
        waiting = self._ingest.take_events()
        if not waiting:
            return
        for event in waiting:
            log.info("%s: %s: %s", event.host, event.kind, event.message)
        try:
            with self.store.writing():
                share = self._share
                events.add(self.store, waiting if share is None else share.mine(self.store, waiting, lambda one: (one.machine_id, math.inf)))
        except BaseException:
            self._ingest.put_back_events(waiting)
            raise

    def _states(self, now: float) -> None:
        rows = [row for row in self._latest.tracker.take_changed(now) if self._share is None or self._share.owns(row.machine_id)]
        try:
            if rows:
                states.save(self.store, [to_row(row) for row in rows])
            self._save_hostnames()
        except BaseException:
            self._latest.tracker.put_back(rows)
            raise

    def _save_hostnames(self) -> None:
        names = {one.machine_id: one.plan.hostname for one in self._latest.all()[1] if one.plan is not None and one.plan.hostname}
        new = {machine_id: name for machine_id, name in names.items() if self._hostnames.get(machine_id) != name}
        if new:
            machines.set_hostnames(self.store, new)
            self._hostnames.update(new)

    def _lossy(self, text: str) -> str:
        dropped = self._ingest.arrivals.dropped
        return f"{text} {dropped} snapshots were lost so far." if dropped else text


def _all(machine_id: str) -> bool:
    return True


def _entry(one: Arrival) -> JournalEntry:
    return JournalEntry(one.machine_id, round(one.taken_at * 1000), round(one.received_at * 1000), one.shape.id, one.texts, one.varying)


class _Docs(Mapping[Any, Mapping[str, Any]]):
    """Shapes' documents by (machine id, shape id), each made when it is asked for: most are stored already."""

    def __init__(self, arrivals: Iterable[Arrival]) -> None:
        self._shapes = {(one.machine_id, one.shape.id): one.shape for one in arrivals}

    def __getitem__(self, key: Any) -> Mapping[str, Any]:
        return self._shapes[key].doc

    def __iter__(self) -> Iterator[Any]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __contains__(self, key: object) -> bool:
        return key in self._shapes
