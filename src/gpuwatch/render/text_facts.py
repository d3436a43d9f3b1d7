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
    "ecc_enabled",
)


def host_facts(node: NodeState, now: float) -> Cells:
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
        ("running for", words.span(host.uptime_seconds)),
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


def gpu_facts(gpu: GpuView, now: float, zone: str) -> Cells:
    """(label, value, note) of every field of the GPU: identity first; why a number is unknown stands in the note."""
    reading = gpu.reading
    facts: Cells = [(_label(name), _fact(getattr(reading, name)), "") for name in _IDENTITY]
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
