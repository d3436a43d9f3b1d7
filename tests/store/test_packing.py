import pytest
from tests.store.samples import SHAPE, START, docs_for, journal_entry, numbers_of

from gpuwatch.model.errors import StoreError
from gpuwatch.store import machines, packing, snapshots, upkeep
from gpuwatch.store.blocks import MAX_UNPACKED_BYTES
from gpuwatch.store.database import open_store
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of


def fill(store, machine_ids, numbers):
    entries = [journal_entry(machine_id, number) for number in numbers for machine_id in machine_ids]
    snapshots.append(store, entries, docs_for(*machine_ids))


def waiting(store):
    return dict(store.rows("SELECT machine_id, count(*) FROM snapshot_journal GROUP BY machine_id"))


def test_sizes_vary_around_the_wish():
    ids = [f"{number:032x}" for number in range(500)]
    sizes = [packing.target_count(machine_id, 120) for machine_id in ids]
    assert 60 <= min(sizes) < 70
    assert 170 < max(sizes) <= 180
    assert 110 < sum(sizes) / 500 < 130
    assert all(2 <= packing.target_count(machine_id, 120, first=True) <= size for machine_id, size in zip(ids, sizes))


def test_nothing_is_packed_before_it_is_due(store, machine):
    fill(store, [machine], range(packing.target_count(machine, 120, first=True)))
    assert snapshots.pack_due(store, START, 10) == 0
    fill(store, [machine], [500])
    assert snapshots.pack_due(store, START, 10) == 1
    assert waiting(store) == {machine: 1}
    assert snapshots.pack_due(store, START, 10) == 0


def test_a_later_block_has_the_full_size(store, machine):
    full = packing.target_count(machine, 10)
    fill(store, [machine], range(3 * full))
    while snapshots.pack_due(store, START, 1, per_block=10):
        pass
    counts = [count for (count,) in store.rows("SELECT count FROM block ORDER BY start_ms")]
    assert counts[0] <= full
    assert set(counts[1:]) == {full}


def test_at_most_so_many_blocks_at_once(store):
    ids = list(machines.ensure_all(store, {f"gpu{n}": "x" for n in range(10)}).values())
    fill(store, ids, range(20))
    assert snapshots.pack_due(store, START, 4, per_block=4) == 4
    assert store.rows("SELECT count(*) FROM block") == [(4,)]


def test_a_silent_machine_is_packed_after_an_hour(store, machine):
    fill(store, [machine], range(5))
    newest_at = START + 5 * 4
    assert snapshots.pack_due(store, newest_at + 3500, 10) == 0
    assert snapshots.pack_due(store, newest_at + 3700, 10) == 1
    assert numbers_of(snapshots.read(store, machine)) == list(range(5))
    assert snapshots.pack_due(store, newest_at + 90000, 10) == 0


def test_a_restarted_hub_packs_what_waits(store, url, machine):
    fill(store, [machine], range(30))
    store.close()
    again = open_store(url)
    assert snapshots.pack_due(again, START, 10, per_block=4) == 1
    assert numbers_of(snapshots.read(again, machine)) == list(range(30))
    again.close()


def test_two_packers_do_not_pack_the_same_twice(store, url, machine, monkeypatch):
    fill(store, [machine], range(30))
    other = open_store(url)
    packed_elsewhere = []

    def slow_pack(runs):
        if not packed_elsewhere:
            packed_elsewhere.append(None)
            packed_elsewhere[0] = packing.pack_machine(other, machine, 10)
        return pack(runs)

    pack = packing.pack_runs
    monkeypatch.setattr(packing, "pack_runs", slow_pack)
    assert packing.pack_machine(store, machine, 10) == 0
    assert packed_elsewhere == [1]
    assert numbers_of(snapshots.read(store, machine)) == list(range(30))
    other.close()


def test_huge_snapshots_are_packed_few_at_a_time(store, machine, monkeypatch):
    monkeypatch.setattr(packing, "MAX_BLOCK_BYTES", 100_000)
    digits = [[(n * 7919 * row) % 1_000_003 for n in range(10_000)] for row in range(1, 9)]
    for row, values in enumerate(digits):
        snapshots.append(store, [JournalEntry(machine, row, row, SHAPE, texts_of(str(values).encode()))], docs_for(machine))
    while snapshots.pack_due(store, 0, 10):
        pass
    blocks = store.rows("SELECT count FROM block")
    assert len(blocks) > 1
    assert [entry.values for entry in snapshots.read(store, machine)] == digits
    assert 8 * 150_000 * max(count for (count,) in blocks) < MAX_UNPACKED_BYTES


def test_a_machine_that_cannot_be_packed_does_not_hold_up_the_others(store, monkeypatch):
    ids = list(machines.ensure_all(store, {f"gpu{n}": "x" for n in range(4)}).values())
    fill(store, ids, range(20))
    pack_machine, bad = packing.pack_machine, next(iter(store.memory.waiting))

    def pack_or_fail(store, machine_id, count, **options):
        if machine_id == bad:
            raise StoreError("The page is damaged.")
        return pack_machine(store, machine_id, count, **options)

    monkeypatch.setattr(packing, "pack_machine", pack_or_fail)
    with pytest.raises(StoreError, match="page is damaged"):
        snapshots.pack_due(store, START, 10, per_block=10)
    assert {machine_id for (machine_id,) in store.rows("SELECT machine_id FROM block")} == set(ids) - {bad}
    while snapshots.pack_due(store, START + 1, 10, per_block=10):
        pass
    monkeypatch.undo()
    assert snapshots.pack_due(store, START + 2, 10, per_block=10) == 0
    assert snapshots.pack_due(store, START + 100, 10, per_block=10) == 1
    assert bad in {machine_id for (machine_id,) in store.rows("SELECT machine_id FROM block")}


def test_pages_of_the_journal_are_reused(file_store):
    store = file_store
    ids = list(machines.ensure_all(store, {f"gpu{n}": "x" for n in range(20)}).values())
    sizes = []
    for start in range(0, 200, 20):
        fill(store, ids, range(start, start + 20))
        while snapshots.pack_due(store, START, 100, per_block=10):
            pass
        info = upkeep.info(store)
        sizes.append(info.file_bytes - info.block_bytes)
    assert sizes[-1] < 2 * sizes[1]
