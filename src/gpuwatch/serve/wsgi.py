"""WSGI wrappers: errors without tracebacks, HEAD, gzip, limited bodies, log of requests. Must never show a client a traceback, nor log a query."""

from __future__ import annotations

import logging
import re
import sys
import time
import zlib
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Tuple

Environ = Dict[str, Any]
Headers = List[Tuple[str, str]]
StartResponse = Callable[..., Any]
App = Callable[[Any, Any], Iterable[bytes]]

log = logging.getLogger(__name__)
access = log.getChild("access")

GZIP_LEAST_BYTES = 1024
LEAST_UNCOPIED_BYTES = 65536
MOST_OF_HEADER = 1000
"""Characters of an Accept-Encoding that are looked at: what they mean is kept."""
_COMPRESSIBLE = re.compile(r"text/|application/(json|javascript|x-gpuwatch-frame|[\w.+-]*\+json)|image/svg\+xml", re.IGNORECASE)
_NO_BODY = ("1", "204", "304")


def wrap(app: App, max_body_bytes: int, access_log: bool = True, larger: Mapping[str, int] = MappingProxyType({})) -> App:
    """All wrappers of this module, in their order. ``larger``: path -> bytes, where larger bodies are taken."""
    wrapped = from_memory(guard(plain_address(limit_body(head(gzip(app)), max_body_bytes, larger))))
    return log_requests(wrapped) if access_log else wrapped


