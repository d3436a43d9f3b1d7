"""Something changed: a node went down, a GPU was lost, the driver reported an Xid. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

EVENT_KINDS = ("node_up", "node_down", "gpu_lost", "gpu_back", "xid", "driver", "snapshots_lost")


@dataclass(frozen=True)
class Event:
    """One change, as it is kept and shown."""

    at: float
    kind: str
    machine_id: str
    host: str
    message: str
    gpu_uuid: Optional[str] = None
