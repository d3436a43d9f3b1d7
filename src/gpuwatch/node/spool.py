"""What a pushing node has not been told is stored yet: in memory while the hub answers, on the disk when it does not. Bounded; the oldest goes first, counted.

``add`` only takes a lock for a moment: whoever samples never waits for the disk. ``flush`` and ``after`` may wait for it; each has a thread of its own.
Sequences grow by the clock, never go back, and are never given twice, also not after a restart: a file says from where on they are free.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from itertools import chain
from pathlib import Path
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple

from gpuwatch.node import spool_files
from gpuwatch.node.spool_files import Segment, Stored, Writer

log = logging.getLogger(__name__)
MEMORY_BYTES = 8 * 1024**2
"""What waits in memory while the disk takes nothing."""
SEGMENT_BYTES = 1024**2
LEAST_SEGMENTS = 8
RESERVED_MS = 3_600_000
RETRY_SECONDS = 10.0
"""A disk that refused is tried again after so long."""
_RESERVED = "sequence"


class Lost(NamedTuple):
    """Snapshots that had to go: how many, and when the first and the last of them were taken."""

    snapshots: int
    start_at: float
    end_at: float


class Waiting(NamedTuple):
    """One snapshot that waits. ``shape``: its document, made when it is asked for."""

    record: Stored
    shape: Any
    since: float = 0.0
    """Since when, monotonic."""


class Spool:
    """Thread-safe."""

    def __init__(self, folder: Optional[Path], most_bytes: int, clock: Any = time.time) -> None:
        """``folder``: for its files, made if absent; None: memory alone. What lies there from before is delivered first."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._segment_bytes = min(SEGMENT_BYTES, most_bytes // LEAST_SEGMENTS)
        self._clock = clock
        self._memory: Deque[Waiting] = deque()
        self._memory_bytes = 0
        self._lock = threading.Lock()
        """Of what is in memory; never held while the disk is asked."""
        self._disk = threading.Lock()
        self._segments: List[Segment] = []
        self._writer: Optional[Writer] = None
        self._parsed: Tuple[Optional[Path], int, List[Waiting]] = (None, 0, [])
        self._retry_at = 0.0
        self._stored = 0
        self._last, self._reserved = 0, 0
        self._lost: Optional[Lost] = None
        self.trouble: Optional[str] = None
        """Why nothing can be written; None = it can, or needs not."""
        self.trouble_since_at = 0.0
        self._open()

    @property
    def newest(self) -> int:
        """The last sequence that was given; 0 before the first."""
        return self._last

    @property
    def lost(self) -> Optional[Lost]:
        """What was dropped and has not been told to the hub."""
        return self._lost

    @property
    def disk_bytes(self) -> int:
        """What lies on the disk."""
        return sum(segment.size for segment in list(self._segments))

    def __len__(self) -> int:
        with self._lock:
            return len(self._memory) + sum(segment.count for segment in list(self._segments))

    def add(self, taken_at: float, shape: Any, status: Optional[Dict[str, Any]], line: bytes) -> int:
        """One more snapshot; its sequence. ``shape``: what has ``id`` and ``doc``."""
        with self._lock:
            self._last = max(self._last + 1, round(self._clock() * 1000))
            self._memory.append(Waiting(Stored(self._last, taken_at, shape.id, status, line), shape, time.monotonic()))
            self._memory_bytes += len(line)
            while self._memory_bytes > MEMORY_BYTES and len(self._memory) > 1:
                gone = self._memory.popleft().record
                self._memory_bytes -= len(gone.line)
                self._drop(1, gone.taken_at, gone.taken_at)
            return self._last

    def after(self, sequence: int, most: int, most_bytes: int) -> List[Waiting]:
        """The oldest ones with a higher sequence, in order, so many and so many bytes at most, but at least one."""
        chosen: List[Waiting] = []
        size = 0
        for one in self._in_order(sequence):
            size += len(one.record.line)
            if chosen and (len(chosen) >= most or size > most_bytes):
                break
            chosen.append(one)
        return chosen

    def stored(self, sequence: int) -> None:
        """The hub has all of them up to this on its disk: they can go."""
        with self._lock:
            self._stored = max(self._stored, sequence)
            self._last = max(self._last, sequence)
            while self._memory and self._memory[0].record.sequence <= sequence:
                self._memory_bytes -= len(self._memory.popleft().record.line)
        with self._disk:
            while self._segments and self._segments[0].last <= sequence:
                self._delete(self._segments.pop(0))

    def told(self, lost: Lost) -> None:
        """The hub knows of what was dropped."""
        with self._lock:
            if self._lost is not None:
                left = self._lost.snapshots - lost.snapshots
                self._lost = Lost(left, lost.end_at, self._lost.end_at) if left > 0 else None

    def is_behind(self, older_than_seconds: float) -> bool:
        """Something in memory waits for longer: it belongs on the disk."""
        with self._lock:
            return bool(self._memory) and time.monotonic() - self._memory[0].since > older_than_seconds

    def reserve(self) -> None:
        """Called now and then: sequences stay reserved also while nothing is written."""
        if self._folder is not None and time.monotonic() >= self._retry_at:
            try:
                with self._disk:
                    self._reserve(self._folder)
            except OSError as error:
                self._refused(error)

    def flush(self) -> None:
        """Write to the disk what is in memory. A disk that refuses is a trouble, not an error; it all stays in memory then."""
        folder = self._folder
        if folder is None or time.monotonic() < self._retry_at:
            return
        try:
            with self._disk:
                self._reserve(folder)
                with self._lock:
                    waiting = list(self._memory)
                for one in waiting:
                    self._write(folder, one)
        except OSError as error:
            self._refused(error)
        else:
            self._say(None)

    def close(self) -> None:
        """At the end: what is in memory goes to the disk."""
        self._retry_at = 0.0
        self.flush()
        with self._disk:
            self._end_segment()

    def _write(self, folder: Path, one: Waiting) -> None:
        record = one.record
        if record.sequence > self._stored:
            if self._writer is None:
                self._writer = Writer(folder, record.sequence, record.taken_at)
                self._segments.append(self._writer.segment)
            self._writer.write(record, one.shape.doc)
            if self._writer.segment.size >= self._segment_bytes:
                self._end_segment()
            self._shrink()
        with self._lock:
            if self._memory and self._memory[0].record.sequence == record.sequence:
                self._memory_bytes -= len(self._memory.popleft().record.line)

    def _end_segment(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def skip(self, sequence: int) -> None:
        """The hub refuses this one, the oldest: it goes, counted as lost."""
        with self._lock:
            self._drop(1, self._clock(), self._clock())
        self.stored(sequence)

    def _shrink(self) -> None:
        """The oldest segment goes, never the one that is being written."""
        while len(self._segments) > 1 and sum(segment.size for segment in self._segments) > self._most_bytes:
            gone = self._segments.pop(0)
            self._delete(gone)
            with self._lock:
                if gone.last > self._stored:
                    self._drop(gone.count, gone.first_at, gone.last_at)

    def _delete(self, segment: Segment) -> None:
        if self._writer is not None and self._writer.segment is segment:
            self._end_segment()
        segment.path.unlink(missing_ok=True)

    def _drop(self, count: int, start_at: float, end_at: float) -> None:
        before = self._lost
        if before is None:
            log.error("the spool is full: the oldest snapshots are dropped")
        self._lost = Lost(count, start_at, end_at) if before is None else Lost(before.snapshots + count, before.start_at, end_at)

    def _in_order(self, sequence: int) -> Any:
        """What waits after ``sequence``: first from the disk, then from memory. Some may lie in both, since it is written meanwhile; each comes once."""
        with self._lock:
            memory = list(self._memory)
        with self._disk:
            segments = [segment for segment in self._segments if segment.last > sequence]
        for one in chain(chain.from_iterable(map(self._read, segments)), memory):
            if one.record.sequence > sequence:
                sequence = one.record.sequence
                yield one

    def _read(self, segment: Segment) -> List[Waiting]:
        path, count, parsed = self._parsed
        if path == segment.path and count == segment.count:
            return parsed
        count = segment.count  # before its file is read: what is written meanwhile must be read the next time
        found: List[Waiting] = []
        shapes: Dict[str, Any] = {}
        try:
            for record, (shape_id, doc) in spool_files.read(segment.path):
                if record is None:
                    shapes[shape_id] = _Shape(shape_id, doc)
                elif record.shape_id in shapes:
                    found.append(Waiting(record, shapes[record.shape_id]))
        except OSError as error:  # deleted meanwhile, or the disk is ill
            log.warning("%s cannot be read: %s", segment.path, error.strerror)
        self._parsed = (segment.path, count, found)
        return found

    def _open(self) -> None:
        """What lies there from before, and from where on sequences are free."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._segments = spool_files.found(self._folder)
            path = self._folder / _RESERVED
            text = path.read_text(encoding="ascii").strip() if path.exists() else ""
            self._last = max(int(text) if text.isdigit() else 0, self._segments[-1].last if self._segments else 0)
            self._reserve(self._folder)
        except (OSError, ValueError) as error:
            self._say(f"The spool {self._folder} cannot be used: {getattr(error, 'strerror', None) or error}. What waits for the hub waits in memory.")
        if self._segments:
            log.info("%d snapshots from before wait for the hub", sum(segment.count for segment in self._segments))

    def _reserve(self, folder: Path) -> None:
        """Whoever starts after us begins above what we may have given."""
        wanted = max(self._last, round(self._clock() * 1000))
        if wanted < self._reserved - RESERVED_MS // 2:
            return
        reserved = wanted + RESERVED_MS
        new = folder / f"{_RESERVED}.new"
        new.write_text(f"{reserved}\n", encoding="ascii")
        new.replace(folder / _RESERVED)
        self._reserved = reserved

    def _refused(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._say(f"What waits for the hub cannot be written to {self._folder}: {error.strerror}. It waits in memory, {MEMORY_BYTES // 1024**2} MiB at most.")

    def _say(self, trouble: Optional[str]) -> None:
        if trouble != self.trouble:
            if trouble is None:
                log.info("the spool can be written again")
            else:
                log.error("%s", trouble)
                self.trouble_since_at = self._clock()
        self.trouble = trouble


class _Shape(NamedTuple):
    """A shape that was read from a file."""

    id: str
    doc: Dict[str, Any]
