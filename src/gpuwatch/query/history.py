"""Snapshots of the past from the store, cut to what the audience may see. Streams: never holds more than a block of them."""

from __future__ import annotations

from typing import Dict, Iterator, Optional, Tuple

from gpuwatch.model.errors import GpuwatchError
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.query.plan import Plan
from gpuwatch.store import snapshots
from gpuwatch.store.database import Store
from gpuwatch.wire.flat import Builder, Shape


def newest(
    store: Store, machine_id: str, count: Optional[int], audience: str, show_arguments: bool
) -> Iterator[Tuple[Snapshot, float]]:
    """The newest ``count`` snapshots (None = all) of a machine, oldest first, each with when the hub got it. What is damaged is left out."""
    shapes: Dict[str, Optional[Builder]] = {}
    for entry in snapshots.newest(store, machine_id, count, on_damage=lambda error: None):
        if entry.shape_id not in shapes:
            shapes[entry.shape_id] = _shape(store, machine_id, entry.shape_id, "all" if show_arguments else audience)
        shape = shapes[entry.shape_id]
        if shape is not None:
            yield shape.build(entry.values), entry.received_at_ms / 1000


def _shape(store: Store, machine_id: str, shape_id: str, audience: str) -> Optional[Builder]:
    try:
        return Plan(Shape.parse(snapshots.shape(store, machine_id, shape_id))).shape_for(audience)
    except GpuwatchError:
        return None
