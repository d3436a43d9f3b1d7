"""Writes a past straight into the tables, for benches: 30 days of many hosts in a minute instead of 30 days.

Samples of one simulated node, every 5 s over ten days, go through the digest; its eight GPUs are the eight kinds of GPU, and every host's GPUs are
of one kind or another for ten days each. So rollups are as large, and as costly to read, as those of real noise.
"""

from __future__ import annotations

import random
import time
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import fleet

from gpuwatch.rules.digest import Sample, digest
from gpuwatch.rules.limits import Limits
from gpuwatch.store import digests, machines, shapes, usage
from gpuwatch.store.blocks import Entry, pack
from gpuwatch.store.chunk_codec import encode
from gpuwatch.store.chunks import SPANS, Chunk, Column, coarsen, merge_all, of_minutes, split
from gpuwatch.store.database import Store, open_store
from gpuwatch.store.packing import insert_block
from gpuwatch.wire.flat import Shape

DAY, DECADE = 86400, 864000
STEP = 5.0
BLOCK = 120
FLEET_KIND = fleet.GPUS + 1
ROLLUP = ("machine_id", "gpu_uuid", "tier_seconds", "start_ms", "size", "data")
DAYS = ("measured_seconds", "held_seconds", "busy_seconds", "idle_seconds", "unknown_seconds", "unattributed_seconds", "memory_gib_hours", "energy_joules")
USER_DAYS = ("held_seconds", "busy_seconds", "idle_seconds", "unknown_seconds", "memory_gib_hours", "energy_joules")
INTERVAL = (
    "machine_id", "gpu_uuid", "pid", "process_started_ms", "user_name", "name", "command", "start_ms", "end_ms", "peak_memory_bytes", "memory_byte_seconds",
    "memory_seconds",
)  # fmt: skip


