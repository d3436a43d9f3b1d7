"""What each GPU was doing when the hub last looked, so that a restart does not forget since when. Computed in ``query``, only kept here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, Optional, Tuple

from gpuwatch.store.database import Store
from gpuwatch.store.tables import GpuState


@dataclass(frozen=True)
class GpuStateRow:
    """One GPU's (or MIG slice's) state; times in epoch seconds, kept to the ms; ``model.cluster.GpuState`` says what they mean."""

    machine_id: str
    gpu_uuid: str
    state: str
    since_at: Optional[float]
    at_least: bool = False
    no_work_since_at: Optional[float] = None
    recent: bytes = b""
    """Recent utilization in a form that ``query`` chooses."""


def load(store: Store) -> Dict[Tuple[str, str], GpuStateRow]:
    """All states by (machine id, GPU UUID)."""
    table = GpuState
    columns = (table.machine_id, table.gpu_uuid, table.state, table.since_at_ms, table.at_least, table.no_work_since_at_ms, table.recent)
    return {
        (machine_id, uuid): GpuStateRow(machine_id, uuid, state, _seconds(since), bool(at_least), _seconds(no_work), bytes(recent))
        for machine_id, uuid, state, since, at_least, no_work, recent in store.rows(table.select(*columns))
    }


def save(store: Store, rows: Iterable[GpuStateRow]) -> None:
    """Keep these states, in place of earlier ones of the same GPUs; one transaction. Those of unknown machines are left out."""
    with store.writing():
        store.change_many(
            """INSERT INTO gpu_state (machine_id, gpu_uuid, state, since_at_ms, at_least, no_work_since_at_ms, recent)
               SELECT id, ?, ?, CAST(? AS BIGINT), ?, CAST(? AS BIGINT), ? FROM machine WHERE id = ?
               ON CONFLICT (machine_id, gpu_uuid) DO UPDATE SET state = excluded.state, since_at_ms = excluded.since_at_ms,
               at_least = excluded.at_least, no_work_since_at_ms = excluded.no_work_since_at_ms, recent = excluded.recent""",
            [
                (row.gpu_uuid, row.state, _ms(row.since_at), int(row.at_least), _ms(row.no_work_since_at), row.recent, row.machine_id)
                for row in rows
            ],
        )


def _ms(seconds: Optional[float]) -> Optional[int]:
    return None if seconds is None else round(seconds * 1000)


def _seconds(ms: Optional[int]) -> Optional[float]:
    return None if ms is None else ms / 1000
