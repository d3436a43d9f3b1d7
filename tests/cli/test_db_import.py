"""``gpuwatch db import`` and ``assign`` as a person uses them."""

import bz2
import gzip
import lzma
import pickle
import sqlite3

import pytest
from click.testing import CliRunner

from gpuwatch.cli.db import DB_COMMANDS, command
from gpuwatch.cli.db_import import assign_command, import_command
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.store import machines, rollups, usage
from gpuwatch.store.database import open_store

HEAD = "timestamp, index, name, utilization.gpu [%], memory.used [MiB]"
LINES = [f"2026/11/20 03:{number // 60:02d}:{number % 60:02d}.000, {gpu}, NVIDIA A100, {gpu * 50} %, {gpu * 1000} MiB" for number in range(0, 600, 5) for gpu in (0, 1)]


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "gpuwatch.db"
    open_store(str(path)).close()

    class Db:
        url = f"sqlite:///{path}"

        def run(self, command, *words, answer=None):
            return CliRunner().invoke(command, [str(word) for word in words], obj=(self.url, None), input=answer)

        def store(self):
            return open_store(self.url)

    return Db()


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "node1.csv"
    path.write_text("\n".join([HEAD, *LINES]) + "\n")
    return path


def good(result):
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result.output


def names(db):
    store = db.store()
    try:
        return [machine.name for machine in machines.list_all(store)]
    finally:
        store.close()


def test_a_dry_run_says_what_it_would_read_and_stores_nothing(db, tmp_path):
    path = tmp_path / "node1.csv"
    path.write_text("\n".join([HEAD, *LINES[:5], "GPU is lost", *LINES[5:], "2026/11/20 03:59:59.000, 0, NVIDIA A100, some %, 5 MiB"]))
    output = good(db.run(import_command, path, "--dry-run", "--zone", "Europe/Berlin"))
    assert "node1.csv: nvidia-smi. Line 1 names" in output
    assert "240 rows, 2 lines not understood, 0 users, times in Europe/Berlin" in output
    assert "index 1" in output
    assert "2026-11-20 03:00:00" in output
    assert "2026-11-20 03:09:55" in output
    assert "line 7: has 1 columns, the head has 5: 'GPU is lost'" in output
    assert "line 243: utilization.gpu: 'some %' is not a number" in output
    assert "Nothing was stored" in output
    assert names(db) == []


def test_a_dry_run_needs_no_database(log, tmp_path):
    output = good(CliRunner().invoke(import_command, [str(log), "--dry-run"], obj=(f"sqlite:///{tmp_path}/none.db", None)))
    assert "240 rows" in output
    assert not (tmp_path / "none.db").exists()


def test_an_import_and_giving_it_to_a_host(db, log):
    output = good(db.run(import_command, log, "--zone", "UTC"))
    assert "Stored as import:node1." in output
    assert names(db) == ["import:node1"]
    refused = db.run(import_command, log, "--zone", "UTC")
    assert isinstance(refused.exception, UsageError)
    assert "imported before, as import:node1" in str(refused.exception)
    store = db.store()
    host = machines.ensure(store, "gpu7", "10.0.0.7")
    store.close()
    output = good(db.run(assign_command, "import:node1", "gpu7", "--gpu", "index 0=GPU-a", answer="y\n"))
    assert "GPU-a" in output
    assert "keeps this name" in output
    assert "import:node1 is part of gpu7 now." in output
    assert names(db) == ["gpu7"]
    store = db.store()
    assert rollups.read(store, host, "GPU-a", 60, 0, 4e9).times[0] == 1795143600
    assert {row.gpu_uuid for row in usage.gpu_days(store, "0000", "9999")} == {"GPU-a", "index 1"}
    store.close()


def test_a_question_that_is_answered_no_changes_nothing(db, log):
    good(db.run(import_command, log))
    store = db.store()
    machines.ensure(store, "gpu7", "10.0.0.7")
    store.close()
    result = db.run(assign_command, "node1", "gpu7", answer="n\n")
    assert result.exit_code == 1
    assert names(db) == ["gpu7", "import:node1"]


