"""A Jetson's GPU: what its driver tells in /sys and NVML does not. NVML starts there, counts one GPU, and refuses everything or answers garbage.

Work is in the ``load`` of the GPU's device, in parts of a thousand (``/sys/devices/gpu.0``, ``/sys/devices/platform/17000000.gpu`` and so on); heat in the thermal
zone ``gpu-thermal`` (``GPU-therm`` on older ones). Never tried on a Jetson: names and units are those that its users report. JetPack 7 (Thor) has no ``load``.
"""

from __future__ import annotations

import re
from glob import glob
from typing import Callable, Optional, Tuple

from gpuwatch.collect.calls import Missing
from gpuwatch.collect.files import read_bytes, read_text, under

FIELDS = ("utilization_percent", "temperature_celsius")
_DEVICES = ("sys/devices/*", "sys/devices/platform/*", "sys/devices/platform/*/*")
_GPU = re.compile(r"gpu\.0|[0-9a-f]+\.(gpu|gm20b|gp10b|gv11b|ga10b)")
_MOST_CELSIUS = 200.0


class Tegra:
    """Where this Jetson tells its GPU's figures."""

    def __init__(self, root: str) -> None:
        devices = [path for pattern in _DEVICES for path in sorted(glob(under(root, pattern))) if _GPU.fullmatch(path.rsplit("/", 1)[-1])]
        loads = [f"{path}/load" for path in devices if read_bytes(f"{path}/load") is not None]
        zones = sorted(glob(under(root, "sys/class/thermal/thermal_zone*")))
        heats = [f"{path}/temp" for path in zones if (read_text(f"{path}/type") or "").strip().lower().startswith("gpu")]
        self._load, self._heat = (loads or [""])[0], (heats or [""])[0]

    def read(self) -> Tuple[object, object]:
        """Values of ``FIELDS``, or why they are missing."""
        return (
            _number(self._load, "the Jetson's driver has no load file", lambda value: value / 10, 100.0),
            _number(self._heat, "the Jetson's kernel has no thermal zone of the GPU", lambda value: value / 1000, _MOST_CELSIUS),
        )


def find(root: str) -> Optional[Tegra]:
    """The Jetson that this machine is; None on all others."""
    compatible = read_bytes(under(root, "proc/device-tree/compatible")) or b""
    return Tegra(root) if b"nvidia,tegra" in compatible or read_bytes(under(root, "etc/nv_tegra_release")) is not None else None


def _number(path: str, why_not: str, meant: Callable[[int], float], most: float) -> object:
    if not path:
        return Missing(f"not reported: {why_not}")
    text = (read_text(path) or "").strip()
    if not (text.isascii() and text.isdigit()) or meant(int(text[:12])) > most:
        return Missing(f"not available: {path.rsplit('/', 1)[-1]} says {text[:20]!r}" if text else "not available: it cannot be read")
    value = meant(int(text))
    return int(value) if value == int(value) else value
