"""The old programs' database files: whose they are, what is read of them, and what hostile ones can do (nothing)."""

import bz2
import json
import pickle
import sqlite3
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.store import old_databases
from gpuwatch.wire.csv_in.rows import Report

BERLIN = ZoneInfo("Europe/Berlin")
AT = 1795297709.0
"""2026-11-21 22:48:29 in Berlin."""
ENTRY = {"device_num": 0, "uuid": "GPU-1", "gpu_name": "RTX", "gpu_volatile": 37, "processes": [{"pid": "7", "user": "ann", "name": "sh", "used_memory": 5}]}


def make(path, *statements):
    connection = sqlite3.connect(path)
    for statement, *parameters in statements:
        connection.execute(statement, *parameters)
    connection.commit()
    connection.close()
    return str(path)


def read(path):
    report = Report()
    with old_databases.opened(path) as connection:
        found = old_databases.sniff(connection)
        rows = list(old_databases.rows(connection, found, report, BERLIN))
        return found, rows, report, old_databases.count(connection, found)


def vesta(path, *more):
    data = bz2.compress(pickle.dumps({"gpu:0": ENTRY}, 3))
    return make(
        path,
        ("CREATE TABLE machines (id TEXT, name TEXT, ip_address TEXT)",),
        ("CREATE TABLE 'my \"host' (timestamp INTEGER, data BLOB)",),
        ("INSERT INTO 'my \"host' VALUES (20261121224829, ?)", (data,)),
        ("INSERT INTO 'my \"host' VALUES (20261121224834, ?)", (data,)),
        *more,
    )


def test_vesta(tmp_path):
    found, rows, report, count = read(vesta(tmp_path / "gpu_states.db"))
    assert found.format == "vesta-database"
    assert [(row.at, row.machine, row.gpu, row.user, row.pid) for row in rows] == [
        (AT, 'my "host', "GPU-1", None, None), (AT, 'my "host', "GPU-1", "ann", 7),
        (AT + 5, 'my "host', "GPU-1", None, None), (AT + 5, 'my "host', "GPU-1", "ann", 7),
    ]  # fmt: skip
    assert (report.lines, report.rows, report.refused_count, count) == (2, 4, 0, 2)


def test_hostile_rows_of_vesta(tmp_path):
    path = vesta(
        tmp_path / "gpu_states.db",
        ("INSERT INTO 'my \"host' VALUES (20261121224839, zeroblob(20000000))",),
        ("INSERT INTO 'my \"host' VALUES (?, ?)", (b"\xff" * 2000, "\0")),
        ("CREATE VIEW evil AS SELECT load_extension('x') AS timestamp, 1 AS data",),
    )
    found, rows, report, _ = read(path)
    assert len(rows) == 4
    assert [line for line, _ in report.refused] == [3, 4]
    assert "evil" not in found.tables


def test_gpu_monitoring_system_with_history(tmp_path):
    path = make(
        tmp_path / "gpu.db",
        ("CREATE TABLE worker (id INTEGER PRIMARY KEY, worker_id VARCHAR(50), token VARCHAR(100), last_seen DATETIME, metrics TEXT)",),
        ("INSERT INTO worker VALUES (3, 'node-a', 'secret', '2026-11-21 21:48:29', '{}')",),
        ("CREATE TABLE gpu_metrics_history (id INTEGER PRIMARY KEY, worker_id INTEGER, gpu_index INTEGER, timestamp DATETIME, temperature FLOAT,"
         " utilization FLOAT, memory_used FLOAT, memory_total FLOAT, power_usage FLOAT)",),
        ("INSERT INTO gpu_metrics_history VALUES (1, 3, 0, '2026-11-21 21:48:29.000000', 41, 37, 2048, 24576, NULL)",),
    )  # fmt: skip
    found, (row,), report, _ = read(path)
    assert found.format == "gpu-monitoring-system-database"
    assert (row.at, row.machine, row.gpu, row.values["utilization_percent"]) == (AT, "node-a", "index 0", 37)
    assert not report.refused_count


def test_gpu_monitoring_system_without_history(tmp_path):
    metrics = json.dumps({"gpus": [{"model": "RTX", "temp": 41, "util": 37, "memory": {"total": 24576.0, "used": 2048.0}}]})
    path = make(
        tmp_path / "gpu.db",
        ("CREATE TABLE worker (id INTEGER PRIMARY KEY, worker_id VARCHAR(50), token VARCHAR(100), last_seen DATETIME, metrics TEXT)",),
        ("INSERT INTO worker VALUES (3, 'node-a', 'secret', '2026-11-21 21:48:29', ?)", (metrics,)),
    )
    _, (row,), report, _ = read(path)
    assert (row.at, row.machine, row.name) == (AT, "node-a", "RTX")
    assert "no history" in report.notes[0]


def test_accessgrid(tmp_path):
    path = make(
        tmp_path / "gpu_logs.db",
        ("CREATE TABLE gpu_logs (id INTEGER PRIMARY KEY, gpu_index INTEGER, gpu_name TEXT, utilization_percent REAL, memory_used_mib REAL, timestamp TEXT)",),
        ("CREATE TABLE user_gpu_logs (id INTEGER PRIMARY KEY, username TEXT, gpu_memory_mib REAL, gpu_memory_percentage REAL, timestamp TEXT)",),
        ("INSERT INTO gpu_logs VALUES (1, 0, 'RTX', 37, 2048, '2026-11-21 22:48:29')",),
        ("INSERT INTO user_gpu_logs VALUES (1, 'ann', 512, 2.0, '2026-11-21 22:48:29')",),
    )  # fmt: skip
    found, (gpu, user), _, count = read(path)
    assert found.format == "accessgrid-database"
    assert (gpu.at, gpu.gpu) == (AT, "index 0")
    assert (user.at, user.gpu, user.user, user.pid) == (AT, "", "ann", None)
    assert count == 2


def test_a_database_of_another_program(tmp_path):
    found, rows, _, _ = read(make(tmp_path / "x.db", ("CREATE TABLE places (id)",)))
    assert (found.format, rows) == ("", [])
    assert "places" in found.why


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\xff" * 4000, b"no database at all" * 100])
def test_a_broken_file_ends_in_words(tmp_path, content):
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as a database"):
        read(str(path))


def test_nothing_is_written(tmp_path):
    path = tmp_path / "gpu_states.db"
    vesta(path)
    before = path.read_bytes()
    read(str(path))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["gpu_states.db"]
    with old_databases.opened(str(path)) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM machines")
