"""An imported machine's readings given to a host: they become part of its charts, reports and of the fleet's sums. Once only, in small steps.

Each step moves some rows in one transaction: what was moved is gone from the imported machine, so that breaking it off and calling again
counts nothing twice. GPUs that the log named by number or address are matched with the host's GPUs of now.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import GPU_METRICS, TIERS, GpuDay, UserDay
from gpuwatch.store import imports, intervals, machines, rollups, shapes, snapshots, usage
from gpuwatch.store.chunk_codec import decode
from gpuwatch.store.chunks import SPANS, Chunk, join
from gpuwatch.store.database import Store

ALL_TIME = (0.0, 4102444800.0)
_CHUNKS = 50
_DAYS = 500
_INTERVALS = 1000
_TOLERANCE = 1.02
"""Two machines' readings of one minute may touch: the minute in which one log ends and the other begins."""
_BUS_ID = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


class Match(NamedTuple):
    """One GPU of the import and what it is called at the host."""

    gpu: str
    becomes: str
    why: str


def subjects(store: Store, machine_id: str) -> List[str]:
    """The GPUs that anything is stored of, as the log named them; empty = processes whose GPU is not known."""
    found = set(rollups.subjects(store, machine_id))
    for table in ("gpu_day", "user_day", "process_interval"):
        found |= {uuid for (uuid,) in store.rows(f"SELECT DISTINCT gpu_uuid FROM {table} WHERE machine_id = ?", (machine_id,))}
    return sorted(found)


def match(store: Store, source: str, target: str, given: Optional[Mapping[str, str]] = None) -> List[Match]:
    """What each GPU of machine ``source`` is at ``target`` (ids); ``given`` names GPUs by hand. Raises UsageError for one that is not there."""
    names = [name for name in subjects(store, source) if name]
    unknown = sorted(set(given or ()) - set(names))
    if unknown:
        raise UsageError(f"The import has no GPU {unknown[0][:60]!r}.", f"It has {', '.join(names[:10])}.")
    present = _gpus_of(store, target)
    return [_match(name, (given or {}).get(name), present) for name in names]


def _match(name: str, given: Optional[str], present: Sequence[Mapping[str, Any]]) -> Match:
    if given is not None:
        return Match(name, given, "as you say")
    for gpu in present:
        uuid, index = str(gpu["uuid"]), gpu.get("index", 0)
        if uuid == name:
            return Match(name, uuid, "the same UUID")
        if _address(str(gpu.get("pci_bus_id", ""))) == _address(name) is not None:
            return Match(name, uuid, "the host's GPU at this address")
        if name == f"index {index}":
            return Match(name, uuid, "the host's GPU of this number")
    return Match(name, name, "the host has no such GPU now: it keeps this name")


def _gpus_of(store: Store, machine_id: str) -> Sequence[Mapping[str, Any]]:
    """The facts of the host's GPUs at its newest reading."""
    for entry in snapshots.newest(store, machine_id, 1, on_damage=lambda error: None):
        doc = shapes.read(store, machine_id, entry.shape_id)
        facts = doc.get("facts") if isinstance(doc, dict) else None
        gpus = facts.get("gpus") if isinstance(facts, dict) else None
        return [gpu for gpu in gpus or () if isinstance(gpu, dict) and gpu.get("uuid")]
    return []


def _address(text: str) -> Optional[Tuple[int, ...]]:
    found = _BUS_ID.fullmatch(text.strip())
    return tuple(int(part or "0", 16) for part in found.groups()) if found else None


def overlap(store: Store, source: str, target: str, matches: Sequence[Match]) -> Optional[Tuple[str, float]]:
    """(GPU, epoch seconds) of the first interval that both machines measured, so that its time would count twice; None = there is none."""
    for one in matches:
        for tier in TIERS:
            theirs = rollups.read(store, source, one.gpu, tier, *ALL_TIME, metrics=())
            ours = rollups.read(store, target, one.becomes, tier, *ALL_TIME, metrics=())
            covered = dict(zip(ours.times, ours.covered_seconds()))
            for at, seconds in zip(theirs.times, theirs.covered_seconds()):
                if at in covered and covered[at] + seconds > tier * _TOLERANCE:
                    return one.becomes, float(at)
    return None


