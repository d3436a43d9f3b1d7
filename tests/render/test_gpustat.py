"""gpustat's JSON: its keys in their order, whole numbers rounded down, null for what is not reported, nothing old."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.render import samples

from gpuwatch.model.snapshot import ProcessReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.as_gpustat import cluster_gpustat, host_gpustat

LAB = samples.lab()
HOSTS = {host["hostname"]: host for host in json.loads(cluster_gpustat(LAB, ViewOptions()))}
# what gpustat 1.1.1 --json prints
GPU_KEYS = (
    "index", "uuid", "name", "temperature.gpu", "fan.speed", "utilization.gpu", "utilization.enc", "utilization.dec", "power.draw",
    "enforced.power.limit", "memory.used", "memory.total", "processes",
)  # fmt: skip
PROCESS_KEYS = ("username", "command", "full_command", "gpu_memory_usage", "cpu_percent", "cpu_memory_usage", "pid")


def test_keys_are_gpustats():
    host = HOSTS["dgx-a"]
    assert tuple(host) == ("hostname", "driver_version", "query_time", "gpus")
    assert host["query_time"] == "2026-11-18T14:32:08"
    assert host["driver_version"] == "550.90.07"
    assert {tuple(gpu) for gpu in host["gpus"]} == {GPU_KEYS}
    assert {tuple(process) for gpu in host["gpus"] for process in gpu["processes"]} == {PROCESS_KEYS}


def test_values():
    gpu = HOSTS["dgx-a"]["gpus"][0]
    assert (gpu["temperature.gpu"], gpu["utilization.gpu"], gpu["power.draw"], gpu["enforced.power.limit"]) == (67, 99, 388, 400)
    assert (gpu["memory.used"], gpu["memory.total"], gpu["fan.speed"]) == (75878, 81920, None)
    (process,) = gpu["processes"]
    assert (process["username"], process["command"], process["gpu_memory_usage"], process["cpu_percent"]) == ("chen.w", "python3", 75468, 104.0)
    assert process["full_command"][:2] == ["/opt/conda/bin/python3", "-u"]
    assert HOSTS["dgx-a"]["gpus"][3]["processes"] == []


def test_a_lost_gpu_keeps_its_name_and_says_nothing():
    lost = HOSTS["gpu03"]["gpus"][2]
    assert lost["name"] == "NVIDIA GeForce RTX 3090"
    assert {value for key, value in lost.items() if key not in ("index", "uuid", "name")} == {None}


def test_hosts_without_fresh_readings_have_no_gpus_and_say_why():
    away = {node.name for node in LAB.nodes if node.status != "up"}
    assert {name for name, host in HOSTS.items() if "error" in host} == away
    assert all(HOSTS[name]["gpus"] == [] and HOSTS[name]["error"] for name in away)


def test_a_process_of_which_nothing_is_known():
    node = LAB.nodes[0]
    view = node.gpus[0]
    hidden = replace(view, reading=replace(view.reading, processes=(ProcessReading(7, name="Xorg"), ProcessReading(8))))
    (gpu,) = json.loads(host_gpustat(LAB, replace(node, gpus=(hidden,))))["gpus"]
    assert [list(process.values()) for process in gpu["processes"]] == [
        ["?", "Xorg", ["Xorg"], None, None, None, 7], ["?", "?", ["?"], None, None, None, 8],
    ]  # fmt: skip


def test_filters_and_this_machine_alone():
    (host,) = json.loads(cluster_gpustat(LAB, ViewOptions(host="gpu01", free_only=True)))
    assert [gpu["index"] for gpu in host["gpus"]] == [1, 2]
    alone = replace(LAB, nodes=LAB.nodes[:1])
    assert len(json.loads(cluster_gpustat(alone, ViewOptions(), one_host=True))["gpus"]) == 8
    assert json.loads(cluster_gpustat(alone, ViewOptions(query="nobody"), one_host=True))["gpus"] == []


def test_hostile_texts_are_json():
    assert len(json.loads(cluster_gpustat(samples.hostile(), ViewOptions()))) == len(samples.hostile().nodes)
