"""A fleet on the page before gpuwatch is on any host: a hub of the built file polls exporters and the nodes of seeds 002 and 000, over real sockets."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.certs import self_signed
from tests.e2e.processes import Lab, Running, address, eventually, get, get_json, nodes_of, until_says, until_status
from tests.hub.programs import Program, captured, page, reply

DCGM = ("GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52", "GPU-1f027ee8-6e1e-2b8c-0108-3d370e5f0418")
TEXT = "text/plain; version=0.0.4; charset=utf-8"


def node_info(asked: bytes) -> bytes:
    """The recorded answer of seed 002, read just now; its refusal for another password."""
    if not asked.endswith(b'\r\n\r\n{"passwd": "8888"}'):
        return reply(b"<!doctype html>\n<title>404 Not Found</title>\n", "404 NOT FOUND", "text/html; charset=utf-8")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000000")
    return reply(captured("002_get-status.raw").replace(b"2026-11-21T23:22:29.685502", moment.encode()))


def gpus_of(hub: Running, name: str) -> list[dict[str, Any]]:
    """The GPUs of a node in the hub's JSON."""
    found: list[dict[str, Any]] = nodes_of(hub)[name]["snapshot"]["gpus"]
    return found


@pytest.fixture
def programs() -> Iterator[dict[str, Program]]:
    """One of each, by the name of its line in the hosts file."""
    made = {
        "dgx": Program(reply(page("dcgm"), kind=TEXT)),
        "lab1": Program(reply(page("nvitop"), kind=TEXT)),
        "fs1": Program(reply(page("node_exporter"), kind=TEXT)),
        "old2": Program(node_info),
        "old0": Program(reply(captured("000_gpu_status.raw"))),
    }
    yield made
    for program in made.values():
        program.close()


@pytest.fixture
def hub(lab: Lab, programs: dict[str, Program]) -> Running:
    """A hub that has heard of all of them."""
    schemes = {"dgx": "dcgm", "lab1": "nvitop", "fs1": "node", "old2": "node_info", "old0": "accessgrid"}
    running = lab.hub("".join(f"{name}={schemes[name]}+http://{program.address} tags=borrowed\n" for name, program in programs.items()), password="a secret")
    for name in programs:
        until_status(running, name, "up")
    return running


def test_every_view_shows_the_gpus_of_a_dcgm_exporter(hub: Running, lab: Lab, programs: dict[str, Program]) -> None:
    url = hub.url()
    assert "81559" in get(f"{url}/?term=true")[1]
    for path in ("/?term=true&view=rows", "/?term=true&detail=true", "/gpu_table?term=true", "/hosts/dgx?term=true", "/", "/hosts/dgx"):
        status, text, _ = get(url + path, {"User-Agent": "curl/8" if "term" in path else "Mozilla"})
        assert status == 200, path
        assert "H100 80GB" in text, path
    for uuid in DCGM:
        assert "H100 80GB" in get(f"{url}/gpus/{uuid}?term=true")[1]
        assert get(f"{url}/gpus/{uuid}")[0] == 200
    assert [(gpu["uuid"], gpu["state"]) for gpu in gpus_of(hub, "dgx")] == [(DCGM[0], "busy"), (DCGM[1], "free")]
    rows = [row for row in csv.DictReader(io.StringIO(get(f"{url}/?format=csv")[1], newline="")) if row["host"] == "dgx"]
    assert [(row["uuid"], row["memory_used_bytes"], row["process_count"]) for row in rows] == [(DCGM[0], str(62008 << 20), ""), (DCGM[1], str(5 << 20), "")]
    old = {one["hostname"]: one for one in get_json(f"{url}/get-status")["Nodes"]}
    assert [(gpu["use_mem"], gpu["temp"]) for gpu in old["dgx"]["gpus"]] == [(62008, 59), (5, 38)]
    assert get_json(f"{url}/states/dgx/")["dgx"]["status"] == "running"
    assert [one["uuid"] for host in get_json(f"{url}/api/v1/cluster?format=gpustat") if host["hostname"] == "dgx" for one in host["gpus"]] == list(DCGM)
    printed = lab.run("status", "--hub", url)
    assert "dgx" in printed.stdout
    assert "H100" in printed.stdout
    metrics = get(f"{url}/metrics")[1]
    assert f'DCGM_FI_DEV_FB_USED{{gpu="0",UUID="{DCGM[0]}",' in metrics
    assert 'gpuwatch_collector_up{collector="dcgm-exporter",Hostname="dgx"} 1' in metrics
    assert f'gpuwatch_gpu_processes{{gpu="0",UUID="{DCGM[0]}"' not in metrics, "not reported, never 0"
    assert programs["dgx"].asked[0].startswith(b"GET /metrics HTTP/1.1\r\n")
    assert eventually(lambda: any(get_json(f"{url}/api/v1/series?gpu={DCGM[0]}&metric=utilization_percent&range=1h")["mean"])), "it is kept"


