"""The one door to NVML, NVIDIA's management library, and the only importer of ``pynvml`` (nvidia-ml-py).

Everything here returns ``(code, value)``: NVML's return code and, when that is SUCCESS, the raw value. It never raises for a call that
fails and never turns a failure into a number. ``pynvml`` loads the library and knows the words of its errors; the calls themselves go
through prepared ctypes functions with their memory allocated once, because a monitor makes the same ten calls for years
(pynvml's wrappers allocate, look up and check on each call, which costs four times as much).

A call inside a hung driver cannot be interrupted: the sampler process as a whole is watched by the node.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from typing import Any, Callable, List, Optional, Sequence, Tuple

Handle = Any
"""NVML's handle of a GPU or MIG slice (a ctypes.c_void_p)."""

Ask = Callable[[Handle], Tuple[int, Any]]
"""A prepared call about a device: (NVML code, value). One for all GPUs of the machine: what they share stays in the processor's cache."""

SUCCESS = 0
UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIB_RM_VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25
UNKNOWN = 999

NO_RETURN = frozenset((UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH, UNKNOWN))
"""When every GPU answers with one of these, only a fresh process can go on."""

REFUSALS = frozenset((NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND))
"""The card, the driver or the machine will not tell; asking again soon is useless."""

NOT_AVAILABLE = 2**64 - 1
"""NVML_VALUE_NOT_AVAILABLE: usedGpuMemory under WDDM, MPS, some vGPUs and containers."""

NO_INSTANCE = 2**32 - 1
"""GPU or compute instance id of a process that runs in no MIG slice."""

_REASONS = {
    NOT_SUPPORTED: "not supported",
    NO_PERMISSION: "no permission",
    FUNCTION_NOT_FOUND: "not in this driver: it is too old or too new",
    GPU_IS_LOST: "lost",
}
_RUNG_MISSING = frozenset((FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH))

# Layouts of nvml.h (little endian, as every machine that has this driver). v1 lists have 16 bytes a row, v2 and v3 24; the first 535
# drivers wrote 32 bytes a row under the name _v3 (with the protected memory behind), which scrambles every row but the first.
_ROW_16 = struct.Struct("<IxxxxQ")
_ROW_24 = struct.Struct("<IxxxxQII")
_ROW_32 = struct.Struct("<IxxxxQIIQ")
_UTILIZATION = struct.Struct("<IxxxxQIIII")
_FIELD = struct.Struct("<IIqqIIQ")  # id, scope, timestamp, latency, type of the value, code, value (8 bytes whose type differs)

_FIRST_ROWS = 64
_MOST_ROWS = 32768  # a list that claims to be longer is not believed

_UNSIGNED, _LOW = 1, 2**32 - 1
_VALUE_LAYOUTS = {0: "<d", _UNSIGNED: "<I", 2: "<Q", 3: "<Q", 4: "<q", 5: "<i", 6: "<H"}

ProcessRow = Tuple[int, int, int, int]
"""pid, bytes used (or NOT_AVAILABLE), GPU instance, compute instance (or NO_INSTANCE)."""