def from_memory(app: App) -> App:
    """Large bodies are sent from where they lie. The server would copy each into a buffer of its own, and out of it again for every send."""

    def uncopied(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body, wrapper = app(environ, start_response), environ.get("wsgi.file_wrapper")
        if wrapper is None or not isinstance(body, (list, tuple)) or len(body) != 1 or len(body[0]) < LEAST_UNCOPIED_BYTES:
            return body
        return wrapper(_Memory(body[0]))  # type: ignore[no-any-return]

    return uncopied


class _Memory:
    """Bytes as a file, read without copying."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._at = 0

    def read(self, count: int) -> memoryview:
        """The next bytes, at most ``count``."""
        begin, self._at = self._at, min(self._at + count, len(self._view))
        return self._view[begin : self._at]

    def tell(self) -> int:
        """Where reading goes on."""
        return self._at

    def seek(self, at: int, whence: int = 0) -> None:
        """Go on reading elsewhere, as files know it: so far from the start, from here, or from the end."""
        self._at = (0, self._at, len(self._view))[whence] + at


def text(start_response: StartResponse, status: str, message: str, headers: Headers | None = None) -> List[bytes]:
    """Answer one line of plain text."""
    body = message.rstrip("\n").encode() + b"\n"
    start_response(
        status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *(headers or [])], *_pending_error()
    )
    return [body]


def _pending_error() -> Tuple[Any, ...]:
    error = sys.exc_info()
    return (error,) if error[0] is not None else ()


def guard(app: App) -> App:
    """An error in ``app`` becomes a 500 with a short id, which stands in the log beside the traceback."""

    def guarded(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            body = app(environ, start_response)
        except Exception:
            return text(start_response, "500 Internal Server Error", f"Something broke here; the log has it under {_note(environ)}.")
        return body if isinstance(body, (list, tuple)) else _watched(body, environ)

    return guarded


def _note(environ: Environ) -> str:
    number = f"{time.time_ns() & 0xFFFFFFFF:08x}"
    log.exception("error %s in %s %s", number, environ.get("REQUEST_METHOD"), printable(environ.get("PATH_INFO", "")))
    return number


def _watched(body: Iterable[bytes], environ: Environ) -> Iterator[bytes]:
    """A streamed body: its headers are out already, so an error can only cut the connection, which tells the client."""
    try:
        yield from body
    except Exception:
        _note(environ)
        raise
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


def plain_address(app: App) -> App:
    """REMOTE_ADDR of an IPv4 client on a socket for both families: 192.0.2.1 instead of ::ffff:192.0.2.1."""

    def plain(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        address = str(environ.get("REMOTE_ADDR", ""))
        if address.startswith("::ffff:") and "." in address:
            environ["REMOTE_ADDR"] = address[7:]
        return app(environ, start_response)

    return plain


def limit_body(app: App, max_bytes: int, larger: Mapping[str, int] = MappingProxyType({})) -> App:
    """413 for a larger body; ``larger``: path -> bytes, where more is taken. The server has given chunked bodies a Content-Length by now."""

    def limited(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        length, most = environ.get("CONTENT_LENGTH") or "0", larger.get(environ.get("PATH_INFO", ""), max_bytes)
        if length.isascii() and length.isdigit() and len(length) < 19 and int(length) <= most:
            return app(environ, start_response)
        return text(start_response, "413 Request Entity Too Large", f"The body is larger than the {most} bytes that are taken here.")

    return limited


IS_HEAD = "gpuwatch.head"
"""In the environ where it is so: for old addresses whose GET changes something, which must not happen by HEAD."""


def head(app: App) -> App:
    """HEAD is GET without the body; headers, Content-Length among them, are the same."""

    def without_body(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") != "HEAD":
            return app(environ, start_response)
        answer = _Answer()
        body = answer.run(app, {**environ, "REQUEST_METHOD": "GET", IS_HEAD: True})
        if isinstance(body, (list, tuple)) and not answer.header("Content-Length") and not answer.status.startswith(_NO_BODY):
            answer.headers.append(("Content-Length", str(sum(map(len, body)))))
        close = getattr(body, "close", None)
        if close is not None:
            close()
        start_response(answer.status, answer.headers)
        return []

    return without_body


def accepts_gzip(environ: Environ) -> bool:
    """The client takes gzip: named in Accept-Encoding with a weight above zero (RFC 9110, 12.5.3)."""
    return _names_gzip(str(environ.get("HTTP_ACCEPT_ENCODING", ""))[:MOST_OF_HEADER])


@lru_cache(maxsize=256)
def _names_gzip(header: str) -> bool:
    taken: Dict[str, bool] = {}
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        name = {"x-gzip": "gzip"}.get(name.strip(), name.strip())
        taken[name] = not re.search(r"q\s*=\s*0(\.0*)?\s*$", parameters)
    return taken.get("gzip", taken.get("*", False))


def compress(body: bytes, level: int = 6) -> bytes:
    """``body`` as gzip, the same bytes each time (no time of day inside)."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def gzip(app: App) -> App:
    """Compress text bodies of more than 1 kB for clients that take it. Bodies that carry a Content-Encoding already pass through."""

    def zipped(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer = _Answer()
        body = answer.run(app, environ)
        if isinstance(body, (list, tuple)) and answer.may_be_compressed():
            answer.vary_on_encoding()
            if sum(map(len, body)) > GZIP_LEAST_BYTES and accepts_gzip(environ):
                body = [compress(b"".join(body))]
                answer.is_compressed(len(body[0]))
        start_response(answer.status, answer.headers)
        return body

    return zipped


class _Answer:
    """Status and headers of an inner app, held back until its body is known."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: Headers = []

    def run(self, app: App, environ: Environ) -> Iterable[bytes]:
        body = app(environ, self._start_response)
        if self.status:
            return body
        # a generator calls start_response when its first piece is asked for
        pieces = iter(body)
        first = next(pieces, b"")
        return _rest(first, pieces, body)

    def _start_response(self, status: str, headers: Headers, exc_info: Any = None) -> None:
        self.status, self.headers = status, list(headers)

    def header(self, name: str) -> str:
        """Value of a header; empty if it is not there."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")

    def replace(self, name: str, value: str) -> None:
        self.headers = [(key, old) for key, old in self.headers if key.lower() != name.lower()] + [(name, value)]

    def may_be_compressed(self) -> bool:
        wanted = not self.status.startswith(_NO_BODY) and not self.header("Content-Encoding")
        return wanted and bool(_COMPRESSIBLE.match(self.header("Content-Type")))

    def vary_on_encoding(self) -> None:
        names = [name.strip() for name in self.header("Vary").split(",") if name.strip()]
        if not {"accept-encoding", "*"} & {name.lower() for name in names}:
            self.replace("Vary", ", ".join([*names, "Accept-Encoding"]))

    def is_compressed(self, length: int) -> None:
        self.replace("Content-Encoding", "gzip")
        self.replace("Content-Length", str(length))
        tag = self.header("ETag")
        if tag and not tag.startswith("W/"):  # other bytes: the tag says "equal in meaning" now
            self.replace("ETag", "W/" + tag)


def _rest(first: bytes, pieces: Iterator[bytes], body: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from pieces
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


def log_requests(app: App) -> App:
    """One line a request in the log: address, method, path, status, milliseconds. Never the query: it may hold a token."""

    def logged(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        began = time.monotonic()
        path = printable(environ.get("PATH_INFO", ""))

        def start(status: str, headers: Headers, *error: Any) -> Any:
            spent = (time.monotonic() - began) * 1000
            access.info("%s %s %s %s %.1f ms", environ.get("REMOTE_ADDR"), environ.get("REQUEST_METHOD"), path, status[:3], spent)
            return start_response(status, headers, *error)

        return app(environ, start)

    return logged


def printable(words: str, limit: int = 200) -> str:
    """Text from a stranger, fit for a log: WSGI's Latin-1 read as UTF-8, control characters as ``?``, cut."""
    try:
        words = words.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        pass
    return "".join(character if character.isprintable() else "?" for character in words[:limit])
