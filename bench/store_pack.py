"""Bytes and CPU per snapshot of one realistic host (8 GPUs, 20 processes, 64 cores, every 5 s) in the store's forms and in plain ones.

Usage: bench/store_pack.py [cores]. Each line: bytes and ms per snapshot, and the ratio of its bytes to the journal's plain rival (bz2 of
one snapshot). No database is touched; what the rows cost in SQLite is seen in bench/hub_poll.py.
"""

from __future__ import annotations

import bz2
import json
import random
import sys
import time
import zlib
from pathlib import Path
from typing import Callable, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from gpuwatch.store.blocks import Entry, pack, unpack
from gpuwatch.store.journal_rows import Example, cut
from gpuwatch.wire.numbers import Numbers, texts_of

GPUS, PROCESSES, INTERVAL = 8, 20, 5.0
GIB, MIB = 2**30, 2**20


class Host:
    """Noisy utilization and power, slowly changing memory, counters, jitter; cores, disks and network are read every 10 s."""

    def __init__(self, cores: int, seed: int = 1) -> None:
        self.dice = dice = random.Random(seed)
        self.cores, self.now, self.read_at, self.load = cores, 1_790_000_000.0, 0.0, 20.0
        self.work = [dice.choice((0, 0, 60, 90, 95)) for _ in range(GPUS)]
        self.memory = [dice.randrange(2, 70) * GIB for _ in range(GPUS)]
        self.heat = [40 + work // 3 for work in self.work]
        self.energy = [dice.randrange(10**9) for _ in range(GPUS)]
        self.held = [dice.randrange(1, 9) * GIB for _ in range(PROCESSES)]
        self.resident = [dice.randrange(10**6) * 4096 for _ in range(PROCESSES)]
        self.cpu = [dice.choice((0, 100, 350)) for _ in range(PROCESSES)]
        self.received = [dice.randrange(10**13) for _ in range(4)]
        self.slow: List[Optional[float]] = []

    def snapshot(self) -> Entry:
        """The next snapshot."""
        dice = self.dice
        self.now += INTERVAL + dice.gauss(0, 0.003)
        at = round(self.now, 3)
        if self.now - self.read_at >= 10:
            self.read_at = at
            self.slow = self._cores_disks_networks()
        self.load += dice.gauss(0, 0.3)
        values: List[Optional[float]] = [at, round(30 + dice.gauss(0, 3), 1), round(self.load, 2), round(self.load * 0.97, 2), round(self.load * 0.9, 2)]
        values += [200 * GIB + dice.randrange(20000) * 4096, 1024 * GIB, 0, 8 * GIB, round(self.now - 1_780_000_000, 2), at, self.read_at, *self.slow]
        for gpu in range(GPUS):
            values += self._gpu(gpu, at)
        for process in range(PROCESSES):
            values += self._process(process)
        return Entry(round(at * 1000), round(at * 1000) + dice.randrange(3, 9), "0" * 32, values)

    def _cores_disks_networks(self) -> List[Optional[float]]:
        dice = self.dice
        self.received = [total + dice.randrange(10**6) * (place < 2) for place, total in enumerate(self.received)]
        disks = [10**12 + dice.randrange(100) * 4096, 2 * 10**12, 5 * 10**11, 10**12]
        return [round(min(100.0, max(0.0, dice.gauss(30, 15))), 1) for _ in range(self.cores)] + disks + self.received

    def _gpu(self, gpu: int, at: float) -> List[Optional[float]]:
        dice, busy = self.dice, self.work[gpu] > 0
        load = min(100, max(0, round(dice.gauss(self.work[gpu], 6)))) if busy else 0
        if busy and dice.random() < 0.02:
            self.memory[gpu] += dice.randrange(-100, 100) * MIB
        self.heat[gpu] += dice.choice((0, 0, 0, 0, 1, -1))
        power = round(70 + 5 * load + dice.gauss(0, 8 if busy else 0.4), 3)
        self.energy[gpu] += round(power * INTERVAL)
        clock = 1980 if busy else 345
        used, read = self.memory[gpu], self.read_at
        return [
            used, 551 * MIB, 80 * GIB - used, 80 * GIB, load, load // 2, 0, 0, None, None, self.heat[gpu], self.heat[gpu] + 6, 87, 92, power, 700.0,
            self.energy[gpu], clock, clock, 2619, 1980, 2619, 0, 4 if load > 98 else 0, None, 5, 5, 16, 16, 0, 0, 0, 0, 18, 18,
            round(at + 0.001 * gpu, 3), read, read - read % 60, read - read % 600,
        ]  # fmt: skip

    def _process(self, process: int) -> List[Optional[float]]:
        dice, cpu = self.dice, self.cpu[process]
        if dice.random() < 0.01:
            self.held[process] += dice.randrange(-50, 50) * 2 * MIB
        if dice.random() < 0.5:
            self.resident[process] += dice.randrange(-20, 50) * 4096
        return [self.held[process], min(100, max(0, round(dice.gauss(90, 5)))) if cpu else 0, round(max(0.0, dice.gauss(cpu, 4)) if cpu else 0.0, 1), self.resident[process]]


def cpu_ms(work: Callable[[], object], rounds: int = 5) -> float:
    """CPU time of the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1000


def main() -> None:
    """Print one line per form."""
    host = Host(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
    entries = [host.snapshot() for _ in range(720)]
    texts = [json.dumps(entry.values, separators=(",", ":")).encode() for entry in entries]
    single = sum(len(bz2.compress(text)) for text in texts[:60]) / 60
    print(f"{len(entries[0].values)} values, {len(texts[0])} bytes of JSON per snapshot")

    def line(name: str, size: float, ms: float) -> None:
        print(f"{name:34} {size:7.1f} B  {size / single:5.2f}x  {ms:6.3f} ms")

    few = texts[60:120]
    line("bz2 of one snapshot", single, cpu_ms(lambda: [bz2.compress(text) for text in few]) / 60)
    line("zlib of one snapshot", sum(len(zlib.compress(text)) for text in few) / 60, cpu_ms(lambda: [zlib.compress(text) for text in few]) / 60)
    cuts, example, numbers = [texts_of(text) for text in few], Example(texts_of(texts[0])), Numbers()
    rows = [example.row(one) for one in cuts]
    line("journal row", sum(map(len, rows)) / 60, cpu_ms(lambda: [example.row(one) for one in cuts]) / 60)
    line("  and back to values", sum(map(len, rows)) / 60, cpu_ms(lambda: [numbers.of(cut(0, 0, "", row, texts[0]).texts) for row in rows]) / 60)
    line("bz2 of 60 snapshots' JSON", len(bz2.compress(b"\n".join(few))) / 60, cpu_ms(lambda: bz2.compress(b"\n".join(few))) / 60)
    for count in (60, 120, 180, 720):
        part = entries[:count]
        data = pack(part)
        assert list(unpack(data)) == part
        line(f"block of {count}", len(data) / count, cpu_ms(lambda part=part: pack(part)) / count)
        if count == 120:
            line("  and back to values", len(data) / count, cpu_ms(lambda data=data: list(unpack(data))) / count)
            per_value = len(data) / count / len(entries[0].values)
            print(f"  that is {per_value:.2f} bytes per value")


if __name__ == "__main__":
    main()
