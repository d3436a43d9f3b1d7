"""A fleet of simulated nodes in one process, for benches: 8 GPUs, 20 processes and a host each, on addresses 127.1.x.y of loopback.

Answers a hub with frames and Prometheus with a page of the same numbers (every number that is not None, save the times of reading).
Counts who asked when, so that a missed or late poll shows. The numbers are random walks that look like work; the shape does not change.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from gpuwatch.model.snapshot import DiskReading, GpuReading, HostReading, NetworkReading, ProcessReading, Snapshot
from gpuwatch.wire import frame
from gpuwatch.wire.changes import Given, shape_in
from gpuwatch.wire.flat import Flattener, Shape, layout_of

GPUS, PROCESSES, CORES = 8, 20, 64
GIB = 1024**3
USERS = ("lisa", "chen.w", "sofia", "mkato", "a.novak", "i.petrov", "student7", "root")


def address(number: int) -> str:
    """The loopback address of a node."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def snapshot(number: int, at: float) -> Snapshot:
    """The first snapshot of a node."""
    dice = random.Random(number)
    gpus = tuple(_gpu(dice, number, index, at) for index in range(GPUS))
    host = HostReading(
        os="Ubuntu 22.04", kernel="5.15.0", architecture="x86_64", cpu_model="AMD EPYC 7763 64-Core Processor", cpu_count=CORES,
        boot_at=at - 86400, driver_version="550.90.07", library_version="550.90.07", cuda_version="12.4", ips=(("eth0", address(number)),),
        cpu_percent=41.0, load_1m=20.5, load_5m=19.2, load_15m=18.0, memory_used_bytes=600 * GIB, memory_total_bytes=1024 * GIB,
        swap_used_bytes=0, swap_total_bytes=8 * GIB, uptime_seconds=86400.0, live_read_at=at, status_read_at=at,
        cores_percent=tuple(float(dice.randrange(100)) for _ in range(CORES)),
        disks=(DiskReading("/", "/dev/nvme0n1p2", "ext4", 200 * GIB, 900 * GIB), DiskReading("/data", "nfs:/data", "nfs4", 9000 * GIB, 20000 * GIB)),
        networks=(NetworkReading("eth0", 10**12, 10**12), NetworkReading("ib0", 10**13, 10**13)),
    )  # fmt: skip
    return Snapshot(taken_at=at, hostname=f"n{number:04d}", version="0.1.0", interval_seconds=4.0, host=host, gpus=gpus)


def _gpu(dice: random.Random, number: int, index: int, at: float) -> GpuReading:
    busy = dice.random() < 0.75
    count = len(range(index, PROCESSES, GPUS)) if busy or index < 4 else 0
    processes = tuple(
        ProcessReading(
            pid=dice.randrange(1000, 4_000_000), started_at=round(at - dice.randrange(200000)), user=dice.choice(USERS), name="python",
            command=f"python train.py --config configs/experiment_{dice.randrange(1000)}.yaml --seed {dice.randrange(100)}",
            gpu_memory_bytes=dice.randrange(10 * GIB, 25 * GIB), sm_percent=40, cpu_percent=101.0, host_memory_bytes=dice.randrange(GIB, 20 * GIB),
        )
        for _ in range(count)
    )  # fmt: skip
    held = sum(int(process.gpu_memory_bytes or 0) for process in processes)
    return GpuReading(
        uuid=f"GPU-{number:08x}-0000-0000-0000-{index:012x}", index=index, name="NVIDIA H100 80GB HBM3", minor_number=index,
        pci_bus_id=f"00000000:{0x1B + 8 * index:02X}:00.0", serial=str(number * 10 + index), vbios_version="96.00.89.00.01", cuda_capability="9.0",
        memory_used_bytes=held, memory_reserved_bytes=551 * 2**20, memory_free_bytes=max(0, 80 * GIB - held), memory_total_bytes=80 * GIB,
        utilization_percent=95 if processes else 0, memory_utilization_percent=50, encoder_percent=0, decoder_percent=0,
        sm_activity_percent=60.0, memory_activity_percent=30.0, temperature_celsius=60, memory_temperature_celsius=66,
        temperature_slowdown_celsius=87, temperature_shutdown_celsius=92, power_watts=500.0, power_limit_watts=700.0, energy_joules=10**9,
        graphics_clock_mhz=1980, sm_clock_mhz=1980, memory_clock_mhz=2619, sm_clock_max_mhz=1980, memory_clock_max_mhz=2619, performance_state=0,
        throttle_mask=0, pcie_generation=5, pcie_generation_max=5, pcie_width=16, pcie_width_max=16, ecc_corrected_errors=0,
        ecc_uncorrected_errors=0, remapped_rows_corrected=0, remapped_rows_uncorrected=0, nvlink_active=18, nvlink_total=18,
        live_read_at=at, status_read_at=at, health_read_at=at, identity_read_at=at, processes=processes, missing={"fan_percent": "not supported"},
        ecc_enabled=True, mig_enabled=False, compute_mode="default", persistence_enabled=True,
    )  # fmt: skip


