"""A snapshot of the machine without its GPUs, and why: what a node shows while the driver does not answer. Must never touch the driver."""

from __future__ import annotations

import dataclasses
import logging
from typing import Callable, Optional, Tuple

from gpuwatch import __version__
from gpuwatch.config.settings import SamplerOptions
from gpuwatch.loops import Repeats
from gpuwatch.model.snapshot import CollectorStatus, HostReading, Snapshot

log = logging.getLogger(__name__)
_DRIVER = ("driver_version", "library_version", "cuda_version")


class HostOnly:
    """Reads the host alone. The collector is imported and made at the first reading: a node whose driver works never needs it."""

    def __init__(self, options: SamplerOptions) -> None:
        self._options = options
        self._collector: Optional[Callable[[float], HostReading]] = None
        self._repeats = Repeats("host readings")

    def snapshot(self, now: float, reason: str, since_at: Optional[float]) -> Snapshot:
        """Host readings, no GPUs, and the reason as the status of the collector ``nvml``."""
        driver = CollectorStatus("nvml", ok=False, message=reason, since_at=since_at)
        snapshot = Snapshot(
            taken_at=round(now, 3),
            hostname=self._options.name,
            version=__version__,
            interval_seconds=self._options.interval,
            collectors=(driver,),
        )
        return self.fill(snapshot, now)

    def fill(self, snapshot: Snapshot, now: float) -> Snapshot:
        """``snapshot`` with the host's readings; as it is where a source gave them already. A source may give the driver's versions alone."""
        driver = {name: getattr(snapshot.host, name) for name in _DRIVER if getattr(snapshot.host, name) is not None}
        if snapshot.host != HostReading(**driver):
            return snapshot
        host, trouble = self._read(now)
        missing = {name: reason for name, reason in host.missing.items() if name not in driver}
        host = dataclasses.replace(host, **driver, missing=missing)
        return dataclasses.replace(snapshot, host=host, collectors=snapshot.collectors + trouble)

    def _read(self, now: float) -> Tuple[HostReading, Tuple[CollectorStatus, ...]]:
        try:
            if self._collector is None:
                self._collector = _collector(self._options)
            host = self._collector(now)
        except Exception as error:
            self._repeats.failed(error)
            return HostReading(), (CollectorStatus("host", ok=False, message=f"the host cannot be read: {error}"[:300]),)
        self._repeats.worked()
        return host, ()


def _collector(options: SamplerOptions) -> Callable[[float], HostReading]:
    """The host part of ``collect`` alone, with the driver's version as the kernel tells it."""
    from gpuwatch.collect.driver import loaded_version
    from gpuwatch.collect.gpu import Ages
    from gpuwatch.collect.host import DriverFacts, Host

    host = Host(options.root, Ages(options.interval, options.status_age, options.health_age, options.identity_age))
    return lambda now: host.read(now, DriverFacts(loaded_version(options.root)))
