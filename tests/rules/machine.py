"""A machine that makes up its readings, for tests of what is counted; no test in here."""

from __future__ import annotations

import random

from gpuwatch.model.snapshot import DiskReading, GpuReading, HostReading, MigReading, ProcessReading, Snapshot
from gpuwatch.rules.digest import Sample
from gpuwatch.wire.flat import Flattener, Shape

GIB = 2**30


class Machine:
    """Random snapshots of one machine: two whole GPUs, one cut into slices, one on unified memory, all of them now and then in trouble."""

    def __init__(self, seed, at, interval, *, trouble=0.1, power_is_known=False, name=""):
        self.dice, self.at, self.interval, self.trouble = random.Random(seed), at, interval, trouble
        self.power_is_known, self.name = power_is_known, name
        self.energy, self.processes, self.lost = [1000.0] * 4, [[] for _ in range(4)], [False] * 4
        self.shapes, self.flattener, self.shape = {}, Flattener(), None

    def maybe(self, value):
        return None if self.dice.random() < self.trouble else value

    def chance(self, share):
        return self.dice.random() < share

    def snapshot(self):
        for index in range(4):
            if self.chance(0.1):
                self.processes[index] = [self.process(index) for _ in range(self.dice.choice((0, 1, 1, 2, 3)))]
            if self.chance(0.05):
                self.lost[index] = self.chance(0.4)
        disks = tuple(DiskReading(f"/{name}", used_bytes=self.maybe(self.dice.randrange(100)), total_bytes=self.maybe(100)) for name in "ab")
        host = HostReading(cpu_percent=self.maybe(self.dice.random() * 100), load_1m=self.maybe(1.5), memory_used_bytes=self.maybe(7 * GIB), disks=disks)
        gpus = tuple(map(self.gpu, range(4)))
        return Snapshot(taken_at=self.at, hostname=self.name or "host", interval_seconds=self.interval, host=host, gpus=gpus)

    def process(self, index):
        instance = self.dice.choice((1, 2)) if index == 2 else None
        return ProcessReading(
            pid=self.dice.randrange(1, 60), started_at=self.dice.choice((None, 100.0)), user=self.dice.choice(("lisa", "chen", None)),
            name="python", kind=self.dice.choice("CCG"), gpu_instance=instance, compute_instance=0 if instance else None,
        )  # fmt: skip

    def gpu(self, index):
        uuid = f"GPU-{self.name}{index}"
        if self.lost[index]:
            return GpuReading(uuid=uuid, index=index, error="it fell off the bus")
        known = {(one.pid, one.started_at): one for one in self.processes[index]}.values()
        processes = tuple(
            ProcessReading(**{**vars(one), "gpu_memory_bytes": self.maybe(self.dice.randrange(GIB))}) for one in known
        )
        mig = index == 2
        slices = tuple(
            MigReading(
                uuid=f"MIG-{self.name}{number}", gpu_instance=number, compute_instance=0, memory_used_bytes=self.maybe(self.dice.choice((0, 3 * GIB))),
                memory_total_bytes=self.maybe(number * 20 * GIB), sm_activity_percent=self.maybe(self.dice.choice((0, 0, 30.5))),
            )
            for number in (1, 2)
        )  # fmt: skip
        power = self.dice.randrange(60, 400)
        counter, self.energy[index] = self.energy[index], self.energy[index] + power * self.interval
        if self.chance(0.02):
            self.energy[index] = 0.0
        missing = {"processes": "no permission"} if self.chance(self.trouble / 4) else {}
        return GpuReading(
            uuid=uuid, index=index, name="H100", unified_memory=index == 3, mig_enabled=True if mig else None, mig=slices if mig else (), processes=processes,
            missing=missing, memory_used_bytes=self.maybe(self.dice.choice((0, 0, 5 * GIB))), memory_total_bytes=80 * GIB,
            utilization_percent=self.maybe(self.dice.choice((0, 1, 2, 99))), power_watts=power if self.power_is_known else self.maybe(power),
            temperature_celsius=self.maybe(60 + self.dice.randrange(9)), throttle_mask=self.maybe(self.dice.choice((0, 0, 1, 4, 0x40))),
            energy_joules=self.maybe(counter),
        )  # fmt: skip

    def samples(self, count, gaps=0.03):
        """(samples, snapshots): what a digest gets, and the same as dataclasses."""
        found, built = [], []
        for _ in range(count):
            snapshot = self.snapshot()
            flat = self.flattener.flatten(snapshot)
            if flat.shape_id not in self.shapes:
                shape = Shape.parse(flat.shape)
                self.shapes[flat.shape_id] = (shape, shape.places())
            _, places = self.shapes[flat.shape_id]
            found.append(Sample(self.at, places, flat.values))
            built.append(snapshot)
            self.at += self.interval * (self.dice.choice((3, 4, 50)) if self.chance(gaps) else 1)
        return found, built
