"""Which of a reading's fields becomes which Prometheus metric: dcgm-exporter's name where it has one, else ``gpuwatch_*`` in base units. Pure.

Names, types and units of dcgm-exporter's default counters: its ``etc/default-counters.csv`` (version 4.8 and before). The others are made
from the fields of ``model``: their names, kinds and help. The tables of ``docs/prometheus.md`` are made from here.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Callable, NamedTuple, Optional

from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import CollectorStatus, DiskReading, GpuReading, HostReading, MigReading, NetworkReading, ProcessReading

NULL = "null"
"""How a value that is not reported stands among the others, until its line is left out."""

Convert = Callable[[str], str]
"""A number as JSON writes it -> the number of the metric's unit."""


class Family(NamedTuple):
    """One metric."""

    name: str
    kind: str
    """gauge or counter."""
    help: str
    field: str
    """The field of the reading it is made from."""
    convert: Optional[Convert] = None
    """None = as it is."""

    def head(self, openmetrics: bool) -> str:
        """HELP and TYPE. OpenMetrics names a counter without ``_total``, and takes none that has no such ending for one."""
        name, kind = self.name, self.kind
        if openmetrics and kind == "counter":
            name, kind = (name[:-6], kind) if name.endswith("_total") else (name, "unknown")
        return f"# HELP {name} {self.help}\n# TYPE {name} {kind}\n"


def scaled(factor: float) -> Convert:
    """Multiply; whole numbers without a point."""
    digits = max(0, 9 - math.floor(math.log10(factor)))

    @lru_cache(maxsize=8192)
    def convert(text: str) -> str:
        return text if text == NULL else written(round(float(text) * factor, digits))

    return convert


def thousandfold(text: str) -> str:
    """``scaled(1000.0)`` of numbers that hardly come twice: those of counters."""
    return f"{text}000" if text.isdigit() and text != "0" else "0" if text in ("0", "0.0") else _MILLI(text)


def mebibytes(text: str) -> str:
    """Bytes as whole MiB, rounded down: dcgm-exporter has no fractions."""
    if text.isdigit():
        return str(int(text) >> 20)
    return text if text == NULL else str(int(float(text)) >> 20)


_MILLI = scaled(1000.0)


def written(value: Optional[float]) -> str:
    """A number; whole ones without a point. ``NULL`` for None and what is no number."""
    if value is None or not math.isfinite(value):
        return NULL
    return str(int(value)) if value == int(value) else repr(value)


RATIO, HERTZ, MEGA = scaled(0.01), scaled(1e6), scaled(1e-6)

