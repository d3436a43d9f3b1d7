"""What each GPU does and since when, kept at ingest from the flat values: about 10 microseconds for a poll of 8 GPUs.

Times are the hub's clock. What must survive a restart leaves through ``take_changed`` and comes back through ``load``; the tracker itself
never touches the store. After a restart a state that still holds keeps its "since"; where the hub was blind for long, it says "at least".
"""

from __future__ import annotations

import math
import threading
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.cluster import GpuState
from gpuwatch.query.plan import Plan
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.states import base_state, holds_memory, is_idle

COLUMN_SECONDS = 600
COLUMNS = 36
"""Recent utilization: 6 h in columns of 10 minutes, the last of them still open."""
SHORT_PAUSE_SECONDS = 60.0
"""A pause of work shorter than this is not worth a write to the store."""
MOST_TRACKS = 4096
"""GPUs and slices remembered per machine, those that are gone included."""

Recent = Tuple[Optional[float], ...]
_NOTHING: Recent = (None,) * COLUMNS


class SavedState(NamedTuple):
    """What is kept of one GPU or slice across a restart."""

    machine_id: str
    uuid: str
    state: str
    since_at: float
    at_least: bool
    no_work_since_at: Optional[float]
    no_work_at_least: bool
    column: int
    """Number of the open column (epoch seconds / 600); ``recent`` ends before it."""
    recent: Recent


class _Track:
    """One GPU or slice. ``state`` is replaced, never changed, so that readers may keep it."""

    __slots__ = ("base", "count", "idle_at", "left_at", "no_work_at_least", "no_work_since_at", "recent", "saved", "state", "sum")

    def __init__(self) -> None:
        self.base = ""
        self.state = GpuState("unknown", None)
        self.no_work_since_at: Optional[float] = None
        self.no_work_at_least = False
        self.idle_at = math.inf
        self.sum = 0.0
        self.count = 0
        self.recent: Recent = ()
        self.saved: Any = None
        self.left_at: Optional[float] = None

    def work_stopped(self, now: float, at_least: bool, limits: Limits) -> None:
        self.no_work_since_at, self.no_work_at_least, self.idle_at = now, at_least, now + limits.idle_after

    def work_goes_on(self) -> None:
        self.no_work_since_at, self.no_work_at_least, self.idle_at = None, False, math.inf

    def mean(self) -> Optional[float]:
        return round(self.sum / self.count, 1) if self.count else None


class _Machine:
    """The tracks of one machine, and those of the plan in force in its order."""

    __slots__ = ("column", "column_ends_at", "pairs", "plan", "seen_at", "settled", "tracks")

    def __init__(self) -> None:
        self.tracks: Dict[str, _Track] = {}
        self.plan: Optional[Plan] = None
        self.pairs: List[Tuple[Any, ...]] = []
        self.settled: Tuple[GpuState, ...] = ()
        self.seen_at: Optional[float] = None
        self.column = 0
        self.column_ends_at = -math.inf

    def adopt(self, plan: Plan, now: float, limits: Limits) -> None:
        """Line the tracks up with the rows of a new shape. A GPU that was away for long is looked at anew."""
        kept = {row.uuid for row in plan.rows}
        for uuid, track in self.tracks.items():
            if uuid not in kept and track.left_at is None:
                track.left_at = self.seen_at
        self.pairs = [(self._track(row.uuid, now, limits), *row[1:]) for row in plan.rows]
        self.plan, self.settled = plan, ()
        if len(self.tracks) > max(MOST_TRACKS, 2 * len(kept)):
            self.tracks = {uuid: track for uuid, track in self.tracks.items() if uuid in kept}

    def _track(self, uuid: str, now: float, limits: Limits) -> _Track:
        track = self.tracks.get(uuid)
        if track is None:
            track = self.tracks[uuid] = _Track()
        elif track.left_at is not None and now - track.left_at > limits.blind_seconds:
            track.base = ""
        track.left_at = None
        return track