class NvmlError(Exception):
    """NVML cannot be used: ``code`` is NVML's, or LIBRARY_NOT_FOUND; ``str()`` is one line for people."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class WrongLibrary(NvmlError):
    """What was found under the name is not what it should be: a stub library, or another module called pynvml."""


def reason(code: int) -> str:
    """Why a value is None, in words: ``not supported``, ``no permission``, ``error: Unknown Error`` ..."""
    return _REASONS.get(code) or f"error: {error_text(code)}"


def error_text(code: int) -> str:
    """NVML's own words for a code; they come from pynvml's table, so that no library is needed for them."""
    try:
        words = _pynvml().NVMLError._errcode_to_string
    except NvmlError:
        words = {}
    return str(words.get(code, f"NVML error {code}"))


def _pynvml() -> Any:
    """The module pynvml, checked to be nvidia-ml-py. Raises WrongLibrary."""
    try:
        import pynvml
    except Exception as error:  # a foreign pynvml may raise anything while it is imported
        raise WrongLibrary(LIBRARY_NOT_FOUND, f"the Python module pynvml cannot be imported ({error}): install nvidia-ml-py") from error
    if not all(hasattr(pynvml, name) for name in ("_LoadNvmlLibrary", "c_nvmlProcessInfo_v3_t", "nvmlGpmMetricsGet")):
        place = getattr(pynvml, "__file__", None) or "an unknown place"
        raise WrongLibrary(LIBRARY_NOT_FOUND, f"the Python module pynvml from {place} is not nvidia-ml-py: remove it and install nvidia-ml-py")
    return pynvml


def _refuse(*_: object) -> int:
    """Stands for a function that the loaded library does not have."""
    return FUNCTION_NOT_FOUND


class Nvml:
    """The loaded library. ``open`` once, ``close`` once; a lost driver is never re-opened in the same process."""

    def __init__(self) -> None:
        self._library: Any = None
        self._opened = False
        self.library_path: Optional[str] = None

    def open(self) -> None:
        """Load the library and start it. Raises NvmlError (WrongLibrary for a stub or a foreign module)."""
        pynvml = _pynvml()
        try:
            pynvml._LoadNvmlLibrary()
        except pynvml.NVMLError as error:
            raise NvmlError(LIBRARY_NOT_FOUND, "libnvidia-ml.so.1 is not installed") from error
        self._library = pynvml.nvmlLib
        self.library_path = _mapped_library()
        if self.library_path and "/stubs/" in self.library_path:
            # A stub prints a warning to stdout, where the sampler writes its frames: no function of it is called.
            self._library = None
            raise WrongLibrary(UNKNOWN, f"{self.library_path} is a stub for building, not the driver's: take its folder out of LD_LIBRARY_PATH")
        code = self.function("nvmlInit_v2", "nvmlInit")()
        if code:
            raise NvmlError(code, f"NVML does not start: {error_text(code)}")
        self._opened = True

    def close(self) -> None:
        """Let go of the driver."""
        if self._opened:
            self._opened = False
            self.function("nvmlShutdown")()

    def function(self, *names: str) -> Callable[..., int]:
        """The first of ``names`` that the library has; else one that answers FUNCTION_NOT_FOUND."""
        for name in names:
            try:
                found: Callable[..., int] = getattr(self._library, name)
                return found
            except AttributeError:
                continue
        return _refuse

    def versions(self) -> Tuple[Optional[str], Optional[str], Optional[str]]:
        """Driver, library and CUDA version, None where it is not told. The library's is known even when NVML does not start."""
        if self._library is None:
            return None, None, None
        driver, library = self._system_text("nvmlSystemGetDriverVersion"), self._system_text("nvmlSystemGetNVMLVersion")
        cuda = ctypes.c_int()
        code = self.function("nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion")(ctypes.byref(cuda))
        if library:
            library = re.sub(r"^\d{1,2}\.(?=\d{3}\.)", "", library)  # 13.590.48.01: CUDA's major version, then the driver's
        known = not code and cuda.value > 0
        return driver, library, f"{cuda.value // 1000}.{cuda.value % 1000 // 10}" if known else None

    def _system_text(self, name: str) -> Optional[str]:
        buffer = ctypes.create_string_buffer(96)
        return None if self.function(name)(buffer, len(buffer)) else buffer.value.decode("utf-8", "replace") or None

    def device_count(self) -> Callable[[], Tuple[int, int]]:
        """The call that gives (code, number of GPUs)."""
        function, count = self.function("nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"), ctypes.c_uint()
        count_at = ctypes.byref(count)
        return lambda: (function(count_at), count.value)

    def device(self, index: int) -> Tuple[int, Handle]:
        """(code, handle of GPU number ``index``)."""
        return self._handle(("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"), index)

    def mig_device(self, handle: Handle, index: int) -> Tuple[int, Handle]:
        """(code, handle of MIG slice number ``index`` of a GPU); NOT_FOUND for an empty place."""
        return self._handle(("nvmlDeviceGetMigDeviceHandleByIndex",), handle, index)

    def _handle(self, names: Sequence[str], *before: Any) -> Tuple[int, Handle]:
        handle = ctypes.c_void_p()
        code = self.function(*names)(*before, ctypes.byref(handle))
        return code, None if code else handle

    # prepared calls about a device

    def text(self, name: str, size: int = 96) -> Ask:
        """A text about a device, bytes that are no UTF-8 replaced."""
        function, buffer = self.function(name), ctypes.create_string_buffer(size)

        def ask(handle: Handle) -> Tuple[int, Any]:
            code = function(handle, buffer, size)
            return code, None if code else buffer.value.decode("utf-8", "replace")

        return ask

    def number(self, *names: str, kind: Any = ctypes.c_uint, before: Sequence[Any] = ()) -> Ask:
        """One number of a ctypes ``kind``; ``names`` from newest to oldest, ``before``: arguments between handle and result."""
        function, out = self.function(*names), kind()
        arguments = (*before, ctypes.byref(out))
        return lambda handle: (function(handle, *arguments), out.value)

    def pair(self, name: str, kind: Any = ctypes.c_uint) -> Ask:
        """A call that fills two numbers: a tuple."""
        function, first, second = self.function(name), kind(), kind()
        first_at, second_at = ctypes.byref(first), ctypes.byref(second)
        return lambda handle: (function(handle, first_at, second_at), (first.value, second.value))

    def memory(self) -> Ask:
        """[total, reserved, free, used] in bytes; reserved None where the driver only has the first version."""
        second, first = (ctypes.c_uint64 * 5)(0x02000028), (ctypes.c_uint64 * 3)()
        ask_second, ask_first = self.function("nvmlDeviceGetMemoryInfo_v2"), self.function("nvmlDeviceGetMemoryInfo")
        second_at, first_at = ctypes.byref(second), ctypes.byref(first)
        return ladder(
            lambda handle: (ask_second(handle, second_at), second[1:]),
            lambda handle: (ask_first(handle, first_at), [first[0], None, first[1], first[2]]),
        )

    def utilization_rates(self) -> Ask:
        """[GPU, memory controller] in percent."""
        rates = (ctypes.c_uint * 2)()
        function, rates_at = self.function("nvmlDeviceGetUtilizationRates"), ctypes.byref(rates)
        return lambda handle: (function(handle, rates_at), rates[:])

    def pci_info(self) -> Ask:
        """An nvmlPciInfo_t as bytes: 16 of the old address, 5 numbers, 32 of the address."""
        buffer = ctypes.create_string_buffer(128)
        function = self.function("nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2")
        return lambda handle: (function(handle, buffer), buffer.raw)

    def fields(self, wanted: Sequence[Tuple[int, int]]) -> Ask:
        """NVML field values for (field id, scope): a list of (code, number) in that order."""
        count = len(wanted)
        asked = b"".join(_FIELD.pack(field, scope, 0, 0, 0, 0, 0) for field, scope in wanted)
        buffer = ctypes.create_string_buffer(asked, len(asked))
        function = self.function("nvmlDeviceGetFieldValues")

        def ask(handle: Handle) -> Tuple[int, Any]:
            code = function(handle, count, buffer)
            if code:
                return code, None
            rows = _FIELD.iter_unpack(buffer.raw)
            return code, [
                (failed, None) if failed else (0, value & _LOW) if kind == _UNSIGNED else field_value(kind, value)
                for _, _, _, _, kind, failed, value in rows
            ]

        return ask

    def process_utilization(self) -> Callable[[Handle, int], Tuple[int, Any]]:
        """Takes lastSeenTimeStamp (microseconds of NVML's clock): list of (pid, timestamp, sm, memory, encoder, decoder)."""
        function, count, since = self.function("nvmlDeviceGetProcessUtilization"), ctypes.c_uint(), ctypes.c_ulonglong()
        count_at = ctypes.byref(count)
        room: List[Any] = [_FIRST_ROWS, ctypes.create_string_buffer(_FIRST_ROWS * _UTILIZATION.size)]

        def ask(handle: Handle, last_seen: int) -> Tuple[int, Any]:
            since.value = last_seen
            for _ in range(4):  # more may have become active between two calls
                count.value = room[0]
                code = function(handle, room[1], count_at, since)
                if code != INSUFFICIENT_SIZE:
                    break
                room[0] = 2 * min(max(count.value, _FIRST_ROWS), _MOST_ROWS)
                room[1] = ctypes.create_string_buffer(room[0] * _UTILIZATION.size)
            if code:
                return (SUCCESS, []) if code == NOT_FOUND else (code, None)
            rows = min(count.value, room[0])
            return code, list(_UTILIZATION.iter_unpack(memoryview(room[1])[: rows * _UTILIZATION.size]))

        return ask


