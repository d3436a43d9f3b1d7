"""Bytes to lines to cells: any encoding, any length, in bounded memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.wire.csv_in.rows import Report, Unreadable
from gpuwatch.wire.csv_in.text import MAX_LINE, cells_of, lines, split

TEXT = "timestamp, name\r\n2026/11/20 03:00:00.123, GeForce ü\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_encodings_of_windows_and_unix(encoding, size):
    data = TEXT.encode(encoding)
    if size < 4:  # the mark must come in one block, as from a file
        blocks = [data[:4], *(data[at : at + size] for at in range(4, len(data), size))]
    else:
        blocks = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(lines(blocks)) == ["timestamp, name", "2026/11/20 03:00:00.123, GeForce ü"]


def test_the_last_line_needs_no_end_and_no_file_is_no_line():
    assert list(lines([b"a\nb"])) == ["a", "b"]
    assert list(lines([])) == list(lines([b""])) == []


def test_bytes_of_no_encoding_become_marks():
    assert list(lines([b"a\xff\xfeb\n"])) == ["a\ufffd\ufffdb"]


def test_a_file_without_line_ends_takes_no_memory():
    tracemalloc.start()
    found = list(lines(b"x" * 65536 for _ in range(1000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(line) for line in found] == [MAX_LINE + 1]
    assert peak < 4 * 1024**2


def test_cells():
    assert split('a, "b, c","d ""e"""') == ["a", "b, c", 'd "e"']
    assert split(" a , b ") == ["a", "b"]
    for line in ('a, "b', 'a, "b"c', "\0", "," * 1000, "x" * (MAX_LINE + 1)):
        with pytest.raises(Unreadable):
            split(line)


def test_lines_are_counted_with_those_that_hold_nothing():
    report = Report()
    assert list(cells_of(["", "a,b", "  ", '"'], report)) == [(2, ["a", "b"])]
    assert (report.lines, report.refused_count) == (4, 1)


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_any_bytes(blocks):
    assert all("\n" not in line for line in lines(blocks))
