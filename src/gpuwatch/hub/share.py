"""This hub's share of the targets, where several hubs share a PostgreSQL database: beats, claims, what the other hubs read, and who may store what.

``run_once`` is called some times an interval by one thread; it waits for the database. ``watch`` never does: when no beat came through for the
lease time, the hub counts as cut off. It then polls all targets, so that its pages go on, and keeps what it reads of its own share: that is
stored when it is back, unless another hub took the machine over. Nothing of a machine is ever stored by who does not have its lease.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple, TypeVar

from gpuwatch.hub.ingest import Ingest
from gpuwatch.loops import Repeats
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import StoreError, WireError
from gpuwatch.model.hubs import HubShare
from gpuwatch.store import leases, snapshots
from gpuwatch.store.blocks import Entry
from gpuwatch.store.database import Store
from gpuwatch.store.leases import HubFacts, Leases, Shares
from gpuwatch.wire.flat import Shape

log = logging.getLogger(__name__)
LEASE_INTERVALS = 0.7
LEAST_LEASE_SECONDS = 2.0
"""A lease holds so long after a beat, and others look with each beat: so a dead hub's targets are polled again within an interval. As its last
stored readings may be two intervals old when it dies (taken just after a poll, read with the next one, not yet written), no gap is longer than three."""
BEATS_A_LEASE = 4
LOOKS_AN_INTERVAL = 2
"""So often what the other hubs read is looked at."""

Pair = Tuple[Target, str]
T = TypeVar("T")


class Share:
    """Which machines this hub polls, stores and packs. ``hubs`` and what asks for a bool may be called on any thread."""

    def __init__(
        self, url: str, me: HubFacts, ingest: Ingest, *, interval_seconds: float, steer: Callable[[], None], cut_off: Callable[[], None]
    ) -> None:
        """``steer`` is called when ``polled`` would answer otherwise, ``cut_off`` when the database does not answer any more."""
        lease_seconds = max(LEASE_INTERVALS * interval_seconds, LEAST_LEASE_SECONDS)
        self.beat_seconds = lease_seconds / BEATS_A_LEASE
        self.hubs: Tuple[HubShare, ...] = ()
        self.elected = False
        self.connected = False
        """This hub's last beat is not older than the lease time."""
        self.leaving: FrozenSet[str] = frozenset()
        """Machines that another hub should have: to be given up when all that was read of them is stored."""
        self.gains = 0
        """Counts up when machines came that another hub may have packed meanwhile."""
        self._leases = Leases(url, me, lease_seconds=lease_seconds)
        self._ingest = ingest
        self._steer = steer
        self._tell_cut_off = cut_off
        self._look_seconds = interval_seconds / LOOKS_AN_INTERVAL
        self._pairs: Optional[Sequence[Pair]] = None
        self._hash = ""
        self._store: Optional[Store] = None
        self._since: Dict[str, float] = {}
        self._others: FrozenSet[str] = frozenset()
        self._seen_ms: Dict[str, int] = {}
        self._beat_at = time.monotonic()
        self._look_at = 0.0
        self._repeats = Repeats("hubs")

    @property
    def id(self) -> str:
        """This hub's id among the hubs."""
        return self._leases.me.id

    def set_targets(self, pairs: Sequence[Pair], store: Store) -> None:
        """The targets with the machine ids that ``store`` gave them."""
        self._hash = hashlib.sha256(" ".join(sorted(machine_id for _, machine_id in pairs)).encode()).hexdigest()[:16]
        self._store = store
        self._pairs = tuple(pairs)

    def polled(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Those of ``pairs`` that this hub asks; all while it is cut off."""
        return [pair for pair in pairs if pair[1] in self._since] if self.connected else pairs

    def owns(self, machine_id: str) -> bool:
        """This hub has the machine's lease, as far as it knows."""
        return machine_id in self._since

    def packs(self, machine_id: str) -> bool:
        """This hub packs the machine's snapshots: its own ones, and if it is elected those that no hub polls."""
        return machine_id in self._since or (self.elected and machine_id not in self._others)

    def owned_since(self, machine_id: str) -> float:
        """Since when, epoch seconds; infinity for those of other hubs."""
        return self._since.get(machine_id, float("inf"))

    def mine(self, store: Store, things: Sequence[T], machine_of: Callable[[T], Tuple[str, float]]) -> List[T]:
        """Inside ``writing()``: those of ``things`` that this hub may store; ``machine_of`` tells the machine and when it came."""
        held = leases.of_hub(store, self.id)
        told = ((thing, *machine_of(thing)) for thing in things)
        return [thing for thing, machine_id, at in told if machine_id in held and at >= self.owned_since(machine_id)]

    def given_up(self, machine_ids: FrozenSet[str]) -> None:
        """They were given up in the store."""
        self._since = {id: since for id, since in self._since.items() if id not in machine_ids}
        self.leaving = self.leaving - machine_ids
        self._tell()

    def run_once(self, now: float) -> None:
        """One beat. Never raises StoreError: pages and notices tell of the database's trouble."""
        pairs, store = self._pairs, self._store
        if pairs is None or store is None:
            return
        try:
            shares = self._leases.beat([machine_id for _, machine_id in pairs], self._hash, now)
            gained = [id for id in shares.held if id not in self._since]
            if gained or not 0 < self._look_at - now <= self._look_seconds:
                self._look(store, pairs)
                self._look_at = now + self._look_seconds
        except StoreError as error:
            self._repeats.failed(error)
            return
        self._repeats.worked()
        self._take(shares, gained)

    def watch(self) -> None:
        """Called once a second: is the hub cut off from the database?"""
        if self.connected and time.monotonic() - self._beat_at > self._leases.lease_seconds:
            self.connected = self.elected = False
            log.error("The database %s did not take this hub's beats: other hubs may take its targets over.", self._leases.label)
            self._leases.give_up()
            self._tell_cut_off()
            self._steer()

    def leave(self) -> None:
        """At the end: let the others have all, at once. Never raises StoreError."""
        try:
            if self._pairs is not None:
                self._leases.leave()
        except StoreError as error:
            log.warning("this hub's targets are taken over when its lease is over: %s", error)
        self._leases.close()

    def _take(self, shares: Shares, gained: Sequence[str]) -> None:
        """From now on it is so."""
        now = time.time()
        old, was_connected = self._since, self.connected
        self._since = {id: old.get(id, now) for id in shares.held}
        self._others, self.elected, self.hubs, self.leaving = shares.others, shares.elected, shares.hubs, shares.unwanted
        self._beat_at, self.connected = time.monotonic(), True
        if gained:
            self.gains += 1
        if not was_connected or old.keys() != self._since.keys():
            self._tell()

    def _tell(self) -> None:
        log.info("this hub polls %d of %d targets", len(self._since), len(self._pairs or ()))
        self._steer()

    def _look(self, store: Store, pairs: Sequence[Pair]) -> None:
        """What the other hubs read since the last look, into the newest state."""
        # what is sent may come to any hub, whichever has the lease
        targets = {machine_id: target for target, machine_id in pairs if machine_id not in self._since or target.sends}
        self._seen_ms = {id: self._seen_ms.get(id, 0) for id in targets}
        for machine_id, entry in self._leases.newest(self._seen_ms).items():
            self._seen_ms[machine_id] = entry.received_at_ms
            try:
                shape = self._shape(store, machine_id, entry)
                self._ingest.refresh(targets[machine_id], machine_id, shape, entry, time.time())
            except (StoreError, WireError) as error:
                log.warning("the last snapshot of %s is not shown: %s", targets[machine_id].name, error)

    def _shape(self, store: Store, machine_id: str, entry: Entry) -> Shape:
        known = self._ingest.shape_of(machine_id)
        return known if known is not None and known.id == entry.shape_id else Shape.parse(snapshots.shape(store, machine_id, entry.shape_id))
