"""Activity and traffic through GPM (GPU performance monitoring, Hopper and newer): what happened between two samples.

GPM needs no rights and costs the GPU nothing worth measuring. Where a card does not offer it the fields stay None: profiling counters, which
disturb the user's own profiler, are never used instead.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, List, Optional, Sequence, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.nvml import Handle, Nvml

SM_UTIL = 2
OF_GPU = {
    "sm_activity_percent": (SM_UTIL,),
    "memory_activity_percent": (10,),
    "graphics_activity_percent": (1,),
    "tensor_activity_percent": (5,),
    "pcie_sent_bytes_per_second": (20,),
    "pcie_received_bytes_per_second": (21,),
    "nvlink_bytes_per_second": (60, 61),
}
"""Field of GpuReading -> metrics of nvml.h whose sum it is."""
_RATES = (20, 21, 60, 61)
"""Metrics in MiB/s; the others are percents."""
_MOST_RATE = 10**8


class _Support(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint), ("supported", ctypes.c_uint)]


# nvmlGpmMetricsGet_t: version, count, two samples, then rows of id, code, value and three texts. Its array has grown with each driver
# (98, 210, 333, 477 rows); the driver touches the first ``count`` only.
_HEAD = struct.Struct("<IIQQ")
_METRIC = struct.Struct("<IId24x")
_ROWS = 512


def is_supported(library: Nvml, handle: Handle) -> int:
    """SUCCESS where the GPU offers GPM, else NVML's code."""
    support = _Support(1, 0)
    code = library.function("nvmlGpmQueryDeviceSupport")(handle, ctypes.byref(support))
    return code or (nvml.SUCCESS if support.supported else nvml.NOT_SUPPORTED)


class Gpm:
    """Activity of one GPU, or of one GPU instance of it. ``close`` gives the driver its memory back."""

    def __init__(self, library: Nvml, handle: Handle, metrics: Sequence[int], gpu_instance: Optional[int] = None) -> None:
        self._nvml, self._handle, self._gpu_instance = library, handle, gpu_instance
        self._sample_get = library.function("nvmlGpmSampleGet" if gpu_instance is None else "nvmlGpmMigSampleGet")
        self._metrics_get = library.function("nvmlGpmMetricsGet")
        self._samples: List[Any] = []
        self._taken = False
        self._count = len(metrics)
        self._limits = [(_MOST_RATE, 2**20) if metric in _RATES else (100, None) for metric in metrics]
        self._get = ctypes.create_string_buffer(_HEAD.size + _ROWS * _METRIC.size)
        for row, metric in enumerate(metrics):
            _METRIC.pack_into(self._get, _HEAD.size + row * _METRIC.size, metric, 0, 0.0)
        self._rows = memoryview(self._get)[_HEAD.size : _HEAD.size + self._count * _METRIC.size]

    def read(self) -> Tuple[int, Optional[List[Optional[float]]]]:
        """(code, percents or bytes a second of the metrics) since the last read; (SUCCESS, None) at the first, which has nothing to compare with.

        A metric is None where the driver does not tell it, or tells what cannot be.
        """
        code = self._allocate() or self._take(self._samples[0])
        if code:
            self._taken = False  # a sample of a slice that was made anew must not be compared with the old one
            return code, None
        answer = self._compare() if self._taken else (nvml.SUCCESS, None)
        self._samples.reverse()
        self._taken = True
        return answer

    def _allocate(self) -> int:
        while len(self._samples) < 2:
            sample = ctypes.c_void_p()
            code = self._nvml.function("nvmlGpmSampleAlloc")(ctypes.byref(sample))
            if code:
                return code
            self._samples.append(sample)
        return nvml.SUCCESS

    def _take(self, sample: Any) -> int:
        if self._gpu_instance is None:
            return self._sample_get(self._handle, sample)
        return self._sample_get(self._handle, ctypes.c_uint(self._gpu_instance), sample)

    def _compare(self) -> Tuple[int, Optional[List[Optional[float]]]]:
        _HEAD.pack_into(self._get, 0, 1, self._count, self._samples[1].value, self._samples[0].value)
        code = self._metrics_get(self._get)
        if code:
            return code, None
        return code, [
            None if failed or not 0.0 <= value <= most else round(value * factor) if factor else round(value, 1)
            for (_, failed, value), (most, factor) in zip(_METRIC.iter_unpack(self._rows), self._limits)
        ]

    def close(self) -> None:
        """Free the samples."""
        free = self._nvml.function("nvmlGpmSampleFree")
        while self._samples:
            free(self._samples.pop())
