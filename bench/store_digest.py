"""What rollups, usage and intervals add to packing: ms and bytes per snapshot of one host (8 GPUs, 20 processes, 64 cores, every 5 s).

Usage: bench/store_digest.py [hours]. Two stores get the same snapshots in blocks of 120; one packs alone, the other digests too. Settling is
counted in. Then: bytes a GPU-minute by tier, and how long one chunk takes to decode.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from gpuwatch.model.snapshot import DiskReading, GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.rules.digest import digest
from gpuwatch.rules.limits import Limits
from gpuwatch.store import digests, machines, packing, rollups, snapshots
from gpuwatch.store.chunk_codec import decode, encode
from gpuwatch.store.chunks import SPANS
from gpuwatch.store.database import Store, open_store
from gpuwatch.store.digests import Digester
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.numbers import texts_of

GPUS, PROCESSES, INTERVAL, BLOCK = 8, 20, 5.0, 120
GIB, MIB = 2**30, 2**20
START = 1_790_000_000


class Host:
    """Idle and busy GPUs in turn; noisy utilization and power, temperature around a mean, memory that changes now and then."""

    def __init__(self, seed: int = 1) -> None:
        self.dice = dice = random.Random(seed)
        self.work = [(0, 60, 0, 90, 95, 0, 98, 100)[gpu % 8] for gpu in range(GPUS)]
        self.memory = [dice.randrange(2, 70) * GIB for _ in range(GPUS)]
        self.energy = [dice.randrange(10**9) for _ in range(GPUS)]
        self.held = [dice.randrange(1, 9) * GIB for _ in range(PROCESSES)]
        self.users = [f"user{dice.randrange(6)}" for _ in range(PROCESSES)]
        self.base = Snapshot(taken_at=0.0, hostname="gpu01", interval_seconds=INTERVAL)

    def snapshot(self, number: int) -> Snapshot:
        """Number ``number``; a process ends and another begins every 300."""
        dice, at = self.dice, round(START + INTERVAL * number + self.dice.random() * 0.01, 3)
        busy = [gpu for gpu in range(GPUS) if self.work[gpu]]
        on: Dict[int, List[ProcessReading]] = {}
        for place in range(PROCESSES):
            pid = 1000 + place + (number // 300 if place == 0 else 0)
            on.setdefault(busy[place % len(busy)], []).append(
                ProcessReading(
                    pid=pid, started_at=float(START + pid), user=self.users[place], name="python3", command=f"python3 train.py --run {place}",
                    gpu_memory_bytes=self.held[place], sm_percent=dice.randrange(100), cpu_percent=round(dice.gauss(100, 5), 1), host_memory_bytes=4 * GIB,
                )
            )  # fmt: skip
        host = HostReading(
            cpu_percent=round(min(100, max(0, dice.gauss(30, 4))), 1), load_1m=round(dice.gauss(20, 0.3), 2), memory_used_bytes=200 * GIB + dice.randrange(20000) * 4096,
            memory_total_bytes=1024 * GIB, cores_percent=tuple(round(dice.random() * 100, 1) for _ in range(64)), disks=(DiskReading("/", used_bytes=10**12, total_bytes=2 * 10**12),),
        )  # fmt: skip
        return dataclasses.replace(self.base, taken_at=at, host=host, gpus=tuple(self._gpu(gpu, tuple(on.get(gpu, ()))) for gpu in range(GPUS)))

    def _gpu(self, gpu: int, processes: Tuple[ProcessReading, ...]) -> GpuReading:
        dice, work = self.dice, self.work[gpu]
        load = min(100, max(0, round(dice.gauss(work, 3)))) if work else 0
        if work and dice.random() < 0.005:
            self.memory[gpu] += dice.randrange(-100, 100) * MIB
        power = round(70 + 5 * load + dice.gauss(0, 4 if work else 0.4), 3)
        self.energy[gpu] += round(power * INTERVAL)
        return GpuReading(
            uuid=f"GPU-{gpu:08x}-0000-0000-0000-000000000000", index=gpu, name="NVIDIA H100 80GB HBM3", memory_used_bytes=self.memory[gpu], memory_total_bytes=80 * GIB,
            utilization_percent=load, temperature_celsius=40 + load // 3 + dice.choice((0, 0, 0, 1)), power_watts=power, power_limit_watts=700.0, energy_joules=self.energy[gpu],
            sm_clock_mhz=1980 if work else 345, throttle_mask=0, processes=processes,
        )  # fmt: skip


def filled(path: str, entries: List[JournalEntry], docs: Dict[Any, Any]) -> Iterator[Tuple[Store, str]]:
    """A store; then, again and again, the same with one more block's snapshots in its journal."""
    store = open_store(path)
    machine_id = machines.ensure(store, "gpu01", "10.0.0.1", now=1.0)
    for first in range(0, len(entries), BLOCK):
        some = [entry._replace(machine_id=machine_id) for entry in entries[first : first + BLOCK]]
        snapshots.append(store, some, {(machine_id, shape_id): doc for shape_id, doc in docs.items()})
        yield store, machine_id
    store.close()


