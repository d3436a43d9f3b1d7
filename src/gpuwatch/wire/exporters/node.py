"""Prometheus' node_exporter: its page as readings of a machine, without GPUs. Pure.

Names and units as recorded from node_exporter 1.5: base units, and counters of CPU time, so that the load of the CPUs is known from the second
page on. Must never take what the kernel makes up (tmpfs, bridges, veth) for disks and networks.
"""

from __future__ import annotations

import re
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import DiskReading, HostReading, NetworkReading, Number
from gpuwatch.wire.exporters import page
from gpuwatch.wire.exporters.page import Page
from gpuwatch.wire.foreign import Request, Told, not_told, number, snapshot_of, text

CPU = "node_cpu_seconds_total"
_SIZE, _FREE = "node_filesystem_size_bytes", "node_filesystem_free_bytes"
_RECEIVED, _SENT = "node_network_receive_bytes_total", "node_network_transmit_bytes_total"
_LOADS = {"node_load1": "load_1m", "node_load5": "load_5m", "node_load15": "load_15m"}
_MEMORY, _AVAILABLE = "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes"
_SWAP, _SWAP_FREE = "node_memory_SwapTotal_bytes", "node_memory_SwapFree_bytes"
_BOOT, _TIME, _UNAME, _OS, _MODEL = "node_boot_time_seconds", "node_time_seconds", "node_uname_info", "node_os_info", "node_cpu_info"
_WANTED: FrozenSet[str] = frozenset((
    CPU, _SIZE, _FREE, _RECEIVED, _SENT, *_LOADS, _MEMORY, _AVAILABLE, _SWAP, _SWAP_FREE, _BOOT, _TIME, _UNAME, _OS, _MODEL,
))  # fmt: skip
_NO_DISK = re.compile(r"tmpfs|devtmpfs|ramfs|overlay|squashfs|iso9660|rootfs|nsfs|autofs|efivarfs|fuse\.(lxcfs|portal|gvfsd-fuse)|erofs|tracefs|proc|sysfs|cgroup2?")
_IDLE = ("idle", "iowait")
_INSIDE_OTHERS = ("guest", "guest_nice")
"""Their time is in user and nice already."""
MOST_CORES, MOST_LISTED = 1024, 64


class Spent(NamedTuple):
    """CPU time of one core since boot."""

    idle_seconds: float
    all_seconds: float


def request(target: Target, password: str) -> Request:
    """``GET /metrics``, without a password."""
    return page.request()


def read(body: bytes, target: Target, now: float, memory: Optional[Mapping[str, Spent]] = None) -> Told:
    """What the page tells; ``memory``: CPU time of the page before. Raises WireError for a page of something else."""
    found = page.parse(body, _WANTED)
    if not found:
        raise WireError("The page has no metric of node_exporter.", "Next: is it node_exporter that listens there?")
    spent = _spent(found)
    return Told(snapshot_of(target, now, (), _host(found, spent, memory or {}, target), text(_labels(found, _UNAME).get("nodename")) or ""), spent)


def _one(found: Page, name: str) -> Number:
    return number(found[name][0].value) if name in found else None


def _labels(found: Page, name: str) -> Mapping[str, str]:
    return found[name][0].labels if name in found else {}


def _less(total: Number, part: Number) -> Number:
    return None if total is None or part is None else max(0.0, total - part)


def _host(found: Page, spent: Mapping[str, Spent], before: Mapping[str, Spent], target: Target) -> HostReading:
    uname, system = _labels(found, _UNAME), _labels(found, _OS)
    boot_at = _one(found, _BOOT)
    memory, swap = _one(found, _MEMORY), _one(found, _SWAP)
    loads: Dict[str, Any] = {field: _one(found, name) for name, field in _LOADS.items()}
    return HostReading(
        os=text(system.get("pretty_name")), kernel=text(uname.get("release")), architecture=text(uname.get("machine")),
        cpu_model=text(_labels(found, _MODEL).get("model_name")), cpu_count=len(spent) or None, boot_at=None if boot_at is None else round(boot_at),
        cpu_percent=_busy(list(spent.values()), [before.get(core) for core in spent]), memory_used_bytes=_less(memory, _one(found, _AVAILABLE)),
        memory_total_bytes=memory, swap_used_bytes=_less(swap, _one(found, _SWAP_FREE)), swap_total_bytes=swap,
        uptime_seconds=_less(_one(found, _TIME), boot_at), cores_percent=tuple([_busy([one], [before.get(core)]) for core, one in spent.items()]),
        disks=_disks(found), networks=_networks(found), missing=not_told(target, "logins"), **loads,
    )  # fmt: skip


def _spent(found: Page) -> Dict[str, Spent]:
    """By core, in the order of their numbers."""
    sums: Dict[str, List[float]] = {}
    for labels, value in found.get(CPU, ()):
        core, mode = labels.get("cpu", ""), labels.get("mode", "")
        if core.isascii() and core.isdigit() and len(core) < 6 and mode not in _INSIDE_OTHERS and (core in sums or len(sums) < MOST_CORES):
            both = sums.setdefault(core, [0.0, 0.0])
            both[0] += value if mode in _IDLE else 0.0
            both[1] += value
    return {core: Spent(*sums[core]) for core in sorted(sums, key=int)}


def _busy(now: List[Spent], before: List[Optional[Spent]]) -> Number:
    """Percent between two pages; None without an earlier one, after a restart of the machine, and where no time passed."""
    pairs = [(new, old) for new, old in zip(now, before) if old is not None]
    passed = sum(new.all_seconds - old.all_seconds for new, old in pairs)
    idle = sum(new.idle_seconds - old.idle_seconds for new, old in pairs)
    if not pairs or passed <= 0 or idle < 0:
        return None
    return round(min(100.0, max(0.0, 100.0 * (1.0 - idle / passed))), 1)


def _disks(found: Page) -> Tuple[DiskReading, ...]:
    """By mount. A device that is mounted twice counts once, at its shortest mount."""
    free = {labels.get("mountpoint"): value for labels, value in found.get(_FREE, ())}
    chosen: Dict[str, DiskReading] = {}
    for labels, size in found.get(_SIZE, ()):
        mount, device, kind = (text(labels.get(name)) for name in ("mountpoint", "device", "fstype"))
        if mount and not _NO_DISK.fullmatch(kind or "") and size > 0:
            key = device or mount
            if key not in chosen or len(mount) < len(chosen[key].mount):
                chosen[key] = DiskReading(mount, device, kind, _less(number(size), free.get(mount)), number(size))
    return tuple(sorted(chosen.values(), key=lambda disk: disk.mount)[:MOST_LISTED])


def _networks(found: Page) -> Tuple[NetworkReading, ...]:
    sent = {labels.get("device"): number(value) for labels, value in found.get(_SENT, ())}
    received = {labels.get("device"): number(value) for labels, value in found.get(_RECEIVED, ())}
    names = [name for name in received if name and page.is_network(name)]
    return tuple([NetworkReading(text(name) or "", received[name], sent.get(name)) for name in names[:MOST_LISTED]])
