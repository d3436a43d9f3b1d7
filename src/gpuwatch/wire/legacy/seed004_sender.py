"""Seed 004's senders: what they post as a Snapshot, and the answers that they decide on. Pure.

They look at the JSON field ``status_code`` of an HTTP 200 alone: a real error status makes them drop their data without a word. The token
stands in the address, the verdict in the body. Its clock names no zone; what it does not tell stays None. Must never raise but WireError.
"""

from __future__ import annotations

import json
import secrets
from datetime import tzinfo
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.model.foreign import NOT_TOLD, SENDERS
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, Number, ProcessReading, Snapshot
from gpuwatch.model.units import MIB
from gpuwatch.wire import frame
from gpuwatch.wire.csv_in.cells import fitting, name_of, number, whole
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import Unreadable
from gpuwatch.wire.foreign import MADE_UP

CONTENT_TYPE = "text/html; charset=utf-8"
INTERVAL_SECONDS = 60.0
"""It is run by cron, once a minute at most."""
MOST_GPUS, MOST_PROCESSES, MOST_ALL_PROCESSES = 128, 1024, 4096
PROGRAM = SENDERS["vesta"]
CUT_SHORT = "the sender's list is too long, or has processes without a pid"
_NEVER = ("mig_enabled", "power_watts", "fan_percent")
"""What it never tells, and pages ask for."""
_NUMBERS = {
    "gpu_volatile": ("utilization_percent", 1.0),
    "temperature": ("temperature_celsius", 1.0),
    "used_memory": ("memory_used_bytes", float(MIB)),
    "total_memory": ("memory_total_bytes", float(MIB)),
    "available_memory": ("memory_free_bytes", float(MIB)),
}


# ---- answers


def new_id() -> str:
    """What it calls a host's hash: hex digits of 128 random bits, without zeros in front."""
    return f"{secrets.randbits(128):x}"


def registered(id: str, name: str) -> bytes:
    """``GET /register/``: the host's hash, and the name under which it is shown."""
    return _dump({"id": id, "register_name": name, "status": "OK", "status_code": 200})


def stored() -> bytes:
    """``POST /update/host/<id>``: taken."""
    return _dump({"status": "OK", "status_code": 200})


def unknown_host() -> bytes:
    """The hash is not known: the sender registers again and posts again."""
    return _error(404, "not in known list")


def forbidden() -> bytes:
    """The token is wrong; it is looked at before the hash."""
    return _error(403, "forbidden")


def refused(message: str, status_code: int) -> bytes:
    """Not taken: the body is not what a sender posts (400), or this hub cannot now (503). Senders go on."""
    return _error(status_code, message)


def invalid_notification() -> bytes:
    """``POST /notification/send_notification/slack/`` without ``text`` and ``to``; here its key is ``info``."""
    return _dump({"status": "ERROR", "status_code": 400, "info": "you need a valid json data"})


def element(html: Optional[str]) -> bytes:
    """``GET /?fetch_element=true&element=<host>``: the piece of the page about one host; None = there is no such host."""
    return _dump({"element": html or "", "found": html is not None})


def _error(status_code: int, message: str) -> bytes:
    return _dump({"status": "ERROR", "status_code": status_code, "message": message})


def _dump(doc: Mapping[str, Any]) -> bytes:
    return json.dumps(doc).encode("ascii")


# ---- what is sent


def is_notification(body: bytes) -> bool:
    """The body has a text and somebody to send it to."""
    try:
        doc = frame.loads(body, "body")
    except WireError:
        return False
    return isinstance(doc, dict) and all(isinstance(doc.get(key), str) for key in ("text", "to"))


def parse(body: bytes) -> Dict[str, Any]:
    """The dict of GPUs that a sender posts. Raises WireError."""
    doc = frame.loads(body, "body")
    if not isinstance(doc, dict) or len(doc) > MOST_GPUS or not all(isinstance(gpu, dict) for gpu in doc.values()):
        raise WireError(f"The body is not an object of at most {MOST_GPUS} GPUs.")
    return doc


