"""Processes of the host by /proc: facts that cannot change are read once per (pid, start time), the rest at each sample.

Plain reads cost a tenth of psutil's objects. A process that is gone, or hidden by hidepid, is None: never an error.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, Dict, NamedTuple, Optional, Set, Tuple

from gpuwatch.collect.build import defaults
from gpuwatch.collect.containers import place_of
from gpuwatch.collect.files import read_bytes, read_text, under
from gpuwatch.collect.users import Users
from gpuwatch.model.snapshot import ProcessReading

COMMAND_LENGTH = 500
_MOST_OPEN = 256  # file descriptors; processes beyond cost more
_CHECK_SECONDS = 60.0  # a process whose name has changed since is another program
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """What this room needs of a /proc/PID/stat: times in clock ticks, memory in pages."""

    name: bytes
    cpu_ticks: int
    start_ticks: int
    resident_pages: int


NOBODY: Dict[str, Any] = defaults(ProcessReading)
"""Fields of a process of which only its pid is known."""


class Known:
    """A process from sample to sample. ``facts``: fields of a ProcessReading that stay as long as it lives (and keeps its name)."""

    __slots__ = ("checked_at", "clock", "cpu_at", "cpu_percent", "cpu_seconds", "descriptor", "facts", "has_hidden_job", "host_memory_bytes", "stat")

    def __init__(self, pid: int, stat: Stat, facts: Dict[str, Any], has_hidden_job: bool, descriptor: int, now: float) -> None:
        """``has_hidden_job``: it may run in a Slurm job, which this user may not read."""
        self.stat, self.facts, self.descriptor, self.checked_at = stat, facts, descriptor, now
        self.has_hidden_job = has_hidden_job
        self.clock = _clock_of(pid)
        self.cpu_seconds, self.cpu_at = 0.0, now
        self.cpu_percent: Optional[float] = None
        self.host_memory_bytes = 0
        if not self.glance(now, True):
            self.use(stat.cpu_ticks / _TICKS, now)
            self.host_memory_bytes = stat.resident_pages * _PAGE

    def glance(self, now: float, closely: bool) -> bool:
        """Look what it uses, at a fraction of the cost of its /proc/PID/stat; ``closely``: its memory too. False: it has ended, or must be checked.

        An open statm can never show another process of the same pid. The clock may; that one has run less, or the driver lists it anew.
        """
        try:
            cpu_seconds = time.clock_gettime(self.clock)
            if closely:
                self.host_memory_bytes = int(os.pread(self.descriptor, 64, 0).split(None, 2)[1]) * _PAGE
        except (OSError, IndexError):
            return False
        if cpu_seconds < self.cpu_seconds:
            return False
        self.use(cpu_seconds, now)
        return True

    def use(self, cpu_seconds: float, now: float) -> None:
        """Take in what it has used until now; the CPU share is that since the last time. Twice in one sample: the share stays."""
        passed = now - self.cpu_at
        if passed != 0.0:
            self.cpu_percent = max(0.0, round((cpu_seconds - self.cpu_seconds) * 100.0 / passed, 1)) if passed > 0.0 else None
        self.cpu_seconds, self.cpu_at = cpu_seconds, now


class ProcessTable:
    """The processes that were asked for, kept from sample to sample. Call ``begin``, ``look`` for each pid, ``end``."""

    def __init__(self, root: str) -> None:
        self._proc = under(root, "proc")
        self._users = Users(root)
        self._known: Dict[int, Known] = {}
        self._seen: Dict[int, Optional[Known]] = {}
        self._close: Set[int] = set()
        self._now = 0.0
        self._boot_at = boot_time(root)
        self._glances = _has_own_pids(root)
        self.pid_max = _pid_max(root)

    def begin(self, now: float) -> None:
        """A new sample begins, at ``now``."""
        self._now, self._seen, self._close = now, {}, set()

    def end(self) -> None:
        """The sample is complete: forget processes that nobody asked for in it."""
        seen = self._seen
        for pid in [pid for pid in self._known if pid not in seen or seen[pid] is None]:
            self._forget(pid)

    def close(self) -> None:
        """Forget all."""
        for pid in list(self._known):
            self._forget(pid)

    def look(self, pid: int, closely: bool = True) -> Optional[Known]:
        """The process as it is now; None when it has ended or cannot be seen. Read once per sample, its host memory only ``closely``.

        Asking the kernel about processes that sleep costs more than all else about them, so memory is read with the status group.
        """
        seen, now = self._seen, self._now
        if pid in seen and (seen[pid] is None or not closely or pid in self._close):
            return seen[pid]
        if closely:
            self._close.add(pid)
        found = self._known.get(pid)
        if found is None:
            found = self._meet(pid)
        elif found.descriptor < 0 or not 0.0 <= now - found.checked_at < _CHECK_SECONDS or not found.glance(now, closely):
            found = self._check(pid, found)
        seen[pid] = found
        return found

    def _check(self, pid: int, known: Known) -> Optional[Known]:
        """Whether it still is the same program of the same process: its name and start time tell."""
        stat = self._stat(pid)
        if stat is None or stat.start_ticks != known.stat.start_ticks or stat.name != known.stat.name:
            self._forget(pid)
            return self._meet(pid)
        known.checked_at = self._now
        if known.descriptor < 0 or not known.glance(self._now, True):
            known.use(stat.cpu_ticks / _TICKS, self._now)
            known.host_memory_bytes = stat.resident_pages * _PAGE
        return known

    def _meet(self, pid: int) -> Optional[Known]:
        """A process that was not known. One that ends while it is looked at is none: what is left of it would say that somebody hides it."""
        stat = self._stat(pid)
        if stat is None:
            return None
        glances = self._glances and len(self._known) < _MOST_OPEN
        descriptor = _open(f"{self._proc}/{pid}/statm") if glances else -1
        facts, has_hidden_job = self._facts(pid, stat)
        if (has_hidden_job or facts["user"] is None) and self._stat(pid) is None:
            _close(descriptor)
            return None
        known = self._known[pid] = Known(pid, stat, facts, has_hidden_job, descriptor, self._now)
        return known

    def _stat(self, pid: int) -> Optional[Stat]:
        return parse_stat(read_bytes(f"{self._proc}/{pid}/stat", 1024) or b"")

    def _forget(self, pid: int) -> None:
        _close(self._known.pop(pid).descriptor)

    def _facts(self, pid: int, stat: Stat) -> Tuple[Dict[str, Any], bool]:
        """(fields of a ProcessReading, its Slurm job may not be read)."""
        folder = f"{self._proc}/{pid}"
        command = (read_bytes(f"{folder}/cmdline", 4 * COMMAND_LENGTH) or b"").rstrip(b"\0").replace(b"\0", b" ")
        started_at = None if self._boot_at is None else round(self._boot_at + stat.start_ticks / _TICKS, 2)
        place = place_of(read_text(f"{folder}/cgroup") or "")
        environment: Optional[bytes] = b""
        if place.job is None:
            environment = read_bytes(f"{folder}/environ", 1 << 20)
            place = place._replace(job=_slurm_job(environment or b""))
        facts = {
            **NOBODY,
            "started_at": started_at,
            "user": self._owner(folder),
            "name": stat.name.decode("utf-8", "replace"),
            "command": command.decode("utf-8", "replace")[:COMMAND_LENGTH] or None,
            "container": place.container,
            "job": place.job,
        }
        return facts, environment is None

    def _owner(self, folder: str) -> Optional[str]:
        """The real user, else (status hidden) the owner of the folder, which is root for programs that refuse to be dumped."""
        found = re.search(rb"^Uid:\s+(\d+)", read_bytes(f"{folder}/status", 4096) or b"", re.MULTILINE)
        if found:
            return self._users.name(int(found.group(1)), self._now)
        try:
            return self._users.name(os.stat(folder).st_uid, self._now)
        except OSError:
            return None


def _has_own_pids(root: str) -> bool:
    """Whether the pids of this /proc are those of this process's system calls, and the clocks of other processes can be read."""
    try:
        return not root.rstrip("/") and os.readlink("/proc/self") == str(os.getpid()) and time.clock_gettime(_clock_of(os.getppid())) >= 0
    except OSError:
        return False


