"""What nodes push: whose it is, what of it is new, and what the hub has of it. Any hub may get any push. Never speaks HTTP: ``web.push`` does.

A node keeps what it sends until the hub says that it is stored. ``after`` in a push is what the hub said last: if the hub has less (it was killed before
it wrote), it says so and takes nothing, and the node goes back. So nothing is missing, and the store takes each sequence once.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict, deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

from gpuwatch.hub.answers import clean
from gpuwatch.hub.enrol import PUSH, Roster
from gpuwatch.hub.ingest import Came, Ingest, report_of
from gpuwatch.hub.journal import Mark
from gpuwatch.hub.pace import Pace
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import GpuwatchError, StoreError, WireError
from gpuwatch.model.event import Event
from gpuwatch.store import enrolled, snapshots
from gpuwatch.store.database import Store
from gpuwatch.store.enrolled import APPROVED, Enrolled
from gpuwatch.wire.changes import Read
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.push import Push, Record, Reply, decode_push, encode_reply
from gpuwatch.wire.signing import Verifier

log = logging.getLogger(__name__)
HOLD_SECONDS = 5.0
"""While the store takes nothing, or cannot follow, nodes keep what they have so long before they ask again."""
PACED_RECORDS = 8
"""A push of so many comes after an outage, as those of all other nodes do: they are paced while others wait."""
WAITING_A_SECOND = 50
LONGEST_PACE_SECONDS = 30.0
SHAPES_KEPT = 4
SKEWS_KEPT = 8
LOOKS_A_SECOND = 20
"""So often at most the database is asked for a key that is not known: strangers may ask at any pace."""
_ID = re.compile(r"[0-9a-f]{32}")
SAME_SECONDS = 0.05
"""Two samples of one node are never so close: they are the same."""


class NotYet(GpuwatchError):
    """The node is enrolled and not a target yet, or the hub does not know whether it is, as its database is away: it is to try again."""


class _Flow:
    """One node's pushes. All under its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.have: Optional[int] = None
        self.stored = 0
        self.version = ""
        self.sample: Tuple[int, Optional[Read]] = (0, None)
        """The last record that was read, by sequence: the next one may build on it."""
        self.shapes: OrderedDict[str, Shape] = OrderedDict()
        self.skews: Deque[float] = deque(maxlen=SKEWS_KEPT)


