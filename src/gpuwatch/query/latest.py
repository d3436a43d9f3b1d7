"""The newest snapshot of every target, flat, in memory, and how each target is doing. Thread-safe; never builds a dataclass of readings.

What is known of a target is one ``Known``, replaced as a whole and never changed: readers keep it as long as they like. One counter gives
all versions: whatever changed since version V has a version above V.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.cluster import GpuState, NodeState, Target
from gpuwatch.query.plan import Plan
from gpuwatch.query.states import StateTracker
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.nodes import NodeFacts, NodeVerdict, node_verdict
from gpuwatch.wire.flat import Shape

CLOCK_STEP_SECONDS = 5.0
"""A reading that came so far in the future came before the hub's clock was set back."""


class Report(NamedTuple):
    """What a node says of its own readings: the header's ``status``."""

    stale: bool = False
    message: Optional[str] = None
    since_at: Optional[float] = None


@dataclass(frozen=True)
class Display:
    """What every view of the cluster carries besides the nodes."""

    interval_seconds: float = 5.0
    title: str = ""
    timezone: str = "UTC"
    show_arguments: bool = False


class Known:
    """All that is known of one target at one version."""

    target: Target
    machine_id: str
    plan: Optional[Plan]
    values: Sequence[Any]
    texts: Optional[Sequence[str]]
    """The values as they came, JSON, by place; None where they came otherwise."""
    received_at: Optional[float]
    restored: bool
    skew_seconds: Optional[float]
    report: Report
    failure: Optional[str]
    failing_since_at: Optional[float]
    answers: bool
    watched_since_at: float
    trouble_since_at: Optional[float]
    up_since_at: Optional[float]
    settled: Tuple[GpuState, ...]
    verdict: NodeVerdict
    version: int
    built: Dict[str, NodeState]
    """NodeStates already built from this, by audience; filled in by ``cluster``."""

    def __init__(self, target: Target, machine_id: str, watched_since_at: float) -> None:
        self.target, self.machine_id, self.watched_since_at = target, machine_id, watched_since_at
        self.plan, self.values, self.texts, self.received_at, self.restored, self.skew_seconds = None, (), None, None, False, None
        self.report, self.failure, self.failing_since_at, self.answers = Report(), None, None, False
        self.trouble_since_at, self.up_since_at, self.settled = None, None, ()
        self.verdict, self.version, self.built = NodeVerdict("unseen", watched_since_at, None), 0, {}

    def changed(self, **changes: Any) -> Known:
        """A copy with ``changes``; nothing is built from it yet."""
        new = object.__new__(Known)
        new.__dict__.update(self.__dict__)
        new.__dict__.update(changes)
        new.built = {}
        return new


