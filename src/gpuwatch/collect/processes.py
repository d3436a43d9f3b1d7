"""Processes on one GPU: NVML's three lists merged by pid, checked, and joined with what /proc knows of each.

Drivers have returned scrambled lists, lists with the wrong row size, memory that is "not available" and utilization above 100 %: such a
value becomes None, such a row is left out and said, and nothing is guessed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.build import build
from gpuwatch.collect.calls import LISTS, Calls
from gpuwatch.collect.nvml import Handle, ProcessList, ProcessRow
from gpuwatch.collect.proc import NOBODY, Known, ProcessTable, visible_pids
from gpuwatch.model.snapshot import ProcessReading

_MISSING = {"C": "processes", "utilization": "processes.sm_percent"}
_HIDDEN_JOB = "no permission: where Slurm makes no cgroup for a job, other users' job ids can be read by root or with CAP_SYS_PTRACE alone"
_Key = Tuple[int, int, int]
_NO_SHARES: Dict[int, float] = {}


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


_OF_LIST = ("pid", "kind", "gpu_memory_bytes", "gpu_instance", "compute_instance")


class _Row:
    """One process on this GPU, as long as the driver's lists stay the same."""

    __slots__ = ("facts", "pid", "values")

    def __init__(self, key: _Key, kind: str, used: int) -> None:
        self.pid, gpu_instance, compute_instance = key
        self.facts: Dict[str, Any] = {}
        self.values: Dict[str, Any] = {
            "pid": self.pid,
            "kind": kind,
            "gpu_memory_bytes": None if used == nvml.NOT_AVAILABLE else used,
            "gpu_instance": None if gpu_instance == nvml.NO_INSTANCE else gpu_instance,
            "compute_instance": None if compute_instance == nvml.NO_INSTANCE else compute_instance,
        }

    def reading(self, known: Optional[Known], share: Optional[float]) -> ProcessReading:
        """The process as it is now; ``known`` None where it cannot be seen."""
        facts = NOBODY if known is None else known.facts
        if facts is not self.facts:
            self.facts, self.values = facts, {**facts, **{name: self.values[name] for name in _OF_LIST}}
        values = self.values
        values["sm_percent"] = share
        if known is not None:
            values["cpu_percent"], values["host_memory_bytes"] = known.cpu_percent, known.host_memory_bytes
        return build(ProcessReading, values)


