"""Which hub polls and packs which machine, where several share a PostgreSQL database: heartbeats and claims, with the database's clock alone.

A lease names a hub and holds as long as that hub's last beat is not older than the lease time. So a beat is one row written, however many
machines the hub has. Claims are compare-and-set, each a statement of its own on a connection of its own: no claim waits for a writer of
readings. What a hub may store is decided where it is stored, in the same transaction: ``of_hub``.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.model.hubs import HubShare
from gpuwatch.rules.shares import owners_of
from gpuwatch.store.address import label_of
from gpuwatch.store.blocks import Entry
from gpuwatch.store.database import Rows, Store
from gpuwatch.store.packing import entry_of

if TYPE_CHECKING:
    from gpuwatch.store.postgres_link import Connection

ELECTED = "elected"
"""What stands in the place of a machine's id in the lease of the hub that does for all what one must do."""
KNOWN_MS = 86_400_000
"""So long a hub that is gone is still told of."""
_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
_ALIVE = f"abs(hub.seen_ms - {_NOW}) <= hub.lease_ms"
"""A database's clock that is set back must not keep a dead hub alive."""
_BEAT = f"""INSERT INTO hub (id, name, address, version, targets, started_ms, seen_ms, lease_ms, clock_ms)
    VALUES (?, ?, ?, ?, ?, {_NOW}, {_NOW}, ?, CAST(? AS BIGINT) - {_NOW})
    ON CONFLICT (id) DO UPDATE SET targets = excluded.targets, seen_ms = excluded.seen_ms, clock_ms = excluded.clock_ms"""
_HUBS = f"SELECT id, name, address, version, targets, started_ms, seen_ms, clock_ms, {_ALIVE} FROM hub WHERE seen_ms > {_NOW} - {KNOWN_MS} ORDER BY name, id"
_DIGEST = "SELECT count(*), coalesce(sum(hashtext(machine_id || ' ' || hub_id)), 0) FROM lease"
_CLAIM = f"""INSERT INTO lease (machine_id, hub_id) SELECT id, ? FROM unnest(CAST(? AS TEXT[])) AS wish (id) ORDER BY id
    ON CONFLICT (machine_id) DO UPDATE SET hub_id = excluded.hub_id
    WHERE lease.hub_id = '' OR (? AND NOT EXISTS (SELECT 1 FROM hub WHERE hub.id = lease.hub_id AND {_ALIVE})) RETURNING machine_id"""
_NEWEST = """SELECT wish.id, j.taken_at_ms, j.received_at_ms, j.shape_id, j."values", shape.example
    FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[])) AS wish (id, after_ms)
    CROSS JOIN LATERAL (SELECT * FROM snapshot_journal WHERE machine_id = wish.id ORDER BY taken_at_ms DESC LIMIT 1) AS j
    LEFT JOIN shape ON shape.machine_id = wish.id AND shape.id = j.shape_id WHERE j.received_at_ms > wish.after_ms"""


@dataclass(frozen=True)
class HubFacts:
    """A hub as it tells the others of itself. ``id`` is new at each start: nobody takes it for the one before."""

    id: str
    name: str
    address: str
    version: str


class Shares(NamedTuple):
    """How the targets are divided, after a beat."""

    held: FrozenSet[str]
    """Machines whose lease this hub has."""
    unwanted: FrozenSet[str]
    """Those of them that another hub should poll, which takes them when they are given up; or that are no targets any more."""
    others: FrozenSet[str]
    """Machines that other hubs have leases of, which are alive."""
    elected: bool
    hubs: Tuple[HubShare, ...]


@dataclass
class _Known:
    """What was read of the table of leases, and its digest then."""

    digest: Any = None
    hub_of: Dict[str, str] = field(default_factory=dict)


