"""Opening: addresses, rights, damage, newer and foreign files; one writer; readers on many threads."""

import os
import sqlite3
import stat
import threading

import pytest
from tests.store.samples import docs_for, journal_entry, numbers_of

from gpuwatch.model.errors import StoreError, UsageError
from gpuwatch.store import database, machines, snapshots
from gpuwatch.store.address import is_postgres, label_of, path_of
from gpuwatch.store.database import open_store
from gpuwatch.store.sqlite import PAGE_BYTES, SqliteStore


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///a.db", "a.db"), ("sqlite:////var/a b.db", "/var/a b.db"), ("a.db", "a.db"), ("/var/a?b#c.db", "/var/a?b#c.db")],
)
def test_addresses(url, path):
    assert path_of(url) == path


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite://host/a.db", ":memory:", "sqlite:///:memory:", "a\0b", "mysql://u:secret@h/db"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(UsageError) as caught:
        path_of(url)
    assert "sqlite:///FILE" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("postgresql://me:s3cret@db.lab:5432/gpuwatch", "postgresql://me@db.lab:5432/gpuwatch"),
        ("postgres://db/gpuwatch?sslmode=require&password=s3cret&sslpassword=s3cret", "postgresql://db/gpuwatch"),
        ("postgresql://me:s3cret@a:5432,b:5433/gpuwatch?target_session_attrs=read-write", "postgresql://me@a:5432,b:5433/gpuwatch"),
        ("postgresql:///gpuwatch?host=/run/postgresql", "postgresql:///gpuwatch?host=/run/postgresql"),
        ("postgresql://[::1]/gpuwatch", "postgresql://[::1]/gpuwatch"),
        ("sqlite:///a.db", "a.db"),
    ],
)
def test_how_messages_name_a_database(url, label):
    assert label_of(url) == label
    assert is_postgres(url) == label.startswith("postgresql:")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cr/et@host/db", "postgresql://me:12/s3cr@host/db", "postgresql://me:s3cr#t@host/db", "postgresql://me:s3cr%zz@127.0.0.1/db",
        "postgresql://127.0.0.1:1/db?user=me&password=s3cr%2Fet", "postgresql://me:s3cr@127.0.0.1:1/db", "postgresql://127.0.0.1/db?s3cr=x",
        "sqlite://me:s3cr@t@/x", "x://a:s3cr\net@h",
    ],
)
def test_no_password_in_an_error(url):
    with pytest.raises((UsageError, StoreError)) as caught:
        open_store(url)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize("name", ["plain.db", "with space.db", "per%20cent.db", "question?.db", "hash#.db", "ümlaut.db"])
def test_any_file_name_works_for_writing_and_reading(tmp_path, name):
    store = open_store(f"sqlite:///{tmp_path / name}")
    machine = machines.ensure(store, "gpu01", "a")
    reader = open_store(str(tmp_path / name), read_only=True)
    assert [row.id for row in machines.list_all(reader)] == [machine]
    reader.close()
    store.close()
    assert name in os.listdir(tmp_path)


def test_the_file_is_for_the_owner_only(file_store):
    assert stat.S_IMODE(os.stat(file_store.path).st_mode) == 0o600


def test_the_file_is_set_up_for_many_small_writes(file_store):
    pragmas = {"journal_mode": "wal", "synchronous": 1, "page_size": PAGE_BYTES, "auto_vacuum": 2}
    assert {name: file_store.rows(f"PRAGMA {name}")[0][0] for name in pragmas} == pragmas