def write(path: str, hosts: int, days: int) -> Dict[str, float]:
    """A database with all of it; bytes a node-day, by what takes them."""
    store = open_store(path)
    now = time.time()
    names = {f"n{number:04d}": fleet.address(number) for number in range(hosts)}
    ids = list(machines.ensure_all(store, names, now=now - days * DAY).values())
    kinds = _kinds(hosts)
    pieces = {kind: list(_encoded(chunk)) for kind, chunk in enumerate(kinds)}
    begin = int(now - days * DAY)
    for number, machine_id in enumerate(ids):
        with store.writing():
            _host(store, machine_id, number, pieces, (begin, int(now)))
    with store.writing():
        usage.recount(store, (time.strftime("%Y-%m-%d", time.gmtime(at)) for at in range(begin, int(now) + DAY, DAY)))
        store.load("rollup", ROLLUP, list(_rollups("", "", [FLEET_KIND] * (days // 10 + 2), pieces, (begin, int(now)))))
    raw = sum(_last_hour(store, machine_id, number, now) for number, machine_id in enumerate(ids)) / hosts
    return {**_sizes(store, hosts * days), "raw, 5 s": raw * DAY / STEP}


def _uuid(number: int, index: int) -> str:
    return f"GPU-{number:08x}-0000-0000-0000-{index:012x}"


def _kinds(hosts: int) -> List[Chunk]:
    """Minutes of ten days of each GPU of one node, of its host, and of all GPUs."""
    node = fleet.Node(1, 0.0)
    places = Shape.parse(node.shape).places()
    parts: List[List[Chunk]] = [[] for _ in range(fleet.GPUS + 1)]
    for day in range(10):
        samples = []
        for number in range(int(DAY / STEP)):
            at = day * DAY + number * STEP
            node.advance(at)
            samples.append(Sample(at, places, list(node.values)))
        found = digest(samples, float((day + 1) * DAY), limits=Limits(), zone=digests.Digester().zone)
        for index in range(fleet.GPUS):
            parts[index].append(of_minutes(found.minutes[_uuid(1, index)]))
        parts[fleet.GPUS].append(of_minutes(found.minutes[""]))
    kinds = [merge_all(chunks) for chunks in parts]
    return [*kinds, _times(merge_all([_same_times(kind) for kind in kinds[: fleet.GPUS]]), hosts)]


def _same_times(chunk: Chunk) -> Chunk:
    held = Column([12] * len(chunk.times), [900] * len(chunk.times), [0] * len(chunk.times), [100] * len(chunk.times))
    return Chunk(chunk.times, chunk.covered, {**chunk.columns, "held_percent": held})


def _times(chunk: Chunk, many: int) -> Chunk:
    columns = {
        name: Column([one * many for one in column.counts], [one * many for one in column.totals], column.lows, column.highs)
        for name, column in chunk.columns.items()
    }
    return Chunk(chunk.times, [one * many for one in chunk.covered], columns)


def _encoded(minutes: Chunk) -> Iterable[Tuple[int, int, bytes]]:
    """(tier, start within the ten days, chunk) of all tiers."""
    for tier, span in SPANS.items():
        for start_at, part in split(coarsen(minutes, tier), span):
            yield tier, start_at, encode(part, start_at, tier)


def _rollups(machine_id: str, uuid: str, kinds: Sequence[int], pieces: Dict[int, Any], span: Tuple[int, int]) -> Iterable[Tuple[Any, ...]]:
    """Rows from the begin of the span to its end; the chunks that its end lies in are left out, as live ones are filled later, but of the coarsest tier."""
    begin, end = span
    for number, decade in enumerate(range(begin // DECADE * DECADE, end, DECADE)):
        for tier, start_at, data in pieces[kinds[number % len(kinds)]]:
            at = decade + start_at
            if at + SPANS[tier] > begin and (at + SPANS[tier] <= end or tier == 3600):
                yield machine_id, uuid, tier, at * 1000, len(data), data


def _host(store: Store, machine_id: str, number: int, pieces: Dict[int, Any], span: Tuple[int, int]) -> None:
    dice = random.Random(number)
    rows = list(_rollups(machine_id, "", [fleet.GPUS], pieces, span))
    gpu_days, user_days, intervals = [], [], []
    for index in range(fleet.GPUS):
        uuid = _uuid(number, index)
        rows += _rollups(machine_id, uuid, [(number + index + decade) % fleet.GPUS for decade in range(6)], pieces, span)
        for at in range(span[0], span[1], DAY):
            day, held = time.strftime("%Y-%m-%d", time.gmtime(at)), dice.uniform(20000, 80000)
            gpu_days.append((machine_id, day, uuid, 86400.0, held, held * 0.8, held * 0.2, 0.0, 0.0, held / 100, held * 500))
            for user in dice.sample(fleet.USERS, 3):
                user_days.append((machine_id, day, uuid, user, held / 3, held * 0.8 / 3, held * 0.2 / 3, 0.0, held / 300, held * 500 / 3))
            intervals += list(_processes(dice, machine_id, uuid, at))
    store.load("rollup", ROLLUP, rows)
    store.load("gpu_day", ("machine_id", "day", "gpu_uuid", *DAYS), gpu_days)
    store.load("user_day", ("machine_id", "day", "gpu_uuid", "user_name", *USER_DAYS), user_days)
    store.load("process_interval", INTERVAL, intervals)


def _processes(dice: random.Random, machine_id: str, uuid: str, at: int) -> Iterable[Tuple[Any, ...]]:
    """Eight a day."""
    for number in range(8):
        start_ms = (at + number * 10800 + dice.randrange(3000)) * 1000
        seconds = dice.randrange(600, 7200)
        yield (
            machine_id, uuid, dice.randrange(1000, 4_000_000), start_ms - 5000, dice.choice(fleet.USERS), "python",
            f"python train.py --config configs/experiment_{dice.randrange(1000)}.yaml", start_ms, start_ms + seconds * 1000, 2e10, 2e10 * seconds, float(seconds),
        )  # fmt: skip


def _last_hour(store: Store, machine_id: str, number: int, now: float) -> float:
    """Blocks of the last hour, at 5 s; bytes a snapshot."""
    began = round(now - 3600 - number % 50 / 10, 1)
    node = fleet.Node(number, began)
    entries, size = [], 0
    for place in range(int(3600 / STEP)):
        at = began + place * STEP
        node.advance(at)
        entries.append(Entry(round(at * 1000), round(at * 1000) + 7, node.shape_id, list(node.values)))
    with store.writing():
        key = (machine_id, node.shape_id)
        shapes.write_missing(store, {key: (entries[0].taken_at_ms, [])}, {key: node.shape})
        for first in range(0, len(entries), BLOCK):
            data = pack(entries[first : first + BLOCK])
            insert_block(store, machine_id, entries[first : first + BLOCK], data, digested=True)
            size += len(data)
        shapes.drop_examples(store, machine_id, {node.shape_id})
    return size / len(entries)


def _sizes(store: Store, node_days: int) -> Dict[str, float]:
    """Bytes a node-day of each table of the past but blocks, by what the rows hold."""
    found = {}
    for tier, size in store.rows("SELECT tier_seconds, sum(size + 60) FROM rollup WHERE machine_id != '' GROUP BY tier_seconds"):
        found[f"rollups of {tier} s"] = size / node_days
    for table, row in (("gpu_day", 150), ("user_day", 150), ("process_interval", 230)):
        ((count,),) = store.rows(f"SELECT count(*) FROM {table}")
        found[table] = count * row / node_days
    return found
