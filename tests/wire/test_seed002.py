"""Seed 002's JSON, read as its hub and its page read it."""

import json
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.cluster import NodeState, Target
from gpuwatch.model.snapshot import GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.wire.legacy import seed002

AT = 1795303349.685502  # 2026-11-21T23:22:29.685502 UTC
MIB = 1024**2

BUSY = GpuReading(
    uuid="GPU-1", index=0, name="NVIDIA GeForce RTX 3090", memory_used_bytes=2048 * MIB + 5, memory_total_bytes=24576 * MIB,
    utilization_percent=37.4, temperature_celsius=41,
    processes=(ProcessReading(pid=19949, user="root", name="sleep", command="sleep 1000" + "x" * 600, gpu_memory_bytes=1024 * MIB),),
)  # fmt: skip
LOST = GpuReading(uuid="GPU-2", index=1, name="NVIDIA GeForce RTX 3090", error="GPU is lost", error_since_at=1.0)
SNAPSHOT = Snapshot(taken_at=AT, hostname="vm", gpus=(BUSY, LOST), host=HostReading(ips=(("eth0", "192.0.2.2"),)))


def through_json(body):
    return json.loads(json.dumps(body, allow_nan=False))


def parse_as_the_old_hub(body, now):
    """What its thread does with each answer: any failure here kills the thread, and every node with it (protocols H4, H5)."""
    node = dict(body)
    node["version"] = node["gpus"][0]["name"] if node["gpus"] else ""
    node["status"] = (now - datetime.fromisoformat(node["last_update"])).total_seconds() <= 60
    assert isinstance(node["hostname"], str)
    for gpu in node["gpus"]:
        assert {"index", "name", "use_mem", "tot_mem", "utilize", "temp", "users"} == set(gpu)
        for user in gpu["users"]:
            assert {"pid", "username", "mem(MiB)", "command"} == set(user)
    return node


def test_the_old_hub_can_read_our_node():
    node = parse_as_the_old_hub(through_json(seed002.node_body(SNAPSHOT, timezone.utc)), datetime(2026, 11, 21, 23, 23))
    assert node["status"] is True
    assert node["version"] == "NVIDIA GeForce RTX 3090"
    assert parse_as_the_old_hub(seed002.node_body(SNAPSHOT, timezone.utc), datetime(2026, 11, 21, 23, 24))["status"] is False


def test_values_are_whole_and_of_the_old_units():
    body = through_json(seed002.node_body(SNAPSHOT, timezone.utc))
    assert body["hostname"] == "vm"
    assert body["last_update"] == "2026-11-21T23:22:29.685502"
    assert body["ips"] == [["eth0", "192.0.2.2"]]
    gpu = body["gpus"][0]
    user = gpu.pop("users")[0]
    assert gpu == {"index": 0, "name": "NVIDIA GeForce RTX 3090", "use_mem": 2048, "tot_mem": 24576, "utilize": 37, "temp": 41}
    assert len(user.pop("command")) == 500
    assert user == {"pid": 19949, "username": "root", "mem(MiB)": 1024}
    assert all(type(value) is int for key, value in gpu.items() if key != "name")


def test_a_lost_gpu_stays_with_nulls_and_never_a_zero():
    gpu = seed002.node_body(SNAPSHOT)["gpus"][1]
    assert gpu == {
        "index": 1, "name": "NVIDIA GeForce RTX 3090", "use_mem": None, "tot_mem": None, "utilize": None, "temp": None, "users": [],
    }  # fmt: skip


def test_a_process_of_which_nothing_is_known():
    gpu = GpuReading(processes=(ProcessReading(pid=7), ProcessReading(pid=8, name="python")))
    users = seed002.node_body(Snapshot(taken_at=AT, gpus=(gpu,)))["gpus"][0]["users"]
    assert users[0] == {"pid": 7, "username": None, "mem(MiB)": None, "command": None}
    assert users[1]["command"] == "python"


@pytest.mark.parametrize(("at", "words"), [(AT, "2026-11-22T00:22:29.685502"), (1795303349.0, "2026-11-22T00:22:29.000000")])
def test_times_are_naive_and_local(at, words):
    assert seed002.local_time(at, ZoneInfo("Europe/Berlin")) == words
    assert datetime.fromisoformat(words).tzinfo is None


def test_without_a_zone_it_is_this_machine_s():
    assert datetime.fromisoformat(seed002.local_time(AT)) == datetime.fromtimestamp(AT)


@pytest.mark.parametrize("at", [None, 1e18, -1e18, float("nan")])
def test_what_is_no_time_is_left_out_and_never_null(at):
    assert "last_update" not in seed002.node_body(Snapshot(taken_at=at))
    assert "last_update" not in seed002.hub_entry(state("a", "up", Snapshot(taken_at=at), clock_skew_seconds=1.0))


def state(name, status, snapshot=None, **more):
    return NodeState(Target(name, name, 7080), "0" * 32, status, None, snapshot=snapshot, **more)


def test_the_hub_s_entries():
    nodes = (
        state("b", "up", SNAPSHOT),
        state("a", "unseen"),
        state("c", "down", SNAPSHOT),
        state("d", "stale", SNAPSHOT, clock_skew_seconds=60.0),
        state("e", "error"),
        state("f", "up", Snapshot(taken_at=AT)),
    )
    entries = [through_json(seed002.hub_entry(node, timezone.utc)) for node in nodes]
    assert [(n["hostname"], n["status"]) for n in entries] == [
        ("b", True), ("a", False), ("c", False), ("d", True), ("e", False), ("f", True)
    ]  # fmt: skip
    assert entries[0]["version"] == "NVIDIA GeForce RTX 3090"
    assert entries[1] == {"hostname": "a", "status": False, "gpus": [], "version": ""}
    assert len(entries[2]["gpus"]) == 2
    assert entries[3]["last_update"] == "2026-11-21T23:21:29.685502"
    assert (entries[5]["gpus"], entries[5]["version"]) == ([], "")


def test_keys_are_exactly_those_of_the_old_hub():
    entry = seed002.hub_entry(state("b", "up", SNAPSHOT))
    assert set(entry) == {"gpus", "hostname", "ips", "last_update", "status", "version"}
