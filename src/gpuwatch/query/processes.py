"""Who was on which GPU when: stored intervals of processes, joined with what still waits in the journal. Never writes.

Commands are cut here to what the audience may see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import PastProcess, ProcessInterval
from gpuwatch.model.snapshot import ProcessReading
from gpuwatch.query.latest import Known, Latest
from gpuwatch.query.subjects import Names, Subject, find, with_slices
from gpuwatch.query.tail import Tails
from gpuwatch.rules.digest_plan import Plan
from gpuwatch.rules.permissions import STRANGER, visible_command
from gpuwatch.store import intervals
from gpuwatch.store.database import Store

MOST_TAILS = 16
"""Journals that are looked at for one answer. Of further machines the last quarter of an hour may be missing."""
MOST_ROWS = 10_000
USUAL_GAP_SECONDS, MOST_GAP_SECONDS = 15.0, 600.0

Key = Tuple[str, str, int, Optional[int]]
"""(machine id, UUID, pid, start of the process in ms)."""


class _Owned(NamedTuple):
    machine_id: str
    interval: ProcessInterval


def processes(
    store: Store,
    latest: Latest,
    *,
    host: str = "",
    gpu: str = "",
    user: str = "",
    start_at: float,
    end_at: float,
    limit: int = 1000,
    audience: str = STRANGER,
    tails: Optional[Tails] = None,
) -> Tuple[PastProcess, ...]:
    """Processes that were on a GPU at any moment of start_at <= t < end_at (epoch seconds), newest start first, at most ``limit``.

    Of all GPUs, or of ``host``, of ``gpu`` (UUID, or with ``host`` its number; a card cut into slices includes them), of ``user``. Raises
    UsageError (unknown host or GPU; no time), StoreError.
    """
    if not 0 <= start_at < end_at:
        raise UsageError("The time would end before it begins.", "Give a to= that is later than from=.")
    limit = max(1, min(limit, MOST_ROWS))
    subject = find(store, latest, host, gpu) if host or gpu else Subject("", "")
    uuids = with_slices(latest, subject) if subject.gpu else None
    with store.reading():
        found = _stored(store, subject, uuids, user, start_at - MOST_GAP_SECONDS, end_at, limit)
        for machine_id in _tailed(latest, subject, user):
            waiting = (tails or Tails()).of(store, latest, machine_id).intervals
            if waiting:  # copied: others use the same digest
                found = _joined(found, [_Owned(machine_id, replace(one)) for one in waiting], _gap_seconds(latest, machine_id))
        names = Names(store, latest)
    wanted = [one for one in found if _is_wanted(one.interval, uuids, user, start_at, end_at)]
    wanted.sort(key=lambda one: (-one.interval.start_at, one.machine_id, one.interval.gpu_uuid, one.interval.pid))
    return tuple(_shown(latest, names, wanted[:limit], audience))


def _stored(
    store: Store, subject: Subject, uuids: Optional[Sequence[str]], user: str, start_at: float, end_at: float, limit: int
) -> List[_Owned]:
    rows = [
        row
        for uuid in uuids or (None,)
        for row in intervals.read(store, subject.machine_id or None, uuid, user or None, start_at=start_at, end_at=end_at, limit=limit)
    ]
    return [_Owned(row.machine_id, row.interval) for row in rows]


def _tailed(latest: Latest, subject: Subject, user: str) -> Iterable[str]:
    """Machines whose journals may tell more."""
    if subject.machine_id:
        return [subject.machine_id]
    present = [known for known in latest.all()[1] if known.plan is not None]
    if len(present) > MOST_TAILS:
        present = [known for known in present if user and any(process.user == user for _, process in _now(known))]
    return [known.machine_id for known in present[:MOST_TAILS]]


def _now(known: Known) -> Iterator[Tuple[str, ProcessReading]]:
    """(UUID of the GPU or slice, process) of the newest reading. The readings' numbers are not values."""
    if known.plan is None:
        return
    for gpu in Plan(known.plan.shape.places()).subjects:
        for subject in (gpu, *gpu.slices):
            for process in subject.processes:
                yield subject.row.uuid, process


