"""Machines: what the targets of the hosts file are to the store. A machine keeps its id whatever its line or address becomes."""

from __future__ import annotations

import secrets
import time
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional

from gpuwatch.config.hosts import is_name, not_a_name
from gpuwatch.model.errors import UsageError
from gpuwatch.store import derived, enrolled, packing
from gpuwatch.store.database import Store
from gpuwatch.store.tables import GPU_NAMES, IMPORTED, Machine

_BATCH = 100
"""Blocks moved or deleted in one transaction, so that the hub's appends never wait long."""


class MachineRow(NamedTuple):
    """A machine as stored; times in epoch seconds; ``removed_at``: since when its line is gone from the hosts file."""

    id: str
    name: str
    ip_address: str
    hostname: Optional[str]
    created_at: float
    removed_at: Optional[float]


def ensure(store: Store, name: str, address: str, *, now: Optional[float] = None) -> str:
    """The id of the machine called ``name``, made if there is none; its address is brought up to date and it counts as present."""
    return ensure_all(store, {name: address}, now=now)[name]


def ensure_all(store: Store, addresses: Mapping[str, str], *, now: Optional[float] = None) -> Dict[str, str]:
    """The same for many (name -> address) in one transaction: name -> machine id."""
    at_ms = round((time.time() if now is None else now) * 1000)
    rows = [(secrets.token_hex(16), name, address, at_ms) for name, address in addresses.items()]
    with store.writing():
        store.change_many(
            """INSERT INTO machine (id, name, ip_address, created_at_ms) VALUES (?, ?, ?, ?)
               ON CONFLICT (name) DO UPDATE SET ip_address = excluded.ip_address, removed_at_ms = NULL
               WHERE machine.ip_address != excluded.ip_address OR machine.removed_at_ms IS NOT NULL""",
            rows,
        )
        return {machine.name: machine.id for machine in list_all(store) if machine.name in addresses}


def set_present(store: Store, machine_ids: Iterable[str], now: float) -> None:
    """These are the machines of the hosts file now; the others count as removed and keep their history."""
    present = set(machine_ids)
    with store.writing():
        gone = [machine.id for machine in list_all(store) if machine.removed_at is None and machine.id not in present]
        back = [machine.id for machine in list_all(store) if machine.removed_at is not None and machine.id in present]
        store.change_many("UPDATE machine SET removed_at_ms = ? WHERE id = ?", [(round(now * 1000), id) for id in gone])
        store.change_many("UPDATE machine SET removed_at_ms = NULL WHERE id = ?", [(id,) for id in back])


def set_hostnames(store: Store, hostnames: Mapping[str, str]) -> None:
    """Remember what machines call themselves: machine id -> hostname."""
    with store.writing():
        store.change_many(
            "UPDATE machine SET hostname = ? WHERE id = ? AND (hostname IS NULL OR hostname != ?)",
            [(name, id, name) for id, name in hostnames.items()],
        )


def list_all(store: Store) -> List[MachineRow]:
    """All machines, removed ones too, by name."""
    columns = (Machine.id, Machine.name, Machine.ip_address, Machine.hostname, Machine.created_at_ms, Machine.removed_at_ms)
    rows = store.rows(Machine.select(*columns).order_by(Machine.name))
    return [
        MachineRow(id, name, address, hostname, created_ms / 1000, None if removed_ms is None else removed_ms / 1000)
        for id, name, address, hostname, created_ms, removed_ms in rows
    ]


def find(store: Store, name_or_id: str) -> MachineRow:
    """The machine with this name, or this id. Raises UsageError if there is none."""
    for machine in list_all(store):
        if name_or_id in (machine.name, machine.id):
            return machine
    raise UsageError(f"The database knows no machine {name_or_id[:80]!r}.", "See the names with: gpuwatch host list")


def rename(store: Store, machine_id: str, name: str) -> None:
    """Give the machine another name. Raises UsageError when it is taken or none that the hosts file takes, or the machine does not exist.

    One that was imported stays so: its name begins with ``import:``.
    """
    if not name.strip():
        raise UsageError("The new name is empty.")
    if not is_name(name.removeprefix(IMPORTED)):
        raise not_a_name(name)
    with store.writing():
        if find(store, machine_id).name.startswith(IMPORTED) != name.startswith(IMPORTED):
            raise UsageError(f"Only what was imported is called {IMPORTED}...", "To give it to a host: gpuwatch db assign import:NAME HOST")
        if store.rows("SELECT 1 FROM machine WHERE name = ? AND id != ?", (name, machine_id)) or _is_enrolled(store, machine_id, name):
            raise UsageError(f"There is a machine {name!r} already.", "To make the two one: gpuwatch host merge")
        enrolled.follow(store, find(store, machine_id).name, name)
        store.change(Machine.update(name=name).where(Machine.id == machine_id))


