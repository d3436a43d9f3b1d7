"""Seed 000 (AccessGrid) between machines: its node as our hub asks it, and our node as its hub asks that. ``GET /api/gpu_status``. Pure.

Facts: it has neither password, UUIDs nor processes; its list is filled up to three GPUs with entries that are all null; a failure of
nvidia-smi is status 200 with ``"status": "error"``. Must never make a GPU of a filler, nor a zero of a null.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import GpuReading, HostReading, Snapshot
from gpuwatch.wire.foreign import Request, Told, index_of, made_up_uuid, mebibytes, not_told, number, snapshot_of, text
from gpuwatch.wire.frame import loads
from gpuwatch.wire.legacy.seed000 import LEAST_GPUS, dump, gpu_entry, no_gpu

PATH = "/api/gpu_status"
_TOLD = ("name", "gpu_util", "mem_util", "mem_total", "mem_used", "mem_free", "temperature")


def request(target: Target, password: str) -> Request:
    """It takes no password, and gets none."""
    return Request("GET", PATH, None, {"Accept": "*/*"})


def read(body: bytes, target: Target, now: float, memory: Any = None) -> Told:
    """What it told at ``now``. Raises WireError for its errors, and for what is not its answer."""
    doc = loads(body)
    entries = doc.get("gpu_details") if isinstance(doc, dict) else None
    if not isinstance(entries, list):
        raise WireError("The answer has no list gpu_details.", "Next: is it AccessGrid that listens there?")
    gpus = tuple(_gpu(entry, place, target) for place, entry in enumerate(entries) if isinstance(entry, dict) and _is_told(entry))
    if doc.get("status") == "error" and not gpus:
        said = text(doc.get("message")) or "no reason given"
        raise WireError(f"It could not read its GPUs: {' '.join(said.split()).rstrip('.')}.", "Next: run nvidia-smi there.")
    return Told(snapshot_of(target, now, gpus, HostReading(missing=not_told(target, "logins"))))


def _is_told(entry: Dict[str, Any]) -> bool:
    return any(entry.get(key) is not None for key in _TOLD)


def _gpu(entry: Dict[str, Any], place: int, target: Target) -> GpuReading:
    index = index_of(entry.get("index"), place)
    return GpuReading(
        uuid=made_up_uuid(target, index), index=index, name=text(entry.get("name")), missing=not_told(target, "processes", "mig_enabled"),
        memory_used_bytes=mebibytes(entry.get("mem_used")), memory_free_bytes=mebibytes(entry.get("mem_free")),
        memory_total_bytes=mebibytes(entry.get("mem_total")), utilization_percent=number(entry.get("gpu_util")),
        memory_utilization_percent=number(entry.get("mem_util")), temperature_celsius=number(entry.get("temperature")),
    )  # fmt: skip


def answer(snapshot: Optional[Snapshot]) -> bytes:
    """The body that our node gives its hub. ``snapshot`` None: there is no fresh one. Its hub calls GPUs without values red."""
    if snapshot is None or not snapshot.gpus:
        why = "There is no fresh reading." if snapshot is None else "No GPUs found."
        return dump({"status": "error", "message": why, "gpu_count": 0, "gpu_details": []})
    gpus = [gpu_entry(gpu) for gpu in snapshot.gpus]
    working = sum(gpu.error is None for gpu in snapshot.gpus)
    return dump({"status": _status(working), "gpu_count": len(gpus), "working_gpus": working, "gpu_details": _filled(gpus)})


def _status(working: int) -> str:
    """It was made for machines of three GPUs: any other number is ``partial``."""
    return "working" if working == LEAST_GPUS else "partial"


def _filled(gpus: List[Dict[str, Any]]) -> Tuple[Dict[str, Any], ...]:
    return (*gpus, *(no_gpu(index) for index in range(len(gpus), LEAST_GPUS)))
