"""The last hours of samples in memory, for a hub that was away: it asks for what it missed. Bounded by bytes; the oldest goes. Never touches a disk."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional

from gpuwatch import __version__
from gpuwatch.node.newest import Answer, Sample
from gpuwatch.wire.changes import told_since
from gpuwatch.wire.push import Push, Record, encode_push

MOST_BYTES = 4 * 1024**2
"""Of a machine with 8 GPUs some hours."""
MOST_AT_ONCE = 64


class _Kept(NamedTuple):
    taken_at: float
    sample: Sample
    status: Optional[Dict[str, Any]]


class Ring:
    """Thread-safe."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: Deque[_Kept] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, answer: Answer) -> None:
        """A new sample. One that does not say when it was taken is of no use later."""
        sample = answer.sample
        taken_at = sample.taken_at
        if taken_at is None:
            return
        status = answer.status
        with self._lock:
            self._kept.append(_Kept(taken_at, sample, status if status["stale"] or status["message"] else None))
            self._bytes += len(sample.encoded)
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                self._bytes -= len(self._kept.popleft().sample.encoded)

    def between(self, after: float, before: float, most: int, now: float) -> bytes:
        """The oldest samples with after < taken_at < before (this machine's clock), as the body of a push; each but the first told by what changed."""
        with self._lock:
            found = [one for one in self._kept if after < one.taken_at < before][: min(most, MOST_AT_ONCE)]
        records: List[Record] = []
        shapes: Dict[str, Any] = {}
        last: Optional[Sample] = None
        for number, (_, sample, status) in enumerate(found, 1):
            shape = sample.shape
            if shape.id not in shapes:
                shapes[shape.id] = shape.doc
            told = told_since(last.encoded, sample.encoded) if last is not None and last.shape.id == shape.id else None
            records.append(Record(number, shape.id, status, sample.encoded if told is None else told, 0 if told is None else number - 1))
            last = sample
        return encode_push(Push(__version__, now, None, records, None, shapes))
