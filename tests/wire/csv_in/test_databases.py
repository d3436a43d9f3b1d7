"""Rows of the old programs' databases."""

import bz2
import json
import pickle
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in import seed000_db, seed001_db, seed004_db
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import Report

UTC = ZoneInfo("UTC")
AT = 1795301309.0
"""2026-11-21 22:48:29 UTC."""
GPU = {
    "device_num": 0, "uuid": "GPU-1", "gpu_name": "RTX 3090", "temperature": 41, "total_memory": 24576, "available_memory": 22528,
    "used_memory": 2048, "timestamp": "2026/11/21 22:48:29.123", "gpu_volatile": 37,
    "processes": [{"pid": "19949", "name": "python", "user": "ann", "used_memory": 1024}],
}  # fmt: skip


def packed(value):
    return bz2.compress(pickle.dumps(value, 3))


def read004(*records):
    report = Report()
    return list(seed004_db.rows(records, "host1", report, Clock(UTC))), report


@pytest.mark.parametrize("value", [{"gpu:0": GPU}, {"gpu_data": {"gpu:0": GPU}, "timestamp": 1}])
def test_an_entry_of_vesta(value):
    (gpu, process), report = read004((1, 20261121224829, packed(value)))
    assert gpu == (AT, "host1", "GPU-1", "RTX 3090", {
        "utilization_percent": 37.0, "temperature_celsius": 41.0, "memory_used_bytes": 2048.0 * MIB, "memory_total_bytes": 24576.0 * MIB,
        "memory_free_bytes": 22528.0 * MIB,
    }, None, None, None)  # fmt: skip
    assert process == (AT, "host1", "GPU-1", "RTX 3090", {"gpu_memory_bytes": 1024.0 * MIB}, "ann", 19949, "python")
    assert (report.lines, report.rows, report.refused_count) == (1, 2, 0)


def test_numbers_as_texts_as_its_readme_has_them():
    (gpu,), _ = read004((1, "20261121224829", packed({"gpu:0": {"device_num": "3", "gpu_volatile": "37", "used_memory": "[N/A]"}})))
    assert (gpu.gpu, gpu.values) == ("index 3", {"utilization_percent": 37.0})


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("timestamp", "data", "why"),
    [
        (20261121224829, packed({"gpu:0": Evil()}), "more than plain data"),
        (20261121224829, packed([1, 2]), "not a dict of GPUs"),
        (20261121224829, packed({"gpu:0": 5}), "is not a dict"),
        (20261121224829, packed({"gpu:0": {"uuid": 5}}), "neither uuid nor device_num"),
        (20261121224829, packed({"gpu:0": {**GPU, "processes": 7}}), "not a list"),
        (20261121224829, packed({"gpu:0": {**GPU, "processes": [7]}}), "not a dict"),
        (20261121224829, packed({"gpu:0": {**GPU, "gpu_volatile": [7]}}), "gpu_volatile: list is not a number"),
        (20261121224829, b"no bz2", "not bz2"),
        (20261121224829, "text", "not a BLOB"),
        (20261121224829, packed({"gpu:0": GPU})[:-10], "cut off"),
        (20261121224829, bz2.compress(b"\0" * 300_000_000), "far too long"),
        (2026, packed({}), "YYYYMMDDhhmmss"),
        (None, packed({}), "YYYYMMDDhhmmss"),
        (20261321224829, packed({}), "not a time"),
    ],
)
def test_a_row_of_vesta_that_is_none(timestamp, data, why):
    found, report = read004((7, timestamp, data), (8, 20261121224829, packed({"gpu:0": GPU})))
    assert len(found) == 2
    ((line, said),) = report.refused
    assert line == 7
    assert why in said


def test_history_of_gpu_monitoring_system():
    report = Report()
    records = [
        (1, 4, 0, "2026-11-21 22:48:29.000000", 41.0, 37.0, 2048.0, 24576.0, None),
        (2, 9, 1, "2026-11-21 22:48:29", 41.0, 137.0, 2048.0, 24576.0, 120.5),
    ]
    (row,) = seed001_db.history(records, {4: "worker-a"}, report, Clock(UTC))
    assert row[:4] == (AT, "worker-a", "index 0", None)
    assert row.values == {"temperature_celsius": 41.0, "utilization_percent": 37.0, "memory_used_bytes": 2048.0 * MIB, "memory_total_bytes": 24576.0 * MIB}
    assert report.refused == [(2, "gpu_metrics_history: utilization_percent: 137 % is more than 100")]


def test_last_metrics_of_gpu_monitoring_system():
    gpu = {"model": "RTX 3090", "temp": 41, "util": 37, "memory": {"total": 24576.0, "used": 2048.0, "free": 1.0, "percent_used": 8.3}}
    records = [
        (1, "a", "2026-11-21 22:48:29", json.dumps({"gpus": [gpu, gpu]})),
        (2, "b", "2026-11-21 22:48:29", "{broken"),
        (3, "c", "2026-11-21 22:48:29", json.dumps({"gpus": {"model": 1}})),
        (4, "d", None, None),
        (5, "e", "2026-11-21 22:48:29", json.dumps({"gpus": [{**gpu, "memory": 7}]})),
    ]
    report = Report()
    found = list(seed001_db.newest(records, report, Clock(UTC)))
    assert [(row.machine, row.gpu, row.name) for row in found] == [("a", "index 0", "RTX 3090"), ("a", "index 1", "RTX 3090")]
    assert [line for line, _ in report.refused] == [2, 3, 5]


def test_gpus_of_accessgrid():
    report = Report()
    records = [(1, 0, "RTX", 37.0, 2048.0, "2026-11-21 22:48:29"), (2, None, "RTX", 1.0, 1.0, "2026-11-21 22:48:29"), (3, 0, "RTX", b"x", 1.0, "2026-11-21 22:48:29")]
    (row,) = seed000_db.gpus(records, report, Clock(UTC))
    assert row == (AT, "", "index 0", "RTX", {"utilization_percent": 37.0, "memory_used_bytes": 2048.0 * MIB}, None, None, None)
    assert [line for line, _ in report.refused] == [2, 3]


def test_users_of_accessgrid():
    report = Report()
    (row,) = seed000_db.users([(1, "ann", 512.0, "2026-11-21 22:48:29"), (2, None, 1.0, "2026-11-21 22:48:29"), (3, "bob", -1, "")], report, Clock(UTC))
    assert row == (AT, "", "", None, {"gpu_memory_bytes": 512.0 * MIB}, "ann", None, None)
    assert report.refused_count == 2
