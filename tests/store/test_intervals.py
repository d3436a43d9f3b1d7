import math
import random
from dataclasses import replace

import pytest

from gpuwatch.model.series import ProcessInterval
from gpuwatch.store import intervals, machines

START = 1_790_000_000.0
GAP = 15.0


def interval(start, end, pid=1, gpu="GPU-1", user="ann", started=START - 5, memory=2.0**30):
    seconds = float(end - start)
    return ProcessInterval(gpu, pid, started, user, "python3", "python3 a.py", START + start, START + end, memory, memory * seconds, seconds)


def add(store, machine_id, *found):
    with store.writing():
        intervals.merge(store, machine_id, found, GAP)


def spans(store, *arguments, **options):
    options = {"start_at": START - 1e6, "end_at": START + 1e9, "limit": 100, **options}
    return [(one.interval.start_at - START, one.interval.end_at - START) for one in intervals.read(store, *arguments, **options)]


def test_what_goes_in_comes_out(store, machine):
    one = interval(0, 600)
    odd = replace(interval(10, 20, pid=2), process_started_at=None, user=None, name=None, command=None, peak_memory_bytes=None)
    add(store, machine, one, odd)
    found = intervals.read(store, machine, start_at=START, end_at=START + 1000, limit=10)
    assert found == [intervals.IntervalRow(machine, odd), intervals.IntervalRow(machine, one)]


def test_one_that_goes_on_is_extended(store, machine):
    add(store, machine, interval(0, 600))
    add(store, machine, interval(610, 1200, memory=2.0**31))
    (row,) = intervals.read(store, machine, start_at=START, end_at=START + 1000, limit=10)
    assert (row.interval.start_at, row.interval.end_at) == (START, START + 1200)
    assert row.interval.peak_memory_bytes == 2.0**31
    assert row.interval.memory_seconds == 1190
    assert row.interval.mean_memory_bytes == pytest.approx((600 * 2**30 + 590 * 2**31) / 1190)


@pytest.mark.parametrize("other", [interval(616, 700), interval(600, 700, pid=2), interval(600, 700, gpu="GPU-2"), interval(600, 700, started=START + 500)])
def test_another_process_or_a_gap_is_another_interval(store, machine, other):
    add(store, machine, interval(0, 600))
    add(store, machine, other)
    assert len(spans(store)) == 2


def test_the_order_of_blocks_does_not_matter(store, machine):
    pieces = [interval(100 * number, 100 * number + 100) for number in range(12)]
    random.Random(3).shuffle(pieces)
    for piece in pieces:
        add(store, machine, piece)
    assert spans(store) == [(0, 1200)]
    assert store.rows("SELECT memory_seconds FROM process_interval") == [(1200.0,)]


def test_questions(store, machine):
    other = machines.ensure(store, "gpu02", "b")
    add(store, machine, interval(0, 100), interval(50, 200, pid=2, gpu="GPU-2", user="bob"))
    add(store, other, interval(300, 400, gpu="GPU-9"))
    assert spans(store) == [(300, 400), (50, 200), (0, 100)]
    assert spans(store, limit=2) == [(300, 400), (50, 200)]
    assert spans(store, machine) == [(50, 200), (0, 100)]
    assert spans(store, machine, "GPU-1") == [(0, 100)]
    assert spans(store, None, "GPU-9") == [(300, 400)]
    assert spans(store, user="ann") == [(300, 400), (0, 100)]
    assert spans(store, other, user="bob") == []
    assert spans(store, start_at=START + 100, end_at=START + 300) == [(50, 200), (0, 100)]
    assert spans(store, start_at=START + 101, end_at=START + 300) == [(50, 200)]


def test_a_user_can_be_forgotten(store, machine, monkeypatch):
    monkeypatch.setattr(intervals, "_FORGET_BATCH", 3)
    add(store, machine, *(interval(0, 10, pid=pid, user="ann" if pid % 2 else "bob") for pid in range(20)))
    assert intervals.forget_user(store, "ann") == 10
    assert {row.interval.user for row in intervals.read(store, start_at=0, end_at=START + 100, limit=100)} == {"bob"}
    assert intervals.forget_user(store, "ann") == 0


def test_hostile_numbers_and_crowds(store, machine, monkeypatch):
    monkeypatch.setattr(intervals, "_MOST_ROWS", 5)
    add(store, machine, *(replace(interval(0, 10, pid=pid), memory_byte_seconds=math.inf, peak_memory_bytes=math.nan) for pid in range(9)))
    found = intervals.read(store, start_at=0, end_at=START + 100, limit=100)
    assert len(found) == 5
    assert {row.interval.mean_memory_bytes for row in found} == {None}
