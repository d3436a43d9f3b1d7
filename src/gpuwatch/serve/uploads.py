"""Bodies that are larger than the usual limit, on the addresses that take files: how large, how many at once, and a clear answer to the others.

waitress takes a body in before the app is asked, into a temporary file where it is large. So what is too large, or too much at once, is refused as soon
as its head is read: such a body is read and thrown away, for a client that is still sending would not read the answer.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Type
from weakref import WeakSet

MIB = 1024**2
TOO_LARGE = 413
LONGEST_SECONDS = 600.0
"""A client that takes longer to send a file makes room for others."""
DRAIN = 4
"""So many times the limit is read and thrown away at most; then the connection is cut."""


@dataclass(frozen=True)
class UploadLimits:
    """``paths`` that take files with POST; ``most_bytes`` of a body with the form around the file; ``most`` that are received or read at once."""

    paths: Tuple[str, ...] = ()
    most_bytes: int = 64 * MIB
    most: int = 2


NO_UPLOADS = UploadLimits()


class Refusal:
    """One line of plain text, in the shape of waitress's errors."""

    def __init__(self, status: str, text: str, retry_seconds: int = 0) -> None:
        self.status, self.text, self.retry_seconds = status, text, retry_seconds

    def to_response(self, ident: Optional[str] = None) -> Tuple[str, List[Tuple[str, str]], bytes]:
        """Status line, headers, body."""
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if self.retry_seconds:
            headers.append(("Retry-After", str(self.retry_seconds)))
        return self.status, headers, self.text.encode() + b"\n"


class Nowhere:
    """A buffer that keeps nothing but its length."""

    def __init__(self) -> None:
        self._length = 0

    def append(self, data: bytes) -> None:
        """Throw away."""
        self._length += len(data)

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        """Nothing is open."""


def parser_class(limits: UploadLimits) -> Type[Any]:
    """waitress's parser of requests, with other limits for ``limits.paths``."""
    from waitress.parser import HTTPRequestParser

    receiving: WeakSet[Any] = WeakSet()

    class Parser(HTTPRequestParser):  # type: ignore[misc,unused-ignore]
        """One request."""

        adj: Any
        expect_continue: bool
        error: Any
        refusal: Optional[Refusal] = None
        until: Optional[float] = None
        """When it must have come, by ``time.monotonic``; None = it is no upload that was let in."""

        def parse_header(self, header_plus: bytes) -> None:
            """The limits of an upload hold from its head on."""
            super().parse_header(header_plus)
            if self.command == "POST" and self.path in limits.paths and self.body_rcv is not None:
                _admit(self, limits, receiving)

        def received(self, data: bytes) -> int:
            """Bytes taken of ``data``."""
            taken: int = super().received(data)
            if self.refusal is not None or self.until is not None:
                _judge(self, limits)
            return taken

        def close(self) -> None:
            """It was answered."""
            receiving.discard(self)
            super().close()

    return Parser


def _admit(parser: Any, limits: UploadLimits, receiving: Any) -> None:
    parser.adj = copy.copy(parser.adj)
    parser.adj.max_request_body_size = limits.most_bytes * DRAIN
    if not parser.chunked and parser.content_length > limits.most_bytes:
        parser.refusal = too_large(limits.most_bytes)
    elif len(receiving) >= limits.most:
        parser.refusal = Refusal("503 Service Unavailable", "Others are sending files at the moment. Try again in a minute.", 60)
    else:
        receiving.add(parser)
        parser.until = time.monotonic() + LONGEST_SECONDS
        if parser.chunked:  # how much will come is not known; lengths of chunks are counted too
            parser.adj.max_request_body_size = limits.most_bytes + limits.most_bytes // 8 + 65536
        return
    parser.body_rcv.buf = Nowhere()


def _judge(parser: Any, limits: UploadLimits) -> None:
    """Whether a part of an upload was the last one, or the last that is taken."""
    if parser.refusal is not None and parser.expect_continue:  # it waits for our word before it sends
        parser.expect_continue, parser.completed = False, True
    if parser.until is not None and not parser.completed and time.monotonic() > parser.until:
        parser.refusal, parser.completed = Refusal("408 Request Timeout", f"The file did not come within {LONGEST_SECONDS:.0f} s."), True
    if parser.completed and parser.refusal is not None:
        parser.error = parser.refusal
    elif parser.completed and getattr(parser.error, "code", 0) == TOO_LARGE:
        parser.error = too_large(limits.most_bytes)


def too_large(most_bytes: int) -> Refusal:
    """For a body of more than ``most_bytes``."""
    return Refusal(
        "413 Request Entity Too Large",
        f"The file is larger than the {most_bytes / MIB:g} MiB that are taken here (setting upload_max_bytes). On the hub there is no limit: gpuwatch db import FILE",
    )
