"""Processes on one GPU: NVML's three lists merged by pid, checked, and joined with what /proc knows of each.

Drivers have returned scrambled lists, lists with the wrong row size, memory that is "not available" and utilization above 100 %: such a
value becomes None, such a row is left out and said, and nothing is guessed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.build import build
from gpuwatch.collect.nvml import Device, ProcessList, ProcessRow
from gpuwatch.collect.proc import NOBODY, Look, ProcessTable, visible_pids
from gpuwatch.model.snapshot import ProcessReading

_LISTS = (("C", "Compute"), ("G", "Graphics"), ("M", "MPSCompute"))
_MISSING = {"C": "processes", "utilization": "processes.sm_percent"}
_Key = Tuple[int, int, int]


class Attribution:
    """What all GPUs of a host share: the process table, and how well this process can see the others."""

    def __init__(self, root: str) -> None:
        self.table = ProcessTable(root)
        self.all_visible = visible_pids(root)
        self.layout_of_535 = False

    @property
    def blind_reason(self) -> Optional[str]:
        """Why owners may be unknown; None when every process can be seen."""
        if self.all_visible:
            return None
        return "not every process is visible here: run the node on the host, or with --pid=host, and outside hidepid"


class GpuProcesses:
    """The processes of one GPU, from sample to sample."""

    def __init__(self, device: Device, shared: Attribution) -> None:
        self._shared = shared
        self._lists = [(kind, device.processes(name)) for kind, name in _LISTS]
        self._utilization = device.utilization()
        self._last_seen = 0
        self._refused: Dict[str, Tuple[str, float]] = {}
        self._has_mps = True
        self.codes: List[int] = []
        self.missing: Dict[str, str] = {}

    def read(self, now: float, total_bytes: Optional[float], interval: float, status_due: bool, retry: float) -> Tuple[ProcessReading, ...]:
        """Rows, most memory first. ``total_bytes`` bounds what a process can hold; ``status_due``: look for MPS clients anew."""
        self.codes, self.missing = [], {}
        merged: Dict[_Key, Tuple[str, int]] = {}
        for kind, rows in self._lists if status_due or self._has_mps else self._lists[:2]:
            if kind in self._refused and self._is_refused(kind, now):
                continue
            code, count = rows.read()
            self.codes.append(code)
            if code:
                self._refuse(kind, code, now + retry)
            elif count:
                for row in self._checked(rows, count, total_bytes):
                    _merge(merged, kind, row)
            if kind == "M":
                self._has_mps = count > 0
        if not merged:
            return ()
        return self._readings(merged, self._shares(now, interval, retry))

    def _refuse(self, kind: str, code: int, retry_at: float) -> None:
        """A call failed; one that is refused is not made again before ``retry_at``."""
        reason = nvml.reason(code)
        if code in nvml.REFUSALS:
            self._refused[kind] = (reason, retry_at)
        if kind in _MISSING:
            self.missing[_MISSING[kind]] = reason

    def _is_refused(self, kind: str, now: float) -> bool:
        reason, until = self._refused[kind]
        if now >= until:
            del self._refused[kind]
            return False
        if kind in _MISSING:
            self.missing[_MISSING[kind]] = reason
        return True

    def _checked(self, rows: ProcessList, count: int, total_bytes: Optional[float]) -> List[ProcessRow]:
        """The rows that can be true, in the layout in which more of them are."""
        shared = self._shared
        listed = rows.rows_of_535(count) if shared.layout_of_535 else rows.rows(count)
        good = self._plausible(listed, total_bytes)
        if len(good) < len(listed):
            other = rows.rows(count) if shared.layout_of_535 else rows.rows_of_535(count)
            better = self._plausible(other, total_bytes)
            if len(better) > len(good):
                shared.layout_of_535 = not shared.layout_of_535
                good = better
        if len(good) < len(listed):
            self.missing["processes"] = f"{len(listed) - len(good)} of {len(listed)} rows left out: the driver returned a scrambled process list"
        return good

    def _plausible(self, rows: List[ProcessRow], total_bytes: Optional[float]) -> List[ProcessRow]:
        pid_max, most = self._shared.table.pid_max, total_bytes or nvml.NOT_AVAILABLE
        return [row for row in rows if 1 <= row[0] <= pid_max and (row[1] <= most or row[1] == nvml.NOT_AVAILABLE)]

    def _shares(self, now: float, interval: float, retry: float) -> Dict[int, float]:
        """SM percent by pid. NVML tells samples newer than ``lastSeenTimeStamp``; at first, those of the last interval are kept."""
        if "utilization" in self._refused and self._is_refused("utilization", now):
            return {}
        code, samples = self._utilization(self._last_seen)
        if code:
            self._refuse("utilization", code, now + retry)
            return {}
        oldest = self._last_seen or int((now - max(2.0, interval)) * 1e6)
        shares: Dict[int, Tuple[int, Any]] = {}
        for pid, at, share, *_ in samples:
            if at > oldest and at >= shares.get(pid, (0, 0))[0] and share <= 100:
                shares[pid] = (at, share)
            self._last_seen = max(self._last_seen, at)
        return {pid: share for pid, (_, share) in shares.items()}

    def _readings(self, merged: Dict[_Key, Tuple[str, int]], shares: Dict[int, float]) -> Tuple[ProcessReading, ...]:
        readings = []
        for key, (kind, used) in merged.items():
            look = self._shared.table.look(key[0])
            if look is None:
                if self._shared.all_visible:
                    continue  # it ended between NVML's answer and ours
                self.missing["processes.user"] = self._shared.blind_reason or ""
            if used == nvml.NOT_AVAILABLE:
                self.missing["processes.gpu_memory_bytes"] = "not available"
            readings.append(_reading(key, kind, used, shares.get(key[0]), look))
        if len(readings) > 1:
            readings.sort(key=lambda reading: (-(reading.gpu_memory_bytes or 0), reading.pid))
        return tuple(readings)


def _merge(merged: Dict[_Key, Tuple[str, int]], kind: str, row: ProcessRow) -> None:
    """Lists overlap: one row per process and slice, the larger memory, the kinds together."""
    pid, used, gpu_instance, compute_instance = row
    key = (pid, gpu_instance, compute_instance)
    before = merged.get(key)
    if before is None:
        merged[key] = (kind, used)
        return
    old_kind, old_used = before
    known = [value for value in (old_used, used) if value != nvml.NOT_AVAILABLE]
    both = "M" if "M" in (old_kind, kind) else old_kind if old_kind == kind else "C+G"
    merged[key] = (both, max(known) if known else nvml.NOT_AVAILABLE)


def _reading(key: _Key, kind: str, used: int, share: Optional[float], look: Optional[Look]) -> ProcessReading:
    pid, gpu_instance, compute_instance = key
    return build(
        ProcessReading,
        look.facts if look else NOBODY,
        pid=pid,
        kind=kind,
        gpu_memory_bytes=None if used == nvml.NOT_AVAILABLE else used,
        sm_percent=share,
        gpu_instance=None if gpu_instance == nvml.NO_INSTANCE else gpu_instance,
        compute_instance=None if compute_instance == nvml.NO_INSTANCE else compute_instance,
        cpu_percent=look.cpu_percent if look else None,
        host_memory_bytes=look.host_memory_bytes if look else None,
    )