def test_no_file_and_not_to_be_made(tmp_path):
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreError, match="There is no database"):
            open_store(str(tmp_path / "none.db"), **options)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_or_in_place_of_the_file(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        open_store(str(tmp_path / "none" / "a.db"))
    with pytest.raises(StoreError, match="not a file"):
        open_store(str(tmp_path))


@pytest.mark.parametrize("content", [b"hello", b"\0" * 5000, b"SQLite format 3\0" + b"garbage" * 1000])
def test_a_file_that_is_no_database_is_left_alone(tmp_path, content):
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a database"):
        open_store(str(path))
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = str(tmp_path / "a.db")
    for statement in ("CREATE TABLE people (name TEXT)", "CREATE TABLE meta (key TEXT, value TEXT)", "CREATE TABLE machine (id TEXT)"):
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.close()
        with pytest.raises(StoreError, match="another program"):
            open_store(path)


def test_an_empty_file_becomes_a_database(tmp_path):
    (tmp_path / "a.db").touch()
    store = open_store(str(tmp_path / "a.db"))
    assert machines.list_all(store) == []
    store.close()


def test_a_file_that_another_one_changes_while_it_is_opened_is_waited_for(tmp_path, monkeypatch):
    """As a new one that several open at once: to go to WAL mode SQLite does not wait for others, as it does elsewhere, but fails at once."""
    path, tries = str(tmp_path / "a.db"), []
    open_store(path).close()
    other, real = sqlite3.connect(path, isolation_level=None), SqliteStore._execute
    other.executescript("PRAGMA journal_mode = DELETE; BEGIN IMMEDIATE")
    with monkeypatch.context() as patch:
        patch.setattr(database, "BUSY_SECONDS", 0.1)
        with pytest.raises(StoreError, match="in use by another writer"):
            open_store(path)

    def watched(store, query, *parameters):
        if "journal_mode" in query:
            tries.append(query)
            if len(tries) == 3:
                other.execute("ROLLBACK")
        return real(store, query, *parameters)

    monkeypatch.setattr(SqliteStore, "_execute", watched)
    open_store(path).close()
    assert len(tries) == 3
    other.close()


def test_damage_inside_is_told_in_words_and_other_tables_live(file_store, machine):
    store = file_store
    snapshots.append(store, [journal_entry(machine, number) for number in range(200)], docs_for(machine))
    ((root,),) = store.rows("SELECT rootpage FROM sqlite_master WHERE name = 'snapshot_journal'")
    store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    with open(store.path, "r+b") as file:
        file.seek((root - 1) * PAGE_BYTES)
        file.write(b"\xff" * 200)
    damaged = open_store(store.path)
    with pytest.raises(StoreError, match=r"is damaged\. Move it away and restart, or restore the backup"):
        list(snapshots.read(damaged, machine))
    assert [row.id for row in machines.list_all(damaged)] == [machine]
    damaged.close()


def test_everything_or_nothing(store):
    def fail():
        with store.writing():
            machines.ensure(store, "gpu01", "a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert machines.list_all(store) == []
    machines.ensure(store, "gpu01", "a")
    assert len(machines.list_all(store)) == 1


def test_functions_after_the_commit_run_only_then(store):
    called = []

    def fail():
        with store.writing():
            store.when_committed(lambda: called.append("never"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.writing():
        store.when_committed(lambda: called.append("once"))
        assert called == []
    assert called == ["once"]


def test_a_change_outside_a_transaction_is_a_mistake(store):
    with pytest.raises(RuntimeError):
        store.change("DELETE FROM machine")


def test_a_reader_sees_one_moment(store, machine):
    with store.reading():
        before = machines.list_all(store)
        writer = threading.Thread(target=machines.ensure, args=(store, "gpu02", "b"))
        writer.start()
        writer.join()
        assert machines.list_all(store) == before
    assert len(machines.list_all(store)) == 2


def test_another_process_that_holds_the_database_too_long_is_named(store, url, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    impatient = open_store(url, create=False)
    with store.writing():
        with pytest.raises(StoreError, match="in use by another writer"):
            machines.ensure(impatient, "gpu01", "a")
    machines.ensure(impatient, "gpu01", "a")
    impatient.close()


def test_a_writer_of_this_process_waits_its_turn(store, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    errors = []

    def write():
        try:
            machines.ensure(store, "gpu01", "a")
        except StoreError as error:
            errors.append(str(error))

    with store.writing():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(errors) == 1
    assert "another part of this program" in errors[0]
    write()
    assert len(errors) == 1


def test_many_threads_write_and_read(store):
    ids = list(machines.ensure_all(store, {f"gpu{n}": "x" for n in range(8)}).values())
    errors = []

    def work(machine_id):
        try:
            for number in range(30):
                snapshots.append(store, [journal_entry(machine_id, number)], docs_for(machine_id))
                assert numbers_of(snapshots.read(store, machine_id)) == list(range(number + 1))
                if number % 10 == 9:
                    snapshots.pack_due(store, 0.0, 1, per_block=5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(machine_id,)) for machine_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_connections_of_ended_threads_are_closed(file_store):
    store = file_store
    for _ in range(20):
        thread = threading.Thread(target=machines.list_all, args=(store,))
        thread.start()
        thread.join()
    machines.list_all(store)
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
    assert sum(name == store.path for name in open_files) <= 3


def test_after_close_nothing_is_open_and_errors_are_words(tmp_path):
    store = open_store(str(tmp_path / "a.db"))
    machines.ensure(store, "gpu01", "a")
    store.close()
    assert os.listdir(tmp_path) == ["a.db"]


def test_read_only_reads_beside_a_writer_and_never_writes(store, url, machine):
    reader = open_store(url, read_only=True)
    snapshots.append(store, [journal_entry(machine, 1)], docs_for(machine))
    assert numbers_of(snapshots.read(reader, machine)) == [1]
    with pytest.raises(StoreError, match="for reading only"):
        machines.ensure(reader, "gpu02", "b")
    reader.close()


def test_two_stores_at_once_do_not_mix(tmp_path):
    first, second = (open_store(str(tmp_path / name)) for name in ("a.db", "b.db"))
    machines.ensure(first, "one", "a")
    machines.ensure(second, "two", "b")
    assert ([row.name for row in machines.list_all(first)], [row.name for row in machines.list_all(second)]) == (["one"], ["two"])
    first.close()
    second.close()


def test_a_full_database_is_told_and_goes_on_when_there_is_room(file_store, machine):
    store = file_store
    snapshots.append(store, [journal_entry(machine, 0)], docs_for(machine))
    ((pages,),) = store.rows("PRAGMA page_count")
    store.rows(f"PRAGMA max_page_count = {pages}")
    bulk = [journal_entry(machine, number) for number in range(1, 500)]
    with pytest.raises(StoreError, match="the disk is full"):
        snapshots.append(store, bulk, docs_for(machine))
    assert numbers_of(snapshots.read(store, machine)) == [0]
    store.rows("PRAGMA max_page_count = 1000000")
    snapshots.append(store, bulk, docs_for(machine))
    assert numbers_of(snapshots.read(store, machine)) == list(range(500))


def test_store_can_be_made_without_opening_a_file(tmp_path):
    SqliteStore(str(tmp_path / "none.db")).close()
    assert os.listdir(tmp_path) == []


def test_long_work_lets_others_have_their_turn(store):
    steps, waits, done = [0], [], threading.Event()

    def work():
        while not done.is_set():
            with store.writing():
                store.change("DELETE FROM event")
                threading.Event().wait(0.01)  # the longer a step, the less it matters how fast a busy machine wakes who waits
                steps[0] += 1
            store.rest()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(30):
            before = steps[0]
            machines.ensure(store, f"gpu{number}", "x")
            waits.append(steps[0] - before)
    finally:
        done.set()
        thread.join()
    assert sorted(waits)[15] < 20
