"""One column of numbers (one value of consecutive snapshots) in the smallest of a few exact forms, and back. Pure, no compression here.

Everything is done to whole columns by functions that loop in C: a column of 120 costs about 20 us, where a loop in Python costs ten times that.

A plan is a short text per column: ``=`` constant (value in the header) | ``j`` as JSON in the header (mixed types, huge numbers) |
``f`` floats as they are | mode, scale, width: mode ``d`` differences, ``v`` distances from a middle value, ``t`` distances from the
column of times plus a lag; scale ``i`` for int, or the decimal places of floats; width 1, 2, 4 or 8 bytes. Before a plan ``n``: some values are
None, the plan is that of the others; ``m``: some floats are written as int. The header says where those stand.
"""

from __future__ import annotations

import sys
from array import array
from itertools import accumulate, filterfalse, groupby, islice, repeat
from math import copysign
from operator import is_, itemgetter, mul, sub, truediv
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

Column = Sequence[Any]

MAX_DECIMALS = 6
DAY_MS = 86_400_000
_WIDTHS = ((1, "b", 2**7), (2, "h", 2**15), (4, "i", 2**31), (8, "q", 2**63))
_TYPECODES = {1: "b", 2: "h", 4: "i", 8: "q"}


class ColumnWriter:
    """Takes columns one by one; then ``header()`` and ``body()`` hold them all."""

    def __init__(self) -> None:
        self._plans: List[str] = []
        self._constants: List[Any] = []
        self._raws: List[Any] = []
        self._firsts: List[int] = []
        self._masks: List[List[int]] = []
        self._body: List[bytes] = []
        self._times: Column = ()
        self._kept: Tuple[List[Any], ...] = (self._plans, self._constants, self._raws, self._firsts, self._masks, self._body)
        self._last: Optional[Column] = None
        self._added: List[List[Any]] = []
        """What the last column added to each of these lists: the same object once more adds the same."""

    def set_times(self, times: Column) -> None:
        """The column of times (ms) that the following columns may lean on."""
        self._times, self._last = times, None

    def add(self, column: Column) -> None:
        """Add one column, not empty; of one value, where it is the same in all rows."""
        if len(column) == 1:
            self._constants.append(column[0])
            self._plans.append("=")
        elif column is self._last:
            for kept, added in zip(self._kept, self._added):
                kept += added
        else:
            before = [len(kept) for kept in self._kept]
            self._plans.append(self._plan(column, self._times))
            self._last, self._added = column, [kept[start:] for kept, start in zip(self._kept, before)]

    def header(self) -> Dict[str, Any]:
        """What the reader needs beside the body, JSON-able."""
        return {
            "plans": " ".join(self._plans),
            "constants": self._constants,
            "raws": self._raws,
            "firsts": self._firsts,
            "masks": self._masks,
        }

    def body(self) -> bytes:
        """The columns' bytes."""
        return b"".join(self._body)

    def _plan(self, column: Column, times: Column) -> str:
        if all(map(is_, column, repeat(column[0]))):  # the same object, as equal texts are read: most columns of most blocks
            self._constants.append(column[0])
            return "="
        types = set(map(type, column))
        if len(types) == 1 and _is_constant(column):
            self._constants.append(column[0])
            return "="
        if types == {int}:
            return self._add_integers(column, "i", times) or self._add_raw(column)
        if types == {float}:
            return self._add_floats(column, times)
        if len(types) > 1 and type(None) in types:
            self._add_mask(column, type(None))
            return "n" + self._plan([value for value in column if value is not None], ())
        if types == {int, float} and max(map(abs, column)) < 2**53:
            self._add_mask(column, int)
            return "m" + self._add_floats(list(map(float, column)), times)
        return self._add_raw(column)

    def _add_mask(self, column: Column, odd: type) -> None:
        """Lengths of runs, in turn: not ``odd``, ``odd``, not ``odd`` ...; the first may be 0."""
        mask = [(kind is odd, len(list(group))) for kind, group in groupby(map(type, column))]
        merged = [sum(length for _, length in group) for _, group in groupby(mask, itemgetter(0))]
        self._masks.append(merged if not mask[0][0] else [0, *merged])

    def _add_raw(self, column: Column) -> str:
        self._raws.append(list(column))
        return "j"

    def _add_floats(self, column: Column, times: Column) -> str:
        decimals, scaled = _scale(column)
        plan = self._add_integers(scaled, str(decimals), times if decimals == 3 else ()) if scaled else ""
        if not plan:
            self._body.append(_to_bytes(array("d", column)))
            plan = "f"
        return plan

    def _add_integers(self, numbers: Column, scale: str, times: Column) -> str:
        """The plan, or "" when the numbers are too large for it."""
        mode, first, distances = _distances(numbers, times)
        reach = max(max(distances), -min(distances) - 1)
        for width, typecode, limit in _WIDTHS:
            if reach < limit:
                self._firsts.append(first)
                self._body.append(_to_bytes(array(typecode, distances)))
                return f"{mode}{scale}{width}"
        return ""


