"""nvitop-exporter: its page as readings of GPUs, their processes and the machine. Pure.

Names, labels and units as recorded from nvitop-exporter 1.7.2: MiB, percent, watts, degrees, MHz; NaN is what it could not read. Must never
add its three answers about NVLink, which are one traffic counted three ways.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Tuple

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import DiskReading, GpuReading, HostReading, NetworkReading, Number, ProcessReading
from gpuwatch.model.units import MIB
from gpuwatch.wire.exporters import page
from gpuwatch.wire.exporters.page import Page, Series
from gpuwatch.wire.foreign import Request, Told, made_up_uuid, not_told, number, snapshot_of, text

GPU: Mapping[str, Tuple[str, float]] = {
    "gpu_utilization_Percentage": ("utilization_percent", 1),
    "gpu_memory_utilization_Percentage": ("memory_utilization_percent", 1),
    "gpu_encoder_utilization_Percentage": ("encoder_percent", 1),
    "gpu_decoder_utilization_Percentage": ("decoder_percent", 1),
    "gpu_memory_total_MiB": ("memory_total_bytes", MIB),
    "gpu_memory_used_MiB": ("memory_used_bytes", MIB),
    "gpu_memory_free_MiB": ("memory_free_bytes", MIB),
    "gpu_clock_sm_MHz": ("sm_clock_mhz", 1),
    "gpu_clock_memory_MHz": ("memory_clock_mhz", 1),
    "gpu_clock_graphics_MHz": ("graphics_clock_mhz", 1),
    "gpu_power_usage_W": ("power_watts", 1),
    "gpu_power_limit_W": ("power_limit_watts", 1),
    "gpu_temperature_C": ("temperature_celsius", 1),
    "gpu_fan_speed_Percentage": ("fan_percent", 1),
    "gpu_pcie_tx_throughput_MiBps": ("pcie_sent_bytes_per_second", MIB),
    "gpu_pcie_rx_throughput_MiBps": ("pcie_received_bytes_per_second", MIB),
}
"""Metric: (field, our unit in terms of its)."""
PROCESS: Mapping[str, Tuple[str, float]] = {
    "process_gpu_memory_MiB": ("gpu_memory_bytes", MIB),
    "process_gpu_sm_utilization_Percentage": ("sm_percent", 1),
    "process_cpu_percent_Percentage": ("cpu_percent", 1),
    "process_rss_memory_MiB": ("host_memory_bytes", MIB),
}
HOST: Mapping[str, Tuple[str, float]] = {
    "host_uptime_Second": ("uptime_seconds", 1),
    "host_cpu_percent_Percentage": ("cpu_percent", 1),
    "host_virtual_memory_total_MiB": ("memory_total_bytes", MIB),
    "host_virtual_memory_used_MiB": ("memory_used_bytes", MIB),
    "host_swap_memory_total_MiB": ("swap_total_bytes", MIB),
    "host_swap_memory_used_MiB": ("swap_used_bytes", MIB),
    "host_load_average_1m_Percentage": ("load_1m", 1),
    "host_load_average_5m_Percentage": ("load_5m", 1),
    "host_load_average_15m_Percentage": ("load_15m", 1),
}
"""It calls the load average a percentage; it is the load average."""
DISK = {"host_disk_usage_total_MiB": "total_bytes", "host_disk_usage_used_MiB": "used_bytes"}
NETWORK = {"host_net_io_tx_data_MiB": "sent_bytes", "host_net_io_rx_data_MiB": "received_bytes"}
INFO, PROCESS_INFO, STARTED = "nvitop_info", "process_info_info", "process_running_time_Second"
_WANTED: FrozenSet[str] = frozenset((*GPU, *PROCESS, *HOST, *DISK, *NETWORK, INFO, PROCESS_INFO, STARTED))
SAME_START_SECONDS = 5
MOST_COMMAND = 500
MOST_PROCESSES = 4096
MOST_LISTED = 64
"""Disks and interfaces."""


def request(target: Target, password: str) -> Request:
    """``GET /metrics``, without a password."""
    return page.request()


Starts = Mapping[Tuple[str, str], int]
"""When each process started, by GPU and pid, as first worked out: its running time is told, and is a little late each time."""


def read(body: bytes, target: Target, now: float, memory: Optional[Starts] = None) -> Told:
    """What the page tells. Raises WireError for a page of something else."""
    found = page.parse(body, _WANTED)
    if INFO not in found:
        raise WireError("The page has no metric nvitop_info.", "Next: is it nvitop-exporter that listens there?")
    info = found[INFO][0].labels
    starts = _starts(found, now, memory or {})
    gpus = _gpus(found, starts, target)
    return Told(snapshot_of(target, now, gpus, _host(found, info, target), text(info.get("hostname")) or ""), starts)


def _starts(found: Page, now: float, before: Starts) -> Starts:
    starts: Dict[Tuple[str, str], int] = {}
    for series in found.get(STARTED, ()):
        key, at = _key(series), round(now - series.value)
        known = before.get(key, at)
        starts[key] = known if abs(known - at) <= SAME_START_SECONDS else at
    return starts


def _value(value: float, factor: float) -> Number:
    scaled = number(value, factor)
    return None if scaled is None else round(scaled) if factor == MIB or scaled == round(scaled) else round(scaled, 3)


def _host(found: Page, info: Mapping[str, str], target: Target) -> HostReading:
    told: Dict[str, Any] = {field: _value(found[name][0].value, factor) for name, (field, factor) in HOST.items() if name in found}
    disks = [DiskReading(mount=mount, **values) for mount, values in _grouped(found, DISK, "mountpoint").items()]
    networks = [NetworkReading(name=name, **values) for name, values in sorted(_grouped(found, NETWORK, "interface").items()) if page.is_network(name)]
    return HostReading(
        driver_version=text(info.get("driver_version")), cuda_version=text(info.get("cuda_driver_version")), disks=tuple(disks[:MOST_LISTED]),
        networks=tuple(networks[:MOST_LISTED]), missing=not_told(target, "logins"), **told,
    )  # fmt: skip


def _grouped(found: Page, fields: Mapping[str, str], label: str) -> Dict[str, Dict[str, Any]]:
    """MiB of several metrics, by one of their labels."""
    grouped: Dict[str, Dict[str, Any]] = {}
    for name, field in fields.items():
        for series in found.get(name, ()):
            key = text(series.labels.get(label))
            if key:
                grouped.setdefault(key, {})[field] = _value(series.value, MIB)
    return grouped


def _gpus(found: Page, starts: Starts, target: Target) -> Tuple[GpuReading, ...]:
    labels: Dict[str, Mapping[str, str]] = {}
    values: Dict[str, Dict[str, Any]] = {}
    for name, (field, factor) in GPU.items():
        for series in found.get(name, ()):
            index = series.labels.get("index", "")
            labels.setdefault(index, series.labels)
            values.setdefault(index, {})[field] = _value(series.value, factor)
    processes = _processes(found, starts)
    made = [_gpu(index, labels[index], values[index], processes.get(index, ()), target) for index in labels if index.isascii() and index.isdigit() and len(index) < 5]
    return tuple(sorted(made, key=lambda gpu: gpu.index))


def _gpu(index: str, labels: Mapping[str, str], values: Dict[str, Any], processes: Tuple[ProcessReading, ...], target: Target) -> GpuReading:
    number_ = int(index)
    uuid = text(labels.get("uuid")) or made_up_uuid(target, number_)
    return GpuReading(uuid=uuid, index=number_, name=text(labels.get("devicename")), processes=processes, missing=not_told(target, "mig_enabled"), **values)


def _processes(found: Page, starts: Starts) -> Dict[str, Tuple[ProcessReading, ...]]:
    """By the GPU's number. Only what ``process_info`` names now: its other lines stay for a while after a process has ended."""
    numbers: Dict[Tuple[str, str], Dict[str, Any]] = {}
    for name, (field, factor) in PROCESS.items():
        for series in found.get(name, ()):
            numbers.setdefault(_key(series), {})[field] = _value(series.value, factor)
    made: Dict[str, List[ProcessReading]] = {}
    for series in found.get(PROCESS_INFO, ())[:MOST_PROCESSES]:
        process = _process(series, numbers.get(_key(series), {}), starts.get(_key(series)))
        if process is not None:
            made.setdefault(series.labels.get("index", ""), []).append(process)
    return {index: tuple(sorted(some, key=lambda one: (-(one.gpu_memory_bytes or 0), one.pid))) for index, some in made.items()}


def _key(series: Series) -> Tuple[str, str]:
    return series.labels.get("index", ""), series.labels.get("pid", "")


def _process(series: Series, numbers: Dict[str, Any], started_at: Optional[float]) -> Optional[ProcessReading]:
    labels = series.labels
    pid = labels.get("pid", "")
    if not (pid.isascii() and pid.isdigit() and len(pid) < 11):
        return None
    user, command = (None if labels.get(name) == "N/A" else text(labels.get(name), MOST_COMMAND) for name in ("username", "command"))
    return ProcessReading(pid=int(pid), started_at=started_at, user=user, command=command, **numbers)
