"""What only a server's database has: its errors in words, restarts, connections, partitions, steps without a backup file."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from tests.e2e.processes import eventually
from tests.store.postgres import PASSWORD, USER, Server
from tests.store.samples import START, docs_for, journal_entry, numbers_of

from gpuwatch.model.errors import StoreError, UsageError
from gpuwatch.model.event import Event
from gpuwatch.store import events, machines, migrations, packing, partitions, postgres, snapshots, tables, upkeep
from gpuwatch.store.database import open_store
from gpuwatch.store.hub_lock import HubLock
from gpuwatch.store.postgres_link import Connection, translate
from gpuwatch.store.postgres_words import in_words

NEXT = (*migrations.STEPS, ("ALTER TABLE machine ADD COLUMN rack TEXT", "CREATE INDEX machine_rack ON machine (rack)"))
BROKEN = (*NEXT, ("ALTER TABLE machine ADD COLUMN row_ TEXT", "THIS IS NO SQL"))
DAY = 86400.0


@pytest.fixture
def store(server_store):
    return server_store


@pytest.fixture
def now(monkeypatch):
    """Epoch seconds at which the clock of partitions stands still: no week begins between two lines of a test. To be named before ``store``."""
    at = time.time()
    monkeypatch.setattr(partitions.time, "time", lambda: at)
    return at


@pytest.fixture
def own_server():
    """A server that a test may stop."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


def parts(store, table):
    query = "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = to_regclass(?)"
    return {name for (name,) in store.rows(query, (table,))}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT ?, '?', \"a?b\", '100%', 5 % 2", b"SELECT %s, '?', \"a?b\", '100%%', 5 %% 2"),
        ("it''s ? 'it''s ?'", b"it''s %s 'it''s ?'"),
    ],
)
def test_placeholders(sql, said):
    assert translate(sql) == said


def test_the_models_say_what_the_tables_are(store):
    query = """SELECT column_name, is_nullable = 'NO', data_type FROM information_schema.columns
               WHERE table_schema = current_schema() AND table_name = ?"""
    kinds = {"TEXT": "text", "BIGINT": "bigint", "INT": "integer", "BLOB": "bytea", "DOUBLE": "double precision"}
    for table in tables.TABLES:
        name = table._meta.table_name
        columns = {column: (not_null, kind) for column, not_null, kind in store.rows(query, (name,))}
        fields = table._meta.sorted_fields
        assert columns == {field.column_name: (not field.null, kinds[field.field_type]) for field in fields}, name
    assert store.table_names() == {table._meta.table_name for table in tables.TABLES}


def test_every_large_table_has_the_machine_in_its_key(store):
    """So that a distributed PostgreSQL can spread it by machine."""
    query = """SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
               WHERE indrelid = to_regclass(?) AND indisprimary"""
    small = {"meta", "machine", "hub", "enrolled", "enroll_code", "pushed", "worker_command", "gpu_number"}  # some rows a machine at most
    for name in store.table_names() - small:
        assert ("machine_id",) in store.rows(query, (name,)), name


def test_a_step_that_fails_leaves_the_version_before_it(store, machine):
    now = len(migrations.STEPS)
    with pytest.raises(StoreError):
        migrations.migrate(store, steps=BROKEN)
    assert migrations.version_of(store) == now + 1
    assert store.rows("SELECT 1 FROM information_schema.columns WHERE column_name = 'row_'") == []
    with pytest.raises(StoreError, match=rf"has schema {now + 1}, this program knows {now}: a newer gpuwatch"):
        migrations.migrate(store)


def test_several_that_open_a_new_database_at_once(postgres):
    errors = []
    with postgres.new_url() as url:

        def work(number):
            try:
                store = open_store(url)
                machines.ensure(store, f"gpu{number}", "x")
                store.close()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        store = open_store(url, read_only=True)
        assert len(machines.list_all(store)) == 6
        store.close()


def test_nothing_is_made_where_nothing_should(postgres):
    with postgres.new_url() as url:
        for options in ({"create": False}, {"read_only": True}):
            with pytest.raises(StoreError, match="There is nothing of gpuwatch in the database"):
                open_store(url, **options)


def test_a_database_of_another_program_is_left_alone(postgres):
    with postgres.new_url() as url:
        with psycopg.connect(url, autocommit=True) as raw:
            raw.execute("CREATE TABLE people (name TEXT)")
        with pytest.raises(StoreError, match="another program"):
            open_store(url)


