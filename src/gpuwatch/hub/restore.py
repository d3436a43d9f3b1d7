"""What the store kept, back into memory: at the start of a hub, and for commands that read the database without one. Never writes."""

from __future__ import annotations

import json
import logging
from typing import Callable, Mapping, Optional

from gpuwatch.config.settings import HubSettings
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import StoreError, WireError
from gpuwatch.query.latest import Display, Latest
from gpuwatch.query.states import SavedState
from gpuwatch.rules.limits import Limits
from gpuwatch.store import machines, snapshots, states
from gpuwatch.store.database import Store
from gpuwatch.store.states import GpuStateRow
from gpuwatch.wire.flat import Shape

log = logging.getLogger(__name__)


def restore(store: Store, latest: Latest, names: Mapping[str, str], learn: Callable[[str, Shape, float], None]) -> None:
    """States, and the newest snapshot of each machine (``names``: machine id -> target's name). Raises StoreError.

    ``learn`` is told the shape of each machine, and when its newest snapshot was taken. What is damaged is left out, with a line in the log.
    """
    latest.tracker.load([row for row in map(from_row, states.load(store).values()) if row is not None and row.machine_id in names])
    for machine_id, entry in snapshots.latest_of_all(store).items():
        if machine_id not in names:
            continue
        try:
            shape = Shape.parse(snapshots.shape(store, machine_id, entry.shape_id))
            latest.restore(names[machine_id], shape, shape.check(entry.values), entry.received_at_ms / 1000)
        except (StoreError, WireError) as error:
            log.warning("the last snapshot of %s is not shown: %s", names[machine_id], error)
            continue
        learn(machine_id, shape, entry.taken_at_ms / 1000)


def latest_from_store(store: Store, settings: HubSettings, timezone: str, now: float) -> Latest:
    """The newest state of every machine that is in the hosts file, as the store has it; all of it marked as old. Raises StoreError."""
    latest = Latest(limits_of(settings), display_of(settings, timezone))
    present = [machine for machine in machines.list_all(store) if machine.removed_at is None]
    latest.set_targets([(Target(one.name, one.ip_address, settings.node_port), one.id) for one in present], now)
    restore(store, latest, {one.id: one.name for one in present}, lambda machine_id, shape, taken_at: None)
    return latest


def limits_of(settings: HubSettings) -> Limits:
    """The thresholds of the rules."""
    return Limits(
        idle_memory=settings.idle_memory,
        idle_utilization=settings.idle_utilization,
        idle_after=settings.idle_after,
        hot_celsius=settings.hot_celsius,
        stale_intervals=settings.stale_intervals,
        down_after=settings.down_after,
    )


def display_of(settings: HubSettings, timezone: str) -> Display:
    """What every view carries besides the nodes."""
    return Display(settings.interval, settings.title, timezone, settings.show_arguments)


def to_row(saved: SavedState) -> GpuStateRow:
    """A state as the store keeps it; what has no column of its own goes into ``recent`` as JSON."""
    recent = json.dumps([saved.column, int(saved.no_work_at_least), saved.recent], separators=(",", ":")).encode()
    return GpuStateRow(
        saved.machine_id, saved.uuid, saved.state, saved.since_at, saved.at_least, saved.no_work_since_at, recent
    )


def from_row(row: GpuStateRow) -> Optional[SavedState]:
    """A state as it was; None for a row that is damaged."""
    try:
        column, no_work_at_least, recent = json.loads(row.recent)
        known = tuple([None if value is None else float(value) for value in recent])
        return SavedState(
            row.machine_id, row.gpu_uuid, row.state, row.since_at or 0.0, row.at_least, row.no_work_since_at, bool(no_work_at_least), int(column), known
        )
    except (ValueError, TypeError, RecursionError):
        return None
