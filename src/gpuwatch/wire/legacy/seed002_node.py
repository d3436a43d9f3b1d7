"""Seed 002's node_info.py, as a hub of ours asks it: ``POST /get-status`` with the plain password, and its JSON read. Pure.

Facts: its answer has no UUIDs, and goes on with status 200 when the thread that reads the GPUs has died: ``last_update`` then stands
still. That time is naive and of the node's own clock and zone, so it is never believed, only compared. Must never make up a zero.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Dict, NamedTuple, Optional, Tuple

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import GpuReading, HostReading, ProcessReading
from gpuwatch.wire.foreign import Request, Told, index_of, made_up_uuid, mebibytes, not_told, number, snapshot_of, text
from gpuwatch.wire.frame import loads

INTERVAL_SECONDS = 4.0
"""So often it reads the GPUs."""
FROZEN_SECONDS = 20.0
"""One that repeats itself for so long has stopped reading."""
FRESH_SECONDS = 60.0
"""A first answer whose time is so near to ours is fresh; else it must be seen to move."""
MOST_COMMAND = 500
_GPU_MISSING = ("mig_enabled",)


class Seen(NamedTuple):
    """What is remembered between two answers."""

    last_update: str
    since_at: float
    """When this ``last_update`` was first seen, by the hub's clock."""
    moves: bool
    """It is known to be a time at which something was read, not one that stands still."""


def request(target: Target, password: str) -> Request:
    """The plain password in a body of JSON, as seed 002's own hub asks."""
    return Request("POST", "/get-status", json.dumps({"passwd": password}).encode(), {"Content-Type": "application/json", "Accept": "*/*"})


def read(body: bytes, target: Target, now: float, memory: Optional[Seen] = None) -> Told:
    """What it told at ``now``. Raises WireError for what is not its answer."""
    doc = loads(body)
    if not isinstance(doc, dict) or not isinstance(doc.get("gpus"), list):
        raise WireError("The answer has no list of gpus.", "Next: is it node_info.py that listens there?")
    last_update = text(doc.get("last_update"))
    if last_update is None:
        if not doc["gpus"]:
            return Told(None, None, "It has read no GPU yet. Next: wait; if it stays so, look at node_info.py's log there.", now)
        last_update = ""
    seen = _look(memory, last_update, now)
    if not seen.moves:
        why = f"It says that it last read its GPUs at {last_update[:30]}: that may be long ago. Next: wait whether it reads them again; else restart node_info.py there."
        return Told(None, seen, why, seen.since_at)
    at, name = seen.since_at if last_update else now, text(doc.get("hostname")) or ""
    snapshot = snapshot_of(target, at, _gpus(doc["gpus"], target), _host(doc, target), name, interval_seconds=INTERVAL_SECONDS)
    if last_update and now - seen.since_at > FROZEN_SECONDS:
        why = f"node_info.py repeats what it read at {last_update[:30]}: it has stopped reading. Next: restart it on {target.name}, and look at nvidia-smi there."
        return Told(snapshot, seen, why, seen.since_at)
    return Told(snapshot, seen)


def _look(memory: Optional[Seen], last_update: str, now: float) -> Seen:
    if memory is None:
        return Seen(last_update, now, not last_update or _is_near(last_update, now))
    return memory if memory.last_update == last_update else Seen(last_update, now, True)


def _is_near(last_update: str, now: float) -> bool:
    """By this machine's zone; a node in another one is believed when its time moves."""
    try:
        return abs(now - datetime.fromisoformat(last_update).timestamp()) <= FRESH_SECONDS
    except (ValueError, OverflowError, OSError):
        return False


def _host(doc: Dict[str, Any], target: Target) -> HostReading:
    pairs = doc.get("ips")
    found = [(text(pair[0]), text(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2] if isinstance(pairs, list) else []
    ips = tuple((name, address) for name, address in found[:64] if name and address)
    return HostReading(ips=ips, missing=not_told(target, "logins"))


def _gpus(entries: Any, target: Target) -> Tuple[GpuReading, ...]:
    return tuple(_gpu(entry, place, target) for place, entry in enumerate(entries) if isinstance(entry, dict))


def _gpu(entry: Dict[str, Any], place: int, target: Target) -> GpuReading:
    index, users = index_of(entry.get("index"), place), entry.get("users")
    told = isinstance(users, list)
    return GpuReading(
        uuid=made_up_uuid(target, index), index=index, name=text(entry.get("name")),
        memory_used_bytes=mebibytes(entry.get("use_mem")), memory_total_bytes=mebibytes(entry.get("tot_mem")),
        utilization_percent=number(entry.get("utilize")), temperature_celsius=number(entry.get("temp")),
        processes=_processes(users) if told else (), missing=not_told(target, *_GPU_MISSING, *(() if told else ("processes",))),
    )  # fmt: skip


def _processes(users: Any) -> Tuple[ProcessReading, ...]:
    found = [_process(user) for user in users if isinstance(user, dict) and isinstance(user.get("pid"), int) and 0 < user["pid"] < 2**31]
    return tuple(sorted(found, key=lambda one: (-(one.gpu_memory_bytes or 0), one.pid)))


def _process(user: Dict[str, Any]) -> ProcessReading:
    return ProcessReading(
        pid=user["pid"], user=text(user.get("username")), command=text(user.get("command"), MOST_COMMAND), gpu_memory_bytes=mebibytes(user.get("mem(MiB)"))
    )
