"""What /proc and /sys say about the NVIDIA driver and its GPUs, without asking NVML. Reads files only; works when the driver does not."""

from __future__ import annotations

import os
import re
from typing import Dict, List, NamedTuple, Optional

from gpuwatch.collect.files import read_text, under


class PciGpu(NamedTuple):
    """A GPU that the kernel's driver knows."""

    pci_bus_id: str
    uuid: Optional[str]
    name: Optional[str]
    minor_number: Optional[int]


def loaded_version(root: str) -> Optional[str]:
    """Version of the NVIDIA kernel module that is loaded, from /proc/driver/nvidia/version; None without one."""
    text = read_text(under(root, "proc/driver/nvidia/version"))
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s", text or "", re.MULTILINE)
    return found.group(1) if found else None


def installed_version(library_path: Optional[str]) -> Optional[str]:
    """Version of the library file that a new process would load: what the link beside the mapped file points to now."""
    if not library_path:
        return None
    folder = os.path.dirname(library_path)
    for name in (os.path.join(folder, "libnvidia-ml.so.1"), library_path):
        found = re.search(r"libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)*)$", os.path.realpath(name))
        if found:
            return found.group(1)
    return None


def mismatch(loaded: Optional[str], library: Optional[str]) -> Optional[str]:
    """The sentence for a driver and a library that do not belong together; None when they do, or when one is unknown."""
    if not loaded or not library or _same(loaded, library):
        return None
    return f"driver {loaded} loaded, library {library} installed: reboot or reload the nvidia modules"


def _same(one: str, other: str) -> bool:
    """Whether two versions agree as far as both are told (NVML may leave out the last part)."""
    parts = list(zip(one.split("."), other.split(".")))
    return all(a == b or (a.isdigit() and b.isdigit() and int(a) == int(b)) for a, b in parts)


def nvidia_gpus(root: str) -> Dict[str, PciGpu]:
    """GPUs on the PCI bus that the NVIDIA driver holds, by address. Those given to a virtual machine or hidden from a container are left out."""
    listed = _driver_list(root)
    found: Dict[str, PciGpu] = {}
    for address in nvidia_devices(root):
        device = under(root, f"sys/bus/pci/devices/{address}")
        holder = os.path.basename(os.path.realpath(os.path.join(device, "driver"))) if _exists(os.path.join(device, "driver")) else ""
        if holder != "nvidia" or (listed is not None and address not in listed):
            continue
        found[address] = (listed or {}).get(address) or PciGpu(address, None, None, None)
    return found


def nvidia_devices(root: str) -> List[str]:
    """Addresses of all NVIDIA display controllers on the PCI bus, whoever drives them; virtual functions left out."""
    try:
        addresses = sorted(os.listdir(under(root, "sys/bus/pci/devices")))
    except OSError:
        return []
    return [address for address in addresses if _is_gpu(under(root, f"sys/bus/pci/devices/{address}"))]


def _is_gpu(device: str) -> bool:
    vendor = (read_text(os.path.join(device, "vendor")) or "").strip()
    kind = (read_text(os.path.join(device, "class")) or "").strip()
    return vendor == "0x10de" and kind.startswith("0x03") and not _exists(os.path.join(device, "physfn"))


def _exists(path: str) -> bool:
    return os.path.lexists(path)


def _driver_list(root: str) -> Optional[Dict[str, PciGpu]]:
    """What the driver lists under /proc/driver/nvidia/gpus; None where it has no such folder."""
    folder = under(root, "proc/driver/nvidia/gpus")
    try:
        addresses = os.listdir(folder)
    except OSError:
        return None
    return {address.lower(): _information(folder, address) for address in addresses}


def _information(folder: str, address: str) -> PciGpu:
    facts = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in (read_text(os.path.join(folder, address, "information")) or "").splitlines())
    }
    uuid, minor = facts.get("GPU UUID", ""), facts.get("Device Minor", "")
    return PciGpu(
        address.lower(),
        uuid if uuid.startswith("GPU-") and "?" not in uuid else None,
        facts.get("Model") or None,
        int(minor) if minor.isdigit() else None,
    )
