"""Why a machine has no reading at a past moment: nothing was kept yet, it was down, or nobody knows. Words with times, in the hub's zone."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.render import words
from gpuwatch.store import events, snapshots
from gpuwatch.store.database import Store


class Gap(NamedTuple):
    """What is known of the machine around the moment; epoch seconds."""

    machine_id: str
    at: float
    seen_at: Optional[float]
    """The last reading before the moment, which is too old to be of it; None = not looked that far."""
    damage: Optional[StoreError]
    """What could not be read."""


def no_reading(store: Store, gap: Gap, zone: str) -> Tuple[str, Optional[float], str]:
    """(status, since when, why) of the node: ``down`` where the hub noted that it was, else ``unseen``."""
    when = words.date_time(gap.at, zone)
    if gap.damage is not None:
        return "unseen", None, f"No reading at {when}: {gap.damage}"
    first_at = snapshots.kept_from(store, gap.machine_id)
    if first_at is None:
        return "unseen", None, f"No reading at {when}: none of this host is kept."
    if gap.at < first_at:
        return "unseen", None, f"No readings before {words.date_time(first_at, zone)}."
    noted = events.last_of(store, gap.machine_id, ("node_down", "node_up"), gap.at)
    seen_at = gap.seen_at if gap.seen_at is not None else snapshots.last_before(store, gap.machine_id, gap.at)
    if noted is not None and noted.kind == "node_down" and (seen_at is None or seen_at <= noted.at):
        return "down", noted.at, noted.message
    last = f" The last one before is of {words.clock(seen_at, gap.at, zone)}." if seen_at is not None else ""
    return "unseen", None, f"No reading at {when}.{last}"