class Latest:
    """The newest state of every target, in the order of the hosts file."""

    def __init__(self, limits: Optional[Limits] = None, display: Optional[Display] = None) -> None:
        self.limits = limits or Limits()
        self.display = display or Display()
        self.tracker = StateTracker(self.limits)
        self._known: Dict[str, Known] = {}
        self._notices: Dict[str, str] = {}
        self._version = 0
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """Version of the newest change of anything."""
        return self._version

    def set_targets(self, targets: Sequence[Tuple[Target, str]], now: float) -> None:
        """The targets and their machine ids, in order. Those that stay keep their readings; those that go are forgotten."""
        with self._lock:
            known: Dict[str, Known] = {}
            for target, machine_id in targets:
                old = self._known.get(target.name)
                if old is None or old.machine_id != machine_id:
                    known[target.name] = self._settle(Known(target, machine_id, now), now, always=True)
                elif old.target != target:
                    known[target.name] = self._settle(old.changed(target=target), now, always=True)
                else:
                    known[target.name] = old
            staying = {one.machine_id for one in known.values()}
            gone = {one.machine_id for one in self._known.values()} - staying
            self._known = known
            self._version += 1
        for machine_id in gone:
            self.tracker.forget(machine_id)

    def accept(
        self,
        name: str,
        shape: Shape,
        values: Sequence[Any],
        *,
        received_at: float,
        clock_skew_seconds: Optional[float] = None,
        report: Optional[Report] = None,
        texts: Optional[Sequence[str]] = None,
    ) -> Optional[Known]:
        """A good answer of a node; ``texts``: the values as JSON, as they came, by place. Returns what is known now; None when the target is gone.

        A sample that is the one before (same shape, same ``taken_at``) is not a new reading: nodes sample in their own rhythm, and one
        whose sampler hangs repeats itself.
        """
        with self._lock:
            old = self._known.get(name)
            if old is None:
                return None
            plan = old.plan if old.plan is not None and old.plan.shape is shape else Plan(shape)
            report = report or Report()
            if is_repeat(old, plan, values):
                if old.failure is None and old.report == report:
                    return old
                return self._put(name, old.changed(failure=None, failing_since_at=None, answers=False, report=report), received_at)
            settled = self.tracker.observe(old.machine_id, plan, values, received_at)
            new = old.changed(
                plan=plan,
                values=values,
                texts=texts,
                received_at=received_at,
                restored=False,
                skew_seconds=clock_skew_seconds,
                report=report,
                failure=None,
                failing_since_at=None,
                answers=False,
                settled=settled,
                trouble_since_at=_since(old, plan, received_at),
            )
            return self._put(name, new, received_at, always=True)

    def restore(self, name: str, shape: Shape, values: Sequence[Any], received_at: float) -> None:
        """At start: the last reading from before the restart, shown at once and marked as old. Call ``tracker.load`` first."""
        with self._lock:
            old = self._known.get(name)
            if old is None or (old.received_at or -math.inf) >= received_at:
                return
            plan = Plan(shape)
            settled = self.tracker.restore(old.machine_id, plan, values, received_at)
            new = old.changed(plan=plan, values=values, texts=None, received_at=received_at, restored=True, settled=settled)
            self._put(name, new, old.watched_since_at, always=True)

    def fail(self, name: str, error: str, now: float, *, answers: bool = False) -> None:
        """A poll brought no reading: why, in words. ``answers``: something answered, but not with readings."""
        with self._lock:
            old = self._known.get(name)
            if old is None:
                return
            since = old.failing_since_at if old.failure is not None and old.answers == answers else now
            self._put(name, old.changed(failure=error, failing_since_at=since, answers=answers), now)

    def notice(self, key: str, text: Optional[str]) -> None:
        """Trouble of the hub itself, shown on every page; None = it is over."""
        with self._lock:
            if self._notices.get(key) == text:
                return
            self._version += 1
            if text is None:
                self._notices.pop(key, None)
            else:
                self._notices[key] = text

    def tick(self, now: float) -> None:
        """Once a second: nodes that became stale or down by time alone.

        Where the hub's clock was set back, readings would be of the future, and a dead node fresh until then: they count as of now.
        """
        with self._lock:
            for name, known in self._known.items():
                if known.received_at is not None and known.received_at > now + CLOCK_STEP_SECONDS:
                    self._put(name, known.changed(received_at=now), now, always=True)
                elif known.verdict.changes_at <= now:
                    settled = self._settle(known.changed(), now)
                    if settled.version == known.version:
                        known.verdict = settled.verdict
                    else:
                        self._known[name] = settled

    def get(self, name: str) -> Optional[Known]:
        """What is known of one target."""
        return self._known.get(name)

    def all(self) -> Tuple[int, List[Known], Tuple[str, ...]]:
        """(version, all targets in order, notices), of one moment."""
        with self._lock:
            return self._version, list(self._known.values()), tuple(self._notices.values())

    def _put(self, name: str, known: Known, now: float, always: bool = False) -> Known:
        self._known[name] = self._settle(known, now, always)
        return known

    def _settle(self, known: Known, now: float, always: bool = False) -> Known:
        """The same, which nobody else has yet, with the verdict of ``now``; a new version if that differs from the last one, or ``always``."""
        verdict, old = node_verdict(self._facts(known, now), self.limits), known.verdict
        since_at = verdict.since_at
        if not always and (verdict.status, verdict.error) == (old.status, old.error):
            since_at = old.since_at
        else:
            if old.status != "up":
                known.up_since_at = now
            if verdict.status == "up":
                since_at = known.up_since_at
            self._version = known.version = self._version + 1
        known.verdict = verdict if verdict.since_at == since_at else verdict._replace(since_at=since_at)
        return known

    def _facts(self, known: Known, now: float) -> NodeFacts:
        interval = known.target.interval_seconds or self.display.interval_seconds
        return NodeFacts(
            now,
            known.target.address,
            max(interval, known.plan.interval_seconds if known.plan else 0.0),
            known.watched_since_at,
            known.received_at,
            known.restored,
            known.failure,
            known.failing_since_at,
            known.answers,
            (known.report.message or "The node's readings are old.") if known.report.stale else None,
            known.plan.trouble if known.plan else None,
            known.trouble_since_at,
            known.report.message or (known.plan.warning if known.plan else None),
            known.up_since_at,
            known.target.sends,
        )


def is_repeat(old: Known, plan: Plan, values: Sequence[Any]) -> bool:
    """The sample is the one that is known already."""
    if old.plan is not plan or old.restored:
        return False
    taken_at = plan.taken_at(values)
    return taken_at is not None and taken_at == plan.taken_at(old.values)


def _since(old: Known, plan: Plan, now: float) -> Optional[float]:
    if plan.trouble is None:
        return None
    return old.trouble_since_at if old.trouble_since_at is not None else now
