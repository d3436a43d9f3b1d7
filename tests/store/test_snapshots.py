"""Snapshots in and out: over journal and blocks, in order, none missing, none twice, whatever else goes on."""

import json
import random
import secrets
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.samples import DOC, SHAPE, START, docs_for, journal_entry, numbers_of, values_at

from gpuwatch.model.errors import StoreError
from gpuwatch.store import machines, packing, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.numbers import texts_of


def fill(store, machine_id, numbers):
    assert snapshots.append(store, [journal_entry(machine_id, number) for number in numbers], docs_for(machine_id)) == set()


def pack(store, machine_id, count):
    assert packing.pack_machine(store, machine_id, count) == 1


def test_what_is_appended_is_read(store, machine):
    fill(store, machine, range(10))
    (first, *_) = snapshots.read(store, machine)
    assert first == ((START) * 1000, START * 1000 + 12, SHAPE, values_at(0))
    assert numbers_of(snapshots.read(store, machine)) == list(range(10))
    assert snapshots.shape(store, machine, SHAPE) == DOC


def test_ranges_cut_through_blocks_and_journal(store, machine):
    fill(store, machine, range(50))
    for _ in range(4):
        pack(store, machine, 10)
    for first, last in ((0, 49), (5, 15), (38, 45), (42, 44), (12, 12), (60, 70)):
        expected = [number for number in range(first, last + 1) if number < 50]
        assert numbers_of(snapshots.read(store, machine, START + 5 * first, START + 5 * last)) == expected
    assert numbers_of(snapshots.read(store, machine, None, START + 10)) == [0, 1, 2]
    assert numbers_of(snapshots.read(store, machine, START + 5 * 48)) == [48, 49]


@pytest.mark.parametrize("count", [0, 1, 5, 10, 11, 25, 49, 50, 1000, None])
def test_newest(store, machine, count):
    fill(store, machine, range(50))
    for _ in range(4):
        pack(store, machine, 10)
    assert numbers_of(snapshots.newest(store, machine, count)) == list(range(50))[-count if count else (50 if count == 0 else 0) :]


def number_near(store, machine_id, at):
    near = snapshots.nearest(store, machine_id, at)
    return None if near is None else numbers_of([near.entry])[0]


def test_the_nearest_at_or_before_a_time(store, machine):
    fill(store, machine, [*range(50), 10_000])
    for _ in range(4):
        pack(store, machine, 10)
    for number in range(50):
        assert number_near(store, machine, START + 5 * number) == number
        assert number_near(store, machine, START + 5 * number + 4.999) == number
    assert number_near(store, machine, START - 0.001) is None
    assert number_near(store, machine, START + 5 * 10_000 - 1) is None, "too long ago"
    assert number_near(store, machine, START + 5 * 49 + snapshots.LOOK_BACK_SECONDS) == 49
    assert number_near(store, machine, 2**70) is None
    assert snapshots.nearest(store, machine, START + 62).spacing_ms == 5000
    assert snapshots.nearest(store, machine, START + 5 * 45).spacing_ms == 0, "from the journal"


def test_the_nearest_is_found_where_blocks_overlap(store, machine):
    for numbers in (range(0, 60, 6), range(1, 60, 6), range(26, 29)):
        fill(store, machine, numbers)
        packing.pack_machine(store, machine, 100, keep_newest=False)
    kept = sorted({*range(0, 60, 6), *range(1, 60, 6), *range(26, 29)})
    for number in range(60):
        assert number_near(store, machine, START + 5 * number) == max(one for one in kept if one <= number)


def test_from_when_on_something_is_kept(store, machine):
    assert snapshots.kept_from(store) is None
    assert snapshots.last_before(store, machine, START) is None
    fill(store, machine, range(30))
    assert snapshots.kept_from(store) == snapshots.kept_from(store, machine) == START
    pack(store, machine, 20)
    other = machines.ensure(store, "gpu02", "10.0.0.2")
    fill(store, other, [-3])
    assert snapshots.kept_from(store) == START - 15
    assert snapshots.kept_from(store, machine) == START
    assert snapshots.last_before(store, machine, START + 10**6) == START + 5 * 19
    assert snapshots.last_before(store, machine, START + 7) == START + 7


