"""What cannot be read is told, each thing once; what can be is not."""

import pytest
from tests.store.test_digests import fill

from gpuwatch.store import packing, rollups
from gpuwatch.store.digests import Digester
from gpuwatch.store.verifying import damage


@pytest.fixture
def kept(store, machine):
    fill(store, machine, range(100))
    packing.pack_machine(store, machine, 60, digester=Digester())
    rollups.settle(store, machine, 1)
    packing.pack_machine(store, machine, 20, digester=Digester())
    return store


DAMAGED = [
    ("UPDATE block SET data = ? WHERE count = 60", "cannot be read: The block", 1),
    ("UPDATE shape SET doc = ?", "Snapshots that refer to it", 3),
    ('UPDATE snapshot_journal SET "values" = ?', "The snapshot of machine", 20),
    ("UPDATE shape SET example = ? WHERE example IS NOT NULL", "The snapshot of machine", 20),
    ("UPDATE rollup SET data = ? WHERE tier_seconds = 900 AND machine_id != '' AND gpu_uuid = ''", "Rollups of 900 s of the host", 1),
    ("UPDATE rollup_part SET data = ? WHERE machine_id = ''", "Rollups of the fleet", 2),
    ("DELETE FROM shape WHERE doc != ?", "is missing", 3),
]


def test_of_a_good_one_nothing_is_told(kept):
    blocks = []
    assert list(damage(kept, blocks.append)) == []
    assert sum(blocks) == 2


@pytest.mark.parametrize(("change", "words", "count"), DAMAGED)
def test_what_is_damaged_is_told(kept, machine, change, words, count):
    with kept.writing():
        assert kept.change(change, (b"\xff\x02",))
    kept.memory.docs = type(kept.memory.docs)(1)  # as of who just opened it
    found = list(damage(kept))
    assert len([one for one in found if words in one]) == count, found
    assert len(found) == len(set(found))
    assert all(machine in one or "fleet" in one for one in found)
