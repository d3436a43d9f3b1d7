"""Rollups of GPUs, hosts and the fleet. ``merge`` adds what a block brings, ``read`` tells any stretch of time, up to the last merge.

What a block brings is first kept as one part (one row for all subjects of the machine), and every so many parts are settled: added to the chunks of
all tiers at once. A part is either waiting or in all chunks, never both, for settling is one transaction; readers add the parts that wait.
"""

from __future__ import annotations

import logging
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.model.series import TIERS, Minute
from gpuwatch.store.chunk_codec import decode, decode_part, encode, encode_part
from gpuwatch.store.chunks import SPANS, Chunk, coarsen, join, merge_all, of_minutes, split
from gpuwatch.store.chunks import merge as merge_chunks
from gpuwatch.store.database import Rows, Store

FLEET = ""
"""Stands for the machine where all GPUs together are meant."""
HOST = ""
"""Stands for the GPU where the host, or the fleet, is meant."""
SETTLE_AT = 24
"""Parts of one machine that are settled together."""
SETTLE_FLEET_AT = 64
"""The same for the fleet, which gets a part from each machine."""
_MOST_PARTS = 500
"""Settled in one transaction."""
_MOST_SUBJECTS = 1024
"""Of one block: more GPUs and slices than any machine has. Those beyond are a hostile node's."""
_READ_BATCH = 400

_log = logging.getLogger(__name__)
Key = Tuple[str, int, int]
"""(GPU or slice, tier, start in epoch seconds)"""


class Overtaken(Exception):
    """Another one settled the same parts first."""


def parts_of(minutes: Mapping[str, Mapping[int, Minute]], fleet: Mapping[int, Minute]) -> Tuple[bytes, bytes]:
    """What ``merge`` adds, as bytes: of the machine, and of the fleet (empty: nothing). Outside of transactions, as it takes a while."""
    subjects = sorted(minutes)[:_MOST_SUBJECTS]
    own = {subject: chunk for subject, chunk in ((one, of_minutes(minutes[one])) for one in subjects) if chunk.times}
    whole = of_minutes(fleet)
    return encode_part(own) if own else b"", encode_part({HOST: whole}) if whole.times else b""


def merge(store: Store, machine_id: str, start_ms: int, parts: Tuple[bytes, bytes]) -> None:
    """Inside ``writing()``: add the minutes (``parts_of``) that a block which starts at ``start_ms`` brings."""
    for owner, data in zip((machine_id, FLEET), parts):
        if data:
            store.change(
                """INSERT INTO rollup_part (machine_id, source_id, start_ms, sequence, data)
                   SELECT ?, ?, ?, coalesce(max(sequence) + 1, 0), ? FROM rollup_part WHERE machine_id = ? AND source_id = ? AND start_ms = ?""",
                (owner, machine_id, start_ms, data, owner, machine_id, start_ms),
            )


def settle(store: Store, machine_id: str, least: int = 0) -> bool:
    """Add the waiting parts of a machine (or FLEET) to its chunks, in one transaction, if there are ``least``; True if so."""
    least = least or (SETTLE_FLEET_AT if machine_id == FLEET else SETTLE_AT)
    ((waiting,),) = store.rows("SELECT count(*) FROM rollup_part WHERE machine_id = ?", (machine_id,))
    if waiting < least:
        return False
    try:
        with store.writing():
            _settle(store, machine_id)
    except Overtaken:
        return False
    return True


def _settle(store: Store, machine_id: str) -> None:
    rows = store.rows("SELECT source_id, start_ms, sequence, data FROM rollup_part WHERE machine_id = ? LIMIT ?", (machine_id, _MOST_PARTS))
    # deleted first: where two hubs share a database, the one that finds them gone must not have read a chunk before the other wrote it
    deleted = store.change_many(
        "DELETE FROM rollup_part WHERE machine_id = ? AND source_id = ? AND start_ms = ? AND sequence = ?", [(machine_id, *row[:3]) for row in rows]
    )
    if deleted != len(rows):
        raise Overtaken
    add_chunks(store, machine_id, {subject: {TIERS[0]: chunk} for subject, chunk in _merged_parts(machine_id, rows, None).items()})


