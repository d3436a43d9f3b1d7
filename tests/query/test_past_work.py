"""What GPUs did in the hours before a moment: idle since when, and the columns of the last 6 hours."""

from datetime import timezone

import pytest
from tests.hub.readings import GB, gpu, process
from tests.query.history import START, History

from gpuwatch.model.errors import StoreError
from gpuwatch.query.past_work import HOUR
from gpuwatch.store import packing, rollups
from gpuwatch.store.digests import Digester

LATER = START + 40 * 86400


@pytest.fixture
def lab(tmp_path):
    made = History(str(tmp_path / "gpuwatch.db"), "dgx-a")
    yield made
    made.store.close()


def held(utilization, memory=71 * GB):
    return gpu(0, memory_used_bytes=memory, utilization_percent=utilization, processes=(process(100),))


def work(lab, *spans, every=20, packed=True):
    """(from, to, utilization): samples every so many seconds after START, with what follows from them."""
    lab.add("dgx-a", *[(at, (held(percent),)) for start, end, percent in spans for at in range(start, end, every)])
    if packed:
        digester = Digester(lab.latest.limits, timezone.utc)
        while packing.pack_machine(lab.store, lab.ids["dgx-a"], 120, digester=digester):
            pass


def view(lab, seconds, now=LATER):
    (node,) = lab.at(START + seconds, now=now).nodes
    return node.gpus[0]


def test_memory_without_work_is_idle_after_half_an_hour(lab):
    work(lab, (0, 600, 80), (600, 6000, 0))
    assert view(lab, 500).state.state == "busy"
    assert view(lab, 2300).state.state == "busy", "28 minutes"
    state = view(lab, 4000).state
    assert state.state == "idle"
    assert 600 <= state.no_work_since_at - START < 700
    assert state.since_at == state.no_work_since_at + 1800
    assert not state.at_least


def test_idle_near_the_end_of_the_journal_and_across_it(lab):
    work(lab, (0, 600, 80), (600, 3000, 0))
    work(lab, (3000, 4000, 0), packed=False)
    near = view(lab, 3990, now=START + 4010)
    assert near.state.state == "idle"
    assert near.state.no_work_since_at - START < 700


def test_work_in_between_makes_it_busy(lab):
    work(lab, (0, 3600, 0), (3600, 3700, 50), (3700, 5000, 0))
    assert view(lab, 3500).state.state == "idle"
    assert view(lab, 4990).state.state == "busy"


def test_a_gap_hides_what_was_before_it(lab):
    work(lab, (0, 3000, 0), (4000, 7000, 0))
    assert view(lab, 4900).state.state == "busy", "nobody knows whether it worked in the gap"
    state = view(lab, 6900).state
    assert (state.state, state.at_least) == ("idle", True)
    assert 3990 <= state.no_work_since_at - START <= 4020
    work(lab, (8000, 8100, 0))
    assert view(lab, 8090).state.state == "busy"


def test_a_short_gap_does_not(lab):
    work(lab, (0, 300, 90), (300, 2000, 0), (2400, 4000, 0))
    state = view(lab, 3900).state
    assert state.state == "idle"
    assert state.no_work_since_at - START < 400


def test_long_idle_is_told_to_the_minute(lab):
    work(lab, (0, 3700, 70), (3700, 30 * HOUR, 0), every=60)
    state = view(lab, 29 * HOUR + 70).state
    assert state.state == "idle"
    assert not state.at_least
    assert abs(state.no_work_since_at - START - 3700) <= 90


def test_without_minutes_nobody_is_idle(lab):
    lab.add("dgx-a", *[(at, (held(0),)) for at in range(0, 4000, 20)])
    lab.pack()
    assert view(lab, 3900).state.state == "busy"
    assert view(lab, 3900).recent_utilization == ()


def test_unknown_and_free_are_not_idle(lab):
    cards = (gpu(0, memory_used_bytes=71 * GB, utilization_percent=None, processes=(process(1),)), gpu(1), held(0, memory=10**7))
    lab.add("dgx-a", *[(at, (cards[0], cards[1])) for at in range(0, 4000, 20)])
    digester = Digester(lab.latest.limits, timezone.utc)
    packing.pack_machine(lab.store, lab.ids["dgx-a"], 1000, digester=digester)
    (node,) = lab.at(START + 3900).nodes
    assert [one.state.state for one in node.gpus] == ["busy", "free"]


def test_the_last_hours_in_columns(lab):
    work(lab, (0, 3600, 20), (3600, 7200, 60), (9600, 14400, 80))
    columns = view(lab, 14300).recent_utilization
    assert len(columns) == 36
    known = [value for value in columns if value is not None]
    assert columns[0] is None
    assert set(known) >= {20.0, 60.0, 80.0}
    assert known == sorted(known)
    gap = columns.index(60.0)
    assert None in columns[gap:], "the gap after two hours"
    assert view(lab, 14300).state.state == "busy"


def test_trouble_of_the_store_leaves_the_extras_out(lab, monkeypatch):
    work(lab, (0, 6000, 0))
    assert view(lab, 5000).state.state == "idle"

    def broken(*_, **__):
        raise StoreError("The block is damaged.")

    monkeypatch.setattr(rollups, "read", broken)
    found = view(lab, 5001)
    assert (found.state.state, found.recent_utilization) == ("busy", ())
