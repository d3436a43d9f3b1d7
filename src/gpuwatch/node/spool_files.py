"""The spool's files: segments of records, each line checked by itself, so that what a kill or a power cut tore is left out. Knows no hub.

A segment is never appended to after a restart, and never changed. Its name is its first sequence. Every segment brings the shapes of its records, so that any of
them can go alone. Must never be trusted: a damaged record ends its segment, nothing else.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

SUFFIX = ".segment"
MODE = 0o600
_HEAD_BYTES = 20
"""Of a line: 8 hex digits of the CRC-32, a blank, 10 digits of the length, a blank."""
_LONGEST = 16 * 1024**2


@dataclass
class Segment:
    """One file: which records it has, in order."""

    path: Path
    first: int
    last: int
    count: int
    first_at: float
    """When its first sample was taken."""
    last_at: float
    size: int


@dataclass(frozen=True)
class Stored:
    """One record as it lies in a file."""

    sequence: int
    taken_at: float
    shape_id: str
    status: Optional[Dict[str, Any]]
    line: bytes


class Writer:
    """Appends to one new segment. Raises OSError as the disk does; what was written before stays good."""

    def __init__(self, folder: Path, first: int, first_at: float) -> None:
        path = folder / f"{first:020d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, MODE)
        self._shapes: set[str] = set()
        self.segment = Segment(path, first, first, 0, first_at, first_at, 0)

    def write(self, record: Stored, shape: Dict[str, Any]) -> None:
        """One more record. Half of one is cut off again, where the disk is full in the middle of it."""
        data = b""
        if record.shape_id not in self._shapes:
            data = _line({"shape_id": record.shape_id}, _dump(shape))
        head = {"sequence": record.sequence, "taken_at": record.taken_at, "shape_id": record.shape_id, "status": record.status}
        data += _line(head, record.line)
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(28, "No space left on device")
        except OSError:
            os.ftruncate(self._file, self.segment.size)
            raise
        self._shapes.add(record.shape_id)
        segment = self.segment
        segment.last, segment.last_at, segment.count, segment.size = record.sequence, record.taken_at, segment.count + 1, segment.size + len(data)

    def close(self) -> None:
        """The segment is complete."""
        try:
            os.fdatasync(self._file)
        except OSError:
            pass
        os.close(self._file)


def _line(head: Dict[str, Any], data: bytes) -> bytes:
    body = _dump(head) + b"\t" + data
    return b"%08x %010d %s\n" % (zlib.crc32(body), len(body), body)


def read(path: Path) -> Iterator[Tuple[Optional[Stored], Tuple[str, Any]]]:
    """(record, ("", None)) and (None, (shape id, shape)) in order, up to the first that is damaged. Raises OSError."""
    data = path.read_bytes()
    at = 0
    while at + _HEAD_BYTES <= len(data):
        crc, length = data[at : at + 8], data[at + 9 : at + 19]
        if not length.isdigit() or int(length) > _LONGEST:
            return
        body = data[at + _HEAD_BYTES : at + _HEAD_BYTES + int(length)]
        at += _HEAD_BYTES + int(length) + 1
        if len(body) != int(length) or b"%08x" % zlib.crc32(body) != crc:
            return
        head, _, rest = body.partition(b"\t")
        doc = json.loads(head)
        if "sequence" in doc:
            yield Stored(doc["sequence"], doc["taken_at"], doc["shape_id"], doc["status"], rest), ("", None)
        else:
            yield None, (doc["shape_id"], json.loads(rest))


def found(folder: Path) -> List[Segment]:
    """The segments that lie there, in order; those without a single good record are deleted. Raises OSError."""
    segments = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        records = [record for record, _ in read(path) if record is not None]
        if not records:
            path.unlink()
            continue
        first, last = records[0], records[-1]
        segments.append(Segment(path, first.sequence, last.sequence, len(records), first.taken_at, last.taken_at, path.stat().st_size))
    return segments


def _dump(doc: Any) -> bytes:
    return json.dumps(doc, separators=(",", ":")).encode()