def assign(store: Store, source: str, target: str, matches: Sequence[Match]) -> Iterator[int]:
    """Move all that is kept of machine ``source`` to ``target`` (ids) and remove ``source``; yields rows moved, step by step.

    Raises UsageError unless ``source`` is an imported machine and ``target`` is not.
    """
    giver, taker = machines.find(store, source), machines.find(store, target)
    if not giver.name.startswith(imports.PREFIX) or taker.name.startswith(imports.PREFIX):
        raise UsageError("Only an imported machine can be given to a host.", "See: gpuwatch host list")
    renamed = {one.gpu: one.becomes for one in matches}
    with store.writing():
        imports.note_assigned(store, source, taker.name)
        imports.move_gpu_names(store, source, target, renamed)
    for gpu in subjects(store, source):
        becomes = renamed.get(gpu, gpu)
        for tier in TIERS:
            yield from _repeat(store, lambda gpu=gpu, becomes=becomes, tier=tier: _move_chunks(store, source, target, gpu, becomes, tier))
    yield from _repeat(store, lambda: _move_days(store, source, target, renamed))
    yield from _repeat(store, lambda: _move_user_days(store, source, target, renamed))
    yield from _repeat(store, lambda: _move_intervals(store, source, target, renamed))
    machines.forget(store, source)


def _repeat(store: Store, step: Any) -> Iterator[int]:
    moved = 1
    while moved:
        with store.writing():
            moved = step()
        store.rest()
        yield moved


def _move_chunks(store: Store, source: str, target: str, gpu: str, becomes: str, tier: int) -> int:
    key = (source, gpu, tier)
    rows = store.rows(
        f"SELECT start_ms, data FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ? ORDER BY start_ms LIMIT {_CHUNKS}", key
    )
    if not rows:
        return 0
    whole = join([decode(bytes(data), start_ms // 1000, tier) for start_ms, data in rows])
    rollups.add_chunks(store, target, {becomes: _only(tier, whole.only(GPU_METRICS))})
    rollups.add_chunks(store, rollups.FLEET, {rollups.HOST: _only(tier, whole)})
    statement = "DELETE FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ? AND start_ms = ?"
    return store.change_many(statement, [(*key, start_ms) for start_ms, _ in rows])


def _only(tier: int, chunk: Chunk) -> Dict[int, Chunk]:
    """One tier, and nothing for the others: each tier is moved as it is kept."""
    return {one: chunk if one == tier else Chunk() for one in SPANS}


def _move_days(store: Store, source: str, target: str, renamed: Mapping[str, str]) -> int:
    columns = ", ".join(GpuDay.__dataclass_fields__)
    rows = store.rows(f"SELECT day, gpu_uuid, {columns} FROM gpu_day WHERE machine_id = ? LIMIT {_DAYS}", (source,))
    for day, gpu, *sums in rows:  # one by one: two GPUs of a log may be one of the host's
        usage.merge(store, target, {(day, renamed.get(gpu, gpu)): GpuDay(*sums)}, {})
    return _deleted(store, "DELETE FROM gpu_day WHERE machine_id = ? AND day = ? AND gpu_uuid = ?", [(source, *row[:2]) for row in rows])


def _move_user_days(store: Store, source: str, target: str, renamed: Mapping[str, str]) -> int:
    columns = ", ".join(UserDay.__dataclass_fields__)
    rows = store.rows(f"SELECT day, gpu_uuid, user_name, {columns} FROM user_day WHERE machine_id = ? LIMIT {_DAYS}", (source,))
    for day, gpu, user, *sums in rows:
        usage.merge(store, target, {}, {(day, renamed.get(gpu, gpu), user): UserDay(*sums)})
    statement = "DELETE FROM user_day WHERE machine_id = ? AND day = ? AND gpu_uuid = ? AND user_name = ?"
    return _deleted(store, statement, [(source, *row[:3]) for row in rows])


def _move_intervals(store: Store, source: str, target: str, renamed: Mapping[str, str]) -> int:
    rows = intervals.read(store, source, start_at=ALL_TIME[0], end_at=ALL_TIME[1], limit=_INTERVALS)
    keys = [(source, one.interval.gpu_uuid, round(one.interval.start_at * 1000), one.interval.pid) for one in rows]
    for one in rows:
        one.interval.gpu_uuid = renamed.get(one.interval.gpu_uuid, one.interval.gpu_uuid)
    intervals.merge(store, target, sorted((one.interval for one in rows), key=lambda interval: interval.start_at), 0.0)
    return _deleted(store, "DELETE FROM process_interval WHERE machine_id = ? AND gpu_uuid = ? AND start_ms = ? AND pid = ?", keys)


def _deleted(store: Store, statement: str, keys: Sequence[Tuple[Any, ...]]) -> int:
    return store.change_many(statement, keys) if keys else 0