def _merged_parts(machine_id: str, rows: Rows, subject: Optional[str]) -> Dict[str, Chunk]:
    """The parts' chunks by subject. A damaged part is left out, with a line in the log."""
    found: Dict[str, List[Chunk]] = {}
    for *_, data in rows:
        try:
            for name, chunk in decode_part(bytes(data), subject).items():
                found.setdefault(name, []).append(chunk)
        except StoreError as error:
            _log.warning("minutes of machine %s are lost: %s", machine_id, error)
    return {name: merge_all(chunks) for name, chunks in found.items()}


def add_chunks(store: Store, machine_id: str, chunks: Mapping[str, Mapping[int, Chunk]]) -> None:
    """Inside ``writing()``: add chunks (by subject, then tier) to what is stored. Tiers that are not given are made from the one before."""
    _add(store, machine_id, {key: part for subject, tiers in chunks.items() for key, part in _pieces(subject, tiers)})


def _add(store: Store, machine_id: str, new: Mapping[Key, Chunk]) -> None:
    """Add each to the stored chunk of its key."""
    stored = _stored(store, machine_id, list(new))
    rows = []
    for (subject, tier, start_at), part in new.items():
        data = stored.get((subject, tier, start_at * 1000))
        encoded = encode(_sum_of(machine_id, data, start_at, tier, part), start_at, tier)
        rows.append((machine_id, subject, tier, start_at * 1000, len(encoded), encoded))
    if rows:
        store.change_many(
            """INSERT INTO rollup (machine_id, gpu_uuid, tier_seconds, start_ms, size, data) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (machine_id, gpu_uuid, tier_seconds, start_ms) DO UPDATE SET size = excluded.size, data = excluded.data""",
            rows,
        )


