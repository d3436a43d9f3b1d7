"""Xid events: what the driver says about errors of a GPU, from the kernel's log where it may be read, else from NVML's events.

Never blocks: the log is read to its end at each sample, NVML is asked with a time-out of zero. Only lines of the kernel itself that start
with ``NVRM:`` count: other drivers print "XID" too (r8169: "XID 541" is a chip number), and users may write to the log.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.calls import short_pci_address
from gpuwatch.collect.files import under
from gpuwatch.collect.nvml import Handle, Nvml
from gpuwatch.model.snapshot import XidEvent

KEPT = 32
FALLEN_OFF_THE_BUS = 79
_RECORDS_PER_READ = 50_000
_RECORD_BYTES = 16384
_XID_CRITICAL = 8  # nvmlEventTypeXidCriticalError
_RECORD = re.compile(r"(\d+),\d+,(\d+),[^;]*;(NVRM: .*)")
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)(?:, (.*))?")
_FALLEN = re.compile(r"NVRM: .*?([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?).*(GPU has fallen off the bus.*)")
_PID = re.compile(r"pid='?(\d+)'?")


class _EventData(ctypes.Structure):
    _fields_ = [
        ("device", ctypes.c_void_p),
        ("type", ctypes.c_ulonglong),
        ("data", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


def parse_record(line: str, offset: float) -> Optional[XidEvent]:
    """The Xid of one record of /dev/kmsg (``priority,sequence,microseconds,flags;text``); ``offset``: epoch time of its zero. None for others."""
    record = _RECORD.match(line)
    if record is None or int(record.group(1)) >> 3 != 0:  # facility 0 is the kernel, all others are programs
        return None
    at, text = round(offset + int(record.group(2)) / 1e6, 1), record.group(3)
    found = _XID.match(text)
    if found:
        rest = found.group(3) or ""
        pid = _PID.search(rest)
        code = int(found.group(2))
        return XidEvent(at, code, full_address(found.group(1)), int(pid.group(1)) if pid else None, rest[:200] or None) if code else None
    fallen = _FALLEN.match(text)
    if fallen:
        return XidEvent(at, FALLEN_OFF_THE_BUS, full_address(fallen.group(1)), None, fallen.group(2)[:200])
    return None


def full_address(text: str) -> str:
    """``0000:65:00`` (as the driver prints it) as ``0000:65:00.0``."""
    address = short_pci_address(text)
    return address if "." in address else f"{address}.0"


class KernelLog:
    """/dev/kmsg below the root, from the oldest record that the kernel still has."""

    def __init__(self, root: str) -> None:
        path = under(root, "dev/kmsg")
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._rest = b""
        self._offset = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        try:
            self._pending = self._read()
        except OSError:
            os.close(self._descriptor)
            raise

    def read(self) -> List[XidEvent]:
        """Events since the last time."""
        if not self._pending and not self._poll.poll(0):
            return []
        pieces = [self._rest, self._pending]
        for _ in range(_RECORDS_PER_READ):
            piece = self._read()
            if not piece:
                break
            pieces.append(piece)
        self._pending = b""
        lines = b"".join(pieces).split(b"\n")
        self._rest = lines.pop()[-_RECORD_BYTES:]
        events = (parse_record(line.decode("utf-8", "replace"), self._offset) for line in lines if b"NVRM" in line)
        return [event for event in events if event is not None]

    def _read(self) -> bytes:
        """One record (a file that stands for the log: one piece); empty at the end. Raises PermissionError without the right."""
        while True:
            try:
                return os.read(self._descriptor, _RECORD_BYTES)
            except BlockingIOError:
                return b""
            except BrokenPipeError:
                continue  # records were overwritten before we read them: go on with the oldest left

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)


class NvmlEvents:
    """NVML's event set. It knows nothing of what happened before it was made."""

    def __init__(self, library: Nvml) -> None:
        self._nvml = library
        self._set = ctypes.c_void_p()
        self._data = _EventData()
        self._addresses: Dict[Any, Optional[str]] = {}
        self.code = library.function("nvmlEventSetCreate")(ctypes.byref(self._set))

    def register(self, handle: Handle, pci_bus_id: Optional[str]) -> None:
        """Hear of this GPU too."""
        if self.code == nvml.SUCCESS:
            code = self._nvml.function("nvmlDeviceRegisterEvents")(handle, ctypes.c_ulonglong(_XID_CRITICAL), self._set)
            if code == nvml.SUCCESS:
                self._addresses[handle.value] = pci_bus_id

    @property
    def heard(self) -> int:
        """How many GPUs can report."""
        return len(self._addresses)

    def read(self, now: float) -> List[XidEvent]:
        """Events since the last time. Xid 0 is none: some drivers send clock events with it."""
        if not self._addresses:
            return []
        wait = self._nvml.function("nvmlEventSetWait_v2", "nvmlEventSetWait")
        events = []
        for _ in range(KEPT):
            if wait(self._set, ctypes.byref(self._data), 0) != nvml.SUCCESS:
                break
            if self._data.type == _XID_CRITICAL and self._data.data:
                address = self._addresses.get(self._data.device)
                events.append(XidEvent(round(now, 1), int(self._data.data), address, None, None))
        return events

    def close(self) -> None:
        """Give the set back to the driver."""
        if self.code == nvml.SUCCESS:
            self._nvml.function("nvmlEventSetFree")(self._set)
            self.code = nvml.UNINITIALIZED


