"""The cluster as a view shows it: the one door for live states. Commands are cut here to what the audience may see.

NodeStates are built when somebody looks, and once per version and audience. Never writes and never asks a node.
"""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading, Snapshot
from gpuwatch.query.latest import Known, Latest
from gpuwatch.query.states import Recent
from gpuwatch.rules.permissions import STRANGER
from gpuwatch.rules.states import shown_state


def cluster(latest: Latest, now: float, audience: str = STRANGER, *, host: Optional[str] = None, gpu: Optional[str] = None) -> ClusterNow:
    """All targets in the order of the hosts file, as ``audience`` (see ``model.view.AUDIENCES``) may see them at ``now``.

    With ``host`` (a name) or ``gpu`` (a UUID, also of a MIG slice) that node alone, or none: a page of one host need not build a thousand.
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
    built = known.built.get(key)
    if built is None:
        built = known.built[key] = _build(latest, known, now, key)
    return built


def _build(latest: Latest, known: Known, now: float, audience: str) -> NodeState:
    snapshot = known.plan.shape_for(audience).build(known.values) if known.plan else None
    verdict = known.verdict
    return NodeState(
        known.target,
        known.machine_id,
        verdict.status,
        verdict.since_at,
        verdict.error,
        snapshot,
        known.received_at,
        known.skew_seconds,
        _gpus(latest, known, snapshot, now) if snapshot else (),
        known.version,
    )


def _gpus(latest: Latest, known: Known, snapshot: Snapshot, now: float) -> Tuple[GpuView, ...]:
    recent = latest.tracker.recent(known.machine_id, [gpu.uuid for gpu in snapshot.gpus], now)
    settled = iter(known.settled)
    return tuple([_gpu(latest, known, gpu, settled, columns) for gpu, columns in zip(snapshot.gpus, recent)])


def _gpu(latest: Latest, known: Known, gpu: GpuReading, settled: Iterator[GpuState], recent: Recent) -> GpuView:
    """``settled`` runs over the rows of the plan: each GPU and then its slices."""
    verdict = known.verdict
    own = shown_state(next(settled), gpu, verdict.status, verdict.since_at, latest.limits)
    slices = [shown_state(next(settled), part, verdict.status, verdict.since_at, latest.limits) for part in gpu.mig]
    return GpuView(known.target.name, gpu, own, tuple(slices), recent)
