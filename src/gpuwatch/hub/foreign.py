"""Whole snapshots of foreign origin (exporters, old systems' senders) as shape and values, the one form that the hub takes in. Keeps nothing but shapes."""

from __future__ import annotations

import threading
from typing import Any, Dict, List, Mapping, Optional, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.frame import encode_values


class Flattened:
    """A Flattener for each machine, and its shape as parsed: of the same facts comes the same Shape object. Safe on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: Dict[str, Tuple[Flattener, Optional[Shape]]] = {}

    def of(self, machine_id: str, snapshot: Snapshot) -> Tuple[Shape, List[Any], bytes, int]:
        """Shape, checked values, the values as JSON, and bytes of the shape if it is new. Raises WireError for what a node would be refused for."""
        with self._lock:
            flattener, shape = self._of.get(machine_id) or (Flattener(), None)
            shape_bytes = 0
            try:
                flat = flattener.flatten(snapshot)
                if flat.shape is not None or shape is None:
                    shape = Shape.parse(flat.shape)
                    shape_bytes = shape.size_bytes
                values, line = shape.check(flat.values), encode_values(flat.values)
            except (WireError, ValueError, TypeError, RecursionError) as error:
                self._of.pop(machine_id, None)
                raise error if isinstance(error, WireError) else WireError(f"The reading cannot be taken in: {str(error)[:100]}.") from None
            self._of[machine_id] = flattener, shape
            return shape, values, line, shape_bytes

    def keep(self, machine_ids: Mapping[str, Any]) -> None:
        """Forget all other machines."""
        with self._lock:
            self._of = {id: one for id, one in self._of.items() if id in machine_ids}