# ---- dcgm-exporter's default counters. Where `field` is a text that is no field of GpuReading, as_prometheus makes the value.
DCGM = (
    Family("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock (in MHz)", "sm_clock_mhz"),
    Family("DCGM_FI_DEV_MEM_CLOCK", "gauge", "memory clock (in MHz)", "memory_clock_mhz"),
    Family("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "memory temperature (in C)", "memory_temperature_celsius"),
    Family("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C)", "temperature_celsius"),
    Family("DCGM_FI_DEV_POWER_USAGE", "gauge", "power drawn (in W)", "power_watts"),
    Family("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "energy used since the driver was loaded (in mJ)", "energy_joules", thousandfold),
    Family("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "PCIe packets sent again, since the driver was loaded", "pcie_replays"),
    Family("DCGM_FI_DEV_GPU_UTIL", "gauge", "share of time with a kernel running (in %)", "utilization_percent"),
    Family("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "share of time the memory controller was busy (in %)", "memory_utilization_percent"),
    Family("DCGM_FI_DEV_ENC_UTIL", "gauge", "video encoder utilization (in %)", "encoder_percent"),
    Family("DCGM_FI_DEV_DEC_UTIL", "gauge", "video decoder utilization (in %)", "decoder_percent"),
    Family("DCGM_FI_DEV_XID_ERRORS", "gauge", "number of the newest Xid error; 0 = none that the log still has", "xids"),
    Family("DCGM_FI_DEV_FB_FREE", "gauge", "memory that can be allocated (in MiB)", "memory_free_bytes", mebibytes),
    Family("DCGM_FI_DEV_FB_USED", "gauge", "memory in use by processes (in MiB)", "memory_used_bytes", mebibytes),
    Family("DCGM_FI_DEV_FB_RESERVED", "gauge", "memory the driver keeps for itself (in MiB)", "memory_reserved_bytes", mebibytes),
    Family("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "counter", "traffic of all NVLinks, both ways, from GPM (in MB/s: no counter, but dcgm-exporter calls it one)", "nvlink_bytes_per_second", MEGA),
    Family("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "rows remapped after uncorrected errors", "remapped_rows_uncorrected"),
    Family("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "rows remapped after corrected errors", "remapped_rows_corrected"),
    Family("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "1 = a row could not be remapped: replace the card", "remapped_rows_failure"),
    Family("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "share of time the compute or graphics engine was active, from GPM (ratio)", "graphics_activity_percent", RATIO),
    Family("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "share of time the tensor cores were active, from GPM (ratio)", "tensor_activity_percent", RATIO),
    Family("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "share of peak memory bandwidth, from GPM (ratio)", "memory_activity_percent", RATIO),
    Family("DCGM_FI_PROF_PCIE_TX_BYTES", "gauge", "bytes a second from the GPU over PCIe, from GPM", "pcie_sent_bytes_per_second"),
    Family("DCGM_FI_PROF_PCIE_RX_BYTES", "gauge", "bytes a second to the GPU over PCIe, from GPM", "pcie_received_bytes_per_second"),
)
"""In dcgm-exporter's units, which are not always base units."""

DCGM_LABELS = {"DCGM_FI_DRIVER_VERSION": "driver_version"}
"""Default counters of type ``label``: on each line of the others. -> field of HostReading."""

DCGM_NOT = {
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS": "a matter of guests with a virtual GPU, which gpuwatch does not read",
}
"""Default counters that are not answered, and why."""


# ---- the rest, made from the fields

_UNITS: tuple[tuple[str, str, Optional[Convert]], ...] = (
    ("_percent", "_ratio", RATIO),
    ("_mhz", "_hertz", HERTZ),
    ("_at", "_timestamp_seconds", None),
)
"""(end of a field's name, the base unit's, how to get there). Bytes, seconds, watts, joules and degrees Celsius are base units already."""


_RENAMED = {"nvlink_total": "nvlinks", "nvlink_active": "nvlinks_active"}
"""In Prometheus ``_total`` is the end of counters."""


def family(prefix: str, field: str, kind: str, help: str) -> Family:
    """A field as a metric of base units."""
    name, convert = _RENAMED.get(field, field), None
    for end, base, how in _UNITS:
        if field.endswith(end):
            name, convert = field[: -len(end)] + base, how
            help = help.replace(", 100 = all busy", "").replace(", 100 = one core", ", 1 = one core")
    ending = "_total" if kind == "counter" else ""
    return Family(f"gpuwatch_{prefix}_{name}{ending}", kind, help.partition("; see ")[0], field, convert)


def families(prefix: str, reading: type, leave_out: tuple[str, ...] = ()) -> tuple[Family, ...]:
    """A metric for each number of a reading, but for those that are left out and for when groups of a GPU's fields were read."""
    return tuple(
        family(prefix, name, kind, help)
        for name, kind, help, _ in describe(reading)
        if kind in ("gauge", "counter") and name not in leave_out and not name.endswith("_read_at")
    )


def _flags(prefix: str, reading: type, names: tuple[str, ...], leave_out: tuple[str, ...]) -> tuple[Family, ...]:
    helps = {name: help for name, _, help, _ in describe(reading)}
    return tuple(Family(f"gpuwatch_{prefix}_{name}", "gauge", f"1 = {helps[name].partition(';')[0]}", name) for name in names if name not in leave_out)


_IN_DCGM = tuple(family.field for family in DCGM)
GPU = (
    *families("gpu", GpuReading, _IN_DCGM),
    *_flags("gpu", GpuReading, ("ecc_enabled", "ecc_pending", "remapped_rows_pending", "mig_enabled", "mig_pending", "persistence_enabled", "unified_memory"), _IN_DCGM),
    Family("gpuwatch_gpu_up", "gauge", "1 = the GPU answers, 0 = it is lost", "error"),
    Family("gpuwatch_gpu_processes", "gauge", "how many processes are on the GPU", "processes"),
)
GPU_INFO = Family("gpuwatch_gpu_info", "gauge", "always 1; what the GPU is, in labels", "")
GPU_STATE = Family("gpuwatch_gpu_state", "gauge", "always 1; the label state says what the GPU is doing (not on a node)", "state")
MIG = families("mig", MigReading)
NODE = (
    Family("gpuwatch_node_reading_timestamp_seconds", "gauge", "when the newest reading began, by the node's clock", "taken_at"),
    Family("gpuwatch_node_sample_interval_seconds", "gauge", "time between two samples", "interval_seconds"),
    Family("gpuwatch_node_clock_skew_seconds", "gauge", "the node's clock minus the hub's (not on a node)", "clock_skew_seconds"),
    Family("gpuwatch_node_gpus", "gauge", "how many GPUs the node has, lost ones included", "gpus"),
    *families("host", HostReading),
)
NODE_UP = Family("gpuwatch_node_up", "gauge", "1 = there are fresh readings; 0 = there are none, so there are no other series of the node", "status")
NODE_INFO = Family("gpuwatch_node_info", "gauge", "always 1; versions of the node, in labels", "")
DISK = families("disk", DiskReading)
NETWORK = families("network", NetworkReading)
COLLECTOR = (
    Family("gpuwatch_collector_up", "gauge", "1 = this part of the collecting worked", "ok"),
    *families("collector", CollectorStatus),
)
PROCESS = families("process", ProcessReading)
REFUSED = Family("gpuwatch_refused_total", "counter", "requests that were not let in since this gpuwatch started, by reason: wrong passwords and signatures, old ones, too many tries", "")
BUILD = Family("gpuwatch_build_info", "gauge", "always 1; version of the gpuwatch that answers", "")

ALL = (BUILD, REFUSED, NODE_UP, NODE_INFO, *NODE, *DCGM, GPU_INFO, GPU_STATE, *GPU, *MIG, *DISK, *NETWORK, *COLLECTOR, *PROCESS)
"""Every metric there is."""


def docs_tables() -> dict[str, str]:
    """The tables of ``docs/prometheus.md``: name -> Markdown."""
    mapped = [(f"`{one.name}`", one.kind, one.help, f"`{one.field}`") for one in DCGM]
    mapped += [(f"`{name}`", "label", "on each line of the others", f"`{field}`") for name, field in DCGM_LABELS.items()]
    own = [(f"`{one.name}`", one.kind, one.help) for one in ALL if one not in DCGM]
    return {
        "dcgm": _table(("metric", "type", "what it holds", "our field"), mapped),
        "not": _table(("metric", "why not"), [(f"`{name}`", why) for name, why in DCGM_NOT.items()]),
        "own": _table(("metric", "type", "what it holds"), own),
    }


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))
