"""Seed 000 between machines: its node as our hub asks it, and the same body made of our node's readings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, Snapshot
from gpuwatch.model.units import MIB
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.legacy import seed000_node

CAPTURE = (Path(__file__).parent / "captures" / "000_gpu_status.raw").read_bytes().replace(b"\r\n", b"\n")
BODY = CAPTURE.rpartition(b"\n\n")[2].strip() + b"\n"
TARGET = Target("cs1", "10.0.0.1", 5000, "accessgrid+http")


def read(body=BODY):
    return seed000_node.read(body, TARGET, 1000.0)


def test_the_request_is_the_recorded_one():
    method, path, body, headers = seed000_node.request(TARGET, "secret")
    assert f"{method} {path} HTTP/1.1\n".encode() in CAPTURE
    assert (body, headers) == (None, {"Accept": "*/*"})


def test_the_recorded_answer():
    snapshot = read().snapshot
    assert (snapshot.taken_at, snapshot.collectors) == (1000.0, (CollectorStatus("AccessGrid"),))
    first, second = snapshot.gpus
    assert (first.uuid, first.index, first.name) == ("no-uuid:cs1:0", 0, "NVIDIA GeForce RTX 3090")
    assert (first.memory_used_bytes, first.memory_free_bytes, first.memory_total_bytes) == (2048 * MIB, 22528 * MIB, 24576 * MIB)
    assert (first.utilization_percent, first.memory_utilization_percent, first.temperature_celsius) == (37, 12, 41)
    assert (second.memory_used_bytes, second.utilization_percent) == (MIB, 0)
    assert first.missing["processes"] == "not told by AccessGrid"
    flat = Flattener().flatten(snapshot)
    Shape.parse(flat.shape).check(flat.values)


def test_errors_come_with_status_200():
    with pytest.raises(WireError, match=r"It could not read its GPUs: nvidia-smi: command not found\. Next: run nvidia-smi there"):
        read(b'{"status":"error","message":"nvidia-smi: command not found\\n","gpu_count":0,"gpu_details":[]}')


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"gpu_details": 5}', b"<html>", b'{"0": {"gpu_type": "A100"}}'])
def test_what_is_not_its_answer(body):
    with pytest.raises(WireError):
        read(body)


def test_our_node_s_answer_to_its_hub_is_the_recorded_one():
    """What was read of the capture, answered again."""
    assert seed000_node.answer(read().snapshot) == BODY


def test_other_numbers_of_gpus():
    gpus = tuple(GpuReading(uuid=f"GPU-{index}", index=index, name="A100", utilization_percent=5.0) for index in range(8))

    def told(*some):
        return json.loads(seed000_node.answer(Snapshot(1.0, gpus=some)))

    assert (told(*gpus[:3])["status"], told(*gpus[:3])["working_gpus"]) == ("working", 3)
    assert (told(*gpus)["status"], told(*gpus)["gpu_count"], len(told(*gpus)["gpu_details"])) == ("partial", 8, 8)
    lost = replace(gpus[1], error="lost", utilization_percent=None)
    doc = told(gpus[0], lost)
    assert (doc["status"], doc["gpu_count"], doc["working_gpus"], len(doc["gpu_details"])) == ("partial", 2, 1, 3)
    assert doc["gpu_details"][2] == {"index": 2, **dict.fromkeys(("name", "gpu_util", "mem_util", "mem_total", "mem_used", "mem_free", "temperature"))}


def test_no_reading_is_its_error_with_no_gpus():
    for snapshot in (None, Snapshot(1.0)):
        doc = json.loads(seed000_node.answer(snapshot))
        assert (doc["status"], doc["gpu_count"], doc["gpu_details"]) == ("error", 0, [])
        assert doc["message"]
