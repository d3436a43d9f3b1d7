from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.render import samples

from gpuwatch.model import snapshot as model
from gpuwatch.model.cluster import ClusterNow, GpuState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_json
from gpuwatch.render.fragments import Fragments

LAB = samples.lab()


def strict(body: bytes) -> Any:
    """As a strict client parses: no NaN, UTF-8, no broken surrogates."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = body.decode("utf-8")
    json.loads(text).__repr__().encode("utf-8")
    return json.loads(text, parse_constant=refuse)


def cluster(which: ClusterNow = LAB, **options: Any) -> Any:
    return strict(as_json.cluster_json(which, ViewOptions(**options)))


def plain(instance: Any) -> Any:
    """The slow and certain way: what the encoders have to agree with."""
    return json.loads(json.dumps(dataclasses.asdict(instance)))


def test_every_field_of_a_snapshot_is_there_under_its_name():
    container = model.ContainerRef("docker", "abc", "job", None)
    process = model.ProcessReading(1, 2.5, "u", "n", "c", container=container, gpu_memory_bytes=3.0)
    gpu = model.GpuReading("GPU-1", 0, missing={"fan_percent": 'not "supported"'}, ecc_enabled=False, processes=(process,))
    gpu = replace(gpu, mig=(model.MigReading("MIG-1", 0, "1g"),), throttle_mask=64, power_watts=1.25)
    host = samples.machine(1.0, 2, 3)
    snapshot = model.Snapshot(
        1.0, "h", host=host, gpus=(gpu,), collectors=(model.CollectorStatus("nvml"),), xids=(model.XidEvent(1.0, 79),)
    )
    assert strict(as_json.snapshot_json(snapshot)) == plain(snapshot)
    assert strict(as_json.snapshot_json(model.Snapshot())) == plain(model.Snapshot())


def test_the_shape_that_is_promised():
    answer = cluster()
    assert answer["taken_at"] == samples.NOW
    assert [node["name"] for node in answer["nodes"]] == [node.name for node in LAB.nodes]
    node = answer["nodes"][0]
    assert (node["status"], node["error"], node["tags"]) == ("up", None, ["train", "a100"])
    gpu = node["snapshot"]["gpus"][0]
    assert gpu["uuid"] == LAB.nodes[0].gpus[0].reading.uuid
    assert gpu["utilization_percent"] == 99


@pytest.mark.parametrize("node", LAB.nodes, ids=lambda node: node.name)
def test_each_node_is_its_readings_and_its_states(node):
    answer = strict(as_json.host_json(LAB, node))
    assert answer.pop("taken_at") == samples.NOW
    assert answer.pop("at") is None
    assert answer in cluster()["nodes"]
    if node.snapshot is None:
        assert answer["snapshot"] is None
        return
    wanted = plain(node.snapshot)
    for reading, view in zip(wanted["gpus"], node.gpus):
        reading.update(plain(view.state), throttle_reasons=list(model.throttle_reasons(view.reading.throttle_mask)))
        for part, state in zip(reading["mig"], view.mig_states):
            part.update(plain(state))
    assert answer["snapshot"] == wanted


def test_lost_and_unknown_are_null():
    nodes = {node["name"]: node for node in cluster()["nodes"]}
    lost = nodes["gpu03"]["snapshot"]["gpus"][2]
    assert (lost["state"], lost["utilization_percent"], lost["memory_used_bytes"]) == ("lost", None, None)
    assert nodes["spark"]["snapshot"]["gpus"][0]["memory_total_bytes"] is None
    assert nodes["new-1"]["snapshot"] is None


def test_throttle_reasons_and_slices():
    nodes = {node["name"]: node for node in cluster()["nodes"]}
    hot = nodes["vision-2"]["snapshot"]["gpus"][1]
    assert (hot["marks"], hot["throttle_reasons"]) == (["hot", "throttled: thermal (hardware)"], ["thermal (hardware)"])
    slices = nodes["dgx-b"]["snapshot"]["gpus"][7]["mig"]
    assert [part["state"] for part in slices] == ["busy", "busy", "free"]


def test_a_gpu_alone():
    node = LAB.nodes[0]
    answer = strict(as_json.gpu_json(LAB, node, node.gpus[0]))
    assert (answer["host"], answer["status"]) == ("dgx-a", "up")
    assert answer["gpu"] == cluster()["nodes"][0]["snapshot"]["gpus"][0]
    assert len(answer["recent_utilization"]) == 36
    assert None in answer["recent_utilization"]


def test_filters_leave_whole_nodes_out_and_cut_gpus():
    answer = cluster(user="lisa")
    assert [(node["name"], len(node["snapshot"]["gpus"])) for node in answer["nodes"]] == [("dgx-a", 2), ("dgx-b", 1), ("vision-2", 1)]


def test_a_node_stands_once_whatever_the_view():
    assert cluster(layout="flat")["nodes"] == cluster()["nodes"]


def test_not_a_number_becomes_null_and_hostile_text_stays_text():
    bad = float("nan")
    view = LAB.nodes[0].gpus[0]
    reading = replace(view.reading, power_watts=bad, utilization_percent=float("inf"), error_since_at=-float("inf"), name='"\ud800\x00')
    state = GpuState("busy", bad)
    node = replace(LAB.nodes[0], gpus=(replace(view, reading=reading, state=state),), received_at=bad)
    gpu = cluster(replace(LAB, nodes=(node,)))["nodes"][0]["snapshot"]["gpus"][0]
    assert [gpu[name] for name in ("power_watts", "utilization_percent", "error_since_at", "since_at")] == [None] * 4
    assert gpu["temperature_celsius"] == 67.0
    cluster(samples.hostile())


def test_fragments_give_the_same_bytes_and_never_another_audience_or_version():
    cache = Fragments()
    member = ViewOptions(audience="member")
    fresh = as_json.cluster_json(LAB, ViewOptions())
    assert as_json.cluster_json(LAB, ViewOptions(), cache) == fresh == as_json.cluster_json(LAB, ViewOptions(), cache)
    secret = replace(LAB, nodes=(replace(LAB.nodes[0], error="for members"), *LAB.nodes[1:]))
    assert b"for members" in as_json.cluster_json(secret, member, cache)
    assert b"for members" not in as_json.cluster_json(LAB, ViewOptions(), cache)
    later = replace(LAB, nodes=(replace(LAB.nodes[0], error="new", version=6), *LAB.nodes[1:]))
    assert b'"new"' in as_json.cluster_json(later, ViewOptions(), cache)
    assert len(cluster(LAB, query="lisa")["nodes"]) == 3


def test_a_template_that_is_kept_shows_the_numbers_of_now():
    cache = Fragments()
    as_json.cluster_json(LAB, ViewOptions(), cache)
    node = LAB.nodes[0]
    reading = replace(node.gpus[0].reading, utilization_percent=12.5, throttle_mask=4, memory_used_bytes=None, processes=())
    view = replace(node.gpus[0], reading=reading, state=GpuState("idle", 5.0, marks=("100 %s",)))
    for gpu in (replace(node.gpus[0], reading=replace(reading, processes=node.gpus[0].reading.processes)), view):
        node = replace(node, gpus=(gpu, *node.gpus[1:]), version=node.version + 1, received_at=None)
        later = replace(LAB, nodes=(node, *LAB.nodes[1:]))
        body = as_json.cluster_json(later, ViewOptions(), cache)
        assert body == as_json.cluster_json(later, ViewOptions())
        told = strict(body)["nodes"][0]["snapshot"]["gpus"][0]
        assert (told["utilization_percent"], told["memory_used_bytes"], told["throttle_reasons"]) == (12.5, None, ["power cap"])
    assert (told["state"], told["marks"], told["processes"]) == ("idle", ["100 %s"], [])


def test_errors():
    assert strict(as_json.error_json("There is no host 'x'.", "See /.")) == {"error": "There is no host 'x'.", "next_step": "See /."}