def test_a_stranger_has_no_snapshots(store):
    assert snapshots.nearest(store, "0" * 32, START) is None
    assert list(snapshots.read(store, "0" * 32)) == []
    assert list(snapshots.newest(store, "0" * 32, 5)) == []


def test_the_same_snapshot_twice_is_kept_once(store, machine):
    fill(store, machine, range(5))
    fill(store, machine, range(3, 8))
    assert numbers_of(snapshots.read(store, machine)) == list(range(8))
    assert snapshots.pack_due(store, START, 5, per_block=4) >= 1
    assert numbers_of(snapshots.read(store, machine)) == list(range(8))


def test_late_snapshots_take_their_place(store, machine):
    order = [*range(0, 30, 2), *range(1, 30, 2)]
    random.Random(1).shuffle(order)
    for start in range(0, 30, 6):
        fill(store, machine, order[start : start + 6])
        packing.pack_machine(store, machine, 4)
    assert numbers_of(snapshots.read(store, machine)) == list(range(30))
    for count in range(32):
        assert numbers_of(snapshots.newest(store, machine, count)) == list(range(max(0, 30 - count), 30))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=8), st.integers(2, 6), st.integers(0, 70))
def test_any_order_of_appends_and_packs(store, batches, per_block, count):
    machine = machines.ensure(store, secrets.token_hex(4), "a")
    known = set()
    for batch in batches:
        fill(store, machine, [number for number in dict.fromkeys(batch) if number not in known])
        known.update(batch)
        for _ in range(2):
            packing.pack_machine(store, machine, per_block)
    assert numbers_of(snapshots.read(store, machine)) == sorted(known)
    assert numbers_of(snapshots.newest(store, machine, count)) == sorted(known)[max(0, len(known) - count) :]


def test_machines_do_not_mix(store):
    ids = machines.ensure_all(store, {f"gpu{n}": "x" for n in range(5)})
    entries = [journal_entry(machine_id, number + 100 * place) for place, machine_id in enumerate(ids.values()) for number in range(20)]
    snapshots.append(store, entries, docs_for(*ids.values()))
    for machine_id in ids.values():
        pack(store, machine_id, 10)
    for place, machine_id in enumerate(ids.values()):
        assert numbers_of(snapshots.read(store, machine_id)) == list(range(100 * place, 100 * place + 20))


def test_latest_of_all(store):
    ids = list(machines.ensure_all(store, {f"gpu{n}": "x" for n in range(5)}).values())
    for place, machine_id in enumerate(ids[:4]):
        fill(store, machine_id, range(place, place + 10))
    for machine_id in ids[:2]:
        pack(store, machine_id, 100)
    packing.pack_machine(store, ids[1], 100, keep_newest=False)
    latest = snapshots.latest_of_all(store)
    assert set(latest) == set(ids[:4])
    assert numbers_of(latest[machine_id] for machine_id in ids[:4]) == [9, 10, 11, 12]


def test_latest_after_a_restart_needs_no_block(store, url, machine):
    fill(store, machine, range(20))
    pack(store, machine, 100)
    with store.writing():
        store.change("UPDATE block SET data = ?", (b"\0",))
    again = open_store(url)
    assert numbers_of(snapshots.latest_of_all(again).values()) == [19]
    fill(again, machine, [20])
    assert numbers_of(snapshots.newest(again, machine, 2)) == [19, 20]
    again.close()


def test_unknown_machines_are_named_and_the_others_kept(store, machine):
    stranger = "0" * 32
    entries = [journal_entry(stranger, 1), journal_entry(machine, 1)]
    assert snapshots.append(store, entries, docs_for(machine, stranger)) == {stranger}
    assert numbers_of(snapshots.read(store, machine)) == [1]
    assert store.rows("SELECT DISTINCT machine_id FROM snapshot_journal UNION SELECT machine_id FROM shape") == [(machine,)]