class Xids:
    """The newest events, from the better of the two sources."""

    def __init__(self, root: str) -> None:
        self.events: Tuple[XidEvent, ...] = ()
        self._log: Optional[KernelLog] = None
        self._nvml: Optional[NvmlEvents] = None
        self._log_error = ""
        try:
            self._log = KernelLog(root)
        except OSError as error:
            self._log_error = error.strerror or str(error)

    @property
    def wants_events(self) -> bool:
        """Whether NVML must be asked, since the kernel's log cannot be read."""
        return self._log is None

    def attach(self, library: Nvml) -> Callable[[Handle, Optional[str]], None]:
        """Hear NVML's events; gives the function that registers a GPU."""
        if self._nvml is None:
            self._nvml = NvmlEvents(library)
        return self._nvml.register

    def read(self, now: float) -> Tuple[bool, Optional[str]]:
        """Take in what is new. (it works, what is wrong or lacking)."""
        if self._log is not None:
            self._keep(self._log.read())
            return True, None
        need = f"/dev/kmsg cannot be read ({self._log_error}): run the node as root, with CAP_SYSLOG, or with kernel.dmesg_restrict=0"
        if self._nvml is None or not self._nvml.heard:
            return False, f"no Xid events: {need}"
        self._keep(self._nvml.read(now))
        return True, f"Xid events come from NVML, without those before the node's start: {need}"

    def code_of(self, pci_bus_id: Optional[str]) -> Optional[int]:
        """Newest Xid of the GPU at this address."""
        codes = [event.code for event in self.events if event.pci_bus_id == pci_bus_id]
        return codes[-1] if codes and pci_bus_id else None

    def _keep(self, events: List[XidEvent]) -> None:
        for event in events:
            if not self._repeats(event):
                self.events = (*self.events, event)[-KEPT:]

    def _repeats(self, event: XidEvent) -> bool:
        """A GPU that falls off the bus is told in two lines of the log."""
        return event.code == FALLEN_OFF_THE_BUS and any(
            known.code == event.code and known.pci_bus_id == event.pci_bus_id and abs(known.at - event.at) < 5 for known in self.events
        )

    def detach(self) -> None:
        """NVML goes away: give its event set back."""
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None

    def close(self) -> None:
        """Close the kernel's log."""
        if self._log is not None:
            self._log.close()
            self._log = None
