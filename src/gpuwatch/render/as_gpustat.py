"""JSON with the keys of ``gpustat --json``, for scripts that were written for it: one object a host. Pure.

Old numbers are left out, since its format cannot say that they are old: a host without fresh readings has no GPUs, and the key ``error``.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Optional

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading, ProcessReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.as_json import dump
from gpuwatch.render.select import select

MIB = 2**20
UNKNOWN = "?"
"""What gpustat says of a process whose owner or command it cannot read."""


def cluster_gpustat(cluster: ClusterNow, options: ViewOptions, *, one_host: bool = False) -> bytes:
    """A list with an object for each host that the options leave. ``one_host``: the object of the only host, also where no GPU matches."""
    hosts = [_host(cluster, node, gpus) for node, gpus in select(cluster, options)]
    if one_host and len(cluster.nodes) == 1:
        return dump(hosts[0] if hosts else _host(cluster, cluster.nodes[0], ())) + b"\n"
    return dump(hosts) + b"\n"


def host_gpustat(cluster: ClusterNow, node: NodeState) -> bytes:
    """The object of one host: what gpustat prints there."""
    return dump(_host(cluster, node, node.gpus)) + b"\n"


def _host(cluster: ClusterNow, node: NodeState, gpus: tuple[GpuView, ...]) -> dict[str, Any]:
    snapshot, fresh = node.snapshot, node.status == "up"
    taken_at = snapshot.taken_at if snapshot is not None and snapshot.taken_at else cluster.taken_at
    told = {
        "hostname": node.name,
        "driver_version": snapshot.host.driver_version if snapshot is not None else None,
        "query_time": datetime.fromtimestamp(taken_at, words.zone_of(cluster.timezone)).replace(tzinfo=None).isoformat(),
        "gpus": [_gpu(view.reading) for view in gpus] if fresh else [],
    }
    return told if fresh else {**told, "error": node.error or node.status}


def _gpu(gpu: GpuReading) -> dict[str, Any]:
    unknown = gpu.error is not None or "processes" in gpu.missing
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "temperature.gpu": _whole(gpu.temperature_celsius),
        "fan.speed": _whole(gpu.fan_percent),
        "utilization.gpu": _whole(gpu.utilization_percent),
        "utilization.enc": _whole(gpu.encoder_percent),
        "utilization.dec": _whole(gpu.decoder_percent),
        "power.draw": _whole(gpu.power_watts),
        "enforced.power.limit": _whole(gpu.power_limit_watts),
        "memory.used": _whole(gpu.memory_used_bytes, MIB),
        "memory.total": _whole(gpu.memory_total_bytes, MIB),
        "processes": None if unknown else [_process(process) for process in gpu.processes],
    }


def _process(process: ProcessReading) -> dict[str, Any]:
    argv = (process.command or process.name or UNKNOWN).split(" ")
    return {
        "username": process.user or UNKNOWN,
        "command": argv[0].rpartition("/")[2] or argv[0],
        "full_command": argv,
        "gpu_memory_usage": _whole(process.gpu_memory_bytes, MIB),
        "cpu_percent": process.cpu_percent,
        "cpu_memory_usage": _whole(process.host_memory_bytes),
        "pid": process.pid,
    }


def _whole(value: Optional[float], unit: int = 1) -> Optional[int]:
    """gpustat has whole numbers, rounded down."""
    return None if value is None or not math.isfinite(value) else int(value // unit)