class Pushes:
    """Takes pushes; every method may be called on any thread."""

    def __init__(
        self, roster: Roster, ingest: Ingest, pair: Callable[[str], Optional[Tuple[Target, str]]], store: Callable[[], Optional[Store]], now: float
    ) -> None:
        """``pair``: ``Hub.pair``; ``store``: the open database, None while there is none; ``now``: when this hub began."""
        self.verifier = Verifier(self._key, not_before=now)
        self._roster = roster
        self._ingest = ingest
        self._pair = pair
        self._store = store
        self._flows: Dict[str, _Flow] = {}
        self._looks = Pace(LOOKS_A_SECOND, 1.0)
        self.waiting: Callable[[], int] = lambda: 0
        """How many pushes wait for their turn, as whoever hands them in knows."""

    def _key(self, id: str) -> Optional[bytes]:
        row = self._roster.get(id) or self._enrolled_elsewhere(id)
        return bytes.fromhex(row.secret) if row is not None and row.kind == PUSH and row.state == APPROVED else None

    def _enrolled_elsewhere(self, id: str) -> Optional[Enrolled]:
        """One that another hub of the database enrolled a moment ago. Raises NotYet where nobody can know."""
        if not self._roster.is_read:
            raise NotYet("The hub has not read yet who is enrolled: its database is away.", "It tries again.")
        store = self._store()
        if store is None or not _ID.fullmatch(id) or not self._looks.allows("", time.monotonic()):
            return None
        try:
            row = enrolled.find(store, id)
        except StoreError as error:
            log.debug("whether %s is enrolled: %s", id, error)
            return None
        if row is not None:
            self._roster.learn(row)
        return row

    def take(self, id: str, body: bytes, address: str, now: float) -> bytes:
        """A push of the enrolled node ``id``, whose signature was checked; the reply's bytes. Raises WireError, NotYet."""
        row = self._roster.get(id)
        pair = self._pair(row.name) if row is not None else None
        if pair is None:
            raise NotYet("This node is enrolled and not among the targets yet.", "It tries again.")
        push = decode_push(body)
        flow = self._flows.get(id) or self._flows.setdefault(id, _Flow())
        with flow.lock:
            self._roster.seen(id, address, now)
            flow.version = push.version
            flow.skews.append(push.sent_at - now)
            return encode_reply(self._took(id, pair, flow, push, now))

    def version_of(self, id: str) -> str:
        """The gpuwatch of the node, as its last push said; empty = none came since this hub began."""
        flow = self._flows.get(id)
        return flow.version if flow is not None else ""

    def stored(self, sequences: Mapping[str, int]) -> None:
        """Up to here it is on the disk (id -> sequence)."""
        for id, sequence in sequences.items():
            flow = self._flows.get(id)
            if flow is not None and sequence > flow.stored:
                flow.stored = sequence

    def forget(self) -> None:
        """The database is another one: what it has of each node is asked anew."""
        self._flows = {}

    def _took(self, id: str, pair: Tuple[Target, str], flow: _Flow, push: Push, now: float) -> Reply:
        machine_id = pair[1]
        known = self._have(id, flow, push)
        hold = HOLD_SECONDS if flow.have is None or self._ingest.arrivals.is_filling else 0.0
        at_hand = [record for record in push.records if record.sequence > flow.have] if known and not hold and flow.have is not None else []
        came = self._came(machine_id, flow, push, at_hand, now)
        if came:
            self._keep(id, pair, flow, push, came, now)
        self._show(pair, flow, push, now, shown=bool(came))
        if push.lost and flow.have is not None:
            self._ingest.tell(_lost(pair, push.lost, now))
        waiting = self.waiting()
        if not hold and len(came) >= PACED_RECORDS and waiting > WAITING_A_SECOND:
            hold = min(waiting / WAITING_A_SECOND, LONGEST_PACE_SECONDS)  # the newest of each node goes on meanwhile
        shape = self._ingest.shape_of(machine_id)
        return Reply(flow.have, flow.stored, shape.id if shape is not None else "", flow.sample[0], hold)

    def _have(self, id: str, flow: _Flow, push: Push) -> bool:
        """Whether the push follows what the hub has. What it does not know (yet) is asked of the store: another hub may have taken it."""
        if flow.have is None or (push.after is not None and push.after > flow.have):
            store = self._store()
            try:
                if store is not None:
                    flow.stored = enrolled.pushed(store, [id]).get(id, 0)
                    flow.have = max(flow.have or 0, flow.stored)
            except StoreError as error:
                log.debug("pushes of %s: %s", id, error)
        return flow.have is not None and (push.after is None or push.after <= flow.have)

    def _came(self, machine_id: str, flow: _Flow, push: Push, records: Sequence[Record], now: float) -> List[Tuple[Record, Came]]:
        """The records that can be read, up to the first whose shape, or what it builds on, is neither known nor sent along. Raises WireError."""
        skew = max(flow.skews)
        came: List[Tuple[Record, Came]] = []
        for record in records:
            shape, base = self._shape(machine_id, flow, push, record.shape_id), flow.sample[1]
            if shape is None or (record.base and (base is None or record.base != flow.sample[0] or base.shape_id != shape.id)):
                break
            sample = self._ingest.read_pushed(shape, record.values, base if record.base else None)
            flow.sample = record.sequence, sample
            came.append((record, Came(shape, sample, 0, report_of(record.status), skew, now)))
        return came

    def _keep(self, id: str, pair: Tuple[Target, str], flow: _Flow, push: Push, came: Sequence[Tuple[Record, Came]], now: float) -> None:
        late = came if push.live is not None else came[:-1]
        if late:
            known = self._known(pair, late)
            for record, one in late:
                self._ingest.keep_late(pair[1], one, Mark(id, record.sequence), known)
        if push.live is None:
            record, one = came[-1]
            self._ingest.accept_pushed(*pair, one, Mark(id, record.sequence), push.sent_at)
        flow.have = came[-1][0].sequence

    def _show(self, pair: Tuple[Target, str], flow: _Flow, push: Push, now: float, *, shown: bool) -> None:
        """The newest snapshot of a push whose records do not show it, or were not taken."""
        record = push.live or (None if shown or not push.records or push.records[-1].base else push.records[-1])
        shape = self._shape(pair[1], flow, push, record.shape_id) if record is not None else None
        if record is not None and shape is not None:
            sample = self._ingest.read_pushed(shape, record.values)
            self._ingest.accept_pushed(*pair, Came(shape, sample, 0, report_of(record.status), max(flow.skews), now), None, push.sent_at)

    def _shape(self, machine_id: str, flow: _Flow, push: Push, shape_id: str) -> Optional[Shape]:
        known = self._ingest.shape_of(machine_id)
        if known is not None and known.id == shape_id:
            return known
        kept = flow.shapes.get(shape_id)
        if kept is None and shape_id in push.shapes:
            kept = Shape.parse(push.shapes[shape_id])
            if kept.id != shape_id:
                raise WireError("A shape of the push does not match its id.")
            flow.shapes[shape_id] = kept
            while len(flow.shapes) > SHAPES_KEPT:
                flow.shapes.popitem(last=False)
        return kept

    def _known(self, pair: Tuple[Target, str], late: Sequence[Tuple[Record, Came]]) -> Callable[[float], bool]:
        """Whether the store has a sample of that time. Of a machine that only pushes it cannot have: sequences see to that."""
        store = self._store()
        if pair[0].sends or store is None:
            return lambda at: False
        times = [at for at in (one.shape.taken_at(one.sample.values) for _, one in late) if at is not None]
        return known_times(store, pair[1], min(times, default=0.0), max(times, default=0.0))


def known_times(store: Store, machine_id: str, start_at: float, end_at: float) -> Callable[[float], bool]:
    """Whether a sample of a machine of (nearly) that time is stored, for times between these two. Raises StoreError."""
    margin = 400.0  # a node's clock may be corrected by so much that it shows; more is looked for in vain
    found: Any = {round(entry.taken_at_ms / 1000 / SAME_SECONDS) for entry in snapshots.read(store, machine_id, start_at - margin, end_at + margin)}
    return lambda at: not found.isdisjoint(range(round(at / SAME_SECONDS) - 1, round(at / SAME_SECONDS) + 2))


def _lost(pair: Tuple[Target, str], lost: Tuple[int, float, float], now: float) -> Event:
    count, start_at, end_at = lost
    text = f"{count} snapshots of {max(0.0, end_at - start_at) / 60:.0f} minutes were lost: the node's spool was full while this hub was away."
    log.warning("%s: %s", pair[0].name, text)
    return Event(now, "snapshots_lost", pair[1], pair[0].name, clean(text, 500))

