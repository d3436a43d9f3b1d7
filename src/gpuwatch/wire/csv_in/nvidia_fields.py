"""Which field of ``nvidia-smi --query-gpu`` is which of ours, in which unit. Data; names as ``nvidia-smi --help-query-gpu`` lists them.

Checked against logs of all fields of drivers 590 and 595; older spellings (``clocks.gr``, ``clocks_throttle_reasons``) are those of its help.
"""

from __future__ import annotations

from typing import Mapping, Tuple

from gpuwatch.model.units import MIB

TIMESTAMP = "timestamp"
UUIDS = ("uuid", "gpu_uuid")
BUS_IDS = ("pci.bus_id", "gpu_bus_id")
NAMES = ("name", "gpu_name")
INDEXES = ("index",)
HOSTS = ("hostname",)

NUMBERS: Mapping[str, Tuple[str, float]] = {
    "utilization.gpu": ("utilization_percent", 1.0),
    "utilization.memory": ("memory_utilization_percent", 1.0),
    "utilization.encoder": ("encoder_percent", 1.0),
    "utilization.decoder": ("decoder_percent", 1.0),
    "memory.used": ("memory_used_bytes", MIB),
    "memory.free": ("memory_free_bytes", MIB),
    "memory.total": ("memory_total_bytes", MIB),
    "memory.reserved": ("memory_reserved_bytes", MIB),
    "temperature.gpu": ("temperature_celsius", 1.0),
    "temperature.memory": ("memory_temperature_celsius", 1.0),
    "power.draw": ("power_watts", 1.0),
    "power.draw.instant": ("power_watts", 1.0),
    "power.draw.average": ("power_watts", 1.0),
    "enforced.power.limit": ("power_limit_watts", 1.0),
    "power.limit": ("power_limit_watts", 1.0),
    "clocks.current.graphics": ("graphics_clock_mhz", 1.0),
    "clocks.gr": ("graphics_clock_mhz", 1.0),
    "clocks.current.sm": ("sm_clock_mhz", 1.0),
    "clocks.sm": ("sm_clock_mhz", 1.0),
    "clocks.current.memory": ("memory_clock_mhz", 1.0),
    "clocks.mem": ("memory_clock_mhz", 1.0),
    "clocks.max.sm": ("sm_clock_max_mhz", 1.0),
    "clocks.max.memory": ("memory_clock_max_mhz", 1.0),
    "clocks.max.mem": ("memory_clock_max_mhz", 1.0),
    "fan.speed": ("fan_percent", 1.0),
    "pcie.link.gen.current": ("pcie_generation", 1.0),
    "pcie.link.gen.max": ("pcie_generation_max", 1.0),
    "pcie.link.width.current": ("pcie_width", 1.0),
    "pcie.link.width.max": ("pcie_width_max", 1.0),
    "ecc.errors.corrected.aggregate.total": ("ecc_corrected_errors", 1.0),
    "ecc.errors.uncorrected.aggregate.total": ("ecc_uncorrected_errors", 1.0),
    "remapped_rows.correctable": ("remapped_rows_corrected", 1.0),
    "remapped_rows.uncorrectable": ("remapped_rows_uncorrected", 1.0),
}
"""Field: (ours, what one is worth under ``nounits``). Where several say the same, the first that is in the log and has a value counts."""

PSTATE = "pstate"
MASKS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
REASONS: Mapping[str, int] = {
    "gpu_idle": 0x001,
    "applications_clocks_setting": 0x002,
    "sw_power_cap": 0x004,
    "hw_slowdown": 0x008,
    "sync_boost": 0x010,
    "sw_thermal_slowdown": 0x020,
    "hw_thermal_slowdown": 0x040,
    "hw_power_brake_slowdown": 0x080,
}
"""Last word of a column ``clocks_event_reasons.*`` that says Active or Not Active: its bit. Used when all bits that alarm are in the log."""
REASON_PREFIXES = ("clocks_event_reasons.", "clocks_throttle_reasons.")

PIDS = ("pid",)
PROCESS_NAMES = ("process_name", "name")
PROCESS_MEMORY = ("used_gpu_memory", "used_memory")
"""Fields of ``--query-compute-apps``."""

IDENTITY = frozenset((TIMESTAMP, *UUIDS, *BUS_IDS, *NAMES, *INDEXES, *HOSTS))
KNOWN = frozenset((*IDENTITY, *NUMBERS, PSTATE, *MASKS, *PIDS, *PROCESS_NAMES, *PROCESS_MEMORY)) | {
    prefix + reason for prefix in REASON_PREFIXES for reason in REASONS
}
"""All fields that are read."""
ALSO = frozenset((
    "count", "serial", "gpu_serial", "driver_version", "vbios_version", "compute_mode", "persistence_mode", "display_mode", "display_active",
    "compute_cap", "ecc.mode.current", "mig.mode.current", "power.management", "power.default_limit", "power.min_limit", "power.max_limit",
))  # fmt: skip
"""Some that are not read, but by which a list of fields is known to be one."""
