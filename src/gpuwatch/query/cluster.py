"""The cluster as a view shows it: the one door for live states. Commands are cut here to what the audience may see.

A NodeState is made when somebody looks, once per version and audience; its readings are built when a renderer asks for them, for some
fill in a template instead. Never writes and never asks a node.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState, Parts
from gpuwatch.model.snapshot import THROTTLE_ALARMS, Snapshot
from gpuwatch.query.latest import Known, Latest
from gpuwatch.query.plan import READ_FOR, Gauges, Plan, States
from gpuwatch.query.states import Recent, StateTracker
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.nodes import NodeVerdict
from gpuwatch.rules.permissions import STRANGER
from gpuwatch.rules.states import is_hot, shown_state
from gpuwatch.wire.flat import Builder

_VALUES = json.JSONEncoder(separators=(",", ":"))


def cluster(latest: Latest, now: float, audience: str = STRANGER, *, host: Optional[str] = None, gpu: Optional[str] = None) -> ClusterNow:
    """All targets in the order of the hosts file, as ``audience`` (see ``model.view.AUDIENCES``) may see them at ``now``.

    With ``host`` (a name) or ``gpu`` (a UUID, also of a MIG slice) that node alone, or none: a page of one host need not look at a thousand.
    """
    version, known, notices = latest.all()
    if host is not None:
        known = [one for one in known if one.target.name == host]
    if gpu is not None:
        known = [one for one in known if one.plan is not None and any(row.uuid == gpu for row in one.plan.rows)]
    display, limits = latest.display, latest.limits
    return ClusterNow(
        now,
        tuple([node_state(latest, one, now, audience) for one in known]),
        display.interval_seconds,
        display.title,
        display.timezone,
        any(one.plan is not None and one.plan.simulated for one in known),
        notices,
        version,
        audience,
        limits.idle_memory,
        limits.idle_utilization,
        limits.idle_after,
    )


def node_state(latest: Latest, known: Known, now: float, audience: str = STRANGER) -> NodeState:
    """One target as ``audience`` may see it; the same object again for the same version."""
    key = STRANGER if audience == STRANGER and not latest.display.show_arguments else "all"
    made = known.built.get(key)
    if made is None:
        made = known.built[key] = _bare(known) if known.plan is None else _Live(latest, known, known.plan, now, key)
    return made


def _bare(known: Known) -> NodeState:
    verdict = known.verdict
    return NodeState(known.target, known.machine_id, verdict.status, verdict.since_at, verdict.error, version=known.version)


class _Late:
    """An attribute that is made when it is first looked at. Two threads may make it twice; both are right."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make, self._name = make, make.__name__

    def __get__(self, owner: Any, kind: type) -> Any:
        value = owner.__dict__[self._name] = self._make(owner)
        return value


class _Seen(NamedTuple):
    """What a live node is made from. Not the ``Known``, which holds what was made: such a circle stays in memory until the collector comes."""

    plan: Plan
    values: Sequence[Any]
    texts: Optional[Sequence[str]]
    settled: Tuple[GpuState, ...]
    verdict: NodeVerdict
    audience: str
    limits: Limits
    tracker: StateTracker
    now: float