def main() -> None:
    """Print the figures."""
    gc.set_threshold(50_000, 20, 100)  # as the hub has it
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 8
    host, flattener = Host(), Flattener()
    entries, docs, newest = [], {}, {}
    for number in range(round(hours * 3600 / INTERVAL / BLOCK) * BLOCK):
        snapshot = host.snapshot(number)
        flat = flattener.flatten(snapshot)
        if flat.shape is not None:
            docs[flat.shape_id] = flat.shape
            parsed = Shape.parse(flat.shape)
        newest[number // BLOCK * BLOCK] = parsed  # the hub has it
        at_ms = round(snapshot.taken_at * 1000)
        entries.append(JournalEntry("", at_ms, at_ms + 5, flat.shape_id, texts_of(json.dumps(flat.values).encode())))
    print(f"{len(flat.values)} values, {len(docs)} shapes, {len(entries)} snapshots")
    with tempfile.TemporaryDirectory() as folder:
        spent = [0.0, 0.0]
        sides = [filled(f"{folder}/{name}.db", entries, docs) for name in ("alone", "digested")]
        for first, *pair in zip(range(0, len(entries), BLOCK), *sides):  # both sides in one run: the machine's speed changes
            for side, (store, machine_id) in enumerate(pair):
                digester: Optional[Digester] = Digester(shape_of=lambda machine_id, known=newest[first]: known) if side else None
                start = time.process_time()
                packing.pack_machine(store, machine_id, BLOCK, digester=digester)
                spent[side] += time.process_time() - start
            store, machine_id = pair[1]
        alone, digested = (1000 * seconds / len(entries) for seconds in spent)
        print(f"packing alone {alone:.4f} ms a snapshot, with digests {digested:.4f} ms: {digested - alone:.4f} ms more")
        told(store, machine_id, len(entries) * INTERVAL / 60)


def told(store: Store, machine_id: str, minutes: float) -> None:
    """Where the time goes, and what is stored."""
    entries = list(snapshots.read(store, machine_id))[-BLOCK:]
    samples = digests.samples_of(store, machine_id, entries)
    found = digest(samples, None, limits=Limits(), zone=Digester().zone)
    line("digest, ms a snapshot", timed(lambda: digest(samples, None, limits=Limits(), zone=Digester().zone)) / BLOCK)
    line("minutes as parts, ms a snapshot", timed(lambda: rollups.parts_of(found.minutes, found.fleet)) / BLOCK)
    rollups.settle(store, machine_id, 1)
    for tier, size in store.rows("SELECT tier_seconds, sum(size) FROM rollup WHERE machine_id = ? GROUP BY tier_seconds", (machine_id,)):
        line(f"tier {tier}: bytes a minute of one subject", size / minutes / (GPUS + 1))
    for count in (60, SPANS[60] // 60):
        uuid = "GPU-00000003-0000-0000-0000-000000000000"
        chunk = rollups.read(store, machine_id, uuid, 60, START, START + 60 * count)
        data = encode(chunk, START // SPANS[60] * SPANS[60], 60)
        line(f"chunk of {len(chunk.times)} x {len(chunk.columns)} metrics, decode, ms", timed(lambda data=data: decode(data, 0, 60)))
        line("  one metric of it, ms", timed(lambda data=data: decode(data, 0, 60, ["power_watts"])))
        line("  bytes a minute", len(data) / len(chunk.times))


def line(what: str, number: float) -> None:
    """One figure."""
    print(f"{what:52} {number:8.4f}")


def timed(work: Any, rounds: int = 30) -> float:
    """CPU ms of the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1000


if __name__ == "__main__":
    main()
