"""A real Prometheus scrapes a hub and a node and answers what NVIDIA's dashboard asks; scripts for gpustat and nvidia-smi read ours."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Lab, Running, address, eventually, free_port, get, get_json, until_status
from tests.fake_nvml import FakeDriver

PASSWORD = "secret: é"
NVIDIA_QUERIES = (
    'DCGM_FI_DEV_GPU_TEMP{instance=~"$instance", gpu=~"$gpu"}',
    'avg(DCGM_FI_DEV_GPU_TEMP{instance=~"$instance", gpu=~"$gpu"})',
    'DCGM_FI_DEV_POWER_USAGE{instance=~"$instance", gpu=~"$gpu"}',
    'sum(DCGM_FI_DEV_POWER_USAGE{instance=~"$instance", gpu=~"$gpu"})',
    'DCGM_FI_DEV_SM_CLOCK{instance=~"$instance", gpu=~"$gpu"} * 1000000',
    'DCGM_FI_DEV_GPU_UTIL{instance=~"$instance", gpu=~"$gpu"}',
    'DCGM_FI_DEV_FB_USED{instance=~"$instance", gpu=~"$gpu"}',
    'DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{instance=~"$instance", gpu=~"$gpu"}',
)
"""Of the panels of Grafana's dashboard 12239."""


@pytest.fixture
def fake(tmp_path: Path) -> FakeDriver:
    """Eight H100: a process of this test on 0."""
    made = FakeDriver(tmp_path, profile="h100x8")
    made.set_processes(0, [{"pid": os.getpid(), "used_memory_bytes": 3 << 30, "sm_percent": 50}])
    return made


@pytest.fixture
def node(lab: Lab, fake: FakeDriver) -> Running:
    """A node on the fake driver, whose slow fields are read at each sample."""
    return lab.node("dgx-a", {"status_age": 0.1}, fake.env, PASSWORD)


@pytest.fixture
def hub(lab: Lab, node: Running) -> Running:
    """A hub with that node and one that is not there."""
    running = lab.hub(f"dgx-a={address(node)}\ngone=127.0.0.1:{free_port()}\n", password=PASSWORD)
    until_status(running, "dgx-a", "up")
    return running


class Prometheus:
    """Debian's, scraping these targets every few seconds: with less patience it would forget what it read of a target that stands still for a moment."""

    def __init__(self, folder: Path, hub: Running, node: Running) -> None:
        folder.mkdir()
        (folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
        jobs: list[dict[str, Any]] = [
            {"job_name": "hub", "static_configs": [{"targets": [address(hub)]}],
             "metric_relabel_configs": [{"source_labels": ["Hostname"], "regex": "(.+)", "target_label": "instance"}]},
            {"job_name": "node", "static_configs": [{"targets": [address(node)]}], "basic_auth": {"username": "any", "password": PASSWORD}},
            {"job_name": "bearer", "static_configs": [{"targets": [address(node)]}], "authorization": {"credentials_file": "password"}},
            {"job_name": "stranger", "static_configs": [{"targets": [address(node)]}]},
        ]  # fmt: skip
        config = {"global": {"scrape_interval": "4s", "scrape_timeout": "4s"}, "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("w")
        argv = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.url[7:]}"]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        answer = get_json(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def targets(self) -> dict[str, dict[str, Any]]:
        """What became of the last scrape, by job."""
        try:
            status, text, _ = get(f"{self.url}/api/v1/targets")
        except OSError:
            return {}
        found = json.loads(text)["data"]["activeTargets"] if status == 200 else ()  # 503 while it starts
        return {target["labels"]["job"]: target for target in found}

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)
        self._log.close()


@pytest.fixture
def prometheus(tmp_path: Path, hub: Running, node: Running) -> Iterator[Prometheus]:
    """Running, and it has scraped everything."""
    made = Prometheus(tmp_path / "prometheus", hub, node)
    try:
        assert eventually(lambda: {target["health"] for target in made.targets().values()} == {"up", "down"} and len(made.ask("up")) == 4), made.targets()
        yield made
    finally:
        made.close()


