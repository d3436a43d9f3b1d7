"""What one machine looked like at one time: the frozen dataclasses of a snapshot. Stdlib only; nothing here reads hardware.

Every number carries its unit in its name. ``None`` = not reported; why, stands in ``missing`` under the field's name.
Times are UTC epoch seconds. A GPU's identity is its UUID, never its index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from gpuwatch.model.fields import counter, fact, gauge, nested

SCHEMA = 1
"""Version of the snapshot's layout. A hub reads this one and the two before it."""

Number = Optional[float]


@dataclass(frozen=True)
class ContainerRef:
    """The container a process runs in."""

    runtime: str = fact("docker, podman, containerd, crio, lxc", "")
    id: str = fact("the runtime's id of the container", "")
    name: str | None = fact("the container's name where the runtime tells it")
    pod: str | None = fact("Kubernetes pod uid")


@dataclass(frozen=True)
class ProcessReading:
    """One process on one GPU. A process on two GPUs appears on both; host CPU and memory are those of the whole process."""

    pid: int = fact("process id on the host", 0, group="live")
    started_at: float | None = fact("when the process started", group="live")
    user: str | None = fact("name of the owner; the uid as text where no name is known", group="live")
    name: str | None = fact("the kernel's short name of the process (comm)", group="live")
    command: str | None = fact("command line, arguments joined by spaces, at most 500 characters", group="live")
    kind: str = fact("C compute, G graphics, C+G both, M MPS client", "C", group="live")
    container: ContainerRef | None = fact("container it runs in", group="live")
    job: str | None = fact("Slurm job id", group="live")
    gpu_instance: int | None = fact("MIG GPU instance id", group="live")
    compute_instance: int | None = fact("MIG compute instance id", group="live")
    gpu_memory_bytes: Number = gauge("GPU memory held")
    sm_percent: Number = gauge("share of the GPU's SMs used, where the driver tells it")
    cpu_percent: Number = gauge("host CPU, 100 = one core")
    host_memory_bytes: Number = gauge("resident host memory", group="status")


