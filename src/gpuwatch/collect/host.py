"""The machine around the GPUs: processors, memory, disks, network, people. Numbers that change come straight from /proc, below the root.

psutil tells what no file does (addresses of interfaces, utmp); where it cannot be imported the rest goes on, and what is lacking is said.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable, Dict, List, Optional, Tuple

from gpuwatch.collect.build import build, defaults
from gpuwatch.collect.disks import REMOTE_REASON, Disks
from gpuwatch.collect.files import KeptFile, read_text, under
from gpuwatch.collect.gpu import Ages, Due
from gpuwatch.collect.logins import Logins
from gpuwatch.collect.proc import boot_time
from gpuwatch.model.snapshot import HostReading, NetworkReading

_MOST_NETWORKS = 64
_LOADS = ("load_1m", "load_5m", "load_15m")
_TWO_SAMPLES = "not yet: the load is the difference of two samples"
_IGNORED_NETWORKS = re.compile(r"lo|veth.*|docker\d+|br-[0-9a-f]{12}|virbr\d+(-nic)?|cali.*|flannel.*|cni\d+|tunl0|sit0|ip6tnl0|ifb\d+|dummy\d+")


@dataclass(frozen=True)
class DriverFacts:
    """What NVML said of driver and library, for the host's reading."""

    driver_version: Optional[str] = None
    library_version: Optional[str] = None
    cuda_version: Optional[str] = None


class Host:
    """The host, from sample to sample."""

    def __init__(self, root: str, ages: Ages) -> None:
        self._root = root
        self._psutil = _psutil()
        self._files = [KeptFile(under(root, f"proc/{name}"), at_once=True) for name in ("meminfo", "loadavg", "uptime", "stat")]
        self._meminfo, self._loadavg, self._uptime, self._stat = self._files
        self._networks_name = "proc/1/net/dev" if root.rstrip("/") else "proc/net/dev"
        self._networks = KeptFile(under(root, self._networks_name))
        self._disks = Disks(root)
        self._logins = Logins(root, self._psutil)
        self._cpus = b""
        self._cores: List[Tuple[int, int]] = []
        self._all: Optional[Tuple[int, int]] = None
        self._values = defaults(HostReading)
        self._missing: Dict[str, str] = {}
        self._status_due = Due(ages.status, ages.interval, 0)
        self._identity_due = Due(ages.identity, ages.interval, 0)
        self.memory: Tuple[Optional[float], Optional[float]] = (None, None)
        """Total and available memory, for GPUs that share it."""

    def read(self, now: float, driver: DriverFacts) -> HostReading:
        """The host at ``now``. Each part that cannot be read is None with its reason in ``missing``."""
        parts: List[Callable[[], Dict[str, Any]]] = [self._read_memory, self._read_load, self._read_stat]
        if self._identity_due.is_due(now):
            parts += [self._read_identity, self._read_ips]
            self._values["identity_read_at"] = round(now, 3)
            self._identity_due.done(now)
        if self._status_due.is_due(now):
            parts += [self._read_cores, self._read_disks, self._read_networks, self._read_logins]
            self._values["status_read_at"] = round(now, 3)
            self._status_due.done(now)
        for part in parts:
            self._set(part())
        values = self._values
        values["driver_version"], values["library_version"], values["cuda_version"] = driver.driver_version, driver.library_version, driver.cuda_version
        values["missing"], values["live_read_at"] = self._missing, round(now, 3)
        return build(HostReading, values)

    def close(self) -> None:
        """Close what is kept open."""
        for file in (*self._files, self._networks):
            file.close()
        self._disks.close()

    def _set(self, found: Dict[str, Any]) -> None:
        """Take over values; a ``_Why`` is the reason why there is none."""
        for name, value in found.items():
            if value.__class__ is not _Why:
                self._values[name] = value
                if name in self._missing:
                    self._missing = {key: why for key, why in self._missing.items() if key != name}
                continue
            self._values[name] = value.instead
            if self._missing.get(name) != value.reason:
                self._missing = {**self._missing, name: value.reason}

    def _read_memory(self) -> Dict[str, Any]:
        data = self._meminfo.read()
        total, available, swap, free = (_kilobytes(data, key) for key in (b"MemTotal:", b"MemAvailable:", b"SwapTotal:", b"SwapFree:"))
        if total is None:
            return dict.fromkeys(("memory_used_bytes", "memory_total_bytes", "swap_used_bytes", "swap_total_bytes"), _unreadable("proc/meminfo"))
        if available is None:  # kernels before 3.14
            available = sum(_kilobytes(data, key) or 0 for key in (b"MemFree:", b"Buffers:", b"\nCached:"))
        self.memory = (total, available)
        return {
            "memory_total_bytes": total,
            "memory_used_bytes": max(0, total - available),
            "swap_total_bytes": _Why("not in /proc/meminfo") if swap is None else swap,
            "swap_used_bytes": _Why("not in /proc/meminfo") if swap is None or free is None else swap - free,
        }

    def _read_load(self) -> Dict[str, Any]:
        load, uptime = self._loadavg.read().split(None, 3), self._uptime.read().split(None, 1)
        found: Dict[str, Any] = {"uptime_seconds": round(float(uptime[0])) if uptime else _unreadable("proc/uptime")}
        if len(load) < 3:
            found.update(dict.fromkeys(_LOADS, _unreadable("proc/loadavg")))
        else:
            found.update(zip(_LOADS, map(float, load)))
        return found

    def _read_stat(self) -> Dict[str, Any]:
        """Load of all cores together."""
        self._cpus = self._stat.read()
        whole = _ticks(self._cpus[: self._cpus.find(b"\n")]) if self._cpus.startswith(b"cpu ") else None
        if whole is None:
            return {"cpu_percent": _unreadable("proc/stat")}
        before, self._all = self._all, whole
        percent = _busy_percent(before, whole)
        return {"cpu_percent": _Why(_TWO_SAMPLES) if percent is None else percent}

    def _read_cores(self) -> Dict[str, Any]:
        """Load of each core since the last status group, from what ``_read_stat`` has read."""
        lines = self._cpus.partition(b"\nintr")[0].splitlines()[1:]
        before, self._cores = self._cores, [_ticks(line) for line in lines if line.startswith(b"cpu")]
        if not self._cores:
            return {"cores_percent": _unreadable("proc/stat", ())}
        if len(before) != len(self._cores):
            return {"cores_percent": _Why(_TWO_SAMPLES, ())}
        return {"cores_percent": tuple(_busy_percent(old, new) for old, new in zip(before, self._cores))}

    def _read_disks(self) -> Dict[str, Any]:
        disks, some_remote = self._disks.read()
        return {"disks": _Why(REMOTE_REASON, disks) if some_remote else disks}

    def _read_networks(self) -> Dict[str, Any]:
        data = self._networks.read().decode("utf-8", "replace")
        if not data:
            return {"networks": _unreadable(self._networks_name, ())}
        rows = [line.partition(":") for line in data.splitlines()]
        found = [(key.strip(), values.split()) for key, colon, values in rows if colon and not _is_ignored(key.strip())]
        networks = [NetworkReading(key, int(values[0]), int(values[8])) for key, values in found if len(values) >= 9]
        return {"networks": tuple(networks[:_MOST_NETWORKS])}

    def _read_logins(self) -> Dict[str, Any]:
        logins, why = self._logins.read()
        return {"logins": _Why(why or "", ()) if logins is None else logins}

    def _read_identity(self) -> Dict[str, Any]:
        release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', read_text(under(self._root, "etc/os-release")) or "", re.MULTILINE))
        cpus = read_text(under(self._root, "proc/cpuinfo"), 4096) or ""
        model = re.search(r"^(?:model name|Model|cpu|Processor)\s*: (.+)$", cpus, re.MULTILINE)
        return {
            "os": release.get("PRETTY_NAME") or _unreadable("etc/os-release"),
            "kernel": (read_text(under(self._root, "proc/sys/kernel/osrelease")) or os.uname().release).strip(),
            "architecture": os.uname().machine,
            "cpu_model": model.group(1).strip() if model else _Why("not in /proc/cpuinfo"),
            "cpu_count": os.cpu_count(),
            "boot_at": boot_time(self._root) or _unreadable("proc/stat"),
        }

    def _read_ips(self) -> Dict[str, Any]:
        if self._root.rstrip("/"):
            return {"ips": _Why("not visible from a container", ())}
        if self._psutil is None:
            return {"ips": _Why("psutil cannot be imported here", ())}
        addresses = self._psutil.net_if_addrs()
        states = self._psutil.net_if_stats()
        found = [
            (name, address.address)
            for name in sorted(addresses)
            if name != "lo" and (name not in states or states[name].isup)
            for address in addresses[name]
            if address.family.name == "AF_INET"
        ]
        return {"ips": tuple(found)}


