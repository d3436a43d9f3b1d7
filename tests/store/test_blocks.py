"""Blocks: exact round trip of whatever a node may send, small, and safe to unpack when damaged."""

import bz2
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.samples import values_at

from gpuwatch.model.errors import StoreError
from gpuwatch.store import blocks
from gpuwatch.store.blocks import Entry, nearest, pack, unpack

WHOLE = st.integers(min_value=-(2**63), max_value=2**63)
PLACES = st.integers(min_value=-(10**7), max_value=10**7).flatmap(lambda n: st.sampled_from((1, 10, 1000, 10**6)).map(lambda f: n / f))
FLOATS = st.floats(allow_nan=False)
VALUE = st.one_of(st.none(), WHOLE, st.integers(0, 100), PLACES, FLOATS, st.sampled_from((0, 0.0, -0.0, 1, 1.0)))


def exact(entries):
    return [(*entry[:3], list(map(repr, entry.values))) for entry in entries]


@st.composite
def runs(draw):
    """Snapshots of a few shapes; some columns are of one kind, some wild."""
    entries, at_ms = [], draw(st.integers(0, 2**50))
    for shape_id in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3)):
        width, count = draw(st.integers(0, 6)), draw(st.integers(1, 12))
        kinds = [
            draw(st.sampled_from((VALUE, PLACES, WHOLE, FLOATS, st.none(), st.booleans().map(lambda b: 5 if b else None))))
            for _ in range(width)
        ]
        for _ in range(count):
            at_ms += draw(st.integers(-10_000, 10_000))
            received = at_ms + draw(st.integers(-(10**12), 10**12))
            entries.append(Entry(at_ms, received, shape_id * 32, [draw(kind) for kind in kinds]))
    return entries


@settings(max_examples=150, deadline=None)
@given(runs())
def test_what_goes_in_comes_out(entries):
    assert exact(unpack(pack(entries))) == exact(entries)


@settings(max_examples=150, deadline=None)
@given(runs(), st.data())
def test_one_entry_can_be_taken_out_alone(entries, data):
    times = [entry.taken_at_ms for entry in entries]
    at_ms = data.draw(st.integers(min(times) - 2, max(times) + 2) | st.sampled_from(times))
    near = nearest(pack(entries), at_ms)
    newest = max((time for time in times if time <= at_ms), default=None)
    if newest is None:
        assert near is None
    else:
        assert exact([near.entry]) == exact([entry for entry in entries if entry.taken_at_ms == newest][-1:])


def test_the_spacing_of_a_block_is_its_median_whatever_gaps_it_has():
    def spacing(*seconds):
        return nearest(pack([Entry(1000 * second, 0, "s", [1.5 * second]) for second in seconds]), 10**9).spacing_ms

    assert spacing(0, 5, 10, 15, 9000, 9005) == 5000
    assert spacing(0, 60, 120, 180, 240) == 60_000
    assert spacing(0, 9000, 9005) == 0, "too few to tell"


@pytest.mark.parametrize(
    "column",
    [
        [1, 1.0, 1, 1.0],
        [0.0, -0.0, 0.0],
        [-0.0, -0.0],
        [0.1, 0.2, -0.0],
        [None, None, 3],
        [3, None, 3, None],
        [None, 1.5, 2, None],
        [2**63, -(2**63)],
        [10**30, 1],
        [1e308, -1e308, 5e-324],
        [float("inf"), 1.0],
        [1e-05, 2e-05, 123456.7],
        [1790000000.123, 1790000005.125, 1790000010.12],
        [0.1 + 0.2, 0.3],
        [True, False],
        [True, 1],
        ["text", 1],
        [[1], 2],
    ],
)
def test_odd_columns_are_exact(column):
    entries = [Entry(1000 * place, 1000 * place, "s", [value]) for place, value in enumerate(column)]
    assert exact(unpack(pack(entries))) == exact(entries)
    assert exact(nearest(pack(entries), 1000 * place).entry for place in range(len(column))) == exact(entries)


def test_not_a_number_stays():
    (entry,) = unpack(pack([Entry(1, 1, "s", [float("nan")])]))
    assert repr(entry.values) == "[nan]"


