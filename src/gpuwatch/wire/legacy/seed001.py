"""Seed 001's workers: what they send as a Snapshot, the answers that they decide on, and its master's JSON of the past. Pure.

They look at the HTTP status: only 200 is success, and whatever else answers their metrics makes them register again. Its "MB" are MiB. It knows GPUs
by their place in a list, and neither users nor processes: those are *not reported*. Must never raise but WireError.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.model.foreign import NOT_TOLD, SENDERS
from gpuwatch.model.series import Series
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, Number, Snapshot
from gpuwatch.model.units import MIB
from gpuwatch.wire import frame
from gpuwatch.wire.csv_in.cells import fitting, name_of, number
from gpuwatch.wire.csv_in.rows import Unreadable
from gpuwatch.wire.foreign import MADE_UP

INTERVAL_SECONDS = 20.0
"""It calls a worker active that was seen in the last 60 s: three of these."""
MOST_GPUS = 128
MOST_ID = 300
PROGRAM = SENDERS["worker"]
_NEVER = ("processes", "mig_enabled", "fan_percent")
"""What it never tells, and pages ask for."""
REPORTED = ("running", "stopped", "completed", "failed")
"""What a worker may say of a command; ``stopping`` is the hub's word."""
MOST_OUTPUT = 256 * 1024
"""Characters of a command's output that are kept: the newest."""
MOST_HOURS = 24 * 366
METRICS = ("temperature_celsius", "utilization_percent", "memory_used_bytes", "power_watts")
"""The series of a GPU that its history is made of."""
_LISTS = ("timestamps", "temperature", "utilization", "memory_utilization", "power_usage")


class CommandReport(NamedTuple):
    """What a worker says of a command. ``output``: all of it so far, or its end."""

    command_id: int
    status: str
    output: str


# ---- answers


