import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from tests.store.samples import docs_for, journal_entry, numbers_of

from gpuwatch.model.errors import StoreError
from gpuwatch.store import machines, migrations, snapshots, tables
from gpuwatch.store.database import open_store
from gpuwatch.store.sqlite import SqliteStore

NEXT = (*migrations.STEPS, ("ALTER TABLE machine ADD COLUMN rack TEXT", "CREATE INDEX machine_rack ON machine (rack)"))
BROKEN = (*NEXT, ("ALTER TABLE machine ADD COLUMN row TEXT", "THIS IS NO SQL"))
NOW = len(migrations.STEPS)
VERSION_1 = Path(__file__).with_name("version_1.sql")


@pytest.fixture
def store(file_store):
    """What only files have is tried here; a server's part is in test_postgres."""
    return file_store


def backups(store):
    folder = Path(store.path).parent
    return sorted(path for path in folder.iterdir() if path.name.endswith(".backup"))


def test_the_models_say_what_the_tables_are(store):
    for table in tables.TABLES:
        name = table._meta.table_name
        columns = {row[1]: (bool(row[3]), bool(row[5])) for row in store.rows(f"PRAGMA table_info({name})")}
        assert set(columns) == {field.column_name for field in table._meta.sorted_fields}, name
        for field in table._meta.sorted_fields:
            not_null, in_key = columns[field.column_name]
            assert not_null or in_key or field.null, f"{name}.{field.column_name}"
            assert not (not_null and field.null), f"{name}.{field.column_name}"
    known = {name for (name,) in store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert known == {table._meta.table_name for table in tables.TABLES}


def test_a_new_database_needs_no_backup(store):
    assert store.backup is None
    assert backups(store) == []
    assert migrations.version_of(store) == len(migrations.STEPS)


def test_migrating_makes_a_backup_first_and_loses_nothing(store, machine):
    snapshots.append(store, [journal_entry(machine, number) for number in range(5)], docs_for(machine))
    backup = migrations.migrate(store, steps=NEXT)
    assert [str(path) for path in backups(store)] == [backup]
    assert stat.S_IMODE(os.stat(backup).st_mode) == 0o600
    assert migrations.version_of(store) == NOW + 1
    assert store.rows("SELECT rack FROM machine") == [(None,)]
    assert numbers_of(snapshots.read(store, machine)) == list(range(5))
    old = open_store(backup)
    assert numbers_of(snapshots.read(old, machine)) == list(range(5))
    old.close()
    assert migrations.migrate(store, steps=NEXT) is None


def test_a_step_that_fails_leaves_the_version_before_it(store, machine):
    with pytest.raises(StoreError):
        migrations.migrate(store, steps=BROKEN)
    assert migrations.version_of(store) == NOW + 1
    assert "row" not in [column[1] for column in store.rows("PRAGMA table_info(machine)")]
    assert len(machines.list_all(store)) == 1


def test_a_newer_database_is_refused_and_left_alone(store, machine):
    migrations.migrate(store, steps=NEXT)
    store.close()
    before = Path(store.path).read_bytes()
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreError, match=rf"has schema {NOW + 1}, this program knows {NOW}: a newer gpuwatch wrote it\. Use that gpuwatch"):
            open_store(store.path, **options)
    assert Path(store.path).read_bytes() == before


def test_an_older_one_is_not_migrated_by_a_reader(store, machine):
    reader = open_store(store.path, read_only=True)
    with pytest.raises(StoreError, match="Start the hub once"):
        migrations.migrate(reader, steps=NEXT)
    reader.close()
    assert backups(store) == []


def test_no_backup_no_migration(store, machine, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(migrations.os, "open", refuse)
    with pytest.raises(StoreError, match="backup .* cannot be written"):
        migrations.migrate(store, steps=NEXT)
    assert migrations.version_of(store) == NOW


def test_several_that_open_a_new_database_at_once(tmp_path):
    path, errors = str(tmp_path / "a.db"), []

    def work(number):
        try:
            store = open_store(path)
            machines.ensure(store, f"gpu{number}", "x")
            store.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = open_store(path)
    assert len(machines.list_all(store)) == 8
    store.close()


def test_a_database_of_version_1_opens(tmp_path):
    """The file was dumped from a database that version 1 wrote; it must open in every later version."""
    path = tmp_path / "old.db"
    raw = sqlite3.connect(path)
    raw.executescript(VERSION_1.read_text())
    raw.close()
    store = open_store(str(path))
    (machine,) = machines.list_all(store)
    assert (machine.name, machine.ip_address) == ("gpu01", "10.0.0.1")
    assert numbers_of(snapshots.read(store, machine.id)) == list(range(25))
    assert snapshots.shape(store, machine.id, "a" * 32)["facts"]["hostname"] == "gpu01"
    store.close()


def test_a_path_can_be_opened_without_migrating(tmp_path):
    store = SqliteStore(str(tmp_path / "a.db"))
    assert migrations.version_of(store) == 0
    store.close()


def test_several_that_migrate_at_once_make_one_backup(tmp_path):
    path, errors = tmp_path / "old.db", []
    raw = sqlite3.connect(path)
    raw.executescript(VERSION_1.read_text())
    raw.close()

    def work():
        try:
            open_store(str(path)).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(file.name.partition(".schema")[0] for file in tmp_path.iterdir() if "backup" in file.name) == ["old.db"]
