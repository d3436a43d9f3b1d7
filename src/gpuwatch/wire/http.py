"""HTTP/1.1 as a client: a reader of answers without input or output, and a blocking ``fetch`` on it for the command line.

The hub's poller feeds the same reader. Every answer is hostile: total deadline, size caps, no redirects followed, no proxy from the
environment. Never logs a body, a header or a URL's query.
"""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from gpuwatch.model.errors import WireError

MAX_HEAD_BYTES = 16 * 1024
UNTRUSTED = "nobody who is trusted here signed it"
"""In the words about a certificate that no authority known here vouches for."""
MAX_CHUNK_LINE_BYTES = 256
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_TOKEN = re.compile(r"[A-Za-z]{1,20}")
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")


class Trust(NamedTuple):
    """Whom a connection trusts. Both empty: the system's authorities."""

    pin: str = ""
    """``sha256:`` and 64 hex digits: the SHA-256 of the certificate (DER)."""
    ca_file: str = ""
    """PEM file of authorities."""


class Response(NamedTuple):
    """An answer, complete."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header the last one."""
    body: bytes
    keeps_connection: bool = False
    """Another request may follow on the same connection."""


class ResponseReader:
    """Makes a Response from the bytes of a connection. Raises WireError as soon as the answer cannot become a good one."""

    def __init__(self, max_bytes: int, *, has_body: bool = True) -> None:
        """``max_bytes``: longest body; ``has_body``: False for the answer to HEAD."""
        self._max_bytes = max_bytes
        self._has_body = has_body
        self._head = b""
        self._status = 0
        self._headers: Dict[str, str] = {}
        self._keeps = False
        self._length: Optional[int] = None
        self._parts: List[bytes] = []
        self._size = 0
        self._chunks: Optional[_Chunks] = None

    @property
    def began(self) -> bool:
        """Something of the answer is here."""
        return bool(self._status or self._head)

    def feed(self, data: bytes) -> Optional[Response]:
        """The next bytes; the answer once it is complete."""
        while not self._status:
            self._head = self._head + data if self._head else data
            if not self._read_head():
                return None
            data, self._head = self._head, b""
        return self._read_body(data)

    def end(self) -> Response:
        """The connection was closed by the other side: complete only where the body has no stated length."""
        if self._status and self._length is None and self._chunks is None:
            return Response(self._status, self._headers, b"".join(self._parts))
        if self.began:
            raise WireError("The connection was closed in the middle of the answer.")
        raise WireError("The connection was closed without an answer.")

    def _read_head(self) -> bool:
        """True when the head is read and ``_head`` holds what came after it; also after an interim answer (1xx)."""
        head, separator, rest = self._head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1."[: len(head)]):
            raise WireError(f"The answer is not HTTP (it starts with {_shown(head)}).")
        if len(head) > MAX_HEAD_BYTES:
            raise WireError(f"The answer's headers are longer than {MAX_HEAD_BYTES} bytes.")
        if not separator:
            return False
        lines = head.split(b"\r\n")
        match = _STATUS.fullmatch(lines[0])
        if match is None:
            raise WireError(f"The answer is not HTTP (it starts with {_shown(lines[0])}).")
        self._head = rest
        status = int(match.group(2))
        if status < 200:
            return bool(rest)
        self._status = status
        self._headers = _headers(lines[1:])
        self._plan_body(match.group(1) == b"1")
        return True

    def _plan_body(self, is_1_1: bool) -> None:
        headers = self._headers
        connection = headers.get("connection", "").lower()
        self._keeps = "close" not in connection if is_1_1 else "keep-alive" in connection
        if not self._has_body or self._status in (204, 304):
            self._length = 0
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise WireError(f"The answer's transfer encoding is {headers['transfer-encoding'][:40]!r}, only chunked is known.")
            self._chunks = _Chunks(self._max_bytes)
        elif "content-length" in headers:
            text = headers["content-length"]
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                raise WireError(f"The answer's Content-Length is {text[:40]!r}, not a number.")
            self._length = int(text)
            _check_size(self._length, self._max_bytes)
        else:
            self._keeps = False

    def _read_body(self, data: bytes) -> Optional[Response]:
        if self._chunks is not None:
            whole = self._chunks.feed(data)
            return None if whole is None else Response(self._status, self._headers, whole, self._keeps and not self._chunks.rest)
        self._size += len(data)
        self._parts.append(data)
        if self._length is None:
            _check_size(self._size, self._max_bytes)
            return None
        if self._size < self._length:
            return None
        body = data if len(self._parts) == 1 else b"".join(self._parts)
        return Response(self._status, self._headers, body[: self._length], self._keeps and self._size == self._length)