class ColumnReader:
    """Gives the columns back in the order they were added. Raises ValueError, IndexError, KeyError or TypeError for damaged input."""

    def __init__(self, header: Mapping[str, Any], body: bytes) -> None:
        self._plans: Iterator[str] = iter(header["plans"].split(" "))
        self._constants = iter(header["constants"])
        self._raws = iter(header["raws"])
        self._firsts = iter(header["firsts"])
        self._masks = iter(header["masks"])
        self._body = body
        self._at = 0
        self._times: Column = ()

    def set_times(self, times: Column) -> None:
        """As the writer had it."""
        self._times = times

    def next(self, count: int) -> List[Any]:
        """The next column, of ``count`` values."""
        column = self._read(_must(self._plans), count)
        if len(column) != count:
            raise ValueError(f"a column has {len(column)} values instead of {count}")
        return column

    def pick(self, count: int, place: Optional[int]) -> Any:
        """The value at ``place`` of the next column, of ``count`` values, without decoding the others; ``place`` None: the column is skipped."""
        return self._pick(_must(self._plans), count, place)

    def _pick(self, plan: str, count: int, place: Optional[int]) -> Any:
        if plan == "=":
            return _must(self._constants)
        if plan == "j":
            raw = _must(self._raws)
            return None if place is None else raw[place]
        if plan == "f":
            planes = self._planes(8, count)
            return None if place is None else _from_bytes("d", 8, planes[place::count])[0]
        if plan[:1] in "nm":
            return self._pick_masked(plan, count, place)
        return self._pick_integer(plan[0], plan[1], int(plan[2]), count, place)

    def _pick_masked(self, plan: str, count: int, place: Optional[int]) -> Any:
        mask = self._mask(count)
        odd, before = (False, 0) if place is None else _in_mask(mask, place)
        if plan[:1] == "m":
            value = self._pick(plan[1:], count, place)
            return int(value) if odd else value
        value = self._pick(plan[1:], sum(mask[::2]), None if odd or place is None else place - before)
        return None if odd else value

    def _pick_integer(self, mode: str, scale: str, width: int, count: int, place: Optional[int]) -> Any:
        first, planes = _must(self._firsts), self._planes(width, count)
        if place is None:
            return None
        if mode == "d":
            number = first + _sum(planes, width, count, place + 1)
        else:
            number = first + int.from_bytes(planes[place::count], "little", signed=True) + (self._times[place] if mode == "t" else 0)
        return number if scale == "i" else number / 10 ** int(scale)

    def _read(self, plan: str, count: int) -> List[Any]:
        if plan == "=":
            return [_must(self._constants)] * count
        if plan == "j":
            return list(_must(self._raws))
        if plan == "f":
            return self._take("d", 8, count)
        if plan[:1] == "n":
            return self._read_with_gaps(plan[1:], count)
        if plan[:1] == "m":
            return self._read_mixed(plan[1:], count)
        return self._read_integers(plan[0], plan[1], int(plan[2]), count)

    def _read_with_gaps(self, plan: str, count: int) -> List[Any]:
        mask = self._mask(count)
        known = iter(self._read(plan, sum(mask[::2])))
        column: List[Any] = []
        for place, length in enumerate(mask):
            column.extend(repeat(None, length) if place % 2 else islice(known, length))
        return column

    def _read_mixed(self, plan: str, count: int) -> List[Any]:
        mask = self._mask(count)
        values = iter(self._read(plan, count))
        column: List[Any] = []
        for place, length in enumerate(mask):
            column.extend(map(int, islice(values, length)) if place % 2 else islice(values, length))
        return column

    def _mask(self, count: int) -> List[int]:
        mask: List[int] = _must(self._masks)
        if sum(mask) != count or min(mask) < 0:
            raise ValueError("a column's mask does not add up")
        return mask

    def _read_integers(self, mode: str, scale: str, width: int, count: int) -> List[Any]:
        first, distances = _must(self._firsts), self._take(_TYPECODES[width], width, count)
        if mode == "d":
            distances[0] += first
            numbers = list(accumulate(distances))
        elif mode == "t":
            numbers = [time + first + distance for time, distance in zip(self._times, distances)]
        else:
            numbers = [first + distance for distance in distances]
        return numbers if scale == "i" else list(map(truediv, numbers, repeat(10 ** int(scale))))

    def _take(self, typecode: str, width: int, count: int) -> List[Any]:
        return _from_bytes(typecode, width, self._planes(width, count))

    def _planes(self, width: int, count: int) -> bytes:
        size = width * count
        planes = self._body[self._at : self._at + size]
        if len(planes) != size:
            raise ValueError("its columns end too early")
        self._at += size
        return planes


