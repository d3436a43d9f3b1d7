"""Real snapshots of a machine with two GPUs, every 5 s: what digests are made of. Also sums over all that is stored, to compare."""

import dataclasses
import json

from gpuwatch.model.snapshot import GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.store import intervals, rollups, usage
from gpuwatch.store.chunks import Chunk
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.flat import Flattener
from gpuwatch.wire.numbers import texts_of

START = 1_790_000_040
"""A whole minute."""
INTERVAL = 5.0
GIB = 2**30
UUIDS = ("GPU-aaaa", "GPU-bbbb")


def snapshot(number, interval=INTERVAL, offset=0.0):
    """Number ``number``: ann is always on the first GPU, bob on the second in every other stretch of 40."""
    ann = ProcessReading(pid=100, started_at=START - 50.0, user="ann", name="python3", command="python3 a.py", gpu_memory_bytes=4 * GIB + number % 3 * 2**20)
    bob = ProcessReading(pid=200 + number // 80, started_at=START + number // 80, user="bob", name="train", command="train b", gpu_memory_bytes=2 * GIB)
    there = number % 80 < 40
    gpus = (
        GpuReading(uuid=UUIDS[0], index=0, memory_used_bytes=4 * GIB, memory_total_bytes=80 * GIB, utilization_percent=number * 7 % 101, temperature_celsius=50 + number % 3, power_watts=100.5 + number % 11, sm_clock_mhz=1980, throttle_mask=0, processes=(ann,)),
        GpuReading(uuid=UUIDS[1], index=1, memory_used_bytes=2 * GIB if there else 0, memory_total_bytes=80 * GIB, utilization_percent=90 if there else 0, temperature_celsius=40, power_watts=70.5, sm_clock_mhz=345, throttle_mask=0, processes=(bob,) if there else ()),
    )  # fmt: skip
    host = HostReading(cpu_percent=number % 50 + 0.5, load_1m=number / 100, memory_used_bytes=100 * GIB)
    base = Snapshot(taken_at=round(START + offset + interval * number, 3), hostname="gpu01", interval_seconds=interval, host=host)
    return dataclasses.replace(base, gpus=gpus)


def entries(machine_id, numbers, **options):
    """What the journal takes: entries, and the shapes by (machine, shape)."""
    flattener, found, docs, doc = Flattener(), [], {}, None
    for number in numbers:
        flat = flattener.flatten(snapshot(number, **options))
        doc = flat.shape or doc
        docs[machine_id, flat.shape_id] = doc
        at_ms = round(flat.values[0] * 1000)
        found.append(JournalEntry(machine_id, at_ms, at_ms + 7, flat.shape_id, texts_of(json.dumps(flat.values).encode())))
    return found, docs


def totals(chunk):
    """What merging must not change: seconds covered, and samples, sum and extremes of each metric."""
    return {
        "covered": sum(chunk.covered),
        **{name: (sum(one.counts), sum(one.totals), min(one.lows), max(one.highs)) for name, one in chunk.columns.items()},
    }


def all_sums(store, machine_id):
    """Everything that is derived of a machine's snapshots, in a form that two stores can be compared by."""
    subjects = [(machine_id, ""), *((machine_id, uuid) for uuid in UUIDS), ("", "")]
    far = START + 10**7
    read = {(*key, tier): rollups.read(store, *key, tier, 0, far) for key in subjects for tier in (60, 900, 3600)}
    spans = [row.interval for row in intervals.read(store, machine_id, start_at=0, end_at=far, limit=1000)]
    return {
        "rollups": {key[1:]: (chunk.times, totals(chunk)) for key, chunk in read.items() if isinstance(chunk, Chunk)},
        "gpus": [(row.day, row.gpu_uuid, rounded(row.sums)) for row in usage.gpu_days(store, "0", "9")],
        "users": [(row.day, row.gpu_uuid, row.user_name, rounded(row.sums)) for row in usage.user_days(store, "0", "9")],
        "intervals": [(one.gpu_uuid, one.pid, one.user, one.start_at, one.end_at, one.peak_memory_bytes, round(one.memory_seconds, 3)) for one in spans],
    }


def rounded(sums):
    return {name: round(value, 6) for name, value in vars(sums).items()}
