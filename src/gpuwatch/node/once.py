"""One snapshot of this machine for the command line, read in a sampler process: a driver that hangs hangs that process, not the person's."""

from __future__ import annotations

import dataclasses
import time
from typing import Optional, Sequence

from gpuwatch.boot import self_argv
from gpuwatch.child import SILENT_SECONDS, Child
from gpuwatch.config.settings import NodeSettings
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.node.inventory import write_options
from gpuwatch.node.service import sampler_options
from gpuwatch.node.supervisor import START_SECONDS
from gpuwatch.wire import frame
from gpuwatch.wire.flat import Shape

SAMPLES = 2
"""Shares of CPU and of SM time need two."""
GRACE_SECONDS = 2.0


def read_once(settings: NodeSettings, interval_seconds: float = 0.4, sampler_argv: Optional[Sequence[str]] = None) -> Snapshot:
    """The second of two samples. Raises GpuwatchError if the sampler does not start in time or a sample takes longer than ``sample_deadline``."""
    options = dataclasses.replace(sampler_options(settings), interval=interval_seconds)
    child = Child(list(sampler_argv or [*self_argv(), "_sampler"]))
    try:
        child.write(write_options(options))
        return _second(child, settings.sample_deadline)
    finally:
        child.write(b"", close=True)
        child.end(GRACE_SECONDS)
        child.close()


def _second(child: Child, deadline_seconds: float) -> Snapshot:
    shape: Optional[Shape] = None
    ready, count = False, 0
    until = time.monotonic() + START_SECONDS
    while True:
        lines = [child.read_line(max(0.0, until - time.monotonic())) for _ in range(2)]
        if lines[0] is None or lines[1] is None:
            raise _nothing(child, ready)
        until = time.monotonic() + deadline_seconds
        header, values = frame.decode(lines[0] + b"\n" + lines[1])
        ready = True
        if "shape" in header:
            shape = Shape.parse(header["shape"])
        count += "shape_id" in header
        if shape is not None and count >= SAMPLES:
            return shape.build(shape.check(frame.loads(values)))


def _nothing(child: Child, ready: bool) -> GpuwatchError:
    """Why no sample came: a sampler that is not ready has not touched the driver yet."""
    # its end can be seen later than that of its output
    if child.returncode is not None or (child.output_ended and child.wait(SILENT_SECONDS)):
        return GpuwatchError(f"The GPUs cannot be read: the sampler ended with {child.exit().words}.", "`nvidia-smi` may say more.")
    if child.output_ended:
        return GpuwatchError("The GPUs cannot be read: the sampler closed its output and does not end.", "`nvidia-smi` may say more.")
    if not ready:
        return GpuwatchError(f"The sampler did not start within {START_SECONDS:g} s.", "Is this machine out of memory or its disk hanging? Try again.")
    return GpuwatchError("The NVIDIA driver does not answer.", "`nvidia-smi` will hang too; a reboot helps.")
