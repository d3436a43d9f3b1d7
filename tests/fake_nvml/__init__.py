"""The fake NVIDIA driver of the tests: a libnvidia-ml.so.1 that the real nvidia-ml-py loads, and the hand that moves it.

`FakeDriver(tmp_path).env` starts a process under it; `set`, `set_processes`, `fault`, `xid`, `driver` change what the
process sees while it runs; `calls` counts its NVML calls. See README.md. Must never touch the real driver, /proc or /sys.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import mmap
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "build" / "fake_nvml"
PROFILES = tuple(sorted(path.stem for path in (HERE / "profiles").glob("*.profile")))
FIELDS = tuple(re.findall(r"^FIELD\((\w+),", (HERE / "fields.def").read_text(encoding="utf-8"), re.MULTILINE))
FAULTS = (
    "hang", "hang_deaf", "segfault", "slow", "error", "not_supported", "gpu_lost", "gpu_gone", "gpu_dropped", "mismatch",
    "mismatch_init", "driver_gone", "scrambled_processes", "invalid_utf8", "used_memory_unavailable", "temperature_sentinel",
)  # fmt: skip
DEFAULT_PROFILE = "h100x8"  # what a process sees that was given LD_LIBRARY_PATH alone

# What a driver of the 470 series does not export (470.57: no _v3 lists, no memory v2, no GPM, old names of the reasons).
OLD_DRIVER_LACKS = (
    "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetRunningProcessDetailList",
    "nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetSupportedClocksEventReasons", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetNumFans", "nvmlDeviceGetJpgUtilization", "nvmlDeviceGetOfaUtilization", "nvmlDeviceGetGspFirmwareVersion",
    "nvmlDeviceGetGspFirmwareMode", "nvmlDeviceGetGpuMaxPcieLinkGeneration",
    "nvmlDeviceGetNumGpuCores", "nvmlDeviceGetMemoryBusWidth", "nvmlDeviceGetModuleId", "nvmlGpmMetricsGet", "nvmlGpmSampleAlloc",
    "nvmlGpmSampleFree", "nvmlGpmSampleGet", "nvmlGpmMigSampleGet", "nvmlGpmQueryDeviceSupport",
)  # fmt: skip

XID = 8  # nvmlEventTypeXidCriticalError
_FLAGS = ("-shared", "-fPIC", "-O2", "-std=gnu11", "-pthread", "-fvisibility=hidden", "-Wl,-soname,libnvidia-ml.so.1")
_SLOT = struct.Struct("=112sQQ")  # struct counter of world.h
_SLOTS = 512

FieldValue = Union[int, float, str, None, Sequence[int]]


def build(old_driver: bool = False, without: Sequence[str] = ()) -> Path:
    """Compile the library once and return its path; the folder is what LD_LIBRARY_PATH needs.

    `old_driver` leaves out OLD_DRIVER_LACKS, `without` further symbols: nvidia-ml-py then raises FunctionNotFound.
    Safe when many processes do it at once. Needs a C compiler ($CC, else cc).
    """
    return _build(tuple(sorted({*(OLD_DRIVER_LACKS if old_driver else ()), *without})))


@functools.lru_cache(maxsize=None)
def _build(hidden: Tuple[str, ...]) -> Path:
    compiler = os.environ.get("CC", "cc")
    sources = sorted([*HERE.glob("*.c"), *HERE.glob("*.h"), HERE / "fields.def", HERE / "profiles" / f"{DEFAULT_PROFILE}.profile"])
    digest = hashlib.sha256(repr((compiler, os.uname().machine, _FLAGS, hidden)).encode())
    for source in sources:
        digest.update(source.read_bytes())
    library = CACHE / digest.hexdigest()[:16] / "libnvidia-ml.so.1"
    library.parent.mkdir(parents=True, exist_ok=True)
    with (library.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one compiles, the others wait
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=str(CACHE)) as work:
                _compile(compiler, hidden, Path(work))
                shutil.copyfile(str(HERE / "profiles" / f"{DEFAULT_PROFILE}.profile"), str(library.parent / "default.profile"))
                os.replace(f"{work}/library", str(library))
    return library


def _compile(compiler: str, hidden: Sequence[str], work: Path) -> None:
    exports = work / "exports"
    names = "".join(f" {name};" for name in hidden)
    exports.write_text(f"{{ global: nvml*; local:{names} *; }};\n", encoding="ascii")
    sources = [str(source) for source in sorted(HERE.glob("*.c"))]
    command = [compiler, *_FLAGS, f"-Wl,--version-script={exports}", "-o", str(work / "library"), *sources, "-ldl"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot compile the fake driver: {' '.join(command)}\n{done.stdout.decode(errors='replace')}")


class _Gpu:
    """Fields of one GPU as text, its processes as lines, its MIG slices."""

    def __init__(self) -> None:
        self.fields: Dict[str, str] = {}
        self.processes: List[str] = []
        self.slices: List[Dict[str, str]] = []


def _read_profile(text: str) -> Tuple[Dict[str, str], Dict[str, str], List[_Gpu]]:
    """The driver's lines, the defaults of all GPUs, the GPUs."""
    driver: Dict[str, str] = {}
    defaults: Dict[str, str] = {}
    gpus: List[_Gpu] = []
    fields = driver
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if line.startswith("[gpu *]"):
            fields = defaults
        elif line.startswith("[gpu "):
            gpus.append(_Gpu())
            fields = gpus[-1].fields
        elif line.startswith("[mig "):
            fields = {}
            gpus[-1].slices.append(fields)
        elif key == "process":
            gpus[-1].processes.append(value)
        elif value and not line.startswith("#"):
            fields[key] = value
    return driver, defaults, gpus


