"""kill -9 during pruning, migration, backup and restore: the file opens, is sound, has all that it must, and the same work ends it."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.store.gpus import UUIDS
from tests.store.samples import numbers_of
from tests.store.test_digests import fill, pack_all
from tests.store.test_migrations import VERSION_1

from gpuwatch.model.errors import StoreError
from gpuwatch.store import backup, machines, migrations, partitions, rollups, snapshots, upkeep, usage
from gpuwatch.store.database import open_store, unprepared

COUNT = 1441
"""Two hours."""


@contextmanager
def turns(work, path):
    """Runs ``tests.store.crash_upkeep``; what it gives lets the work go until it is killed, and tells whether it was."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.store.crash_upkeep", work, str(path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def turn(line):
        child.stdin.write(line.encode() + b"\n")
        child.stdin.flush()
        said = child.stdout.readline().decode().strip()
        if said not in ("killed", "ended 0"):
            child.kill()
            pytest.fail(said + child.stderr.read().decode())
        return said == "killed"

    try:
        yield turn
    finally:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Two hours in blocks of a minute, digested; some rollups in chunks, some in parts."""
    path = tmp_path_factory.mktemp("full") / "full.db"
    store = open_store(str(path))
    machine = machines.ensure(store, "gpu01", "10.0.0.1", now=1.0)
    fill(store, machine, range(COUNT))
    pack_all(store, machine, 12)
    store.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert raw.execute("SELECT count(*) FROM block").fetchone() == (120,)
        assert raw.execute("SELECT count(*) FROM rollup_part").fetchone()[0] > 0
    return path


@pytest.fixture
def path(full, tmp_path):
    return Path(shutil.copy(full, tmp_path / "gpuwatch.db"))


def tables(path):
    """All that is kept, by table; not the counter by which writers hear of each other's work."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        where = "WHERE key != 'journal_epoch'"
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: sorted(map(repr, raw.execute(f"SELECT * FROM {name} {where if name == 'meta' else ''}"))) for name in names}


def sums(store, machine):
    """What pruning must never touch: rollups of the longer tiers, and usage."""
    subjects = [(machine, ""), *((machine, uuid) for uuid in UUIDS), ("", "")]
    read = [rollups.read(store, *subject, tier, 0, 1e11) for subject in subjects for tier in (900, 3600)]
    return [(chunk.times, chunk.covered, chunk.columns) for chunk in read], usage.gpu_days(store, "0", "9"), usage.user_days(store, "0", "9")


def looked_at(path):
    """(times of the snapshots, their contents, sums) of a database that was just left alone by a killed process."""
    store = open_store(str(path))
    try:
        assert upkeep.check(store, thorough=True) == []
        (machine,) = machines.list_all(store)
        entries = list(snapshots.read(store, machine.id))
        times = [entry.taken_at_ms for entry in entries]
        assert times == sorted(set(times)), "nothing is there twice"
        return times, {entry.taken_at_ms: entry for entry in entries}, sums(store, machine.id)
    finally:
        store.close()


def somewhere(dice, kills):
    """Mostly soon; later also behind the longest transaction: on a busy machine no time that is short enough to kill often is long enough to pass it."""
    kind = dice.random()
    if kind < 0.2:
        return f"after {dice.random() * 0.02:.4f}"
    return f"at {dice.randrange(16, 80) if kills > 25 and kind > 0.85 else dice.randrange(1, 16)}"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pruning_that_is_killed_loses_nothing_and_is_ended_by_the_next(path, full, tmp_path, seed):
    whole = Path(shutil.copy(full, tmp_path / "whole.db"))
    with turns("prune", whole) as turn:
        assert not turn("never")
    wanted, contents, derived = looked_at(whole)
    dice, kills, before = random.Random(seed), 0, looked_at(path)
    assert derived == before[2]
    assert len(wanted) < len(before[0]) / 3
    with turns("prune", path) as turn:
        for _ in range(10):  # again where the machine stood still, so that a kill after a time came when all was done
            shutil.copy(full, path)
            while turn(somewhere(dice, kills)):
                kills += 1
                times, entries, now_derived = looked_at(path)
                assert now_derived == derived
                assert set(wanted) <= set(times) <= set(before[0])
                assert all(entries[at] == before[1][at] for at in times)
                if kills == 20:
                    there_and_back(path, tmp_path)
            assert looked_at(path)[:2] == (wanted, contents)
            if kills > 20:
                break
    assert kills > 20
    found, undisturbed = tables(path), tables(whole)
    assert set(undisturbed.pop("shape")) <= set(found.pop("shape")), "shapes that nobody needs go with the next blocks"
    assert found == undisturbed


@pytest.fixture
def short_partitions(monkeypatch):
    """On a server retention takes whole partitions: ten minutes instead of a week."""
    monkeypatch.setitem(partitions.SPANS, "block", {0: 600_000})