class Leases:
    """One hub's place among the hubs of a PostgreSQL database. Each method is one or a few short statements; safe on any thread."""

    def __init__(self, url: str, me: HubFacts, *, lease_seconds: float) -> None:
        """``lease_seconds``: so long after its last beat this hub's leases hold."""
        self.me = me
        self.lease_seconds = lease_seconds
        self.label = label_of(url)
        self._url = url
        self._connection: Optional[Connection] = None
        self._lock = threading.Lock()
        self._known = _Known()
        self._beat_at = -float("inf")
        self._patient_until = -float("inf")
        self._began = False

    def beat(self, targets: Iterable[str], targets_hash: str, now: float) -> Shares:
        """Say that this hub is there, and claim those ``targets`` that are free and its own by the hash of all hubs.

        Hubs with the same ``targets_hash`` divide their targets; of those with another one each takes what is free. Raises StoreError.
        """
        with self._lock:
            self._note_beat()
            self._run(_BEAT, (*vars(self.me).values(), targets_hash, round(self.lease_seconds * 1000), round(now * 1000)))
            hubs = self._run(_HUBS, ())
            self._read_leases()
            alive = {row[0] for row in hubs if row[8] or row[0] == self.me.id}  # however long it was stopped since its beat: it would give up all
            peers = sorted(row[0] for row in hubs if row[0] in alive and row[4] == targets_hash)
            owners = owners_of(targets, peers)
            self._claim([ELECTED, *(id for id, hub in owners.items() if hub == self.me.id)], alive)
            return self._shares(owners, alive, hubs)

    def newest(self, after_ms: Mapping[str, int]) -> Dict[str, Entry]:
        """The newest waiting snapshot of each of these machines that was received after so many ms. Raises StoreError."""
        with self._lock:
            rows = self._run(_NEWEST, (list(after_ms), list(after_ms.values())))
        found = {}
        for machine_id, *row in rows:
            try:
                found[machine_id] = entry_of(*row)
            except StoreError:  # a damaged one; the next is better
                continue
        return found

    def leave(self) -> None:
        """At the end: give up all leases, at once instead of by time, and be forgotten. Raises StoreError."""
        with self._lock:
            self._run("UPDATE lease SET hub_id = '' WHERE hub_id = ?", (self.me.id,))
            self._run("DELETE FROM hub WHERE id = ?", (self.me.id,))

    def give_up(self) -> None:
        """End what another thread waits for here, with an error."""
        connection = self._connection
        if connection is not None:
            connection.give_up()

    def close(self) -> None:
        """End the connection. The next call opens another one."""
        with self._lock:
            self._drop()

    def _note_beat(self) -> None:
        """After this hub was away, or the database for all, the others may not have been back yet: they get time to say that they are there."""
        at = time.monotonic()
        if self._began and at - self._beat_at > self.lease_seconds:
            self._patient_until = at + self.lease_seconds
        self._began = True

    def _read_leases(self) -> None:
        (digest,) = self._run(_DIGEST, ())
        if digest != self._known.digest:
            self._known = _Known(digest, dict(self._run("SELECT machine_id, hub_id FROM lease", ())))
        self._beat_at = time.monotonic()

    def _claim(self, wishes: Sequence[str], alive: Set[str]) -> None:
        known = self._known.hub_of
        takes_over = time.monotonic() >= self._patient_until
        free = [id for id in wishes if not known.get(id) or (takes_over and known[id] not in alive)]
        if free:
            for (machine_id,) in self._run(_CLAIM, (self.me.id, free, takes_over)):
                known[machine_id] = self.me.id
            self._known.digest = None

    def _shares(self, owners: Mapping[str, str], alive: Set[str], hubs: Rows) -> Shares:
        hub_of = {id: hub for id, hub in self._known.hub_of.items() if id != ELECTED}
        held = frozenset(id for id, hub in hub_of.items() if hub == self.me.id)
        elected = self._known.hub_of.get(ELECTED)
        counts: Dict[str, int] = {}
        for hub in hub_of.values():
            counts[hub] = counts.get(hub, 0) + 1
        return Shares(
            held,
            frozenset(id for id in held if owners.get(id) != self.me.id),
            frozenset(id for id, hub in hub_of.items() if hub in alive and hub != self.me.id),
            elected == self.me.id,
            tuple(_told(row, counts, elected or "", self.me.id) for row in hubs),
        )

    def _run(self, sql: str, values: Sequence[Any]) -> List[Tuple[Any, ...]]:
        import psycopg

        from gpuwatch.store.postgres_link import connect, translate
        from gpuwatch.store.postgres_words import in_words

        try:
            if self._connection is None:
                patience = max(1.0, self.lease_seconds / 3)
                self._connection = connect(self._url, role="hub leases", busy_seconds=patience, patience_seconds=patience)
            return self._connection.fetch(translate(sql), values)
        except psycopg.Error as error:
            self._drop()
            raise in_words(error, self.label) from None

    def _drop(self) -> None:
        self._known = _Known()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _told(row: Tuple[Any, ...], counts: Mapping[str, int], elected: str, me: str) -> HubShare:
    id, name, address, version, _, started_ms, seen_ms, clock_ms, alive = row
    return HubShare(
        id, name, address, version, started_ms / 1000, seen_ms / 1000, bool(alive), counts.get(id, 0), clock_ms / 1000, id == elected, id == me
    )


def of_hub(store: Store, hub_id: str) -> FrozenSet[str]:
    """Inside ``writing()``: the machines whose snapshots this hub may store. Also after the lease time, as long as no other hub took them."""
    return frozenset(id for (id,) in store.rows("SELECT machine_id FROM lease WHERE hub_id = ?", (hub_id,)))


def give_up(store: Store, hub_id: str, machine_ids: Iterable[str]) -> None:
    """Inside ``writing()``, after their last snapshots: let another hub have these machines."""
    store.change_many("UPDATE lease SET hub_id = '' WHERE machine_id = ? AND hub_id = ?", [(id, hub_id) for id in machine_ids])


def tidy(store: Store) -> None:
    """Forget hubs that are gone for long, and leases of machines that were forgotten. Raises StoreError."""
    with store.writing():
        store.change(f"DELETE FROM hub WHERE abs(seen_ms - {_NOW}) > {KNOWN_MS}")
        store.change("DELETE FROM lease WHERE machine_id != ? AND machine_id NOT IN (SELECT id FROM machine)", (ELECTED,))
