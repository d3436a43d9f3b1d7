"""Seed 004's ``/states/`` and ``/states/<host>/``, made from our snapshots: the keys, types and errors that its clients expect. Pure.

Types are those of its README: numbers in ``gpu_data`` are strings, the ``timestamp`` of an entry is an integer YYYYMMDDhhmmss. Errors are
answered with HTTP 200; the verdict is ``status_code``. What is unknown is null, what is lost or down is left out: never a made-up zero.
No arguments of a command line ever stand here: ``name`` is a program's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache, partial
from ipaddress import ip_address
from itertools import starmap
from typing import Any, Callable, Optional

from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.model.units import MIB
from gpuwatch.render import words
from gpuwatch.render.gaps import Gap, Gaps, Put, Rows, Template, Write, at_once, facts_of, in_places, numbers_of, template
from gpuwatch.render.text_words import UNKNOWN, Cache, date, program

CONTENT_TYPE = "text/html; charset=utf-8"
"""What its server says; its clients never look at it."""

STATUS = {"up": "running", "stale": "running", "down": "down", "error": "down", "unseen": "down"}
"""Its words for the status of a node that the hub asks; see ``status``."""
WAITING = "waiting for re-uplink"
"""... and for one that sends by itself, and sent nothing since the hub began."""

WITH_READINGS = ("up", "stale")
Entry = tuple[Snapshot, Optional[float]]
"""A snapshot and when the hub got it, epoch seconds."""

_ENCODER = json.JSONEncoder(check_circular=False)

# ---- what is asked


def fetch_number(text: str | None) -> int | None:
    """How many entries ``fetch_num=`` asks for: 1 where it is absent or no number, None = all (any negative number), no upper bound."""
    try:
        number = int(text or "1")
    except ValueError:
        return 1
    return None if number < 0 else min(number, 2**62)


# ---- what is answered


def error(status_code: int, message: str) -> bytes:
    """An error body, to be sent with HTTP 200: 404 ``not found``, 404 ``invalid page number.``, 403 ``forbidden``."""
    return _dump({"status": "ERROR", "status_code": status_code, "message": message})


def not_found() -> bytes:
    """The body for a host that nobody knows."""
    return error(404, "not found")


def states(cluster: ClusterNow, cache: Cache | None = None) -> bytes:
    """``/states/``: the newest entry of every host. A host that is down has one entry without GPUs, as there."""
    zone = cluster.timezone
    parts = []
    for node in cluster.nodes:
        if cache is None:
            parts.append(_newest_member(node, zone))
        else:
            key = ("004", cluster.audience, node.name)
            parts.append(_live_member(node, zone, key, cache))
    return b"{%s}" % b", ".join(parts)


def newest(node: NodeState, zone: str, put: Put = at_once) -> dict[str, Any]:
    """The one entry of a host in ``/states/``: ``gpu_data`` is empty unless the node has readings to show; ``timestamp`` null = never."""
    if node.status not in WITH_READINGS or node.snapshot is None:
        return {"gpu_data": {}, "timestamp": put(timestamp_in(zone), node.received_at)}
    return entry(node.snapshot, node.received_at, zone, put)


def host_states(node: NodeState, entries: Iterable[Entry], zone: str) -> Iterator[bytes]:
    """``/states/<host>/``: these entries, oldest first, piece by piece; history also of a host that is down.

    ``entries`` are as the reader may see them; a host that never answered has the one empty entry.
    """
    yield b"{"
    yield from _member(node, entries, zone)
    yield b"}"


def all_states(hosts: Iterable[tuple[NodeState, Iterable[Entry]]], zone: str) -> Iterator[bytes]:
    """``/states/?fetch_num=N``: the entries of every host, piece by piece. A host that is down has its one empty entry, as there."""
    yield b"{"
    separator = b""
    for node, entries in hosts:
        yield separator
        if node.status in WITH_READINGS:
            yield from _member(node, entries, zone)
        else:
            yield _newest_member(node, zone)
        separator = b", "
    yield b"}"


def _member(node: NodeState, entries: Iterable[Entry], zone: str) -> Iterator[bytes]:
    yield b'%s: {"data": [' % _dump(node.name)
    separator = b""
    for snapshot, received_at in entries:
        yield separator + _dump(entry(snapshot, received_at, zone))
        separator = b", "
    if not separator and node.snapshot is None:
        yield _dump(newest(node, zone))
    yield b'], "ip_address": %s, "status": %s}' % (_dump(address(node)), _dump(status(node)))


def _newest_member(node: NodeState, zone: str) -> bytes:
    return b"%s: %s" % (_dump(node.name), _dump(_host(node, zone, at_once)))


def _host(node: NodeState, zone: str, put: Put) -> dict[str, Any]:
    return {"data": [newest(node, zone, put)], "ip_address": address(node), "status": status(node)}


def _live_member(node: NodeState, zone: str, key: tuple[str, ...], cache: Cache) -> bytes:
    """A host's newest entry; that of a live node from its flat values."""
    if node.parts is None:
        return _newest_member(node, zone)
    form = cache.get(("form", *key), (facts_of(node), zone), lambda: _template(node, zone))
    return form.fill(numbers_of(node)).encode("ascii")


