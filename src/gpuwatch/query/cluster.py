"""The cluster as a view shows it: the one door for live states. Commands are cut here to what the audience may see.

A NodeState is made when somebody looks, once per version and audience; its readings are built when a renderer asks for them, for some
fill in a template instead. Never writes and never asks a node.
"""

from __future__ import annotations

import json
from typing import Any, Callable, List, Optional, Sequence, Tuple

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState, Parts
from gpuwatch.model.snapshot import THROTTLE_ALARMS, Snapshot
from gpuwatch.query.latest import Known, Latest
from gpuwatch.query.plan import READ_FOR, Gauges, Plan, States
from gpuwatch.query.states import Recent
from gpuwatch.rules.permissions import STRANGER
from gpuwatch.rules.states import is_hot, shown_state

_SPACE = b" \t\r\n"
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


class _Live(NodeState):
    """A NodeState over the newest flat values. It fills its own dict: a frozen dataclass's __init__ costs three times as much."""

    def __init__(self, latest: Latest, known: Known, plan: Plan, now: float, audience: str) -> None:
        verdict = known.verdict
        self.__dict__.update(
            target=known.target, machine_id=known.machine_id, status=verdict.status, status_since_at=verdict.since_at, error=verdict.error,
            received_at=known.received_at, clock_skew_seconds=known.skew_seconds, version=known.version, _latest=latest, _known=known, _plan=plan,
            _now=now, _audience=audience,
        )  # fmt: skip

    @_Late
    def snapshot(self: Any) -> Snapshot:
        """See NodeState."""
        return self._plan.shape_for(self._audience).build(self._known.values)  # type: ignore[no-any-return]

    @_Late
    def parts(self: Any) -> Parts:
        """See NodeState."""
        plan, known, audience = self._plan, self._known, self._audience
        return Parts((plan.key, audience), lambda: plan.shape_for(audience).places(), known.values, lambda: _texts(known))

    @_Late
    def states(self: Any) -> States:
        """See NodeState."""
        return _states(self._known, self._plan, self._latest, lambda: self.snapshot)

    @_Late
    def recent_utilization(self: Any) -> Tuple[Recent, ...]:
        """See NodeState."""
        found: Tuple[Recent, ...] = self._latest.tracker.recent(self.machine_id, list(self._plan.errors), self._now)
        return found

    @_Late
    def gpus(self: Any) -> Tuple[GpuView, ...]:
        """See NodeState."""
        return tuple([_LiveView(self, place, *parts) for place, parts in enumerate(zip(self.snapshot.gpus, self.states))])


class _LiveView(GpuView):
    """A GpuView that looks its recent utilization up when it is drawn."""

    def __init__(self, node: _Live, place: int, reading: Any, state: Tuple[GpuState, Tuple[GpuState, ...]]) -> None:
        self.__dict__.update(host=node.target.name, reading=reading, state=state[0], mig_states=state[1], _node=node, _place=place)

    @_Late
    def recent_utilization(self: Any) -> Recent:
        """See GpuView."""
        return self._node.recent_utilization[self._place]  # type: ignore[no-any-return]


def _texts(known: Known) -> List[str]:
    line = known.line if known.line is not None else _VALUES.encode(list(known.values)).encode()
    return line.translate(None, _SPACE).decode("ascii")[1:-1].split(",")


def _states(known: Known, plan: Plan, latest: Latest, snapshot: Callable[[], Snapshot]) -> States:
    """(state of the GPU, states of its slices), for each. What a reading must be looked at for is rare: the reading is built only then."""
    verdict, limits = known.verdict, latest.limits
    marked = [_may_be_marked(gauges, known.values, latest) for gauges in plan.gauges]
    plain = plan.plain_states(known.settled) if verdict.status == "up" else None
    if plain is not None and True not in marked:
        return plain
    settled, shown = iter(known.settled), []
    for place, gauges in enumerate(plan.gauges):
        own, slices = next(settled), tuple([next(settled) for _ in range(gauges.slices)])
        if verdict.status != "up" or slices or own.state in READ_FOR or marked[place]:
            gpu = snapshot().gpus[place]
            own = shown_state(own, gpu, verdict.status, verdict.since_at, limits)
            slices = tuple([shown_state(one, part, verdict.status, verdict.since_at, limits) for one, part in zip(slices, gpu.mig)])
        shown.append((own, slices))
    return tuple(shown)


def _may_be_marked(gauges: Gauges, values: Sequence[Any], latest: Latest) -> bool:
    temperature_at, slowdown_at, throttle_at, _ = gauges
    mask = None if throttle_at is None else values[throttle_at]
    if mask and int(mask) & THROTTLE_ALARMS:
        return True
    temperature = None if temperature_at is None else values[temperature_at]
    slowdown = None if slowdown_at is None else values[slowdown_at]
    return temperature is not None and is_hot(temperature, slowdown, latest.limits)