def dump(doc: Any) -> bytes:
    """As its server writes JSON: keys sorted, no blanks, a line end."""
    return json.dumps(doc, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def token(text: str) -> bytes:
    """``POST /register``."""
    return dump({"token": text})


def success() -> bytes:
    """Taken."""
    return dump({"status": "success"})


def error(message: str) -> bytes:
    """The body of its errors: ``Worker ID missing``, ``Invalid token``, ``Invalid command`` ..."""
    return dump({"status": "error", "message": message})


def command(id: Optional[int], text: Optional[str]) -> bytes:
    """``GET /commands``: the next command; None = there is none."""
    return dump({"command": None} if id is None else {"command_id": id, "command": text})


def command_state(status: str, output: str, updated_at: Number) -> bytes:
    """``GET /command_output/<id>``: its newer workers ask once a second and end the command at ``stopping``."""
    return dump({"status": status, "output": output, "updated_at": _time(updated_at or 0.0)})


def no_command(id: str, now: float) -> bytes:
    """The same for a command that is not there, or is not this worker's; its status is 500."""
    return dump({"status": "error", "output": f"Error retrieving command: 404 Not Found: there is no command {name_of(id[:40])}.", "updated_at": _time(now)})


def bearer(header: str) -> str:
    """The token of an Authorization header; ``Bearer`` may be missing, as there."""
    return header.replace("Bearer ", "").strip()[:200]


# ---- what is sent


def worker_id(body: bytes) -> str:
    """The id in the body of ``POST /register``; empty where there is none. Raises WireError for what is not JSON."""
    doc = frame.loads(body, "body")
    found = doc.get("worker_id") if isinstance(doc, dict) else None
    return found[:MOST_ID] if isinstance(found, str) else ""


def metrics(body: bytes) -> Dict[str, Any]:
    """The ``metrics`` of ``POST /metrics``. Raises WireError naming what is missing."""
    doc = frame.loads(body, "body")
    found = doc.get("metrics") if isinstance(doc, dict) else None
    if not isinstance(found, dict):
        raise WireError("The body has no object called metrics.")
    gpus = found.get("gpus", [])
    if not isinstance(gpus, list) or len(gpus) > MOST_GPUS or not all(isinstance(gpu, dict) for gpu in gpus):
        raise WireError(f"metrics.gpus is not a list of at most {MOST_GPUS} objects.")
    return found


def snapshot(found: Mapping[str, Any], name: str, now: float) -> Snapshot:
    """The worker's readings, as of ``now``: its clock is local and names no zone. Its GPUs get made-up UUIDs."""
    gpus = tuple([_gpu(gpu, place, name, now) for place, gpu in enumerate(found.get("gpus", []))])
    return Snapshot(
        taken_at=now, hostname=name, interval_seconds=INTERVAL_SECONDS, host=HostReading(missing={"logins": NOT_TOLD + PROGRAM}), gpus=gpus,
        collectors=(CollectorStatus(PROGRAM),),
    )  # fmt: skip


def _gpu(gpu: Mapping[str, Any], place: int, host: str, now: float) -> GpuReading:
    memory = gpu.get("memory")
    told = memory if isinstance(memory, dict) else {}
    values: Dict[str, Any] = {}
    missing = dict.fromkeys(_NEVER, NOT_TOLD + PROGRAM)
    for field, value, factor in (
        ("temperature_celsius", gpu.get("temp"), 1.0),
        ("utilization_percent", gpu.get("util"), 1.0),
        ("power_watts", gpu.get("power_usage"), 1.0),
        ("memory_total_bytes", told.get("total"), float(MIB)),
        ("memory_used_bytes", told.get("used"), float(MIB)),
        ("memory_free_bytes", told.get("free"), float(MIB)),
    ):
        known, why = _number(field, value, factor)
        if known is None:
            missing[field] = why
        else:
            values[field] = known
    model = gpu.get("model")
    name = name_of(model[:200]) if isinstance(model, str) else None
    return GpuReading(uuid=f"{MADE_UP}{host}:{place}", index=place, name=name, live_read_at=now, missing=missing, **values)


def _number(field: str, value: Any, factor: float) -> Tuple[Number, str]:
    try:
        return fitting(field, number(value, factor)), "not reported by the worker"
    except Unreadable as error:
        return None, f"what the worker tells cannot be: {str(error)[:80]}"


def command_report(body: bytes) -> CommandReport:
    """The body of ``POST /command_output``. Raises WireError naming what is missing."""
    doc = frame.loads(body, "body")
    if not isinstance(doc, dict):
        raise WireError("The body is not an object.")
    for field, kind in (("command_id", int), ("status", str), ("output", str)):
        if not isinstance(doc.get(field), kind) or isinstance(doc.get(field), bool):
            raise WireError(f"The body has no {field}.")
    if doc["status"] not in REPORTED:
        raise WireError(f"The status is none of {', '.join(REPORTED)}.")
    output = doc["output"].encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return CommandReport(doc["command_id"], doc["status"], output[-MOST_OUTPUT:])


# ---- the past


def hours(text: str) -> int:
    """``hours=``: 24 where it is absent or no number, as there; from 1 to a year."""
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        return 24
    return max(1, min(int(text), MOST_HOURS))


def history(series: Mapping[str, Series], memory_total_bytes: Number) -> bytes:
    """``/api/metrics/history/<worker>/<gpu>``: parallel lists of the steps in which anything was measured; null, not 0, for what was not."""
    found: Dict[str, List[Any]] = {name: [] for name in _LISTS}
    first = series[METRICS[0]]
    for place, at in enumerate(first.times):
        if not any(series[name].count[place] for name in METRICS):
            continue
        temperature, utilization, used, power = (series[name].mean[place] for name in METRICS)
        percent = None if used is None or not memory_total_bytes else 100.0 * used / memory_total_bytes
        for name, value in zip(_LISTS, (_time(at), temperature, utilization, percent, power)):
            found[name].append(value)
    return dump(found)


def no_history(worker: Optional[str]) -> bytes:
    """The same with nothing in it; ``worker``: one that nobody knows, its status is 404 then."""
    doc: Dict[str, Any] = {name: [] for name in _LISTS}
    return dump(doc if worker is None else {**doc, "error": f"Worker with ID {worker[:100]} not found"})


def power_limits(gpus: Sequence[GpuReading]) -> bytes:
    """``/api/gpu/get_power_limits``: what was read; its own queues a command, which is for who is signed in."""
    told = [{"index": gpu.index, "power_limit": gpu.power_limit_watts, "power_usage": gpu.power_watts} for gpu in gpus]
    return dump({"status": "success", "message": "Power limits as last read, in watts; null = not reported", "gpus": told})


def _time(at: float) -> str:
    """Naive UTC, as there."""
    return datetime.fromtimestamp(at, timezone.utc).replace(tzinfo=None).isoformat()
