"""Seed 001's workers: recorded bodies as snapshots, answers byte for byte, and whatever a stranger may send instead."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.captures.read import exchange

from gpuwatch.model.errors import WireError
from gpuwatch.model.series import Series
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.model.units import MIB
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.legacy import seed001

NOW = 1795303463.582598


# ---- answers


def test_answers_are_as_recorded():
    register = exchange("001_register").response
    assert seed001.token(register.json["token"]) == register.body
    assert seed001.success() == exchange("001_metrics").response.body == exchange("001_command_output_failed").response.body
    assert seed001.success() == exchange("001head_metrics_power").response.body == exchange("001head_command_output_running").response.body
    assert seed001.error("Invalid token") == exchange("001_metrics_401").response.body
    assert seed001.command(None, None) == exchange("001_commands_empty").response.body
    assert seed001.command(1, "echo out; echo err >&2; exit 3") == exchange("001_commands_one").response.body
    assert seed001.error("Worker ID missing") == b'{"message":"Worker ID missing","status":"error"}\n'
    assert seed001.error("Invalid command") == b'{"message":"Invalid command","status":"error"}\n'


def test_the_state_of_a_command_is_as_recorded():
    recorded = exchange("001head_get_command_output").response
    at = 1795303501.930629
    assert seed001.command_state("running", "Command started...\n", at) == recorded.body
    gone = json.loads(seed001.no_command("999", NOW))
    assert (gone["status"], sorted(gone)) == ("error", ["output", "status", "updated_at"])


@pytest.mark.parametrize(("header", "token"), [("Bearer abc", "abc"), ("abc", "abc"), ("", ""), ("Bearer ", ""), ("Bearer " + "x" * 9999, "x" * 200)])
def test_the_token_of_a_header(header, token):
    assert seed001.bearer(header) == token


# ---- what is sent


def test_the_recorded_metrics_are_a_snapshot():
    made = seed001.snapshot(seed001.metrics(exchange("001_metrics").request.body), "w-smi", NOW)
    assert (made.taken_at, made.hostname, made.interval_seconds, len(made.gpus)) == (NOW, "w-smi", 20.0, 2)
    first = made.gpus[0]
    assert (first.uuid, first.index, first.name) == ("no-uuid:w-smi:0", 0, "NVIDIA GeForce RTX 3090")
    assert (first.temperature_celsius, first.utilization_percent, first.power_watts) == (41, 37, None)
    assert (first.memory_total_bytes, first.memory_used_bytes, first.memory_free_bytes) == (24576 * MIB, 2048 * MIB, 22528 * MIB)
    never = dict.fromkeys(("processes", "mig_enabled", "fan_percent"), "not told by seed 001's worker")
    assert first.missing == {**never, "power_watts": "not reported by the worker"}
    assert [part.name for part in made.collectors] == ["seed 001's worker"]
    Shape.parse(Flattener().flatten(made).shape)


def test_its_newest_version_tells_power():
    made = seed001.snapshot(seed001.metrics(exchange("001head_metrics_power").request.body), "w-nvml", NOW)
    assert [gpu.power_watts for gpu in made.gpus] == [120.55, 18.02]
    assert all("power_watts" not in gpu.missing for gpu in made.gpus)


def test_what_is_not_told_or_cannot_be_is_none_with_a_reason():
    gpus = [{"model": 5, "temp": "N/A", "util": 101, "power_usage": None, "memory": None}, {"memory": {"total": -1, "used": "12"}}]
    made = seed001.snapshot(seed001.metrics(json.dumps({"metrics": {"gpus": gpus}}).encode()), "w", NOW)
    first, second = made.gpus
    assert (first.name, first.temperature_celsius, first.utilization_percent, first.memory_used_bytes) == (None, None, None, None)
    assert "more than 100" in first.missing["utilization_percent"]
    assert (second.memory_total_bytes, second.memory_used_bytes) == (None, 12 * MIB)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"metrics": []}', b'{"metrics": {"gpus": {}}}', b'{"metrics": {"gpus": [1]}}', json.dumps({"metrics": {"gpus": [{}] * 129}}).encode()]
)
def test_what_are_no_metrics_is_refused(body):
    with pytest.raises(WireError):
        seed001.metrics(body)


def test_a_worker_id():
    assert seed001.worker_id(exchange("001_register").request.body) == "w-smi"
    assert [seed001.worker_id(body) for body in (b"{}", b'{"worker_id": 5}', b"[]", b'{"worker_id": ""}')] == ["", "", "", ""]
    assert seed001.worker_id(json.dumps({"worker_id": "x" * 5000}).encode()) == "x" * seed001.MOST_ID
    with pytest.raises(WireError):
        seed001.worker_id(b"worker_id=x")


def test_reports_of_commands():
    assert seed001.command_report(exchange("001_command_output_failed").request.body) == (1, "failed", "out\n\nSTDERR:\nerr\n")
    assert seed001.command_report(exchange("001head_command_output_running").request.body) == (1, "running", "Command started...\n")
    long = json.dumps({"command_id": 1, "status": "completed", "output": "a" * seed001.MOST_OUTPUT + "\ud800\0end"}).encode()
    kept = seed001.command_report(long).output
    assert len(kept) == seed001.MOST_OUTPUT
    assert kept.endswith("a?end")


@pytest.mark.parametrize(
    ("doc", "words"),
    [
        ({"command_id": 1}, "no status"), ({"status": "failed", "output": ""}, "no command_id"), ({"command_id": True, "status": "failed", "output": ""}, "no command_id"),
        ({"command_id": 1, "status": "failed"}, "no output"), ({"command_id": 1, "status": "stopping", "output": ""}, "none of"), ([], "not an object"),
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(doc, words):
    with pytest.raises(WireError, match=words):
        seed001.command_report(json.dumps(doc).encode())


# ---- the past


def test_the_past_has_null_where_nothing_was_measured_and_no_step_without_anything():
    base = Series(
        metric="temperature_celsius", unit="celsius", host="w", gpu="g", user="", start_at=0, end_at=180, step_seconds=60, tier_seconds=60, kept_since_at=0,
        times=(0, 60, 120), minimum=(41, None, None), mean=(41.0, None, None), maximum=(41, None, None), count=(3, 0, 0), coverage=(1, 0, 0),
    )  # fmt: skip
    series = dict.fromkeys(seed001.METRICS, base)
    series["memory_used_bytes"] = replace(base, mean=(2048.0 * MIB, None, 4096.0 * MIB), count=(3, 0, 1))
    series["power_watts"] = replace(base, mean=(None, None, None), count=(0, 0, 0))
    got = json.loads(seed001.history(series, 24576.0 * MIB))
    assert got == {
        "timestamps": ["1970-01-01T00:00:00", "1970-01-01T00:02:00"], "temperature": [41.0, None], "utilization": [41.0, None],
        "memory_utilization": [100 * 2048 / 24576, 100 * 4096 / 24576], "power_usage": [None, None],
    }  # fmt: skip
    assert json.loads(seed001.history(series, None))["memory_utilization"] == [None, None]


def test_no_past_is_as_recorded():
    assert seed001.no_history(None) == b'{"memory_utilization":[],"power_usage":[],"temperature":[],"timestamps":[],"utilization":[]}\n'
    wanted = b'{"error":"Worker with ID nope not found","memory_utilization":[],"power_usage":[],"temperature":[],"timestamps":[],"utilization":[]}\n'
    assert seed001.no_history("nope") == wanted


@pytest.mark.parametrize(("text", "hours"), [("", 24), ("1", 1), ("x", 24), ("-3", 24), ("0", 1), ("99999999", 24 * 366), ("9" * 400, 24), ("٣", 24)])
def test_hours(text, hours):
    assert seed001.hours(text) == hours


def test_power_limits_are_what_was_read():
    got = json.loads(seed001.power_limits([GpuReading(index=0, power_limit_watts=350.0, power_watts=20.5), GpuReading(index=1)]))
    assert got["gpus"] == [{"index": 0, "power_limit": 350.0, "power_usage": 20.5}, {"index": 1, "power_limit": None, "power_usage": None}]
