"""What a view answers, and the bodies kept ready so that many readers cost one rendering. Knows no bottle and no hub."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Callable, Hashable, Iterable, Iterator, Mapping, Optional, Union

from gpuwatch.model.errors import GpuwatchError

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
CSV = "text/csv; charset=utf-8"

LEAST_GZIP_BYTES = 1000
LARGE_BYTES = 1024**2
"""Larger bodies are packed quickly, not tightly: at a thousand hosts packing would cost as much as rendering."""
FRESH_SECONDS = 1.0
"""A view is rendered at most once in so long, however many ask."""
SHARE = 10
"""... and at most once in so many times as long as its rendering takes: of a thousand hosts that is 0.1 to 0.25 s."""
LONGEST_FRESH_SECONDS = 5.0
OLDEST_SECONDS = 10.0
"""Spans such as ``9 h 20 m`` and the clock grow without a new reading: nothing is kept for longer."""
MOST_BODIES = 300
MOST_BYTES = 64 * 1024**2


class Body:
    """Immutable bytes with their tag and their gzip, made on first use and shared by all readers."""

    def __init__(self, data: bytes, content_type: str) -> None:
        self.data = data
        self.content_type = content_type
        self.etag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'
        self._packed: Optional[bytes] = None
        self._packing = threading.Lock()
        self.based: Optional[Body] = None
        """The same with its links under the base path, once it was asked for (``web.base``)."""

    @property
    def packed(self) -> bytes:
        """The gzip of the data. One thread makes it, others who want it wait: of a large body it takes as long as rendering."""
        if self._packed is None:
            with self._packing:
                if self._packed is None:
                    self._packed = gzip.compress(self.data, 5 if len(self.data) < LARGE_BYTES else 1, mtime=0)
        return self._packed

    @property
    def is_packed(self) -> bool:
        """Somebody asked for the gzip."""
        return self._packed is not None


@dataclass(frozen=True)
class Reply:
    """One answer: a body or a stream, a status, and headers beyond the usual ones."""

    body: Union[Body, Iterable[bytes]]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = TEXT


def text_reply(text: str, status: int = 200, content_type: str = TEXT, **headers: str) -> Reply:
    """A small reply that is not kept."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(Body(text.encode("utf-8", "replace"), content_type), status, named)


@dataclass
class _Kept:
    body: Body
    version: int
    made_at: float
    fresh_seconds: float


class Pages:
    """Bodies by (view, options, audience). Rendered lazily, at most once a second each; while one thread renders, others get the last."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        oldest_seconds: float = OLDEST_SECONDS,
        most_bodies: int = MOST_BODIES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._clock = clock
        self._oldest, self._most, self._most_bytes = oldest_seconds, most_bodies, most_bytes
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._rendering: dict[Hashable, threading.Lock] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, version: int, make: Callable[[], Body]) -> Body:
        """The body under ``key``: as it is while ``version`` is the same or it is younger than a second, else made anew."""
        kept = self._look(key)
        if kept is not None and self._good(kept, version):
            return kept.body
        with self._lock:
            lock = self._rendering.setdefault(key, threading.Lock())
        if not lock.acquire(blocking=kept is None or self._age(kept) > self._oldest):
            assert kept is not None
            return kept.body
        try:
            again = self._look(key)
            if again is not None and self._good(again, version):
                return again.body
            began = self._clock()
            body = make()
            if kept is not None and kept.body.is_packed:
                body.packed  # noqa: B018 -- others get the last one meanwhile, and it counts as part of the rendering
            now = self._clock()
            fresh = min(LONGEST_FRESH_SECONDS, max(FRESH_SECONDS, SHARE * (now - began)))
            self._keep(key, _Kept(body, version, now, fresh))
            return body
        finally:
            lock.release()
            self._forget_failed(key)

    def _forget_failed(self, key: Hashable) -> None:
        """Nothing stays of a key that gave no body: strangers ask for hosts that do not exist, each time for another one."""
        with self._lock:
            if key not in self._kept:
                self._rendering.pop(key, None)

    def _look(self, key: Hashable) -> Optional[_Kept]:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            return kept

    def _age(self, kept: _Kept) -> float:
        return self._clock() - kept.made_at

    def _good(self, kept: _Kept, version: int) -> bool:
        age = self._age(kept)
        return age < kept.fresh_seconds or (kept.version == version and age < self._oldest)

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        with self._lock:
            old = self._kept.pop(key, None)
            self._bytes += len(kept.body.data) - (len(old.body.data) if old else 0)
            self._kept[key] = kept
            for other in [other for other, one in self._kept.items() if self._age(one) > self._oldest]:
                self._drop(other)
            while len(self._kept) > self._most or (self._bytes > self._most_bytes and len(self._kept) > 1):
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        self._bytes -= len(self._kept.pop(key).body.data)
        self._rendering.pop(key, None)


def past_pages(clock: Callable[[], float] = time.monotonic) -> Pages:
    """For bodies of the past, which do not change: few, so that the memory is for now, and not for long, since they say how long ago it was."""
    return Pages(clock, oldest_seconds=60.0, most_bodies=60, most_bytes=24 * 1024**2)


class Streams:
    """Long answers that are made while they are sent. A reader that takes its time holds one of the server's threads, so some are kept free."""

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)

    def take(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        """``pieces``, counted until they are read or given up. Raises GpuwatchError when too many are being read."""
        if not self._free.acquire(blocking=False):
            raise GpuwatchError("Too many others read the history now.", "Try again in a minute.")
        return _Stream(iter(pieces), self._free.release)


class _Stream:
    """An iterator, not a generator: one that was never begun would not notice that it is closed."""

    def __init__(self, pieces: Iterator[bytes], release: Callable[[], None]) -> None:
        self._pieces = pieces
        self._release: Optional[Callable[[], None]] = release

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:  # its end, too
            self.close()
            raise

    def close(self) -> None:
        """The server has sent all, or the reader is gone."""
        release, self._release = self._release, None
        if release is not None:
            release()

    __del__ = close
