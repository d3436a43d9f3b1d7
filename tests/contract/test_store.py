"""What every database behind the store must do, whichever it is. Each test gets a fresh store of each kind in OPENERS."""

import threading

import pytest
from tests.store.samples import docs_for, journal_entry, numbers_of

from gpuwatch.model.event import Event
from gpuwatch.store import events, machines, packing, snapshots, states
from gpuwatch.store.database import open_store


def sqlite(tmp_path):
    return open_store(f"sqlite:///{tmp_path / 'gpuwatch.db'}")


OPENERS = {"sqlite": sqlite}


@pytest.fixture(params=sorted(OPENERS))
def any_store(request, tmp_path):
    store = OPENERS[request.param](tmp_path)
    yield store
    store.close()


def in_threads(count, work):
    """Run ``work(number)`` in so many threads at once; what they returned or raised."""
    results = [None] * count
    gate = threading.Barrier(count)

    def run(number):
        gate.wait()
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_many_who_want_the_same_machine_get_one_id(any_store):
    assert len(set(in_threads(20, lambda number: machines.ensure(any_store, "gpu01", "a")))) == 1


def test_many_appends_at_once_are_all_kept(any_store):
    machine = machines.ensure(any_store, "gpu01", "a")
    results = in_threads(20, lambda number: snapshots.append(any_store, [journal_entry(machine, number)], docs_for(machine)))
    assert results == [set()] * 20
    assert numbers_of(snapshots.read(any_store, machine)) == list(range(20))


def test_many_packers_make_each_block_once(any_store):
    machine = machines.ensure(any_store, "gpu01", "a")
    snapshots.append(any_store, [journal_entry(machine, number) for number in range(60)], docs_for(machine))
    packed = in_threads(6, lambda number: packing.pack_machine(any_store, machine, 10))
    assert set(packed) <= {0, 1}
    assert any_store.rows("SELECT count(*) FROM block") == [(sum(packed),)]
    assert numbers_of(snapshots.read(any_store, machine)) == list(range(60))


def test_states_and_events_come_back(any_store):
    machine = machines.ensure(any_store, "gpu01", "a")
    row = states.GpuStateRow(machine, "GPU-1", "busy", 1790000000.5, True, None, b"\x00\xff")
    states.save(any_store, [row])
    assert states.load(any_store) == {(machine, "GPU-1"): row}
    event = Event(1790000000.5, "xid", machine, "gpu01", "Xid 79", "GPU-1")
    events.add(any_store, [event])
    assert events.newest(any_store, 5) == [event]


def test_merge_and_forget(any_store):
    first, second = (machines.ensure(any_store, name, "a") for name in ("gpu01", "gpu02"))
    for place, machine in enumerate((first, second)):
        numbers = range(20 * place, 20 * place + 20)
        snapshots.append(any_store, [journal_entry(machine, number) for number in numbers], docs_for(machine))
        packing.pack_machine(any_store, machine, 7)
    machines.merge(any_store, first, second)
    assert numbers_of(snapshots.read(any_store, second)) == list(range(40))
    machines.forget(any_store, second)
    assert machines.list_all(any_store) == []
    assert list(snapshots.read(any_store, second)) == []
