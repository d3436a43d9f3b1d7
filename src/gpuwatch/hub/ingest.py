"""The one door for every snapshot: decode, validate, newest state, queue for the store, events. Any thread may come in: poller, web, ssh.

What is read of an answer is worked out outside the lock; what it changes is changed inside, one snapshot after the other.
Never builds dataclasses of readings, never writes to the store, never trusts a clock or a number of a node.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from gpuwatch.hub.answers import clean
from gpuwatch.hub.changes import Changes
from gpuwatch.hub.clocks import NOTEWORTHY_SECONDS, NodeClocks
from gpuwatch.hub.foreign import Flattened
from gpuwatch.hub.journal import Arrival, ArrivalQueue, Mark
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.event import Event
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.query.latest import Known, Latest, Report
from gpuwatch.store.snapshots import Entry
from gpuwatch.wire.changes import Read, Reader, known_as
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.frame import decode
from gpuwatch.wire.numbers import texts_of

FLAT_VERSION = 1
LATEST_TIME = 253402300800.0
"""The year 10000: no time of a node is beyond."""
MOST_EVENTS = 10000
SET_BACK_SECONDS = 1.0
"""A node whose clock says so much less than what it sampled before was set back."""
GAP_INTERVALS = 2.5
"""Samples that are farther apart have others between them, which the node may still have."""
GAP_AFTER_OUTAGE = 1.5
"""The same for the first samples after a gap: the first poll falls where it can, the next ones on the beat again, and one sample may lie between."""
_GOOD_REPORT = Report()


class Came(NamedTuple):
    """One snapshot as it came in, read and checked."""

    shape: Shape
    sample: Read
    shape_bytes: int
    """Bytes that came for the shape; 0 = it was known."""
    report: Report
    skew_seconds: Optional[float]
    at: float
    """When, by the hub's clock."""


