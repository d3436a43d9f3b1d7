"""What the GPUs of a machine did in the hours before a moment: utilization in columns, and since when there was no work. From minutes.

Never guesses: a gap is a gap, and where minutes are missing nobody is called idle. Trouble of the store leaves these extras out.
"""

from __future__ import annotations

from itertools import groupby
from typing import Iterable, List, NamedTuple, Optional, Tuple

from gpuwatch.model.errors import StoreError
from gpuwatch.query.latest import Latest
from gpuwatch.query.states import COLUMN_SECONDS, COLUMNS, Recent
from gpuwatch.query.tail import Tails
from gpuwatch.store import rollups
from gpuwatch.store.chunks import Chunk, merge, of_minutes
from gpuwatch.store.database import Store

UTILIZATION = "utilization_percent"
MINUTE, HOUR = 60, 3600
TAIL_SECONDS = 7200.0
"""Moments younger than this may be of snapshots that still wait in the journal."""
MOST_SECONDS = 10 * 86400.0
"""No work for longer than this counts as at least so long."""


class Quiet(NamedTuple):
    """Since when there was no work, epoch seconds to the minute; ``at_least``: before it nobody knows."""

    since_at: float
    at_least: bool


class _Step(NamedTuple):
    start: int
    samples: int
    mean: Optional[float]
    maximum: Optional[float]


class Work:
    """Of one machine before one moment. Reads when it is asked, and keeps nothing: nodes of the past are kept in great numbers."""

    def __init__(self, store: Store, latest: Latest, tails: Tails, machine_id: str, at: float, now: float) -> None:
        self._store, self._latest, self._tails, self._machine_id, self._at, self._now = store, latest, tails, machine_id, at, now
        self._first_column = int(at // MINUTE) * MINUTE - COLUMNS * COLUMN_SECONDS

    def recent(self, uuid: str) -> Recent:
        """Mean utilization of the 6 h before, in columns of 10 minutes, oldest first; None = gap. Empty where nothing is known."""
        try:
            steps = _steps(self._hours(uuid))
        except StoreError:
            return ()
        columns: List[Optional[float]] = [None] * COLUMNS
        for place, group in groupby(steps, lambda step: (step.start - self._first_column) // COLUMN_SECONDS):
            known = [step for step in group if step.mean is not None]
            count = sum(step.samples for step in known)
            if count and 0 <= place < COLUMNS:
                columns[place] = round(sum((step.mean or 0.0) * step.samples for step in known) / count, 1)
        return tuple(columns) if any(column is not None for column in columns) else ()

    def quiet(self, uuid: str) -> Optional[Quiet]:
        """Since when the GPU had no work; None = it had, or its last minutes are not known."""
        end = int(self._at // MINUTE) * MINUTE
        try:
            found = self._walk(_steps(self._hours(uuid)), end, MINUTE)
            if found is None or not found.at_least or found.since_at >= self._begin + MINUTE:
                return found if found is None or found.since_at < end else None
            return self._longer(uuid, int(found.since_at))
        except StoreError:
            return None

    @property
    def _begin(self) -> int:
        return self._first_column // HOUR * HOUR

    def _hours(self, uuid: str) -> Chunk:
        """Whole minutes of the 6 h before the moment, and up to an hour more."""
        end = int(self._at // MINUTE) * MINUTE
        chunk = self._read(uuid, MINUTE, self._begin, end)
        if self._at > self._now - TAIL_SECONDS:
            waiting = of_minutes(self._tails.of(self._store, self._latest, self._machine_id).minutes.get(uuid, {}))
            chunk = merge(chunk, waiting.only((UTILIZATION,)).cut(self._begin, end))
        return chunk

    def _read(self, uuid: str, tier: int, start: float, end: float) -> Chunk:
        return rollups.read(self._store, self._machine_id, uuid, tier, start, end, (UTILIZATION,))

    def _longer(self, uuid: str, quiet_from: int) -> Quiet:
        """Further back by the hour, then by the minutes of the hour in which work stopped."""
        hours = self._walk(_steps(self._read(uuid, HOUR, self._at - MOST_SECONDS, quiet_from)), quiet_from, HOUR) or Quiet(quiet_from, True)
        since = int(hours.since_at)
        minutes = _steps(self._read(uuid, MINUTE, since - HOUR, since))
        return self._walk(minutes, since, MINUTE) or hours

    def _walk(self, steps: List[_Step], end: int, width: int) -> Optional[Quiet]:
        """Back from ``end`` to the last work or gap; None where there is nothing but that. An hour with few samples has a gap inside."""
        limits, since = self._latest.limits, end
        most = max([step.samples for step in steps], default=0)
        for step in reversed(steps):
            if step.maximum is None:
                continue
            inside = width * (1 - step.samples / most) if width == HOUR else 0.0
            if since - (step.start + width) + inside > limits.blind_seconds:
                break
            if step.maximum > limits.idle_utilization:
                return Quiet(step.start + width, False) if step.start + width < end else None
            since = step.start
        return Quiet(since, True) if since < end else None


def _steps(chunk: Chunk) -> List[_Step]:
    values = chunk.floats(UTILIZATION)
    rows: Iterable[Tuple[int, int, Optional[float], Optional[float]]] = zip(chunk.times, values.counts, values.mean, values.maximum)
    return [_Step(*row) for row in rows]