def _field_text(name: str, value: FieldValue) -> str:
    if name not in FIELDS:
        raise ValueError(f"{name!r} is no field of the fake driver: see tests/fake_nvml/fields.def")
    if value is None:
        return "N/A"
    text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ",".join(map(str, value))
    return _one_line(text)


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError(f"{text!r} has a line break, which the control file cannot hold")
    return text


def _process_text(process: Mapping[str, Any]) -> str:
    """One `process = ...` line. The name goes last: it may hold spaces, and bytes that are no UTF-8."""
    keys = {"pid": "pid", "type": "type", "used_memory_bytes": "used", "sm_percent": "sm", "memory_percent": "mem",
            "encoder_percent": "enc", "decoder_percent": "dec", "gi": "gi", "ci": "ci", "name": "name"}  # fmt: skip
    unknown = set(process) - set(keys)
    if unknown:
        raise ValueError(f"{sorted(unknown)} is no part of a process: use {sorted(keys)}")
    complete = {"type": "C", **process}
    name = complete.get("name")
    if isinstance(name, bytes):
        complete["name"] = name.decode("utf-8", "surrogateescape")
    return _one_line(" ".join(f"{short}={complete[key]}" for key, short in keys.items() if complete.get(key) is not None))


class FakeDriver:
    """One fake driver: its files under `folder`, and the processes that were started with `env`.

    `profile` is one of PROFILES. `seed` changes every UUID and serial, so that several fakes can be one cluster.
    All methods may be used while processes run under it; they see the change at their next NVML call.
    """

    def __init__(
        self, folder: Path, profile: str = DEFAULT_PROFILE, old_driver: bool = False, without: Sequence[str] = (), seed: int = 0
    ) -> None:
        self.library_path = build(old_driver, without)
        self.root = folder  # give it to code that takes the place of /proc and /sys
        self._control = folder / "fake_nvml" / "control"
        self._counts = folder / "fake_nvml" / "counts"
        self._control.parent.mkdir(parents=True, exist_ok=True)
        text = (HERE / "profiles" / f"{profile}.profile").read_text(encoding="utf-8")
        self._driver, self._defaults, self._gpus = _read_profile(text)
        self._faults: Dict[Tuple[str, Optional[int], Optional[str]], int] = {}
        self._events: List[str] = []
        self._open_module = False
        self._event_count = self._epoch = self._generation = 0
        self._generation_word = _map_zeros(Path(f"{self._control}.generation"), 8)
        self._count_slots = _map_zeros(self._counts, _SLOT.size * _SLOTS)
        for gpu in self._gpus if seed else ():
            _reseed(gpu, seed)
        self._write()
        self._write_proc()
        for index in range(len(self._gpus)):
            self.pci(index)

    @property
    def env(self) -> Dict[str, str]:
        """The environment variables to start a process with, to be laid over os.environ."""
        before = os.environ.get("LD_LIBRARY_PATH")
        return {
            "LD_LIBRARY_PATH": f"{self.library_path.parent}:{before}" if before else str(self.library_path.parent),
            "FAKE_NVML_CONTROL": str(self._control),
            "FAKE_NVML_COUNTS": str(self._counts),
        }

    @property
    def gpu_count(self) -> int:
        """GPUs of the profile, lost ones included."""
        return len(self._gpus)

    def get(self, gpu: int, field: str) -> Optional[str]:
        """The text of a GPU's field as it is set now, or None where the card does not support it."""
        text = self._gpus[gpu].fields.get(field, self._defaults.get(field, "N/A"))
        return None if text == "N/A" else text

    def set(self, gpu: int, **fields: FieldValue) -> None:
        """Set fields (fields.def) of a GPU: None = NOT_SUPPORTED, "!NO_PERMISSION" = that error, a list for LIST fields."""
        self._gpus[gpu].fields.update({name: _field_text(name, value) for name, value in fields.items()})
        self._write()

    def set_mig(self, gpu: int, index: int, **fields: FieldValue) -> None:
        """The same for one MIG slice; index one past the last adds a slice."""
        slices = self._gpus[gpu].slices
        if index == len(slices):
            slices.append({})
        slices[index].update({name: _field_text(name, value) for name, value in fields.items()})
        self._write()

    def remove_mig(self, gpu: int, index: int) -> None:
        """Destroy one MIG slice; the ones behind it move up, as with the real driver."""
        del self._gpus[gpu].slices[index]
        self._write()

    def set_processes(self, gpu: int, processes: Sequence[Mapping[str, Any]]) -> None:
        """Replace a GPU's processes: dicts of pid, used_memory_bytes (None: not available), type ("C", "G", "M", "C+G"),
        sm_percent, memory_percent, encoder_percent, decoder_percent (all absent: not active), gi, ci, name."""
        self._gpus[gpu].processes = [_process_text(process) for process in processes]
        self._write()

    def fault(
        self, name: str, gpu: Optional[int] = None, on: bool = True, function: Optional[str] = None, value: Optional[int] = None
    ) -> None:
        """Switch one of FAULTS on or off, for one GPU or all, for one NVML function or all.

        `value`: milliseconds of slow, NVML return code of error, degrees of temperature_sentinel.
        """
        if name not in FAULTS:
            raise ValueError(f"{name!r} is no fault of the fake driver: use {', '.join(FAULTS)}")
        if name == "driver_gone":
            self._epoch += on
            self._write_proc(gone=on)
        defaults = {"slow": 50, "error": 999, "not_supported": 3, "temperature_sentinel": 65261}
        if on:
            self._faults[name, gpu, function] = value if value is not None else defaults.get(name, 0)
        else:
            self._faults = {key: kept for key, kept in self._faults.items() if key != (name, gpu, function)}
        self._write()

    def clear(self) -> None:
        """Switch every fault off."""
        gone = any(name == "driver_gone" for name, _, _ in self._faults)
        self._faults = {}
        if gone:
            self._write_proc()
        self._write()

    def driver(
        self,
        version: Optional[str] = None,
        library_version: Optional[str] = None,
        gone: Optional[bool] = None,
        open_module: Optional[bool] = None,
    ) -> None:
        """Load another kernel module (`version`), install another library beside it, or unload the module and back.

        `open_module`: the open-source one, which words its /proc file otherwise.

        A module that came back knows nothing of earlier nvmlInit calls. For the error of two versions: fault("mismatch").
        """
        if version is not None:
            self._driver["driver_version"] = _one_line(version)
        if library_version is not None:
            self._driver["nvml_version"] = _one_line(library_version)
        if open_module is not None:
            self._open_module = open_module
        if gone is not None:
            self.fault("driver_gone", on=gone)
        self._write_proc(gone=any(name == "driver_gone" for name, _, _ in self._faults))
        self._write()

    def xid(self, gpu: int, code: int) -> None:
        """Tell an Xid to every event set that is registered for it now."""
        self.event(gpu, XID, code)

    def event(self, gpu: int, event_type: int, data: int) -> None:
        """Tell an event of any NVML type (16, a clock change, is what comes as Xid 0 on real cards)."""
        self._event_count += 1
        self._events = [*self._events[-63:], f"{self._event_count} {gpu} {event_type} {data}"]
        self._write()

    def calls(self) -> Dict[str, int]:
        """Calls of each NVML function so far, of all processes together."""
        found = {}
        for name, state, count in _SLOT.iter_unpack(self._count_slots[:]):
            if state == 2 and count:
                found[name.split(b"\0")[0].decode()] = count
        return found

    def pci(self, gpu: int, present: bool = True) -> None:
        """Put a GPU's folder under root/sys/bus/pci/devices, or take it away (fallen off the bus)."""
        bus_id = self.get(gpu, "pci_bus_id")
        if bus_id is None:
            return
        folder = self.root / "sys/bus/pci/devices" / bus_id.lower()[-12:]
        if not present:
            shutil.rmtree(str(folder), ignore_errors=True)
            return
        (folder / "power").mkdir(parents=True, exist_ok=True)
        device = int(self.get(gpu, "pci_device_id") or "0", 0)
        for name, text in (
            ("vendor", "0x10de"), ("device", f"0x{device >> 16:04x}"), ("class", self.get(gpu, "pci_class") or "0x030000"),
            ("power/runtime_status", "active"),
        ):  # fmt: skip
            (folder / name).write_text(text + "\n", encoding="ascii")

    def _write_proc(self, gone: bool = False) -> None:
        """root/proc/driver/nvidia/version, there only as long as the kernel module is."""
        path = self.root / "proc/driver/nvidia/version"
        if gone or "driver_version" not in self._driver:
            shutil.rmtree(str(path.parent), ignore_errors=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        version = self._driver["driver_version"]
        module = f"NVIDIA UNIX x86_64 Kernel Module  {version}  Fri May 31 09:35:42 UTC 2024"
        if self._open_module:
            module = (
                f"NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (dvs-builder@host)  Fri May 31 09:23:59 UTC 2024"
            )
        path.write_text(f"NVRM version: {module}\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04) \n", encoding="ascii")

    def _write(self) -> None:
        """Replace the control file, then bump the generation word: a process that sees the word finds the file."""
        self._generation += 1
        lines = [f"generation = {self._generation}", f"epoch = {self._epoch}"]
        lines += [f"{key} = {value}" for key, value in self._driver.items()]
        lines += [_fault_text(*key, value=value) for key, value in self._faults.items()]
        lines += [f"event = {event}" for event in self._events]
        lines += ["[gpu *]", *_field_lines(self._defaults)]
        for index, gpu in enumerate(self._gpus):
            lines += [f"[gpu {index}]", *_field_lines(gpu.fields), *(f"process = {process}" for process in gpu.processes)]
            for number, fields in enumerate(gpu.slices):
                lines += [f"[mig {index} {number}]", *_field_lines(fields)]
        new = Path(f"{self._control}.new")
        new.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))
        os.replace(str(new), str(self._control))
        self._generation_word[:] = struct.pack("=Q", self._generation)


def _field_lines(fields: Mapping[str, str]) -> List[str]:
    return [f"{name} = {fields[name]}" for name in FIELDS if name in fields]


def _fault_text(name: str, gpu: Optional[int], function: Optional[str], value: int) -> str:
    kind = "error" if name == "not_supported" else name
    where = ("" if gpu is None else f" gpu={gpu}") + ("" if function is None else f" function={function}")
    return f"fault = kind={kind}{where} value={value}"


def _reseed(gpu: _Gpu, seed: int) -> None:
    for fields in (gpu.fields, *gpu.slices):
        kind, first, rest = fields["uuid"].split("-", 2)
        fields["uuid"] = f"{kind}-{(int(first, 16) + seed) % 2**32:08x}-{rest}"
    serial = gpu.fields.get("serial", "N/A")
    if serial != "N/A":
        gpu.fields["serial"] = f"{(int(serial) + 100 * seed) % 10**13:013d}"


def _map_zeros(path: Path, size: int) -> mmap.mmap:
    """A new file of zeros, mapped shared."""
    path.write_bytes(bytes(size))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), size)