def _template(node: NodeState, zone: str) -> Template:
    gaps = Gaps()
    marked = f"{_ENCODER.encode(node.name)}: {gaps.encode(_ENCODER, _host(in_places(node), zone, Gap.of))}"
    in_quotes = {function: partial(_in_quotes, function) for function in (_available, _mib, _whole, _moment_in(zone))}
    return template(marked, gaps, node, {**in_quotes, timestamp_in(zone): partial(_plain, timestamp_in(zone))})


def _in_quotes(function: Write, rows: Rows) -> list[str]:
    return ["null" if text is None else f'"{text}"' for text in starmap(function, rows)]


def _plain(function: Write, rows: Rows) -> list[str]:
    return ["null" if value is None else str(value) for value in starmap(function, rows)]


def entry(snapshot: Snapshot, received_at: float | None, zone: str, put: Put = at_once) -> dict[str, Any]:
    """One entry: the GPUs by ``gpu:<number>`` and when the hub got it."""
    gpus = {f"gpu:{gpu.index}": gpu_data(gpu, snapshot.taken_at, zone, put) for gpu in snapshot.gpus if not gpu.error}
    return {"gpu_data": gpus, "timestamp": put(timestamp_in(zone), received_at)}


def gpu_data(gpu: GpuReading, taken_at: float | None, zone: str, put: Put = at_once) -> dict[str, Any]:
    """One GPU; memory in MiB, numbers as strings, null for unknown. ``put``: see ``render.gaps``; it gets functions that give texts."""
    total, used = gpu.memory_total_bytes, gpu.memory_used_bytes
    return {
        "available_memory": put(_available, gpu.memory_free_bytes, used, total, gpu.memory_reserved_bytes),
        "device_num": str(gpu.index),
        "gpu_name": gpu.name,
        "gpu_volatile": put(_whole, gpu.utilization_percent),
        "processes": [_process(process, put) for process in gpu.processes],
        "temperature": put(_whole, gpu.temperature_celsius),
        "timestamp": put(_moment_in(zone), gpu.live_read_at, taken_at),
        "total_memory": put(_mib, total),
        "used_memory": put(_mib, used),
        "uuid": gpu.uuid,
    }


def timestamp(at: float | None, zone: str) -> int | None:
    """YYYYMMDDhhmmss as an integer, in the zone; None for None, or for no time of this calendar."""
    if at is None:
        return None
    try:
        year, month, day, hour, minute, second = datetime.fromtimestamp(at, words.zone_of(zone)).timetuple()[:6]
    except (OverflowError, ValueError, OSError):
        return None
    return ((((year * 100 + month) * 100 + day) * 100 + hour) * 100 + minute) * 100 + second


@lru_cache(maxsize=16)
def timestamp_in(zone: str) -> Callable[[float | None], int | None]:
    """``timestamp`` in this zone."""
    return lambda at: timestamp(at, zone)


@lru_cache(maxsize=16)
def _moment_in(zone: str) -> Callable[[float | None, float | None], str | None]:
    """What writes when a GPU was read, of that time and of the sample's."""

    @lru_cache(maxsize=256)
    def moment(live_read_at: float | None, taken_at: float | None) -> str | None:
        text = date(live_read_at if live_read_at is not None else taken_at, zone, milliseconds=True)
        return None if text == UNKNOWN else text

    return moment


def status(node: NodeState) -> str:
    """``running`` or ``down``; of a node that sends by itself ``waiting for re-uplink`` until it sends for the first time since the hub began."""
    if node.target.sends and (node.restored or node.status == "unseen"):
        return WAITING
    return STATUS[node.status]


def address(node: NodeState) -> str | None:
    """The host's IP address: the target's where it is one, else the first that the machine reports; None = unknown."""
    own = _ip(node.target.host)
    if own is None and node.snapshot is not None and node.snapshot.host.ips:
        return node.snapshot.host.ips[0][1]
    return own


@lru_cache(maxsize=4096)
def _ip(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _process(process: ProcessReading, put: Put) -> dict[str, Any]:
    name = program(process)
    return {
        "name": None if name == UNKNOWN else name.split()[0] if process.command else name,
        "pid": str(process.pid),
        "used_memory": put(_mib, process.gpu_memory_bytes),
        "user": process.user,
    }


def _available(free_bytes: float | None, used: float | None, total: float | None, reserved: float | None) -> str | None:
    """Memory that can be allocated: as reported, else what used and reserved leave of the total; None if unknown."""
    if free_bytes is None and used is not None and total is not None:
        free_bytes = max(0.0, total - used - (reserved or 0.0))
    return _mib(free_bytes)


def _mib(size_bytes: float | None) -> str | None:
    return None if size_bytes is None else str(int(size_bytes // MIB))


@lru_cache(maxsize=1024)
def _whole(value: float | None) -> str | None:
    return None if value is None else str(round(value))


def _dump(value: Any) -> bytes:
    return _ENCODER.encode(value).encode("ascii")
