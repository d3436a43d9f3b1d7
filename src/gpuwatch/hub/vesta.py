"""Seed 004's senders on this hub: who registers, who is who, and their readings. Knows no HTTP.

A host is known by the id that registering gives it. One that registers again under its name and from its address has lost that id: it gets it back, as the
one of that name and address that was heard longest ago. Two machines of one name behind one address are told apart by their GPUs' UUIDs: when readings of
other GPUs come under an id within ``CONTEST_SECONDS`` of its own, the id counts as not known, and the next to register so becomes a host of its own.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
from collections import OrderedDict
from typing import Dict, FrozenSet, List, Optional, Tuple

from gpuwatch.hub.enrol import clean_name
from gpuwatch.hub.old_systems import Means
from gpuwatch.hub.pace import Pace
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.store import enrolled
from gpuwatch.store.enrolled import Enrolled
from gpuwatch.wire.legacy import seed004_sender

log = logging.getLogger(__name__)
KIND = "vesta"
MOST_HOSTS = 2000
NEW_A_MINUTE = 60
"""New hosts from one address."""
CONTEST_SECONDS = 120.0
CONTESTED_SECONDS = 600.0
MOST_REMEMBERED = 4096
MOST_NAME = 300
MOST_ID = 64


class TooMany(GpuwatchError):
    """More hosts than are taken."""


class VestaSenders:
    """Every method may be called on any thread."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._token = means.compat.vesta_token.encode()
        self._pace = Pace(NEW_A_MINUTE, 60.0)
        self._registering = threading.Lock()
        """Held while the database may keep one waiting; the other lock never is."""
        self._lock = threading.Lock()
        self._gpus: OrderedDict[str, Tuple[FrozenSet[str], float]] = OrderedDict()
        self._contested: Dict[Tuple[str, str], float] = {}

    @property
    def is_on(self) -> bool:
        """``vesta_token`` is set."""
        return bool(self._token)

    def allows(self, token: str) -> bool:
        """It is the token; in constant time."""
        return self.is_on and hmac.compare_digest(token.encode("utf-8", "replace"), self._token)

    def knows(self, id: str) -> bool:
        """A host of this id is known to this hub."""
        row = self._means.roster.get(id[:MOST_ID])
        return row is not None and row.kind == KIND

    def register(self, host_name: str, address: str, now: float) -> Tuple[str, str]:
        """(id, name) of the host that calls itself so. Raises TooMany, StoreError."""
        asked = host_name[:MOST_NAME]
        with self._registering:  # two requests at once would make two hosts
            known = self._again(asked, address, now)
            if known is not None:
                return known.id, known.name
            if len(self._hosts()) >= MOST_HOSTS or not self._pace.allows(address, now):
                raise TooMany(f"At most {MOST_HOSTS} hosts are taken, {NEW_A_MINUTE} a minute from one address.")
            made = enrolled.add(
                self._means.store(), kind=KIND, id=seed004_sender.new_id(), name=clean_name(asked), address=address, now=now,
                detail=json.dumps({"asked": asked}), taken=self._means.listed(),
            )  # fmt: skip
            self._means.roster.learn(made)
        self._means.enrolled()
        log.info("a vesta sender at %s registered as %s", address, made.name)
        return made.id, made.name

    def update(self, id: str, body: bytes, address: str, now: float) -> bool:
        """Readings of the host of this id; False = there is none, it has to register. Raises WireError for a body that is none, StoreError, GpuwatchError."""
        row = self._find(id[:MOST_ID])
        if row is None:
            return False
        doc = seed004_sender.parse(body)
        if self._is_another(row, seed004_sender.uuids(doc), address, now):
            return False
        target, machine_id = self._means.target_of(row.name)
        snapshot = seed004_sender.snapshot(doc, row.name, now, self._means.zone)
        self._means.ingest.accept_snapshot(target, machine_id, snapshot, now, sent=True)
        self._means.roster.seen(row.id, address, now)
        return True

    def _find(self, id: str) -> Optional[Enrolled]:
        """Also one that another hub enrolled a moment ago."""
        row = self._means.roster.get(id)
        if row is None and id and not id.strip("0123456789abcdef"):
            row = enrolled.find(self._means.store(), id)
            if row is not None and row.kind == KIND:
                self._means.roster.learn(row)
        return row if row is not None and row.kind == KIND else None

    def _again(self, asked: str, address: str, now: float) -> Optional[Enrolled]:
        """The host that has lost its id; None for a new one."""
        at = self._contested.get((asked, address))
        if at is not None and 0 <= now - at < CONTESTED_SECONDS:
            del self._contested[asked, address]
            return None
        same = [row for row in self._hosts() if row.last_address == address and _asked(row) == asked]
        return min(same, key=lambda row: self._means.roster.heard_at(row.id) or 0.0, default=None)

    def _hosts(self) -> List[Enrolled]:
        return [row for row in self._means.roster.all() if row.kind == KIND]

    def _is_another(self, row: Enrolled, uuids: FrozenSet[str], address: str, now: float) -> bool:
        """These are the GPUs of another machine than the one that just sent under this id."""
        with self._lock:
            before, at = self._gpus.get(row.id, (frozenset(), 0.0))
            if uuids and before and not uuids & before and 0 <= now - at < CONTEST_SECONDS:
                if len(self._contested) < MOST_REMEMBERED:
                    self._contested[_asked(row), address] = now
                return True
            if uuids:
                self._gpus[row.id] = uuids, now
                self._gpus.move_to_end(row.id)
                while len(self._gpus) > MOST_REMEMBERED:
                    self._gpus.popitem(last=False)
            return False


def _asked(row: Enrolled) -> str:
    try:
        return str(json.loads(row.detail)["asked"])
    except (ValueError, TypeError, KeyError):
        return row.name
