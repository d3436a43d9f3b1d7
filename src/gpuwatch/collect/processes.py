"""Processes on one GPU: NVML's three lists merged by pid, checked, and joined with what /proc knows of each.

Drivers have returned scrambled lists, lists with the wrong row size, memory that is "not available" and utilization above 100 %: such a
value becomes None, such a row is left out and said, and nothing is guessed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.nvml import Device, ProcessRow, RawList
from gpuwatch.collect.proc import Look, ProcessTable, visible_pids
from gpuwatch.model.snapshot import ProcessReading

_LISTS = (("C", "Compute"), ("G", "Graphics"), ("M", "MPSCompute"))
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
        self._reads = [(kind, device.processes(name)) for kind, name in _LISTS]
        self._utilization = device.utilization()
        self._last_seen = 0
        self._refused: Dict[str, Tuple[str, float]] = {}
        self._has_mps = True
        self.codes: List[int] = []
        self.missing: Dict[str, str] = {}

    def read(self, now: float, total_bytes: Optional[float], interval: float, status_due: bool, retry: float) -> Tuple[ProcessReading, ...]:
        """Rows, most memory first. ``total_bytes`` bounds what a process can hold; ``status_due``: look for MPS clients anew."""
        self.codes, self.missing = [], {}
        if not status_due and not self._has_mps:
            reads = self._reads[:2]
        else:
            reads = self._reads
        merged: Dict[_Key, Tuple[str, int]] = {}
        for kind, read in reads:
            raw = self._ask(kind, read, now, retry)
            rows = self._checked(raw, total_bytes) if raw is not None and raw.count else []
            if kind == "M":
                self._has_mps = bool(rows)
            for row in rows:
                _merge(merged, kind, row)
        shares = self._shares(now, interval, retry) if merged else {}
        return self._readings(merged, shares)

    def _ask(self, kind: str, read: nvml.Read, now: float, retry: float) -> Optional[RawList]:
        reason, until = self._refused.get(kind, ("", 0.0))
        if now >= until:
            code, raw = read()
            self.codes.append(code)
            if code == nvml.SUCCESS:
                self._refused.pop(kind, None)
                found: RawList = raw
                return found
            reason = nvml.reason(code)
            if code in nvml.REFUSALS:
                self._refused[kind] = (reason, now + retry)
        if kind == "C":
            self.missing["processes"] = reason
        return None

    def _checked(self, raw: RawList, total_bytes: Optional[float]) -> List[ProcessRow]:
        """The rows that can be true, in the layout in which more of them are."""
        rows = raw.rows_of_535() if self._shared.layout_of_535 else raw.rows()
        good = [row for row in rows if self._plausible(row, total_bytes)]
        if len(good) < len(rows):
            other = raw.rows() if self._shared.layout_of_535 else raw.rows_of_535()
            better = [row for row in other if self._plausible(row, total_bytes)]
            if len(better) > len(good):
                self._shared.layout_of_535 = not self._shared.layout_of_535
                rows, good = other, better
        if len(good) < len(rows):
            self.missing["processes"] = f"{len(rows) - len(good)} of {len(rows)} rows left out: the driver returned a scrambled process list"
        return good

    def _plausible(self, row: ProcessRow, total_bytes: Optional[float]) -> bool:
        pid, used = row[0], row[1]
        return 1 <= pid <= self._shared.table.pid_max and (used == nvml.NOT_AVAILABLE or total_bytes is None or used <= total_bytes)

    def _shares(self, now: float, interval: float, retry: float) -> Dict[int, float]:
        """SM percent by pid. NVML tells samples newer than ``lastSeenTimeStamp``; at first, those of the last interval are kept."""
        reason, until = self._refused.get("utilization", ("", 0.0))
        if now < until:
            self.missing["processes.sm_percent"] = reason
            return {}
        code, samples = self._utilization(self._last_seen)
        if code:
            self.missing["processes.sm_percent"] = nvml.reason(code)
            if code in nvml.REFUSALS:
                self._refused["utilization"] = (nvml.reason(code), now + retry)
            return {}
        self._refused.pop("utilization", None)
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
            readings.append(_reading(key, kind, used, shares.get(key[0]), look))
        readings.sort(key=lambda reading: (-(reading.gpu_memory_bytes or 0), reading.pid))
        if any(reading.gpu_memory_bytes is None for reading in readings):
            self.missing["processes.gpu_memory_bytes"] = "not available"
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
    slices: Dict[str, Any] = {
        "pid": pid,
        "kind": kind,
        "gpu_memory_bytes": None if used == nvml.NOT_AVAILABLE else used,
        "sm_percent": share,
        "gpu_instance": None if gpu_instance == nvml.NO_INSTANCE else gpu_instance,
        "compute_instance": None if compute_instance == nvml.NO_INSTANCE else compute_instance,
    }
    if look is None:
        return ProcessReading(**slices)
    facts = look.facts
    return ProcessReading(
        **slices,
        started_at=facts.started_at,
        user=facts.user,
        name=facts.name,
        command=facts.command,
        container=facts.place.container,
        job=facts.place.job,
        cpu_percent=look.cpu_percent,
        host_memory_bytes=look.host_memory_bytes,
    )
