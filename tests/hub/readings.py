"""Snapshots, shapes and frames for the tests of hub and query; no test in here."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, List, Optional, Tuple

from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.frame import encode, encode_values

GB = 10**9


def gpu(index: int = 0, **changes: Any) -> GpuReading:
    """A free GPU, unless ``changes`` say otherwise."""
    base = GpuReading(
        uuid=f"GPU-{index:08d}",
        index=index,
        name="H100",
        pci_bus_id=f"00000000:{index + 16:02X}:00.0",
        memory_used_bytes=0,
        memory_total_bytes=80 * GB,
        utilization_percent=0,
        temperature_celsius=40,
        power_watts=70,
    )
    return dataclasses.replace(base, **changes)


def process(pid: int = 100, **changes: Any) -> ProcessReading:
    """A training run."""
    base = ProcessReading(
        pid=pid, started_at=1_000.0, user="lisa", name="python", command="python train.py --lr 1", gpu_memory_bytes=70 * GB
    )
    return dataclasses.replace(base, **changes)


def busy(index: int = 0, utilization: float = 90) -> GpuReading:
    """A GPU at work."""
    return gpu(index, memory_used_bytes=71 * GB, utilization_percent=utilization, processes=(process(100 + index),))


def snapshot(taken_at: float = 1_000.0, *gpus: GpuReading, **changes: Any) -> Snapshot:
    """A snapshot of a host with these GPUs (one free one if none)."""
    base = Snapshot(
        taken_at=taken_at,
        hostname="dgx-a",
        version="0.1.0",
        interval_seconds=4.0,
        host=HostReading(cpu_percent=5.0),
        gpus=gpus or (gpu(),),
        collectors=(CollectorStatus("nvml", True),),
    )
    return dataclasses.replace(base, **changes)


def flat(snap: Snapshot) -> Tuple[Shape, List[Any]]:
    """Shape and values, as they come over the wire."""
    made = Flattener().flatten(snap)
    assert made.shape is not None
    return Shape.parse(json.loads(json.dumps(made.shape))), json.loads(json.dumps(made.values))


def frame(snap: Snapshot, known: str = "", sent_at: Optional[float] = None, **header: Any) -> bytes:
    """A node's answer to a hub that has the shape ``known``."""
    made = Flattener().flatten(snap)
    head: Dict[str, Any] = {"flat": 1, "version": "0.1.0", "sent_at": sent_at or snap.taken_at, "shape_id": made.shape_id}
    head["status"] = {"stale": False, "message": None, "since_at": None}
    if known != made.shape_id:
        head["shape"] = made.shape
    head.update(header)
    return encode(head, encode_values(made.values))
