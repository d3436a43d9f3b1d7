"""A file to be imported: opening it (compressed or not, text or database), telling its format, its rows, and how far they were read."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import chain, islice
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.store import old_databases
from gpuwatch.wire.csv_in import sniff, text
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import ImportedRow, Report

BLOCK_BYTES = 65536
MOST_SUBJECTS = 5000


def _unxz(file: IO[bytes]) -> Any:
    try:
        import lzma  # some Pythons are built without it: they read all but .xz
    except ImportError:
        raise UsageError("The file is packed by xz, and this Python was built without lzma.", "Unpack it first: xz -d FILE") from None
    return lzma.LZMAFile(file)


_PACKED: Tuple[Tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", _unxz),
)
"""What compressed logs begin with (logrotate's), and what unpacks them as they are read."""


_LABEL = re.compile(r"[^A-Za-z0-9._-]+")
_ENDINGS = re.compile(r"(\.(gz|bz2|xz|csv|txt|log|db|sqlite3?))+$", re.IGNORECASE)


def label_of(text: str, file_name: str) -> str:
    """What a file's readings are called after ``import:`` where it names no host: ``text``, or else the file's name without its endings."""
    return _LABEL.sub("-", text or _ENDINGS.sub("", file_name)).strip("-")[:100] or "file"


@dataclass
class Seen:
    """What was read of one GPU, or of processes whose GPU is not named."""

    name: Optional[str]
    rows: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


@dataclass
class Summary:
    """What was read, by (host, GPU)."""

    subjects: Dict[Tuple[str, str], Seen] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)

    def count(self, rows: Iterator[ImportedRow]) -> Iterator[ImportedRow]:
        """The rows, counted as they pass."""
        for row in rows:
            seen = self.subjects.get((row.machine, row.gpu))
            if seen is None:
                key = (row.machine, row.gpu) if len(self.subjects) < MOST_SUBJECTS else ("", "...")
                seen = self.subjects.setdefault(key, Seen(row.name, first_at=row.at, last_at=row.at))
            seen.rows += 1
            seen.first_at, seen.last_at = min(seen.first_at, row.at), max(seen.last_at, row.at)
            if row.user is not None and len(self.users) < MOST_SUBJECTS:
                self.users.add(row.user)
            yield row


def told(source: Source, format: str, why: str, report: Report, summary: Summary, zone: tzinfo) -> Dict[str, Any]:
    """What was understood of a file, which lines were not and why, as JSON takes it. Times are epoch seconds."""
    return {
        "file": source.name,
        "format": format,
        "why": why,
        "zone": str(zone),
        "rows": report.rows,
        "users": len(summary.users),
        "gpus": [
            {"host": host, "gpu": gpu, "name": seen.name, "rows": seen.rows, "first_at": seen.first_at, "last_at": seen.last_at}
            for (host, gpu), seen in sorted(summary.subjects.items())
        ],
        "refused_count": report.refused_count,
        "refused": [{"line": line, "why": reason} for line, reason in report.refused],
        "notes": list(report.notes),
    }


class Source:
    """One file. Nothing of it is kept in memory but the line that is read."""

    def __init__(self, path: str) -> None:
        self.path, self.name = path, os.path.basename(path)
        self.position = 0
        """Bytes of the file, or records of the database, that were read."""
        self.size = 0
        """In the same measure."""

    def digest(self) -> str:
        """SHA-256 of the file. Raises UsageError where it cannot be read."""
        found = hashlib.sha256()
        with self._file() as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
        return found.hexdigest()

    @contextmanager
    def opened(self, zone: tzinfo, format: str, fields: Sequence[str]) -> Iterator[Tuple[str, str, Report, Iterator[ImportedRow]]]:
        """(format, why it is that one, report, rows); ``format`` and ``fields`` as the person named them, or empty. ``zone``: of local times.

        Raises UsageError, also while rows are read: for a file of no known format, or one that cannot be unpacked.
        """
        with self._file() as file:
            is_database = file.read(len(old_databases.MAGIC)) == old_databases.MAGIC
            self.size = os.fstat(file.fileno()).st_size
        report = Report()
        if is_database:
            with old_databases.opened(self.path) as connection:
                found = old_databases.sniff(connection)
                self._refuse_unknown(found.format, found.why)
                self.size = old_databases.count(connection, found)
                yield found.format, found.why, report, self._followed(old_databases.rows(connection, found, report, zone), report)
        else:
            with self._file() as file:
                first, lines = self._lines(file)
                told = sniff.sniff(first) if not format else sniff.Sniffed(format, "As you say.", needs_fields=False)
                self._refuse_unknown(told.format, told.why)
                if told.needs_fields and not fields:
                    raise UsageError(f"{self.name}: {told.why}", "Such as --fields timestamp,index,utilization.gpu,memory.used")
                yield told.format, told.why, report, sniff.parse(told.format, lines, report, Clock(zone), fields)

    def _refuse_unknown(self, format: str, why: str) -> None:
        if not format:
            raise UsageError(f"{self.name}: {why}", f"Formats that are known: {', '.join((*sniff.FORMATS, *old_databases.FORMATS))}.")

    @contextmanager
    def _file(self) -> Iterator[IO[bytes]]:
        try:
            with open(self.path, "rb") as file:
                yield file
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror or error}.") from None

    def _lines(self, file: IO[bytes]) -> Tuple[List[str], Iterator[str]]:
        """The first lines, and all of them."""
        lines = text.lines(self._blocks(file))
        first = list(islice(lines, sniff.FIRST_LINES))
        return first, chain(first, lines)

    def _blocks(self, file: IO[bytes]) -> Iterator[bytes]:
        """The file's content in blocks; a packed one is unpacked block by block."""
        start = file.read(8)
        file.seek(0)
        unpack = next((unpack for magic, unpack in _PACKED if start.startswith(magic)), None)
        source: Any = file if unpack is None else unpack(file)
        try:
            for block in iter(lambda: source.read(BLOCK_BYTES), b""):
                self.position = file.tell()
                yield block
        except Exception as error:
            if not isinstance(error, (OSError, EOFError, zlib.error)) and type(error).__name__ != "LZMAError":
                raise
            raise UsageError(f"{self.name} cannot be unpacked: {error}.", "Is it complete?") from None

    def _followed(self, rows: Iterator[ImportedRow], report: Report) -> Iterator[ImportedRow]:
        for row in rows:
            self.position = report.lines
            yield row
