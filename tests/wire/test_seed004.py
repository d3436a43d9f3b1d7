from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.render import samples

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.render.fragments import Fragments
from gpuwatch.wire.legacy import seed002_hub, seed004

LAB = samples.lab()
ZONE = LAB.timezone
NODES = {node.name: node for node in LAB.nodes}


# ---- clients, written from what the old programs do with the bodies


def states_client(body: bytes) -> dict[str, dict[str, Any]]:
    """Newest entry of each host: memory in use by GPU number, and who is on it. Takes null for unknown, knows no other surprise."""
    found = {}
    for host, told in json.loads(body).items():
        newest = told["data"][-1]
        stamp = newest["timestamp"]
        assert stamp is None or (isinstance(stamp, int) and len(str(stamp)) == 14)
        gpus = {}
        for key, gpu in newest["gpu_data"].items():
            kind, number = key.split(":")
            assert (kind, number) == ("gpu", gpu["device_num"])
            used = None if gpu["used_memory"] is None else int(gpu["used_memory"])
            gpus[int(number)] = (used, [process["user"] for process in gpu["processes"]])
        found[host] = {"gpus": gpus, "address": told["ip_address"], "stamp": stamp, "status": told["status"]}
    return found


def verdict(body: bytes) -> tuple[str, int, str]:
    """What a client of the old server reads from any answer of HTTP 200."""
    told = json.loads(body)
    return told["status"], told["status_code"], told["message"]


def page_client(body: bytes) -> list[tuple[str, bool, list[str]]]:
    """What seed 002's page makes of ``Nodes``: host, alive, a line a GPU; it never looks for null in names, numbers become text."""
    lines = []
    for node in json.loads(body)["Nodes"]:
        gpus = [
            f"{gpu['index']} {gpu['use_mem']}/{gpu['tot_mem']} {gpu['utilize']}% {','.join(user['username'] for user in gpu['users'])}"
            for gpu in node["gpus"]
        ]
        assert isinstance(node["status"], bool)
        assert isinstance(node["version"], str)
        lines.append((node["hostname"], node["status"], gpus))
    return lines


# ---- what is asked


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (None, 1),
        ("", 1),
        ("abc", 1),
        ("1.5", 1),
        ("7", 7),
        ("0", 0),
        ("-1", None),
        ("-7", None),
        ("999999999999", 999999999999),
        ("9" * 5000, 1),
    ],
)
def test_fetch_num(text, number):
    assert seed004.fetch_number(text) == number


# ---- /states/


def test_types_are_those_of_the_readme():
    told = json.loads(seed004.states(LAB))["dgx-a"]
    assert told["ip_address"] == "10.2.0.75"
    entry = told["data"][0]
    assert entry["timestamp"] == 20261118143208
    gpu = dict(entry["gpu_data"]["gpu:0"])
    assert gpu.pop("processes") == [{"name": "train.py", "pid": "4000", "used_memory": "75468", "user": "chen.w"}]
    assert gpu == {
        "available_memory": "6041",
        "device_num": "0",
        "gpu_name": "NVIDIA A100-SXM4-80GB",
        "gpu_volatile": "99",
        "temperature": "67",
        "timestamp": "2026/11/18 14:32:08.000",
        "total_memory": "81920",
        "used_memory": "75878",
        "uuid": NODES["dgx-a"].gpus[0].reading.uuid,
    }


def test_a_client_reads_every_host():
    found = states_client(seed004.states(LAB))
    assert list(found) == [node.name for node in LAB.nodes]
    assert found["gpu01"]["gpus"][3] == (18329, ["chen.w", "yuki.t", "nils"])


def test_the_table_of_what_is_unknown_lost_or_down():
    found = states_client(seed004.states(LAB))
    assert found["old-1"]["gpus"][2] == (None, []), "unknown: null"
    assert sorted(found["gpu03"]["gpus"]) == [0, 1, 3], "lost: left out"
    assert found["nlp-1"]["status"] == "running", "stale: its last readings"
    assert len(found["nlp-1"]["gpus"]) == 2
    for name, stamp in (("gpu04", 20261118142005), ("gpu05", None), ("nlp-2", 20261118143208), ("new-1", None)):
        assert found[name]["gpus"] == {}, name
        assert (found[name]["status"], found[name]["stamp"]) == ("down", stamp), name
    assert found["cpu-big"] == {"gpus": {}, "address": "10.2.0.89", "stamp": 20261118143208, "status": "running"}


def test_zero_only_where_zero_was_read():
    for told in json.loads(seed004.states(LAB)).values():
        for key, gpu in told["data"][0]["gpu_data"].items():
            node = next(node for node in LAB.nodes for view in node.gpus if view.reading.uuid == gpu["uuid"])
            reading = next(view.reading for view in node.gpus if f"gpu:{view.reading.index}" == key)
            assert (gpu["gpu_volatile"] == "0") == (reading.utilization_percent == 0)
            assert (gpu["used_memory"] is None) == (reading.memory_used_bytes is None)


def test_arguments_never_stand_here():
    assert b"--" not in seed004.states(LAB)
    assert b"Mixtral" not in seed004.states(LAB)


