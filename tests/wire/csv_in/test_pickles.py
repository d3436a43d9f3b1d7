"""Pickles from strangers: plain data of every protocol comes back, everything else is refused, and nothing is run or allocated."""

import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.wire.csv_in import pickles
from gpuwatch.wire.csv_in.rows import Unreadable

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner, inner) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=300)
@given(PLAIN, st.integers(3, 5))
def test_plain_data_comes_back(value, protocol):
    assert pickles.loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_a_host_s_entry_of_any_protocol(protocol):
    processes = [{"pid": "12", "used_memory": 70000}] * 2
    value = {"gpu:0": {"device_num": 0, "uuid": "GPU-1", "x": 1.5, "no": None, "yes": True, "processes": processes, "t": (1, 2, 3, -4)}}
    assert pickles.loads(pickle.dumps(value, protocol)) == value


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was run')",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [Runs(), OrderedDict(a=1), datetime(2026, 1, 1), os.system, {"gpu:0": Runs()}, {1, 2}, bytearray(b"a")])
def test_anything_that_is_not_plain_is_refused_and_not_run(value, protocol):
    with pytest.raises(Unreadable, match="more than plain data"):
        pickles.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"(.",
        b"\x80\x06N.",
        b"X\xff\xff\xff\xffabc.",
        b"\x8d" + b"\xff" * 8 + b".",
        b"\x8b\xff\xff\xff\x7f.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"}]Ns.",  # a list as a key
        b"}(((((tttttNs.",
        b"}" + b"(" * 1000 + b"t" * 1000 + b"Ns.",  # nested tuples as a key
        b"Na.",
        b"h\x05.",
        b"N" * (pickles.MAX_BYTES + 1),
    ],
)
def test_broken_and_hostile_pickles(data):
    with pytest.raises(Unreadable):
        pickles.loads(data)


def test_a_number_of_a_large_memo_allocates_nothing():
    tracemalloc.start()
    assert pickles.loads(b"Nr" + struct.pack("<I", 2**31 - 1) + b".") is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024**2


@given(st.binary(max_size=60))
def test_any_bytes(data):
    try:
        found = pickles.loads(data)
    except Unreadable:
        return
    assert type(found) in (type(None), bool, int, float, str, bytes, list, tuple, dict)
