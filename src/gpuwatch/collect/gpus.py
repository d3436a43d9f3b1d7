"""All GPUs of the machine: which there are, which are gone, and whether the driver answers at all. Keyed by UUID, never by index.

Indexes shift when a GPU falls off the bus; NVML then counts one less, or gives no handle for it. Known GPUs (of this process, of earlier
ones, and those the kernel's driver still lists) stay in the list as lost.
"""

from __future__ import annotations

import operator
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from gpuwatch.collect import driver, nvml, tegra
from gpuwatch.collect.calls import Calls
from gpuwatch.collect.gpu import IDENTITY, Ages, Due, Gpu
from gpuwatch.collect.host import DriverFacts
from gpuwatch.collect.nvml import Handle, Nvml, NvmlError, WrongLibrary
from gpuwatch.collect.processes import Attribution
from gpuwatch.collect.xid import FALLEN_OFF_THE_BUS, Xids
from gpuwatch.model.snapshot import GpuReading

Result = Tuple[Tuple[GpuReading, ...], bool, Optional[str]]
RETRY_SECONDS = 60.0
"""A machine without a usable library is asked again after so long."""

_by_index = operator.attrgetter("index")
_STAND_IN = "unknown-"
"""Begins the UUID of a GPU that was lost before anyone learned its name: unknown-pci-0000:65:00.0, unknown-index-3."""


