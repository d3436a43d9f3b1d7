import pytest
from tests.store.gpus import totals
from tests.store.test_chunks import HOUR, minute

from gpuwatch.model.errors import StoreError
from gpuwatch.store import rollups
from gpuwatch.store.chunks import coarsen, merge_all, of_minutes

DAY = 86400


def minutes(first, count, watts=100):
    """So many minutes from number ``first`` on; each has two samples."""
    times = [HOUR + 60 * number for number in range(first, first + count)]
    return {at: minute(at, {"power_watts": [watts, watts + at % 7]}) for at in times}


def bring(store, machine, first, count, uuid="GPU-1", start=None):
    found = minutes(first, count)
    parts = rollups.parts_of({uuid: found}, found)
    with store.writing():
        rollups.merge(store, machine, (HOUR + 60 * first) * 1000 if start is None else start, parts)


@pytest.mark.parametrize("settle_every", [0, 1, 3])
@pytest.mark.parametrize("tier", [60, 900, 3600])
def test_what_is_merged_can_be_read_settled_or_not(store, machine, settle_every, tier):
    for number in range(10):
        bring(store, machine, 50 * number, 50)
        if settle_every and number % settle_every == 0:
            assert rollups.settle(store, machine, 1)
            assert rollups.settle(store, rollups.FLEET, 1)
    expected = coarsen(of_minutes(minutes(0, 500)), tier)
    for owner, uuid in ((machine, "GPU-1"), (rollups.FLEET, rollups.HOST)):
        assert rollups.read(store, owner, uuid, tier, 0, HOUR + 10 * DAY) == expected
        assert rollups.read(store, owner, uuid, tier, HOUR, HOUR + 7200, ["power_watts"]) == expected.cut(HOUR, HOUR + 7200)
    assert rollups.read(store, machine, "GPU-2", tier, 0, HOUR + 10 * DAY).times == []


def test_settling_happens_by_itself_when_enough_waits(store, machine):
    for number in range(rollups.SETTLE_AT - 1):
        bring(store, machine, number, 1)
        assert not rollups.settle(store, machine)
    bring(store, machine, rollups.SETTLE_AT, 1)
    assert rollups.settle(store, machine)
    assert store.rows("SELECT count(*) FROM rollup_part WHERE machine_id = ?", (machine,)) == [(0,)]
    assert store.rows("SELECT count(*) FROM rollup_part WHERE machine_id = ''") == [(rollups.SETTLE_AT,)]


def test_order_does_not_matter(store, machine):
    other = "f" * 32
    for number in range(6):
        bring(store, machine, 100 * number, 110)
        bring(store, other, 100 * (5 - number), 110)
        if number % 2:
            rollups.settle(store, other, 1)
    one, two = (rollups.read(store, owner, "GPU-1", 60, 0, HOUR + DAY) for owner in (machine, other))
    assert one == two
    both = rollups.read(store, rollups.FLEET, rollups.HOST, 60, 0, HOUR + DAY)
    assert both == merge_all([one, two])


def test_two_blocks_of_one_start_both_count(store, machine):
    for _ in range(2):
        bring(store, machine, 0, 5, start=1000)
    chunk = rollups.read(store, machine, "GPU-1", 60, 0, HOUR + DAY)
    assert chunk.columns["power_watts"].counts == [4] * 5


def test_a_settling_that_was_overtaken_changes_nothing(store, machine, monkeypatch):
    bring(store, machine, 0, 10)
    before = totals(rollups.read(store, machine, "GPU-1", 60, 0, HOUR + DAY))
    change_many = store.change_many
    monkeypatch.setattr(store, "change_many", lambda sql, rows: 0 if "DELETE FROM rollup_part" in sql else change_many(sql, rows))
    assert not rollups.settle(store, machine, 1)
    monkeypatch.undo()
    assert store.rows("SELECT count(*) FROM rollup") == [(0,)]
    assert totals(rollups.read(store, machine, "GPU-1", 60, 0, HOUR + DAY)) == before


def test_damage_of_one_chunk_does_not_stop_the_others(store, machine):
    bring(store, machine, 0, 300)
    rollups.settle(store, machine, 1)
    with store.writing():
        store.change("UPDATE rollup SET data = ? WHERE tier_seconds = 900", (b"\x01damaged",))
    with pytest.raises(StoreError, match="damaged"):
        rollups.read(store, machine, "GPU-1", 900, 0, HOUR + DAY)
    bring(store, machine, 300, 10)
    with store.writing():
        store.change("INSERT INTO rollup_part (machine_id, source_id, start_ms, sequence, data) VALUES (?, '', 0, 0, ?)", (machine, b"\x01x"))
    assert rollups.settle(store, machine, 1)
    assert rollups.read(store, machine, "GPU-1", 60, 0, HOUR + DAY) == of_minutes(minutes(0, 310))
    assert len(rollups.read(store, machine, "GPU-1", 900, 0, HOUR + DAY).times) >= 1


def test_since_when_and_of_whom(store, machine):
    assert rollups.kept_since(store, machine, "GPU-1", 60) is None
    bring(store, machine, 7, 10)
    bring(store, machine, 5, 10, uuid="")
    rollups.settle(store, machine, 1)
    assert rollups.kept_since(store, machine, "GPU-1", 60) == HOUR + 7 * 60
    assert rollups.subjects(store, machine) == ["", "GPU-1"]
    assert rollups.subjects(store, "nobody") == []


def test_a_made_up_crowd_of_gpus_is_cut():
    found = {f"GPU-{number:05d}": minutes(0, 1) for number in range(3000)}
    data, fleet = rollups.parts_of(found, {})
    assert fleet == b""
    assert len(rollups.decode_part(data)) == 1024
