"""Seed 001's workers on this hub: who is let in, their readings and the orders that wait for them. Knows no HTTP.

An unknown worker gets a token that is worth nothing until it is let in: with ``approve`` by an administrator, with ``open`` at once if it comes from a loopback or
private address. What strangers can make this hub keep is bounded; beyond that they get a token of which nothing is kept.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from typing import Dict, Optional, Tuple

from gpuwatch.hub.enrol import clean_name
from gpuwatch.hub.old_systems import Means
from gpuwatch.hub.pace import Pace
from gpuwatch.store import worker_commands, workers
from gpuwatch.store.database import Store
from gpuwatch.store.enrolled import APPROVED, WAITING, Enrolled
from gpuwatch.store.worker_commands import WorkerCommand
from gpuwatch.store.workers import KIND, Worker
from gpuwatch.wire.legacy import seed001

log = logging.getLogger(__name__)
NOTICE = "workers"
MOST_WAITING, MOST_WAITING_OF_ADDRESS = 100, 10
MOST_OPEN = 2000
NEW_A_MINUTE = 30
"""New workers from one address."""
PRIVATE = tuple(
    map(ipaddress.ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"))
)


class Workers:
    """Every method may be called on any thread."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self.mode = means.compat.workers
        self._pace = Pace(NEW_A_MINUTE, 60.0)
        self._registering = threading.Lock()
        """Held while the database may keep one waiting; the other lock never is."""
        self._lock = threading.Lock()
        self._keys: Tuple[Optional[Store], bytes] = (None, b"")
        self._rows: Dict[str, Enrolled] = {}
        self._rows_of: object = None

    @property
    def is_on(self) -> bool:
        """``workers`` is not off."""
        return self.mode != "off"

    def register(self, worker_id: str, address: str, now: float) -> str:
        """The token of the worker that calls itself so. Raises StoreError."""
        with self._registering:
            key = self._key()
            known = workers.of_address(self._all(), worker_id, address)
            if known is not None:
                return workers.token_of(key, known.row)
            state = self._state_of_new(worker_id, address, now)
            if not state:
                return workers.inert_token(key)
            row = workers.add(self._means.store(), worker_id, clean_name(worker_id), address, state, now, self._means.listed())
            self._means.roster.learn(row)
        self._means.enrolled()
        log.info("worker %s at %s is %s", row.name, address, "let in" if state == APPROVED else "waiting for approval: gpuwatch worker approve")
        return workers.token_of(key, row)

    def of_token(self, token: str) -> Optional[Enrolled]:
        """The worker of a token, let in or waiting; None = nobody's. Raises StoreError while that cannot be told."""
        if not token:
            return None
        key, rows = self._key(), self._means.roster.all()
        with self._lock:
            if rows is not self._rows_of:
                self._rows, self._rows_of = workers.by_token(key, rows), rows
            return self._rows.get(token)

    def is_inert(self, token: str, address: str) -> bool:
        """A token of which nothing is kept: its owner is answered as if it were taken, until there is room for it among those who wait. Raises StoreError."""
        return workers.is_inert(self._key(), token) and not self._has_room(address)

    def accept(self, row: Enrolled, body: bytes, address: str, now: float) -> None:
        """The metrics of a worker that is let in; those of one that waits are dropped. Raises WireError for a body that is none, GpuwatchError."""
        found = seed001.metrics(body)
        self._means.roster.seen(row.id, address, now)
        if row.state != APPROVED:
            return
        target, machine_id = self._means.target_of(row.name)
        snapshot = seed001.snapshot(found, row.name, now)
        self._means.ingest.accept_snapshot(target, machine_id, snapshot, now, sent=True)

    def take_command(self, row: Enrolled, now: float) -> Optional[WorkerCommand]:
        """The next command of a worker; at most once. Raises StoreError."""
        return worker_commands.take(self._means.store(), row.id, now) if row.state == APPROVED else None

    def report(self, row: Enrolled, said: seed001.CommandReport, now: float) -> bool:
        """What it says of a command; False = it has none such. Raises StoreError."""
        return row.state == APPROVED and worker_commands.report(self._means.store(), row.id, said.command_id, said.status, said.output, now)

    def command(self, row: Enrolled, id: int) -> Optional[WorkerCommand]:
        """One of its commands. Raises StoreError."""
        return worker_commands.find(self._means.store(), row.id, id)

    def host_of(self, worker_id: str) -> str:
        """The name of the host that a worker id is shown as; of one that is not let in, the id itself."""
        return next((one.row.name for one in self._all() if one.worker_id == worker_id and one.row.state == APPROVED), worker_id)

    def tell(self) -> None:
        """The notice of those who wait; it names nobody."""
        count = self._waiting() if self.is_on else 0
        text = f"{count} worker{' waits' if count == 1 else 's wait'} for approval. Next: gpuwatch worker list" if count else None
        self._means.notice(NOTICE, text)

    def _state_of_new(self, worker_id: str, address: str, now: float) -> str:
        """APPROVED, WAITING, or empty: nothing is kept of it."""
        if not self._pace.allows(address, now):
            return ""
        all_of = self._all()
        id_is_known = any(one.worker_id == worker_id and one.row.state == APPROVED for one in all_of)
        if self.mode == "open" and is_private(address) and not id_is_known and len(all_of) < MOST_OPEN:
            return APPROVED
        return WAITING if self._has_room(address) else ""

    def _has_room(self, address: str) -> bool:
        waiting = [one for one in self._all() if one.row.state == WAITING]
        return len(waiting) < MOST_WAITING and sum(1 for one in waiting if one.address == address) < MOST_WAITING_OF_ADDRESS

    def _all(self) -> Tuple[Worker, ...]:
        return tuple([workers.of_row(row) for row in self._means.roster.all() if row.kind == KIND])

    def _waiting(self) -> int:
        return sum(1 for row in self._means.roster.all() if row.kind == KIND and row.state == WAITING)

    def _key(self) -> bytes:
        store = self._means.store()
        of, key = self._keys
        if of is not store:
            key = workers.key(store)
            self._keys, self._rows_of = (store, key), None
        return key


def is_private(address: str) -> bool:
    """The address is of this machine, or of a private network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in PRIVATE if network.version == (mapped or found).version)
