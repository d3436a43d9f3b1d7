"""The recorded messages of this folder as requests and replies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
_MARK = re.compile(rb"(?:^|\n)<<<(REQUEST|RESPONSE)>>>\n")


class Message(NamedTuple):
    """A request or a reply: its first line, headers by lower-case name, body."""

    first: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, if it is JSON."""
        return json.loads(self.body)

    @property
    def status(self) -> int:
        """Of a reply."""
        return int(self.first.split()[1])

    @property
    def method(self) -> str:
        """Of a request."""
        return self.first.split()[0]

    @property
    def path(self) -> str:
        """Of a request, with its query."""
        return self.first.split()[1]


class Exchange(NamedTuple):
    """What was asked and what was answered."""

    request: Message
    response: Message


def exchange(name: str) -> Exchange:
    """The one in ``NAME.raw``; a message may have come in pieces."""
    pieces = _MARK.split((FOLDER / f"{name}.raw").read_bytes())
    whole = {b"REQUEST": b"", b"RESPONSE": b""}
    for kind, text in zip(pieces[1::2], pieces[2::2]):
        whole[kind] += text
    return Exchange(_message(whole[b"REQUEST"]), _message(whole[b"RESPONSE"]))


def _message(data: bytes) -> Message:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    assert len(body) >= length, data
    return Message(first, headers, body[:length])
