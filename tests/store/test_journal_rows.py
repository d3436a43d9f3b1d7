"""Rows of the journal: back to the same texts, and as columns the same numbers as row by row, and the same block."""

from __future__ import annotations

import json
from typing import Any, List, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import StoreError, WireError
from gpuwatch.store.blocks import Entry, pack, pack_runs, unpack
from gpuwatch.store.deflate import deflate, deflate_few
from gpuwatch.store.journal_rows import MARK, Example, Row, cut, entries_of, line_of, runs_of

VALUE = st.one_of(
    st.none(), st.integers(-(2**62), 2**62), st.floats(-1e18, 1e18), st.sampled_from([0, 0.0, -0.0, 1, 1.0, 1795980676.099]), st.integers(0, 3)
)
"""Few numbers often, so that columns are constant, mixed, or alike."""
LINES = st.integers(0, 8).flatmap(lambda width: st.lists(st.lists(VALUE, min_size=width, max_size=width), min_size=1, max_size=9))
DAMAGED = ["", "[", "[1,", "[1,]", "{}", "[true]", '["1"]', "[NaN]", "[Infinity]", "[1_0]", "[0x1]", "[[1]]", "[nul]", "[1 2]", "[\u0663]"]


def exact(entries: List[Entry]) -> List[Any]:
    return [(*entry[:3], [(type(value), repr(value)) for value in entry.values]) for entry in entries]


def texts(line: List[Any]) -> List[str]:
    return [json.dumps(value) for value in line]


def rows_of(lines: List[List[Any]], shape: str = "a", usual: int = 0) -> List[Row]:
    """As the journal has them, against line number ``usual``."""
    example = Example(texts(lines[usual]))
    return [cut(1000 + 5 * number, 1002 + 5 * number, shape, example.row(texts(line)), example.line) for number, line in enumerate(lines)]


@given(LINES, LINES, st.integers(0, 8))
def test_what_goes_in_comes_out(first: List[List[Any]], second: List[List[Any]], usual: int) -> None:
    rows = rows_of(first, usual=min(usual, len(first) - 1)) + rows_of(second, "b")
    assert [row.texts for row in rows] == [texts(line) for line in first + second]
    entries = [Entry(*row[:3], line) for row, line in zip(rows, first + second)]
    runs = runs_of(rows)
    assert exact(entries_of(runs)) == exact(entries)
    assert exact(list(unpack(pack_runs(runs)))) == exact(entries)
    assert len(pack_runs(runs)) == len(pack(entries))


@given(LINES.filter(lambda lines: len(lines) > 1))
def test_rows_of_older_programs_stand_beside_the_others(lines: List[List[Any]]) -> None:
    line = line_of(texts(lines[0]))
    whole = [cut(at, at, "a", deflate(line_of(texts(one)), line), line) for at, one in enumerate(lines[:1])]
    rows = whole + [row._replace(taken_at_ms=at) for at, row in enumerate(rows_of(lines)[1:], 1)]
    assert exact(entries_of(runs_of(rows))) == exact([Entry(at, row.received_at_ms, "a", one) for at, (row, one) in enumerate(zip(rows, lines))])


def test_a_row_tells_what_differs_and_the_next_ones_the_same_places() -> None:
    lines = [[7] * 90 + [at, at * 2, 5.5 if at == 3 else 0.5] for at in range(6)]
    example = Example(texts(lines[0]))
    data = [example.row(texts(line)) for line in lines]
    assert [row.places for row in (cut(1, 1, "a", one, example.line) for one in data)] == [(), (90, 91), (90, 91), (90, 91, 92), (90, 91, 92), (90, 91, 92)]
    assert data[5] == MARK + (0b111 << 90).to_bytes(12, "little") + deflate_few(b"5,10,0.5")