class StateTracker:
    """States of all GPUs of all machines. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._machines: Dict[str, _Machine] = {}
        self._changed: Dict[Tuple[str, str], _Track] = {}
        self._lock = threading.Lock()

    def observe(self, machine_id: str, plan: Plan, values: Sequence[Any], now: float) -> Tuple[GpuState, ...]:
        """Take in one fresh sample; the states of ``plan.rows``, in their order."""
        with self._lock:
            machine = self._machines.get(machine_id)
            if machine is None:
                machine = self._machines[machine_id] = _Machine()
            now = round(now, 3)  # as the store keeps times: "since" is the same number after a restart
            pause = math.inf if machine.seen_at is None else now - machine.seen_at
            if pause > self._limits.blind_seconds:
                _forget_since(machine)
            if machine.plan is not plan:
                machine.adopt(plan, now, self._limits)
            if now >= machine.column_ends_at:
                self._next_column(machine_id, machine, now)
            machine.seen_at = now
            if self._look(machine_id, machine, values, now, pause > self._limits.down_after):
                machine.settled = tuple([pair[0].state for pair in machine.pairs])
            return machine.settled

    def _look(self, machine_id: str, machine: _Machine, values: Sequence[Any], now: float, at_least: bool) -> bool:
        """The hot loop: one short pass over the GPUs; everything that changes goes through ``_change``. True = something changed."""
        limits, idle_utilization = self._limits, self._limits.idle_utilization
        changed = len(machine.settled) != len(machine.pairs)
        for place, (track, lost, mig, processes, unified, utilization_at, memory_at) in enumerate(machine.pairs):
            utilization = None if utilization_at is None else values[utilization_at]
            memory = None if memory_at is None else values[memory_at]
            base = base_state(lost, mig, processes, memory, utilization, unified, limits)
            low = utilization is not None and utilization <= idle_utilization
            if utilization is not None:
                track.sum += utilization
                track.count += 1
            if (
                base != track.base
                or low is (track.no_work_since_at is None)
                or (now >= track.idle_at and holds_memory(memory, unified, limits) is not (track.state.state == "idle"))
            ):
                changed |= self._change(machine_id, machine, place, base, low, holds_memory(memory, unified, limits), now, at_least)
        return changed

    def _change(
        self, machine_id: str, machine: _Machine, place: int, base: str, low: bool, holds: bool, now: float, at_least: bool
    ) -> bool:
        track: _Track = machine.pairs[place][0]
        assert machine.plan is not None
        old, first_look, new_base = track.state, track.base == "", base != track.base
        at_least = at_least or first_look
        if not low:
            track.work_goes_on()
        elif track.no_work_since_at is None or (new_base and base == "busy") or first_look:
            track.work_stopped(now, at_least, self._limits)
        track.base = base
        state = "idle" if is_idle(base, holds, track.no_work_since_at, now, self._limits) else base
        track.state = _next_state(track, old, state, first_look, now, at_least)
        if track.state == old:
            track.state = old
            return False
        self._changed[machine_id, machine.plan.rows[place].uuid] = track
        return True

    def _next_column(self, machine_id: str, machine: _Machine, now: float) -> None:
        """Close the open column of every track; columns without samples are gaps."""
        column = int(now // COLUMN_SECONDS)
        passed = column - machine.column
        for uuid, track in machine.tracks.items():
            if track.count or track.recent:
                gaps = (None,) * min(max(passed - 1, 0), COLUMNS)
                track.recent = (track.recent + (track.mean(),) + gaps)[1 - COLUMNS :] if passed > 0 else track.recent
                self._changed[machine_id, uuid] = track
            track.sum, track.count = 0.0, 0
        machine.column, machine.column_ends_at = column, float((column + 1) * COLUMN_SECONDS)

    def recent(self, machine_id: str, uuids: Sequence[str], now: float) -> Tuple[Recent, ...]:
        """36 columns for each GPU, oldest first, the last one still open at ``now``; () for a GPU never seen."""
        with self._lock:
            machine = self._machines.get(machine_id)
            return tuple(_columns(machine, machine.tracks.get(uuid) if machine else None, now) for uuid in uuids)

    def take_changed(self, now: float) -> List[SavedState]:
        """Rows to write to the store: everything that changed since the last call. A short pause of work waits until it is longer."""
        with self._lock:
            pending, self._changed = self._changed, {}
            rows = []
            for (machine_id, uuid), track in pending.items():
                machine = self._machines.get(machine_id)
                if machine is None or track.state.since_at is None:
                    continue
                row = _saved(machine_id, uuid, machine, track, now)
                if row != track.saved:
                    track.saved = row
                    rows.append(row)
                if row.no_work_since_at != track.no_work_since_at:
                    self._changed[machine_id, uuid] = track
            return rows

    def put_back(self, rows: Iterable[SavedState]) -> None:
        """Rows that could not be written: they are handed out again by the next ``take_changed``."""
        with self._lock:
            for row in rows:
                machine = self._machines.get(row.machine_id)
                track = machine.tracks.get(row.uuid) if machine else None
                if track is not None:
                    track.saved = None
                    self._changed[row.machine_id, row.uuid] = track

    def load(self, rows: Iterable[SavedState]) -> None:
        """At start: what was kept before the restart."""
        with self._lock:
            for row in rows:
                machine = self._machines.setdefault(row.machine_id, _Machine())
                track = machine.tracks[row.uuid] = _Track()
                track.base = "busy" if row.state == "idle" else row.state
                if row.no_work_since_at is not None:
                    track.work_stopped(row.no_work_since_at, row.no_work_at_least, self._limits)
                track.state = GpuState(row.state, row.since_at, row.at_least, no_work_since_at=row.no_work_since_at)
                track.recent = row.recent[-COLUMNS:]
                _align(machine, track, row.column)

    def restore(self, machine_id: str, plan: Plan, values: Sequence[Any], seen_at: float) -> Tuple[GpuState, ...]:
        """At start, after ``load``: the states at the last reading before the restart, for ``plan.rows``."""
        with self._lock:
            machine = self._machines.setdefault(machine_id, _Machine())
            machine.seen_at = seen_at
            machine.adopt(plan, seen_at, self._limits)
            for pair in machine.pairs:
                if pair[0].base == "":
                    pair[0].state = GpuState(_base_of(pair, values, self._limits), None)
            machine.settled = tuple([pair[0].state for pair in machine.pairs])
            return machine.settled

    def forget(self, machine_id: str) -> None:
        """The machine is no longer watched."""
        with self._lock:
            self._machines.pop(machine_id, None)


def _next_state(track: _Track, old: GpuState, state: str, first_look: bool, now: float, at_least: bool) -> GpuState:
    no_work = track.no_work_since_at
    if state == old.state and not first_look:
        return GpuState(state, old.since_at, old.at_least, no_work_since_at=no_work)
    if state == "idle" and no_work is not None:
        return GpuState(state, track.idle_at, track.no_work_at_least, no_work_since_at=no_work)
    return GpuState(state, now, at_least, no_work_since_at=no_work)


def _base_of(pair: Tuple[Any, ...], values: Sequence[Any], limits: Limits) -> str:
    _, lost, mig, processes, unified, utilization_at, memory_at = pair
    utilization = None if utilization_at is None else values[utilization_at]
    return base_state(lost, mig, processes, None if memory_at is None else values[memory_at], utilization, unified, limits)


def _forget_since(machine: _Machine) -> None:
    """The hub was blind for long: each state begins anew, as "at least"."""
    for track in machine.tracks.values():
        track.base = ""


def _align(machine: _Machine, track: _Track, column: int) -> None:
    """Bring a loaded track and its machine to one open column: the later one; the earlier gets gaps."""
    if machine.column == 0:
        machine.column, machine.column_ends_at = column, float((column + 1) * COLUMN_SECONDS)
    elif column < machine.column:
        track.recent = (track.recent + (None,) * min(machine.column - column, COLUMNS))[1 - COLUMNS :]
    elif column > machine.column:
        for other in machine.tracks.values():
            if other is not track and other.recent:
                other.recent = (other.recent + (None,) * min(column - machine.column, COLUMNS))[1 - COLUMNS :]
        machine.column, machine.column_ends_at = column, float((column + 1) * COLUMN_SECONDS)


def _columns(machine: Optional[_Machine], track: Optional[_Track], now: float) -> Recent:
    if machine is None or track is None:
        return ()
    later = int(now // COLUMN_SECONDS) - machine.column
    known = (*track.recent, track.mean())
    if later > 0:
        known = (known + (None,) * min(later, COLUMNS))[-COLUMNS:]
    return _NOTHING[len(known) :] + known


def _saved(machine_id: str, uuid: str, machine: _Machine, track: _Track, now: float) -> SavedState:
    state, no_work, no_work_at_least = track.state, track.no_work_since_at, track.no_work_at_least
    if no_work is not None and now - no_work < SHORT_PAUSE_SECONDS:
        no_work, no_work_at_least = None, False
    return SavedState(
        machine_id, uuid, state.state, state.since_at or 0.0, state.at_least, no_work, no_work_at_least, machine.column, track.recent
    )
