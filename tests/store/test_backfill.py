from tests.store.gpus import all_sums
from tests.store.test_digests import at_once, fill, pack_all, without_energy  # noqa: F401

from gpuwatch.model.errors import StoreError
from gpuwatch.store import machines, packing, snapshots
from gpuwatch.store.backfill import backfill
from gpuwatch.store.digests import Digester


def pack_undigested(store, machine, per_block=30):
    while packing.pack_machine(store, machine, per_block):
        pass


def always():
    return True


def test_blocks_from_before_are_digested_once(store, machine, at_once):  # noqa: F811
    fill(store, machine)
    pack_undigested(store, machine)
    assert backfill(store, Digester(), always) == 8
    assert without_energy(all_sums(store, machine)) == without_energy(at_once)
    assert backfill(store, Digester(), always) == 0
    assert without_energy(all_sums(store, machine)) == without_energy(at_once)


def test_broken_off_it_goes_on(store, machine, at_once):  # noqa: F811
    fill(store, machine)
    pack_undigested(store, machine)
    for _ in range(8):
        turns = iter([True, True])  # one for the batch, one for its first block
        assert backfill(store, Digester(), lambda turns=turns: next(turns, False)) == 1
    assert without_energy(all_sums(store, machine)) == without_energy(at_once)


def test_blocks_of_both_kinds_become_one_history(store, machine, at_once):  # noqa: F811
    fill(store, machine, range(121))
    pack_undigested(store, machine)
    fill(store, machine, range(121, 241))
    pack_all(store, machine)
    backfill(store, Digester(), always)
    assert without_energy(all_sums(store, machine)) == without_energy(at_once)


def test_a_damaged_block_is_passed_over(store, machine):
    fill(store, machine)
    pack_undigested(store, machine)
    ((start_ms,),) = store.rows("SELECT min(start_ms) FROM block")
    with store.writing():
        store.change("UPDATE block SET data = ? WHERE start_ms = ?", (b"\x01x", start_ms))
    assert backfill(store, Digester(), always) == 8
    assert store.rows("SELECT DISTINCT digested FROM block") == [(1,)]


def test_a_block_that_is_moved_meanwhile_is_not_counted(store, machine, monkeypatch):
    other = machines.ensure(store, "gpu02", "b")
    fill(store, machine, range(40))
    pack_undigested(store, machine, 100)
    derive = Digester.derive

    def slow(self, store, machine_id, *arguments):
        if machine_id == machine:
            machines.merge(store, machine, other)
        return derive(self, store, machine_id, *arguments)

    monkeypatch.setattr(Digester, "derive", slow)
    assert backfill(store, Digester(), always) == 2  # of the other machine, among them what was in the journal
    assert all_sums(store, machine)["gpus"] == all_sums(store, other)["gpus"]
    assert len(list(snapshots.read(store, other))) == 40


def test_trouble_of_the_database_is_told_and_changes_nothing(file_store, machine, monkeypatch):
    fill(file_store, machine, range(40))
    pack_undigested(file_store, machine)

    def full(*arguments):
        raise StoreError("The disk is full.")

    monkeypatch.setattr(file_store, "change_many", full)
    try:
        backfill(file_store, Digester(), always)
        raise AssertionError("nothing was said")
    except StoreError as error:
        assert "disk is full" in str(error)
    monkeypatch.undo()
    assert backfill(file_store, Digester(), always) == 2