class GpuProcesses:
    """The processes of one GPU, from sample to sample."""

    def __init__(self, calls: Calls, handle: Handle, shared: Attribution) -> None:
        self._handle, self._shared = handle, shared
        self._lists, self._utilization = calls.process_lists, calls.process_utilization
        self._last_seen = 0
        self._refused: Dict[str, Tuple[str, float]] = {}
        self._asked = self._lists
        self._raw: Dict[str, bytes] = {kind: b"" for kind, _ in LISTS}
        self._listed: Dict[str, List[ProcessRow]] = {}
        self._left_out: Dict[str, str] = {}
        self._rows: List[_Row] = []
        self.codes: List[int] = []
        self.missing: Dict[str, str] = {}

    def read(self, now: float, total_bytes: Optional[float], interval: float, status_due: bool, retry: float) -> Tuple[ProcessReading, ...]:
        """Rows, most memory first. ``total_bytes`` bounds what a process can hold.

        ``status_due``: also ask for the lists (graphics, MPS) that were empty the last time.
        """
        self.codes, self.missing = [], {}
        changed = False
        for kind, rows in self._lists if status_due else self._asked:
            code, count = nvml.NOT_SUPPORTED, 0
            if kind not in self._refused or not self._is_refused(kind, now):
                code, count = rows.read(self._handle)
                self.codes.append(code)
                if code:
                    self._refuse(kind, code, now + retry)
            raw = rows.raw(count, self._shared.layout_of_535) if count else b""
            if raw != self._raw[kind]:
                self._listed[kind] = self._checked(kind, rows, count, total_bytes)
                self._raw[kind], changed = raw, True
        if changed or status_due:
            self._rows = _merged(self._listed) if changed else self._rows
            self._asked = tuple([(kind, rows) for kind, rows in self._lists if kind == "C" or self._raw[kind]])
        if self._left_out:
            self.missing["processes"] = next(iter(self._left_out.values()))
        return self._readings(self._shares(now, interval, retry), changed or status_due) if self._rows else ()

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

    def _checked(self, kind: str, rows: ProcessList, count: int, total_bytes: Optional[float]) -> List[ProcessRow]:
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
            left_out = f"{len(listed) - len(good)} of {len(listed)} rows left out: the driver returned a scrambled process list"
            self._left_out[kind] = left_out
        else:
            self._left_out.pop(kind, None)
        return good

    def _plausible(self, rows: List[ProcessRow], total_bytes: Optional[float]) -> List[ProcessRow]:
        pid_max, most = self._shared.table.pid_max, total_bytes or nvml.NOT_AVAILABLE
        return [row for row in rows if 1 <= row[0] <= pid_max and (row[1] <= most or row[1] == nvml.NOT_AVAILABLE)]

    def _shares(self, now: float, interval: float, retry: float) -> Dict[int, float]:
        """SM percent by pid. NVML tells samples newer than ``lastSeenTimeStamp``; at first, those of the last interval are kept."""
        if "utilization" in self._refused and self._is_refused("utilization", now):
            return {}
        code, samples = self._utilization(self._handle, self._last_seen)
        if code:
            self._refuse("utilization", code, now + retry)
            return {}
        if not samples:
            return _NO_SHARES
        oldest = self._last_seen or int((now - max(2.0, interval)) * 1e6)
        shares: Dict[int, Tuple[int, Any]] = {}
        for pid, at, share, *_ in samples:
            if at > oldest and at >= shares.get(pid, (0, 0))[0] and share <= 100:
                shares[pid] = (at, share)
            self._last_seen = max(self._last_seen, at)
        return {pid: share for pid, (_, share) in shares.items()}

    def _readings(self, shares: Dict[int, float], closely: bool) -> Tuple[ProcessReading, ...]:
        """``closely``: with their host memory as it is now; else it is as old as the status group."""
        readings, look = [], self._shared.table.look
        for row in self._rows:
            known = look(row.pid, closely)
            if known is None:
                if self._shared.all_visible:
                    continue  # it ended between NVML's answer and ours
                self.missing["processes.user"] = self._shared.blind_reason or ""
            elif known.has_hidden_job:
                self.missing["processes.job"] = _HIDDEN_JOB
            if row.values["gpu_memory_bytes"] is None:
                self.missing["processes.gpu_memory_bytes"] = "not available"
            readings.append(row.reading(known, shares.get(row.pid)))
        return tuple(readings)


def _merged(listed: Dict[str, List[ProcessRow]]) -> List[_Row]:
    """The rows of all lists, one per process and slice, most memory first."""
    merged: Dict[_Key, Tuple[str, int]] = {}
    for kind, _ in LISTS:
        for row in listed.get(kind, ()):
            _merge(merged, kind, row)
    rows = [_Row(key, kind, used) for key, (kind, used) in merged.items()]
    rows.sort(key=lambda row: (-(row.values["gpu_memory_bytes"] or 0), row.pid))
    return rows


def _merge(merged: Dict[_Key, Tuple[str, int]], kind: str, row: ProcessRow) -> None:
    """Lists overlap: one row per process and slice, the larger memory, the kinds together."""
    pid, used, gpu_instance, compute_instance = row
    key = (pid, gpu_instance, compute_instance)
    if key not in merged:
        merged[key] = (kind, used)
        return
    old_kind, old_used = merged[key]
    known = [value for value in (old_used, used) if value != nvml.NOT_AVAILABLE]
    both = "M" if "M" in (old_kind, kind) else old_kind if old_kind == kind else "C+G"
    merged[key] = (both, max(known) if known else nvml.NOT_AVAILABLE)
