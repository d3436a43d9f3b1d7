"""The simulated machine around simulated GPUs, for a past that nobody can read from a real one. Pure functions of time."""

from __future__ import annotations

import math
import zlib
from typing import Any, Mapping, Sequence

from gpuwatch.model.snapshot import DiskReading, HostReading, NetworkReading
from gpuwatch.model.units import GIB

CORES = 64
_BOOTED_DAYS_BEFORE = 41
DAY = 86400.0
DRIVER: Mapping[str, Any] = {"driver_version": "550.90.07", "library_version": "550.90.07", "cuda_version": "12.4"}


def noise(key: str) -> float:
    """The same number from 0 to 1 for the same key."""
    return (zlib.crc32(key.encode()) * 2654435761 & 0xFFFFFFFF) / 2**32


def host_reading(seed: str, now: float, midnight_at: float, loads: Sequence[float]) -> HostReading:
    """A server whose processor feeds its GPUs. ``loads``: percent of each job at work."""
    fluke = noise(f"{seed}/host/{int(now // 20)}")
    cpu = min(99.0, 3 + sum(loads) / 100 * 6.5 + 4 * fluke)
    load = cpu / 100 * CORES
    boot_at = midnight_at - _BOOTED_DAYS_BEFORE * DAY
    grown = max(0.0, now - boot_at) / DAY
    data = 0.52 + 0.3 * (grown / 90 % 1) + 0.01 * math.sin(now / DAY * 2 * math.pi)
    return HostReading(
        os="Ubuntu 22.04.4 LTS", kernel="5.15.0-117-generic", architecture="x86_64", cpu_model="AMD EPYC 7543 32-Core Processor", cpu_count=CORES,
        boot_at=boot_at, **DRIVER, ips=(("eth0", "127.0.0.1"),),
        cpu_percent=round(cpu, 1), load_1m=round(load + fluke, 2), load_5m=round(load + 0.4, 2), load_15m=round(load + 0.3, 2),
        memory_used_bytes=round((22 + 14 * len(loads) + 2 * fluke) * GIB), memory_total_bytes=512 * GIB, swap_used_bytes=0, swap_total_bytes=8 * GIB,
        uptime_seconds=round(now - boot_at), live_read_at=round(now, 3), status_read_at=round(now, 3), identity_read_at=round(now, 3),
        disks=(
            DiskReading("/", "/dev/nvme0n1p2", "ext4", round(0.41 * 900 * GIB), 900 * GIB),
            DiskReading("/data", "/dev/nvme1n1", "xfs", round(data * 7000 * GIB), 7000 * GIB),
        ),
        networks=(NetworkReading("eth0", round(2e6 * max(0.0, now - boot_at)), round(3e5 * max(0.0, now - boot_at))),),
    )  # fmt: skip
