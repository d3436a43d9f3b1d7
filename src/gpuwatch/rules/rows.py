"""What decides the state of each GPU and MIG slice, taken out of a reading once, so that a sample costs no dataclasses.

Works on a Snapshot whose numbers are places among the flat values (``wire.flat.Shape.places``). Pure.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.snapshot import GpuReading, ProcessReading
from gpuwatch.rules.states import mig_trouble, takers, unlisted, unusable


class Row(NamedTuple):
    """One GPU or MIG slice: its facts that decide its state, and where its numbers stand. Positions are None where there are none."""

    uuid: str
    lost: bool
    mig: bool
    processes: Optional[int]
    unified: bool
    utilization_at: Optional[int]
    memory_at: Optional[int]


def rows(gpu: GpuReading) -> Sequence[Row]:
    """The GPU, then its slices. ``gpu``'s numbers are places."""
    lost, mig = gpu.error is not None, bool(gpu.mig_enabled)
    processes = takers(gpu.processes, unlisted(gpu) or mig_trouble(gpu) or unusable(gpu))
    first = Row(
        gpu.uuid, lost, mig, processes, gpu.is_memory_of_the_system, place(gpu.utilization_percent), place(gpu.memory_used_bytes)
    )
    return [first, *_slice_rows(gpu, lost)] if gpu.mig else [first]


def _slice_rows(gpu: GpuReading, lost: bool) -> List[Row]:
    """The slices. Processes that cannot be told from those of other slices leave it unknown who is in one: never "nobody"."""
    homeless = any(process.gpu_instance is None for process in gpu.processes)
    found = []
    for part, inside in zip(gpu.mig, slice_processes(gpu)):
        blind = "in which slice, is not reported" if homeless or part.gpu_instance is None else None
        processes = takers(inside, unlisted(gpu) or blind)
        found.append(Row(part.uuid, lost, False, processes, False, place(part.sm_activity_percent), place(part.memory_used_bytes)))
    return found


def slice_processes(gpu: GpuReading) -> Sequence[Sequence[ProcessReading]]:
    """The processes of each slice of the GPU, in the order of ``gpu.mig``; those that no slice can be told for are in none."""
    inside: Dict[Tuple[Optional[int], Optional[int]], List[ProcessReading]] = {}
    for process in gpu.processes:
        inside.setdefault((process.gpu_instance, process.compute_instance), []).append(process)
    return [
        [process for key in _keys(part.gpu_instance, part.compute_instance) for process in inside.get(key, ())] for part in gpu.mig
    ]


def _keys(gpu_instance: Optional[int], compute_instance: Optional[int]) -> Sequence[Tuple[Optional[int], Optional[int]]]:
    whole = (gpu_instance, None)
    return [whole] if compute_instance is None else [(gpu_instance, compute_instance), whole]


def place(value: Optional[float]) -> Optional[int]:
    """A number of such a Snapshot, as the position that it is; None where the shape has none."""
    return None if value is None else int(value)
