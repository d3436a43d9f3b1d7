import json

import pytest
from tests.store.samples import journal_entry

from gpuwatch.model.errors import StoreError
from gpuwatch.store import packing, shapes, snapshots
from gpuwatch.store.database import open_store


def doc_with(number):
    processes = [{"pid": 1000 + n, "command": f"python train_{n * 7919 % 9973}.py"} for n in range(40)]
    processes[number % 40] = {"pid": number, "command": f"python other_{number}.py"}
    return {"schema": 1, "facts": {"hostname": "gpu01", "processes": processes}, "fields": {}}


def append(store, machine, number):
    key = (machine, f"{number:032x}")
    snapshots.append(store, [journal_entry(machine, number, key[1])], {key: doc_with(number)})
    return key[1]


def test_similar_shapes_cost_little_and_read_back_exactly(store, machine):
    ids = [append(store, machine, number) for number in range(30)]
    store.memory.docs = type(store.memory.docs)(1)
    assert [shapes.read(store, machine, id) for id in ids] == [doc_with(number) for number in range(30)]
    sizes = [size for (size,) in store.rows("SELECT length(doc) FROM shape ORDER BY id")]
    assert max(sizes[1:]) < sizes[0] / 2
    assert len(json.dumps(doc_with(0))) > 4 * sizes[0]


def test_a_very_different_shape_stands_on_its_own(store, machine):
    append(store, machine, 1)
    key = (machine, "f" * 32)
    doc = {"schema": 1, "facts": {"text": [f"{n * n * 7919 % 1000003:x}" for n in range(500)]}}
    snapshots.append(store, [journal_entry(machine, 2, key[1])], {key: doc})
    assert store.rows("SELECT base_id FROM shape WHERE id = ?", (key[1],)) == [(None,)]
    assert shapes.read(store, *key) == doc


def test_missing_and_damaged_shapes_are_told(store, machine):
    with pytest.raises(StoreError, match="missing"):
        shapes.read(store, machine, "0" * 32)
    shape_id = append(store, machine, 1)
    with store.writing():
        store.change("UPDATE shape SET doc = ?", (b"\xff\x00\xff",))
    with pytest.raises(StoreError, match=f"shape {shape_id} .* damaged"):
        shapes.read(store, machine, shape_id)


def test_a_shape_nobody_gave_is_an_error_and_nothing_is_kept(store, machine):
    with pytest.raises(ValueError, match="no document"):
        snapshots.append(store, [journal_entry(machine, 1)], {})
    assert list(snapshots.read(store, machine)) == []


def test_examples_live_as_long_as_the_journal_needs_them(store, machine):
    old, new = append(store, machine, 1), append(store, machine, 2)
    append(store, machine, 2)
    packing.pack_machine(store, machine, 10)
    assert dict(store.rows("SELECT id, example IS NULL FROM shape")) == {old: 1, new: 0}
    append(store, machine, 1)
    late = journal_entry(machine, 9, old)
    snapshots.append(store, [late], {})
    assert [entry.shape_id for entry in snapshots.read(store, machine)] == [old, old, new, old]


def test_an_example_that_another_hub_dropped_or_made_anew_is_not_written_against(server_store, machine):
    """Pushes of one machine may come to any hub, and the one that has its lease packs them."""
    shape, others = "a" * 32, "b" * 32
    docs = {(machine, shape): doc_with(1), (machine, others): doc_with(2)}

    def add(hub, at, values, shape_id=shape):
        snapshots.append(hub, [snapshots.JournalEntry(machine, at, at, shape_id, [str(value) for value in values])], docs)

    packer = open_store(server_store._url)
    add(server_store, 1, [1, 2, 3, 4, 5, 6])
    add(server_store, 2, [1, 2, 3, 4, 5, 7])
    add(packer, 3, [9], others)
    assert packing.pack_machine(packer, machine, 2)
    add(server_store, 4, [1, 2, 3, 4, 5, 8])
    assert [entry.values for entry in snapshots.read(packer, machine)] == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7], [9], [1, 2, 3, 4, 5, 8]]
    add(packer, 5, [9], others)
    assert packing.pack_machine(packer, machine, 2)
    add(packer, 6, [7, 7, 7, 7, 7, 9])
    add(server_store, 7, [1, 2, 3, 4, 5, 9])
    assert [entry.values for entry in snapshots.read(packer, machine)][-2:] == [[7, 7, 7, 7, 7, 9], [1, 2, 3, 4, 5, 9]]
    packer.close()
