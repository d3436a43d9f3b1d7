import random
import zlib

import pytest
from tests.store.test_chunks import HOUR, minute, some

from gpuwatch.model.errors import StoreError
from gpuwatch.model.series import GPU_METRICS
from gpuwatch.store.chunk_codec import decode, decode_part, encode, encode_part
from gpuwatch.store.chunks import Chunk, Column, merge, of_minutes


@pytest.mark.parametrize("seed", range(10))
def test_what_goes_in_comes_out(seed):
    chunk = some(seed, 60)
    assert decode(encode(chunk, HOUR, 60), HOUR, 60) == chunk


def test_one_metric_alone():
    chunk = some(3, 60)
    data = encode(chunk, HOUR, 60)
    assert decode(data, HOUR, 60, ["power_watts"]) == chunk.only(["power_watts"])
    assert decode(data, HOUR, 60, []).times == chunk.times


def test_very_large_and_negative_numbers():
    values = {"memory_used_bytes": [2**49, 0], "temperature_celsius": [-40], "power_watts": [2**39]}
    chunk = of_minutes({HOUR + 60 * place: minute(HOUR, values) for place in range(3)})
    for _ in range(12):
        chunk = merge(chunk, chunk)
    chunk.columns["temperature_celsius"].totals[1] -= 5
    assert decode(encode(chunk, HOUR, 60), HOUR, 60) == chunk


@pytest.mark.parametrize("counts", [[12] * 5, [12, 12, 11, 12, 12], [2**20] * 5])
@pytest.mark.parametrize("lows", [[7] * 5, [100, 200, 300, 100, 0], [70_000, 1, 2, 3, 2**31], [2**33, 0, 1, 2, 3], [0] * 5])
@pytest.mark.parametrize("above", [[0] * 5, [10, 0, 250, 20, 30], [2**20, 0, 5, 0, 1]])
@pytest.mark.parametrize("rest", [[0] * 5, [1, 2, 3, 4, 5], [2**31 + 1, 0, 0, 0, 2]])
def test_columns_of_all_widths_come_out_together(counts, lows, above, rest):
    """Read as one large number, where they can be: numbers must never reach into their neighbours."""
    highs, totals = [low + more for low, more in zip(lows, above)], [count * low + more for count, low, more in zip(counts, lows, rest)]
    column = Column(counts, totals, lows, highs)
    chunk = Chunk([HOUR + 60 * place for place in range(5)], [600] * 5, {"power_watts": column, "utilization_percent": column})
    assert decode(encode(chunk, HOUR, 60), HOUR, 60) == chunk


def test_sums_beyond_64_bits_stay_the_largest_that_can_be():
    chunk = of_minutes({HOUR + 60 * place: minute(HOUR, {"power_watts": [1, 2 * place + 2]}) for place in range(2)})
    chunk.columns["power_watts"].totals[0] = 2**70
    assert decode(encode(chunk, HOUR, 60), HOUR, 60).columns["power_watts"].totals[0] >= 2**62


def test_a_quiet_gpu_takes_few_bytes():
    values = {"utilization_percent": [0] * 12, "memory_used_bytes": [551 * 2**20] * 12, "power_watts": [70] * 12, "temperature_celsius": [40] * 12}
    chunk = of_minutes({HOUR + 60 * place: minute(HOUR, values) for place in range(240)})
    assert len(encode(chunk, HOUR, 60)) < 240


def test_a_noisy_gpu_takes_a_few_more():
    dice = random.Random(1)
    minutes = {}
    for at in range(HOUR, HOUR + 240 * 60, 60):
        loads = [round(min(100, max(0, dice.gauss(90, 4)))) for _ in range(12)]
        values = {name: [0] * 12 for name in GPU_METRICS}
        values.update(utilization_percent=loads, power_watts=[70 + 5 * load + dice.random() for load in loads], temperature_celsius=[60 + dice.randrange(2) for _ in loads])
        minutes[at] = minute(at, values)
    assert len(encode(of_minutes(minutes), HOUR, 60)) < 240 * 10


@pytest.mark.parametrize("harm", [lambda data: b"", lambda data: b"\x09" + data[1:], lambda data: data[:-5], lambda data: data[:1] + b"\xff" * 9])
def test_damage_is_said(harm):
    good = some(1, 60)
    for data, read in ((encode(good, HOUR, 60), lambda data: decode(data, HOUR, 60)), (encode_part({"": good}), decode_part)):
        with pytest.raises(StoreError, match="codec|damaged"):
            read(harm(data))


def test_bytes_at_random_never_raise_anything_else():
    dice = random.Random(2)
    good = encode(some(1, 60), HOUR, 60)
    plain = zlib.decompressobj(-15).decompress(good[1:])
    refused = 0
    for _ in range(300):
        broken = bytearray(plain)
        for _ in range(3):
            broken[dice.randrange(min(len(broken), 60))] = dice.randrange(256)
        compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
        data = good[:1] + compressor.compress(bytes(broken[: dice.randrange(len(broken))])) + compressor.flush()
        try:
            decode(data, HOUR, 60)
        except StoreError:
            refused += 1
    assert refused > 100


def test_a_part_holds_many_subjects():
    chunks = {"": some(1, 11), "GPU-1": some(2, 11), "GPU-2": Chunk()}
    data = encode_part(chunks)
    assert decode_part(data) == chunks
    assert decode_part(data, "GPU-1") == {"GPU-1": chunks["GPU-1"]}
    assert decode_part(data, "GPU-3") == {}