class Ingest:
    """Takes the answers of nodes (``hub.poller.Sink``), and whole snapshots of foreign systems. Safe on any thread."""

    def __init__(self, latest: Latest, arrivals: ArrivalQueue) -> None:
        self.latest = latest
        self.arrivals = arrivals
        self.changes = Changes()
        self._clocks = NodeClocks()
        self._reader = Reader()
        self._shapes: Dict[str, Shape] = {}
        self._samples: Dict[str, Read] = {}
        """By machine, the sample that its next answer may build on."""
        self._kept_at: Dict[str, Optional[float]] = {}
        """By machine, when the last sample was taken that a poll brought and that is kept, by the node's clock."""
        self._newest_at: Dict[str, float] = {}
        """By machine, the time of the newest sample that is kept, by the hub's clock."""
        self._settled_at: Dict[str, float] = {}
        """By machine that had a gap, until when its samples are looked at closely."""
        self.missed: Callable[[Target, str, float, float], None] = lambda target, machine_id, after, before: None
        """Told where samples of a polled machine are missing between two times."""
        self._flattened = Flattened()
        self._door = threading.Lock()
        """Held while one snapshot changes what is known: some 20 us, so that the poller never waits long for the web's threads."""
        self._events: List[Event] = []
        self._lock = threading.Lock()
        self.owns: Callable[[str], bool] = lambda machine_id: True
        """Whether this hub keeps what it reads of a machine; else another hub does, and it is only shown."""

    def shape_id(self, machine_id: str) -> str:
        """What is known of this machine, as nodes are told it: the shape and the newest sample; empty for nothing."""
        shape, sample = self._shapes.get(machine_id), self._samples.get(machine_id)
        if shape is None:
            return ""
        return known_as(shape.id, sample.name) if sample is not None and sample.shape_id == shape.id else shape.id

    def shape_of(self, machine_id: str) -> Optional[Shape]:
        """The shape known of this machine. Safe on any thread."""
        return self._shapes.get(machine_id)

    def learn(self, machine_id: str, shape: Shape, taken_at: float) -> None:
        """At start: the shape of the restored snapshot, so that the node need not send it, and its time."""
        self._shapes[machine_id] = shape
        self._newest_at[machine_id] = taken_at

    def accept(self, target: Target, machine_id: str, body: bytes, asked_at: float, answered_at: float) -> None:
        """A frame from a node; times are the hub's. Raises WireError for anything that is not one; nothing is changed then."""
        header, lines = decode(body) if body[:1] == b"{" else _not_a_frame(body)
        if header.get("flat") != FLAT_VERSION:
            _not_flat(header)
        shape = self._shape(machine_id, header)
        sample = self._sample(machine_id, shape, header, lines)
        skew = _skew(header.get("sent_at"), asked_at, answered_at)
        shape_bytes = len(body) - len(lines) if "shape" in header else 0
        self._take(target, machine_id, Came(shape, sample, shape_bytes, report_of(header.get("status")), skew, answered_at))

    def accept_snapshot(
        self, target: Target, machine_id: str, snapshot: Snapshot, answered_at: float, *, report: Report = _GOOD_REPORT, sent: bool = False
    ) -> None:
        """A whole snapshot of foreign origin, which then goes the same way; ``answered_at``: when it came, by the hub's clock.

        Its ``taken_at`` is believed where it is not later than that and at most 5 minutes earlier. ``sent``: the machine sent it to this hub, which then
        stores it, whichever hub polls. Raises WireError where a text or number of it is refused; nothing is changed then.
        """
        shape, values, line, shape_bytes = self._flattened.of(machine_id, snapshot)
        sample = Read("", shape.id, texts_of(line), values, set())
        self._take(target, machine_id, Came(shape, sample, shape_bytes, report, None, answered_at), sent)

    def read_pushed(self, shape: Shape, lines: bytes, base: Optional[Read] = None) -> Read:
        """The values of a pushed snapshot: all of them, or what changed since ``base``. Raises WireError."""
        sample = self._reader.whole({}, shape.id, lines) if base is None else self._reader.changed({}, base, lines)
        shape.sized(sample.values)
        return sample

    def accept_pushed(self, target: Target, machine_id: str, came: Came, mark: Optional[Mark], sent_at: float) -> None:
        """A node's newest snapshot, which it pushed at ``sent_at`` by its clock; without a ``mark`` it is only shown. One that is known is not stored again."""
        _, _, texts, values, varying = came.sample
        with self._door:
            old = self.latest.get(target.name)
            if old is None or old.machine_id != machine_id:
                return
            before = old.plan.taken_at(old.values) if old.plan is not None else None
            taken_at = _time(came.shape.taken_at(values))
            new = None
            if before is None or taken_at is None or not taken_at < before <= sent_at + SET_BACK_SECONDS:  # it is not older, or the node's clock was set back
                new = self.latest.accept(
                    target.name, came.shape, values, received_at=came.at, clock_skew_seconds=came.skew_seconds, report=came.report, texts=texts
                )
            if new is not None and new is not old:
                self._shapes[machine_id] = came.shape
                if new.plan is not old.plan or new.report != old.report:
                    self._note(old, new, came.at)
            if mark is not None:
                corrected = self._clocks.late if new is None else self._clocks.corrected
                at = corrected(machine_id, taken_at, came.skew_seconds, came.at)
                is_known = taken_at is not None and self._kept_at.get(machine_id) == taken_at
                stored = () if is_known or at is None else texts
                self.arrivals.put(Arrival(machine_id, came.at if at is None else at, came.at, came.shape, stored, varying, came.shape_bytes, True, mark))

    def clock_offset(self, machine_id: str) -> float:
        """The node's clock minus the hub's, as its samples' times are corrected."""
        return self._clocks.offset(machine_id)

    def keep_late(self, machine_id: str, came: Came, mark: Optional[Mark], known: Callable[[float], bool]) -> Optional[float]:
        """A snapshot that comes late: for the store alone. ``known(taken_at)``: the store has it already. Its time; None: that cannot be."""
        with self._door:
            at = self._clocks.late(machine_id, _time(came.shape.taken_at(came.sample.values)), came.skew_seconds, came.at)
            texts = () if at is None or known(at) else came.sample.texts
            if texts or mark is not None:
                self.arrivals.put(Arrival(machine_id, at or came.at, came.at, came.shape, texts, came.sample.varying, came.shape_bytes, True, mark))
            return at

    def tell(self, event: Event) -> None:
        """Something worth an event that no reading shows."""
        self._add_events([event])

    def _take(self, target: Target, machine_id: str, came: Came, sent: bool = False) -> None:
        _, _, texts, values, varying = came.sample
        with self._door:
            old = self.latest.get(target.name)
            if old is None or old.machine_id != machine_id:
                return
            new = self.latest.accept(
                target.name, came.shape, values, received_at=came.at, clock_skew_seconds=came.skew_seconds, report=came.report, texts=texts
            )
            if new is None:
                return
            self._shapes[machine_id] = came.shape
            if came.sample.name:
                self._samples[machine_id] = came.sample
            if new.plan is not old.plan or new.report != old.report:
                self._note(old, new, came.at)
            if new.received_at == came.at and new.plan is not None and (sent or self.owns(machine_id)):
                taken_at = self._clocks.corrected(machine_id, _time(new.plan.taken_at(values)), came.skew_seconds, came.at)
                self.arrivals.put(Arrival(machine_id, taken_at, came.at, came.shape, texts, varying, came.shape_bytes, sent))
                self._kept_at[machine_id] = new.plan.taken_at(values)
                self._look_for_gap(target, machine_id, taken_at, new.plan.interval_seconds)

    def _look_for_gap(self, target: Target, machine_id: str, taken_at: float, interval_seconds: float) -> None:
        before, self._newest_at[machine_id] = self._newest_at.get(machine_id), taken_at
        interval = max(interval_seconds, target.interval_seconds or self.latest.display.interval_seconds)
        if before is None:
            return
        settled_at = self._settled_at.get(machine_id, 0.0)
        if taken_at - before > GAP_INTERVALS * interval:
            self._settled_at[machine_id] = taken_at + 3 * interval
            self.missed(target, machine_id, before, taken_at)
        elif settled_at and taken_at > settled_at:
            del self._settled_at[machine_id]
        elif settled_at and taken_at - before > GAP_AFTER_OUTAGE * interval:
            self.missed(target, machine_id, before, taken_at)

    def refresh(self, target: Target, machine_id: str, shape: Shape, entry: Entry, now: float) -> None:
        """A snapshot that another hub stored: for the newest state alone, neither kept nor told of. Raises WireError."""
        values, received_at = shape.check(entry.values), min(entry.received_at_ms / 1000, now)
        with self._door:
            old = self.latest.get(target.name)
            if old is None or (old.received_at or 0.0) > received_at:
                return
            new = self.latest.accept(target.name, shape, values, received_at=received_at)
            self._shapes[machine_id] = shape
            if new is not None and new.plan is not None and new.plan is not old.plan:
                self._note(old, new, received_at)
            if new is not None and new.plan is not None:
                self._clocks.adopt(machine_id, _time(new.plan.taken_at(values)), entry.taken_at_ms / 1000)
                self._newest_at[machine_id] = entry.taken_at_ms / 1000

    def fail(self, target: Target, error: str, now: float, answers: bool) -> None:
        """A poll that brought nothing."""
        self.latest.fail(target.name, error, now, answers=answers)

    def tick(self, now: float) -> None:
        """Once a second: what changes by time alone, and the events of it."""
        self.latest.tick(now)
        with self._lock:
            events = self.changes.of_nodes(self.latest.all()[1], now)
        self._add_events(events)

    def _note(self, old: Known, new: Known, now: float) -> None:
        with self._lock:
            events = self.changes.of_reading(old, new, now)
        self._add_events(events)

    def take_events(self) -> List[Event]:
        """Events that are not stored yet, oldest first."""
        with self._lock:
            taken, self._events = self._events, []
            return taken

    def put_back_events(self, events: List[Event]) -> None:
        """Events that could not be stored."""
        with self._lock:
            self._events = (events + self._events)[-MOST_EVENTS:]

    def forget_waiting(self) -> None:
        """Snapshots and events that are not to be stored."""
        self.arrivals.clear()
        self.take_events()

    def keep_shapes_of(self, machine_ids: Mapping[str, Any]) -> None:
        """Forget the shapes of all other machines."""
        for machine_id in [known for known in list(self._shapes) if known not in machine_ids]:
            self._shapes.pop(machine_id, None)
            self._samples.pop(machine_id, None)
            self._kept_at.pop(machine_id, None)
            self._newest_at.pop(machine_id, None)
            self._settled_at.pop(machine_id, None)
        self._flattened.keep(machine_ids)

    def _sample(self, machine_id: str, shape: Shape, header: Dict[str, Any], lines: bytes) -> Read:
        """The values of an answer. What cannot be read is asked for whole with the next poll. Raises WireError."""
        base = self._samples.pop(machine_id, None)
        if "base" not in header:
            sample = self._reader.whole(header, shape.id, lines)
        elif base is None or (base.name, base.shape_id) != (header["base"], shape.id):
            raise WireError("The answer builds on a sample that the hub does not have.", "Next: all of it is asked for with the next poll.")
        else:
            sample = self._reader.changed(header, base, lines)
        shape.sized(sample.values)
        return sample

    def _shape(self, machine_id: str, header: Mapping[str, Any]) -> Shape:
        wanted, known = header.get("shape_id"), self._shapes.get(machine_id)
        if known is not None and known.id == wanted:
            return known
        if "shape" not in header:
            self._shapes.pop(machine_id, None)
            raise WireError("The answer names a shape that the hub does not have, and does not bring it.", "Next: it is asked for with the next poll.")
        shape = Shape.parse(header["shape"])
        if shape.id != wanted:
            raise WireError("The answer's shape does not match its id.")
        return shape

    def _add_events(self, found: List[Event]) -> None:
        events = [event for event in found if self.owns(event.machine_id)]
        if events:
            with self._lock:
                self._events = (self._events + events)[-MOST_EVENTS:]


