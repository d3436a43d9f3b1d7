"""Rows of the journal: a snapshot's values against the example of its shape, and many rows as columns of numbers, for packing. Pure.

Of a snapshot mostly the same places differ from the example: some 90 of 500. A row says which those are and their texts, as JSON writes them; that takes
half of what deflating the whole line took, and reading it back a third. All other places have the example's texts. A row that differs in most places, or has another number of them, is the whole line, deflated.

Layout of the former: ``MARK``, one bit for each place (little endian), the texts with commas between them, deflated. Deflated bytes never begin with ``MARK``.

Equal texts mean the same number, so that what no row of a block tells is a column of one number, without a look at each row.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import compress, groupby, repeat
from operator import itemgetter
from typing import AbstractSet, Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import StoreError, WireError
from gpuwatch.store.blocks import Entry, Run
from gpuwatch.store.columns import Column
from gpuwatch.store.deflate import deflate, deflate_few, inflate
from gpuwatch.wire.frame import loads
from gpuwatch.wire.numbers import checked, texts_of

MARK = b"\x07"
"""A deflated block of the type that there is not."""
FORGET_AFTER_BLOCKS = 12
_DIGITS = "0123456789.,-"
_LETTERS = "nuleE+"
_NOTHING_OF = dict.fromkeys(map(ord, _DIGITS + _LETTERS))

Places = Tuple[int, ...]
Pick = Callable[[Sequence[str]], Tuple[str, ...]]


class Example:
    """Writes the rows of one shape of one machine. Remembers which places vary: the rows of a block mostly tell the same ones. For one thread."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self._digest = ""
        self._varying: Optional[AbstractSet[int]] = None
        self._count = self._packed = 0
        self._places: Places = (-1,)
        self._tells(())

    def packed(self) -> None:
        """A block is full. Now and then what varied long ago is forgotten: what varies is looked for anew."""
        self._packed += 1
        if self._packed % FORGET_AFTER_BLOCKS == 0:
            self._varying = None
            self._tells(())

    @property
    def line(self) -> bytes:
        """As it is kept beside the rows: a JSON list."""
        return line_of(self.texts)

    @property
    def digest(self) -> str:
        """SHA-256 of the line, in hex."""
        if not self._digest:
            self._digest = hashlib.sha256(self.line).hexdigest()
        return self._digest

    def row(self, texts: Sequence[str], varying: Optional[AbstractSet[int]] = None) -> bytes:
        """The bytes of one row; ``varying``: see ``snapshots.JournalEntry``. Where it is the set of the row before, its places are the only ones looked at:
        to look at all texts of a thousand machines would find none of them in the processor's caches."""
        if len(texts) != len(self.texts):
            return deflate(line_of(texts), self.line)
        count = len(varying or ())  # before its places are taken: another thread may add some meanwhile, and the next row has to see that
        if varying is None or varying is not self._varying:
            self._tells({*self._places, *(place for place, (text, usual) in enumerate(zip(texts, self.texts)) if text != usual), *(varying or ())})
        elif count != self._count:
            self._tells({*self._places, *varying})
        self._varying, self._count = varying, count
        if 2 * len(self._places) > len(texts):
            return deflate(line_of(texts), self.line)
        return self._head + deflate_few(",".join(self._pick(texts)).encode("ascii"))

    def _tells(self, places: Iterable[int]) -> None:
        found = tuple(sorted(places))
        if found == self._places:
            return
        self._places = found
        self._pick = _picker(self._places)
        self._head = MARK + sum(1 << place for place in self._places).to_bytes((len(self.texts) + 7) // 8, "little")


def _picker(places: Places) -> Pick:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda texts: tuple(texts[place] for place in places)


def line_of(texts: Sequence[str]) -> bytes:
    """The JSON list."""
    return f"[{','.join(texts)}]".encode("ascii")


class Row(NamedTuple):
    """A row whose values were cut into texts, but not looked at."""

    taken_at_ms: int
    received_at_ms: int
    shape_id: str
    usual: Tuple[str, ...]
    """The example's texts; () for a row that tells all."""
    places: Places
    """Those that it tells."""
    told: Sequence[str]

    @property
    def width(self) -> int:
        """How many values it has."""
        return len(self.usual) or len(self.told)

    @property
    def texts(self) -> List[str]:
        """Of all places."""
        if not self.usual:
            return list(self.told)
        texts = list(self.usual)
        for place, text in zip(self.places, self.told):
            texts[place] = text
        return texts


def cut(taken_at_ms: int, received_at_ms: int, shape_id: str, data: bytes, example: Optional[bytes]) -> Row:
    """A row as it is stored, with the example of its shape. Raises StoreError or WireError for a damaged one, also where a letter is in no number."""
    data, example = bytes(data), bytes(example or b"")
    if data[:1] != MARK:
        texts = texts_of(inflate(data, example))
        row = Row(taken_at_ms, received_at_ms, shape_id, (), tuple(range(len(texts))), texts)
    else:
        usual = _usual(example)
        start = 1 + (len(usual) + 7) // 8
        places = _places_in(data[1:start])
        try:
            text = inflate(data[start:]).decode("ascii")
        except UnicodeDecodeError:
            raise StoreError("The row is damaged: its values are not ASCII.") from None
        told = text.split(",") if text else []
        if len(told) != len(places) or (places and places[-1] >= len(usual)):
            raise StoreError("The row is damaged: it does not tell as many values as it says.")
        row = Row(taken_at_ms, received_at_ms, shape_id, usual, places, told)
    if "".join(row.told).translate(_NOTHING_OF):
        raise WireError("The values are not a JSON list of numbers.")
    return row


@lru_cache(maxsize=16)
def _usual(example: bytes) -> Tuple[str, ...]:
    """The same object for the rows of a block."""
    return tuple(texts_of(example))


@lru_cache(maxsize=64)
def _places_in(bits: bytes) -> Places:
    flags = f"{int.from_bytes(bits, 'little'):b}"[::-1]
    return tuple(compress(range(len(flags)), map("1".__eq__, flags)))


def runs_of(rows: Sequence[Row]) -> List[Run]:
    """The rows as runs of one shape. Raises WireError where a text of some row is no number."""
    return [_run(shape_id, list(group)) for (shape_id, _), group in groupby(rows, _shape_and_width)]


def _shape_and_width(row: Row) -> Tuple[str, int]:
    return row.shape_id, row.width


def _run(shape_id: str, rows: List[Row]) -> Run:
    first, count, last = rows[0], len(rows), -1
    usual = first.usual if all(row.usual is first.usual for row in rows) else ()
    places, told = _told_by_all(rows, usual) if usual else (tuple(range(first.width)), [row.texts for row in rows])
    found: List[Column] = [(value,) for value in _as_json(first.texts)]
    columns = list(zip(*told))
    for number, (place, column) in enumerate(zip(places, columns)):
        if column.count(column[0]) != count:
            # times of reading stand in many places: the same object, for which the writer looks
            found[place] = found[places[last]] if last >= 0 and column == columns[last] else _numbers(column)
            last = number
    return Run(shape_id, [row.taken_at_ms for row in rows], [row.received_at_ms for row in rows], found)


def _told_by_all(rows: Sequence[Row], usual: Sequence[str]) -> Tuple[Places, List[Sequence[str]]]:
    """The places that any of the rows tells, and each row's texts there: the first rows of a block tell fewer than the others."""
    kinds = {row.places for row in rows}
    every = max(kinds, key=len)
    if len(kinds) == 1:
        return every, [row.told for row in rows]
    every = tuple(sorted(set(every).union(*kinds)))
    pick = _picker(every)
    return every, [row.told if row.places == every else pick(row.texts) for row in rows]


def _numbers(column: Sequence[str]) -> Column:
    """Most columns are whole numbers, or have a point in most: Python reads those as JSON does."""
    try:
        return list(map(int, column))
    except ValueError:
        try:
            return [float(text) if "." in text else int(text) for text in column]
        except ValueError:
            return _as_json(column)


def _as_json(column: Sequence[str]) -> Column:
    return checked(loads(f"[{','.join(column)}]".encode()))


def heads_of(runs: Sequence[Run]) -> List[Entry]:
    """The same as rows without values, for whoever has the columns."""
    return [Entry(taken, received, run.shape_id, []) for run in runs for taken, received in zip(run.taken_ms, run.received_ms)]


def entries_of(runs: Sequence[Run]) -> List[Entry]:
    """The same as rows."""
    return [entry for run in runs for entry in _entries(run)]


def _entries(run: Run) -> List[Entry]:
    count = len(run.taken_ms)
    whole = [repeat(column[0], count) if len(column) == 1 else column for column in run.columns]
    rows: Iterable[List[Any]] = map(list, zip(*whole)) if whole else ([] for _ in run.taken_ms)
    return [Entry(taken, received, run.shape_id, row) for taken, received, row in zip(run.taken_ms, run.received_ms, rows)]