class _Chunks:
    """Decodes a chunked body. Each chunk counts for at least 64 bytes, so that a body of tiny chunks is no way to burn the reader's time."""

    _SIZE, _DATA, _LINE_END, _TRAILERS = range(4)

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._cost = 0
        self._step = self._SIZE
        self._left = 0
        self.rest = b""
        """Bytes that are not read yet; after the end, what followed the answer."""

    def feed(self, data: bytes) -> Optional[bytes]:
        """The whole body once the last chunk is here."""
        data, at = self.rest + data, 0
        while True:
            if self._step == self._DATA:
                part = data[at : at + self._left]
                self._body += part
                self._left -= len(part)
                at += len(part)
                if self._left:
                    self.rest = b""
                    return None
                self._step = self._LINE_END
            end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE_BYTES)
            if end < 0:
                if len(data) - at >= MAX_CHUNK_LINE_BYTES:
                    raise WireError("The answer's chunked encoding is broken: a line is too long.")
                self.rest = data[at:]
                return None
            line, at = data[at:end], end + 2
            if self._step == self._TRAILERS and not line:
                self.rest = data[at:]
                return bytes(self._body)
            self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        if self._step == self._LINE_END:
            if line:
                raise WireError("The answer's chunked encoding is broken: a chunk is longer than its size.")
            self._step = self._SIZE
        elif self._step == self._TRAILERS:
            self._count(len(line))
        else:
            digits = line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", digits):
                raise WireError(f"The answer's chunked encoding is broken: {_shown(line)} is not a size.")
            self._left = int(digits, 16)
            self._count(self._left)
            self._step = self._DATA if self._left else self._TRAILERS

    def _count(self, size: int) -> None:
        self._cost += max(size, 64)
        _check_size(self._cost, self._max_bytes)


