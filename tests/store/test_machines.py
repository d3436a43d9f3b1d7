import pytest
from tests.store.samples import docs_for, journal_entry, numbers_of

from gpuwatch.model.errors import UsageError
from gpuwatch.model.event import Event
from gpuwatch.store import events, machines, packing, snapshots, states, upkeep
from gpuwatch.store.database import open_store


def fill(store, machine_id, numbers):
    snapshots.append(store, [journal_entry(machine_id, number) for number in numbers], docs_for(machine_id))


def test_a_machine_keeps_its_id_when_its_address_changes(store):
    first = machines.ensure(store, "gpu01", "10.0.0.1", now=5.0)
    assert len(first) == 32
    assert int(first, 16) >= 0
    assert machines.ensure(store, "gpu01", "10.0.0.2", now=9.0) == first
    (row,) = machines.list_all(store)
    assert row == machines.MachineRow(first, "gpu01", "10.0.0.2", None, 5.0, None)
    assert machines.ensure(store, "gpu02", "10.0.0.2") != first


def test_many_at_once(store):
    ids = machines.ensure_all(store, {f"gpu{n:02}": f"10.0.0.{n}" for n in range(50)}, now=1.0)
    assert len(set(ids.values())) == 50
    assert machines.ensure_all(store, {"gpu07": "10.0.0.7", "other": "x"})["gpu07"] == ids["gpu07"]


def test_a_line_that_comes_back_is_the_same_machine(store, machine):
    other = machines.ensure(store, "gpu02", "b")
    machines.set_present(store, [other], now=100.0)
    assert machines.find(store, "gpu01").removed_at == 100.0
    machines.set_present(store, [other], now=200.0)
    assert machines.find(store, "gpu01").removed_at == 100.0
    assert machines.ensure(store, "gpu01", "a") == machine
    assert machines.find(store, "gpu01").removed_at is None
    machines.set_present(store, [], now=300.0)
    machines.set_present(store, [machine], now=400.0)
    assert [row.removed_at for row in machines.list_all(store)] == [None, 300.0]


def test_hostnames(store, machine):
    machines.set_hostnames(store, {machine: "node-a", "0" * 32: "nobody"})
    assert machines.find(store, machine).hostname == "node-a"


def test_rename(store, machine):
    machines.ensure(store, "gpu02", "b")
    machines.rename(store, machine, "new")
    assert machines.find(store, "new").id == machine
    for name in ("gpu02", " ", "a/b", "a b", "x" * 201, "a\x1b[31m", "a\u202eb", "<b>"):
        with pytest.raises(UsageError):
            machines.rename(store, machine, name)
    with pytest.raises(UsageError, match="no machine"):
        machines.rename(store, "0" * 32, "x")


def test_merge_moves_everything(store, machine):
    into = machines.ensure(store, "gpu02", "b")
    fill(store, machine, range(40))
    packing.pack_machine(store, machine, 20)
    fill(store, into, range(30, 70))
    packing.pack_machine(store, into, 20)
    events.add(store, [Event(1.0, "xid", machine, "gpu01", "79")])
    states.save(store, [states.GpuStateRow(machine, "GPU-1", "busy", 1.0), states.GpuStateRow(into, "GPU-1", "free", 2.0)])
    machines.merge(store, machine, into)
    assert numbers_of(snapshots.read(store, into)) == sorted([*range(40), *range(30, 70)])
    assert [event.machine_id for event in events.newest(store, 9)] == [into]
    assert {key: row.state for key, row in states.load(store).items()} == {(into, "GPU-1"): "free"}
    assert [row.id for row in machines.list_all(store)] == [into]
    assert snapshots.append(store, [journal_entry(machine, 80), journal_entry(into, 80)], docs_for(into)) == {machine}
    assert snapshots.shape(store, into, "a" * 32)["schema"] == 1
    assert upkeep.check(store, thorough=True) == []


def test_blocks_that_start_together_can_be_merged(store, machine):
    into = machines.ensure(store, "gpu02", "b")
    for machine_id in (machine, into):
        fill(store, machine_id, range(10))
        packing.pack_machine(store, machine_id, 5)
    machines.merge(store, machine, into)
    assert numbers_of(snapshots.read(store, into)) == sorted([*range(10), *range(10)])


def test_facts_that_both_machines_have_against_other_bases_can_be_read_after_a_merge(store, machine):
    into = machines.ensure(store, "gpu02", "b")
    docs = [{"schema": 1, "facts": {"hostname": "gpu01", "processes": [f"train_{n * 7919 % 9973}.py" for n in range(200)], "job": job}} for job in range(4)]
    for machine_id, jobs in ((machine, (1, 2, 3)), (into, (0, 1))):
        for job in jobs:
            key = (machine_id, f"{job:032x}")
            snapshots.append(store, [journal_entry(machine_id, 10 * job + len(jobs), key[1])], {key: docs[job]})
    bases = "SELECT id, base_id FROM shape WHERE machine_id = ?"
    assert dict(store.rows(bases, (machine,)))[f"{2:032x}"] == f"{1:032x}"
    assert dict(store.rows(bases, (into,)))[f"{1:032x}"] == f"{0:032x}"
    machines.merge(store, machine, into)
    store.memory.docs = type(store.memory.docs)(512)
    assert [snapshots.shape(store, into, f"{job:032x}") for job in range(4)] == docs


def test_a_machine_is_not_merged_into_itself_or_nothing(store, machine):
    for into in (machine, "0" * 32):
        with pytest.raises(UsageError):
            machines.merge(store, machine, into)


def test_forget_deletes_everything(store, machine):
    other = machines.ensure(store, "gpu02", "b")
    for machine_id in (machine, other):
        fill(store, machine_id, range(30))
        packing.pack_machine(store, machine_id, 10)
        events.add(store, [Event(1.0, "xid", machine_id, "h", "79")])
        states.save(store, [states.GpuStateRow(machine_id, "GPU-1", "busy", 1.0)])
    machines.forget(store, machine)
    for table in ("block", "snapshot_journal", "shape", "gpu_state", "event"):
        assert store.rows(f"SELECT DISTINCT machine_id FROM {table}") == [(other,)]
    with pytest.raises(UsageError):
        machines.forget(store, machine)
    assert machines.ensure(store, "gpu01", "a") != machine


def test_a_writer_elsewhere_notices_that_a_machine_was_forgotten(store, url, machine):
    fill(store, machine, range(5))
    other = open_store(url)
    machines.forget(other, machine)
    other.close()
    assert snapshots.append(store, [journal_entry(machine, 6)], docs_for(machine)) == {machine}
    assert list(snapshots.read(store, machine)) == []


def test_an_import_is_given_to_a_host_by_another_command(store, machine):
    imported = machines.ensure(store, "import:x", "")
    for source, into in ((imported, machine), (machine, imported)):
        with pytest.raises(UsageError, match=r"import:x was imported.* Use: gpuwatch db assign import:NAME HOST"):
            machines.merge(store, source, into)
    for one, name in ((imported, "x"), (machine, "import:y")):
        with pytest.raises(UsageError, match="gpuwatch db assign"):
            machines.rename(store, one, name)
    machines.rename(store, imported, "import:z")
    assert {one.name for one in machines.list_all(store)} >= {"import:z"}