def test_prometheus_scrapes_and_answers(prometheus: Prometheus, fake: FakeDriver, hub: Running) -> None:
    assert eventually(lambda: [target["health"] for job, target in sorted(prometheus.targets().items())] == ["up", "up", "up", "down"]), prometheus.targets()
    assert eventually(lambda: "401" in prometheus.targets()["stranger"]["lastError"]), prometheus.targets()
    assert eventually(lambda: len(prometheus.ask('DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{job="hub"}')) == 8)
    for job, instance in (("hub", "dgx-a"), ("node", address_of(prometheus, "node"))):
        for query in NVIDIA_QUERIES:
            chosen = query.replace("$instance", instance).replace("$gpu", "0|1|2|3|4|5|6|7").replace("{", f'{{job="{job}", ')
            found = prometheus.ask(chosen)
            assert len(found) == (1 if query.startswith(("avg", "sum")) else 8), chosen
    (busy,) = prometheus.ask('DCGM_FI_DEV_GPU_TEMP{job="hub", gpu="0"}')
    assert busy["metric"]["UUID"] == fake.get(0, "uuid")
    assert busy["value"][1] == fake.get(0, "temperature_celsius")
    assert [(one["metric"]["Hostname"], one["value"][1]) for one in prometheus.ask('sort_desc(gpuwatch_node_up{job="hub"})')] == [("dgx-a", "1"), ("gone", "0")]
    assert prometheus.ask("gpuwatch_process_gpu_memory_bytes") == []


def address_of(prometheus: Prometheus, job: str) -> str:
    """The label ``instance`` of a job's own series."""
    (up,) = prometheus.ask(f'up{{job="{job}"}}')
    instance: str = up["metric"]["instance"]
    return instance


def test_our_dashboard_asks_what_prometheus_understands(prometheus: Prometheus) -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "gpuwatch.json"
    eventually(lambda: len(prometheus.ask('DCGM_FI_PROF_DRAM_ACTIVE{job="hub"}')) == 8)
    with_data = 0
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$host", ".*").replace("$uuid", ".*")
            with_data += bool(prometheus.ask(query))
    assert with_data >= 12


def test_promtool_reads_what_hub_and_node_send(hub: Running, lab: Lab, fake: FakeDriver) -> None:
    open_node = lab.node("open", {"metrics_open": True}, fake.env, PASSWORD)
    for url in (f"{hub.url()}/metrics?processes=true", f"{open_node.url()}/metrics?processes=true"):
        assert eventually(lambda url=url: "DCGM_FI_DEV_GPU_UTIL{" in get(url)[1])
        status, text, headers = get(url)
        assert status == 200
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert f'pid="{os.getpid()}"' in text
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, 3), done.stderr
        assert [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("DCGM_")] == []


def test_a_node_asks_for_the_password(node: Running) -> None:
    assert get(f"{node.url()}/metrics")[0] == 401


def test_status_in_the_formats_of_others(lab: Lab, fake: FakeDriver, hub: Running) -> None:
    here = json.loads(lab.run("status", "--format", "gpustat", env=fake.env).stdout)
    assert [gpu["uuid"] for gpu in here["gpus"]] == [fake.get(gpu, "uuid") for gpu in range(8)]
    assert here["gpus"][0]["processes"][0]["pid"] == os.getpid()
    hosts = json.loads(lab.run("status", "--format", "gpustat", "--hub", hub.url()).stdout)
    assert [(host["hostname"], len(host["gpus"])) for host in hosts] == [("dgx-a", 8), ("gone", 0)]
    table = lab.run("status", "--format", "nvidia-smi-csv", env=fake.env).stdout.splitlines()
    assert len(table) == 9
    assert table[0].startswith("timestamp, ")
    assert lab.run("status", "--format", "nvidia-smi-csv", "--hub", hub.url()).stdout.count("GPU-") == 8
    both = lab.run("status", "--json", "--format", "gpustat", env=fake.env)
    assert both.returncode == 2
    assert "exclude each other" in both.stderr
    assert json.loads(lab.run("status", "--format", "json", env=fake.env).stdout)["nodes"]
