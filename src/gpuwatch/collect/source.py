"""Real snapshots of this machine. ``make(options)`` gives the Source that the sampler runs in a process of its own.

A part that fails reports itself in ``collectors`` and leaves the others alone. When the driver as a whole is gone, one snapshot says so and
the next ``read`` raises SourceLost: a fresh process is needed, since NVML never recovers from that in the same one.
"""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, Optional, Tuple

from gpuwatch import __version__
from gpuwatch.collect.files import read_text, under
from gpuwatch.collect.gpu import Ages
from gpuwatch.collect.gpus import Gpus
from gpuwatch.collect.host import Host
from gpuwatch.collect.processes import Attribution
from gpuwatch.collect.xid import Xids
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, Snapshot
from gpuwatch.model.source import SourceLost, SourceOptions

Outcome = Tuple[bool, Optional[str]]


class HardwareSource:
    """model.source.Source over NVML and /proc. Used by one thread."""

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        ages = Ages(options.interval, options.status_age, options.health_age, options.identity_age)
        self._hostname = options.name or _hostname(options.root)
        self._shared = Attribution(options.root)
        self._xids = Xids(options.root)
        self._host = Host(options.root, ages)
        self._gpus = Gpus(options.root, ages, options.known_gpus, self._shared, self._xids)
        hidden = self._shared.blind_reason
        self._status_of_processes = CollectorStatus("processes", hidden is None, hidden)
        self._status_of_driver = CollectorStatus("driver")
        self._failing_since: Dict[str, float] = {}
        self._gpu_readings: Tuple[GpuReading, ...] = ()
        self._host_reading = HostReading()

    def read(self, now: float) -> Snapshot:
        """One snapshot at ``now``. Raises SourceLost after one that said that the driver is gone."""
        if self._gpus.lost_reason:
            raise SourceLost(self._gpus.lost_reason)
        nvml = None if self._gpus.has_driver else self._run("nvml", now, self._gpus.start)
        statuses = [self._run("host", now, self._read_host), self._status_of_processes]
        self._gpu_readings = ()
        if self._gpus.has_driver:
            # The kernel's log comes before the GPUs, whose errors it explains; NVML's events need GPUs that are registered.
            xid = None if self._xids.wants_events else self._run("xid", now, self._xids.read)
            nvml = self._run("nvml", now, self._read_gpus)
            if self._gpus.driver_check_is_due(now):
                self._status_of_driver = self._run("driver", now, self._gpus.check_driver)
            statuses += [self._status_of_driver, xid or self._run("xid", now, self._xids.read)]
        statuses.insert(1, nvml or CollectorStatus("nvml"))
        return Snapshot(
            taken_at=round(now, 3),
            hostname=self._hostname,
            version=__version__,
            interval_seconds=self._options.interval,
            host=self._host_reading,
            gpus=self._gpu_readings,
            collectors=tuple(statuses),
            xids=self._xids.events,
        )

    def close(self) -> None:
        """Release the driver and the files."""
        self._gpus.close()
        self._shared.table.close()
        self._host.close()
        self._xids.close()

    def _read_host(self, now: float) -> Outcome:
        self._host_reading = self._host.read(now, self._gpus.facts)
        return True, None

    def _read_gpus(self, now: float) -> Outcome:
        self._shared.table.begin(now)
        self._gpu_readings, ok, message = self._gpus.read(now, self._host.memory)
        self._shared.table.end()
        return ok, message

    def _run(self, name: str, now: float, part: Callable[[float], Outcome]) -> CollectorStatus:
        started = time.perf_counter()
        try:
            ok, message = part(now)
        except Exception as error:  # a part that fails must not take its neighbours down; the node logs the message
            ok, message = False, f"{name} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        since = None
        if ok:
            self._failing_since.pop(name, None)
        else:
            since = self._failing_since.setdefault(name, round(now, 3))
        return CollectorStatus(name, ok, message, since, round(time.perf_counter() - started, 3))


def make(options: SourceOptions) -> HardwareSource:
    """The source of this machine's readings. Never raises: what does not work is said in the first snapshot."""
    return HardwareSource(options)


def _hostname(root: str) -> str:
    """The machine's own name; in a container that of the host, as its /etc/hostname says."""
    if root.rstrip("/"):
        lines = (read_text(under(root, "etc/hostname")) or "").split()
        if lines:
            return lines[0]
    return os.uname().nodename
