import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import StoreError
from gpuwatch.store import deflate


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_round_trip(data, base):
    assert deflate.inflate(deflate.deflate(data, base), base) == data
    assert deflate.inflate(deflate.deflate_against(data, base), base) == data


def test_a_large_one_goes_round_too():
    data = bytes(range(256)) * 500
    assert deflate.inflate(deflate.deflate(data, data), data) == data


def test_a_base_in_common_makes_it_small():
    base = b",".join(b"%d" % (n * n * 7919 % 100_003) for n in range(500))
    assert len(deflate.deflate(base, base)) < len(deflate.deflate(base, b"")) / 5


def test_damage_and_bombs_are_refused(monkeypatch):
    good = deflate.deflate(b"abc" * 100, b"")
    for bad in (b"", good[:-3], b"\xff" * 20):
        with pytest.raises(StoreError, match="damaged"):
            deflate.inflate(bad)
    monkeypatch.setattr(deflate, "MAX_BYTES", 200)
    with pytest.raises(StoreError, match="too much"):
        deflate.inflate(good)
