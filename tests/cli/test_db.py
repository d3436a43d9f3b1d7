"""``gpuwatch db`` as a person uses it: on a file and on a server, beside a hub and without."""

import json
import os
import sqlite3
import stat
import threading

import pytest
from click.testing import CliRunner
from tests.store.samples import START, docs_for, journal_entry, numbers_of

from gpuwatch.cli import db, db_copy
from gpuwatch.model.errors import StoreError, UsageError
from gpuwatch.store import backup, copying, machines, migrations, packing, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.hub_lock import HubLock


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'gpuwatch.db'}"
    else:
        with request.getfixturevalue("postgres").empty_url() as made:
            yield made


@pytest.fixture
def filled(url):
    """The address of a database with 60 snapshots of gpu01."""
    fill(url)
    return url


def fill(url, which=range(60)):
    store = open_store(url)
    machine = machines.ensure(store, "gpu01", "a")
    snapshots.append(store, [journal_entry(machine, number) for number in which], docs_for(machine))
    while packing.pack_machine(store, machine, 10):
        pass
    store.close()


def run(url, *words, answer=None):
    """The command's output; its error is raised as the program's last door gets it."""
    done = CliRunner().invoke(db.command, ["--database", url, *map(str, words)], input=answer)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def told(done):
    """What it printed as JSON; some versions of click mix it with the labels of progress."""
    return json.loads(done.stdout.splitlines()[-1])


def numbers(url):
    store = open_store(url)
    try:
        return [numbers_of(snapshots.read(store, row.id)) for row in machines.list_all(store)]
    finally:
        store.close()


def test_the_group_lists_all_and_imports_none():
    text = run("none.db", "--help").stdout
    for name, (_, line) in db.DB_COMMANDS.items():
        assert f"  {name} " in text
        assert line in text


@pytest.mark.parametrize("name", db.DB_COMMANDS)
def test_every_command_says_what_it_does(name):
    done = run("none.db", name, "--help")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) >= 4


def test_info(filled):
    figures = told(run(filled, "info", "--json"))
    assert (figures["machines"], figures["block_snapshots"], figures["oldest_at"], figures["schema_version"]) == (1, 59, START, len(migrations.STEPS))
    text = run(filled, "info").stdout
    assert "packed snapshots   59" in text
    assert " MB\n" in text
    assert "2026" in text


def test_verify(filled):
    done = run(filled, "verify")
    assert done.exit_code == 0
    assert "No damage was found" in done.stdout
    assert "6 blocks were read" in done.stdout
    store = open_store(filled)
    with store.writing():
        store.change("UPDATE block SET data = ? WHERE start_ms = ?", (b"x", START * 1000))
    store.close()
    done = run(filled, "verify", "--json")
    assert done.exit_code == 1
    (problem,) = told(done)["problems"]
    assert "cannot be read" in problem


def test_backup_and_restore(filled, tmp_path):
    file = tmp_path / "backup.db"
    assert "To bring it back" in run(filled, "backup", file).stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert numbers(str(file)) == [list(range(60))]
    with pytest.raises(StoreError, match="exists already"):
        run(filled, "backup", file)
    fill(filled, range(60, 70))
    if filled.startswith("sqlite"):
        done = run(filled, "restore", file, "--yes")
        kept = done.stdout.split()[-1].rstrip(".")
        assert numbers(kept) == [list(range(70))]
    else:
        with pytest.raises(StoreError, match="holds data already"):
            run(filled, "restore", file, "--yes")
        store = open_store(filled)
        machines.forget(store, machines.find(store, "gpu01").id)
        store.close()
        run(filled, "restore", file, "--yes")
    assert numbers(filled) == [list(range(60))]


def test_two_restores_in_one_second_keep_both_that_were_there(tmp_path, monkeypatch):
    path, file = str(tmp_path / "gpuwatch.db"), tmp_path / "backup.db"
    fill(str(file))
    monkeypatch.setattr(backup.time, "strftime", lambda *_: "20260921T141320")
    kept = []
    for number in (60, 70):
        fill(path, range(60, 60 + number))
        kept.append(run(path, "restore", file, "--yes").stdout.split()[-1].rstrip("."))
        assert numbers(path) == [list(range(60))]
    assert [one.rpartition("-")[2] for one in kept] == ["20260921T141320", "2"]
    assert numbers(kept[0]) == [list(range(60, 120))]
    assert numbers(kept[1]) == [list(range(130))]


