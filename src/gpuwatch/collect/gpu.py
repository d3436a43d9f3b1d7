"""One GPU: its groups of calls, each read when it would grow too old, put together as a GpuReading.

A GPU that stops answering keeps its identity, says why and since when, and costs nobody else anything. A call that the card or the driver
refuses is asked again after ten minutes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from gpuwatch.collect import nvml, tegra
from gpuwatch.collect.build import build, defaults
from gpuwatch.collect.calls import MEMORY, Calls, Missing, pci_address
from gpuwatch.collect.gpm import OF_GPU, Gpm, is_supported
from gpuwatch.collect.mig import MigSlices
from gpuwatch.collect.nvml import Handle
from gpuwatch.collect.processes import Attribution, GpuProcesses
from gpuwatch.model.snapshot import GpuReading

RETRY_SECONDS = 600.0
"""A call that was refused (not supported, no permission) is asked again after so long; the identity group is not read more often anyway."""

IDENTITY = ("uuid", "index", "name", "minor_number", "pci_bus_id", "serial", "vbios_version", "cuda_capability")
_BLANK = defaults(GpuReading)
_GOOD = nvml.REFUSALS | {nvml.SUCCESS}
_ACTIVITY = tuple(OF_GPU)
_GPM_METRICS = tuple(metric for metrics in OF_GPU.values() for metric in metrics)
_GPM_PLACES = tuple(tuple(_GPM_METRICS.index(metric) for metric in metrics) for metrics in OF_GPU.values())
_NOT_SUPPORTED = Missing(nvml.reason(nvml.NOT_SUPPORTED))
_SLOW = ("identity", "health", "status")


@dataclass(frozen=True)
class Ages:
    """How old each group may grow, and how long it is until the next sample, in seconds."""

    interval: float
    status: float
    health: float
    identity: float


class Due:
    """When a group must be read so that it never grows older than its age. ``place`` spreads the GPUs of a host over the samples."""

    def __init__(self, age: float, interval: float, place: int) -> None:
        self._age, self._interval = age, interval
        samples = max(1, int(age // interval)) if interval > 0 else 1
        self._shift = place % samples * interval
        self._read_at: Optional[float] = None
        self.at = 0.0
        """It is due after this."""

    def is_due(self, now: float) -> bool:
        """Whether it must be read now, since at the next sample it would be too old; also when the clock went back."""
        return now > self.at or (self._read_at is not None and now < self._read_at)

    def done(self, now: float) -> None:
        """It was read at ``now``."""
        self.at = now + self._age - self._interval - (self._shift if self._read_at is None else 0.0)
        self._read_at = now


class Gpu:
    """A GPU that answers, or one that did. Its identity is its UUID."""

    def __init__(self, identity: Dict[str, Any], ages: Ages, shared: Attribution, place: int, jetson: Optional[tegra.Tegra] = None) -> None:
        self.uuid: str = identity["uuid"]
        self._ages, self._shared, self._place, self._jetson = ages, shared, place, jetson
        self._values: Dict[str, Any] = {**_BLANK, **{name: identity.get(name) for name in IDENTITY}}
        self._missing: Dict[str, str] = {}
        self._missing_told: Dict[str, str] = {}
        self._missing_parts: Tuple[Dict[str, str], Dict[str, str]] = ({}, {})
        self._unified = False
        self._handle: Optional[Handle] = None
        self._raw: Dict[str, List[Any]] = {}
        self._retry_at: Dict[str, List[float]] = {}
        self._due: Dict[str, Due] = {}
        self._gpm: Optional[Gpm] = None
        self._answered = False
        self._failed: Set[int] = set()
        self.code = nvml.SUCCESS
        """Code of the failure that made the last reading a lost one, else SUCCESS."""
        self._error_since_at: Optional[float] = identity.get("error_since_at")

    @property
    def pci_bus_id(self) -> Optional[str]:
        """Where the GPU is on the PCI bus, as far as known."""
        address: Optional[str] = self._values["pci_bus_id"]
        return address

    @property
    def index(self) -> int:
        """NVML's number of the GPU, or its last one."""
        return int(self._values["index"] or 0)

    @property
    def is_attached(self) -> bool:
        """Whether it is read; False for one that was lost or is only known from before."""
        return self._handle is not None

    def attach(self, calls: Calls, handle: Handle, index: int) -> None:
        """The driver gave this handle for the GPU: read everything anew with it."""
        self.release()
        self._calls, self._handle = calls, handle
        self._values["index"] = index
        code, raw = calls.pci_info(handle)
        if code == nvml.SUCCESS:  # at once: Xid events are matched by it
            self._values["pci_bus_id"] = pci_address(raw)
        self._raw = {group: [None] * len(members) for group, members in calls.groups.items()}
        self._retry_at = {group: [0.0] * len(members) for group, members in calls.groups.items()}
        self._missing = {}
        ages = {"status": self._ages.status, "health": self._ages.health, "identity": self._ages.identity}
        self._due = {group: Due(age, self._ages.interval, self._place) for group, age in ages.items()}
        self._slow_at = self._last_at = 0.0
        self._gpm_code = is_supported(calls.functions, handle)
        self._gpm = Gpm(calls.functions, handle, _GPM_METRICS) if self._gpm_code == nvml.SUCCESS else None
        self._mig = MigSlices(calls, handle)
        self._processes = GpuProcesses(calls, handle, self._shared)

    def release(self) -> None:
        """Give back what the driver keeps for us."""
        if self._handle is not None:
            self._mig.close()
            if self._gpm is not None:
                self._gpm.close()
            self._handle = None

    def move(self, index: int) -> None:
        """NVML numbers it anew, since another GPU came or went."""
        self._values["index"] = index

    def read(self, now: float, memory: Tuple[Optional[float], Optional[float]]) -> Optional[GpuReading]:
        """The GPU at ``now``; None when it does not answer (then ``code`` says why). ``memory``: total and available of the host."""
        if self._handle is None:
            return None
        self._answered, self._failed = False, set()
        self._read_group("live", now)
        due = [group for group in _SLOW if self._due[group].is_due(now)] if now > self._slow_at or now < self._last_at else []
        self._last_at = now
        total = self._values["memory_total_bytes"] or None
        processes = self._processes.read(now, total, self._ages.interval, "status" in due, RETRY_SECONDS)
        self.code = self._failure(self._processes.codes)
        if self.code:
            return None
        for group in due:
            self._read_slow(group, now)
        values = self._values
        values["mig"] = self._mig.read() if values["mig_enabled"] else ()
        values["processes"], values["unified_memory"] = processes, False
        if self._unified and not values["mig_enabled"]:
            self._share_memory(memory)
        if self._jetson is not None:
            self._set(tegra.FIELDS, self._jetson.read())
        self._error_since_at = None
        values["missing"], values["live_read_at"] = self._all_missing(), round(now, 3)
        return build(GpuReading, values)

    def lost(self, now: float, words: str) -> GpuReading:
        """The GPU as one that does not answer: who it is, why, since when; no numbers."""
        if self._error_since_at is None:
            self._error_since_at = round(now, 3)
        identity = {name: self._values[name] for name in IDENTITY}
        return GpuReading(error=words, error_since_at=self._error_since_at, **identity)

    def _read_group(self, group: str, now: float) -> None:
        """Make the group's calls. A raw value that is the same as before is not converted again."""
        handle, raws, retries = self._handle, self._raw[group], self._retry_at[group]
        place = -1
        for fields, ask, convert in self._calls.groups[group]:
            place += 1
            if retries[place] > now and retries[place] - now <= RETRY_SECONDS:
                continue
            code, raw = ask(handle)
            if code:
                raws[place] = None
                self._failed.add(code)
                retries[place] = now + RETRY_SECONDS if code in nvml.REFUSALS and group != "identity" else 0.0
                self._refuse(fields, code)
                continue
            self._answered = True
            if raw != raws[place]:
                raws[place] = raw
                self._set(fields, convert(raw))
                if fields is MEMORY.fields:
                    self._unified = raw[0] == 0

    def _refuse(self, fields: Tuple[str, ...], code: int) -> None:
        self._set(fields, (Missing(nvml.reason(code)),) * len(fields))
        if fields is MEMORY.fields:
            self._unified = code == nvml.NOT_SUPPORTED

    def _set(self, fields: Tuple[str, ...], values: Tuple[Any, ...]) -> None:
        """Take over values; a reading that was given away keeps its own ``missing``, so a change makes a new one."""
        current, missing = self._values, self._missing
        for field, value in zip(fields, values):
            if value.__class__ is Missing:
                current[field] = None
                if missing.get(field) != value:
                    self._missing = missing = {**missing, field: str(value)}
            else:
                current[field] = value
                if field in missing:
                    self._missing = missing = {name: reason for name, reason in missing.items() if name != field}

    def _all_missing(self) -> Dict[str, str]:
        """Reasons of calls and of processes together; the same object as long as nothing changes."""
        fields, processes = self._missing_parts
        if fields is not self._missing or processes != self._processes.missing:
            self._missing_parts = (self._missing, self._processes.missing)
            self._missing_told = {**self._missing, **self._processes.missing}
        return self._missing_told

    def _read_slow(self, group: str, now: float) -> None:
        self._read_group(group, now)
        if group == "status":
            self._read_activity()
            if self._values.get("mig_enabled"):
                self._mig.find(self._gpm_code == nvml.SUCCESS)
        self._values[f"{group}_read_at"] = round(now, 3)
        self._due[group].done(now)
        self._slow_at = min(due.at for due in self._due.values())

    def _read_activity(self) -> None:
        if self._gpm is None:
            self._set(_ACTIVITY, (Missing(nvml.reason(self._gpm_code)),) * len(_ACTIVITY))
            return
        code, told = self._gpm.read()
        if code or told is None:
            self._set(_ACTIVITY, (Missing(nvml.reason(code) if code else "not yet: GPM compares two samples"),) * len(_ACTIVITY))
            return
        values = [told[places[0]] if len(places) == 1 else _sum(told, places) for places in _GPM_PLACES]
        self._set(_ACTIVITY, tuple([_NOT_SUPPORTED if value is None else value for value in values]))

    def _failure(self, codes_of_lists: List[int]) -> int:
        """The code that says that the GPU does not answer, or SUCCESS: lost for one call is lost; else all calls must have failed."""
        if not self._failed and not any(codes_of_lists):
            return nvml.SUCCESS
        codes = self._failed | set(codes_of_lists)
        for lost in (nvml.GPU_IS_LOST, nvml.RESET_REQUIRED):
            if lost in codes:
                return lost
        hard = codes - _GOOD
        return max(hard) if hard and not self._answered and nvml.SUCCESS not in codes else nvml.SUCCESS

    def _share_memory(self, memory: Tuple[Optional[float], Optional[float]]) -> None:
        """GPU and host share one memory (GB10, Jetson): the host's total and free, and what the processes hold."""
        total, available = memory
        held = [process.gpu_memory_bytes for process in self._values["processes"]]
        used = Missing("not available: a process does not tell its share") if None in held else sum(share or 0 for share in held)
        self._values["unified_memory"] = True
        names = ("memory_total_bytes", "memory_free_bytes", "memory_used_bytes", "memory_reserved_bytes")
        values = [Missing("not reported") if value is None else value for value in (total, available, used)]
        self._set(names, (*values, Missing("not supported: one memory with the host")))


def _sum(told: Sequence[Optional[float]], places: Sequence[int]) -> Optional[float]:
    """The sum of several metrics; None when one of them is not told."""
    parts = [told[place] for place in places]
    return None if None in parts else sum(part or 0 for part in parts)
