"""Reads all that is kept and says what of it cannot be read: snapshots, the facts that they refer to, rollups. Never changes anything.

A hub may run beside it: each row is read with all that it needs in one statement, and what is missing is looked for once more.
"""

from __future__ import annotations

from typing import Callable, Iterator, Set

from gpuwatch.model.errors import StoreError
from gpuwatch.store import packing, rollups, shapes
from gpuwatch.store.blocks import unpack
from gpuwatch.store.chunk_codec import decode, decode_part
from gpuwatch.store.database import Store

_SHAPE_OF_JOURNAL = """SELECT DISTINCT shape_id FROM snapshot_journal j WHERE machine_id = ?
    AND NOT EXISTS (SELECT 1 FROM shape WHERE shape.machine_id = j.machine_id AND shape.id = j.shape_id)"""
_IS_THERE = "machine_id = ? AND start_ms = ? AND sequence = ?"


def damage(store: Store, progress: Callable[[int], None] = lambda done: None) -> Iterator[str]:
    """Sentences, one for each thing that cannot be read; ``progress`` is told of blocks done. Raises StoreError."""
    yield from _rollups(store, rollups.FLEET)
    for (machine_id,) in store.rows("SELECT id FROM machine ORDER BY id"):
        yield from _shapes(store, machine_id)
        missing: Set[str] = set()
        yield from _journal(store, machine_id, missing)
        yield from _rollups(store, machine_id)
        yield from _blocks(store, machine_id, missing, progress)


def _shapes(store: Store, machine_id: str) -> Iterator[str]:
    for (shape_id,) in store.rows("SELECT id FROM shape WHERE machine_id = ?", (machine_id,)):
        try:
            shapes.read(store, machine_id, shape_id)
        except StoreError as error:
            if store.rows("SELECT 1 FROM shape WHERE machine_id = ? AND id = ?", (machine_id, shape_id)):
                yield f"{error.message} Snapshots that refer to it cannot be shown."


def _journal(store: Store, machine_id: str, missing: Set[str]) -> Iterator[str]:
    for row in store.rows(f"{packing.JOURNAL_ROWS} WHERE j.machine_id = ? ORDER BY j.taken_at_ms", (machine_id,)):
        try:
            packing.entry_of(*row)
        except StoreError as error:
            yield f"The snapshot of machine {machine_id} at {row[0] / 1000:.3f} (epoch seconds) cannot be read: {error.message}"
    for (shape_id,) in store.rows(_SHAPE_OF_JOURNAL, (machine_id,)):
        missing.add(shape_id)
        yield _missing(machine_id, shape_id)


def _blocks(store: Store, machine_id: str, missing: Set[str], progress: Callable[[int], None]) -> Iterator[str]:
    known = {shape_id for (shape_id,) in store.rows("SELECT id FROM shape WHERE machine_id = ?", (machine_id,))}
    for start_ms, sequence, end_ms in store.rows("SELECT start_ms, sequence, end_ms FROM block WHERE machine_id = ?", (machine_id,)):
        key = (machine_id, start_ms, sequence)
        try:
            for (data,) in store.rows(f"SELECT data FROM block WHERE {_IS_THERE}", key):
                for shape_id in {entry.shape_id for entry in unpack(bytes(data))} - known - missing:
                    if store.rows(f"SELECT 1 FROM block WHERE {_IS_THERE} AND NOT EXISTS (SELECT 1 FROM shape WHERE machine_id = ? AND id = ?)", (*key, machine_id, shape_id)):
                        missing.add(shape_id)
                        yield _missing(machine_id, shape_id)
        except StoreError as error:
            span = f"{start_ms / 1000:.3f} to {end_ms / 1000:.3f}"
            yield f"Snapshots of machine {machine_id} from {span} (epoch seconds) cannot be read: {error.message}"
        progress(1)


def _missing(machine_id: str, shape_id: str) -> str:
    return f"The shape {shape_id} of machine {machine_id} is missing. Snapshots that refer to it cannot be shown."


def _rollups(store: Store, machine_id: str) -> Iterator[str]:
    for uuid, tier in store.rows("SELECT DISTINCT gpu_uuid, tier_seconds FROM rollup WHERE machine_id = ?", (machine_id,)):
        of_tier = "SELECT start_ms, data FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ?"
        for start_ms, data in store.rows(of_tier, (machine_id, uuid, tier)):
            try:
                decode(bytes(data), start_ms // 1000, tier)
            except StoreError as error:
                whose = f"{uuid or 'the host'} of machine {machine_id}" if machine_id else "the fleet"
                yield f"Rollups of {tier} s of {whose} from {start_ms / 1000:.0f} (epoch seconds) cannot be read: {error.message}"
    for start_ms, data in store.rows("SELECT start_ms, data FROM rollup_part WHERE machine_id = ?", (machine_id,)):
        try:
            decode_part(bytes(data))
        except StoreError as error:
            yield f"Rollups of {f'machine {machine_id}' if machine_id else 'the fleet'} from {start_ms / 1000:.0f} (epoch seconds) cannot be read: {error.message}"
