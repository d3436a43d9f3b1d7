import pytest
from tests.store.gpus import START, all_sums
from tests.store.test_backfill import always, pack_undigested
from tests.store.test_digests import fill, pack_all

from gpuwatch.store import machines, snapshots, upkeep
from gpuwatch.store.database import open_store
from gpuwatch.store.thinning import WINDOW_MS, thin

HOUR_MS = 3_600_000
NEVER_MS = (START + 10**6) * 1000
COUNT = 3 * 720 + 1
"""Three hours and one more."""


@pytest.fixture
def packed(store, machine):
    fill(store, machine, range(COUNT))
    pack_all(store, machine, 120)
    return store


def times(store, machine):
    return [entry.taken_at_ms for entry in snapshots.read(store, machine)]


def test_one_snapshot_a_minute_stays_and_sums_stay(packed, machine):
    before, sums = list(snapshots.read(packed, machine)), all_sums(packed, machine)
    info = upkeep.info(packed)
    assert thin(packed, NEVER_MS, always) == 18
    after = list(snapshots.read(packed, machine))
    assert len(after) == 181  # the newest is in the journal
    assert {entry.taken_at_ms // 60_000 for entry in after} == {entry.taken_at_ms // 60_000 for entry in before}
    assert set(map(repr, after)) <= set(map(repr, before))
    assert all_sums(packed, machine) == sums
    assert packed.rows("SELECT DISTINCT step_seconds FROM block") == [(60,)]
    assert upkeep.info(packed).block_bytes < info.block_bytes / 4
    assert thin(packed, NEVER_MS, always) == 0
    assert upkeep.check(packed, thorough=True) == []


def test_only_what_is_old_is_thinned(packed, machine):
    end_ms = ((START + 7200) * 1000) // WINDOW_MS * WINDOW_MS
    thin(packed, end_ms + 1800_000, always)
    found = times(packed, machine)
    full = [at for at in found if at >= end_ms + 600_000]  # a block that begins in the window may end in the next one
    assert full == list(range(full[0], (START + 3 * 3600) * 1000 + 1, 5000))
    assert len([at for at in found if at < end_ms]) == pytest.approx((end_ms - START * 1000) / 60_000, abs=2)


def test_what_is_not_digested_waits(store, machine):
    fill(store, machine, range(721))
    pack_undigested(store, machine, 120)
    assert thin(store, NEVER_MS, always) == 0
    assert len(times(store, machine)) == 721


def test_it_can_be_broken_off(packed, machine):
    turns = iter([True, True])
    thin(packed, NEVER_MS, lambda: next(turns, False))
    assert 181 < len(times(packed, machine)) < COUNT
    thin(packed, NEVER_MS, always)
    assert len(times(packed, machine)) == 181


def test_a_reader_on_its_way_finds_what_was_thinned(packed, machine):
    reader = snapshots.read(packed, machine)
    first = [next(reader).taken_at_ms for _ in range(60)]
    thin(packed, NEVER_MS, always)
    rest = [entry.taken_at_ms for entry in reader]
    assert first + rest == sorted({*first, *rest})
    assert {at // 60_000 for at in first + rest} == {START // 60 + minute for minute in range(181)}


def test_a_damaged_block_stays_and_the_others_are_thinned(packed, machine):
    keys = packed.rows("SELECT start_ms FROM block ORDER BY start_ms")
    with packed.writing():
        packed.change("UPDATE block SET data = ? WHERE start_ms = ?", (b"\x01x", keys[1][0]))
    assert thin(packed, NEVER_MS, always) == 18
    problems = []
    assert len(list(snapshots.read(packed, machine, on_damage=problems.append))) == pytest.approx(171, abs=1)
    assert len(problems) == 1
    assert thin(packed, NEVER_MS, always) == 0


def test_slow_machines_keep_all(store, machine):
    fill(store, machine, range(200), interval=60.0)
    pack_all(store, machine, 60)
    before = times(store, machine)
    thin(store, NEVER_MS, always)
    assert times(store, machine) == before


def test_one_that_is_merged_meanwhile_is_left(file_store, machine, monkeypatch):
    fill(file_store, machine, range(721))
    pack_all(file_store, machine, 120)
    other, second = machines.ensure(file_store, "gpu02", "b"), open_store(file_store.path)
    writing = file_store.writing

    def late():
        monkeypatch.setattr(file_store, "writing", writing)
        machines.merge(second, machine, other)
        return writing()

    monkeypatch.setattr(file_store, "writing", late)
    assert thin(file_store, NEVER_MS, always) in (0, 6)
    assert len(list(snapshots.read(file_store, other))) >= 61
    second.close()
