"""Two lines of JSON from a stranger."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.wire import frame


def test_a_frame_comes_back():
    body = frame.encode({"flat": 1, "shape_id": "a"}, frame.encode_values([1, 2.5, None]))
    header, values = frame.decode(body)
    assert header == {"flat": 1, "shape_id": "a"}
    assert frame.loads(values) == [1, 2.5, None]


_VALUES = st.lists(st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats()), max_size=12)


@given(st.lists(_VALUES, max_size=6))
def test_kept_texts_are_what_encoding_anew_gives(samples):
    encoder = frame.ValuesEncoder()
    for values in samples:
        finite = [None if value is not None and not math.isfinite(value) else value for value in values]
        assert encoder.encode(values) == frame.encode_values(finite)
        assert encoder.encode([*values]) == frame.encode_values(finite)  # the same objects in another list


@pytest.mark.parametrize("body", [b"", b"{}", b"[]\n[]", b'{"a": NaN}\n[]', b"{" * 100_000 + b"\n", b"\xff\n[]", b"1\n"])
def test_what_is_no_frame_is_refused_in_words(body):
    with pytest.raises(WireError):
        frame.decode(body)


def test_a_number_of_a_megabyte_is_refused_at_once():
    with pytest.raises(WireError):
        frame.loads(b"[" + b"9" * 1_000_000 + b"]")


@given(st.binary(max_size=200))
def test_any_bytes(body):
    try:
        header, _ = frame.decode(body)
    except WireError:
        return
    assert isinstance(header, dict)