def snapshot(doc: Mapping[str, Any], name: str, now: float, zone: tzinfo) -> Snapshot:
    """The host's readings. ``now`` is their time: the sender's clock names no zone, and v0.3.0 sends the same time for ever.

    The time that the sender tells is kept as that of the live fields, in ``zone``. A GPU without UUID gets a made-up one.
    """
    clock = Clock(zone)
    gpus: Dict[str, GpuReading] = {}
    room = MOST_ALL_PROCESSES
    for place, entry in enumerate(doc.values()):
        gpu = _gpu(entry, place, name, clock, min(room, MOST_PROCESSES))
        room -= len(gpu.processes)
        gpus.setdefault(gpu.uuid, gpu)
    in_order = tuple(sorted(gpus.values(), key=lambda gpu: gpu.index))
    return Snapshot(
        taken_at=now, hostname=name, interval_seconds=INTERVAL_SECONDS, host=HostReading(missing={"logins": NOT_TOLD + PROGRAM}), gpus=in_order,
        collectors=(CollectorStatus(PROGRAM),),
    )  # fmt: skip


def uuids(doc: Mapping[str, Any]) -> frozenset[str]:
    """The UUIDs of its GPUs, by which a machine is told from another one of the same name."""
    return frozenset(uuid for uuid in (_text(entry.get("uuid")) for entry in doc.values()) if uuid)


def _gpu(entry: Mapping[str, Any], place: int, host: str, clock: Clock, most: int) -> GpuReading:
    index = _known(whole, entry.get("device_num"))
    index = place if index is None or index >= 2**31 else index
    numbers, missing = _numbers(entry, _NUMBERS)
    processes, told = _processes(entry.get("processes"), most)
    missing.update(dict.fromkeys(_NEVER, NOT_TOLD + PROGRAM))
    if not told:
        missing["processes"] = CUT_SHORT if processes else "not reported by the sender"
    return GpuReading(
        uuid=_text(entry.get("uuid")) or f"{MADE_UP}{host}:{index}",
        index=index,
        name=_text(entry.get("gpu_name")),
        live_read_at=_time(entry.get("timestamp"), clock),
        missing=missing,
        processes=processes,
        **numbers,
    )


def _processes(found: Any, most: int) -> Tuple[Tuple[ProcessReading, ...], bool]:
    """The processes, and whether the list is whole."""
    if not isinstance(found, list):
        return (), False
    known: List[ProcessReading] = []
    for entry in found[:most]:
        pid = _known(whole, entry.get("pid")) if isinstance(entry, dict) else None
        if pid is not None and pid < 2**31:
            numbers, _ = _numbers(entry, {"used_memory": ("gpu_memory_bytes", float(MIB))})
            known.append(ProcessReading(pid=pid, user=_text(entry.get("user")), name=_text(entry.get("name")), **numbers))
    known.sort(key=lambda process: -(process.gpu_memory_bytes or 0.0))
    return tuple(known), len(known) == len(found)


def _numbers(entry: Mapping[str, Any], fields: Mapping[str, Tuple[str, float]]) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """(what is told, why the rest is not): ``[N/A]`` is not supported, and what cannot be is not believed."""
    values: Dict[str, Any] = {}
    missing: Dict[str, str] = {}
    for key, (name, factor) in fields.items():
        try:
            value = fitting(name, number(entry.get(key), factor))
        except Unreadable as error:
            value, missing[name] = None, f"the sender's {key} cannot be: {str(error)[:80]}"
        if value is not None:
            values[name] = value
        else:
            missing.setdefault(name, "not reported by the sender")
    return values, missing


def _known(read: Callable[[Any], Optional[int]], value: Any) -> Optional[int]:
    try:
        return read(value)
    except Unreadable:
        return None


def _time(value: Any, clock: Clock) -> Number:
    try:
        return clock.at(value) if isinstance(value, str) else None
    except Unreadable:
        return None


def _text(value: Any) -> Optional[str]:
    return name_of(value[:200]) if isinstance(value, str) else None
