"""Lists of numbers: what JSON takes is taken, as JSON takes it; nothing else is, and nothing that was seen before lets it through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.wire.numbers import LIMIT, MOST_TEXTS, WIDE, Numbers, Told, checked, texts_of

VALUES = st.lists(st.one_of(st.none(), st.integers(1 - LIMIT, LIMIT - 1), st.floats(-1e18, 1e18)), max_size=30)


def exact(values: Any) -> list[tuple[type, str]]:
    return [(type(value), repr(value)) for value in values]


@given(VALUES, st.sampled_from(["", " ", "\t", " \n"]))
def test_as_json_reads_it(values: list[Any], space: str) -> None:
    line = json.dumps(values, separators=(f"{space},{space}", ":")).encode()
    numbers = Numbers()
    for _ in range(2):
        assert exact(numbers.read(line)) == exact(json.loads(line))


@pytest.mark.parametrize("text", ["0", "-0", "-0.0", "1e2", "1E-2", "1.50", "12345678901234567", "[]", "[ ]", "null"])
def test_every_spelling(text: str) -> None:
    line = text if text.startswith("[") else f"[{text}]"
    assert exact(Numbers().read(line.encode())) == exact(json.loads(line))


@pytest.mark.parametrize(
    "line",
    [
        "", "[", "]", "{}", "1", "null", "[1", "1]", "[1,]", "[,1]", "[,]", "[01]", "[-]", "[+1]", "[.5]", "[1.]", "[1e]", "[0x1]", "[1_0]", "[NaN]",
        "[Infinity]", "[-Infinity]", "[true]", '["1"]', "[[1]]", "[{}]", "[1 2]", "[nul]", "[٣]", "[²]", "[1e400]", f"[{'9' * 30}]", f"[-{2**63}]", f"[{'1' * 5000}]",
        "[1],[2]",
    ],
)  # fmt: skip
def test_what_is_no_list_of_numbers(line: str) -> None:
    numbers = Numbers()
    for _ in range(2):  # what was refused is not remembered
        with pytest.raises(WireError):
            numbers.read(line.encode())


def test_wide_lists_and_many_texts() -> None:
    numbers = Numbers()
    wide = [*range(WIDE + 5), None, 1.5]
    assert numbers.read(json.dumps(wide).encode()) == wide
    assert not numbers, "what a node may make anew each time is not remembered"
    with pytest.raises(WireError, match="not a number"):
        numbers.read(json.dumps([*wide, True]).encode())
    for start in range(0, 2 * MOST_TEXTS, 1000):
        assert numbers.read(json.dumps(list(range(start, start + 1000))).encode()) == list(range(start, start + 1000))
    assert len(numbers) <= MOST_TEXTS + 1000


def test_equal_texts_are_one_object() -> None:
    one, other = Numbers().read(b"[123456.5,123456.5]")
    assert one is other


@given(st.lists(VALUES, max_size=4))
def test_what_is_told_is_read_as_numbers_are(lists: list[list[Any]]) -> None:
    told, numbers = Told(), Numbers()
    for values in lists * 2:
        texts = texts_of(json.dumps(values).encode())
        found = told.of(texts)
        assert [text for text, _ in found] == texts
        assert exact([value for _, value in found]) == exact(numbers.of(texts))


def test_equal_texts_are_one_pair_and_long_ones_are_forgotten() -> None:
    told = Told()
    power, time, again = told.of(["454.6", "1790000010.125", "1790000010.125"])
    assert time is again
    assert list(told) == ["454.6"]
    assert told.of(["454.6"])[0] is power
    with pytest.raises(WireError, match="not a number"):
        told.of(["1790000015.125", "7", "nan"])
    assert list(told) == ["454.6", "7"]
    for start in range(0, 2 * MOST_TEXTS, 1000):
        told.of([str(number) for number in range(start, start + 1000)])
    assert len(told) <= MOST_TEXTS + 1000


def test_many_told_texts_are_read_as_they_come() -> None:
    told, wide = Told(), [*range(WIDE + 5), None, 1.5]
    assert [value for _, value in told.of(texts_of(json.dumps(wide).encode()))] == wide
    assert not told
    with pytest.raises(WireError, match="not a number"):
        told.of([*map(str, range(WIDE + 5)), "true"])


def test_checked_refuses_what_is_no_number() -> None:
    assert checked([1, None, 2.5]) == [1, None, 2.5]
    for bad in ({}, [True], ["1"], [[1]], [2.0**63], [-(2**63)]):
        with pytest.raises(WireError):
            checked(bad)
