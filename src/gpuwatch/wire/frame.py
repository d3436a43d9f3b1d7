"""A frame: one line of JSON header, one line of JSON values. What a sampler writes to its node and a node answers to a hub.

In place of the values a node may answer what changed (``wire.changes``); the header says so.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from gpuwatch.model.errors import WireError

CONTENT_TYPE = "application/x-gpuwatch-frame"
_SUSPECT_BYTES = 65536
_LONG_NUMBER = re.compile(rb"[0-9]{5000}")


def encode(header: dict[str, Any], values: bytes) -> bytes:
    """Two lines. ``values`` is a JSON array without line breaks."""
    return _HEADER.encode(header).encode() + b"\n" + values + b"\n"


def encode_values(values: list[Any]) -> bytes:
    """The values line: numbers and nulls, no spaces."""
    return _VALUES.encode(values).encode()


class ValuesEncoder:
    """The values lines of one sampler. A value that is the same object as the last time keeps its text: most values are."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._texts: list[str] = []

    def encode(self, values: list[Any]) -> bytes:
        """The same line as ``encode_values``, but for NaN and infinity, which are no numbers: null."""
        last = self._values if len(self._values) == len(values) else [_NOTHING] * len(values)
        texts = self._texts if len(self._values) == len(values) else [""] * len(values)
        self._texts = [
            text if value is old else repr(value) if value.__class__ is int else _text(value) for value, old, text in zip(values, last, texts)
        ]
        self._values = values
        return f"[{','.join(self._texts)}]".encode()


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if value.__class__ is float:
        return repr(value) if value - value == 0.0 else "null"
    return _VALUES.encode(value)


_NOTHING = object()


def decode(body: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, what follows it: the values, or what changed of them). Raises WireError for anything that is not a frame."""
    head, separator, values = body.partition(b"\n")
    if not separator:
        begin = "".join(one if one.isprintable() else " " for one in body[:40].decode("utf-8", "replace"))
        raise WireError(f"The answer is not a gpuwatch frame (it starts with {begin!r}).")
    header = loads(head)
    if not isinstance(header, dict):
        raise WireError("The frame's header is not a JSON object.")
    return header, values.rstrip(b"\n")


def loads(data: bytes, what: str = "answer") -> Any:
    """JSON from a stranger: no NaN or Infinity, no bottomless nesting, no endless number. Raises WireError. ``what``: what it is, for the sentence."""
    if len(data) > _SUSPECT_BYTES and _LONG_NUMBER.search(data):  # before 3.9.14 Python takes minutes for a number of megabytes
        raise WireError(f"The {what} has a number of thousands of digits.")
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"The {what} is not JSON: {str(error)[:100]}.") from None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


_HEADER = json.JSONEncoder(separators=(",", ":"))
_VALUES = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse)
"""Made once: making one costs as much as a small frame."""
