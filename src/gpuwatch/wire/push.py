"""What a pushing node sends to a hub and what it is answered: one JSON line, then the values of each snapshot on a line of its own. Pure.

    {"push": 1, "version", "sent_at", "after", "records": [[sequence, shape id, status or null, base], ...], "live": [shape id, status or null] or null,
     "shapes": {shape id: shape}, "lost": [count, from, to] or null}

``records`` are in order, those that follow sequence ``after`` (null: the node does not know yet what the hub has). A record with a ``base`` (not 0) has two lines:
what changed since the record of that sequence (``wire.changes``), which is the one before, or the one whose values the hub said that it has. ``live`` is
the newest snapshot where the records do not end with it: it is shown, not stored.
"""

from __future__ import annotations

import json
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.wire.frame import loads

CONTENT_TYPE = "application/x-gpuwatch-push"
PUSH_PATH = "/api/v1/push"
ENROLL_PATH = "/api/v1/enroll"
FETCH_PATH = "/get-missed"
VERSION = 1
MOST_RECORDS = 256
MOST_SEQUENCE = 2**53
LONGEST_ID = 64
HOP = "gpuwatch-push"
"""A token of the header ``Connection``: no proxy passes it on, so who reads it talks with the node itself."""
UNKNOWN_KEY = "Gpuwatch enroll"
"""``WWW-Authenticate`` of a 401 for a key that the hub does not know, or that is not this one."""
Status = Optional[Mapping[str, Any]]


class Record(NamedTuple):
    """One snapshot on its way. ``sequence``: 0 for one that is live alone."""

    sequence: int
    shape_id: str
    status: Status
    values: bytes
    """One line; two of what changed since ``base``."""
    base: int = 0
    """Sequence of the record that it builds on, which is of the same shape; 0: none."""


class Push(NamedTuple):
    """One push. ``lost``: so many snapshots that the node had to drop, and when the first and last of them were taken."""

    version: str
    sent_at: float
    after: Optional[int]
    records: Sequence[Record]
    live: Optional[Record] = None
    shapes: Mapping[str, Any] = {}
    lost: Optional[Tuple[int, float, float]] = None


class Reply(NamedTuple):
    """What the hub has. ``have``: the last sequence it took; None = it cannot tell now. ``stored``: the last that is on its disk.

    ``shape``: the shape it knows; ``sample``: sequence of the record whose values it has at hand, 0 for none; ``hold_seconds``: send no records for so long, only the live one; ``orders``: for a later version.
    """

    have: Optional[int]
    stored: int
    shape: str = ""
    sample: int = 0
    hold_seconds: float = 0.0
    orders: Sequence[Any] = ()


def encode_push(push: Push) -> bytes:
    """The body of a push."""
    header = {
        "push": VERSION,
        "version": push.version,
        "sent_at": round(push.sent_at, 3),
        "after": push.after,
        "records": [(*record[:3], record.base) for record in push.records],
        "live": None if push.live is None else push.live[1:3],
        "shapes": push.shapes,
        "lost": push.lost,
    }
    lines = [record.values for record in push.records]
    if push.live is not None:
        lines.append(push.live.values)
    return b"\n".join((_ENCODER.encode(header).encode(), *lines, b""))


def decode_push(body: bytes) -> Push:
    """Raises WireError for anything that is not one."""
    head, *lines = body.split(b"\n")
    header = loads(head)
    if not isinstance(header, dict) or header.get("push") != VERSION:
        raise WireError(f"This is no push of version {VERSION}.", "Next: upgrade the older of node and hub.")
    heads, live, shapes, after = header.get("records"), header.get("live"), header.get("shapes") or {}, header.get("after")
    if not isinstance(heads, list) or len(heads) > MOST_RECORDS or not isinstance(shapes, dict) or not (after is None or is_sequence(after)):
        raise WireError("The head of the push is not as it should be.")
    records, last = _records(heads, live, lines)
    if any(one.sequence >= other.sequence for one, other in zip(records, records[1:])):
        raise WireError("The records of the push are not in order.")
    version, sent_at = header.get("version"), header.get("sent_at")
    if isinstance(sent_at, bool) or not isinstance(sent_at, (int, float)):
        raise WireError("The push does not say when it was sent.")
    return Push(str(version)[:40] if isinstance(version, str) else "", float(sent_at), after, records, last, shapes, _lost(header.get("lost")))


def _records(heads: List[Any], live: object, lines: List[bytes]) -> Tuple[List[Record], Optional[Record]]:
    """The records, and the live one. Raises WireError where heads and lines do not match."""
    rest = iter(lines)
    try:
        records = [_record(head, rest, False) for head in heads]
        last = None if live is None else _record([0, *live, 0] if isinstance(live, list) else live, rest, True)
    except StopIteration:
        raise WireError("The push has fewer lines of values than its head says.") from None
    if list(rest) != [b""]:
        raise WireError("The push has more lines of values than its head says.")
    return records, last


def _record(head: object, lines: Iterator[bytes], live: bool) -> Record:
    if not isinstance(head, list) or len(head) != 4:
        raise WireError("A record of the push is not as it should be.")
    sequence, shape_id, status, base = head
    if not (live or (is_sequence(sequence) and sequence)) or not isinstance(shape_id, str) or len(shape_id) > LONGEST_ID or not is_sequence(base):
        raise WireError("A record of the push has no sequence or shape.")
    values = b"%s\n%s" % (next(lines), next(lines)) if base else next(lines)
    return Record(sequence, shape_id, status if isinstance(status, dict) else None, values, base)


def is_sequence(value: object) -> bool:
    """A whole number from 0 up."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_SEQUENCE


def _lost(value: object) -> Optional[Tuple[int, float, float]]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(one, (int, float)) and not isinstance(one, bool) and 0 <= one < 1e12 for one in value):
        return None
    return int(value[0]), float(value[1]), float(value[2])


def encode_reply(reply: Reply) -> bytes:
    """The body of a reply; written by hand, for a hub makes hundreds a second."""
    have = "null" if reply.have is None else reply.have
    orders = _ENCODER.encode(list(reply.orders)) if reply.orders else "[]"
    return f'{{"push":{VERSION},"have":{have},"stored":{reply.stored},"shape":"{reply.shape}","sample":{reply.sample},"hold":{reply.hold_seconds:g},"orders":{orders}}}\n'.encode()


def decode_reply(body: bytes) -> Reply:
    """Raises WireError for anything that is not one."""
    doc = loads(body)
    if not isinstance(doc, dict) or doc.get("push") != VERSION:
        raise WireError("The answer is not that of a gpuwatch hub to a push.")
    have, stored, sample, hold = doc.get("have"), doc.get("stored"), doc.get("sample", 0), doc.get("hold")
    if not (have is None or is_sequence(have)) or not isinstance(stored, int) or not isinstance(sample, int) or isinstance(hold, bool) or not isinstance(hold, (int, float)):
        raise WireError("The answer to a push does not say what the hub has.")
    orders = doc.get("orders")
    return Reply(have, stored, str(doc.get("shape") or "")[:LONGEST_ID], sample, min(max(float(hold), 0.0), 3600.0), orders if isinstance(orders, list) else ())


_ENCODER = json.JSONEncoder(separators=(",", ":"))