def test_what_is_left_of_killed_prunings_is_the_newest(url, short_partitions):
    store = open_store(url)
    machine = machines.ensure(store, "gpu01", "10.0.0.1", now=1.0)
    fill(store, machine, range(721, COUNT))
    pack_all(store, machine, 12)
    store.close()
    dice, before, kills = random.Random(5), looked_at(url), 0
    times = before[0]
    with turns("prune_size", url) as turn:
        while kills < 15:
            kills += turn(f"at {dice.randrange(1, 12)}")
            left, entries, derived = looked_at(url)
            assert derived == before[2]
            assert set(left) <= set(times)
            assert all(entries[at] == before[1][at] for at in left)
            minutes = {at // 60_000 for at in left}
            assert minutes == {at // 60_000 for at in before[0] if at >= min(left) // 60_000 * 60_000}, "the oldest went, no other"
            times = left
            if len(times) < 100:
                break
    assert kills
    assert times[-1] == before[0][-1]


def there_and_back(path, folder):
    """A backup of a half pruned database, restored, is the same."""
    store = open_store(str(path), read_only=True)
    backup.write(store, str(folder / "half.backup"))
    store.close()
    shutil.copy(folder / "half.backup", folder / "again.backup")
    assert backup.restore(str(folder / "half.backup"), str(folder / "other.db")) is None
    assert tables(folder / "other.db") == tables(path)


@pytest.fixture
def old(tmp_path):
    """A database of schema 1 with 25 snapshots, in blocks and waiting."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(VERSION_1.read_text())
    return path


def schema(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        version = int(raw.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()[0])
        return version, sorted(row for row in raw.execute("SELECT type, name, sql FROM sqlite_master") if row[1] != "sqlite_sequence")


def steps_of(old, folder):
    """The schema of each version, by version."""
    found = dict([schema(old)])
    for version in range(2, len(migrations.STEPS) + 1):
        copy = shutil.copy(old, folder / f"{version}.db")
        store = open_store_at(copy, version)
        store.close()
        found.update([schema(copy)])
    return found


def open_store_at(path, version):
    store = unprepared(str(path), create=False)
    migrations.migrate(store, steps=migrations.STEPS[:version])
    return store


def sound_backups(folder, known):
    """Every file that is called a backup is a whole one, of a schema that was."""
    found = [file for file in folder.iterdir() if file.name.endswith(".backup")]
    for file in found:
        assert tables(file)["block"]
        assert schema(file) == (schema(file)[0], known[schema(file)[0]])
    return found


def test_a_migration_that_is_killed_anywhere_is_ended_by_the_next(old, tmp_path):
    known = steps_of(old, tmp_path)
    newest, contents = len(migrations.STEPS), tables(old)
    seen, number, folder = set(), 0, tmp_path / "here"
    path = folder / "gpuwatch.db"
    with turns("migrate", path) as turn:
        while True:
            number += 1
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            shutil.copy(old, path)
            if not turn(f"at {number}"):
                break
            version, found = schema(path)
            seen.add(version)
            assert found == known[version], "all of a step, or nothing"
            there = tables(path)
            assert all(there[name] == contents[name] for name in ("machine", "shape", "snapshot_journal", "event"))
            assert sound_backups(folder, known) or version == 1
            assert not turn("never")
            assert schema(path) == (newest, known[newest])
            assert sound_backups(folder, known)
            assert not [file.name for file in folder.iterdir() if "unfinished" in file.name]
            store = open_store(str(path))
            (machine,) = machines.list_all(store)
            assert numbers_of(snapshots.read(store, machine.id)) == list(range(25))
            assert upkeep.check(store, thorough=True) == []
            store.close()
    assert number > 20
    assert seen == set(range(1, newest + 1))


def test_a_killed_migration_goes_back_to_its_backup(old, tmp_path):
    with turns("migrate", old) as turn:
        assert turn("at 20")
    (kept,) = [file for file in tmp_path.iterdir() if file.name.endswith(".backup")]
    with pytest.raises(StoreError, match="has schema 1, older than .* gpuwatch db migrate"):
        backup.restore(str(kept), str(old))
    open_store(str(kept)).close()
    assert backup.restore(str(kept), str(old)) is not None
    assert tables(old) == tables(kept)
    store = open_store(str(old))
    (machine,) = machines.list_all(store)
    assert numbers_of(snapshots.read(store, machine.id)) == list(range(25))
    store.close()


def test_a_backup_that_is_killed_is_whole_or_not_there(path):
    before, copy = tables(path), Path(f"{path}.copy")
    with turns("write_backup", path) as turn:
        for line in [f"at {number}" for number in range(1, 9)] + [f"after {number / 1000}" for number in range(8)]:
            killed = turn(line)
            assert tables(path) == before
            assert killed or copy.exists()
            if copy.exists():
                assert tables(copy) == before
                copy.unlink()
        assert not turn("never")
    assert tables(copy) == before
    assert sorted(file.name for file in path.parent.iterdir() if "unfinished" in file.name) == []


def test_a_restore_that_is_killed_leaves_the_old_or_the_new(path, tmp_path):
    old = tables(path)
    with turns("write_backup", path) as turn:
        assert not turn("never")
    with turns("prune", path) as turn:
        assert turn("at 40")
    pruned, kept = tables(path), tmp_path / "pruned.db"
    store = open_store(str(path), read_only=True)
    backup.write(store, str(kept))
    store.close()
    assert pruned != old
    seen = []
    with turns("restore", path) as turn:
        for line in [f"at {number}" for number in range(1, 16)] + [f"after {number / 500}" for number in range(8)]:
            killed = turn(line)
            found = tables(path)
            assert found in (old, pruned)
            seen.append((killed, found == old))
            for aside in tmp_path.glob("gpuwatch.db.before-restore-*"):
                assert tables(aside) == pruned
                if found == old:
                    aside.unlink()
            if found == old:
                shutil.copy(kept, path)
        assert not turn("never")
    assert tables(path) == old
    assert not list(tmp_path.glob("*.restored*"))
    assert {(True, False), (True, True)} <= set(seen)