def _clock_of(pid: int) -> int:
    """The clock of a process's CPU time (clock_getcpuclockid(3)); anybody may read it."""
    return (~pid << 3) | 2


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def parse_stat(data: bytes) -> Optional[Stat]:
    """Fields 2, 14 + 15, 22 and 24 of a /proc/PID/stat (proc(5)); a name may hold spaces and brackets. None for anything else."""
    opened, closed = data.find(b"("), data.rfind(b")")
    fields = data[closed + 2 :].split(None, 22)
    if opened < 0 or closed < 0 or len(fields) < 22:
        return None
    try:
        return Stat(data[opened + 1 : closed], int(fields[11]) + int(fields[12]), int(fields[19]), int(fields[21]))
    except ValueError:
        return None


def boot_time(root: str) -> Optional[float]:
    """When the machine started (``btime`` of /proc/stat), UTC epoch seconds."""
    found = re.search(r"^btime (\d+)", read_text(under(root, "proc/stat"), 1 << 20) or "", re.MULTILINE)
    return float(found.group(1)) if found else None


def _pid_max(root: str) -> int:
    text = (read_text(under(root, "proc/sys/kernel/pid_max")) or "").strip()
    return int(text) if text.isdigit() else 4_194_304


def _slurm_job(environment: bytes) -> Optional[str]:
    """SLURM_JOB_ID of a /proc/PID/environ, which only root and the owner may read; nothing else of it is kept."""
    found = re.search(rb"(?:^|\0)SLURM_JOB_ID=(\d{1,12})(?:\0|$)", environment)
    return found.group(1).decode() if found else None


def visible_pids(root: str, host_only: Tuple[str, ...] = ("hidepid=1", "hidepid=2", "hidepid=invisible", "hidepid=noaccess")) -> bool:
    """Whether all processes of the host can be seen: not with hidepid, and not from a container that has its own process ids."""
    mounts = read_text(under(root, "proc/self/mounts"), 1 << 20) or ""
    options = [line.split()[3] for line in mounts.splitlines() if line.count(" ") >= 5 and line.split()[2] == "proc"]
    if any(word in option.split(",") for option in options[:1] for word in host_only):
        return False
    if root.rstrip("/"):
        return True
    try:
        return os.readlink("/proc/self/ns/pid") == "pid:[4026531836]"  # PROC_PID_INIT_INO: the first name space, always
    except OSError:
        return True
