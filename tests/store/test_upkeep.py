import random
import sqlite3

import pytest
from tests.store.samples import DOC, SHAPE, START, docs_for, journal_entry, numbers_of

from gpuwatch.model.event import Event
from gpuwatch.store import database, events, machines, packing, partitions, snapshots, sqlite, states, upkeep
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of

NO_LIMIT = 10**12


@pytest.fixture(autouse=True)
def short_partitions(monkeypatch):
    """On a server retention takes whole partitions: here they are 50 s, not a week, long."""
    monkeypatch.setitem(partitions.SPANS, "block", {0: 50_000})


def fill(store, machine_id, numbers, per_block=10):
    numbers = list(numbers)
    snapshots.append(store, [journal_entry(machine_id, number) for number in numbers], docs_for(machine_id))
    while packing.pack_machine(store, machine_id, per_block):
        pass


def test_retention_by_age(store, machine):
    fill(store, machine, range(101))
    result = upkeep.prune(store, START + 5 * 100, 5 * 50.0, NO_LIMIT)
    assert numbers_of(snapshots.read(store, machine)) == list(range(50, 101))
    assert (result.blocks, result.snapshots) == (5, 50)
    assert result.bytes > 0
    assert upkeep.prune(store, START + 5 * 100, 5 * 50.0, NO_LIMIT) == upkeep.PruneResult()


def test_the_last_of_a_machine_that_is_gone_goes_too(store, machine):
    fill(store, machine, range(5))
    assert upkeep.prune(store, START + 10_000, 5000.0, NO_LIMIT).snapshots == 5
    assert list(snapshots.read(store, machine)) == []
    assert store.rows("SELECT count(*) FROM shape") == [(0,)]
    fill(store, machine, range(5000, 5003))
    assert numbers_of(snapshots.read(store, machine)) == [5000, 5001, 5002]
    assert snapshots.shape(store, machine, SHAPE) == DOC


def test_retention_by_size_takes_the_oldest_of_all_machines(store):
    ids = list(machines.ensure_all(store, {"gpu01": "a", "gpu02": "b"}).values())
    for row in range(60):
        for machine_id in ids:
            values = [(row * 7919 + n * n * 104729) % 1_000_003 for n in range(2000)]
            at_ms = (START + row) * 1000
            snapshots.append(store, [JournalEntry(machine_id, at_ms, at_ms, SHAPE, texts_of(str(values).encode()))], docs_for(*ids))
    for machine_id in ids:
        while packing.pack_machine(store, machine_id, 1):
            pass
    before = upkeep.info(store)
    limit = store.used_bytes() - before.block_bytes // 2
    result = upkeep.prune(store, START, 1e9, limit)
    assert store.used_bytes() <= limit
    assert store.path.startswith("postgresql:") or upkeep.info(store).file_bytes <= limit
    assert 10 <= result.blocks < before.blocks
    left = [[entry.taken_at_ms for entry in snapshots.read(store, machine_id)] for machine_id in ids]
    assert left[0] == list(range(left[0][0], (START + 60) * 1000, 1000))
    assert abs(len(left[0]) - len(left[1])) <= 1


def test_a_limit_that_cannot_be_met_ends(store, machine):
    fill(store, machine, range(30))
    upkeep.prune(store, START, 1e9, 1)
    assert len(numbers_of(snapshots.read(store, machine))) <= 1


def test_a_node_that_makes_up_facts_pays_with_its_own_history(store):
    good, greedy = machines.ensure_all(store, {"gpu01": "a", "gpu02": "b"}).values()
    dice = random.Random(1)
    fill(store, good, range(41))
    for number in range(41):
        shape_id = f"{number:032x}"
        doc = {"schema": 1, "facts": {"hostname": dice.randbytes(30_000).hex()}}
        snapshots.append(store, [journal_entry(greedy, number, shape_id)], {(greedy, shape_id): doc})
    while packing.pack_machine(store, greedy, 5):
        pass
    upkeep.prune(store, START, 1e9, store.used_bytes() - 300_000)
    assert numbers_of(snapshots.read(store, good)) == list(range(41))
    left = numbers_of(snapshots.read(store, greedy))
    assert 1 <= len(left) < 41
    assert left[-1] == 40
    assert upkeep.prune(store, START, 1e9, NO_LIMIT) == upkeep.PruneResult()


def test_made_up_events_and_gpus_are_bounded(store, machine, monkeypatch):
    monkeypatch.setattr(upkeep, "_MOST_EVENTS", 10)
    monkeypatch.setattr(upkeep, "_MOST_STATES", 5)
    other = machines.ensure(store, "gpu02", "b")
    events.add(store, [Event(START + n, "xid", machine, "h", str(n)) for n in range(30)] + [Event(START, "xid", other, "h", "other")])
    states.save(store, [states.GpuStateRow(machine, f"GPU-{n}", "free", 1.0) for n in range(9)] + [states.GpuStateRow(other, "GPU-1", "free", 1.0)])
    assert upkeep.prune(store, START, 1e9, NO_LIMIT).events == 20
    assert sorted(event.message for event in events.newest(store, 50)) == sorted([*map(str, range(20, 30)), "other"])
    assert list(states.load(store)) == [(other, "GPU-1")]


