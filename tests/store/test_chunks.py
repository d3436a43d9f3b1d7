import math
import random
from itertools import permutations

import pytest
from tests.store.gpus import totals

from gpuwatch.model.series import GPU_METRICS, HOST_METRICS, TIERS, Bucket, Minute
from gpuwatch.store import chunks
from gpuwatch.store.chunks import NOTHING, UNITS, Chunk, coarsen, merge, merge_all, of_minutes, split

HOUR = 1_790_002_800


def minute(at, values, covered=60.0):
    """A minute of samples: name -> list of values."""
    buckets = {name: Bucket(len(one), sum(one), min(one), max(one)) for name, one in values.items() if one}
    return Minute(at, covered, buckets)


def some(seed, count=30, step=60, metrics=GPU_METRICS):
    """Minutes with gaps in time and in metrics."""
    dice = random.Random(seed)
    found = {}
    for place in range(count):
        if dice.random() < 0.8:
            values = {name: [dice.randrange(100) for _ in range(dice.randrange(4))] for name in metrics}
            found[HOUR + step * place] = minute(HOUR + step * place, values, dice.random() * 60)
    return of_minutes(found)


def test_every_metric_of_the_model_has_a_unit():
    assert set(UNITS) >= {*GPU_METRICS, *HOST_METRICS, "held_percent"}
    assert set(chunks.SPANS) == set(TIERS)
    assert all(span % tier == 0 for tier, span in chunks.SPANS.items())


def test_a_minute_comes_back_in_its_own_unit():
    values = {"utilization_percent": [10, 20, 60], "power_watts": [71.3, 99.6], "memory_used_bytes": [3 * 2**30], "cpu_percent": [0.3, 1.1]}
    chunk = of_minutes({HOUR: minute(HOUR, values, 57.3)})
    assert chunk.covered_seconds() == [pytest.approx(57.3)]
    assert chunk.floats("utilization_percent") == ([10], [30], [60], [3])
    assert chunk.floats("memory_used_bytes") == ([3 * 2**30], [3 * 2**30], [3 * 2**30], [1])
    assert chunk.floats("cpu_percent") == ([0.3], [0.7], [1.1], [2])
    low, mean, high, _ = chunk.floats("power_watts")
    assert low == [71]
    assert mean == [pytest.approx(85.45)]
    assert high == [100]
    assert chunk.floats("load_1m") == ([None], [None], [None], [0])


def test_the_mean_never_stands_outside_the_extremes():
    dice = random.Random(5)
    for name in UNITS:
        for _ in range(200):
            values = [dice.uniform(0, 3) for _ in range(dice.randrange(1, 5))]
            low, mean, high, _ = of_minutes({HOUR: minute(HOUR, {name: values})}).floats(name)
            assert low[0] <= mean[0] <= high[0]
            assert low[0] <= min(values) + 1e-5
            assert high[0] >= max(values) - 1e-5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_numbers_that_cannot_be_are_gaps(bad):
    chunk = of_minutes({HOUR: minute(HOUR, {"power_watts": [bad]}), HOUR + 60: minute(HOUR + 60, {"power_watts": [50], "no such metric": [1]})})
    assert chunk.floats("power_watts") == ([None, 50], [None, 50], [None, 50], [0, 1])
    assert list(chunk.columns) == ["power_watts"]


def test_merging_is_associative_and_commutative():
    for seed in range(20):
        parts = [some(seed * 10 + number) for number in range(3)]
        results = []
        for order in permutations(parts):
            results.append(merge(merge(order[0], order[1]), order[2]))
            results.append(merge(order[0], merge(order[1], order[2])))
            results.append(merge_all(order))
        assert all(result == results[0] for result in results)


def test_merged_sums_are_the_sums():
    first, second = some(1), some(2)
    both = totals(merge(first, second))
    one, other = totals(first), totals(second)
    assert both["covered"] == one["covered"] + other["covered"]
    for name in GPU_METRICS:
        assert both[name][:2] == tuple(map(sum, zip(one[name][:2], other[name][:2])))


def test_parts_that_follow_each_other_are_chained():
    whole = some(3, 60)
    for cuts in ((10, 20, 30), (1, 2, 3), (7,)):
        parts = [whole.part(first, last) for first, last in zip((0, *cuts), (*cuts, len(whole.times)))]
        assert merge_all(parts) == whole
        twice = [part.part(0, 1) for part in parts] + parts
        assert totals(merge_all(twice)) == totals(merge(whole, merge_all([part.part(0, 1) for part in parts])))


def test_a_metric_that_one_part_lacks_is_a_gap_there():
    first = of_minutes({HOUR: minute(HOUR, {"power_watts": [5]})})
    second = of_minutes({HOUR: minute(HOUR, {"load_1m": [2]}), HOUR + 60: minute(HOUR + 60, {"load_1m": [2]})})
    both = merge_all([first, second])
    assert both == merge(second, first)
    assert both.columns["power_watts"] == ([1, 0], [50, 0], [50, NOTHING], [50, -NOTHING])
    assert both.floats("load_1m").mean == [2, 2]


def test_coarser_tiers_tell_the_same_sums():
    chunk = some(4, 200)
    quarter, hour = coarsen(chunk, 900), coarsen(chunk, 3600)
    assert totals(quarter) == totals(hour) == totals(chunk)
    assert coarsen(quarter, 3600) == hour
    assert all(at % 3600 == 0 for at in hour.times)
    assert coarsen(chunk, 60) == chunk
    assert coarsen(chunk, 300, origin=HOUR + 120).times[0] == HOUR - 180


def test_split_and_cut():
    chunk = some(5, 600)
    pieces = dict(split(chunk, 14400))
    assert all(start % 14400 == 0 and start <= min(part.times) and max(part.times) < start + 14400 for start, part in pieces.items())
    assert merge_all(pieces.values()) == chunk
    assert chunk.cut(HOUR + 60, HOUR + 180).times == [at for at in chunk.times if HOUR + 60 <= at < HOUR + 180]
    assert list(split(Chunk(), 3600)) == []