def _in_mask(mask: Sequence[int], place: int) -> Tuple[bool, int]:
    """Is ``place`` in one of the odd runs, and how many places before it are."""
    at = before = 0
    for number, length in enumerate(mask):
        at += length
        if place < at:
            return number % 2 == 1, before
        before += length * (number % 2)
    raise ValueError("a place is outside its column")


def _sum(planes: bytes, width: int, count: int, stop: int) -> int:
    """Sum of the first ``stop`` whole numbers: of each plane's bytes, the last plane's being signed."""
    total = sum(array("b", planes[(width - 1) * count : (width - 1) * count + stop])) << 8 * (width - 1)
    for place in range(width - 1):
        total += sum(planes[place * count : place * count + stop]) << 8 * place
    return total


def _must(items: Iterator[Any]) -> Any:
    for item in items:
        return item
    raise ValueError("its header ends too early")


def _is_constant(column: Column) -> bool:
    first = column[0]
    return column.count(first) == len(column) and (first != 0 or type(first) is int or not _has_minus_zero(column))


def _has_minus_zero(column: Column) -> bool:
    return min(map(copysign, repeat(1.0), filterfalse(None, column)), default=1.0) < 0


def _scale(column: Column) -> Tuple[int, Optional[List[int]]]:
    """Floats as whole numbers of their last decimal place, when that is exact: (decimal places, numbers), or (0, None)."""
    decimals = max(_decimals(column[0]), _decimals(column[len(column) // 2]), _decimals(column[-1]))
    while decimals <= MAX_DECIMALS:
        factor = 10**decimals
        try:
            numbers = list(map(round, map(mul, column, repeat(factor))))
        except (ValueError, OverflowError):  # not a number, infinite
            return 0, None
        if list(map(truediv, numbers, repeat(factor))) == list(column):
            return (decimals, numbers) if 0 not in numbers or not _has_minus_zero(column) else (0, None)
        decimals += 1
    return 0, None


def _decimals(value: float) -> int:
    _, point, places = repr(value).partition(".")
    return len(places) if point and "e" not in places and places != "0" else 0


def _distances(numbers: Column, times: Column) -> Tuple[str, int, List[int]]:
    """(mode, first number, distances) of the mode whose distances are smallest in sum."""
    first = numbers[0]
    differences = [0, *map(sub, numbers[1:], numbers)]
    cost = sum(map(abs, differences))
    if times and abs(first - times[0]) < DAY_MS:
        lag = first - times[0]
        distances = list(map(sub, map(sub, numbers, times), repeat(lag)))
        if sum(map(abs, distances)) < cost:
            return "t", lag, distances
    low, high = min(numbers), max(numbers)
    if cost > 2 * (high - low):  # it goes up and down: noise has smaller distances from its middle than differences
        middle = (low + high) // 2
        distances = list(map(sub, numbers, repeat(middle)))
        if sum(map(abs, distances)) < cost:
            return "v", middle, distances
    return "d", first, differences


def _to_bytes(numbers: array[Any]) -> bytes:
    """The lowest bytes of all numbers, then the second lowest, and so on: like stands beside like."""
    if sys.byteorder == "big":
        numbers.byteswap()
    plain, width = numbers.tobytes(), numbers.itemsize
    return plain if width == 1 else b"".join([plain[place::width] for place in range(width)])


def _from_bytes(typecode: str, width: int, planes: bytes) -> List[Any]:
    count = len(planes) // width
    plain = bytearray(len(planes))
    for place in range(width):
        plain[place::width] = planes[place * count : (place + 1) * count]
    numbers = array(typecode)
    numbers.frombytes(bytes(plain))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