def test_the_name_of_a_process_that_only_the_kernel_names():
    view = NODES["dgx-a"].gpus[0]
    held = replace(view.reading.processes[0], command=None, name="Xorg main")
    assert seed004.gpu_data(replace(view.reading, processes=(held,)), 0.0, "UTC")["processes"][0]["name"] == "Xorg main"
    held = replace(held, name=None, user=None, gpu_memory_bytes=None)
    told = seed004.gpu_data(replace(view.reading, processes=(held,)), 0.0, "UTC")["processes"][0]
    assert told == {"name": None, "pid": "4000", "used_memory": None, "user": None}


def test_hostile_names_stay_text():
    body = seed004.states(samples.hostile())
    body.decode("ascii")
    assert len(json.loads(body)) == len(samples.hostile().nodes)


def test_fragments_give_the_same_bytes():
    cache = Fragments()
    assert seed004.states(LAB, cache) == seed004.states(LAB) == seed004.states(LAB, cache)


# ---- /states/<host>/ and history


def history(name: str, count: int) -> list[seed004.Entry]:
    snapshot = NODES[name].snapshot
    assert snapshot is not None
    return [(snapshot, samples.NOW - 60 * back) for back in range(count, 0, -1)]


def test_history_is_oldest_first_and_streams():
    pieces = list(seed004.host_states(NODES["gpu04"], iter(history("gpu04", 50)), ZONE))
    assert len(pieces) > 50
    told = json.loads(b"".join(pieces))["gpu04"]
    stamps = [entry["timestamp"] for entry in told["data"]]
    assert len(stamps) == 50
    assert stamps == sorted(stamps)
    assert told["status"] == "down"
    assert told["data"][0]["gpu_data"], "a host that is down shows its history, not an empty entry"


def test_no_entries():
    assert json.loads(b"".join(seed004.host_states(NODES["gpu04"], (), ZONE)))["gpu04"]["data"] == []
    never = json.loads(b"".join(seed004.host_states(NODES["new-1"], (), ZONE)))["new-1"]
    assert never == {"data": [{"gpu_data": {}, "timestamp": None}], "ip_address": "10.2.0.34", "status": "down"}


def test_all_hosts_with_history():
    hosts = [(node, history(node.name, 3) if node.snapshot else []) for node in LAB.nodes]
    told = json.loads(b"".join(seed004.all_states(hosts, ZONE)))
    assert [len(told[name]["data"]) for name in ("dgx-a", "nlp-1", "gpu04", "new-1")] == [3, 3, 1, 1]
    assert told["gpu04"]["data"][0]["gpu_data"] == {}
    assert json.loads(b"".join(seed004.all_states([], ZONE))) == json.loads(seed004.states(samples.empty())) == {}


def test_an_address_that_is_a_name():
    node = NODES["dgx-a"]
    named = replace(node, target=replace(node.target, host="dgx-a.lab.example"))
    assert seed004.address(named) == "10.2.0.11", "what the machine itself reports"
    assert seed004.address(replace(named, snapshot=None)) is None


def test_errors():
    assert verdict(seed004.not_found()) == ("ERROR", 404, "not found")
    assert seed004.not_found() == b'{"status": "ERROR", "status_code": 404, "message": "not found"}'
    assert seed004.error(404, "invalid page number.") == b'{"status": "ERROR", "status_code": 404, "message": "invalid page number."}'


@pytest.mark.parametrize("at", [float("nan"), 1e300, -1e300])
def test_times_of_no_calendar(at):
    assert seed004.timestamp(at, "UTC") is None


# ---- GET /get-status of the hub


def test_seed_002s_hub_lists_every_target_in_order():
    lines = page_client(seed002_hub.nodes_json(LAB))
    assert [name for name, _, _ in lines] == [node.name for node in LAB.nodes]
    alive = {name for name, status, _ in lines if status}
    assert {"gpu04", "gpu05", "nlp-2", "new-1"}.isdisjoint(alive)
    assert {"dgx-a", "nlp-1", "cpu-big"} <= alive
    assert {name: gpus for name, _, gpus in lines}["gpu03"][2] == "2 None/None None% "


def test_seed_002s_hub_keys():
    nodes = {node["hostname"]: node for node in json.loads(seed002_hub.nodes_json(LAB))["Nodes"]}
    assert nodes["dgx-a"]["last_update"].startswith("2026-11-18T14:32:08")
    assert nodes["dgx-a"]["version"] == "NVIDIA A100-SXM4-80GB"
    assert nodes["new-1"] == {"hostname": "new-1", "status": False, "gpus": [], "version": ""}
    cache = Fragments()
    assert seed002_hub.nodes_json(LAB, cache) == seed002_hub.nodes_json(LAB) == seed002_hub.nodes_json(LAB, cache)
    assert json.loads(seed002_hub.nodes_json(ClusterNow(0.0, ()))) == {"Nodes": []}


# ---- machines that send by themselves


@pytest.mark.parametrize(
    ("scheme", "status", "restored", "word"),
    [
        ("vesta", "up", False, "running"), ("vesta", "stale", True, "waiting for re-uplink"), ("vesta", "down", True, "waiting for re-uplink"),
        ("worker", "unseen", False, "waiting for re-uplink"), ("push", "down", False, "down"), ("http", "down", True, "down"), ("http", "stale", True, "running"),
    ],
)  # fmt: skip
def test_one_that_sends_waits_for_re_uplink_until_it_sends_again(scheme, status, restored, word):
    node = replace(NODES["dgx-a"], target=replace(NODES["dgx-a"].target, scheme=scheme), status=status, restored=restored)
    assert seed004.status(node) == word
    assert states_client(seed004.states(replace(LAB, nodes=(node,))))["dgx-a"]["status"] == word