class Growing(Set[int]):
    """The set of a reader in another thread: it grows as soon as somebody has asked how many there are."""

    def __init__(self, places: Set[int], later: Set[int]) -> None:
        super().__init__(places)
        self.later = later

    def __len__(self) -> int:
        count = super().__len__()
        self.update(self.later)
        return count


def test_places_that_come_while_a_row_is_written_are_told_by_the_next() -> None:
    usual = ["7"] * 90
    example, varying = Example(usual), Growing({1}, set())
    example.row(usual, varying)
    varying.later = {2}
    for changed in ({1: "8"}, {1: "9", 2: "9"}):
        texts = [changed.get(place, text) for place, text in enumerate(usual)]
        assert cut(1, 1, "a", example.row(texts, varying), example.line).texts == texts


def test_a_row_that_differs_in_most_places_is_deflated() -> None:
    lines = [[at * place for place in range(50)] for at in range(4)]
    example = Example(texts(lines[0]))
    data = [example.row(texts(line)) for line in lines]
    assert data[0][:1] == MARK
    assert MARK not in {one[:1] for one in data[1:]}
    assert [row.texts for row in rows_of(lines)] == [texts(line) for line in lines]


def test_a_row_of_another_width_is_deflated() -> None:
    example = Example(["1", "2"])
    assert cut(1, 1, "a", example.row(["1", "2", "3"]), example.line).texts == ["1", "2", "3"]


def test_a_column_that_stands_in_many_places_is_packed_once_and_read_in_each() -> None:
    lines = [[1000.5 + at, 7, 1000.5 + at, None, at, 1000.5 + at, at * at % 7, 1, 2, 3, 4, 5, 6] for at in range(50)]
    runs = runs_of(rows_of(lines))
    assert runs[0].columns[0] is runs[0].columns[2]
    assert [entry.values for entry in unpack(pack_runs(runs))] == lines


@pytest.mark.parametrize("spelling", ["1e2", "1E+2", "-0", "1.5e-3", "0.50", "null"])
def test_every_spelling_in_a_column_that_varies(spelling: str) -> None:
    example = Example(["0", "1", "0", "0"])
    rows = [cut(at, at, "a", example.row([str(at), text, "0", "0"]), example.line) for at, text in enumerate(("1", spelling, "2.5"))]
    assert [repr(entry.values[1]) for entry in entries_of(runs_of(rows))] == [repr(json.loads(text)) for text in ("1", spelling, "2.5")]


@pytest.mark.parametrize("line", DAMAGED)
def test_damage_is_noticed(line: str) -> None:
    with pytest.raises(WireError):
        runs_of([cut(1, 1, "a", deflate(line.encode(), b""), b"")])
    with pytest.raises(WireError):
        runs_of([cut(1, 1, "a", MARK + b"\0" + deflate_few(b""), line.encode())])


@pytest.mark.parametrize(
    ("bits", "told"),
    [
        (b"\1", ""), (b"\1", "1,2"), (b"\3", "1"), (b"\x81", "1,2"), (b"\1", "true"), (b"\1", "\u0663"), (b"\1", "1 "), (b"\1", "[1]"), (b"\1", "1_0"),
        (b"\1", "NaN"), (b"\0", "1"),
    ],
)  # fmt: skip
def test_damage_of_a_row_that_tells_some_is_noticed(bits: bytes, told: str) -> None:
    example = b"[1,2,3]"
    good = cut(1, 1, "a", MARK + b"\1" + deflate_few(b"5"), example)
    with pytest.raises((StoreError, WireError)):
        runs_of([good, cut(2, 2, "a", MARK + bits + deflate_few(told.encode()), example)])


@pytest.mark.parametrize("data", [MARK, MARK + b"\1", MARK + b"\1" + b"5", MARK + b"\1" + deflate_few(b"5" * 90)[:-1]])
def test_a_row_that_was_cut_off_is_noticed(data: bytes) -> None:
    with pytest.raises(StoreError):
        cut(1, 1, "a", data, b"[1,2,3]")
