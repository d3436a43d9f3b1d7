"""Rows of the journal as columns of numbers, for packing: most values of a machine do not change in a block, and those need no look at each row. Pure.

A row says all of its values as texts. Equal texts mean the same number, so that a column of equal texts costs one comparison in C; only the others are
read as numbers.
"""

from __future__ import annotations

from itertools import groupby, repeat
from typing import Any, Iterable, List, NamedTuple, Sequence, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.store.blocks import Entry, Run
from gpuwatch.store.columns import Column
from gpuwatch.wire.frame import loads
from gpuwatch.wire.numbers import checked, texts_of

_DIGITS = b"0123456789.,-"
_LETTERS = b"[nule]E+ \t\r\n"


class Row(NamedTuple):
    """A row whose values were inflated and cut into texts, but not looked at."""

    taken_at_ms: int
    received_at_ms: int
    shape_id: str
    texts: List[str]


def cut(taken_at_ms: int, received_at_ms: int, shape_id: str, line: bytes) -> Row:
    """A row of this JSON list of numbers. Raises WireError for what holds letters or signs that are in no number."""
    if line.translate(None, _DIGITS).strip(_LETTERS):
        raise WireError("The values are not a JSON list of numbers.")
    return Row(taken_at_ms, received_at_ms, shape_id, texts_of(line))


def runs_of(rows: Sequence[Row]) -> List[Run]:
    """The rows as runs of one shape. Raises WireError where a text of some row is no number."""
    return [_run(shape_id, list(group)) for (shape_id, _), group in groupby(rows, _shape_and_width)]


def _shape_and_width(row: Row) -> Tuple[str, int]:
    return row.shape_id, len(row.texts)


def _run(shape_id: str, rows: List[Row]) -> Run:
    taken, received, _, texts = zip(*rows)
    found: List[Column] = [(value,) for value in _as_json(texts[0])]
    count, last = len(rows), -1
    columns = list(zip(*texts))
    for place, column in enumerate(columns):
        if column.count(column[0]) != count:
            # times of reading stand in many places: the same object, for which the writer looks
            found[place] = found[last] if last >= 0 and column == columns[last] else _numbers(column)
            last = place
    return Run(shape_id, taken, received, found)


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
