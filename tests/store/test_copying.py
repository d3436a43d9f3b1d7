"""A whole database into another one: every table, broken off anywhere, compared."""

import random

import pytest
from tests.store.samples import docs_for, journal_entry, numbers_of

from gpuwatch.model.errors import StoreError
from gpuwatch.model.event import Event
from gpuwatch.store import copying, events, machines, migrations, packing, snapshots, states, upkeep
from gpuwatch.store.database import open_store
from gpuwatch.store.tables import KEPT

DICE = random.Random(3)


class Broken(Exception):
    """The power failed."""


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def pair(request, tmp_path, postgres):
    """A full source and an empty target."""
    kinds = request.param.split(" to ")
    with postgres.new_url() as first, postgres.new_url() as second:
        urls = [url if kind == "postgresql" else f"{tmp_path}/{place}.db" for place, (kind, url) in enumerate(zip(kinds, (first, second)))]
        source, target = map(open_store, urls)
        fill(source)
        yield source, target
        source.close()
        target.close()


def value_of(field, number):
    kind = field.field_type
    return {"TEXT": f"{field.name} {number} '%?\0ü", "BLOB": DICE.randbytes(50 + number), "DOUBLE": number / 7}.get(kind, number)


def fill(store):
    """Machines with journal, blocks, shapes, states and events; rows of all kinds in every other table."""
    ids = list(machines.ensure_all(store, {f"gpu{n:02}": "x" for n in range(5)}).values())
    snapshots.append(store, [journal_entry(id, number) for number in range(60) for id in ids], docs_for(*ids))
    for id in ids:
        for _ in range(5):
            packing.pack_machine(store, id, 10)
    events.add(store, [Event(float(n), "xid", ids[n % 5], "h", f"number {n}") for n in range(40)])
    states.save(store, [states.GpuStateRow(id, f"GPU-{n}", "busy", None, recent=b"\0\xff") for id in ids for n in range(3)])
    with store.writing():
        for table in KEPT:
            name, fields = table._meta.table_name, table._meta.sorted_fields
            if name != "meta" and not store.rows(f"SELECT 1 FROM {name}"):
                columns = ", ".join(f'"{field.column_name}"' for field in fields)
                rows = [[None if field.null and n % 2 else value_of(field, n) for field in fields] for n in range(250)]
                store.change_many(f"INSERT INTO {name} ({columns}) VALUES ({', '.join('?' * len(fields))})", rows)
        store.change("INSERT INTO meta (key, value) VALUES ('more', 'kept')")


def counts(store):
    return {table._meta.table_name: store.rows(f"SELECT count(*) FROM {table._meta.table_name}")[0][0] for table in KEPT}


def copy_until(source, target, steps):
    """Copy, and break off after so many steps."""
    left = [steps]

    def progress(done):
        left[0] -= 1
        if left[0] < 0:
            raise Broken

    copying.copy(source, target, progress=progress)


def test_every_row_arrives_and_the_target_goes_on(pair):
    source, target = pair
    done = []
    copying.copy(source, target, progress=done.append)
    rollups = source.rows("SELECT sum(length(data)) - sum(size) FROM rollup")[0][0]
    assert sum(done) == copying.total_bytes(source) + rollups - 200, "two rows of meta are each database's own"
    compared = copying.compare(source, target)
    assert [one.table for one in compared if not one.same] == []
    copying.finish(target)
    assert counts(source) == counts(target)
    assert all(count for count in counts(target).values())
    assert target.rows("SELECT value FROM meta WHERE key = 'more'") == [("kept",)]
    (first, *_) = machines.list_all(target)
    assert numbers_of(snapshots.read(target, first.id)) == list(range(60))
    assert snapshots.append(target, [journal_entry(first.id, 60)], docs_for(first.id)) == set()
    events.add(target, [Event(99.0, "xid", first.id, "h", "the next")])
    assert events.newest(target, 1)[0].message == "the next"
    assert upkeep.check(target, thorough=True) == []
    assert migrations.version_of(target) == migrations.version_of(source)


def test_broken_off_anywhere_it_goes_on(pair):
    source, target = pair
    whole = []
    for step in range(60):
        try:
            copy_until(source, target, step % 3)
        except Broken:
            whole.append(sum(counts(target).values()))
        else:
            break
    assert len(whole) >= 3
    assert whole == sorted(whole)
    assert all(one.same for one in copying.compare(source, target))


def test_a_source_that_changed_since_is_not_gone_on_with(pair):
    source, target = pair
    with pytest.raises(Broken):
        copy_until(source, target, 2)
    (first, *_) = machines.list_all(source)
    snapshots.append(source, [journal_entry(first.id, 70)], docs_for(first.id))
    with pytest.raises(StoreError, match="changed since. Begin again: --afresh"):
        copying.copy(source, target)
    copying.copy(source, target, afresh=True)
    assert all(one.same for one in copying.compare(source, target))


def test_a_target_with_data_is_left_alone(pair):
    source, target = pair
    machines.ensure(target, "gpu09", "x")
    for afresh in (False, True):
        with pytest.raises(StoreError, match="holds data already"):
            copying.copy(source, target, afresh=afresh)
    assert [row.name for row in machines.list_all(target)] == ["gpu09"]


def test_a_copy_that_went_wrong_is_noticed(pair):
    source, target = pair
    copying.copy(source, target)
    with target.writing():
        target.change("UPDATE block SET data = ? WHERE start_ms = (SELECT min(start_ms) FROM block) AND machine_id = (SELECT min(id) FROM machine)", (b"x",))
        target.change("DELETE FROM event WHERE message = 'number 3'")
    differing = {one.table: one for one in copying.compare(source, target) if not one.same}
    assert set(differing) == {"block", "event"}
    assert differing["block"].source_rows == differing["block"].target_rows
    assert differing["event"].source_rows == differing["event"].target_rows + 1
    assert copying.as_mapping(list(differing.values()))["block"]["same"] is False