def _not_a_frame(body: bytes) -> Any:
    raise WireError(f"The answer is not a gpuwatch frame (it starts with {clean(body[:40].decode('utf-8', 'replace'), 40)!r}).")


def _not_flat(header: Mapping[str, Any]) -> None:
    if "flat" in header:
        raise WireError(f"The node speaks frame version {clean(str(header['flat']), 20)}, this hub {FLAT_VERSION}.", "Next: upgrade the older one.")
    raise WireError("The answer is readable status, not a frame: another program, or an older gpuwatch.", "Next: upgrade gpuwatch there.")


def report_of(status: object) -> Report:
    """What a node says of its own readings, from the header's ``status``."""
    if not isinstance(status, dict) or not (status.get("stale") or status.get("message")):
        return _GOOD_REPORT
    message = status.get("message")
    return Report(bool(status.get("stale")), clean(message, 500) if isinstance(message, str) else None, _time(status.get("since_at")))


def _skew(sent_at: object, asked_at: float, answered_at: float) -> Optional[float]:
    """The node's clock minus the hub's, by the middle of request and answer; None = not said, or no more than what a slow answer (or a hub that stood still) explains."""
    sent = _time(sent_at)
    if sent is None:
        return None
    skew = sent - (asked_at + answered_at) / 2
    return None if NOTEWORTHY_SECONDS < abs(skew) <= (answered_at - asked_at) / 2 else round(skew, 3)


def _time(value: object) -> Optional[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LATEST_TIME:
        return None
    return float(value)