class ProcessList:
    """One of the process lists (``Compute``, ``Graphics``, ``MPSCompute``), by the newest function that the driver has.

    Rows are valid until the list of another GPU is read.
    """

    def __init__(self, library: Nvml, kind: str) -> None:
        self._count = ctypes.c_uint()
        self._count_at = ctypes.byref(self._count)
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        versions = ((name + "_v3", _ROW_24), (name + "_v2", _ROW_24), (name, _ROW_16))
        self._rungs = [(library.function(symbol), layout) for symbol, layout in versions]
        self._grow(_FIRST_ROWS)

    def _grow(self, rows: int) -> None:
        self._room, self._buffer = rows, ctypes.create_string_buffer(rows * _ROW_32.size)
        self._view = memoryview(self._buffer).cast("B")

    def read(self, handle: Handle) -> Tuple[int, int]:
        """(code, number of rows)."""
        while True:
            code = self._read(handle)
            if code not in _RUNG_MISSING or len(self._rungs) == 1:
                return code, 0 if code else min(self._count.value, self._room)
            del self._rungs[0]

    def _read(self, handle: Handle) -> int:
        function, count = self._rungs[0][0], self._count
        for _ in range(4):  # the list may grow between two calls
            count.value = self._room
            code: int = function(handle, self._count_at, self._buffer)
            if code != INSUFFICIENT_SIZE:
                break
            self._grow(2 * min(max(count.value, _FIRST_ROWS), _MOST_ROWS))
        return code

    def raw(self, count: int, wide: bool) -> bytes:
        """The rows just read as the driver wrote them: the same bytes are the same processes. ``wide``: in the layout of ``rows_of_535``."""
        return bytes(self._view[: count * (_ROW_32 if wide else self._rungs[0][1]).size])

    def rows(self, count: int) -> List[ProcessRow]:
        """The rows just read, in the layout that belongs to the function's version."""
        layout = self._rungs[0][1]
        rows: List[Any] = list(layout.iter_unpack(self._view[: count * layout.size]))
        if layout is _ROW_16:
            return [(pid, used, NO_INSTANCE, NO_INSTANCE) for pid, used in rows]
        return rows

    def rows_of_535(self, count: int) -> List[ProcessRow]:
        """The same bytes in the layout of the first 535 drivers."""
        return [row[:4] for row in _ROW_32.iter_unpack(self._view[: count * _ROW_32.size])]


def ladder(*rungs: Ask) -> Ask:
    """The first of several versions of a call that this driver knows, found once."""
    left = list(rungs)

    def ask(handle: Handle) -> Tuple[int, Any]:
        while True:
            code, value = left[0](handle)
            if code not in _RUNG_MISSING or len(left) == 1:
                return code, value
            del left[0]

    return ask


def field_value(kind: int, value: int) -> Tuple[int, Any]:
    """(code, number) of 8 bytes that hold a value of NVML's type ``kind`` (nvmlValueType_t)."""
    layout = _VALUE_LAYOUTS.get(kind)
    if layout is None:
        return UNKNOWN, None
    return SUCCESS, struct.unpack_from(layout, value.to_bytes(8, "little"))[0]


def _mapped_library() -> Optional[str]:
    """Path of the library that this process has mapped; without the mark of a file that was replaced since."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if "libnvidia-ml.so" in line:
                    return os.path.normpath(line.split(None, 5)[5].strip().replace(" (deleted)", ""))
    except OSError:
        pass
    return None
