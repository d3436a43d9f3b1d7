"""The status of one node, from facts: up, stale, down, error or unseen, with the sentence and the next step that a page shows.

Never looks at a clock: ``now`` is a fact. Sentences name no times of day; a page adds those in the reader's time zone.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

from gpuwatch.rules.limits import Limits


class NodeFacts(NamedTuple):
    """What the hub knows of a target. Times are epoch seconds by the hub's clock."""

    now: float
    address: str
    interval_seconds: float
    """The longer of the hub's interval of polls and the node's interval of samples."""
    watched_since_at: float
    """When the hub began to ask this target, or started."""
    received_at: Optional[float] = None
    """When the newest reading came; None = never."""
    restored: bool = False
    """The newest reading is from before the hub started."""
    failure: Optional[str] = None
    """Why the last poll brought no reading, in words; None = it did."""
    failing_since_at: Optional[float] = None
    answers: bool = False
    """The last poll failed with an answer (wrong password, not gpuwatch), not without one."""
    node_trouble: Optional[str] = None
    """The node itself says that its readings are old, and why."""
    driver_trouble: Optional[str] = None
    """The newest reading has no GPUs because the driver does not answer: the reason."""
    trouble_since_at: Optional[float] = None
    warning: Optional[str] = None
    """Readings are fresh and good, but the node says that something is wrong: the driver was upgraded below it."""
    up_since_at: Optional[float] = None
    sends: bool = False
    """It sends by itself and is never asked."""


class NodeVerdict(NamedTuple):
    """Status, since when, why, and when time alone will change it."""

    status: str
    since_at: Optional[float]
    error: Optional[str]
    changes_at: float = math.inf


def node_verdict(facts: NodeFacts, limits: Limits) -> NodeVerdict:
    """Worst wins: down, error, stale, up. A node that answers is never down; one without a reading ever is unseen or in error."""
    if facts.received_at is None:
        return _without_reading(facts)
    stale_at = facts.received_at + limits.stale_intervals * facts.interval_seconds
    if not facts.restored and facts.node_trouble is None and facts.now < stale_at:
        return _fresh(facts, stale_at)
    return _old(facts, facts.received_at, limits)


def _without_reading(facts: NodeFacts) -> NodeVerdict:
    if facts.failure and facts.answers:
        return NodeVerdict("error", facts.failing_since_at, facts.failure)
    if facts.node_trouble:
        return NodeVerdict("error", facts.trouble_since_at, with_next(facts.node_trouble))
    nothing = f"Nothing came yet from {facts.address}." if facts.sends else f"No answer yet from {facts.address}."
    return NodeVerdict("unseen", facts.watched_since_at, facts.failure or nothing)


def _fresh(facts: NodeFacts, stale_at: float) -> NodeVerdict:
    if facts.driver_trouble:
        return NodeVerdict("error", facts.trouble_since_at, with_next(facts.driver_trouble), stale_at)
    error = facts.failure or (with_next(facts.warning) if facts.warning else None)
    return NodeVerdict("up", facts.up_since_at, error, stale_at)


def _old(facts: NodeFacts, received_at: float, limits: Limits) -> NodeVerdict:
    down_at = received_at + limits.down_after
    if facts.restored:
        down_at = max(received_at, facts.watched_since_at) + limits.down_after
    if facts.failure and facts.answers:
        return NodeVerdict("error", facts.failing_since_at, facts.failure)
    if facts.node_trouble and not facts.failure:
        status = "error" if facts.now >= down_at else "stale"
        changes_at = down_at if status == "stale" else math.inf
        return NodeVerdict(status, received_at, with_next(facts.node_trouble), changes_at)
    error = facts.failure or _silence(facts)
    if facts.now >= down_at:
        return NodeVerdict("down", received_at, error)
    return NodeVerdict("stale", received_at, error, down_at)


def _silence(facts: NodeFacts) -> str:
    if facts.restored and facts.sends:
        return "This is the last reading that was kept; it sent none since the hub started."
    if facts.restored:
        return "This is the last reading that was kept; no answer since the hub started."
    if facts.sends:
        return f"{facts.address} sends no new reading. Next: is the machine on, and does it reach this hub? Its log tells."
    return f"{facts.address} gives no new reading. Next: look at the node's log."


def with_next(sentence: str) -> str:
    """The node's own sentence, with a next step where it has none."""
    said = sentence.strip().rstrip(".")
    return f"{said}." if "next:" in said.lower() else f"{said}. Next: look at the node's log and at dmesg there."
