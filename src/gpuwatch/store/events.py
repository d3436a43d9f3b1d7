"""Events: what changed, as it is kept."""

from __future__ import annotations

from typing import Iterable, List, Optional, Sequence

from gpuwatch.model import event as model
from gpuwatch.store.database import Store
from gpuwatch.store.tables import Event


def add(store: Store, events: Iterable[model.Event]) -> None:
    """Keep events, in one transaction. Times are kept to the ms."""
    rows = [(event.machine_id, round(event.at * 1000), event.kind, event.host, event.gpu_uuid, event.message) for event in events]
    with store.writing():
        store.change_many("INSERT INTO event (machine_id, at_ms, kind, host, gpu_uuid, message) VALUES (?, ?, ?, ?, ?, ?)", rows)


def newest(store: Store, limit: int, machine_id: Optional[str] = None) -> List[model.Event]:
    """The newest events, of one machine or of all, newest first."""
    query = Event.select(Event.at_ms, Event.kind, Event.machine_id, Event.host, Event.message, Event.gpu_uuid)
    if machine_id is not None:
        query = query.where(Event.machine_id == machine_id)
    rows = store.rows(query.order_by(Event.at_ms.desc(), Event.id.desc()).limit(limit))
    return [model.Event(at_ms / 1000, *rest) for at_ms, *rest in rows]


def last_of(store: Store, machine_id: str, kinds: Sequence[str], at: float) -> Optional[model.Event]:
    """The newest event of these kinds of a machine at or before ``at`` (epoch seconds); None = there is none."""
    columns = (Event.at_ms, Event.kind, Event.machine_id, Event.host, Event.message, Event.gpu_uuid)
    query = Event.select(*columns).where(Event.machine_id == machine_id, Event.at_ms <= round(at * 1000), Event.kind.in_(kinds))
    rows = store.rows(query.order_by(Event.at_ms.desc(), Event.id.desc()).limit(1))
    return model.Event(rows[0][0] / 1000, *rows[0][1:]) if rows else None
