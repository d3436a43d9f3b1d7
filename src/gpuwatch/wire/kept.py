"""A connection that is kept between requests: a blocking client with a total deadline for each, for one thread. Never logs a body or a header."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Callable, Mapping, Optional

from gpuwatch.model.errors import WireError
from gpuwatch.wire import http
from gpuwatch.wire.http import Response, ResponseReader, Trust, build_request, network_error


class KeptConnection:
    """To one address; opened when it is needed, and again when the other side closed it meanwhile."""

    def __init__(self, url: str, *, program: str, trust: Optional[Trust] = None, max_bytes: int = 1024**2) -> None:
        """``url``: its path stands before those of the requests. Raises WireError for what is no URL."""
        self._host, self._port, self.is_secure, path = http.parse_url(url)
        self.base_path = path.rstrip("/")
        self.address = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        self._program = program
        self._trust = trust
        self._max_bytes = max_bytes
        self._socket: Optional[socket.socket] = None

    def post(self, path: str, body: bytes, headers: Callable[[], Mapping[str, str]], deadline_seconds: float) -> Response:
        """POST, within so many seconds in all. Raises WireError in words; any HTTP status is a Response.

        ``headers`` is called for each try: one that is signed is good for one only.
        """
        ends_at = time.monotonic() + deadline_seconds

        def request() -> bytes:
            return build_request("POST", self.address, self.base_path + path, body, headers())

        try:
            was_open = self._socket is not None
            try:
                return self._exchange(request(), ends_at)
            except _ClosedBetween:
                if not was_open:
                    raise ConnectionResetError("closed without an answer") from None
                return self._exchange(request(), ends_at)
        except _ClosedBetween:
            raise WireError(f"{self.address} closed the connection without an answer.", f"Next: is it {self._program} that runs there?") from None
        except (OSError, ValueError) as error:
            raise network_error(error, self.address, deadline_seconds, self._program) from None

    def close(self) -> None:
        """End the connection; the next request opens another one. From any thread: a request under way fails."""
        connection, self._socket = self._socket, None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # a thread that waits for the answer is not woken by the close alone
            connection.close()

    def _exchange(self, request: bytes, ends_at: float) -> Response:
        """One request and its answer. Raises _ClosedBetween where the other side had closed before it began to answer."""
        if self._socket is None:
            self._socket = self._open(ends_at)
        connection, reader = self._socket, ResponseReader(self._max_bytes)
        try:
            connection.settimeout(http.seconds_left(ends_at))
            connection.sendall(request)
            response = http.read_all(connection, reader, ends_at)
        except BaseException as error:
            if self._socket is not connection:
                raise ConnectionAbortedError("it was ended here") from None
            self.close()
            if isinstance(error, (BrokenPipeError, ConnectionResetError)) or (isinstance(error, WireError) and not reader.began):
                raise _ClosedBetween from None
            raise
        if not response.keeps_connection:
            self.close()
        return response

    def _open(self, ends_at: float) -> socket.socket:
        plain = http.connect(self._host, self._port, ends_at)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return http.secured(plain, self._host, self.address, ends_at, self._trust) if self.is_secure else plain
        except BaseException:
            plain.close()
            raise


class _ClosedBetween(Exception):
    """The connection was closed while nobody used it."""