def _is_enrolled(store: Store, machine_id: str, name: str) -> bool:
    """Another machine that sends by itself has the name, though nothing came from it yet."""
    return enrolled.named(store, name) is not None and find(store, machine_id).name != name


def merge(store: Store, source: str, into: str) -> None:
    """Move all that is kept of machine ``source`` (id) to ``into`` (id), then remove ``source``. Raises UsageError for unknown ids, and for imports.

    Blocks move in small transactions; when it is broken off, calling it again finishes it.
    """
    giver, taker = find(store, source), find(store, into)
    if giver.id == taker.id:
        raise UsageError("A machine cannot be merged into itself.")
    if giver.name.startswith(IMPORTED) or taker.name.startswith(IMPORTED):  # its GPUs have other names, and it is in none of the fleet's sums
        raise UsageError(f"{giver.name if giver.name.startswith(IMPORTED) else taker.name} was imported: it is given to a host.", "Use: gpuwatch db assign import:NAME HOST")
    _copy_shapes(store, source, into)
    while _move_blocks(store, source, into) + derived.move_some(store, source, into):
        store.rest()
    with store.writing():
        find(store, into)
        while packing.pack_machine(store, source, 180, keep_newest=False):
            pass
        _copy_shapes(store, source, into)
        while _move_blocks(store, source, into) + derived.move_some(store, source, into):
            pass
        store.change("UPDATE event SET machine_id = ? WHERE machine_id = ?", (into, source))
        if enrolled.named(store, taker.name) is None:
            enrolled.follow(store, giver.name, taker.name)
        _delete_rest(store, source)


def _copy_shapes(store: Store, source: str, into: str) -> None:
    with store.writing():
        store.change(
            """INSERT INTO shape (machine_id, id, base_id, last_ms, doc) SELECT ?, id, base_id, last_ms, doc FROM shape WHERE machine_id = ?
               ON CONFLICT (machine_id, id) DO UPDATE SET last_ms = excluded.last_ms WHERE shape.last_ms < excluded.last_ms""",
            (into, source),
        )


def _move_blocks(store: Store, source: str, into: str) -> int:
    with store.writing():
        keys = store.rows("SELECT start_ms, sequence FROM block WHERE machine_id = ? LIMIT ?", (source, _BATCH))
        return store.change_many(
            """UPDATE block SET machine_id = ?,
               sequence = (SELECT coalesce(max(other.sequence) + 1, 0) FROM block other WHERE other.machine_id = ? AND other.start_ms = ?)
               WHERE machine_id = ? AND start_ms = ? AND sequence = ?""",
            [(into, into, start_ms, source, start_ms, sequence) for start_ms, sequence in keys],
        )


def forget(store: Store, machine_id: str) -> None:
    """Delete the machine and all that is kept of it, in small transactions. Raises UsageError for an unknown id."""
    find(store, machine_id)
    deleted = 1
    while deleted:
        with store.writing():
            keys = store.rows("SELECT machine_id, start_ms, sequence FROM block WHERE machine_id = ? LIMIT ?", (machine_id, _BATCH))
            deleted = store.change_many("DELETE FROM block WHERE machine_id = ? AND start_ms = ? AND sequence = ?", keys) if keys else 0
        deleted += derived.delete_some(store, machine_id)
        store.rest()
    with store.writing():
        store.change("DELETE FROM block WHERE machine_id = ?", (machine_id,))
        while derived.delete_some(store, machine_id):
            pass
        store.change("DELETE FROM event WHERE machine_id = ?", (machine_id,))
        _delete_rest(store, machine_id)


def _delete_rest(store: Store, machine_id: str) -> None:
    for table in ("snapshot_journal", "shape", "gpu_state"):
        store.change(f"DELETE FROM {table} WHERE machine_id = ?", (machine_id,))
    store.change(Machine.delete().where(Machine.id == machine_id))
    store.change("DELETE FROM meta WHERE key = ?", (GPU_NAMES + machine_id,))
    packing.start_epoch(store)