@lru_cache(maxsize=512)
def _is_ignored(name: str) -> bool:
    """Whether an interface is a container's or the machine's own."""
    return _IGNORED_NETWORKS.fullmatch(name) is not None


class _Why:
    """Why a value is not there, and what stands in its place."""

    def __init__(self, reason: str, instead: Any = None) -> None:
        self.reason, self.instead = reason, instead


def _unreadable(name: str, instead: Any = None) -> _Why:
    return _Why(f"/{name} cannot be read", instead)


def _kilobytes(data: bytes, key: bytes) -> Optional[int]:
    """Bytes of a line of /proc/meminfo; None where it has no such line."""
    at = data.find(key)
    return None if at < 0 else int(data[at + len(key) : at + len(key) + 32].split(None, 1)[0]) * 1024


def _ticks(line: bytes) -> Tuple[int, int]:
    """(busy, all) of a cpu line of /proc/stat; guest time is part of user time, idle and iowait are not busy (proc(5))."""
    numbers = [int(number) for number in line.split()[1:9]]
    idle = numbers[3] + (numbers[4] if len(numbers) > 4 else 0)
    return sum(numbers) - idle, sum(numbers)


def _busy_percent(before: Optional[Tuple[int, int]], after: Tuple[int, int]) -> Optional[float]:
    if before is None or after[1] <= before[1]:
        return None
    return min(100.0, max(0.0, round(100.0 * (after[0] - before[0]) / (after[1] - before[1]), 1)))


def _psutil() -> Any:
    """The module, or None where it cannot be imported (an architecture without a build of it)."""
    try:
        import psutil
    except Exception:  # a broken build may raise more than ImportError
        return None
    return psutil
