"""Where snapshots come from: real hardware (``collect``) or a simulation (``sim``). The sampler runs one, in a process of its own."""

from __future__ import annotations

from typing import Protocol, Sequence

from gpuwatch.model.snapshot import GpuReading, Snapshot


class Source(Protocol):
    """Makes snapshots. Made by a factory ``make(options: SourceOptions) -> Source`` that is chosen by dotted path."""

    def read(self, now: float) -> Snapshot:
        """One snapshot, taken at ``now`` (epoch seconds). Never raises for a part that fails: that stands in ``collectors``.

        Raises ``SourceLost`` (with the reason) when only a fresh process can go on, e.g. after the driver was reloaded.
        """

    def close(self) -> None:
        """Release the hardware. The Source is not used afterwards."""


class SourceLost(Exception):
    """The source needs a fresh process: the driver went away, was upgraded, or the library is in a state of no return."""


class SourceOptions(Protocol):
    """What a source needs to know; the node's settings have it (``config.settings.NodeSettings``)."""

    name: str
    interval: float
    status_age: float
    health_age: float
    identity_age: float
    source_argument: str
    root: str

    @property
    def known_gpus(self) -> Sequence[GpuReading]:
        """GPUs seen by earlier processes of this node: identity only. One that is missing now is reported as lost."""