def move(store: Store, source: str, into: str, most: int) -> int:
    """Inside ``writing()``: add at most ``most`` chunks of machine ``source`` to those of ``into``; how many."""
    rows = store.rows("SELECT gpu_uuid, tier_seconds, start_ms, data FROM rollup WHERE machine_id = ? LIMIT ?", (source, most))
    if rows:
        store.change_many(
            "DELETE FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ? AND start_ms = ?", [(source, *row[:3]) for row in rows]
        )
        chunks = {(uuid, tier, ms // 1000): _sum_of(source, bytes(data), ms // 1000, tier, Chunk()) for uuid, tier, ms, data in rows}
        _add(store, into, {key: chunk for key, chunk in chunks.items() if chunk.times})
    return len(rows)


def _pieces(subject: str, tiers: Mapping[int, Chunk]) -> Iterable[Tuple[Key, Chunk]]:
    finer = Chunk()
    for tier in TIERS:
        finer = tiers[tier] if tier in tiers else coarsen(finer, tier)
        for start_at, part in split(finer, SPANS[tier]):
            yield (subject, tier, start_at), part


def _stored(store: Store, machine_id: str, keys: Sequence[Key]) -> Dict[Key, bytes]:
    """By key, its start in ms."""
    found: Dict[Key, bytes] = {}
    subjects = sorted({subject for subject, _, _ in keys})
    starts = sorted({start_at * 1000 for _, _, start_at in keys})
    for first in range(0, len(subjects), _READ_BATCH):
        some = subjects[first : first + _READ_BATCH]
        marks, times = ", ".join("?" * len(some)), ", ".join("?" * len(starts))
        rows = store.rows(
            f"""SELECT gpu_uuid, tier_seconds, start_ms, data FROM rollup
                WHERE machine_id = ? AND gpu_uuid IN ({marks}) AND tier_seconds IN (60, 900, 3600) AND start_ms IN ({times})""",
            (machine_id, *some, *starts),
        )
        found.update(((uuid, tier, start_ms), bytes(data)) for uuid, tier, start_ms, data in rows)
    return found


def _sum_of(machine_id: str, data: Optional[bytes], start_at: int, tier: int, part: Chunk) -> Chunk:
    if data is None:
        return part
    try:
        return merge_chunks(decode(data, start_at, tier), part)
    except StoreError as error:  # a damaged one must not keep the others from being settled for ever
        _log.warning("rollups of machine %s from %d (epoch seconds) are lost: %s", machine_id, start_at, error)
        return part


def read(
    store: Store,
    machine_id: str,
    gpu_uuid: str,
    tier_seconds: int,
    start_at: float,
    end_at: float,
    metrics: Optional[Iterable[str]] = None,
) -> Chunk:
    """Intervals of a tier that begin in start_at <= t < end_at (epoch seconds); with ``metrics`` those alone.

    ``machine_id`` FLEET: all GPUs; ``gpu_uuid`` HOST: the host, or the fleet. What is still in the journal is not in it. Raises StoreError, for a
    damaged chunk too.
    """
    span = SPANS[tier_seconds]
    low_ms = (max(0, int(start_at)) // span) * span * 1000
    names = None if metrics is None else list(metrics)
    with store.reading():
        rows = store.rows(
            """SELECT start_ms, data FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ? AND start_ms >= ? AND start_ms < ?
               ORDER BY start_ms""",
            (machine_id, gpu_uuid, tier_seconds, low_ms, min(round(end_at * 1000), 2**62)),
        )
        parts = store.rows("SELECT data FROM rollup_part WHERE machine_id = ?", (machine_id,))
    chunks = [decode(bytes(data), start_ms // 1000, tier_seconds, names) for start_ms, data in rows]
    waiting = _merged_parts(machine_id, parts, gpu_uuid).get(gpu_uuid, Chunk())
    if names is not None:
        waiting = waiting.only(names)
    return merge_chunks(join(chunks), coarsen(waiting, tier_seconds)).cut(start_at, end_at)


def kept_since(store: Store, machine_id: str, gpu_uuid: str, tier_seconds: int) -> Optional[float]:
    """Start of the oldest chunk's first interval in epoch seconds; None = there is none. What waits in parts is not counted."""
    key = (machine_id, gpu_uuid, tier_seconds)
    rows = store.rows(
        "SELECT start_ms, data FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ? ORDER BY start_ms LIMIT 1", key
    )
    for start_ms, data in rows:
        times = decode(bytes(data), start_ms // 1000, tier_seconds, ()).times
        return float(times[0]) if times else start_ms / 1000
    return None


def span(store: Store, machine_id: str, gpu_uuid: str) -> Optional[Tuple[float, float]]:
    """Begin of the first hour and end of the last interval in epoch seconds; None = there is none. What waits in parts is not counted."""
    first_at = kept_since(store, machine_id, gpu_uuid, TIERS[-1])
    if first_at is None:
        return None
    for tier in TIERS:  # minutes of old ones are gone
        rows = store.rows(
            "SELECT start_ms, data FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ? ORDER BY start_ms DESC LIMIT 1",
            (machine_id, gpu_uuid, tier),
        )
        times = [at for start_ms, data in rows for at in decode(bytes(data), start_ms // 1000, tier, ()).times[-1:]]
        if times:
            return first_at, float(times[0] + tier)
    return first_at, first_at + TIERS[-1]


def oldest_ms(store: Store, machine_id: str, tier_seconds: int) -> Optional[int]:
    """Start of the oldest chunk of a tier of any of the machine's subjects, in ms since the epoch; None = there is none."""
    found = [
        start_ms
        for uuid in subjects(store, machine_id)
        for (start_ms,) in store.rows(
            "SELECT min(start_ms) FROM rollup WHERE machine_id = ? AND gpu_uuid = ? AND tier_seconds = ?", (machine_id, uuid, tier_seconds)
        )
        if start_ms is not None
    ]
    return min(found, default=None)


def subjects(store: Store, machine_id: str, most: int = 10_000) -> List[str]:
    """UUIDs of the GPUs and slices that there are rollups of, and HOST: a seek for each, whatever lies between."""
    found: List[str] = []
    rows = store.rows("SELECT min(gpu_uuid) FROM rollup WHERE machine_id = ?", (machine_id,))
    while rows[0][0] is not None and len(found) < most:
        found.append(rows[0][0])
        rows = store.rows("SELECT min(gpu_uuid) FROM rollup WHERE machine_id = ? AND gpu_uuid > ?", (machine_id, found[-1]))
    return found
