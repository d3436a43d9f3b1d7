"""MIG slices of one GPU: found anew with the status group (they come and go), their memory read at each sample."""

from __future__ import annotations

from ctypes import c_uint
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.calls import Missing, memory_values
from gpuwatch.collect.gpm import SM_UTIL, Gpm
from gpuwatch.collect.nvml import Device, Read
from gpuwatch.model.snapshot import MigReading


@dataclass
class _Slice:
    """One MIG device while it exists."""

    reading: MigReading
    memory: Read
    activity: Optional[float] = None


class MigSlices:
    """The slices of one GPU. A slice that was made anew has a new UUID and starts without a past."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._slices: List[_Slice] = []
        self._gpm: Dict[int, Gpm] = {}

    def find(self, gpm: bool) -> None:
        """Look which slices there are; with ``gpm`` also read their activity since the last time."""
        code, most = self._device.number("nvmlDeviceGetMaxMigDeviceCount")()
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
        code, device = self._device.mig_device(index)
        if code or device is None:
            return None
        uuid_code, uuid = device.text("nvmlDeviceGetUUID")()
        if uuid_code or not uuid:
            return None
        name_code, name = device.text("nvmlDeviceGetName")()
        reading = MigReading(
            uuid=uuid,
            index=index,
            profile=_profile(name) if not name_code else None,
            gpu_instance=_known(device.number("nvmlDeviceGetGpuInstanceId", kind=c_uint)()),
            compute_instance=_known(device.number("nvmlDeviceGetComputeInstanceId", kind=c_uint)()),
        )
        return _Slice(reading, device.memory())

    def _activity(self, gpu_instance: int) -> Optional[float]:
        gpm = self._gpm.setdefault(gpu_instance, Gpm(self._device, (SM_UTIL,), gpu_instance))
        _, shares = gpm.read()
        return shares[0] if shares else None

    def _read(self, part: _Slice) -> MigReading:
        code, raw = part.memory()
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
