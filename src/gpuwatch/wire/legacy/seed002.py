"""Seed 002 (gpu-cluster-monitor): the JSON of its node and of its hub, made from our model. Pure functions.

Its hub stores any JSON whatever the status, so only answers with readings may be JSON; and a ``last_update`` that is null or carries a
zone freezes it for good. What is unknown is null; a lost GPU stays in ``gpus`` with null numbers. Must never make up a zero.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Callable, Dict, Optional

from gpuwatch.model.cluster import NodeState
from gpuwatch.model.snapshot import GpuReading, Number, ProcessReading, Snapshot
from gpuwatch.model.units import MIB
from gpuwatch.render.gaps import Put, at_once

MAX_COMMAND = 500
ALIVE = ("up", "stale")
"""The old hub calls a node dead after 60 s without news; ours says ``down`` then."""


def node_body(snapshot: Snapshot, zone: Optional[tzinfo] = None) -> Dict[str, Any]:
    """The object that a node answers to ``POST /get-status``. ``zone``: of ``last_update``; None = this machine's."""
    return _body(snapshot, snapshot.hostname, local_time(snapshot.taken_at, zone), at_once)


def hub_entry(node: NodeState, zone: Optional[tzinfo] = None, put: Put = at_once) -> Dict[str, Any]:
    """One of the ``Nodes`` that the hub answers to ``GET /get-status``: the node's last readings under its name in the hosts file.

    ``last_update`` is by the hub's clock, ``version`` the first GPU's name. ``zone``: as for ``node_body``. ``put``: see ``render.gaps``; what
    it gets are ``mebibytes``, ``whole`` and ``hub_time(zone)``.
    """
    alive = node.status in ALIVE
    if node.snapshot is None:
        return {"hostname": node.name, "status": alive, "gpus": [], "version": ""}
    last_update = put(hub_time(zone), node.snapshot.taken_at, node.clock_skew_seconds)
    body = _body(node.snapshot, node.name, last_update, put)
    body["version"] = (node.snapshot.gpus[0].name or "") if node.snapshot.gpus else ""
    body["status"] = alive
    return body


@lru_cache(maxsize=16)
def hub_time(zone: Optional[tzinfo]) -> Callable[[Number, Number], Optional[str]]:
    """What makes ``local_time`` by the hub's clock of a time of a node's clock and that clock's skew."""

    def written(taken_at: Number, skew_seconds: Number) -> Optional[str]:
        return None if taken_at is None else local_time(taken_at - (skew_seconds or 0.0), zone)  # from a stranger: may be null

    return written


def local_time(at: Number, zone: Optional[tzinfo] = None) -> Optional[str]:
    """``2026-11-21T23:22:29.685502``: naive local ISO time of epoch seconds; None for what is no time of this calendar."""
    try:
        return None if at is None else datetime.fromtimestamp(at, zone).replace(tzinfo=None).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def mebibytes(value: Number) -> Optional[int]:
    """Whole MiB; None for unknown."""
    return None if value is None else int(value // MIB)


@lru_cache(maxsize=1024)
def whole(value: Number) -> Optional[int]:
    """The nearest whole number; None for unknown."""
    return None if value is None else round(value)


def _body(snapshot: Snapshot, hostname: str, last_update: Any, put: Put) -> Dict[str, Any]:
    return {
        "hostname": hostname,
        **({} if last_update is None else {"last_update": last_update}),
        "ips": [list(pair) for pair in snapshot.host.ips],
        "gpus": [_gpu(gpu, put) for gpu in snapshot.gpus],
    }


def _gpu(gpu: GpuReading, put: Put) -> Dict[str, Any]:
    return {
        "index": gpu.index,
        "name": gpu.name,
        "use_mem": put(mebibytes, gpu.memory_used_bytes),
        "tot_mem": put(mebibytes, gpu.memory_total_bytes),
        "utilize": put(whole, gpu.utilization_percent),
        "temp": put(whole, gpu.temperature_celsius),
        "users": [_user(process, put) for process in gpu.processes],
    }


def _user(process: ProcessReading, put: Put) -> Dict[str, Any]:
    command = process.command or process.name
    return {
        "pid": process.pid,
        "username": process.user,
        "mem(MiB)": put(mebibytes, process.gpu_memory_bytes),
        "command": command[:MAX_COMMAND] if command else None,
    }
