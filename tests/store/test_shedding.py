"""A database that is too large loses its oldest snapshots, then fine rollups; the last day stays as long as it can."""

import pytest
from tests.store.samples import SHAPE, docs_for
from tests.store.test_intervals import add, interval
from tests.store.test_rollups import HOUR, bring

from gpuwatch.model.series import GpuDay
from gpuwatch.store import intervals, packing, partitions, rollups, shedding, snapshots, upkeep, usage
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of

DAY = 86400
DAYS = 12
END = HOUR + DAYS * DAY


@pytest.fixture(autouse=True)
def short_partitions(monkeypatch):
    """On a server whole partitions go: here those of minutes are 3 days long, those of quarters of an hour 6."""
    monkeypatch.setitem(partitions.SPANS, "rollup", {60: 3 * DAY * 1000, 900: 6 * DAY * 1000, 3600: 60 * DAY * 1000})
    monkeypatch.setattr(partitions.time, "time", lambda: float(END))


@pytest.fixture
def full(store, machine):
    """Twelve days with an hour of minutes each, snapshots of some hours of each, and what never goes."""
    for day in range(DAYS):
        bring(store, machine, 1440 * day + 1380, 60)
        times = [(HOUR + day * DAY + 600 * number) * 1000 for number in range(30)]
        entries = [JournalEntry(machine, at, at, SHAPE, texts_of(str([(at // 7919 * n) % 1_000_003 for n in range(400)]).encode())) for at in times]
        snapshots.append(store, entries, docs_for(machine))
        while packing.pack_machine(store, machine, 30, keep_newest=day == DAYS - 1):
            pass
    for owner in (machine, rollups.FLEET):
        rollups.settle(store, owner, 1)
    store.shrink(10**12)  # a server makes its partitions, and moves what lies elsewhere
    add(store, machine, interval(0, 100))
    with store.writing():
        usage.merge(store, machine, {("2026-09-21", "GPU-1"): GpuDay(held_seconds=1)}, {})
    return store


def kept(store, machine):
    """Days of each tier, and the times of the snapshots."""
    times = {tier: rollups.read(store, machine, "GPU-1", tier, 0, END + DAY, ()).times for tier in (60, 900, 3600)}
    fleet = {tier: rollups.read(store, rollups.FLEET, rollups.HOST, tier, 0, END + DAY, ()).times for tier in (60, 900, 3600)}
    assert fleet == times, "the fleet's go with those of its machines"
    return {tier: len({(at - HOUR) // DAY for at in found}) for tier, found in times.items()}, [entry.taken_at_ms for entry in snapshots.read(store, machine)]


def what_never_goes(store):
    assert len(intervals.read(store, start_at=0, end_at=2e9, limit=9)) == 1
    assert len(usage.gpu_days(store, "2026-09-21", "2026-09-21")) == 1


def test_nothing_goes_while_it_is_small_enough(full, machine):
    before = kept(full, machine)
    assert upkeep.prune(full, END, 1e9, full.used_bytes()).rollups == 0
    assert kept(full, machine) == before
    assert before[0] == dict.fromkeys((60, 900, 3600), DAYS)


def test_snapshots_go_before_rollups(full, machine):
    size = upkeep.info(full).block_bytes
    result = upkeep.prune(full, END, 1e9, full.used_bytes() - size // 3)
    assert result.blocks > 0
    assert result.rollups == 0
    assert kept(full, machine)[0][60] == DAYS


def test_minutes_go_before_the_snapshots_of_the_last_day(full, machine, monkeypatch):
    """It is too large until six days of minutes are left. Bytes are made up: what files give back depends on their pages."""
    most = 2 * 6
    count = "SELECT count(*) FROM rollup WHERE tier_seconds = 60"
    monkeypatch.setattr(type(full), "used_bytes", lambda store: 9 * 10**9 if store.rows(count)[0][0] > most else 10**9)
    result = upkeep.prune(full, END, 1e9, 5 * 10**9)
    days, times = kept(full, machine)
    assert result.rollups > 0
    assert 3 <= days[60] <= 6
    assert days[900] == DAYS
    assert min(times) >= (END - DAY) * 1000 - 1, "of the snapshots before, none is left"
    assert len(times) == 30
    assert days[3600] == DAYS
    what_never_goes(full)


def test_a_limit_that_cannot_be_met_leaves_what_charts_of_now_need(full, machine):
    upkeep.prune(full, END, 1e9, 1)
    days, times = kept(full, machine)
    assert len(times) <= 1
    assert 1 <= days[60] <= 5
    assert 7 <= days[900] <= DAYS
    assert days[3600] == DAYS
    assert rollups.read(full, machine, "GPU-1", 60, 0, END).times[-1] == END - 60
    what_never_goes(full)
    assert shedding.shed_rollups(full, END, 1) == 0
