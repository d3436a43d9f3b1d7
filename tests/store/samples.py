"""A machine whose snapshots look a little like real ones."""

import json
import random

from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of

SHAPE = "a" * 32
DOC = {"schema": 1, "facts": {"hostname": "gpu01", "gpus": [{"uuid": "GPU-1"}]}, "fields": {"GpuReading": ["memory_used_bytes"]}}
START = 1_790_000_000
"""Epoch seconds of snapshot number 0; one follows every 5 s."""


def values_at(number, seed=0):
    """Values of one snapshot: a counter, noise, a constant, None now and then, a time."""
    noise = random.Random(seed * 1_000_003 + number)
    return [number, round(noise.gauss(50, 5), 1), 80 * 2**30, None if number % 7 == 0 else noise.randrange(100), 1790000000.5 + number]


def journal_entry(machine_id, number, shape_id=SHAPE):
    at_ms = (START + 5 * number) * 1000
    return JournalEntry(machine_id, at_ms, at_ms + 12, shape_id, texts_of(json.dumps(values_at(number)).encode()))


def docs_for(*machine_ids, shape_id=SHAPE):
    return {(machine_id, shape_id): DOC for machine_id in machine_ids}


def numbers_of(entries):
    """Which snapshots these are; checks that each is exactly what was appended."""
    entries = list(entries)
    numbers = [(entry.taken_at_ms // 1000 - START) // 5 for entry in entries]
    assert [entry.values for entry in entries] == [values_at(number) for number in numbers]
    return numbers
