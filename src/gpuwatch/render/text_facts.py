"""What the text twins of a host's and of a GPU's page tell beside the rows: labels and values, made from the readings. Pure."""

from __future__ import annotations

from gpuwatch.model.cluster import GpuView, NodeState
from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import GpuReading, HostReading, throttle_reasons
from gpuwatch.render import words
from gpuwatch.render.text_words import UNKNOWN

Cells = list[tuple[str, ...]]

UNITS = (
    ("_bytes_per_second", "GB/s"),
    ("_bytes", "GB"),
    ("_percent", "%"),
    ("_celsius", "C"),
    ("_watts", "W"),
    ("_mhz", "MHz"),
    ("_joules", "J"),
    ("_seconds", "s"),
)
"""The end of a field's name, and the unit as it is printed."""

_IDENTITY = (
    "uuid",
    "pci_bus_id",
    "minor_number",
    "serial",
    "vbios_version",
    "cuda_capability",
    "compute_mode",
    "mig_enabled",
    "mig_pending",
    "ecc_enabled",
    "ecc_pending",
    "persistence_enabled",
    "unified_memory",
    "numa_node",
    "remapped_rows_pending",
    "remapped_rows_failure",
)

CORES_A_LINE = 50


def host_facts(node: NodeState, now: float, zone: str) -> Cells:
    """(label, text) of the machine; what it does not report is left out."""
    if node.snapshot is None:
        return []
    host = node.snapshot.host
    told = (
        ("own name", node.snapshot.hostname),
        ("system", _joined(host.os, host.kernel and f"kernel {host.kernel}", host.architecture)),
        ("processor", _joined(host.cpu_model, host.cpu_count and f"{host.cpu_count} logical CPUs")),
        ("load", _load(host)),
        ("memory", _of(host.memory_used_bytes, host.memory_total_bytes)),
        ("swap", _of(host.swap_used_bytes, host.swap_total_bytes)),
        ("running for", _joined(words.span(host.uptime_seconds), host.boot_at and f"since {words.clock(host.boot_at, now, zone)}")),
        ("driver", _driver(host)),
        ("addresses", ", ".join(f"{name} {ip}" for name, ip in host.ips)),
        ("gpuwatch", node.snapshot.version),
        ("read", "" if node.snapshot.version else words.source_of(node.snapshot)),
        ("comes", "" if node.target.scheme == "http" else words.way_of(node.target)),
        ("clock", _skew(node.clock_skew_seconds)),
    )
    return [(label, words.clean(text)) for label, text in told if text]


def disks(host: HostReading) -> Cells:
    """(mounted at, from, type, used, of) in GB."""
    return [
        (words.clean(disk.mount), words.clean(disk.device), words.clean(disk.filesystem), _gb(disk.used_bytes), _gb(disk.total_bytes))
        for disk in host.disks
    ]


def networks(host: HostReading) -> Cells:
    """(interface, addresses, GB received, GB sent since boot)."""
    return [
        (
            words.clean(net.name),
            words.clean(", ".join(address for name, address in host.ips if name == net.name)),
            _gb(net.received_bytes),
            _gb(net.sent_bytes),
        )
        for net in host.networks
    ]


