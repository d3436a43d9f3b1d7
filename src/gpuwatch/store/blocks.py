"""Many consecutive snapshots of one machine as one small block of bytes, and back. Pure: never touches a database or a file.

Snapshots of one shape form a run; a run is turned into columns (one per value), and each column into the smallest of a few exact forms.
The columns' bytes and a JSON header are then compressed together with bz2. What goes in comes out: int stays int, float stays float,
None stays None. Measured by ``bench/store_pack.py``; single snapshots compress more than five times worse.

Layout: one codec byte, then bz2 of: header length (4 bytes, little endian), header (JSON), the columns' bytes.
"""

from __future__ import annotations

import bz2
import json
import struct
from contextlib import contextmanager
from itertools import chain, groupby
from operator import itemgetter, sub
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.model.snapshot import SCHEMA
from gpuwatch.store.columns import Column, ColumnReader, ColumnWriter

CODEC = 1
"""bz2 of columns, as described above."""

MAX_UNPACKED_BYTES = 64 * 1024**2
"""A block that unpacks to more is damaged or hostile. ``snapshots`` packs far less into one."""
MAX_VALUES = 16 * 1024**2
"""Most values of one block; a header that promises more is damaged or hostile."""

Values = List[Optional[float]]


class Entry(NamedTuple):
    """One snapshot as it is kept: times in ms since the epoch, the id of its shape, and its values."""

    taken_at_ms: int
    received_at_ms: int
    shape_id: str
    values: Values


class Run(NamedTuple):
    """Consecutive snapshots of one shape as columns. A column of one number is that number in all of them."""

    shape_id: str
    taken_ms: Sequence[int]
    received_ms: Sequence[int]
    columns: Sequence[Column]


def pack(entries: Sequence[Entry]) -> bytes:
    """One block of ``entries`` (at least one; of one machine; any order is kept). The values are int, float or None."""
    return pack_runs([_run_of(shape_id, list(group)) for (shape_id, _), group in groupby(entries, _shape_and_width)])


def pack_runs(runs: Sequence[Run]) -> bytes:
    """The same of entries that are columns already."""
    writer = ColumnWriter()
    told = [_pack_run(writer, run) for run in runs]
    header = json.dumps({"schema": SCHEMA, "runs": told, **writer.header()}, separators=(",", ":")).encode()
    return bytes((CODEC,)) + bz2.compress(struct.pack("<I", len(header)) + header + writer.body(), 1)


def _shape_and_width(entry: Entry) -> Tuple[str, int]:
    return entry.shape_id, len(entry.values)


def _run_of(shape_id: str, entries: List[Entry]) -> Run:
    taken, received, _, rows = zip(*entries)
    return Run(shape_id, taken, received, list(zip(*rows)))


def _pack_run(writer: ColumnWriter, run: Run) -> Tuple[str, int, int]:
    writer.set_times(())
    writer.add(run.taken_ms)
    writer.set_times(run.taken_ms)
    writer.add(run.received_ms)
    for column in run.columns:
        writer.add(column)
    return run.shape_id, len(run.taken_ms), len(run.columns)


def unpack(data: bytes) -> Iterator[Entry]:
    """The entries of a block, in the order they were packed. Raises StoreError, before the first entry, for a block that is damaged."""
    _check_codec(data)
    with _damage_in_words():
        return iter(_unpack(_inflate(data)))


def first_of_each(data: bytes, step_ms: int) -> List[Entry]:
    """The first entry of each run in each step of time. Raises StoreError as ``unpack``, at half of its cost: the others are never put together."""
    _check_codec(data)
    with _damage_in_words():
        header, body = _read_header(_inflate(data))
        reader = ColumnReader(header, body)
        return [entry for shape_id, count, width in header["runs"] for entry in _unpack_some(reader, shape_id, count, width, step_ms)]