class _Live(NodeState):
    """A NodeState over the newest flat values. It fills its own dict: a frozen dataclass's __init__ costs three times as much."""

    def __init__(self, latest: Latest, known: Known, plan: Plan, now: float, audience: str) -> None:
        verdict = known.verdict
        self.__dict__.update(
            target=known.target, machine_id=known.machine_id, status=verdict.status, status_since_at=verdict.since_at, error=verdict.error,
            received_at=known.received_at, clock_skew_seconds=known.skew_seconds, restored=known.restored, version=known.version,
            _seen=_Seen(plan, known.values, known.texts, known.settled, verdict, audience, latest.limits, latest.tracker, now),
        )  # fmt: skip

    @_Late
    def snapshot(self: Any) -> Snapshot:
        """See NodeState."""
        seen: _Seen = self._seen
        return seen.plan.shape_for(seen.audience).build(seen.values)

    @_Late
    def parts(self: Any) -> Parts:
        """See NodeState."""
        plan, values, texts, audience = self._seen.plan, self._seen.values, self._seen.texts, self._seen.audience
        places, outline = lambda: _places(plan.shape_for(audience)), lambda: plan.shape.outline()
        return Parts((plan.key, audience), places, outline, values, lambda: _texts(values) if texts is None else texts)

    @_Late
    def states(self: Any) -> States:
        """See NodeState."""
        seen: _Seen = self._seen
        plain = seen.plan.plain_states(seen.settled) if self.status == "up" else None
        if plain is not None and seen.plan.is_calm(seen.values, seen.limits):
            return plain
        return _states(seen, plain, lambda: self.snapshot)

    @_Late
    def recent_utilization(self: Any) -> Tuple[Recent, ...]:
        """See NodeState."""
        return _recent(self.machine_id, self._seen)

    @_Late
    def gpus(self: Any) -> Tuple[GpuView, ...]:
        """See NodeState."""
        shared = lru_cache(maxsize=None)(partial(_recent, self.machine_id, self._seen))
        return tuple([_LiveView(self.name, place, shared, *parts) for place, parts in enumerate(zip(self.snapshot.gpus, self.states))])


class _LiveView(GpuView):
    """A GpuView that looks its recent utilization up when it is drawn."""

    def __init__(self, host: str, place: int, recent: Callable[[], Tuple[Recent, ...]], reading: Any, state: Tuple[GpuState, Any]) -> None:
        self.__dict__.update(host=host, reading=reading, state=state[0], mig_states=state[1], _recent=recent, _place=place)

    @_Late
    def recent_utilization(self: Any) -> Recent:
        """See GpuView."""
        return self._recent()[self._place]  # type: ignore[no-any-return]


@lru_cache(maxsize=1024)
def _places(shape: Builder) -> Any:
    """Shared by the templates of all views, which are made soon after each other: it costs a third of such a template."""
    return shape.places()


def _recent(machine_id: str, seen: _Seen) -> Tuple[Recent, ...]:
    return seen.tracker.recent(machine_id, list(seen.plan.errors), seen.now)


def _texts(values: Sequence[Any]) -> List[str]:
    return _VALUES.encode(list(values))[1:-1].split(",")


def _states(seen: _Seen, plain: Optional[States], snapshot: Callable[[], Snapshot]) -> States:
    """(state of the GPU, states of its slices), for each. What a reading must be looked at for is rare: the reading is built only then."""
    verdict, limits, plan = seen.verdict, seen.limits, seen.plan
    marked = [_may_be_marked(gauges, seen.values, limits) for gauges in plan.gauges]
    if plain is not None and True not in marked:
        return plain
    settled, shown = iter(seen.settled), []
    for place, gauges in enumerate(plan.gauges):
        own, slices = next(settled), tuple([next(settled) for _ in range(gauges.slices)])
        if verdict.status != "up" or slices or own.state in READ_FOR or marked[place]:
            gpu = snapshot().gpus[place]
            own = shown_state(own, gpu, verdict.status, verdict.since_at, limits)
            slices = tuple([shown_state(one, part, verdict.status, verdict.since_at, limits) for one, part in zip(slices, gpu.mig)])
        shown.append((own, slices))
    return tuple(shown)


def _may_be_marked(gauges: Gauges, values: Sequence[Any], limits: Limits) -> bool:
    temperature_at, slowdown_at, throttle_at, _ = gauges
    mask = None if throttle_at is None else values[throttle_at]
    if mask and int(mask) & THROTTLE_ALARMS:
        return True
    temperature = None if temperature_at is None else values[temperature_at]
    slowdown = None if slowdown_at is None else values[slowdown_at]
    return temperature is not None and is_hot(temperature, slowdown, limits)
