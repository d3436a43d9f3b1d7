"""The connections of pushing nodes, all on one thread: each stays open, is read five times a second, and answered at once. No waitress, no bottle.

Read together, they find each other's code and data in the processor's caches, as polls do that begin in slots. Speaks just enough HTTP for one route; anything
else on such a connection ends it. Must never wait for a client.
"""

from __future__ import annotations

import logging
import re
import select
import time
from collections import deque
from typing import Any, Deque, Dict, Optional, Tuple

from gpuwatch.serve.forwarded import plain
from gpuwatch.serve.handover import Connection
from gpuwatch.web.push import MOST_BYTES, Answer, answer
from gpuwatch.wire.push import HOP, PUSH_PATH

log = logging.getLogger(__name__)
BEAT_SECONDS = 0.2
BUSY_SECONDS = 0.08
"""Of one beat: what is left then waits for the next, so that the rest of the hub gets its turn."""
MOST_LINES = 20_000
IDLE_SECONDS = 300.0
SWEEP_SECONDS = 10.0
READ_BYTES = 128 * 1024
HEAD_BYTES = 8192
MOST_BODY_BYTES = MOST_BYTES // 4
_ASKS = re.compile(rb"\r\nconnection:[^\r\n]*\b" + HOP.encode(), re.IGNORECASE)
_PROXIED = re.compile(rb"\r\n(?:x-forwarded-[a-z]+|forwarded|via|x-real-ip):", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,8}) *\r\n", re.IGNORECASE)
_AUTHORIZATION = re.compile(rb"\r\nauthorization: *([^\r\n]{1,400})\r\n", re.IGNORECASE)
_ENCODING = re.compile(rb"\r\ncontent-encoding: *([a-z]{1,20}) *\r\n", re.IGNORECASE)
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class _Line:
    """One connection: its socket, and what was read of the request under way."""

    __slots__ = ("address", "data", "heard_at", "socket")

    def __init__(self, connection: Connection, now: float) -> None:
        self.socket, self.address, self.data, self.heard_at = connection.socket, plain(connection.address), connection.data, now


class PushLines:
    """Takes connections over (``serve.handover.Taker``); ``run_once`` is called by one Loop."""

    def __init__(self, hub: Any, base_path: str = "") -> None:
        """``base_path``: what may stand before the hub's paths."""
        self._hub = hub
        self._starts = tuple(f"POST {way}{PUSH_PATH} HTTP/1.1\r\n".encode() for way in {"", base_path})
        self._new: Deque[Connection] = deque()
        self._lines: Dict[int, _Line] = {}
        self._ready = select.epoll()
        self._left: Deque[int] = deque()
        self._sweep_at = 0.0
        hub.pushes.waiting = lambda: len(self._left)

    def __len__(self) -> int:
        return len(self._lines)

    def wants(self, head: bytes) -> bool:
        """A push whose sender asks to stay. Never a proxy's: it sends others' requests on the same connection."""
        return head.startswith(self._starts) and _ASKS.search(head) is not None and _PROXIED.search(head) is None and len(self._lines) < MOST_LINES

    def take(self, connection: Connection) -> None:
        """It is answered with the next beat."""
        self._new.append(connection)

    def run_once(self, now: float) -> None:
        """One beat: read what came, answer it."""
        until = time.monotonic() + BUSY_SECONDS
        while self._new:
            self._admit(self._new.popleft(), now)
        if not self._left:
            self._left.extend(fd for fd, _ in self._ready.poll(0))
        while self._left:
            line = self._lines.get(self._left.popleft())
            if line is not None:
                self._read(line, now)
                if time.monotonic() > until:
                    break
        if time.monotonic() > self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
            self._sweep(now)

    def close(self) -> None:
        """End all; only after the thread of ``run_once`` has ended."""
        for line in list(self._lines.values()):
            self._drop(line)
        while self._new:
            self._new.popleft().socket.close()
        self._ready.close()

    def _admit(self, connection: Connection, now: float) -> None:
        line = _Line(connection, now)
        fd = line.socket.fileno()
        if fd < 0:
            return
        self._lines[fd] = line
        self._ready.register(fd, select.EPOLLIN)
        self._serve(line, now)

    def _read(self, line: _Line, now: float) -> None:
        try:
            data = line.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(line)
            return
        line.data = line.data + data if line.data else data
        line.heard_at = now
        self._serve(line, now)

    def _serve(self, line: _Line, now: float) -> None:
        """Answer the request that is whole; more than one at a time nobody sends."""
        request = _request(line.data)
        if request is None:
            if len(line.data) > HEAD_BYTES + MOST_BODY_BYTES:
                self._drop(line)
            return
        head, body, rest = request
        if body is None or rest or not head.startswith(self._starts):
            self._send(line, Answer(400, b'{"error":"This connection takes pushes alone, one after the other.","next_step":""}\n'))
            self._drop(line)
            return
        line.data = b""
        self._send(line, answer(self._hub, _said(_AUTHORIZATION, head), _said(_ENCODING, head).lower(), body, line.address, now))

    def _send(self, line: _Line, made: Answer) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in made.headers.items())
        head = f"HTTP/1.1 {made.status} {_REASONS.get(made.status, 'Error')}\r\nContent-Type: application/json\r\nContent-Length: {len(made.body)}\r\n{more}\r\n"
        data = head.encode() + made.body
        try:
            sent = line.socket.send(data)
        except OSError:
            sent = 0
        if sent != len(data):  # a few hundred bytes that do not go: it reads no answers
            self._drop(line)

    def _sweep(self, now: float) -> None:
        for line in [one for one in self._lines.values() if not 0 <= now - one.heard_at <= IDLE_SECONDS]:
            self._drop(line)

    def _drop(self, line: _Line) -> None:
        fd = line.socket.fileno()
        if self._lines.pop(fd, None) is not None:
            self._ready.unregister(fd)
        line.socket.close()


def _request(data: bytes) -> Optional[Tuple[bytes, Optional[bytes], bytes]]:
    """(head, body, what follows) of a whole request; body None = it is none that is taken here; None = it is not whole yet."""
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES)
    if end < 0:
        return (data, None, b"") if len(data) >= HEAD_BYTES else None
    head = data[: end + 2]
    found = _LENGTH.search(head)
    length = int(found.group(1)) if found is not None else -1
    if not 0 <= length <= MOST_BODY_BYTES:
        return head, None, b""
    start = end + 4
    if len(data) < start + length:
        return None
    return head, data[start : start + length], data[start + length :]


def _said(pattern: re.Pattern[bytes], head: bytes) -> str:
    found = pattern.search(head)
    return found.group(1).decode("latin-1").strip() if found is not None else ""
