"""A node's time of a sample, in the hub's time. Clock skew is measured and corrected only where it is large; it is never trusted."""

from __future__ import annotations

from typing import Dict, Optional

NOTEWORTHY_SECONDS = 1.0
"""Smaller skew is noise of the network: correcting it would only make even times uneven."""
ROUNDING_SECONDS = 0.01
OLDEST_SECONDS = 300.0
"""A sample cannot be older than this when it arrives; else its time is made up."""

LATEST_SECONDS = 31 * 86400.0
"""What waited longer than this in a spool was taken by a clock that is wrong."""


class NodeClocks:
    """Remembers by how much each machine's clock is off."""

    def __init__(self) -> None:
        self._offsets: Dict[str, float] = {}

    def corrected(self, machine_id: str, taken_at: Optional[float], skew_seconds: Optional[float], received_at: float) -> float:
        """When the sample was taken, epoch seconds by the hub's clock; when it came, where the node's time cannot be."""
        if taken_at is None:
            return received_at
        at = taken_at - self._offset(machine_id, skew_seconds)
        return at if received_at - OLDEST_SECONDS <= at <= received_at + NOTEWORTHY_SECONDS else received_at

    def late(self, machine_id: str, taken_at: Optional[float], skew_seconds: Optional[float], received_at: float) -> Optional[float]:
        """The same for a sample that waited somewhere: as old as it says, up to a month; None where that cannot be."""
        if taken_at is None:
            return None
        at = taken_at - self._offset(machine_id, skew_seconds)
        return at if received_at - LATEST_SECONDS <= at <= received_at + NOTEWORTHY_SECONDS else None

    def offset(self, machine_id: str) -> float:
        """By how much the machine's clock is taken to be ahead."""
        return self._offsets.get(machine_id, 0.0)

    def _offset(self, machine_id: str, skew_seconds: Optional[float]) -> float:
        if skew_seconds is not None and abs(skew_seconds - self._offsets.get(machine_id, 0.0)) > NOTEWORTHY_SECONDS:
            self._offsets[machine_id] = skew_seconds if abs(skew_seconds) > NOTEWORTHY_SECONDS else 0.0
        return self._offsets.get(machine_id, 0.0)

    def adopt(self, machine_id: str, taken_at: Optional[float], corrected_at: float) -> None:
        """Another hub corrected the time of a sample so: this one, when it asks the machine, goes on likewise and gives a sample the same time."""
        offset = 0.0 if taken_at is None else taken_at - corrected_at
        self._offsets[machine_id] = offset if abs(offset) > ROUNDING_SECONDS else 0.0
