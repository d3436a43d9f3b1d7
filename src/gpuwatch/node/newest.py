"""The newest sample of this node and what is wrong, ready to be answered. Never waits for the sampler; encodes once a sample, on demand."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Callable, Dict, List, Optional

from gpuwatch import __version__
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.render.as_json import dump, snapshot_json
from gpuwatch.wire import frame
from gpuwatch.wire.changes import Given, shape_in
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.legacy import seed002


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the sampling, or was until a moment ago."""

    message: str
    since_at: float
    stale: bool = True
    """The readings are not fresh; False: they are again, this is what happened."""
    until_at: Optional[float] = None
    """When to stop telling."""


class Sample:
    """One sample: its shape, and its values as the bytes that came. They are decoded only for those who want JSON."""

    def __init__(self, shape: Shape, encoded: bytes) -> None:
        """Raises WireError if the values are not as many as the shape says."""
        if not (encoded.startswith(b"[") and encoded.endswith(b"]") and encoded.count(b",") == max(0, shape.count - 1)):
            raise WireError(f"its values are not the {shape.count} of their shape")
        self.shape = shape
        self.encoded = encoded

    @property
    def taken_at(self) -> Optional[float]:
        """When it was taken, by this machine's clock; None = it does not say."""
        return self.shape.taken_at_in(self.encoded)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Sample:
        """A sample of a snapshot that was made in this process."""
        flat = Flattener().flatten(snapshot)
        return cls(Shape.parse(flat.shape), frame.encode_values(flat.values))

    def snapshot(self) -> Snapshot:
        """The whole snapshot. Raises WireError if the values are none."""
        return self.shape.build(self.shape.check(frame.loads(self.encoded)))


class Answer:
    """What is answered now: a sample and the state of the sampling. Does not change."""

    def __init__(self, sample: Sample, trouble: Optional[Trouble], zone: Optional[tzinfo] = None, given: Optional[Given] = None) -> None:
        """``given``: what hubs were given before, so that they are told only what changed."""
        self.sample = sample
        self.trouble = trouble
        self._given = given or Given()
        self._zone = zone
        self._lock = threading.Lock()
        self._json: Optional[bytes] = None
        self._public: Optional[bytes] = None

    @property
    def status(self) -> Dict[str, Any]:
        """``stale``, ``message``, ``since_at``."""
        trouble = self.trouble
        if trouble is None:
            return {"stale": False, "message": None, "since_at": None}
        return {"stale": trouble.stale, "message": trouble.message, "since_at": trouble.since_at}

    def flat(self, known: str, now: float) -> bytes:
        """The frame for a hub that has ``known`` (``changes.known_as``): the shape if it has another one, of the values what it has not."""
        shape = self.sample.shape
        names, lines = self._given.answer(shape.id, self.sample.encoded, known)
        header = {"flat": 1, "version": __version__, "sent_at": round(now, 3), "shape_id": shape.id, **names, "status": self.status}
        if shape_in(known) != shape.id:
            header["shape"] = shape.doc
        return frame.encode(header, lines)

    def json(self) -> bytes:
        """Seed 002's keys, the whole snapshot and the status; encoded at the first call."""
        with self._lock:
            if self._json is None:
                snapshot = self.sample.snapshot()
                old = dump(seed002.node_body(snapshot, self._zone))
                self._json = b'%s,"snapshot":%s,"status":%s}\n' % (old[:-1], snapshot_json(snapshot), dump(self.status))
            return self._json


    def public(self) -> bytes:
        """Seed 000's body; its error where the readings are not fresh. Encoded at the first call: strangers may ask as often as they like."""
        from gpuwatch.wire.legacy import seed000_node  # few nodes are asked for it

        with self._lock:
            if self._public is None:
                stale = self.trouble is not None and self.trouble.stale
                self._public = seed000_node.answer(None if stale else self.sample.snapshot())
            return self._public


class Newest:
    """Holds the newest Answer. The supervisor writes, the server's threads read; the lock is held for an assignment at most."""

    def __init__(self, zone: Optional[tzinfo] = None) -> None:
        """``zone``: of seed 002's ``last_update``; None = this machine's."""
        self._zone = zone
        self._given = Given()
        self._lock = threading.Lock()
        self._sample: Optional[Sample] = None
        self._trouble: Optional[Trouble] = None
        self._answer: Optional[Answer] = None
        self._note: Optional[Trouble] = None
        self._listeners: List[Callable[[Answer], None]] = []

    def listen(self, sampled: Callable[[Answer], None]) -> None:
        """Call ``sampled`` after each new sample; it must be quick, and raise nothing."""
        self._listeners.append(sampled)

    def accept(self, sample: Sample, trouble: Optional[Trouble] = None) -> None:
        """A new sample, and what is wrong now."""
        with self._lock:
            self._sample, self._trouble, self._answer = sample, trouble, None
        for sampled in self._listeners:
            answer = self.answer()
            if answer is not None:
                sampled(answer)

    def note(self, note: Optional[Trouble]) -> None:
        """What is wrong beside the sampling, told where nothing is wrong with that; None = nothing."""
        with self._lock:
            if note != self._note:
                self._note, self._answer = note, None

    def fail(self, trouble: Trouble) -> None:
        """No new sample, and why."""
        with self._lock:
            if trouble != self._trouble:
                self._trouble, self._answer = trouble, None

    def answer(self, now: Optional[float] = None) -> Optional[Answer]:
        """What to answer at ``now``; None before the first sample."""
        moment = time.time() if now is None else now
        with self._lock:
            trouble = self._trouble
            if trouble is not None and trouble.until_at is not None and moment >= trouble.until_at:
                self._trouble = trouble = self._answer = None
            note = self._note
            if note is not None and note.until_at is not None and moment >= note.until_at:
                self._note = note = self._answer = None
            if self._answer is None and self._sample is not None:
                self._answer = Answer(self._sample, trouble or note, self._zone, self._given)
            return self._answer

    @property
    def trouble(self) -> Optional[Trouble]:
        """What is wrong now, also before the first sample."""
        with self._lock:
            return self._trouble