def _unpack_some(reader: ColumnReader, shape_id: str, count: int, width: int, step_ms: int) -> Iterator[Entry]:
    taken = reader.next(count)
    reader.set_times(taken)
    first: Dict[int, int] = {}
    for place, at_ms in enumerate(taken):
        if at_ms < taken[first.setdefault(at_ms // step_ms, place)]:
            first[at_ms // step_ms] = place
    places = list(first.values())
    chosen = itemgetter(*places) if len(places) > 1 else lambda column: (column[places[0]],)
    columns = [chosen(reader.next(count)) for _ in range(width + 1)]
    rows = map(list, zip(*columns[1:])) if width else ([] for _ in places)
    return (Entry(t, r, shape_id, row) for t, r, row in zip(chosen(taken), columns[0], rows))


class Near(NamedTuple):
    """One snapshot out of many, and how far apart those around it are."""

    entry: Entry
    spacing_ms: int
    """Median time between two snapshots of the block; 0 = it has fewer than four."""


def nearest(data: bytes, at_ms: int) -> Optional[Near]:
    """The newest entry of a block at or before ``at_ms``, without decoding the others; None = all are later. Raises StoreError as ``unpack``.

    A third of the cost of ``unpack``: of each column one value is taken.
    """
    _check_codec(data)
    with _damage_in_words():
        header, body = _read_header(_inflate(data))
        runs: List[Tuple[str, int, int]] = header["runs"]
        times = list(_times_of_runs(ColumnReader(header, body), runs))
        found = [(taken, number, place) for number, run in enumerate(times) for place, taken in enumerate(run) if taken <= at_ms]
        if not found:
            return None
        _, number, place = max(found)
        entry = _pick(ColumnReader(header, body), runs[: number + 1], place)
        return Near(entry, _spacing_ms(sorted(chain.from_iterable(times))))


def _check_codec(data: bytes) -> None:
    if not data or data[0] != CODEC:
        raise StoreError(f"The block has codec {data[0] if data else 'none'}, this program reads {CODEC}.", "Use a newer gpuwatch.")


@contextmanager
def _damage_in_words() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, EOFError, OSError, OverflowError, struct.error, RecursionError) as error:
        raise StoreError(f"The block is damaged ({type(error).__name__}: {str(error)[:80]}).") from None


def _times_of_runs(reader: ColumnReader, runs: Sequence[Tuple[str, int, int]]) -> Iterator[List[int]]:
    for number, (_, count, width) in enumerate(runs, 1):
        yield reader.next(count)
        if number < len(runs):
            for _ in range(width + 1):
                reader.pick(count, None)


def _pick(reader: ColumnReader, runs: Sequence[Tuple[str, int, int]], place: int) -> Entry:
    """The entry at ``place`` of the last of ``runs``."""
    for _, count, width in runs[:-1]:
        for _ in range(width + 2):
            reader.pick(count, None)
    shape_id, count, width = runs[-1]
    taken = reader.next(count)
    reader.set_times(taken)
    received = reader.pick(count, place)
    return Entry(taken[place], received, shape_id, [reader.pick(count, place) for _ in range(width)])


def _spacing_ms(times: Sequence[int]) -> int:
    distances = sorted(map(sub, times[1:], times))
    return distances[len(distances) // 2] if len(distances) > 2 else 0


def _inflate(data: bytes) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    plain = decompressor.decompress(data[1:], MAX_UNPACKED_BYTES)
    if not decompressor.eof:
        raise ValueError("it ends too early or unpacks to too much")
    return plain


def _read_header(plain: bytes) -> Tuple[Dict[str, Any], bytes]:
    """The header, and the columns' bytes."""
    (size,) = struct.unpack_from("<I", plain)
    header: Dict[str, Any] = json.loads(plain[4 : 4 + size])
    if header["schema"] > SCHEMA:
        raise ValueError(f"snapshot schema {header['schema']} is newer than this program's {SCHEMA}")
    if sum(count * (width + 2) for _, count, width in header["runs"]) > MAX_VALUES:
        raise ValueError("it promises too many values")
    return header, plain[4 + size :]


def _unpack(plain: bytes) -> List[Entry]:
    header, body = _read_header(plain)
    reader = ColumnReader(header, body)
    return [entry for shape_id, count, width in header["runs"] for entry in _unpack_run(reader, shape_id, count, width)]


def _unpack_run(reader: ColumnReader, shape_id: str, count: int, width: int) -> Iterator[Entry]:
    taken = reader.next(count)
    reader.set_times(taken)
    received = reader.next(count)
    columns = [reader.next(count) for _ in range(width)]
    rows = map(list, zip(*columns)) if width else ([] for _ in range(count))
    return (Entry(t, r, shape_id, row) for t, r, row in zip(taken, received, rows))
