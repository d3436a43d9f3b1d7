"""Events: what changed, as it is kept."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

from gpuwatch.model import event as model
from gpuwatch.store.database import Store
from gpuwatch.store.tables import IMPORTED_MACHINES, Event

_PAGE = 500


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


def count_between(store: Store, start_ms: int, end_ms: int, machine_id: Optional[str] = None) -> int:
    """How many events there are in start_ms <= t < end_ms, of one machine or of all that were not imported."""
    where, parameters = _where(start_ms, end_ms, machine_id)
    return int(store.rows(f"SELECT count(*) FROM event WHERE {where}", parameters)[0][0])


def pages(store: Store, start_ms: int, end_ms: int, machine_id: Optional[str] = None) -> Iterator[List[model.Event]]:
    """The same events in the order in which they were noted, some hundreds at a time."""
    where, parameters = _where(start_ms, end_ms, machine_id)
    after = -1
    while True:
        sql = f"SELECT id, at_ms, kind, machine_id, host, message, gpu_uuid FROM event WHERE id > ? AND {where} ORDER BY id LIMIT ?"
        rows = store.rows(sql, (after, *parameters, _PAGE))
        if not rows:
            return
        yield [model.Event(at_ms / 1000, *rest) for _, at_ms, *rest in rows]
        after = rows[-1][0]


def _where(start_ms: int, end_ms: int, machine_id: Optional[str]) -> Tuple[str, Tuple[Any, ...]]:
    if machine_id is not None:
        return "at_ms >= ? AND at_ms < ? AND machine_id = ?", (start_ms, end_ms, machine_id)
    return f"at_ms >= ? AND at_ms < ? AND machine_id NOT IN ({IMPORTED_MACHINES})", (start_ms, end_ms)


def last_of(store: Store, machine_id: str, kinds: Sequence[str], at: float) -> Optional[model.Event]:
    """The newest event of these kinds of a machine at or before ``at`` (epoch seconds); None = there is none."""
    columns = (Event.at_ms, Event.kind, Event.machine_id, Event.host, Event.message, Event.gpu_uuid)
    query = Event.select(*columns).where(Event.machine_id == machine_id, Event.at_ms <= round(at * 1000), Event.kind.in_(kinds))
    rows = store.rows(query.order_by(Event.at_ms.desc(), Event.id.desc()).limit(1))
    return model.Event(rows[0][0] / 1000, *rows[0][1:]) if rows else None