@pytest.mark.parametrize("at_ms", [-1, 2**62, 2**70])
def test_times_out_of_range_are_refused(store, machine, at_ms):
    for times in ((at_ms, 1), (1, at_ms)):
        with pytest.raises(ValueError, match="out of range"):
            snapshots.append(store, [JournalEntry(machine, *times, SHAPE, ["1"])], docs_for(machine))


def test_values_come_back_exactly(store, machine):
    values = [1, 1.0, None, 0.1, -0.0, 9.2e18, 2**63 - 1, 1 - 2**63, 5e-324, 1790000000.123]
    entries = [JournalEntry(machine, n, n, SHAPE, texts_of(json.dumps(values).encode())) for n in range(10)]
    snapshots.append(store, entries, docs_for(machine))
    pack(store, machine, 5)
    for entry in snapshots.read(store, machine):
        assert list(map(repr, entry.values)) == list(map(repr, values))


def test_a_damaged_block_is_named_and_its_neighbours_are_unharmed(store, machine):
    fill(store, machine, range(30))
    for _ in range(3):
        pack(store, machine, 9)
    ((data,),) = store.rows("SELECT data FROM block WHERE start_ms = ?", ((START + 45) * 1000,))
    with store.writing():
        store.change(
            "UPDATE block SET data = ? WHERE start_ms = ?", (data[:60] + b"\xff" + data[61:], (START + 45) * 1000)
        )
    with pytest.raises(StoreError, match=rf"machine {machine} from {START + 45}.000 to {START + 85}.000 .* damaged"):
        list(snapshots.read(store, machine))
    told = []
    assert numbers_of(snapshots.read(store, machine, on_damage=told.append)) == [*range(9), *range(18, 30)]
    assert len(told) == 1
    with pytest.raises(StoreError, match=f"from {START + 45}.000 to {START + 85}.000"):
        snapshots.nearest(store, machine, START + 50)
    assert snapshots.nearest(store, machine, START + 50, on_damage=told.append) is not None, "the one before"
    assert numbers_of(snapshots.newest(store, machine, 12)) == list(range(18, 30))


def test_a_damaged_journal_row_costs_only_itself(store, machine):
    fill(store, machine, range(12))
    with store.writing():
        store.change('UPDATE snapshot_journal SET "values" = ? WHERE taken_at_ms = ?', (b"\xab\xcd\xef", (START + 15) * 1000))
    with pytest.raises(StoreError, match=f"machine {machine} at {START + 15}.000"):
        list(snapshots.read(store, machine))
    pack(store, machine, 100)
    assert numbers_of(snapshots.read(store, machine)) == [0, 1, 2, *range(4, 12)]


def test_reading_while_packing_and_appending_misses_nothing(store, machine):
    fill(store, machine, range(20))
    stop, errors, done = threading.Event(), [], [20]

    def work():
        try:
            for number in range(20, 300):
                fill(store, machine, [number])
                done[0] = number + 1
                snapshots.pack_due(store, START, 1, per_block=4)
        except BaseException as error:
            errors.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=work)
    thread.start()
    rounds = 0
    while not stop.is_set() or rounds == 0:
        least = done[0]
        found = numbers_of(snapshots.read(store, machine))
        assert found == list(range(len(found)))
        assert len(found) >= least
        newest = numbers_of(snapshots.newest(store, machine, 10))
        assert newest == list(range(newest[-1] - 9, newest[-1] + 1))
        rounds += 1
    thread.join()
    assert errors == []
    assert numbers_of(snapshots.read(store, machine)) == list(range(300))


def test_a_stream_that_was_begun_survives_what_is_deleted_meanwhile(store, machine):
    fill(store, machine, range(30))
    for _ in range(3):
        pack(store, machine, 9)
    stream = snapshots.read(store, machine)
    first = next(stream)
    with store.writing():
        store.change("DELETE FROM block WHERE start_ms = ?", ((START + 45) * 1000,))
    assert numbers_of([first, *stream]) == [*range(9), *range(18, 30)]
