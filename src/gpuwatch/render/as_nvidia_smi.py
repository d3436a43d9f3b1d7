"""A CSV as ``nvidia-smi --query-gpu=... --format=csv`` prints it, for scripts that read that. Pure.

Of a host without fresh readings there is no line: the format cannot say that numbers are old.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Callable, Optional

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.as_csv import harmless
from gpuwatch.render.prometheus_rows import full_pci_address
from gpuwatch.render.select import select

MIB = 2**20
NOT_AVAILABLE = "[N/A]"

NUMBERS: tuple[tuple[str, str, str, float], ...] = (
    ("fan.speed", "%", "fan_percent", 1),
    ("temperature.gpu", "", "temperature_celsius", 1),
    ("temperature.memory", "", "memory_temperature_celsius", 1),
    ("utilization.gpu", "%", "utilization_percent", 1),
    ("utilization.memory", "%", "memory_utilization_percent", 1),
    ("utilization.encoder", "%", "encoder_percent", 1),
    ("utilization.decoder", "%", "decoder_percent", 1),
    ("memory.total", "MiB", "memory_total_bytes", MIB),
    ("memory.reserved", "MiB", "memory_reserved_bytes", MIB),
    ("memory.used", "MiB", "memory_used_bytes", MIB),
    ("memory.free", "MiB", "memory_free_bytes", MIB),
    ("power.draw", "W", "power_watts", 1),
    ("enforced.power.limit", "W", "power_limit_watts", 1),
    ("clocks.current.graphics", "MHz", "graphics_clock_mhz", 1),
    ("clocks.current.sm", "MHz", "sm_clock_mhz", 1),
    ("clocks.current.memory", "MHz", "memory_clock_mhz", 1),
    ("clocks.max.sm", "MHz", "sm_clock_max_mhz", 1),
    ("clocks.max.memory", "MHz", "memory_clock_max_mhz", 1),
    ("pcie.link.gen.current", "", "pcie_generation", 1),
    ("pcie.link.gen.max", "", "pcie_generation_max", 1),
    ("pcie.link.width.current", "", "pcie_width", 1),
    ("pcie.link.width.max", "", "pcie_width_max", 1),
    ("ecc.errors.corrected.aggregate.total", "", "ecc_corrected_errors", 1),
    ("ecc.errors.uncorrected.aggregate.total", "", "ecc_uncorrected_errors", 1),
    ("remapped_rows.correctable", "", "remapped_rows_corrected", 1),
    ("remapped_rows.uncorrectable", "", "remapped_rows_uncorrected", 1),
)
"""(nvidia-smi's field, its unit, ours, what one of its unit is in ours)."""

_TEXTS = ("timestamp", "driver_version", "index", "name", "serial", "uuid", "pci.bus_id", "vbios_version", "compute_cap", "pstate",
          "clocks_event_reasons.active")  # fmt: skip
HEAD = ", ".join([*_TEXTS, *(f"{field} [{unit}]" if unit else field for field, unit, _, _ in NUMBERS), "hostname"]) + "\n"
"""The first line. nvidia-smi itself has had ``hostname`` since driver 595."""


def cluster_nvidia_smi(cluster: ClusterNow, options: ViewOptions) -> str:
    """A line for each GPU that the options leave."""
    return HEAD + _lines(cluster, select(cluster, options))


def host_nvidia_smi(cluster: ClusterNow, node: NodeState) -> str:
    """The GPUs of one host."""
    return HEAD + _lines(cluster, [(node, node.gpus)])


def _lines(cluster: ClusterNow, rows: Iterable[tuple[NodeState, tuple[GpuView, ...]]]) -> str:
    zone = words.zone_of(cluster.timezone)
    return "".join([_line(node, view.reading, zone) for node, gpus in rows if node.status == "up" for view in gpus])


def _line(node: NodeState, gpu: GpuReading, zone: tzinfo) -> str:
    snapshot = node.snapshot
    assert snapshot is not None, "a node that is up has a snapshot"
    texts = (
        _time(gpu.live_read_at or snapshot.taken_at, zone), snapshot.host.driver_version, str(gpu.index), gpu.name, gpu.serial, gpu.uuid,
        full_pci_address(gpu.pci_bus_id), gpu.vbios_version, gpu.cuda_capability, _written(gpu.performance_state, "P{:.0f}".format),
        _written(gpu.throttle_mask, lambda mask: f"0x{int(mask):016X}"),
    )  # fmt: skip
    numbers = [_number(getattr(gpu, field), unit, worth) for _, unit, field, worth in NUMBERS]
    return ", ".join([*map(_text, texts), *numbers, _text(node.name)]) + "\n"


def _time(at: Optional[float], zone: tzinfo) -> Optional[str]:
    """``2026/11/22 13:24:15.652``, in the zone of the hub as nvidia-smi has that of its host."""
    return None if at is None else datetime.fromtimestamp(at, zone).strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]


def _text(text: Optional[str]) -> str:
    """nvidia-smi knows no quotation marks, so there is no comma in a cell."""
    return harmless(text).replace(",", ";") or NOT_AVAILABLE


def _written(value: Optional[float], write: Callable[[float], str]) -> Optional[str]:
    return None if value is None else write(value)


def _number(value: Optional[float], unit: str, worth: float) -> str:
    if value is None:
        return NOT_AVAILABLE
    shown = f"{value:.2f}" if unit == "W" else f"{value / worth:.0f}"
    return f"{shown} {unit}" if unit else shown
