"""Seed 003 (GPULocker): ``GET /api/gpu_status`` of a hub, one numbered entry for each GPU of the fleet. Pure.

Its page writes ``value.toFixed()`` of all four numbers after it has emptied its cards: one null and every later card is gone. So a GPU of which one
of them is not known is left out, as one that is lost or whose host is away; its number stays its own. Nothing but numbers may be a key.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.model.units import MIB

WITH_READINGS = ("up", "stale")


def uuids(cluster: ClusterNow) -> List[str]:
    """The GPUs that have, or get, a number, in the order in which they get it: that of the hosts file."""
    return [gpu.uuid for node in cluster.nodes if node.snapshot is not None for gpu in node.snapshot.gpus]


def gpu_status(cluster: ClusterNow, numbers: Mapping[str, int]) -> bytes:
    """The body. ``numbers``: UUID -> number; what has none is left out."""
    found: Dict[int, Dict[str, Any]] = {}
    for node in cluster.nodes:
        if node.snapshot is None or node.status not in WITH_READINGS:
            continue
        for gpu in node.snapshot.gpus:
            entry, number = _entry(gpu), numbers.get(gpu.uuid)
            if entry is not None and number is not None:
                found.setdefault(number, entry)
    return json.dumps({str(number): found[number] for number in sorted(found)}, separators=(",", ":")).encode("ascii") + b"\n"


def _entry(gpu: GpuReading) -> Optional[Dict[str, Any]]:
    used, total, utilization = gpu.memory_used_bytes, gpu.memory_total_bytes, gpu.utilization_percent
    if gpu.error or used is None or not total or utilization is None:
        return None
    return {
        "gpu_type": gpu.name,
        "utilization": float(utilization),
        "memory_used": round(used / MIB, 2),
        "memory_total": round(total / MIB, 2),
        "memory_percent": round(100.0 * used / total, 2),
    }
