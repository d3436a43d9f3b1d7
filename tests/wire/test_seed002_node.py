"""Seed 002's node_info.py as our hub asks it: what was recorded, byte for byte, and what it does when it breaks."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import CollectorStatus, ProcessReading
from gpuwatch.model.units import MIB
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.legacy import seed002_node

CAPTURE = (Path(__file__).parent / "captures" / "002_get-status.raw").read_bytes()
BODY = CAPTURE.rpartition(b"<<<RESPONSE>>>")[2].strip()
TARGET = Target("gpu01", "10.0.0.1", 7080, "node_info+http")
READ_AT = datetime.datetime(2026, 11, 21, 23, 22, 29, 685502).timestamp()


def read(body=BODY, now=READ_AT + 4, memory=None):
    return seed002_node.read(body, TARGET, now, memory)


def changed(**keys):
    return json.dumps({**json.loads(BODY), **keys}).encode()


def test_the_request_is_the_recorded_one():
    method, path, body, headers = seed002_node.request(TARGET, "8888")
    assert f"{method} {path} HTTP/1.1".encode() in CAPTURE
    assert body == b'{"passwd": "8888"}'
    assert b"\n" + body + b"\n<<<RESPONSE>>>" in CAPTURE.replace(b"\r\n", b"\n")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(seed002_node.request(TARGET, 'a"é').body) == {"passwd": 'a"é'}


def test_the_recorded_answer():
    told = read()
    assert (told.trouble, told.snapshot.taken_at) == (None, READ_AT + 4)
    snapshot = told.snapshot
    assert (snapshot.hostname, snapshot.version, snapshot.collectors) == ("vm", "", (CollectorStatus("node_info.py"),))
    assert snapshot.host.ips == (("eth0", "192.0.2.2"),)
    first, second = snapshot.gpus
    assert (first.uuid, first.index, first.name) == ("no-uuid:gpu01:0", 0, "NVIDIA GeForce RTX 3090")
    assert (first.memory_used_bytes, first.memory_total_bytes, first.utilization_percent, first.temperature_celsius) == (2048 * MIB, 24576 * MIB, 37, 41)
    assert first.processes == (ProcessReading(pid=19949, user="root", command="sleep 1000", gpu_memory_bytes=1024 * MIB),)
    assert (second.uuid, second.utilization_percent, second.processes) == ("no-uuid:gpu01:1", 0, ())
    assert "processes" not in second.missing, "it tells processes: an empty list is nobody"
    assert (first.power_watts, first.memory_free_bytes, first.fan_percent, snapshot.host.cpu_percent) == (None,) * 4


def test_the_shape_stays_while_numbers_change():
    flattener = Flattener()
    first = read()
    flat = flattener.flatten(first.snapshot)
    Shape.parse(flat.shape).check(flat.values)
    assert flattener.flatten(read(changed(last_update="2026-11-21T23:22:33.685502"), READ_AT + 8, first.memory).snapshot).shape is None


def test_one_that_stopped_reading_is_told_by_our_clock():
    first = read()
    assert read(now=READ_AT + 14, memory=first.memory).trouble is None, "it reads every 4 s: twice the same may be chance"
    told = read(now=READ_AT + 60, memory=first.memory)
    assert "it has stopped reading" in told.trouble
    assert "Next:" in told.trouble
    assert told.since_at == READ_AT + 4
    assert told.snapshot.taken_at == READ_AT + 4, "an old reading does not become a new one"
    moved = read(changed(last_update="2026-11-21T23:23:40.1"), READ_AT + 70, told.memory)
    assert (moved.trouble, moved.snapshot.taken_at) == (None, READ_AT + 70)


def test_an_old_reading_at_first_sight_is_not_shown_until_it_moves():
    """Days old, or of a clock or zone that differs: it cannot be told yet."""
    first = read(now=READ_AT + 86400)
    assert first.snapshot is None
    assert "last read its GPUs at 2026-11-21T23:22:29.685502" in first.trouble
    still = read(now=READ_AT + 86405, memory=first.memory)
    assert (still.snapshot, still.since_at) == (None, READ_AT + 86400)
    moved = read(changed(last_update="2026-11-21T23:22:33.6"), READ_AT + 86410, still.memory)
    assert (moved.trouble, moved.snapshot.taken_at) == (None, READ_AT + 86410)


def test_its_first_instants():
    told = read(changed(last_update=None, gpus=[]))
    assert (told.snapshot, told.memory) == (None, None)
    assert "has read no GPU yet" in told.trouble
    assert len(read(changed(last_update=None)).snapshot.gpus) == 2, "readings without a time are of now"


@pytest.mark.parametrize("entry", [{}, {"index": "x", "use_mem": "12", "utilize": None, "temp": True, "users": "root"}, {"use_mem": -5, "tot_mem": 1e300, "utilize": 1e999}])
def test_odd_values_are_not_reported(entry):
    body = json.dumps({**json.loads(BODY), "gpus": [entry], "hostname": None, "ips": [["a"], 5]}).replace("Infinity", "1e300").encode()
    (gpu,) = read(body).snapshot.gpus
    assert (gpu.index, gpu.name, gpu.memory_used_bytes, gpu.memory_total_bytes, gpu.utilization_percent, gpu.temperature_celsius) == (0, None, None, None, None, None)
    assert gpu.missing["processes"] == "not told by node_info.py"


@pytest.mark.parametrize("user", [{}, {"pid": "5"}, {"pid": -1}, {"pid": 2**40}, 7, None])
def test_odd_processes_are_left_out(user):
    entry = {**json.loads(BODY)["gpus"][0]}
    entry["users"] = [user, {"pid": 7, "username": 5, "mem(MiB)": None, "command": "x" * 9000 + "\ud800"}]
    told = read(changed(gpus=[entry]))
    (process,) = told.snapshot.gpus[0].processes
    assert (process.pid, process.user, process.gpu_memory_bytes, len(process.command)) == (7, None, None, 500)
    flat = Flattener().flatten(told.snapshot)
    Shape.parse(flat.shape).check(flat.values)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"gpus": {}}', b"<html>", b"", b'"x"', b"\xff"])
def test_what_is_not_its_answer(body):
    with pytest.raises(WireError):
        read(body)
