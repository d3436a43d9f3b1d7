"""The cluster as it was: each machine's stored snapshot nearest before a moment, in the same types as the cluster now.

Never shows old data as current: where no snapshot is young enough at that moment, the node has none, and says why in words. Commands are
cut to what the audience may see. Never writes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Callable, Hashable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState, Target
from gpuwatch.model.errors import GpuwatchError, StoreError
from gpuwatch.model.snapshot import GpuReading, Snapshot
from gpuwatch.query.latest import Latest
from gpuwatch.query.past_gaps import Gap, no_reading
from gpuwatch.query.past_work import Work
from gpuwatch.query.plan import Plan
from gpuwatch.query.tail import Tails
from gpuwatch.render import words
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.nodes import NodeFacts, node_verdict
from gpuwatch.rules.permissions import STRANGER
from gpuwatch.rules.rows import Row
from gpuwatch.rules.states import base_state, holds_memory, is_idle, shown_state
from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import Store
from gpuwatch.store.memory import Recent
from gpuwatch.store.snapshots import Near
from gpuwatch.wire.flat import Shape

THINNED_SECONDS = 60.0
"""Old snapshots are thinned to one in so long: there a machine's interval is what its block shows, up to this."""
SETTLED_SECONDS = 60.0
"""Of moments younger than this more snapshots may come in: what was found is not kept."""
KEPT_SECONDS = 300.0
"""What was found of older moments is looked up again after so long: nodes that were cut off send what they saved."""
MOST_BYTES = 64 * 1024**2
_BYTES_A_VALUE = 48
_BYTES_A_NODE = 4000


class _Machine(NamedTuple):
    """A machine that was watched at the moment, as far as is known."""

    target: Target
    id: str
    interval_seconds: float


@dataclass(frozen=True)
class _Kept:
    node: NodeState
    spacing_seconds: float
    size: int
    expires_at: float