def test_seeds_002_and_000_as_nodes(hub: Running, programs: dict[str, Program]) -> None:
    url = hub.url()
    head, _, body = programs["old2"].asked[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /get-status HTTP/1.1", b"Host: " + programs["old2"].address.encode(), b"Content-Type: application/json", b"Accept: */*", b"Content-Length: 18"
    ]  # fmt: skip
    assert body == b'{"passwd": "8888"}', "its own constant, not the hub's password"
    assert not any(b"secret" in asked for program in programs.values() for asked in program.asked)
    assert programs["old0"].asked[0].split(b"\r\n")[0] == b"GET /api/gpu_status HTTP/1.1"
    assert [gpu["uuid"] for name in ("old2", "old0") for gpu in gpus_of(hub, name)] == ["no-uuid:old2:0", "no-uuid:old2:1", "no-uuid:old0:0", "no-uuid:old0:1"]
    first = gpus_of(hub, "old2")[0]
    assert [(one["pid"], one["user"], one["gpu_memory_bytes"]) for one in first["processes"]] == [(19949, "root", 1 << 30)]
    assert (first["power_watts"], first["fan_percent"], first["memory_free_bytes"]) == (None, None, None)
    assert gpus_of(hub, "old0")[0]["memory_utilization_percent"] == 12
    assert "root" in get(f"{url}/?term=true&view=rows")[1]
    status, text, _ = get(f"{url}/gpus/{quote('no-uuid:old0:0')}?term=true")
    assert (status, "RTX 3090" in text, "not told by AccessGrid" in text) == (200, True, True)
    for name, program in (("old2", "node_info.py"), ("old0", "AccessGrid"), ("fs1", "node_exporter"), ("lab1", "nvitop-exporter")):
        assert f"from {program}" in get(f"{url}/hosts/{name}")[1], "the page of a host says what it is read from"
        assert f"from {program}" in get(f"{url}/hosts/{name}?term=true")[1]
    again = {one["hostname"]: one for one in get_json(f"{url}/get-status")["Nodes"]}
    wanted: Any = json.loads(captured("002_get-status.raw"))["gpus"]
    shown = [dict(gpu) for gpu in again["old2"]["gpus"]]
    assert shown[0].pop("users")[0]["username"] == wanted[0].pop("users")[0]["username"]
    assert [{key: gpu[key] for key in ("index", "name", "use_mem", "tot_mem", "utilize", "temp")} for gpu in shown] == [
        {key: gpu[key] for key in ("index", "name", "use_mem", "tot_mem", "utilize", "temp")} for gpu in wanted
    ], "a script made for seed 002 sees its own nodes through our hub"
    assert get_json(f"{url}/api/all_gpu_status")[4]["gpus"][0]["gpu"] == json.loads(captured("000_gpu_status.raw"))["gpu_details"][0]


@contextmanager
def running_node_exporter(tmp_path: Path, *options: str) -> Iterator[str]:
    """Debian's, running; its address."""
    program = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    assert program, "node_exporter is missing: make prepare"
    log = tmp_path / "node_exporter.log"
    with log.open("w") as file:
        process = subprocess.Popen([program, "--web.listen-address=127.0.0.1:0", *options], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        found = eventually(lambda: re.search(r"address=(127\.0\.0\.1:\d+)", log.read_text()))
        assert found, log.read_text()
        yield found.group(1)
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture
def node_exporter(tmp_path: Path) -> Iterator[str]:
    """As it starts by itself."""
    with running_node_exporter(tmp_path) as found:
        yield found


ITS_OWN = "$2b$04$abcdefghijklmnopqrstuuf1NnEnu1uUZzzly0XGu2xGDLe/zsWzO"
"""``its own``, as its web configuration wants passwords (bcrypt)."""


def test_a_real_node_exporter_behind_tls_and_basic_auth(lab: Lab, tmp_path: Path) -> None:
    """As labs run it, with a web configuration: read by the hub, and by check --live; who has no password, or another one, is told."""
    pair = self_signed(tmp_path / "pair", "127.0.0.1")
    web = tmp_path / "web.yml"
    web.write_text(f"tls_server_config:\n  cert_file: {pair.cert}\n  key_file: {pair.key}\nbasic_auth_users:\n  scraper: {ITS_OWN}\n")
    for name, text in (("right", "its own"), ("wrong", "another")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    with running_node_exporter(tmp_path, f"--web.config.file={web}") as found:
        where = f"node+https://scraper@{found} pin={pair.pin} password_file={tmp_path}"
        lines = f"here={where}/right\nwrong={where}/wrong\nnobody=node+https://{found} ca={pair.cert}\nplain=node+http://{found}\n"
        hub = lab.hub(lines, password="a secret")
        nodes = {"here": until_status(hub, "here", "up")}
        for name, words in (
            ("wrong", "does not take this user and password"), ("nobody", "wants a password"),
            ("plain", "answered 400"),  # Go's words: an HTTP request came to an HTTPS server
        ):  # fmt: skip
            nodes[name] = until_says(hub, name, words)
        (tmp_path / "live.txt").write_text(lines)
        answers = {one["name"]: one for one in json.loads(lab.run("check", "--live", "--json", "--hosts", str(tmp_path / "live.txt")).stdout)["nodes"]}
    assert nodes["here"]["snapshot"]["host"]["kernel"] == os.uname().release
    assert {nodes[name]["status"] for name in ("wrong", "nobody", "plain")} == {"error"}
    assert (answers["here"]["ok"], answers["here"]["message"]) == (True, "node_exporter, no GPUs")
    for name in ("wrong", "nobody", "plain"):
        assert (answers[name]["ok"], answers[name]["message"]) == (False, nodes[name]["error"])
    assert "its own" not in hub.output


def test_a_real_node_exporter(lab: Lab, node_exporter: str) -> None:
    """This machine, read by another program: the kernel's own numbers are the same."""
    hub = lab.hub(f"here=node+http://{node_exporter}\n")
    until_status(hub, "here", "up")
    host = eventually(lambda: (lambda found: found if found["cpu_percent"] is not None else None)(nodes_of(hub)["here"]["snapshot"]["host"]))
    assert 0 <= host["cpu_percent"] <= 100
    assert len(host["cores_percent"]) == host["cpu_count"] == os.cpu_count()
    total = int(re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text()).group(1))
    assert host["memory_total_bytes"] == total * 1024
    assert abs(host["uptime_seconds"] - float(Path("/proc/uptime").read_text().split()[0])) < 60
    assert host["kernel"] == os.uname().release
    assert nodes_of(hub)["here"]["snapshot"]["gpus"] == []


def test_our_node_as_one_of_seed_000(lab: Lab) -> None:
    """Both ends at once: what our node tells seed 000's hub, our hub reads as one of seed 000's nodes."""
    node = lab.simulated("sim1", "3xh100:mixed:1", public_status=True)
    hub = lab.hub(f"accessgrid+http://{address(node)}\n")
    name = address(node)
    until_status(hub, name, "up")
    doc = get_json(f"{node.url()}/api/gpu_status")
    assert (doc["status"], doc["gpu_count"], doc["working_gpus"]) == ("working", 3, 3)
    assert [gpu["memory_total_bytes"] for gpu in gpus_of(hub, name)] == [gpu["mem_total"] << 20 for gpu in doc["gpu_details"]]