def cores(host: HostReading) -> Cells:
    """(first core of the line, a digit for each core: tenths of its load), in groups of ten; ``?`` = not reported."""
    digits = "".join("?" if load is None else str(min(9, max(0, int(load // 10)))) for load in host.cores_percent)
    lines = [digits[place : place + CORES_A_LINE] for place in range(0, len(digits), CORES_A_LINE)]
    return [
        (str(number * CORES_A_LINE), " ".join(line[place : place + 10] for place in range(0, len(line), 10)))
        for number, line in enumerate(lines)
    ]


def logins(host: HostReading, now: float, zone: str) -> Cells:
    """(user, terminal, from, since)."""
    return [
        (words.clean(login.user), words.clean(login.terminal), words.clean(login.origin), words.clock(login.since_at, now, zone))
        for login in host.logins
    ]


def troubles(node: NodeState, now: float, zone: str) -> Cells:
    """(when, what, message) of Xid events, newest first, and of parts of the collecting that fail."""
    if node.snapshot is None:
        return []
    parts = [
        (words.clock(part.since_at, now, zone), words.clean(part.name), words.clean(part.message))
        for part in node.snapshot.collectors
        if not part.ok
    ]
    events = [
        (words.clock(event.at, now, zone), f"Xid {event.code}", words.clean(f"{event.pci_bus_id or ''} {event.message or ''}".strip()))
        for event in reversed(node.snapshot.xids)
    ]
    return [*parts, *events]


PROCESS_HEAD = ("PID", "USER", "TYPE", "SINCE", "SM", "CPU", "RAM, GB", "WHERE", "PROGRAM")


def processes(gpu: GpuView, now: float, zone: str) -> Cells:
    """What the rows do not tell of the GPU's processes, under ``PROCESS_HEAD``; ``TYPE`` as NVML has it, ``WHERE`` slice, container and job."""
    slices = {one.gpu_instance: f"{gpu.reading.index}.{one.index}" for one in gpu.reading.mig if one.gpu_instance is not None}
    return [
        (
            str(process.pid),
            words.clean(process.user) or UNKNOWN,
            process.kind,
            words.clock(process.started_at, now, zone) or UNKNOWN,
            _share(process.sm_percent),
            _share(process.cpu_percent),
            _gb(process.host_memory_bytes),
            words.clean(_joined(process.gpu_instance is not None and slices.get(process.gpu_instance), *words.places(process))),
            words.clean(process.name) or UNKNOWN,
        )
        for process in gpu.reading.processes
    ]


def _share(percent: float | None) -> str:
    return UNKNOWN if percent is None else f"{percent:.0f}%"


def gpu_facts(gpu: GpuView, now: float, zone: str) -> Cells:
    """(label, value, note) of every field of the GPU: identity first; why one is unknown stands in the note."""
    reading = gpu.reading
    facts: Cells = [(_label(name), _fact(getattr(reading, name)), words.clean(reading.missing.get(name))) for name in _IDENTITY]
    nobodys = words.unattributed_bytes(reading)
    if nobodys is not None:
        facts.append(("nobody's memory", f"{_gb(nobodys)} GB", "in use, but by no process that is listed"))
    numbers = [name for name, kind, _, _ in describe(GpuReading) if kind in ("gauge", "counter")]
    for name in numbers:
        note = ", ".join(throttle_reasons(reading.throttle_mask)) if name == "throttle_mask" else ""
        reason = words.clean(reading.missing.get(name))
        facts.append((_label(name), _value(name, getattr(reading, name), now, zone), reason or note))
    return facts


def _label(name: str) -> str:
    for end in (*(end for end, _ in UNITS), "_at"):
        if name.endswith(end):
            return name[: -len(end)].replace("_", " ")
    return name.replace("_", " ")


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return UNKNOWN if value is None else words.clean(str(value))


def _value(name: str, value: float | None, now: float, zone: str) -> str:
    if value is None:
        return UNKNOWN
    if name.endswith("_at"):
        return words.clock_seconds(value, zone) if abs(now - value) < 86400 else words.clock(value, now, zone)
    for end, unit in UNITS:
        if name.endswith(end):
            scale = {"GB": 2**30, "GB/s": 1e9}.get(unit)
            return f"{value / scale:.1f} {unit}" if scale else f"{words.whole(value)} {unit}"
    return words.whole(value)


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _of(used: float | None, total: float | None) -> str:
    return "" if total is None else f"{_gb(used)} of {words.gb_total(total)} GB"


def _gb(size_bytes: float | None) -> str:
    return UNKNOWN if size_bytes is None else words.gb(size_bytes)


def _load(host: HostReading) -> str:
    averages = (host.load_1m, host.load_5m, host.load_15m)
    busy = "" if host.cpu_percent is None else f"CPU {host.cpu_percent:.0f} %"
    told = "" if None in averages else "average " + " ".join(f"{load:.1f}" for load in averages)
    return _joined(busy, told)


def _driver(host: HostReading) -> str:
    other = host.library_version if host.library_version != host.driver_version else None
    return _joined(host.driver_version, other and f"library {other}", host.cuda_version and f"CUDA {host.cuda_version}")


def _skew(seconds: float | None) -> str:
    if seconds is None or abs(seconds) < 2:
        return ""
    return f"{words.span_exact(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'} the hub"
