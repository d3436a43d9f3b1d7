"""Rows of the journal as columns: the same numbers as row by row, and the same block."""

from __future__ import annotations

import json
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.store.blocks import Entry, pack, pack_runs, unpack
from gpuwatch.store.journal_rows import Row, cut, entries_of, runs_of

VALUE = st.one_of(
    st.none(), st.integers(-(2**62), 2**62), st.floats(-1e18, 1e18), st.sampled_from([0, 0.0, -0.0, 1, 1.0, 1795980676.099]), st.integers(0, 3)
)
"""Few numbers often, so that columns are constant, mixed, or alike."""
LINES = st.integers(0, 8).flatmap(lambda width: st.lists(st.lists(VALUE, min_size=width, max_size=width), min_size=1, max_size=9))


def exact(entries: List[Entry]) -> List[Any]:
    return [(*entry[:3], [(type(value), repr(value)) for value in entry.values]) for entry in entries]


def rows_of(lines: List[List[Any]], shape: str = "a") -> List[Row]:
    return [cut(1000 + 5 * number, 1002 + 5 * number, shape, json.dumps(line, separators=(",", ":")).encode()) for number, line in enumerate(lines)]


@given(LINES, LINES)
def test_what_goes_in_comes_out(first: List[List[Any]], second: List[List[Any]]) -> None:
    rows = rows_of(first) + rows_of(second, "b")
    entries = [Entry(*row[:3], json.loads(f"[{','.join(row.texts)}]")) for row in rows]
    runs = runs_of(rows)
    assert exact(entries_of(runs)) == exact(entries)
    assert exact(list(unpack(pack_runs(runs)))) == exact(entries)
    assert len(pack_runs(runs)) == len(pack(entries))


def test_a_column_that_stands_in_many_places_is_packed_once_and_read_in_each() -> None:
    lines = [[1000.5 + at, 7, 1000.5 + at, None, at, 1000.5 + at, at * at % 7] for at in range(50)]
    runs = runs_of(rows_of(lines))
    assert runs[0].columns[0] is runs[0].columns[2]
    assert [entry.values for entry in unpack(pack_runs(runs))] == lines


@pytest.mark.parametrize("spelling", ["1e2", "1E+2", "-0", "1.5e-3", "0.50", "null"])
def test_every_spelling_in_a_column_that_varies(spelling: str) -> None:
    rows = [cut(at, at, "a", f"[{at}, {text}]".encode()) for at, text in enumerate(("1", spelling, "2.5"))]
    assert [repr(entry.values[1]) for entry in entries_of(runs_of(rows))] == [repr(json.loads(text)) for text in ("1", spelling, "2.5")]


@pytest.mark.parametrize("line", ["", "[", "[1,", "[1,]", "{}", "[true]", '["1"]', "[NaN]", "[Infinity]", "[1_0]", "[0x1]", "[[1]]", "[nul]", "[1 2]", "[\u0663]"])
def test_damage_is_noticed(line: str) -> None:
    with pytest.raises(WireError):
        runs_of([cut(1, 1, "a", line.encode())])