@pytest.mark.parametrize(
    ("change", "meaning"),
    [
        ({"password": "s3cr-wrong"}, "lets nobody in with this user name and password"),
        ({"user": "nobody-s3cr"}, "lets nobody in with this user name and password"),
        ({"database": "none"}, "does not exist. Make it with: createdb"),
        ({"schema": "none"}, "has no schema to work in"),
    ],
)
def test_addresses_that_do_not_work(postgres, change, meaning):
    with pytest.raises(StoreError) as caught:
        open_store(postgres.address(**change))
    assert meaning in str(caught.value)
    assert caught.value.next_step
    for secret in (PASSWORD, "s3cr-wrong"):
        assert secret not in str(caught.value)


def test_a_server_that_is_not_there():
    with pytest.raises(StoreError, match=r"The server of the database postgresql://me@127\.0\.0\.1:1/x does not answer\. Start it"):
        open_store("postgresql://me:s3cret@127.0.0.1:1/x")


def test_a_setting_that_libpq_does_not_know():
    with pytest.raises(UsageError, match="setting that libpq does not know"):
        open_store("postgresql://127.0.0.1/x?colour=red")


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        (psycopg.errors.DiskFull, "the server's disk is full. Free some space"),
        (psycopg.errors.ReadOnlySqlTransaction, "it is read-only"),
        (psycopg.errors.TooManyConnections, "takes no more connections"),
        (psycopg.errors.AdminShutdown, "was stopped"),
        (psycopg.errors.InsufficientPrivilege, "its user lacks a right (no table)"),
        (psycopg.errors.DataCorrupted, "is damaged"),
        (psycopg.errors.SyntaxError, "failed (42601): no table. Please report this"),
    ],
)
def test_words(kind, meaning):
    error = in_words(kind("no\ntable"), "postgresql://db/x")
    assert meaning in str(error)
    assert error.next_step


def test_a_user_without_rights_is_told(postgres, machine, store):
    schema = store.rows("SELECT current_schema()")[0][0]
    postgres.execute("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'reader'", f"GRANT USAGE ON SCHEMA {schema} TO reader")
    try:
        with pytest.raises(StoreError, match="its user lacks a right .*permission denied"):
            open_store(postgres.address(user="reader", password="reader", schema=schema))
    finally:
        postgres.execute(f"REVOKE USAGE ON SCHEMA {schema} FROM reader", "DROP ROLE reader")


def test_text_that_a_server_does_not_take_is_kept_as_near_as_it_can_be(store, machine):
    events.add(store, [Event(1.0, "xid", machine, "h\0ost", "half \ud800 a character")])
    (event,) = events.newest(store, 1)
    assert (event.host, event.message) == ("h\ufffdost", "half ? a character")


def test_a_restart_of_the_server_costs_one_notice(own_server):
    url = own_server.address()
    store = open_store(url)
    machine = machines.ensure(store, "gpu01", "a")
    snapshots.append(store, [journal_entry(machine, 0)], docs_for(machine))
    assert store.is_in_place()
    own_server.restart()
    assert numbers_of(snapshots.read(store, machine)) == [0], "a reader notices nothing"
    assert not store.is_in_place()
    with pytest.raises(StoreError, match="connection to the database .* was lost"):
        snapshots.append(store, [journal_entry(machine, 1)], docs_for(machine))
    again = open_store(url)
    snapshots.append(again, [journal_entry(machine, 1)], docs_for(machine))
    own_server.restart()
    with pytest.raises(StoreError, match=r"was stopped|does not answer"):
        snapshots.append(again, [journal_entry(machine, 2)], docs_for(machine))
    assert not again.is_in_place()
    own_server.stop()
    with pytest.raises(StoreError, match="does not answer"):
        open_store(url)
    own_server.start()
    last = open_store(url)
    assert numbers_of(snapshots.read(last, machine)) == [0, 1]
    for opened in (store, again, last):
        opened.close()


def test_a_connection_that_ends_within_a_transaction_takes_it_along(store, machine, postgres):
    def write():
        with store.writing():
            machines.ensure(store, "gpu02", "b")
            ((pid,),) = store.rows("SELECT pg_backend_pid()")
            postgres.execute(f"SELECT pg_terminate_backend({pid})")
            machines.ensure(store, "gpu03", "c")

    with pytest.raises(StoreError, match=r"was stopped|does not answer"):
        write()
    assert [row.name for row in machines.list_all(store)] == ["gpu01"]
    assert not store.is_in_place()


def test_a_table_that_vanished_is_noticed(store, machine):
    with psycopg.connect(store._url, autocommit=True) as raw:
        raw.execute("DROP TABLE event")
    with pytest.raises(StoreError, match="lacks a table"):
        events.newest(store, 1)
    assert not store.is_in_place()


