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
    reader = _Reader(plain, 4 + metrics, _OF_METRIC * metrics + 2, count)
    chunk = Chunk(_times(reader.column(0), start_at, tier_seconds), reader.column(1))
    wanted = None if only is None else {_NUMBER[name] for name in only}
    for place, number in enumerate(plain[4 : 4 + metrics]):
        if number < len(_NAMES) and (wanted is None or number in wanted):
            chunk.columns[_NAMES[number]] = _read_metric(reader, 2 + _OF_METRIC * place)
    return chunk


def _times(steps: List[int], start_at: int, tier_seconds: int) -> List[int]:
    """Usually none is missing: then they are a range, which is much faster."""
    first = start_at + tier_seconds * (steps[0] - 1)
    if steps.count(1) >= len(steps) - (steps[0] != 1):
        return list(range(first, first + tier_seconds * len(steps), tier_seconds))
    return list(accumulate(map(mul, steps[1:], repeat(tier_seconds)), initial=first))


def _read_metric(reader: _Reader, place: int) -> Column:
    """The metric whose columns begin at ``place``."""
    column = _read_lanes(reader, place)
    return _read_lists(reader, place) if column is None else column


def _read_lanes(reader: _Reader, place: int) -> Optional[Column]:
    """The same three times as fast, where each minute has equally many samples, as it usually has; None where it cannot.

    A column as one large number, eight bytes for each of its numbers: then one addition adds all.
    """
    count = reader.constant(place)
    parts = [reader.lanes(place + number) for number in (1, 2, 3)] if count else [None]
    if None in parts:
        return None
    (low, most_low), (above, most_above), (rest, most_rest) = parts  # type: ignore[misc]
    if max(most_low + most_above, count * most_low + most_rest) > _HIGHEST:
        return None
    lows = reader.numbers(low)
    return Column([count] * len(lows), reader.numbers(count * low + rest), lows, reader.numbers(low + above) if above else lows)


def _read_lists(reader: _Reader, place: int) -> Column:
    count, low = reader.column(place), reader.column(place + 1)
    high = low if reader.is_nothing(place + 2) else list(map(add, low, reader.column(place + 2)))
    total = map(mul, low, count)
    if not reader.is_nothing(place + 3):
        total = map(add, total, reader.column(place + 3))
    if 0 in count:
        low = [value if number else NOTHING for value, number in zip(low, count)]
        high = [value if number else -NOTHING for value, number in zip(high, count)]
    return Column(count, list(total), low, high)


_WIDTHS = bytes(0 if plan & _CONSTANT else plan & _WIDTH for plan in range(256))
_WIDTHS_OF_CONSTANTS = bytes(plan & _WIDTH if plan & _CONSTANT else 0 for plan in range(256))
_HAS_PARAMETER = bytes(bool(plan & (_DIVIDED | _CHANGES)) for plan in range(256))
"""Of each plan; ``bytes.translate`` looks them up for all columns at once."""
_STEPS = tuple(-(code >> 1) - 1 if code & 1 else code >> 1 for code in range(256))


class _Reader:
    """Gives any column back, without touching the others. Raises ValueError or IndexError for damaged input."""

    def __init__(self, plain: bytes, at: int, columns: int, count: int) -> None:
        self._plain, self._count = plain, count
        self._plans = plans = plain[at : at + columns]
        if len(plans) != columns or not count:
            raise ValueError("its columns end too early")
        self._widths, self._widths_of_constants = plans.translate(_WIDTHS), plans.translate(_WIDTHS_OF_CONSTANTS)
        self._has_parameter = plans.translate(_HAS_PARAMETER)
        self._parameters = plain[at + columns : at + columns + 4 * self._has_parameter.count(1)]
        self._at = at + columns + len(self._parameters)

    def constant(self, place: int) -> int:
        """The number that stands for all of the column; 0 where there is none such."""
        plan = self._plans[place]
        return self._take(place, plan & _WIDTH, 1)[0] if plan & _CONSTANT and plan & _WIDTH else 0

    def lanes(self, place: int) -> Optional[Tuple[int, int]]:
        """(the column as one number, what none of its numbers exceeds); None for a column of changes, or of large or negative numbers."""
        plan = self._plans[place]
        width = plan & _WIDTH
        if self.is_nothing(place):
            return 0, 0
        if plan & (_CHANGES | _CONSTANT) or width not in (1, 2, 4):
            return None
        planes, spread = self._planes(place, width * self._count), bytearray(8 * self._count)
        for byte in range(width):
            spread[byte::8] = planes[byte * self._count : (byte + 1) * self._count]
        factor = self._parameter(place) if plan & _DIVIDED else 1
        return factor * int.from_bytes(spread, "little"), factor * (256**width - 1)

    def numbers(self, lanes: int) -> List[int]:
        """The column of which that is the number."""
        return _listed(array("q", lanes.to_bytes(8 * self._count, "little")))

    def is_nothing(self, place: int) -> bool:
        """The column is 0 throughout."""
        return self._plans[place] & (_CONSTANT | _WIDTH) == _CONSTANT

    def column(self, place: int) -> List[int]:
        """The column at ``place``."""
        plan = self._plans[place]
        width = plan & _WIDTH
        if plan & _CONSTANT:
            return (self._take(place, width, 1) if width else [0]) * self._count
        numbers = self._take(place, width, self._count)
        if plan & _DIVIDED:
            return list(map(mul, numbers, repeat(self._parameter(place))))
        if plan & _CHANGES:
            steps = list(map(_STEPS.__getitem__, numbers) if width == 1 else [-(code >> 1) - 1 if code & 1 else code >> 1 for code in numbers])
            steps[0] += self._parameter(place)
            return list(accumulate(steps))
        return numbers

    def _parameter(self, place: int) -> int:
        number, count = self._has_parameter[:place].count(1), len(self._parameters) // 4
        planes = self._parameters[number::count]
        if len(planes) != 4:
            raise ValueError("its columns end too early")
        return int.from_bytes(planes, "little")

    def _take(self, place: int, width: int, count: int) -> List[int]:
        planes = self._planes(place, width * count)
        return list(planes) if width == 1 else _from_planes(_TYPECODES[width], width, planes)

    def _planes(self, place: int, size: int) -> bytes:
        at = self._at + self._count * sum(self._widths[:place]) + sum(self._widths_of_constants[:place])
        planes = self._plain[at : at + size]
        if len(planes) != size:
            raise ValueError("its columns end too early")
        return planes


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
    return _listed(array(typecode, bytes(plain)))


def _listed(numbers: array[Any]) -> List[int]:
    """The numbers of an array of which the lowest bytes stand first."""
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