class Gpus:
    """The machine's GPUs, from sample to sample."""

    def __init__(self, root: str, ages: Ages, known: Sequence[GpuReading], shared: Attribution, xids: Xids) -> None:
        self._root, self._ages, self._shared, self._xids = root, ages, shared, xids
        self._nvml = Nvml()
        self._tegra = tegra.find(root)
        self._open = False
        self._retry_at = 0.0
        self._retry_answer: Tuple[bool, Optional[str]] = (True, None)
        self._gpus: Dict[str, Gpu] = {}
        self._absent: Dict[str, int] = {}
        self._count = -1
        self._count_due = Due(ages.status, ages.interval, 0)
        self._driver_due = Due(ages.health, ages.interval, 0)
        self.facts = DriverFacts()
        self.lost_reason: Optional[str] = None
        for reading in known:
            if reading.uuid.startswith(_STAND_IN):
                continue
            identity = {name: getattr(reading, name) for name in IDENTITY}
            self._gpu({**identity, "error_since_at": reading.error_since_at})

    @property
    def has_driver(self) -> bool:
        """Whether NVML was started."""
        return self._open

    def start(self, now: float) -> Tuple[bool, Optional[str]]:
        """Start NVML if it is time for that; (True, None) once it runs, else (it is all right so, why it does not run)."""
        if self._open:
            return True, None
        if now < self._retry_at and self._retry_at - now <= RETRY_SECONDS:
            return self._retry_answer
        try:
            self._nvml.open()
        except NvmlError as error:
            return self._explain(error, now)
        self._ask_count = self._nvml.device_count()
        self._calls = Calls(self._nvml)
        self.facts = DriverFacts(*self._nvml.versions())
        self._open = True
        return True, None

    def read(self, now: float, memory: Tuple[Optional[float], Optional[float]]) -> Result:
        """(readings in NVML's order with the lost ones in their old places, it works, what is wrong). After ``start``."""
        if self._count_due.is_due(now):
            code = self._look_around()
            self._count_due.done(now)
            if code:
                return self._give_up(code)
        readings = self._read_each(now, memory)
        if readings is None:
            return self._give_up(max(gpu.code for gpu in self._gpus.values() if gpu.uuid not in self._absent))
        return readings, True, None if readings else "the NVIDIA driver lists no GPU on this machine"

    def driver_check_is_due(self, now: float) -> bool:
        """The driver's and the library's versions are compared as often as the health group is read."""
        return self._driver_due.is_due(now)

    def check_driver(self, now: float) -> Tuple[bool, Optional[str]]:
        """Whether the loaded driver and the library on disk still belong together."""
        self._driver_due.done(now)
        loaded = driver.loaded_version(self._root) or self.facts.driver_version
        message = driver.mismatch(loaded, driver.installed_version(self._nvml.library_path) or self.facts.library_version)
        return message is None, message

    def close(self) -> None:
        """Release all GPUs and the library."""
        for gpu in self._gpus.values():
            gpu.release()
        self._xids.detach()
        self._nvml.close()
        self._open = False

    def _explain(self, error: NvmlError, now: float) -> Tuple[bool, Optional[str]]:
        """What is wrong when NVML does not start, and whether a fresh process is needed to try again."""
        devices = driver.nvidia_devices(self._root)
        _, library, _ = self._nvml.versions()
        loaded = driver.loaded_version(self._root)
        self.facts = DriverFacts(loaded, library or driver.installed_version(self._nvml.library_path))
        if isinstance(error, WrongLibrary):
            answer = (False, str(error))
        elif error.code in (nvml.LIBRARY_NOT_FOUND, nvml.DRIVER_NOT_LOADED) and not (devices or self._gpus or loaded):
            answer = (True, f"no NVIDIA driver on this machine ({error}) and no NVIDIA GPU on its PCI bus: host readings only")
        elif error.code == nvml.LIBRARY_NOT_FOUND:
            where = f"NVIDIA GPU at {devices[0]}" if devices else "NVIDIA driver"
            answer = (False, f"{where} found, but {error}: install the NVIDIA driver, or give the container its GPUs (--gpus all)")
        else:
            self.lost_reason = self._words(error.code)
            return False, self.lost_reason
        self._retry_at, self._retry_answer = now + RETRY_SECONDS, answer
        return answer

    def _give_up(self, code: int) -> Result:
        self.lost_reason = self._words(code)
        return (), False, self.lost_reason

    def _words(self, code: int) -> str:
        """What is wrong with the driver as a whole, with the next step."""
        loaded = driver.loaded_version(self._root)
        if code == nvml.LIB_RM_VERSION_MISMATCH:
            installed = driver.installed_version(self._nvml.library_path) or self._nvml.versions()[1]
            return driver.mismatch(loaded or self.facts.driver_version, installed) or (
                "the loaded NVIDIA driver and the installed NVML library are of different versions: reboot or reload the nvidia modules"
            )
        if code == nvml.DRIVER_NOT_LOADED or (code == nvml.UNINITIALIZED and not loaded):
            return "the NVIDIA driver is not loaded: modprobe nvidia; after an upgrade, reboot"
        if code == nvml.NO_PERMISSION:
            return "no permission to use the NVIDIA driver: allow this user to open /dev/nvidiactl and /dev/nvidia*"
        return (
            f"the NVIDIA driver does not answer (NVML: {nvml.error_text(code)}): it was unloaded or lost its devices; "
            "see dmesg; in a container, restart the container"
        )

    def _look_around(self) -> int:
        """Find out which GPUs there are when their number changed or one is lost. Gives a code of no return, else SUCCESS."""
        code, count = self._ask_count()
        if code:
            return code if code in nvml.NO_RETURN else nvml.SUCCESS
        if count == self._count and not self._absent:
            return nvml.SUCCESS
        if count == self._count and all(why == nvml.SUCCESS for why in self._absent.values()):
            return nvml.SUCCESS  # known from before and not listed any more: only a new count can change that
        return self._find(count)

    def _find(self, count: int) -> int:
        found: Set[str] = set()
        nameless: List[Tuple[int, int]] = []
        for index in range(count):
            code, handle = self._nvml.device(index)
            uuid_code, uuid = (code, None) if code else self._calls.uuid(handle)
            if uuid_code or not uuid:
                nameless.append((index, uuid_code))
                continue
            found.add(uuid)
            self._attach(uuid, handle, index)
        codes = {code for _, code in nameless}
        if codes and not found and codes <= nvml.NO_RETURN:
            return max(codes)
        self._count = count
        self._absent = {uuid: why for uuid, why in self._absent.items() if uuid not in found}
        self._name_the_lost(found, nameless)
        return nvml.SUCCESS

    def _attach(self, uuid: str, handle: Handle, index: int) -> None:
        gpu = self._gpus.get(uuid) or self._gpu({"uuid": uuid, "index": index})
        if gpu.is_attached and uuid not in self._absent:
            gpu.move(index)
            return
        gpu.attach(self._calls, handle, index)
        if self._xids.wants_events:
            self._xids.attach(self._nvml)(handle, gpu.pci_bus_id)

    def _name_the_lost(self, found: Set[str], nameless: List[Tuple[int, int]]) -> None:
        """Every GPU that was not found is lost: known ones, those that the kernel's driver holds, and places without a name."""
        for uuid in [uuid for uuid in self._gpus if uuid.startswith(_STAND_IN)]:
            del self._gpus[uuid]
            self._absent.pop(uuid, None)
        addresses = {gpu.pci_bus_id for gpu in self._gpus.values()}
        for address, pci in driver.nvidia_gpus(self._root).items():
            if address not in addresses and (pci.uuid or "") not in self._gpus:
                facts = {"pci_bus_id": address, "name": pci.name, "minor_number": pci.minor_number, "index": len(self._gpus)}
                self._gpu({**facts, "uuid": pci.uuid or f"{_STAND_IN}pci-{address}"})
        lost = sorted((gpu for gpu in self._gpus.values() if gpu.uuid not in found), key=lambda gpu: gpu.index)
        for gpu, (_, code) in zip(lost, nameless):
            self._lose(gpu.uuid, code)
        for gpu in lost[len(nameless) :]:
            self._lose(gpu.uuid, nvml.SUCCESS)
        for index, code in nameless[len(lost) :]:
            self._gpu({"uuid": f"{_STAND_IN}index-{index}", "index": index})
            self._lose(f"{_STAND_IN}index-{index}", code)

    def _gpu(self, identity: Dict[str, Any]) -> Gpu:
        gpu = self._gpus[identity["uuid"]] = Gpu(identity, self._ages, self._shared, len(self._gpus), self._tegra)
        return gpu

    def _lose(self, uuid: str, code: int) -> None:
        self._gpus[uuid].release()
        self._absent.setdefault(uuid, code)

    def _read_each(self, now: float, memory: Tuple[Optional[float], Optional[float]]) -> Optional[Tuple[GpuReading, ...]]:
        """A reading of each GPU; None when none of those that should answer does, for a reason that is the driver's."""
        readings: List[GpuReading] = []
        failed: List[Gpu] = []
        for uuid, gpu in self._gpus.items():
            reading = gpu.read(now, memory) if uuid not in self._absent else None
            if reading is not None:
                readings.append(reading)
            elif uuid not in self._absent:
                failed.append(gpu)
        if failed and not readings and {gpu.code for gpu in failed} <= nvml.NO_RETURN:
            return None
        for gpu in failed:
            self._lose(gpu.uuid, gpu.code)
        readings += [gpu.lost(now, self._lost_words(gpu, self._absent[uuid])) for uuid, gpu in self._gpus.items() if uuid in self._absent]
        readings.sort(key=_by_index)  # where a lost one shares its old index with another, it comes second
        return tuple(readings)

    def _lost_words(self, gpu: Gpu, code: int) -> str:
        xid = self._xids.code_of(gpu.pci_bus_id)
        if code == nvml.RESET_REQUIRED:
            return f"needs a reset{_with(xid)}: stop its programs and run nvidia-smi --gpu-reset -i {gpu.uuid}, or reboot"
        if xid == FALLEN_OFF_THE_BUS:
            return "lost: GPU has fallen off the bus (Xid 79). Reboot; if it happens again check power, temperature and the PCIe slot"
        if code == nvml.SUCCESS:
            return f"lost: the driver does not list the GPU any more{_with(xid)}. See dmesg; reboot"
        return f"lost: NVML says {nvml.error_text(code)}{_with(xid)}. See dmesg; reboot"


def _with(xid: Optional[int]) -> str:
    return f" (Xid {xid})" if xid else ""
