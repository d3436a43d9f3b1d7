"""MIG slices of one GPU: found anew with the status group (they come and go), their memory read at each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.calls import Calls, Missing, memory_values
from gpuwatch.collect.gpm import SM_UTIL, Gpm
from gpuwatch.collect.nvml import Handle
from gpuwatch.model.snapshot import MigReading


@dataclass
class _Slice:
    """One MIG device while it exists."""

    reading: MigReading
    handle: Handle
    activity: Optional[float] = None


class MigSlices:
    """The slices of one GPU. A slice that was made anew has a new UUID and starts without a past."""

    def __init__(self, calls: Calls, handle: Handle) -> None:
        self._calls, self._handle = calls, handle
        self._slices: List[_Slice] = []
        self._gpm: Dict[int, Gpm] = {}

    def find(self, gpm: bool) -> None:
        """Look which slices there are; with ``gpm`` also read their activity since the last time."""
        code, most = self._calls.most_slices(self._handle)
        self._slices = [part for part in (self._at(index) for index in range(0 if code else most)) if part is not None]
        instances = {part.reading.gpu_instance for part in self._slices if part.reading.gpu_instance is not None}
        for gone in set(self._gpm) - instances:
            self._gpm.pop(gone).close()
        if gpm:
            shares = {instance: self._activity(instance) for instance in sorted(instances)}
            for part in self._slices:
                part.activity = shares.get(part.reading.gpu_instance) if part.reading.gpu_instance is not None else None

    def read(self) -> Tuple[MigReading, ...]:
        """The slices with their memory now."""
        return tuple(self._read(part) for part in self._slices)

    def close(self) -> None:
        """Free what the driver keeps for the slices."""
        while self._gpm:
            self._gpm.popitem()[1].close()

    def _at(self, index: int) -> Optional[_Slice]:
        calls = self._calls
        code, handle = calls.functions.mig_device(self._handle, index)
        uuid_code, uuid = (code, None) if code else calls.uuid(handle)
        if uuid_code or not uuid:
            return None
        name_code, name = calls.name(handle)
        reading = MigReading(
            uuid=uuid,
            index=index,
            profile=_profile(name) if not name_code else None,
            gpu_instance=_known(calls.gpu_instance(handle)),
            compute_instance=_known(calls.compute_instance(handle)),
        )
        return _Slice(reading, handle)

    def _activity(self, gpu_instance: int) -> Optional[float]:
        gpm = self._gpm.setdefault(gpu_instance, Gpm(self._calls.functions, self._handle, (SM_UTIL,), gpu_instance))
        _, shares = gpm.read()
        return shares[0] if shares else None

    def _read(self, part: _Slice) -> MigReading:
        code, raw = self._calls.memory(part.handle)
        used, _, _, total = memory_values(raw) if code == nvml.SUCCESS else (None, None, None, None)
        found = part.reading
        return MigReading(
            uuid=found.uuid,
            index=found.index,
            profile=found.profile,
            gpu_instance=found.gpu_instance,
            compute_instance=found.compute_instance,
            memory_used_bytes=None if isinstance(used, Missing) else used,
            memory_total_bytes=total,
            sm_activity_percent=part.activity,
        )


def _profile(name: str) -> Optional[str]:
    """``3g.40gb`` of ``NVIDIA H100 80GB HBM3 MIG 3g.40gb``."""
    _, found, profile = name.rpartition(" MIG ")
    return profile.strip() or None if found else None


def _known(result: Tuple[int, int]) -> Optional[int]:
    code, value = result
    return None if code else value