def _headers(lines: List[bytes]) -> Dict[str, str]:
    found = {}
    for line in lines:
        name, separator, value = line.partition(b":")
        if not separator:
            raise WireError(f"The answer has a broken header ({_shown(line)}).")
        found[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
    return found


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise WireError(f"The answer is larger than {max_bytes} bytes.")


def _shown(data: bytes) -> str:
    return repr(data[:40].decode("ascii", "replace"))


def fetch(
    url: str,
    *,
    method: str = "GET",
    body: Optional[bytes] = None,
    headers: Optional[Mapping[str, str]] = None,
    deadline_seconds: float = 4.0,
    max_bytes: int = 4 * 1024**2,
    program: str = "gpuwatch",
    trust: Optional[Trust] = None,
) -> Response:
    """One request on a connection of its own. ``deadline_seconds`` is for all of it: name, connection, certificate, answer.

    ``program``: what should run there, for the sentences; ``trust``: whose certificate is taken, None = the system's authorities. Raises WireError in words; any HTTP status is a Response.
    """
    host, port, secure, path = parse_url(url)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    ends_at = time.monotonic() + deadline_seconds
    request = build_request(method, address, path, body, headers or {}, close=True)
    try:
        with connect(host, port, ends_at) as plain:
            with secured(plain, host, address, ends_at, trust) if secure else plain as connection:
                connection.settimeout(seconds_left(ends_at))
                connection.sendall(request)
                return read_all(connection, ResponseReader(max_bytes, has_body=method != "HEAD"), ends_at)
    except (OSError, ValueError) as error:
        raise network_error(error, address, deadline_seconds, program) from None


def build_request(method: str, address: str, path: str, body: Optional[bytes], headers: Mapping[str, str], *, close: bool = False) -> bytes:
    """The bytes of a request. Raises WireError where a part could break out of its place."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address}"]
    for name, value in headers.items():
        if _UNSAFE.search(name) or ":" in name or re.search(r"[\r\n\x00]", value):
            raise WireError(f"The header {name[:40]!r} has a character that no header may have.")
        lines.append(f"{name}: {value}")
    if not _TOKEN.fullmatch(method) or _UNSAFE.search(path):
        raise WireError(f"{method[:20]!r} {path[:60]!r} is not a request.")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + (body or b"")


def network_error(error: BaseException, address: str, deadline_seconds: float, program: str) -> WireError:
    """Why a connection failed, in words with the next step."""
    if isinstance(error, ConnectionRefusedError):
        return WireError(f"connection refused by {address}.", f"Next: is {program} running there?")
    if isinstance(error, socket.gaierror):
        return WireError(f"the name of {address} is not known: {error.strerror or error}.", "Next: check the name, or write the address.")
    if isinstance(error, (TimeoutError, socket.timeout)):
        return _no_answer(address, deadline_seconds, program)
    if type(error).__module__ == "ssl":
        from gpuwatch.wire import tls

        return tls.explained(error, address)  # type: ignore[arg-type]
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return WireError("too many files are open here.", "Next: raise the limit (ulimit -n, or LimitNOFILE= of the service).")
    if isinstance(error, ConnectionError):
        return WireError(f"{address} closed the connection: {_reason(error)}.", f"Next: is it {program} that runs there?")
    return WireError(f"no connection to {address}: {_reason(error)}.", "Next: check the address and the network.")


def _no_answer(address: str, seconds: float, program: str) -> WireError:
    return WireError(f"no answer from {address} within {seconds:g} s.", f"Next: is the machine on, and {program} running there?")


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


def parse_url(url: str) -> Tuple[str, int, bool, str]:
    """(host, port, whether it is https, path with its query). Raises WireError for what is no such URL, or holds a name or password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise WireError(f"{url[:80]!r} is not a URL: {error}.") from None
    if parts.scheme not in ("http", "https") or not host or _UNSAFE.search(url):
        raise WireError(f"{url.partition('?')[0][:80]!r} is not a URL such as http://hub.lab:7070/.")
    if parts.username is not None or parts.password is not None:
        raise WireError("a URL must not hold a name or password.", "Next: leave out everything before the @.")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, (443 if secure else 80) if port is None else port, secure, path


def seconds_left(ends_at: float) -> float:
    """Seconds until ``ends_at`` (``time.monotonic``). Raises socket.timeout when there are none."""
    left = ends_at - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def connect(host: str, port: int, ends_at: float) -> socket.socket:
    """A connection to the first of the name's addresses that takes one; each gets its share of the time that is left."""
    addresses = resolve(host, port, seconds_left(ends_at))
    for place, (family, target) in enumerate(addresses):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds_left(ends_at) / (len(addresses) - place))
            connection.connect(target)
            return connection
        except OSError:
            connection.close()
            if place == len(addresses) - 1:
                raise
    raise OSError("the name has no address")


def resolve(host: str, port: int, seconds: float) -> List[Tuple[int, Any]]:
    """(family, address) of a name, at most 4. The system's resolver knows no deadline: it runs in a thread that is left behind when
    it hangs. Raises OSError."""
    numeric = _numeric(host, port)
    if numeric:
        return numeric
    found: List[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=look_up, name=f"resolve {host}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise socket.timeout("timed out")
    if isinstance(found[0], UnicodeError):
        raise OSError("the name is not a host name")
    if isinstance(found[0], OSError):
        raise found[0]
    return [(family, address) for family, _, _, _, address in found[0][:4]]


def _numeric(host: str, port: int) -> List[Tuple[int, Any]]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in infos]


def secured(plain: socket.socket, host: str, address: str, ends_at: float, trust: Optional[Trust]) -> socket.socket:
    """TLS on a connection, its certificate checked, pin included. Raises WireError, OSError."""
    from gpuwatch.wire import tls

    chosen = trust or Trust()
    plain.settimeout(seconds_left(ends_at))
    secure = tls.context_of(chosen).wrap_socket(plain, server_hostname=host)
    try:
        tls.check_pin(chosen, secure.getpeercert(True), address)
    except WireError:
        secure.close()
        raise
    return secure


def read_all(connection: socket.socket, reader: ResponseReader, ends_at: float) -> Response:
    """The answer on this connection. Raises WireError, OSError."""
    while True:
        connection.settimeout(seconds_left(ends_at))
        data = connection.recv(65536)
        response = reader.feed(data) if data else reader.end()
        if response is not None:
            return response