def _gap_seconds(latest: Latest, machine_id: str) -> float:
    """Over how much time an interval of the journal continues a stored one, as the store joins them."""
    known = next((one for one in latest.all()[1] if one.machine_id == machine_id), None)
    return min(MOST_GAP_SECONDS, 3 * known.plan.interval_seconds) if known is not None and known.plan is not None else USUAL_GAP_SECONDS


def _key(owned: _Owned) -> Key:
    one = owned.interval
    return owned.machine_id, one.gpu_uuid, one.pid, None if one.process_started_at is None else round(one.process_started_at * 1000)


def _joined(stored: Sequence[_Owned], waiting: Sequence[_Owned], gap_seconds: float) -> List[_Owned]:
    """Stored intervals, continued by those of the journal where these begin at most ``gap_seconds`` later."""
    found: Dict[Key, List[_Owned]] = {}
    for one in sorted(stored, key=lambda owned: owned.interval.start_at):
        found.setdefault(_key(one), []).append(one)
    for one in waiting:
        known = found.setdefault(_key(one), [])
        if known and one.interval.start_at - known[-1].interval.end_at <= gap_seconds:
            known[-1] = known[-1]._replace(interval=_continued(known[-1].interval, one.interval))
        else:
            known.append(one)
    return [one for row in found.values() for one in row]


def _continued(old: ProcessInterval, new: ProcessInterval) -> ProcessInterval:
    peaks = [peak for peak in (old.peak_memory_bytes, new.peak_memory_bytes) if peak is not None]
    return replace(
        old,
        end_at=max(old.end_at, new.end_at),
        peak_memory_bytes=max(peaks, default=None),
        memory_byte_seconds=old.memory_byte_seconds + new.memory_byte_seconds,
        memory_seconds=old.memory_seconds + new.memory_seconds,
    )


def _is_wanted(one: ProcessInterval, uuids: Optional[Sequence[str]], user: str, start_at: float, end_at: float) -> bool:
    return (uuids is None or one.gpu_uuid in uuids) and (not user or one.user == user) and one.end_at >= start_at and one.start_at < end_at


def longest(
    store: Store, latest: Latest, names: Names, machine_id: str, uuid: str, start_at: float, end_at: float, count: int, audience: str
) -> Tuple[PastProcess, ...]:
    """The ``count`` stored processes that were longest on one GPU or slice between two times, longest first; of the newest 500."""
    rows = intervals.read(store, machine_id, uuid, start_at=start_at, end_at=end_at, limit=500)
    found = sorted(rows, key=lambda row: max(row.interval.start_at, start_at) - min(row.interval.end_at, end_at))
    return tuple(_shown(latest, names, [_Owned(row.machine_id, row.interval) for row in found[:count]], audience))


def _shown(latest: Latest, names: Names, found: Sequence[_Owned], audience: str) -> Iterator[PastProcess]:
    """``found`` is nobody else's: the commands are cut in place."""
    ids = {one.machine_id for one in found}
    running: Set[Key] = set()
    for known in latest.all()[1]:
        if known.machine_id in ids and known.verdict.status == "up":
            running |= {(known.machine_id, uuid, one.pid, None if one.started_at is None else round(one.started_at * 1000)) for uuid, one in _now(known)}
    for machine_id, one in found:  # newest first: an earlier interval of the same process is over
        key = _key(_Owned(machine_id, one)) if running else None
        one.command = visible_command(ProcessReading(name=one.name, command=one.command), audience, latest.display.show_arguments) or None
        yield PastProcess(names.host(machine_id), names.gpu(machine_id, one.gpu_uuid).number, one, key in running)
        running.discard(key)