@dataclass(frozen=True)
class MigReading:
    """One MIG slice of a GPU."""

    uuid: str = fact("UUID of the MIG device", "", group="status")
    index: int = fact("number of the slice on its GPU", 0, group="status")
    profile: str | None = fact("name of the slice such as 3g.40gb", group="status")
    gpu_instance: int | None = fact("GPU instance id", group="status")
    compute_instance: int | None = fact("compute instance id", group="status")
    memory_used_bytes: Number = gauge("memory used in the slice")
    memory_total_bytes: Number = gauge("memory of the slice")
    sm_activity_percent: Number = gauge("share of time with work on the slice's SMs (GPM)")

    def holds(self, process: ProcessReading) -> bool:
        """The process runs in this slice, as far as the driver tells instances."""
        if process.gpu_instance is None or process.gpu_instance != self.gpu_instance:
            return False
        return None in (process.compute_instance, self.compute_instance) or process.compute_instance == self.compute_instance


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one time. A lost GPU keeps its identity, has ``error`` set and every number None."""

    uuid: str = fact("UUID of the GPU", "")
    index: int = fact("NVML's number of the GPU on its host", 0)
    name: str | None = fact("product name")
    minor_number: int | None = fact("N of /dev/nvidiaN")
    pci_bus_id: str | None = fact("PCI address, domain:bus:device.function")
    serial: str | None = fact("serial number of the board")
    vbios_version: str | None = fact("VBIOS version")
    cuda_capability: str | None = fact("CUDA compute capability such as 9.0")
    error: str | None = fact("why the GPU does not answer (lost), else None", group="live")
    error_since_at: float | None = fact("since when the GPU does not answer", group="live")
    missing: Mapping[str, str] = fact("why a field is None, by field name", {}, group="live")
    unified_memory: bool = fact("GPU and host share one memory", False)
    numa_node: int | None = fact("number of the NUMA node that the GPU's memory is, where the system manages it (GH200, GB200)")
    memory_used_bytes: Number = gauge("memory in use by processes, without what the driver reserves")
    memory_reserved_bytes: Number = gauge("memory the driver keeps for itself")
    memory_free_bytes: Number = gauge("memory that can be allocated")
    memory_total_bytes: Number = gauge("memory of the card", group="live")
    utilization_percent: Number = gauge("share of time with a kernel running")
    memory_utilization_percent: Number = gauge("share of time the memory controller was busy")
    encoder_percent: Number = gauge("video encoder utilization", group="status")
    decoder_percent: Number = gauge("video decoder utilization", group="status")
    sm_activity_percent: Number = gauge("share of SM time with work, from GPM", group="status")
    memory_activity_percent: Number = gauge("share of peak memory bandwidth, from GPM", group="status")
    graphics_activity_percent: Number = gauge("share of time the compute or graphics engine was active, from GPM", group="status")
    tensor_activity_percent: Number = gauge("share of time the tensor cores were active, from GPM", group="status")
    pcie_sent_bytes_per_second: Number = gauge("bytes a second from the GPU over PCIe, from GPM", group="status")
    pcie_received_bytes_per_second: Number = gauge("bytes a second to the GPU over PCIe, from GPM", group="status")
    nvlink_bytes_per_second: Number = gauge("bytes a second over all NVLinks, both ways, from GPM", group="status")
    temperature_celsius: Number = gauge("GPU temperature")
    memory_temperature_celsius: Number = gauge("memory temperature", group="status")
    temperature_slowdown_celsius: Number = gauge("the driver slows the clocks from here", group="identity")
    temperature_shutdown_celsius: Number = gauge("the card shuts down here", group="identity")
    power_watts: Number = gauge("power drawn")
    power_limit_watts: Number = gauge("power limit in force", group="health")
    energy_joules: Number = counter("energy used since the driver was loaded", group="status")
    graphics_clock_mhz: Number = gauge("graphics clock", group="status")
    sm_clock_mhz: Number = gauge("SM clock", group="status")
    memory_clock_mhz: Number = gauge("memory clock", group="status")
    sm_clock_max_mhz: Number = gauge("highest SM clock", group="identity")
    memory_clock_max_mhz: Number = gauge("highest memory clock", group="identity")
    performance_state: Number = gauge("P-state, 0 is the fastest", group="status")
    throttle_mask: Number = gauge("NVML's bits of why clocks are held back; see throttle_reasons()")
    fan_percent: Number = gauge("fastest fan, as the driver intends it", group="status")
    pcie_generation: Number = gauge("PCIe generation in use", group="health")
    pcie_generation_max: Number = gauge("highest PCIe generation of card and slot", group="identity")
    pcie_width: Number = gauge("PCIe lanes in use", group="health")
    pcie_width_max: Number = gauge("most PCIe lanes of card and slot", group="identity")
    pcie_replays: Number = counter("PCIe packets sent again, since the driver was loaded", group="health")
    ecc_corrected_errors: Number = counter("corrected ECC errors in the card's life", group="health")
    ecc_uncorrected_errors: Number = counter("uncorrected ECC errors in the card's life", group="health")
    remapped_rows_corrected: Number = counter("rows remapped after corrected errors", group="health")
    remapped_rows_uncorrected: Number = counter("rows remapped after uncorrected errors", group="health")
    nvlink_active: Number = gauge("NVLinks that are up", group="health")
    nvlink_total: Number = gauge("NVLinks the card has", group="health")
    live_read_at: Number = gauge("when the live fields were read")
    status_read_at: Number = gauge("when the status fields were read")
    health_read_at: Number = gauge("when the health fields were read")
    identity_read_at: Number = gauge("when the identity fields were read")
    ecc_enabled: bool | None = fact("ECC is on", group="health")
    ecc_pending: bool | None = fact("ECC will be on after the next reset of the GPU", group="health")
    remapped_rows_pending: bool | None = fact("a row waits for a reset to be remapped", group="health")
    remapped_rows_failure: bool | None = fact("a row could not be remapped: replace the card", group="health")
    mig_enabled: bool | None = fact("MIG is on; None = the card has no MIG", group="health")
    mig_pending: bool | None = fact("MIG will be on after the next reset of the GPU", group="health")
    compute_mode: str | None = fact("default, exclusive-process or prohibited", group="health")
    persistence_enabled: bool | None = fact("persistence mode is on", group="health")
    mig: Tuple[MigReading, ...] = nested("MIG slices")
    processes: Tuple[ProcessReading, ...] = nested("processes on this GPU, most memory first")

    @property
    def is_memory_of_the_system(self) -> bool:
        """Memory in use tells nobody's work: it is the host's too, or (a NUMA node) pages stay in it after programs end."""
        return self.unified_memory or self.numa_node is not None


@dataclass(frozen=True)
class DiskReading:
    """One mounted file system."""

    mount: str = fact("where it is mounted", "", group="status")
    device: str | None = fact("device or remote address", group="status")
    filesystem: str | None = fact("type of the file system", group="status")
    used_bytes: Number = gauge("bytes in use", group="status")
    total_bytes: Number = gauge("bytes in all", group="status")


@dataclass(frozen=True)
class NetworkReading:
    """One network interface."""

    name: str = fact("name of the interface", "", group="status")
    received_bytes: Number = counter("bytes received since boot", group="status")
    sent_bytes: Number = counter("bytes sent since boot", group="status")


@dataclass(frozen=True)
class LoginReading:
    """One login session."""

    user: str = fact("who", "", group="status")
    terminal: str | None = fact("terminal", group="status")
    origin: str | None = fact("host it came from", group="status")
    since_at: float | None = fact("since when", group="status")


@dataclass(frozen=True)
class HostReading:
    """The machine around the GPUs."""

    os: str | None = fact("name and version of the system")
    kernel: str | None = fact("kernel release")
    architecture: str | None = fact("x86_64, aarch64 ...")
    cpu_model: str | None = fact("CPU product name")
    cpu_count: int | None = fact("logical CPUs")
    boot_at: float | None = fact("when the machine started")
    driver_version: str | None = fact("version of the loaded NVIDIA driver")
    library_version: str | None = fact("version of the installed NVML library")
    cuda_version: str | None = fact("highest CUDA version of the driver")
    ips: Tuple[Tuple[str, str], ...] = fact("[interface, IPv4 address] of interfaces that are up", ())
    missing: Mapping[str, str] = fact("why a field is None, by field name", {}, group="live")
    cpu_percent: Number = gauge("CPU of all cores together, 100 = all busy")
    load_1m: Number = gauge("load average of 1 minute")
    load_5m: Number = gauge("load average of 5 minutes")
    load_15m: Number = gauge("load average of 15 minutes")
    memory_used_bytes: Number = gauge("memory that cannot be given to a new program")
    memory_total_bytes: Number = gauge("memory in all")
    swap_used_bytes: Number = gauge("swap in use")
    swap_total_bytes: Number = gauge("swap in all")
    uptime_seconds: Number = gauge("time since boot")
    live_read_at: Number = gauge("when the live fields were read")
    status_read_at: Number = gauge("when the status fields were read")
    identity_read_at: Number = gauge("when the identity fields were read")
    cores_percent: Tuple[Number, ...] = nested("load of each logical CPU", group="status")
    disks: Tuple[DiskReading, ...] = nested("mounted file systems", group="status")
    networks: Tuple[NetworkReading, ...] = nested("network interfaces", group="status")
    logins: Tuple[LoginReading, ...] = nested("who is logged in", group="status")


@dataclass(frozen=True)
class CollectorStatus:
    """How one part of the collecting went: ``nvml``, ``processes``, ``host`` ... A part that fails reports itself here."""

    name: str = fact("which collector", "")
    ok: bool = fact("it worked", True)
    message: str | None = fact("what is wrong, with both values and the next step")
    since_at: float | None = fact("since when it fails")
    duration_seconds: Number = gauge("how long it took")


@dataclass(frozen=True)
class XidEvent:
    """One line of the driver about an error of a GPU."""

    at: float = fact("when", 0.0)
    code: int = fact("Xid number; 79 = fallen off the bus", 0)
    pci_bus_id: str | None = fact("PCI address of the GPU")
    pid: int | None = fact("process the driver names")
    message: str | None = fact("rest of the line, at most 200 characters")


@dataclass(frozen=True)
class Snapshot:
    """All readings of one node at one time."""

    taken_at: float = gauge("when the reading began, by the node's clock")
    hostname: str = fact("the machine's own name", "")
    version: str = fact("gpuwatch version of the node; empty = another program told, which collectors names", "")
    schema: int = fact("layout version", SCHEMA)
    interval_seconds: float = fact("time between two samples", 4.0)
    simulated: bool = fact("the GPUs are simulated (demo)", False)
    host: HostReading = nested("the machine", HostReading())
    gpus: Tuple[GpuReading, ...] = nested("GPUs, in NVML's order; lost ones stay in the list")
    collectors: Tuple[CollectorStatus, ...] = nested("how the collecting went")
    xids: Tuple[XidEvent, ...] = nested("newest Xid events, oldest first, at most 32")


THROTTLE_REASONS: Mapping[int, str] = {
    0x001: "gpu idle",
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal (software)",
    0x040: "thermal (hardware)",
    0x080: "power brake",
    0x100: "display clocks",
}
"""Bits of nvmlClocksEventReasons (nvml.h)."""

THROTTLE_ALARMS = 0x008 | 0x020 | 0x040 | 0x080
"""Bits that mean trouble; idle, application clocks and the power cap are normal."""


def throttle_reasons(mask: Number) -> tuple[str, ...]:
    """Words for the bits of ``throttle_mask``; empty for None."""
    bits = int(mask or 0)
    return tuple(word for bit, word in THROTTLE_REASONS.items() if bits & bit)
