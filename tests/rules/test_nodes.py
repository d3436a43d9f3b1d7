"""Status of a node from facts, over time."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gpuwatch.rules.limits import Limits
from gpuwatch.rules.nodes import NodeFacts, node_verdict, with_next

LIMITS = Limits()
GOOD = NodeFacts(
    now=101.0, address="10.0.0.1:7080", interval_seconds=5.0, watched_since_at=50.0, received_at=100.0, up_since_at=60.0
)
REFUSED = {"failure": "connection refused by 10.0.0.1:7080. Next: start it.", "failing_since_at": 105.0}
WRONG = {"failure": "wrong password. Next: x.", "failing_since_at": 105.0, "answers": True}


@pytest.mark.parametrize(
    ("changes", "status", "since", "changes_at"),
    [
        ({}, "up", 60.0, 115.0),
        ({"now": 114.9}, "up", 60.0, 115.0),
        ({"now": 114.9, **REFUSED}, "up", 60.0, 115.0),
        ({"now": 115.0, **REFUSED}, "stale", 100.0, 160.0),
        ({"now": 115.0}, "stale", 100.0, 160.0),
        ({"now": 160.0, **REFUSED}, "down", 100.0, math.inf),
        ({"now": 160.0, **WRONG}, "error", 105.0, math.inf),
        ({"now": 116.0, **WRONG}, "error", 105.0, math.inf),
        ({"now": 110.0, **WRONG}, "up", 60.0, 115.0),
        ({"received_at": None}, "unseen", 50.0, math.inf),
        ({"received_at": None, **REFUSED}, "unseen", 50.0, math.inf),
        ({"received_at": None, **WRONG}, "error", 105.0, math.inf),
        ({"interval_seconds": 30.0, "now": 185.0}, "up", 60.0, 190.0),
        ({"interval_seconds": 30.0, "now": 191.0, **REFUSED}, "down", 100.0, math.inf),
        ({"driver_trouble": "driver 550.90 loaded, library 550.107 installed: reboot", "trouble_since_at": 99.0}, "error", 99.0, 115.0),
        ({"node_trouble": "driver hung"}, "stale", 100.0, 160.0),
        ({"node_trouble": "driver hung", "now": 161.0}, "error", 100.0, math.inf),
        ({"node_trouble": "driver hung", "now": 161.0, **REFUSED}, "down", 100.0, math.inf),
        ({"node_trouble": "no sample yet", "received_at": None, "trouble_since_at": 70.0}, "error", 70.0, math.inf),
        ({"restored": True, "watched_since_at": 1000.0, "now": 1001.0}, "stale", 100.0, 1060.0),
        ({"restored": True, "watched_since_at": 1000.0, "now": 1061.0, **REFUSED}, "down", 100.0, math.inf),
    ],
)
def test_status(changes: Any, status: str, since: float, changes_at: float) -> None:
    verdict = node_verdict(GOOD._replace(**changes), LIMITS)
    assert (verdict.status, verdict.since_at, verdict.changes_at) == (status, since, changes_at)
    if status != "up":
        assert verdict.error


def test_a_node_that_is_up_may_warn() -> None:
    verdict = node_verdict(GOOD._replace(warning="driver 550.90 loaded, library 550.107 installed. Next: reboot"), LIMITS)
    assert (verdict.status, verdict.error) == ("up", "driver 550.90 loaded, library 550.107 installed. Next: reboot.")


def test_sentences_have_a_next_step() -> None:
    assert node_verdict(GOOD._replace(now=120.0), LIMITS).error == "10.0.0.1:7080 gives no new reading. Next: look at the node's log."
    assert with_next("driver hung since 3 min") == "driver hung since 3 min. Next: look at the node's log and at dmesg there."
    assert with_next("hung. Next: reboot.") == "hung. Next: reboot."