def test_shapes_nobody_needs_go_and_come_back(store, machine):
    for number in range(40):
        shape_id = f"{number // 10:032x}"
        snapshots.append(store, [journal_entry(machine, number, shape_id)], {(machine, shape_id): {"schema": 1, "number": number // 10}})
    while packing.pack_machine(store, machine, 10):
        pass
    result = upkeep.prune(store, START + 5 * 40, 5 * 15.0, NO_LIMIT)
    needed = {entry.shape_id for entry in snapshots.read(store, machine)}
    assert result.shapes >= 1
    for shape_id in needed:
        assert snapshots.shape(store, machine, shape_id)["number"] == int(shape_id, 16)
    old = f"{0:032x}"
    snapshots.append(store, [journal_entry(machine, 50, old)], {(machine, old): {"schema": 1, "number": 0}})
    assert store.rows("SELECT count(*) FROM shape WHERE id = ?", (old,)) == [(1,)]


def test_old_events_go(store, machine):
    events.add(store, [Event(START - upkeep.EVENT_SECONDS - 1, "xid", machine, "h", "old"), Event(START, "xid", machine, "h", "new")])
    assert upkeep.prune(store, START, 1e9, NO_LIMIT).events == 1
    assert [event.message for event in events.newest(store, 5)] == ["new"]


def test_check_finds_nothing_wrong_in_a_good_one(store, machine):
    fill(store, machine, range(50))
    assert upkeep.check(store) == []
    assert upkeep.check(store, thorough=True) == []


def test_check_says_what_is_damaged(store, machine):
    fill(store, machine, range(50))
    with store.writing():
        store.change("UPDATE block SET data = ? WHERE start_ms = ?", (b"\1\2", START * 1000))
    (problem,) = upkeep.check(store, thorough=True)
    assert f"Snapshots of machine {machine} from {START}.000 to {START + 45}.000" in problem
    assert upkeep.check(store) == []


def test_check_of_a_damaged_page(file_store):
    store = file_store
    ((root,),) = store.rows("SELECT rootpage FROM sqlite_master WHERE name = 'event'")
    store.close()
    with open(store.path, "r+b") as file:
        file.seek((root - 1) * sqlite.PAGE_BYTES)
        file.write(b"\xff" * 100)
    damaged = database.open_store(store.path)
    assert any("is damaged" in problem for problem in upkeep.check(damaged))
    damaged.close()


def test_info(store, machine):
    assert upkeep.info(store).oldest_at is None
    fill(store, machine, range(25))
    info = upkeep.info(store)
    assert (info.machines, info.shapes, info.blocks, info.block_snapshots, info.journal_snapshots) == (1, 1, 3, 24, 1)
    assert (info.oldest_at, info.newest_at) == (START, START + 120)
    assert info.file_bytes > info.block_bytes > 0
    assert info.wal_bytes > 0 or store.path.startswith("postgresql:")


def test_space_is_given_back_in_small_steps(file_store, machine, monkeypatch):
    store = file_store
    monkeypatch.setattr(sqlite, "_FREE_BYTES_KEPT", 0)
    monkeypatch.setattr(sqlite, "_PAGES_A_STEP", 3)
    numbers = [[(row * 7919 + n * n * 104729) % 1_000_003 for n in range(3000)] for row in range(60)]
    for row, values in enumerate(numbers):
        snapshots.append(store, [JournalEntry(machine, row, row, SHAPE, texts_of(str(values).encode()))], docs_for(machine))
    before = upkeep.info(store).file_bytes
    upkeep.prune(store, 1e9, 1.0, NO_LIMIT)
    after = upkeep.info(store)
    assert after.file_bytes < before / 2
    assert upkeep.check(store, thorough=True) == []


@pytest.mark.parametrize("thorough", [False, True])
def test_check_of_an_index_that_lacks_a_row(file_store, machine, thorough):
    store = file_store
    fill(store, machine, range(50))
    store.close()
    raw = sqlite3.connect(store.path)
    raw.execute("PRAGMA writable_schema = ON")
    raw.execute("UPDATE sqlite_master SET sql = replace(sql, 'end_ms', 'count') WHERE name = 'block_end'")
    raw.commit()
    raw.close()
    changed = database.open_store(store.path)
    assert bool(upkeep.check(changed, thorough=thorough)) is thorough
    changed.close()
