"""A sample told by what changed: the hub ends with exactly what the node has, and takes nothing else."""

from __future__ import annotations

import json
from typing import Any, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.wire.changes import MOST_GIVEN, Given, Read, Reader, known_as, shape_in
from gpuwatch.wire.frame import encode_values

SHAPE = "0" * 32
VALUE = st.one_of(st.none(), st.integers(-(2**62), 2**62), st.floats(-1e18, 1e18), st.sampled_from([0, 0.0, 1, 1.0]))


def ask(given_: Given, reader: Reader, line: bytes, base: Read | None) -> Tuple[Read, bool]:
    """One poll; did only what changed travel?"""
    header, lines = given_.answer(SHAPE, line, known_as(SHAPE, base.name if base else ""))
    if "base" not in header:
        return reader.whole(header, SHAPE, lines), False
    assert base is not None
    assert header["base"] == base.name
    return reader.changed(header, base, lines), True


@given(st.integers(0, 12).flatmap(lambda count: st.lists(st.lists(VALUE, min_size=count, max_size=count), min_size=1, max_size=6)))
def test_the_hub_ends_with_what_the_node_has(samples: List[List[Any]]) -> None:
    node, reader, last = Given(), Reader(), None
    for values in samples:
        line = encode_values(values)
        last, _ = ask(node, reader, line, last)
        assert [(type(value), repr(value)) for value in last.values] == [(type(value), repr(value)) for value in json.loads(line)]
        assert f"[{','.join(last.texts)}]".encode() == line


def test_only_what_changed_travels_and_the_last_sample_is_left_as_it_was() -> None:
    node, reader = Given(), Reader()
    first, _ = ask(node, reader, b"[1790000000.5,2,null,4.0,5,6,7]", None)
    kept = list(first.texts), list(first.values)
    header, lines = node.answer(SHAPE, b"[1790000005.5,2,3,4.0,5,6,7]", known_as(SHAPE, first.name))
    assert lines == b"[0,2]\n[1790000005.5,3]"
    assert header["base"] == first.name != header["sample"]
    assert reader.changed(header, first, lines).values == [1790000005.5, 2, 3, 4.0, 5, 6, 7]
    assert (first.texts, first.values) == kept


def test_the_same_sample_has_one_name_and_nothing_changed() -> None:
    node, line = Given(), b"[1,2,3]"
    name = node.answer(SHAPE, line, SHAPE)[0]["sample"]
    header, lines = node.answer(SHAPE, line, known_as(SHAPE, name))
    assert (header, lines) == ({"sample": name, "base": name}, b"[]\n[]")


@pytest.mark.parametrize("known", ["", SHAPE, known_as(SHAPE, "no.1"), known_as("1" * 32, "no.1"), "+", "+++"])
def test_who_has_nothing_of_ours_gets_the_whole_line(known: str) -> None:
    node = Given()
    node.answer(SHAPE, b"[1,2,3,4,5]", "")
    header, lines = node.answer(SHAPE, b"[1,2,3,4,6]", known)
    assert "base" not in header
    assert lines == b"[1,2,3,4,6]"


def test_what_is_forgotten_of_another_shape_or_no_shorter_travels_whole() -> None:
    node = Given()
    first = node.answer(SHAPE, b"[1,2,3,4,5,6,7]", "")[0]["sample"]
    assert "base" not in node.answer("1" * 32, b"[1,2,3,4,5,6,8]", known_as(SHAPE, first))[0]
    assert "base" not in node.answer(SHAPE, b"[1,2,3,4,5,6]", known_as(SHAPE, first))[0]
    assert "base" not in node.answer(SHAPE, b"[7,6,5,1,3,2,1]", known_as(SHAPE, first))[0]
    for count in range(MOST_GIVEN):
        node.answer(SHAPE, b"[1,2,3,4,5,6,%d]" % count, "")
    assert "base" not in node.answer(SHAPE, b"[1,2,3,4,5,6,8]", known_as(SHAPE, first))[0]


def test_names_of_two_runs_of_a_node_differ() -> None:
    """A node that was started anew knows none of the samples before."""
    assert Given().answer(SHAPE, b"[]", "")[0] != Given().answer(SHAPE, b"[]", "")[0]


@pytest.mark.parametrize(
    "lines",
    [
        b"", b"[]", b"[0]\n[]", b"[]\n[1]", b"[3]\n[1]", b"[-1]\n[1]", b"[0.0]\n[1]", b"[1e0]\n[1]", "[²]\n[1]".encode(), b"[0]\n[true]", b"[0]\n[NaN]", b"[0]\n[[1]]",
        b"[null]\n[1]", b"[0]\n[1]\n[2]", b"0\n1", b"[99999999999999999999]\n[1]", b'["0"]\n[1]', b"[0]\n[1e999]", b"[0 1]\n[1,2]", b"[+0]\n[1]",
        b"[true]\n[1]", b"[00]\n[1]", b"[[0]]\n[1]", b"[0],[1]\n[1,2]", b"[0,]\n[1]", b"[,0]\n[1]", b"[-0]\n[1]", b"[0]x\n[1]", b"[" + b"1" * 5000 + b"]\n[1]",
    ],
)  # fmt: skip
def test_what_is_no_change_is_refused(lines: bytes) -> None:
    reader = Reader()
    base = reader.whole({"sample": "a.1"}, SHAPE, b"[1,2,3]")
    for _ in range(2):
        with pytest.raises(WireError):
            reader.changed({"sample": "a.2"}, base, lines)
    assert base.values == [1, 2, 3]


@given(st.binary(max_size=60))
def test_any_bytes(lines: bytes) -> None:
    reader = Reader()
    base = reader.whole({"sample": "a.1"}, SHAPE, b"[1,2,3]")
    try:
        read = reader.changed({}, base, lines)
    except WireError:
        return
    assert len(read.values) == len(read.texts) == 3


@pytest.mark.parametrize("name", [None, 5, "", "a b", "a+b", "x" * 25, 'a"', ["a"]])
def test_a_name_that_cannot_be_asked_for_is_none(name: object) -> None:
    assert Reader().whole({"sample": name}, SHAPE, b"[1]").name == ""


def test_what_a_hub_says_that_it_has() -> None:
    assert known_as(SHAPE, "") == SHAPE
    assert shape_in(known_as(SHAPE, "ab.7")) == shape_in(SHAPE) == SHAPE
    assert len(known_as(SHAPE, "x" * 24)) <= 64, "nodes take no more"
