"""What is derived of a block's snapshots: digested outside of transactions, added to rollups, usage and intervals inside the block's own.

So each snapshot is counted exactly once: either its block is there and says that it is digested, or the sums do not have it yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timezone, tzinfo
from itertools import groupby
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from gpuwatch.model.errors import StoreError, WireError
from gpuwatch.model.series import Digest
from gpuwatch.rules.digest import MOST_INTERVALS, Sample, digest
from gpuwatch.rules.limits import Limits
from gpuwatch.store import intervals, rollups, shapes, usage
from gpuwatch.store.blocks import Entry
from gpuwatch.store.columns import Column
from gpuwatch.store.database import Store
from gpuwatch.wire.flat import Shape

MOST_GAP_SECONDS = 600.0
"""Intervals of processes are never joined over more, whatever a node says that its interval is."""
_MOST_KEY = 200
"""Longest UUID or user name that is kept; longer ones are a hostile node's."""

_log = logging.getLogger(__name__)


class Known(NamedTuple):
    """A shape as digests need it."""

    width: int
    places: Any


class Derived(NamedTuple):
    """A digest, ready to be added."""

    start_ms: int
    digest: Digest
    parts: Tuple[bytes, bytes]
    gap_seconds: float


ShapeOf = Callable[[str], Optional[Shape]]
"""The newest shape of a machine where it is known already: parsing it again costs as much as a tenth of its block."""


def _not_known(machine_id: str) -> Optional[Shape]:
    return None


@dataclass(frozen=True)
class Digester:
    """By which thresholds GPUs are busy or idle, and in which zone days begin."""

    limits: Limits = Limits()
    zone: tzinfo = timezone.utc
    shape_of: ShapeOf = _not_known
    asked_every_seconds: float = 0.0
    """How often the hub asks."""

    def derive(
        self,
        store: Store,
        machine_id: str,
        entries: Sequence[Entry],
        ends_ms: Optional[int],
        following: Optional[Entry] = None,
        columns: Optional[Sequence[Column]] = None,
    ) -> Optional[Derived]:
        """What follows from consecutive snapshots of a machine; ``ends_ms``: time of the one after them, ``following``: that one, as far as it
        can be read. ``columns``: the values of ``entries``, which are in the order of time and of one shape, and need not have them. None = nothing does.

        Snapshots that cannot be read are left out, with a line in the log: they must not keep the others from being counted.
        """
        try:
            samples = samples_of(store, machine_id, entries, self.shape_of, columns)
            if not samples:
                return None
            ends_at = None if ends_ms is None else ends_ms / 1000
            more = samples_of(store, machine_id, [following], self.shape_of) if following is not None else []
            found = digest(
                samples, ends_at, limits=self.limits, zone=self.zone, asked_every_seconds=self.asked_every_seconds,
                following=more[0] if more else None, columns=columns,
            )  # fmt: skip
            _drop_hostile(found)
            gap_seconds = min(MOST_GAP_SECONDS, MOST_INTERVALS * max(self.asked_every_seconds, samples[-1].places.interval_seconds))
            return Derived(entries[0].taken_at_ms, found, rollups.parts_of(found.minutes, found.fleet), gap_seconds)
        except (StoreError, ArithmeticError, ValueError, TypeError, AttributeError, LookupError) as error:
            start, end = entries[0].taken_at_ms / 1000, entries[-1].taken_at_ms / 1000
            _log.warning("snapshots of machine %s from %.3f to %.3f are not in its rollups: %s: %s", machine_id, start, end, type(error).__name__, error)
            return None


def samples_of(
    store: Store, machine_id: str, entries: Sequence[Entry], shape_of: ShapeOf = _not_known, columns: Optional[Sequence[Column]] = None
) -> List[Sample]:
    """The entries (in any order) as ``rules.digest`` takes them, by time; those whose shape is missing or another one's are left out.

    ``columns``: see ``Digester.derive``.
    """
    known: Dict[str, Optional[Known]] = {}
    samples = []
    for shape_id, group in groupby(sorted(entries, key=_time_of), key=_shape_of):
        if shape_id not in known:
            known[shape_id] = _shape(store, machine_id, shape_id, shape_of)
        shape = known[shape_id]
        if shape is not None:
            samples += [Sample(entry.taken_at_ms / 1000, shape.places, entry.values) for entry in group if len(entry.values if columns is None else columns) == shape.width]
    return samples


def _time_of(entry: Entry) -> int:
    return entry.taken_at_ms


def _shape_of(entry: Entry) -> str:
    return entry.shape_id


def _shape(store: Store, machine_id: str, shape_id: str, shape_of: ShapeOf) -> Optional[Known]:
    found: Optional[Known] = store.memory.places.get((machine_id, shape_id))
    if found is None:
        try:
            newest = shape_of(machine_id)
            shape = newest if newest is not None and newest.id == shape_id else Shape.parse(shapes.read(store, machine_id, shape_id))
            found = Known(shape.count, shape.places())
        except (StoreError, WireError) as error:
            _log.warning("the shape %s of machine %s cannot be read; its snapshots are not in the rollups: %s", shape_id, machine_id, error)
            return None
        store.memory.places.put((machine_id, shape_id), found)
    return found


def add(store: Store, machine_id: str, derived: Derived) -> None:
    """Inside ``writing()``: add it to rollups (the fleet's too), usage and intervals."""
    found = derived.digest
    rollups.merge(store, machine_id, derived.start_ms, derived.parts)
    usage.merge(store, machine_id, found.gpu_days, found.user_days)
    intervals.merge(store, machine_id, found.intervals, derived.gap_seconds)


def settle(store: Store, machine_id: str) -> None:
    """After a block: settle what has piled up of the machine and of the fleet. Raises StoreError."""
    for owner in (machine_id, rollups.FLEET):
        rollups.settle(store, owner)


def _drop_hostile(found: Digest) -> None:
    """Without subjects and users whose names cannot be keys."""
    bad = {name for name in _names(found) if len(name) > _MOST_KEY or "\0" in name}
    if not bad:
        return
    found.minutes = {uuid: minutes for uuid, minutes in found.minutes.items() if uuid not in bad}
    found.gpu_days = {key: sums for key, sums in found.gpu_days.items() if key[1] not in bad}
    found.user_days = {key: sums for key, sums in found.user_days.items() if bad.isdisjoint(key)}
    found.intervals = tuple(one for one in found.intervals if bad.isdisjoint((one.gpu_uuid, one.user or "", one.name or "", one.command or "")))


def _names(found: Digest) -> Set[str]:
    names = {*found.minutes, *(key[1] for key in found.gpu_days), *(key[2] for key in found.user_days)}
    names.update(one.user or "" for one in found.intervals)
    return names.union(text for one in found.intervals for text in (one.name, one.command) if text and "\0" in text)