def test_restore_where_there_was_nothing(url, tmp_path):
    fill(str(tmp_path / "backup.db"))
    assert run(url, "restore", tmp_path / "backup.db", answer="y\n").exit_code == 0
    assert numbers(url) == [list(range(60))]


def test_restore_asks_and_a_no_changes_nothing(filled, tmp_path):
    run(filled, "backup", tmp_path / "backup.db")
    fill(filled, [60])
    assert run(filled, "restore", tmp_path / "backup.db", answer="n\n").exit_code == 1
    assert numbers(filled) == [list(range(61))]


def test_restore_of_a_damaged_backup_is_refused(tmp_path):
    url, file = str(tmp_path / "gpuwatch.db"), tmp_path / "backup.db"
    fill(url)
    run(url, "backup", file)
    file.write_bytes(file.read_bytes()[:30000] + b"\xff" * 30000 + file.read_bytes()[60000:])
    with pytest.raises(StoreError, match="damaged|cannot be used"):
        run(url, "restore", file, "--yes")
    assert numbers(url) == [list(range(60))]
    assert sorted(os.listdir(tmp_path)) == ["backup.db", "gpuwatch.db"]


def test_restore_replaces_a_damaged_database(tmp_path):
    path, file = tmp_path / "gpuwatch.db", tmp_path / "backup.db"
    fill(str(path))
    run(str(path), "backup", file)
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 30000)
    run(str(path), "restore", file, "--yes")
    assert numbers(str(path)) == [list(range(60))]


def test_restore_waits_for_nobody_who_uses_the_file(tmp_path):
    path, file = tmp_path / "gpuwatch.db", tmp_path / "backup.db"
    fill(str(path))
    run(str(path), "backup", file)
    user = sqlite3.connect(path)
    user.execute("BEGIN")
    user.execute("SELECT count(*) FROM block").fetchall()
    with pytest.raises(StoreError, match="is in use"):
        run(str(path), "restore", file, "--yes")
    user.close()
    assert numbers(str(path)) == [list(range(60))]


def test_a_backup_beside_a_writer_is_one_moment(filled, tmp_path):
    done, errors, store = threading.Event(), [], open_store(filled)
    machine = machines.find(store, "gpu01").id

    def write():
        number = 60
        try:
            while not done.is_set():
                snapshots.append(store, [journal_entry(machine, number)], docs_for(machine))
                number += 1
                packing.pack_machine(store, machine, 10)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            run(filled, "backup", tmp_path / f"{number}.db")
    finally:
        done.set()
        thread.join()
        store.close()
    assert errors == []
    for number in range(3):
        (found,) = numbers(str(tmp_path / f"{number}.db"))
        assert found == list(range(len(found)))
        assert len(found) >= 60
        assert run(str(tmp_path / f"{number}.db"), "verify").exit_code == 0