class Pasts:
    """What was found of the past: nodes by moment and audience, bounded in bytes, and the plans of their shapes. Thread-safe.

    One thread at a time looks a whole cluster up, a few wait, others are refused: it is a second's work for a processor.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_waiting: int = 4) -> None:
        self.plans = Recent(512)
        self.tails = Tails()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._bytes = 0
        self._most = most_bytes
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._admitted = threading.Semaphore(most_waiting)
        self._kept_from: Tuple[Optional[float], float] = (None, 0.0)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The right to look many machines up. Raises GpuwatchError when too many wait for it."""
        if not self._admitted.acquire(blocking=False):
            raise GpuwatchError("Too many others look at the past now.", "Try again in a moment.")
        try:
            with self._turn:
                yield
        finally:
            self._admitted.release()

    def node(self, key: Hashable, now: float, at: float, make: Callable[[], Tuple[NodeState, float, int]]) -> Tuple[NodeState, float]:
        """The node kept under ``key``, else as made (node, spacing of its snapshots in seconds, size in bytes)."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and now < kept.expires_at <= now + KEPT_SECONDS:
                self._kept.move_to_end(key)
                return kept.node, kept.spacing_seconds
        node, spacing, size = make()
        if at < now - SETTLED_SECONDS:
            self._keep(key, _Kept(node, spacing, size, now + KEPT_SECONDS))
        return node, spacing

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        with self._lock:
            old = self._kept.pop(key, None)
            self._bytes += kept.size - (old.size if old else 0)
            self._kept[key] = kept
            while self._bytes > self._most:
                self._bytes -= self._kept.popitem(last=False)[1].size

    def kept_from(self, store: Store, now: float) -> Optional[float]:
        """Epoch seconds of the oldest snapshot of all, looked up once a minute."""
        found, asked_at = self._kept_from
        if found is None or not 0 <= now - asked_at < 60:
            found = snapshots.kept_from(store)
            self._kept_from = found, now
        return found


def cluster_at(
    store: Store,
    latest: Latest,
    at: float,
    now: float,
    audience: str = STRANGER,
    *,
    host: Optional[str] = None,
    gpu: Optional[str] = None,
    pasts: Optional[Pasts] = None,
) -> ClusterNow:
    """The cluster as it was at ``at`` (epoch seconds), as ``audience`` may see it: the hosts of now, then those removed since.

    A node shows its newest snapshot at or before ``at`` that is not older than three of its intervals then; a node without one has the
    status unseen (or down, where the hub noted that) and says why. ``host`` and ``gpu`` as in ``query.cluster``. ``pasts`` keeps what was
    found. Raises StoreError, and GpuwatchError when too many ask.
    """
    pasts = pasts or Pasts()
    watched = _watched(store, latest, at)
    if gpu is not None:
        nodes, spacings = _with_gpu(store, latest, watched, at, now, audience, gpu, pasts)
    else:
        chosen = watched if host is None else [one for one in watched if one.target.name == host]
        nodes, spacings = _nodes(store, latest, chosen, at, now, audience, pasts)
    display, limits = latest.display, latest.limits
    kept_since_at = pasts.kept_from(store, now)
    return ClusterNow(
        at,
        tuple(nodes),
        max(display.interval_seconds, min(median(spacings or [0.0]), THINNED_SECONDS)),
        display.title,
        display.timezone,
        any(node.snapshot is not None and node.snapshot.simulated for node in nodes),
        _notices(at, now, kept_since_at, display.timezone),
        0,
        audience,
        limits.idle_memory,
        limits.idle_utilization,
        limits.idle_after,
        at,
        now,
        kept_since_at,
    )


def _notices(at: float, now: float, kept_since_at: Optional[float], zone: str) -> Tuple[str, ...]:
    if kept_since_at is None:
        return ("No readings are kept yet.",)
    return (f"No readings before {words.date_time(kept_since_at, zone)}.",) if at < kept_since_at else ()


def _watched(store: Store, latest: Latest, at: float) -> List[_Machine]:
    """The machines of the hosts file in its order, then those that were removed from it after ``at``, by name."""
    _, known, _ = latest.all()
    usual = latest.display.interval_seconds
    present = [_Machine(one.target, one.machine_id, one.target.interval_seconds or usual) for one in known]
    ids = {one.id for one in present}
    port = present[0].target.port if present else 0
    gone = [
        _Machine(Target(one.name, one.ip_address, port), one.id, usual)
        for one in machines.list_all(store)
        if one.id not in ids and one.removed_at is not None and one.created_at <= at < one.removed_at
    ]
    return present + gone


def _with_gpu(
    store: Store, latest: Latest, watched: Sequence[_Machine], at: float, now: float, audience: str, gpu: str, pasts: Pasts
) -> Tuple[List[NodeState], List[float]]:
    """The node that had the GPU; the one that has it now where none had it, so that it can say why; none for an unknown UUID."""
    here = [one for one in watched if _has_now(latest, one, gpu)]
    for chosen in (here, [one for one in watched if one not in here]):
        nodes, spacings = _nodes(store, latest, chosen, at, now, audience, pasts)
        found = [(node, spacing) for node, spacing in zip(nodes, spacings) if _has(node, gpu)]
        if found:
            return [node for node, _ in found], [spacing for _, spacing in found]
    return _nodes(store, latest, here, at, now, audience, pasts)


def _has_now(latest: Latest, machine: _Machine, gpu: str) -> bool:
    known = latest.get(machine.target.name)
    return known is not None and known.plan is not None and any(row.uuid == gpu for row in known.plan.rows)


def _has(node: NodeState, gpu: str) -> bool:
    return any(gpu == view.reading.uuid or any(gpu == part.uuid for part in view.reading.mig) for view in node.gpus)


def _nodes(
    store: Store, latest: Latest, chosen: Sequence[_Machine], at: float, now: float, audience: str, pasts: Pasts
) -> Tuple[List[NodeState], List[float]]:
    """Each machine as it was, and the spacing of its snapshots in seconds (0 = not known)."""
    seen_by = STRANGER if audience == STRANGER and not latest.display.show_arguments else "all"
    finder = _Finder(store, latest, at, now, seen_by, pasts)

    def find(machine: _Machine) -> Tuple[NodeState, float]:
        return pasts.node((id(store), machine.id, machine.target, round(at * 1000), seen_by), now, at, lambda: finder.find(machine))

    if len(chosen) < 3:
        found = [find(machine) for machine in chosen]
    else:
        with pasts.turn():
            found = [find(machine) for machine in chosen]
    return [node for node, _ in found], [spacing for _, spacing in found]


class _Finder:
    """Looks up machines at one moment for one audience."""

    def __init__(self, store: Store, latest: Latest, at: float, now: float, audience: str, pasts: Pasts) -> None:
        self._store, self._latest, self._at, self._now, self._audience = store, latest, at, now, audience
        self._plans, self._tails = pasts.plans, pasts.tails

    def find(self, machine: _Machine) -> Tuple[NodeState, float, int]:
        """(the node, spacing of its snapshots in seconds, bytes that it takes)."""
        damage: List[StoreError] = []
        near = snapshots.nearest(self._store, machine.id, self._at, on_damage=damage.append)
        try:
            plan = self._plan(machine, near.entry.shape_id) if near else None
            if near and plan and self._at - near.entry.taken_at_ms / 1000 <= self._longest(machine, plan, near):
                values = plan.shape.check(near.entry.values)
                return self._seen(machine, plan, values, near), near.spacing_ms / 1000, _BYTES_A_NODE + _BYTES_A_VALUE * len(values)
        except GpuwatchError as error:  # of the store: its shape is gone; of the wire: not what this program reads
            damage.append(StoreError(error.message, error.next_step))
        gap = Gap(machine.id, self._at, near.entry.taken_at_ms / 1000 if near else None, damage[0] if damage else None)
        status, since_at, why = no_reading(self._store, gap, self._latest.display.timezone)
        return NodeState(machine.target, machine.id, status, since_at, why, version=-1), 0.0, _BYTES_A_NODE

    def _longest(self, machine: _Machine, plan: Plan, near: Near) -> float:
        """Seconds for which a reading counts as that of the moment."""
        spacing = min(near.spacing_ms / 1000, THINNED_SECONDS)
        return self._latest.limits.stale_intervals * max(machine.interval_seconds, plan.interval_seconds, spacing)

    def _plan(self, machine: _Machine, shape_id: str) -> Plan:
        known = self._latest.get(machine.target.name)
        if known is not None and known.machine_id == machine.id and known.plan is not None and known.plan.shape.id == shape_id:
            return known.plan
        plan: Optional[Plan] = self._plans.get((machine.id, shape_id))
        if plan is None:
            plan = Plan(Shape.parse(snapshots.shape(self._store, machine.id, shape_id)))
            self._plans.put((machine.id, shape_id), plan)
        return plan

    def _seen(self, machine: _Machine, plan: Plan, values: Sequence[Any], near: Near) -> NodeState:
        limits, received_at = self._latest.limits, near.entry.received_at_ms / 1000
        facts = NodeFacts(received_at, machine.target.address, plan.interval_seconds, received_at, received_at)
        verdict = node_verdict(facts._replace(driver_trouble=plan.trouble, warning=plan.warning), limits)
        snapshot = plan.shape_for(self._audience).build(values)
        work = Work(self._store, self._latest, self._tails, machine.id, self._at, self._now)
        gpus = tuple(_gpus(machine.target.name, snapshot, plan, values, limits, verdict.status, work, self._at))
        return NodeState(machine.target, machine.id, verdict.status, None, verdict.error, snapshot, received_at, None, gpus, -1)


def _gpus(
    host: str, snapshot: Snapshot, plan: Plan, values: Sequence[Any], limits: Limits, status: str, work: Work, at: float
) -> Iterable[GpuView]:
    settled = iter([_settled(row, values, limits, work, at) for row in plan.rows])
    for gpu in snapshot.gpus:
        own = shown_state(next(settled), gpu, status, None, limits)
        slices = [shown_state(next(settled), part, status, None, limits) for part in gpu.mig]
        yield _View(host, gpu, own, tuple(slices), work)


def _settled(row: Row, values: Sequence[Any], limits: Limits, work: Work, at: float) -> GpuState:
    """From the reading, and for a GPU whose memory is held without work from the minutes before it."""
    utilization = None if row.utilization_at is None else values[row.utilization_at]
    memory = None if row.memory_at is None else values[row.memory_at]
    base = base_state(row.lost, row.mig, row.processes, memory, utilization, row.unified, limits)
    holds = holds_memory(memory, row.unified, limits)
    if base != "busy" or not holds or utilization is None or utilization > limits.idle_utilization:
        return GpuState(base, None)
    quiet = work.quiet(row.uuid)
    if quiet is None or not is_idle(base, holds, quiet.since_at, at, limits):
        return GpuState(base, None)
    return GpuState("idle", quiet.since_at + limits.idle_after, quiet.at_least, no_work_since_at=quiet.since_at)


class _LastHours:
    """Read when a renderer draws them: most views of the past do not."""

    def __get__(self, view: Any, kind: type) -> Any:
        found = view.__dict__["recent_utilization"] = view.work.recent(view.reading.uuid)
        return found


class _View(GpuView):
    """A GpuView that looks its last hours up."""

    recent_utilization: Any = _LastHours()

    def __init__(self, host: str, reading: GpuReading, state: GpuState, mig_states: Tuple[GpuState, ...], work: Work) -> None:
        self.__dict__.update(host=host, reading=reading, state=state, mig_states=mig_states, work=work)


__all__ = ["Pasts", "cluster_at"]