def test_time_that_would_count_twice_is_refused_unless_asked_for(db, log):
    store = db.store()
    machines.ensure(store, "gpu7", "10.0.0.7")
    store.close()
    good(db.run(import_command, log, "--zone", "UTC"))
    good(db.run(assign_command, "node1", "gpu7", "--yes"))
    good(db.run(import_command, log, "--zone", "UTC", "--again"))
    result = db.run(assign_command, "node1-2", "gpu7", "--yes")
    assert isinstance(result.exception, UsageError)
    assert "gpu7 has readings of its own of index 0" in str(result.exception)
    good(db.run(assign_command, "node1-2", "gpu7", "--yes", "--overlap"))


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_packed_logs(db, log, ending, pack):
    path = log.with_name(f"node1.csv.{ending}")
    path.write_bytes(pack(log.read_bytes()))
    assert "240 rows" in good(db.run(import_command, path))
    assert names(db) == ["import:node1"]


def test_a_packed_log_that_is_cut_off(db, log):
    path = log.with_name("node1.csv.gz")
    path.write_bytes(gzip.compress(log.read_bytes())[:-20])
    result = db.run(import_command, path)
    assert isinstance(result.exception, UsageError)
    assert "cannot be unpacked" in str(result.exception)


def test_utf_16_of_powershell(db, log):
    log.write_bytes(("\r\n".join([HEAD, *LINES])).encode("utf-16"))
    assert "240 rows, 0 lines not understood" in good(db.run(import_command, log, "--dry-run"))


def test_a_log_without_a_head(db, log):
    log.write_text("\n".join(LINES))
    result = db.run(import_command, log)
    assert isinstance(result.exception, UsageError)
    assert "--fields" in str(result.exception)
    assert "240 rows" in good(db.run(import_command, log, "--fields", "timestamp,index,name,utilization.gpu,memory.used"))


def test_a_database_of_vesta(db, tmp_path):
    path = tmp_path / "gpu_states.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE machines (id TEXT, name TEXT, ip_address TEXT)")
    for host in ("n1", "n2"):
        connection.execute(f"CREATE TABLE {host} (timestamp INTEGER, data BLOB)")
        entry = {"gpu:0": {"uuid": f"GPU-{host}", "gpu_volatile": 5, "used_memory": 900, "processes": [{"pid": "1", "user": "ann", "used_memory": 9}]}}
        connection.execute(f"INSERT INTO {host} VALUES (20261120030000, ?)", (bz2.compress(pickle.dumps(entry)),))
    connection.commit()
    connection.close()
    output = good(db.run(import_command, path))
    assert "4 rows, 0 lines not understood, 1 users" in output
    assert names(db) == ["import:n1", "import:n2"]


def test_of_several_files_the_good_ones_are_imported(db, log, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    result = db.run(import_command, bad, log, tmp_path / "missing.csv")
    assert result.exit_code == 1
    assert "bad.csv: No line at its beginning names columns of a known format" in result.output
    assert "missing.csv cannot be read: No such file" in result.output
    assert names(db) == ["import:node1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--zone", "Mars/Base"], "'Mars/Base' is not a time zone"),
        (["--format", "xls"], "no format 'xls'"),
        (["--format", "accessgrid-upload"], "no column GPU Index"),
        (["--fields", "index,name"], "timestamp"),
    ],
)
def test_what_cannot_be_is_said_in_words(db, log, words, message):
    if "--fields" in words:
        log.write_text("0, NVIDIA A100\n")
        words = [*words, "--format", "nvidia-smi"]
    result = db.run(import_command, log, *words)
    assert isinstance(result.exception, GpuwatchError)
    assert message in str(result.exception)
    assert names(db) == []


def test_an_empty_log_can_be_imported_once_it_has_lines(db, log):
    log.write_text(HEAD + "\n")
    result = db.run(import_command, log)
    assert isinstance(result.exception, UsageError)
    assert "Nothing in node1.csv could be stored" in str(result.exception)
    assert isinstance(db.run(import_command, log).exception, UsageError)
    assert names(db) == []


def test_a_host_s_name_for_the_file(db, log):
    good(db.run(import_command, log, "--host", "old/lab 7"))
    assert names(db) == ["import:old-lab-7"]


def test_hostile_names_reach_no_terminal(db, log):
    log.write_text(f"{HEAD}\n2026/11/20 03:00:00.000, 0, \x1b[31mred\x1b[0m, 5 %, 5 MiB\n")
    assert "\x1b" not in good(db.run(import_command, log, "--dry-run"))


def test_both_are_commands_of_the_group():
    assert {"import", "assign"} <= set(DB_COMMANDS)
    result = CliRunner().invoke(command, ["import", "--help"])
    assert result.exit_code == 0
    assert "--dry-run" in result.output