def test_a_full_disk_is_told_before_a_backup(filled, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(StoreError, match="GB are needed"):
        run(filled, "backup", tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def test_verify_prints_some_and_tells_of_the_rest(url, monkeypatch):
    fill(url, range(400))
    store = open_store(url)
    with store.writing():
        store.change("UPDATE block SET data = ?", (b"x",))
    store.close()
    done = run(url, "verify")
    assert done.exit_code == 1
    assert "... and 20 more; --json lists them all." in done.stdout
    assert len(told(run(url, "verify", "--json"))["problems"]) == 40


def test_prune_thins_as_the_hub_does(filled):
    result = told(run(filled, "prune", "--older-than", "100000d", "--json"))
    assert (result["snapshots"], result["digested"], result["thinned"]) == (0, 6, 6)
    store = open_store(filled)
    assert store.rows("SELECT count(*), sum(count) FROM block") == [(1, 6)], "one of each minute"
    store.close()


def test_prune(filled):
    assert "Deleted: 60 snapshots" in run(filled, "prune", "--older-than", "1s").stdout
    assert numbers(filled) == [[]]


def test_migrate(tmp_path, monkeypatch):
    url = str(tmp_path / "gpuwatch.db")
    fill(url)
    now = len(migrations.STEPS)
    assert f"has schema {now} already" in run(url, "migrate").stdout
    steps = (*migrations.STEPS, ("ALTER TABLE machine ADD COLUMN rack TEXT",), ("ALTER TABLE machine ADD COLUMN row_ TEXT",))
    monkeypatch.setattr(migrations, "STEPS", steps)
    monkeypatch.setattr(migrations.migrate, "__kwdefaults__", {**migrations.migrate.__kwdefaults__, "steps": steps})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(StoreError, match="Before migrating .* a copy is made: that needs"):
        run(url, "migrate")
    monkeypatch.undo()
    monkeypatch.setattr(migrations, "STEPS", steps)
    monkeypatch.setattr(migrations.migrate, "__kwdefaults__", {**migrations.migrate.__kwdefaults__, "steps": steps})
    with pytest.raises(StoreError, match="gpuwatch db migrate"):
        run(url, "info")
    text = run(url, "migrate").stdout
    assert f"has schema {now + 2} now, it had {now}. The copy of before is {tmp_path}/gpuwatch.db.schema{now}-" in text


@pytest.mark.parametrize("words", [("migrate",), ("restore", "backup.db", "--yes"), ("copy", "--to", "other.db"), ("copy", "--from", "other.db", "--to", "")])
def test_what_needs_the_database_alone_says_so_while_a_hub_has_it(filled, tmp_path, words):
    fill(str(tmp_path / "backup.db"))
    fill(str(tmp_path / "other.db"))
    lock = HubLock(filled)
    assert lock.take()
    try:
        with pytest.raises(StoreError, match="uses the database .* Stop it first"):
            run(filled, *(filled if word == "" else str(tmp_path / word) if word.endswith(".db") else word for word in words))
    finally:
        lock.release()
    assert numbers(filled) == [list(range(60))]


def test_copy_there_and_back(tmp_path, postgres):
    here, back = str(tmp_path / "here.db"), str(tmp_path / "back.db")
    fill(here)
    with postgres.new_url() as there:
        done = run(here, "copy", "--to", there)
        assert "Copied and compared:" in done.stdout
        assert "Next: gpuwatch hub --database postgresql://gpuwatch@" in done.stdout
        assert "s3cret" not in done.output
        result = told(run("none.db", "copy", "--from", there, "--to", f"sqlite:///{back}", "--json"))
        assert result["same"] is True
        assert result["tables"]["block"] == {"source_rows": 6, "target_rows": 6, "same": True}
        with pytest.raises(StoreError, match="holds data already"):
            run(here, "copy", "--to", there)
    assert numbers(back) == numbers(here) == [list(range(60))]
    (tmp_path / "link.db").symlink_to(here)
    for same in (here, f"sqlite:///{here}", f"sqlite:///{tmp_path / 'link.db'}"):
        with pytest.raises(UsageError, match="into itself"):
            run(here, "copy", "--to", same)


def test_a_copy_that_was_killed_goes_on(tmp_path, postgres, monkeypatch):
    here = str(tmp_path / "here.db")
    fill(here)
    calls = []

    def load(self, *arguments):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with postgres.new_url() as there:
        kind = type(open_store(there))
        real = kind.load
        monkeypatch.setattr(kind, "load", load)
        done = CliRunner().invoke(db.command, ["--database", here, "copy", "--to", there])
        assert done.exit_code != 0
        store = open_store(there)
        assert store.rows("SELECT count(*) FROM meta WHERE key = ?", (copying.MARK,)) == [(1,)]
        store.close()
        assert "Copied and compared" in run(here, "copy", "--to", there).stdout
        assert numbers(there) == [list(range(60))]


def test_a_copy_that_differs_is_an_error(tmp_path, monkeypatch):
    here = str(tmp_path / "here.db")
    fill(here)
    changed = [copying.Comparison("block", 5, 4, "a", "b")]
    monkeypatch.setattr(copying, "compare", lambda *arguments, **options: changed)
    with pytest.raises(StoreError, match="The tables block differ after the copy"):
        run(here, "copy", "--to", tmp_path / "there.db")
    assert db_copy.copy.name == "copy"