def test_many_threads_share_few_connections(store, machine):
    errors, seen = [], set()

    def work():
        try:
            for _ in range(20):
                with store.reading():
                    machines.list_all(store)
                    seen.update(store.rows("SELECT pg_backend_pid()"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert 1 <= len(seen) <= postgres.MAX_CONNECTIONS


def test_an_error_does_not_cost_the_connection(store, machine):
    before = store.rows("SELECT pg_backend_pid()")
    with pytest.raises(StoreError):
        store.rows("SELECT nothing FROM nowhere")
    assert store.rows("SELECT pg_backend_pid()") == before


def fill(store, machine, at_seconds, count=3):
    entries = [journal_entry(machine, round((at_seconds - START) / 5) + n) for n in range(count)]
    snapshots.append(store, entries, docs_for(machine))
    while packing.pack_machine(store, machine, count, keep_newest=False):
        pass


def part(start_at):
    start_ms = round(start_at) * 1000
    return f"block_p0_{start_ms}_{start_ms + partitions.WEEK_MS}"


def test_partitions_of_another_length_are_lived_with(now, store, machine, monkeypatch):
    """A later gpuwatch may choose another one."""
    before, now_ms = parts(store, "block"), round(now * 1000)
    with monkeypatch.context() as longer:
        longer.setitem(partitions.SPANS, "block", {0: 3 * partitions.WEEK_MS})
        store.make_room("block", now_ms - 20 * partitions.WEEK_MS, now_ms)
    made = parts(store, "block") - before
    assert len(made) in (6, 7)
    store.make_room("block", now_ms - 20 * partitions.WEEK_MS, now_ms)
    fill(store, machine, now - 10 * 7 * DAY)
    upkeep.prune(store, now, 1e9, 10**12)
    assert len(list(snapshots.read(store, machine))) == 3


def test_partitions_are_made_ahead_and_dropped_whole(now, store, machine):
    week = partitions.WEEK_MS / 1000
    this = round(now // week * week)
    expected = {"block_other", *(part(this + n * week) for n in (0, 1))}
    assert parts(store, "block") == expected
    for ago in (0, 1, 2, 3):
        fill(store, machine, this - ago * week + 60)
    assert store.rows("SELECT count(*) FROM block_other") == [(3,)]
    upkeep.prune(store, now, 1e9, 10**12)
    assert store.rows("SELECT count(*) FROM block_other") == [(0,)]
    assert parts(store, "block") == expected | {part(this - n * week) for n in (1, 2, 3)}
    result = upkeep.prune(store, now, now - this + 1.5 * week, 10**12)
    assert (result.blocks, result.snapshots) == (1, 3)
    assert result.bytes > 0
    assert len(parts(store, "block")) == 5
    assert len(list(snapshots.read(store, machine))) == 9
    result = upkeep.prune(store, now, now - this, 10**12)
    assert (result.blocks, result.snapshots) == (2, 6)
    assert parts(store, "block") == expected


def test_times_of_a_wrong_clock_make_no_partitions(now, store, machine):
    before = parts(store, "block")
    far = round(now) + 10 * 365 * 86400
    snapshots.append(store, [journal_entry(machine, n)._replace(taken_at_ms=at) for n, at in enumerate((5, 6, far * 1000))], docs_for(machine))
    while packing.pack_machine(store, machine, 2, keep_newest=False):
        pass
    upkeep.prune(store, now, 1e10, 10**12)
    assert parts(store, "block") == before
    assert len(list(snapshots.read(store, machine))) == 3
    upkeep.prune(store, now, 30 * DAY, 10**12)
    assert len(list(snapshots.read(store, machine))) == 1


def test_room_is_made_before_a_bulk(now, store, machine):
    now_ms = round(now * 1000)
    before = parts(store, "block")
    store.make_room("block", now_ms - 10 * partitions.WEEK_MS, now_ms + 10**15)
    assert len(parts(store, "block")) == len(before) + 10
    store.make_room("machine", 0, 5)
    store.make_room("block", 0, 5)
    assert len(parts(store, "block")) == len(before) + 10


def test_an_interval_that_reaches_further_keeps_its_partition(now, store, machine):
    span_ms = 4 * partitions.WEEK_MS
    start_ms = (round(now * 1000) // span_ms - 20) * span_ms
    columns = "machine_id, gpu_uuid, start_ms, pid, end_ms, memory_byte_seconds, memory_seconds"
    rows = [(machine, "GPU-1", start_ms + n, n, start_ms + n + length, 1.0, 1.0) for n, length in ((1, 5), (2, 3 * span_ms))]
    with store.writing():
        store.change_many(f"INSERT INTO process_interval ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    store.shrink(10**12)
    assert store.drop_before("process_interval", start_ms + 2 * span_ms).rows == 0
    assert store.drop_before("process_interval", start_ms + 5 * span_ms).rows == 2


def test_space_of_thinned_blocks_is_given_back(now, store, machine, monkeypatch):
    monkeypatch.setattr(partitions, "_SLACK_BYTES", 0)
    week_ms = partitions.WEEK_MS
    start_ms = (round(now * 1000) // week_ms - 3) * week_ms
    store.make_room("block", start_ms, start_ms)
    with store.writing():
        store.change_many(
            """INSERT INTO block (machine_id, start_ms, sequence, end_ms, count, codec, schema, size, data) VALUES (?, ?, 0, ?, 1, 1, 1, 5000, ?)""",
            [(machine, start_ms + n, start_ms + n, os.urandom(5000)) for n in range(500)],
        )
    store.shrink(10**12)
    before = store.sizes().total
    store.shrink(10**12)
    assert store.sizes().total == before, "there is nothing to squeeze"
    with store.writing():
        store.change("UPDATE block SET data = ?, size = 100", (os.urandom(100),))
    store.shrink(10**12)
    assert store.sizes().total < before / 3
    assert store.rows("SELECT count(*), sum(length(data)) FROM block") == [(500, 50_000)]


def test_partitions_do_not_slow_a_question_about_one_time(now, store, machine):
    now_ms = round(now * 1000)
    store.make_room("block", now_ms - 50 * partitions.WEEK_MS, now_ms)
    plan = store.rows("EXPLAIN SELECT data FROM block WHERE machine_id = ? AND start_ms BETWEEN ? AND ?", (machine, now_ms - 1000, now_ms))
    assert sum("block_p0" in line for (line,) in plan) <= 4


def test_one_hub_holds_a_database_until_it_lets_go(postgres):
    with postgres.new_url() as url, postgres.new_url() as other_url:
        first, second, other = HubLock(url), HubLock(url), HubLock(other_url)
        assert first.take()
        assert first.take()
        assert other.take()
        assert not second.take()
        assert second.holder() == f"{os.uname().nodename}:{os.getpid()}"
        assert PASSWORD not in second.label
        first.release()
        first.release()
        assert second.take()
        assert not first.take()
        second.release()
        other.release()
        assert second.holder() == "unknown process"


def test_a_hold_is_over_before_the_server_has_ended_its_session(postgres, monkeypatch):
    with postgres.new_url() as url:
        first, second = HubLock(url), HubLock(url)
        assert first.take()
        monkeypatch.setattr(Connection, "close", lambda connection: None)  # as where the server is slow to end it
        first.release()
        assert second.take()
        second.release()
        assert HubLock(url).holder() == "unknown process"


def test_the_hold_ends_with_a_killed_process(postgres):
    with postgres.new_url() as url:
        code = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).resolve().parents[2] / "src")!r})
from gpuwatch.store.hub_lock import HubLock
lock = HubLock({url!r}); print(lock.take(), flush=True); time.sleep(60)
"""
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        lock = HubLock(url)
        try:
            assert process.stdout.readline() == "True\n"
            assert not lock.take()
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert eventually(lock.take)
        lock.release()


def test_a_hold_that_the_server_lost_is_asked_for_anew(postgres):
    with postgres.new_url() as url:
        first, second = HubLock(url), HubLock(url)
        assert first.take()
        postgres.end_sessions(f"usename = '{USER}' AND application_name LIKE 'gpuwatch hub%'")
        assert second.take()
        assert not first.take()
        second.release()
        assert first.take()
        first.release()


def test_a_hold_on_a_server_that_is_not_there():
    with pytest.raises(StoreError, match="does not answer"):
        HubLock("postgresql://me:s3cret@127.0.0.1:1/x").take()


def test_without_libpq_the_next_step_is_told(tmp_path):
    """As on a machine without it: nothing finds the library."""
    code = """
import ctypes.util
ctypes.util.find_library = lambda name: None
from gpuwatch.model.errors import StoreError
from gpuwatch.store.database import open_store
try:
    open_store("postgresql://me@127.0.0.1:1/x")
except StoreError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.startswith("For a PostgreSQL database this machine lacks the library libpq.so.5. Install it: apt install libpq5"), done
    assert done.stderr == ""