class Node:
    """One simulated node: its shape, its values now, and when it was asked."""

    def __init__(self, number: int, at: float) -> None:
        flat = Flattener().flatten(snapshot(number, at))
        assert flat.shape is not None
        shape = Shape.parse(flat.shape)
        self.name = f"n{number:04d}"
        self.shape_id, self.shape, self.values = flat.shape_id, flat.shape, list(flat.values)
        self.dice = random.Random(number)
        self.given = Given()
        self._parsed = shape
        self.asked: List[float] = []
        self._walks = self._plan(shape)
        self._labels = self._prometheus(flat.shape)
        self._taken = at
        self._times = [place for place, value in enumerate(self.values) if value == at]

    def _plan(self, shape: Shape) -> List[Tuple[int, float, float, float, bool]]:
        """(place, least, most, step, whole) of each number that changes at each sample."""
        plan = []
        for gpu in shape.places().gpus:
            busy = bool(gpu.processes)
            column = {name: getattr(gpu, name) for name in layout_of(GpuReading).values}
            if busy:
                plan += [
                    (column["utilization_percent"], 60, 100, 8, True), (column["memory_utilization_percent"], 30, 70, 6, True),
                    (column["power_watts"], 350, 700, 30, False), (column["temperature_celsius"], 50, 80, 1, True),
                    (column["memory_temperature_celsius"], 55, 85, 1, True), (column["sm_activity_percent"], 30, 90, 5, False),
                    (column["memory_activity_percent"], 10, 60, 5, False),
                ]  # fmt: skip
            else:
                plan.append((column["power_watts"], 68, 72, 0.5, False))
            plan.append((column["energy_joules"], 0, 1e15, -500.0, True))  # a negative step: grows by about so much a second
        return plan

    def advance(self, now: float) -> None:
        """The numbers of a sample taken at ``now``."""
        dice, values = self.dice.random, self.values
        passed = now - self._taken
        for place, least, most, step, whole in self._walks:
            old = values[place]
            new = old - step * passed if step < 0 else min(most, max(least, old + (dice() - 0.5) * 2 * step))
            values[place] = round(new) if whole else round(new, 1)
        for place in self._times:
            values[place] = round(now, 3)
        self._taken = now

    def _prometheus(self, shape: Dict[str, Any]) -> List[Tuple[int, str]]:
        """(place, series) of every number that is not None and no time of reading, in the order of the values."""
        parsed, found = Shape.parse(shape), []
        claimed: Dict[int, str] = {}
        for gpu in parsed.places().gpus:
            for name in layout_of(GpuReading).values:
                series = f'gpuwatch_gpu_{name}{{gpu="{gpu.index}",uuid="{gpu.uuid}"}}'
                claimed[getattr(gpu, name)] = "" if name.endswith("read_at") else series
        for place, value in enumerate(self.values):
            if value is not None and claimed.get(place) != "" and value != self.values[0]:
                found.append((place, claimed.get(place) or f'gpuwatch_number{{place="{place}",host="{self.name}"}}'))
        return found

    def page(self) -> bytes:
        """The same numbers in Prometheus' text format."""
        values = self.values
        return "".join([f"{series} {values[place]}\n" for place, series in self._labels]).encode()

    def frame(self, asked: bytes, now: float) -> bytes:
        """The answer to a hub, as a node's server gives it: with the shape if it does not have it, of the values what it has not."""
        known = json.loads(asked).get("flat", "")
        names, lines = self.given.answer(self.shape_id, frame.encode_values(self.values), known)
        header: Dict[str, Any] = {
            "flat": 1, "version": "0.1.0", "sent_at": round(now, 3), "shape_id": self.shape_id, **names,
            "status": {"stale": False, "message": None, "since_at": None},
        }  # fmt: skip
        if shape_in(known) != self.shape_id:
            header["shape"] = self.shape
        return frame.encode(header, lines)


    def readable(self) -> bytes:
        """The answer to whoever asks for no frame: seed 002's keys and the whole snapshot as JSON."""
        from gpuwatch.node.newest import Answer, Sample

        return Answer(Sample(self._parsed, frame.encode_values(self.values)), None).json()


class Connection(asyncio.Protocol):
    """One keep-alive connection of a hub or of Prometheus."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.node = self.fleet.nodes.get(transport.get_extra_info("sockname")[0])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n")[1:]:
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.answer(head, rest[:length])

    def answer(self, head: bytes, body: bytes) -> None:
        if self.node is None:
            self.transport.close()
            return
        now = time.time()
        if head.startswith(b"POST /get-status"):
            self.node.asked.append(now)
            self.node.advance(now)
            if self.fleet.plain:
                self.send(b"application/json", self.node.readable())
            else:
                self.send(b"application/x-gpuwatch-frame", self.node.frame(body, now))
        elif head.startswith(b"GET /metrics"):
            self.fleet.scrapes += 1
            self.send(b"text/plain; version=0.0.4", self.node.page())
        else:
            self.send(b"application/json", self.fleet.report())

    def send(self, kind: bytes, body: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body))


class Fleet:
    """All nodes, by address."""

    def __init__(self, count: int, plain: bool = False) -> None:
        now = round(time.time(), 3)
        self.plain = plain
        """Answers readable JSON, whatever it is asked for."""
        self.nodes = {address(number): Node(number, now) for number in range(count)}
        self.scrapes = 0

    def report(self) -> bytes:
        """When each node was asked, since the last report."""
        asked = {node.name: node.asked for node in self.nodes.values()}
        for node in self.nodes.values():
            node.asked = []
        scrapes, self.scrapes = self.scrapes, 0
        samples = len(next(iter(self.nodes.values()))._labels)
        return json.dumps({"asked": asked, "scrapes": scrapes, "samples_per_page": samples}).encode()


async def main(count: int, port: int, plain: bool = False) -> None:
    """Serve until killed."""
    fleet = Fleet(count, plain)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(fleet), "0.0.0.0", port, backlog=4096)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:4] == ["plain"]))
