"""Lists of facts on the pages of a host and of a GPU: what, how much, and a mark where something is wrong. Pure; unknown is never good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Mapping, Optional

from gpuwatch.model.cluster import NodeState
from gpuwatch.model.snapshot import GpuReading, HostReading, throttle_reasons
from gpuwatch.render import words
from gpuwatch.render.html_gpu_row import Moment
from gpuwatch.render.html_parts import e, icon, not_reported


@dataclass(frozen=True)
class Fact:
    """One line. ``value`` None = not reported, because of ``reason``; ``good`` None = nothing to judge."""

    name: str
    value: Optional[str]
    note: str = ""
    good: Optional[bool] = None
    reason: Optional[str] = None


def facts_html(facts: Iterable[Fact]) -> str:
    """The lines as a list of terms."""
    return f'<dl class="facts">{"".join(map(_fact, facts))}</dl>'


def _fact(fact: Fact) -> str:
    mark = "" if fact.good is None or fact.value is None else icon("ok") if fact.good else icon("warn")
    css = ' class="bad"' if fact.good is False and fact.value is not None else ""
    value = not_reported(fact.reason) if fact.value is None else e(fact.value)
    note = f"<small>{e(fact.note)}</small>" if fact.note else ""
    return f"<div{css}><dt><span>{mark}</span>{e(fact.name)}</dt><dd>{value}{note}</dd></div>"


def _text(number: Optional[float], unit: str = "", digits: int = 0) -> Optional[str]:
    return None if number is None else f"{number:,.{digits}f}{unit}"


def _of(part: Optional[float], whole: Optional[float], word: str = "of") -> Optional[str]:
    if part is None:
        return None
    return f"{part:.0f}" if whole is None else f"{part:.0f} {word} {whole:.0f}"


def health(reading: GpuReading, marks: Iterable[str]) -> list[Fact]:
    """Whether the card works as it should."""
    missing = reading.missing
    errors = reading.ecc_uncorrected_errors
    rows = reading.remapped_rows_uncorrected
    throttled = [mark for mark in marks if mark.startswith("throttled")]
    nobodys = words.unattributed_bytes(reading)
    return [
        *([] if nobodys is None else [Fact("Nobody's memory", f"{words.gb(nobodys)} GB", "in use, but by no process that is listed", False)]),
        Fact("ECC errors", None if errors is None else f"{errors:.0f} uncorrected", _noted(reading.ecc_corrected_errors, "corrected"),
             None if errors is None else errors == 0, missing.get("ecc_uncorrected_errors")),
        Fact("Remapped rows", None if rows is None else f"{rows:.0f} uncorrected", _remapped(reading), _rows_good(reading),
             missing.get("remapped_rows_uncorrected")),
        Fact("Throttled", throttled[0].partition(": ")[2] if throttled else None if reading.throttle_mask is None else "no",
             "" if throttled else ", ".join(throttle_reasons(reading.throttle_mask)),
             None if reading.throttle_mask is None and not throttled else not throttled, missing.get("throttle_mask")),
        _pcie(reading),
        Fact("PCIe replays", _text(reading.pcie_replays), "since the driver was loaded" if reading.pcie_replays else "", reason=missing.get("pcie_replays")),
        _nvlink(reading),
        Fact("Fan", _text(reading.fan_percent, " %"), reason=missing.get("fan_percent")),
    ]  # fmt: skip


def _noted(number: Optional[float], word: str) -> str:
    return f"{word} not reported" if number is None else f"{number:.0f} {word}"


def _remapped(reading: GpuReading) -> str:
    parts = [_noted(reading.remapped_rows_corrected, "corrected")]
    if reading.remapped_rows_pending:
        parts.append("one waits for a reset of the GPU")
    if reading.remapped_rows_failure:
        parts.append("a row could not be remapped: replace the card")
    return ", ".join(parts)


def _rows_good(reading: GpuReading) -> Optional[bool]:
    if reading.remapped_rows_failure is None and reading.remapped_rows_pending is None:
        return None
    return not reading.remapped_rows_failure and not reading.remapped_rows_pending


def _pcie(reading: GpuReading) -> Fact:
    generation, width = reading.pcie_generation, reading.pcie_width
    told = None if generation is None or width is None else f"Gen {generation:.0f} x{width:.0f}"
    note, good = "", None
    if reading.pcie_generation_max is not None and reading.pcie_width_max is not None:
        note = f"card and slot can Gen {reading.pcie_generation_max:.0f} x{reading.pcie_width_max:.0f}"
        good = None if width is None else width >= reading.pcie_width_max
    return Fact("PCIe link", told, note, good, reading.missing.get("pcie_generation"))


def _nvlink(reading: GpuReading) -> Fact:
    if not reading.nvlink_total:
        return Fact("NVLink", None if reading.nvlink_total is None else "none", reason=reading.missing.get("nvlink_total"))
    told = _of(reading.nvlink_active, reading.nvlink_total)
    good = None if reading.nvlink_active is None else reading.nvlink_active >= reading.nvlink_total
    return Fact("NVLink", told and f"{told} links up", "", good, reading.missing.get("nvlink_active"))


def activity(reading: GpuReading) -> list[Fact]:
    """What works in the card; most of it only where the card offers GPM."""
    missing = reading.missing
    return [
        Fact("SMs", _text(reading.sm_activity_percent, " %"), reason=missing.get("sm_activity_percent")),
        Fact("Engine", _text(reading.graphics_activity_percent, " %"), reason=missing.get("graphics_activity_percent")),
        Fact("Tensor cores", _text(reading.tensor_activity_percent, " %"), reason=missing.get("tensor_activity_percent")),
        Fact("Memory bandwidth", _text(reading.memory_activity_percent, " %"), reason=missing.get("memory_activity_percent")),
        Fact("Memory bus", _text(reading.memory_utilization_percent, " % busy"), reason=missing.get("memory_utilization_percent")),
        Fact("Encoder, decoder", _pair(reading.encoder_percent, reading.decoder_percent), reason=missing.get("encoder_percent")),
        Fact("PCIe traffic", _rate(reading.pcie_sent_bytes_per_second), _received(reading), reason=missing.get("pcie_sent_bytes_per_second")),
        Fact("NVLink traffic", _rate(reading.nvlink_bytes_per_second), reason=missing.get("nvlink_bytes_per_second")),
    ]


def _rate(bytes_per_second: Optional[float]) -> Optional[str]:
    return None if bytes_per_second is None else f"{bytes_per_second / 1e9:,.2f} GB/s"


def _received(reading: GpuReading) -> str:
    told = _rate(reading.pcie_received_bytes_per_second)
    return f"from the GPU; {told} to it" if told else "from the GPU"


def _read_at(reading: GpuReading, zone: str) -> Fact:
    """When each group of fields was read."""
    slower = (("status", reading.status_read_at), ("health", reading.health_read_at), ("identity", reading.identity_read_at))
    told = (f"{name} {words.clock_seconds(at, zone)}" for name, at in slower if at is not None)
    return Fact("Read", words.clock_seconds(reading.live_read_at, zone) or None, ", ".join(told))


def card(reading: GpuReading, host: Optional[HostReading], zone: str) -> list[Fact]:
    """What the card is and how it is set."""
    missing = reading.missing
    driver = host.driver_version if host else None
    mode = {True: "on", False: "off", None: None}
    return [
        Fact("Name", reading.name, reason=missing.get("name")),
        Fact("UUID", reading.uuid),
        Fact("Driver", driver, f"CUDA up to {host.cuda_version}" if host and host.cuda_version else ""),
        Fact("PCI address", reading.pci_bus_id, f"/dev/nvidia{reading.minor_number}" if reading.minor_number is not None else ""),
        Fact("VBIOS", reading.vbios_version, reason=missing.get("vbios_version")),
        Fact("Serial", reading.serial, reason=missing.get("serial")),
        Fact("CUDA capability", reading.cuda_capability, reason=missing.get("cuda_capability")),
        Fact("Reserved memory", _gigabytes(reading.memory_reserved_bytes, None), _free(reading), reason=missing.get("memory_reserved_bytes")),
        Fact("Graphics clock", _text(reading.graphics_clock_mhz, " MHz"), reason=missing.get("graphics_clock_mhz")),
        Fact("SM clock", _of(reading.sm_clock_mhz, reading.sm_clock_max_mhz) and f"{_of(reading.sm_clock_mhz, reading.sm_clock_max_mhz)} MHz",
             reason=missing.get("sm_clock_mhz")),
        Fact("Memory clock", _of(reading.memory_clock_mhz, reading.memory_clock_max_mhz) and
             f"{_of(reading.memory_clock_mhz, reading.memory_clock_max_mhz)} MHz", reason=missing.get("memory_clock_mhz")),
        Fact("P-state", None if reading.performance_state is None else f"P{reading.performance_state:.0f}", reason=missing.get("performance_state")),
        Fact("Memory temperature", _text(reading.memory_temperature_celsius, " °C"), reason=missing.get("memory_temperature_celsius")),
        Fact("Shuts down at", _text(reading.temperature_shutdown_celsius, " °C"), reason=missing.get("temperature_shutdown_celsius")),
        Fact("Energy", None if reading.energy_joules is None else f"{reading.energy_joules / 3.6e6:,.1f} kWh", "since the driver was loaded",
             reason=missing.get("energy_joules")),
        Fact("MIG", mode[reading.mig_enabled] or (None if "mig_enabled" in missing else "not on this card"),
             _pending(reading.mig_enabled, reading.mig_pending), reason=missing.get("mig_enabled")),
        Fact("ECC", mode[reading.ecc_enabled], _pending(reading.ecc_enabled, reading.ecc_pending), reason=missing.get("ecc_enabled")),
        Fact("Persistence", mode[reading.persistence_enabled], "programs start slowly: nvidia-smi -pm 1" if reading.persistence_enabled is False else "",
             reason=missing.get("persistence_enabled")),
        Fact("Compute mode", reading.compute_mode, reason=missing.get("compute_mode")),
        _read_at(reading, zone),
    ]  # fmt: skip


def _pending(now: Optional[bool], after_reset: Optional[bool]) -> str:
    """A mode that was set and waits for a reset."""
    return "" if after_reset is None or now is None or now == after_reset else f"{'on' if after_reset else 'off'} after the next reset"


def _free(reading: GpuReading) -> str:
    free = words.gb(reading.memory_free_bytes)
    lent = "one memory with the host" if reading.unified_memory else words.numa_memory(reading)
    return ", ".join(filter(None, (lent, f"{free} GB free" if free else "")))


def _pair(first: Optional[float], second: Optional[float]) -> Optional[str]:
    if first is None and second is None:
        return None
    return ", ".join("not reported" if value is None else f"{value:.0f} %" for value in (first, second))


def machine(node: NodeState, moment: Moment) -> list[Fact]:
    """The machine around the GPUs, and how the hub hears of it."""
    snapshot = node.snapshot
    if snapshot is None:
        return [Fact("Address", node.target.address)]
    host = snapshot.host
    why: Mapping[str, str] = host.missing
    loads = (host.load_1m, host.load_5m, host.load_15m)
    skew = node.clock_skew_seconds
    return [
        Fact("Own name", snapshot.hostname, node.target.address),
        Fact("CPU", _text(host.cpu_percent, " %"), f"{host.cpu_count or '?'} × {host.cpu_model or 'unknown model'}", reason=why.get("cpu_percent")),
        Fact("Load", None if None in loads else ", ".join(f"{load:.1f}" for load in loads if load is not None), "1, 5, 15 min", reason=why.get("load_1m")),
        Fact("Memory", _gigabytes(host.memory_used_bytes, host.memory_total_bytes), reason=why.get("memory_used_bytes")),
        Fact("Swap", _gigabytes(host.swap_used_bytes, host.swap_total_bytes), reason=why.get("swap_used_bytes")),
        *(Fact(f"Disk {disk.mount}", _gigabytes(disk.used_bytes, disk.total_bytes), f"{disk.filesystem or ''} {disk.device or ''}") for disk in host.disks),
        *(
            Fact(f"Network {net.name}", f"{words.gb(net.received_bytes) or '?'} GB in, {words.gb(net.sent_bytes) or '?'} GB out", _address(host, net.name))
            for net in host.networks
        ),
        Fact("Logged in", ", ".join(dict.fromkeys(login.user for login in host.logins)) or (None if "logins" in why else "nobody"), reason=why.get("logins")),
        Fact("Up", words.span(host.uptime_seconds) or None, f"since {moment.clock(host.boot_at)}" if host.boot_at else "", reason=why.get("uptime_seconds")),
        Fact("System", host.os, f"{host.kernel or ''} {host.architecture or ''}"),
        Fact("Driver", host.driver_version, _versions(host), reason=why.get("driver_version")),
        Fact("Last reading", words.clock_seconds(node.received_at, moment.zone) or None, f"every {snapshot.interval_seconds:g} s, {words.way_of(node.target)}, {words.source_of(snapshot)}"),
        Fact("Clock", None if skew is None else "0.0 s" if abs(skew) < 0.05 else f"{skew:+.1f} s", "the node's clock against the hub's", None if skew is None else abs(skew) < 5),
    ]  # fmt: skip


def _versions(host: HostReading) -> str:
    known = (("library", host.library_version), ("CUDA up to", host.cuda_version))
    return ", ".join(f"{word} {version}" for word, version in known if version)


def _gigabytes(used: Optional[float], total: Optional[float]) -> Optional[str]:
    if used is None:
        return None
    return f"{words.gb(used)} GB" + (f" of {words.gb_total(total)} GB" if total else "")


def _address(host: HostReading, interface: str) -> str:
    return ", ".join(address for name, address in host.ips if name == interface)