def test_rows_of_one_shape_with_different_lengths_do_not_fail():
    entries = [Entry(1, 1, "s", [1]), Entry(2, 2, "s", [1, 2]), Entry(3, 3, "s", [])]
    assert list(unpack(pack(entries))) == entries


def test_a_block_is_much_smaller_than_its_snapshots():
    entries = [Entry(5000 * n, 5000 * n + 7, "s" * 32, values_at(n) * 20) for n in range(120)]
    single = sum(len(bz2.compress(json.dumps(entry.values).encode())) for entry in entries)
    assert len(pack(entries)) < single / 5


def test_every_damaged_byte_is_noticed_or_harmless():
    entries = [Entry(5000 * n, 5000 * n, "s", values_at(n)) for n in range(20)]
    data = pack(entries)
    for place in range(0, len(data), 3):
        broken = data[:place] + bytes((data[place] ^ 0x55,)) + data[place + 1 :]
        with pytest.raises(StoreError):
            list(unpack(broken))
        with pytest.raises(StoreError):
            nearest(broken, 10**6)
    for length in range(0, len(data), 50):
        with pytest.raises(StoreError):
            list(unpack(data[:length]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_raise_only_store_errors(header, body):
    for data in (header, bytes((1,)) + bz2.compress(struct.pack("<I", len(header)) + header + body)):
        with pytest.raises(StoreError):
            list(unpack(data))
        with pytest.raises(StoreError):
            nearest(data, 0)


JSONISH = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(("schema", "runs", "constants", "raws", "firsts", "masks"), JSONISH)),
    st.text("=jfndvmt i3018", max_size=20),
)
def test_hostile_headers_raise_only_store_errors(header, plans):
    text = json.dumps({**header, "plans": plans, "schema": 1}).encode()
    block = bytes((1,)) + bz2.compress(struct.pack("<I", len(text)) + text + b"\0" * 64)
    for read in (lambda: list(unpack(block)), lambda: [near.entry for near in [nearest(block, 10**15)] if near]):
        try:
            found = read()
        except StoreError as error:
            assert "damaged" in str(error)
        else:
            assert all(isinstance(entry, blocks.Entry) for entry in found)


def test_a_bomb_is_refused_without_unpacking_it(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_UNPACKED_BYTES", 100_000)
    bomb = bytes((1,)) + bz2.compress(b"\0" * (blocks.MAX_UNPACKED_BYTES + 1))
    with pytest.raises(StoreError, match="too much"):
        unpack(bomb)


def test_a_header_that_promises_too_much_is_refused():
    header = {"schema": 1, "runs": [["s", 10**9, 1]], "plans": "= = =", "constants": [1, 1, 1], "raws": [], "firsts": [], "masks": []}
    text = json.dumps(header).encode()
    with pytest.raises(StoreError, match="too many"):
        unpack(bytes((1,)) + bz2.compress(struct.pack("<I", len(text)) + text))


def test_another_codec_and_a_newer_schema_are_named(monkeypatch):
    with pytest.raises(StoreError, match="codec 9"):
        unpack(b"\x09abc")
    monkeypatch.setattr(blocks, "SCHEMA", 7)
    newer = pack([Entry(1, 1, "s", [1])])
    monkeypatch.undo()
    with pytest.raises(StoreError, match="schema 7 is newer"):
        unpack(newer)


@given(runs(), st.sampled_from((1, 1000, 60_000)))
@settings(max_examples=60, deadline=None)
def test_the_first_of_each_step_is_as_it_was(entries, step_ms):
    found = blocks.first_of_each(pack(entries), step_ms)
    assert {entry.taken_at_ms // step_ms for entry in found} == {entry.taken_at_ms // step_ms for entry in entries}
    assert set(map(repr, exact(found))) <= set(map(repr, exact(entries)))
    first = {}
    for entry in entries:
        first[entry.taken_at_ms // step_ms] = min(entry.taken_at_ms, first.get(entry.taken_at_ms // step_ms, entry.taken_at_ms))
    assert set(first.values()) <= {entry.taken_at_ms for entry in found}


def test_the_first_of_each_step_of_a_damaged_block_is_an_error():
    with pytest.raises(StoreError, match="damaged"):
        blocks.first_of_each(pack([Entry(1, 2, "a", [3])])[:-4], 1000)
