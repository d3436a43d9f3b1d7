"""Chunks as few bytes, and back. Pure: never touches a database.

A stored chunk (``encode``): one codec byte, then raw deflate of a head and the columns. Head: number of intervals and of metrics (16 bits
each), the number of each metric (its place in ``chunks.UNITS``), one plan byte for each column, and the parameters of the plans that have one (32
bits each). A plan's low bits are the bytes of each number (0, 1, 2, 4, 8); CONSTANT: one number stands for all; DIVIDED: each was divided by the
parameter; CHANGES: what is stored is how each differs from the one before, the parameter being the first. Columns are the steps from place to place
in time, what is covered, and for each metric its count, low, high above low, and total above count times low: small numbers, many of them alike.
The bytes of a column stand by significance: like beside like.

A part (``encode_part``) is what one block brings for all its subjects; it is read and thrown away within the hour, and made for speed.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from functools import reduce
from itertools import accumulate, chain, repeat
from math import gcd
from operator import add, floordiv, mul, sub
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.store.chunks import NOTHING, UNITS, Chunk, Column

CODEC = 1
PART_CODEC = 1
MAX_BYTES = 16 * 1024**2
"""A chunk or part that inflates to more is damaged or hostile."""
_CONSTANT = 0x20
_DIVIDED = 0x40
_CHANGES = 0x80
_WIDTH = 0x0F
_TYPECODES = {1: "B", 2: "H", 4: "I", 8: "q"}
_NAMES = tuple(UNITS)
_NUMBER = {name: number for number, name in enumerate(_NAMES)}
_HIGHEST = 2**63 - 1
_PARAMETERS = 2**32
_OF_METRIC = 4
_DAMAGES = (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, struct.error, zlib.error, RecursionError, StopIteration)


def encode(chunk: Chunk, start_at: int, tier_seconds: int) -> bytes:
    """A chunk of intervals of ``tier_seconds`` that begin at or after ``start_at``."""
    writer = _Writer()
    places = [(at - start_at) // tier_seconds for at in chunk.times]
    writer.add([places[0] + 1, *map(sub, places[1:], places)])
    writer.add(chunk.covered)
    for column in chunk.columns.values():
        _write_metric(writer, column)
    numbers = bytes(map(_NUMBER.__getitem__, chunk.columns))
    head = struct.pack("<HH", len(chunk.times), len(numbers)) + numbers + bytes(writer.plans)
    plain = b"".join((head, _to_planes(array("I", writer.parameters)), *writer.body))
    return bytes((CODEC,)) + _deflate(plain, 9)


def _write_metric(writer: _Writer, column: Column) -> None:
    count, total, low, high = column
    if 0 in count:
        low = [value if number else 0 for value, number in zip(low, count)]
        high = [value if number else 0 for value, number in zip(high, count)]
    writer.add(count)
    writer.add(low, slow=True)
    writer.add(list(map(sub, high, low)))
    writer.add(list(map(sub, total, map(mul, count, low))))


class _Writer:
    """Takes columns one by one."""

    def __init__(self) -> None:
        self.plans: List[int] = []
        self.parameters: List[int] = []
        self.body: List[bytes] = []

    def add(self, column: List[int], *, slow: bool = False) -> None:
        """Add one column, not empty. ``slow``: it may change little by little."""
        first = column[0]
        if column.count(first) == len(column):
            self._store(_CONSTANT, [first] if first else [])
            return
        divisor = reduce(gcd, column)
        if 1 < divisor < _PARAMETERS:
            self.parameters.append(divisor)
            self._store(_DIVIDED, list(map(floordiv, column, repeat(divisor))))
        elif slow and 0 <= first < _PARAMETERS and _is_slow(column):
            self.parameters.append(first)
            self._store(_CHANGES, [step + step if step >= 0 else -step - step - 1 for step in (0, *map(sub, column[1:], column))])
        else:
            self._store(0, column)

    def _store(self, plan: int, column: List[int]) -> None:
        width = _width(min(column), max(column)) if column else 0
        if width == 8:
            column = [max(-_HIGHEST, min(value, _HIGHEST)) for value in column]
        self.plans.append(plan | width)
        if column:
            self.body.append(_to_planes(array(_TYPECODES[width], column)))


def _is_slow(column: List[int]) -> bool:
    """Its changes are much smaller than its range: noise has larger changes than distances from its middle."""
    changes: int = sum(map(abs, map(sub, column[1:], column)))
    return 6 * changes < len(column) * (max(column) - min(column))


def _width(low: int, high: int) -> int:
    if low < 0 or high >= 2**32:
        return 8
    return 1 if high < 2**8 else 2 if high < 2**16 else 4


def decode(data: bytes, start_at: int, tier_seconds: int, only: Optional[Iterable[str]] = None) -> Chunk:
    """The chunk that was encoded; with ``only`` these metrics alone. Raises StoreError for a damaged one, or one of a newer gpuwatch."""
    if not data or data[0] != CODEC:
        raise StoreError(f"The rollup has codec {data[0] if data else 'none'}, this program reads {CODEC}.", "Use a newer gpuwatch.")
    try:
        return _decode(_inflate(data[1:]), start_at, tier_seconds, only)
    except _DAMAGES as error:
        raise StoreError(f"The rollup is damaged ({type(error).__name__}: {str(error)[:80]}).") from None


def _decode(plain: bytes, start_at: int, tier_seconds: int, only: Optional[Iterable[str]]) -> Chunk:
    count, metrics = struct.unpack_from("<HH", plain)
    numbers = plain[4 : 4 + metrics]
    reader = _Reader(plain, 4 + metrics, _OF_METRIC * metrics + 2, count)
    chunk = Chunk(_times(reader.next(), start_at, tier_seconds), reader.next())
    wanted = None if only is None else {_NUMBER[name] for name in only}
    for number in numbers:
        if wanted is not None and len(chunk.columns) == len(wanted):
            break
        if number < len(_NAMES) and (wanted is None or number in wanted):
            chunk.columns[_NAMES[number]] = _read_metric(reader)
        else:
            reader.skip(_OF_METRIC)
    return chunk


def _times(steps: List[int], start_at: int, tier_seconds: int) -> List[int]:
    """Usually none is missing: then they are a range, which is much faster."""
    first = start_at + tier_seconds * (steps[0] - 1)
    if steps.count(1) >= len(steps) - (steps[0] != 1):
        return list(range(first, first + tier_seconds * len(steps), tier_seconds))
    return list(accumulate(map(mul, steps[1:], repeat(tier_seconds)), initial=first))


def _read_metric(reader: _Reader) -> Column:
    count, low, above, rest = reader.next(), reader.next(), reader.next(), reader.next()
    high = list(map(add, low, above)) if any(above) else low
    total = list(map(add, map(mul, count, low), rest)) if any(rest) else list(map(mul, count, low))
    if 0 in count:
        low = [value if number else NOTHING for value, number in zip(low, count)]
        high = [value if number else -NOTHING for value, number in zip(high, count)]
    return Column(count, total, low, high)


class _Reader:
    """Gives the columns back in the order they were added. Raises ValueError or IndexError for damaged input."""

    def __init__(self, plain: bytes, at: int, columns: int, count: int) -> None:
        self._plain = plain
        self._plans = iter(plain[at : at + columns])
        self._count = count
        parameters = sum(1 for plan in plain[at : at + columns] if plan & (_DIVIDED | _CHANGES))
        self._at = at + columns
        self._parameters = iter(self._take(4, parameters))

    def next(self) -> List[int]:
        """The next column."""
        plan = next(self._plans, None)
        if plan is None:
            raise ValueError("its columns end too early")
        if plan & _CONSTANT:
            return (self._take(plan & _WIDTH, 1) if plan & _WIDTH else [0]) * self._count
        numbers = self._take(plan & _WIDTH, self._count)
        if plan & _DIVIDED:
            return list(map(mul, numbers, repeat(next(self._parameters))))
        if plan & _CHANGES:
            numbers = [-(step >> 1) - 1 if step & 1 else step >> 1 for step in numbers]
            numbers[0] += next(self._parameters)
            return list(accumulate(numbers))
        return numbers

    def skip(self, columns: int) -> None:
        """Pass over so many columns without decoding them."""
        for _ in range(columns):
            plan = next(self._plans, 0)
            self._at += (plan & _WIDTH) * (1 if plan & _CONSTANT else self._count)
            if plan & (_DIVIDED | _CHANGES):
                next(self._parameters, 0)

    def _take(self, width: int, count: int) -> List[int]:
        if not count:
            return []
        planes = self._plain[self._at : self._at + width * count]
        if len(planes) != width * count:
            raise ValueError("its columns end too early")
        self._at += width * count
        return list(planes) if width == 1 else _from_planes(_TYPECODES[width], width, planes)


def _to_planes(numbers: array[Any]) -> bytes:
    """The lowest bytes of all numbers, then the second lowest, and so on."""
    if sys.byteorder == "big":
        numbers.byteswap()
    plain, width = numbers.tobytes(), numbers.itemsize
    return plain if width == 1 else b"".join([plain[place::width] for place in range(width)])


def _from_planes(typecode: str, width: int, planes: bytes) -> List[int]:
    count = len(planes) // width
    plain = bytearray(len(planes))
    for place in range(width):
        plain[place::width] = planes[place * count : (place + 1) * count]
    numbers = array(typecode)
    numbers.frombytes(plain)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _deflate(plain: bytes, level: int) -> bytes:
    small = len(plain) < 4096
    compressor = zlib.compressobj(level, zlib.DEFLATED, -12 if small else -15, 5 if small else 8)
    return compressor.compress(plain) + compressor.flush()


def _inflate(data: bytes, window: int = -zlib.MAX_WBITS) -> bytes:
    decompressor = zlib.decompressobj(window)
    plain = decompressor.decompress(data, MAX_BYTES)
    if not decompressor.eof:
        raise ValueError("it ends too early or inflates to too much")
    return plain


def encode_part(chunks: Mapping[str, Chunk]) -> bytes:
    """The minutes of several subjects (by UUID) at once, quickly."""
    head: List[Tuple[str, int, List[str]]] = []
    flat: List[int] = []
    for subject, chunk in chunks.items():
        head.append((subject, len(chunk.times), list(chunk.columns)))
        flat.extend(chunk.times)
        flat.extend(chunk.covered)
        for column in chunk.columns.values():
            flat.extend(chain.from_iterable(column))
    text = json.dumps(head, separators=(",", ":")).encode()
    numbers = array("q", flat)
    if sys.byteorder == "big":
        numbers.byteswap()
    return bytes((PART_CODEC,)) + zlib.compress(struct.pack("<I", len(text)) + text + numbers.tobytes(), 1)


def decode_part(data: bytes, subject: Optional[str] = None) -> Dict[str, Chunk]:
    """The chunks that were encoded, by subject; with ``subject`` that one alone. Raises StoreError for a damaged part."""
    if not data or data[0] != PART_CODEC:
        raise StoreError(f"A part of the rollups has codec {data[0] if data else 'none'}, this program reads {PART_CODEC}.", "Use a newer gpuwatch.")
    try:
        return dict(_subjects(_inflate(data[1:], zlib.MAX_WBITS), subject))
    except _DAMAGES as error:
        raise StoreError(f"A part of the rollups is damaged ({type(error).__name__}: {str(error)[:80]}).") from None


def _subjects(plain: bytes, only: Optional[str]) -> Iterator[Tuple[str, Chunk]]:
    (size,) = struct.unpack_from("<I", plain)
    numbers = array("q")
    numbers.frombytes(plain[4 + size :])
    if sys.byteorder == "big":
        numbers.byteswap()
    at = 0
    for subject, count, names in json.loads(plain[4 : 4 + size]):
        end = at + count * (2 + _OF_METRIC * len(names))
        if only is None or subject == only:
            if end > len(numbers):
                raise ValueError("its numbers end too early")
            lists = [numbers[at + count * place : at + count * (place + 1)].tolist() for place in range(2 + _OF_METRIC * len(names))]
            columns = {name: Column(*lists[2 + 4 * place : 6 + 4 * place]) for place, name in enumerate(names) if name in UNITS}
            yield subject, Chunk(lists[0], lists[1], columns)
        at = end
