"""The spine, run from the file: a node under the fake driver, a hub, every view; beside the good node a dead address and a garbage server."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from tests.e2e.processes import (
    Lab,
    Running,
    address,
    ask_node,
    eventually,
    free_port,
    get,
    get_json,
    nodes_of,
    until_failure,
    until_status,
)
from tests.fake_nvml import FakeDriver
from tests.render.test_openapi import errors

from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.web.routes import ROUTES

SECRET = "hunter2-SECRET"
"""Stands in arguments of processes: nobody who looks may ever read it."""
VISIBLE = "train-visible.py"
GIB = 1024**3


class Cluster(NamedTuple):
    """What the tests of one hub share."""

    lab: Lab
    fake: FakeDriver
    node: Running
    hub: Running
    pids: list[int]
    uuids: list[str]

    def get(self, path: str, **options: Any) -> tuple[int, str, dict[str, str]]:
        """A GET from the hub."""
        return get(self.hub.url() + path, **options)

    def body(self, path: str) -> str:
        """The body of a GET that must answer 200."""
        status, text, _ = self.get(path)
        assert status == 200, f"{path} answered {status}: {text[:500]}\n{self.hub.output[-2000:]}"
        return text


def people(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Processes as people start them, each with the secret in its arguments, and one in the path of its script."""
    sleep = "import time; time.sleep(900)"
    private = folder / f"{SECRET}-folder"
    private.mkdir()
    (private / VISIBLE).write_text(sleep)
    (private / "worker").mkdir()
    (private / "worker" / "__main__.py").write_text(sleep)
    (private / "torchrun").write_text(sleep)
    for argv in (
        [sys.executable, f"{private}/{VISIBLE}", "--api-key", SECRET],
        [sys.executable, "-c", sleep, SECRET],
        [sys.executable, "-c", f"{sleep}; '{SECRET}'"],
        [sys.executable, "-u", "-m", "worker", f"--token={SECRET}"],
        [sys.executable, f"{private}/torchrun", "--rdzv-id", SECRET, VISIBLE],
        ["sh", "-c", f"sleep 900; : {SECRET}"],
        ["bash", "-c", f"exec -a 'sleep {SECRET}' sleep 900"],
    ):
        yield subprocess.Popen(argv, cwd=private, start_new_session=True)


@pytest.fixture(scope="module")
def garbage() -> Iterator[str]:
    """The address of a server that answers what is no HTTP."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(4096)
                    connection.sendall(b"\x00\xff\x1b[31m<script>alert(1)</script>\r\n" * 9)
            except OSError:
                if server.fileno() < 0:
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


@pytest.fixture(scope="module")
def cluster(pyz: Path, garbage: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One good node with real processes on its first GPUs, a dead address, a garbage server, and a hub that asks them once a second."""
    folder = tmp_path_factory.mktemp("spine")
    lab = Lab(pyz, folder)
    fake = FakeDriver(folder, profile="h100x8")
    processes = list(people(folder))
    try:
        for gpu, process in enumerate(processes):
            fake.set_processes(gpu, [{"pid": process.pid, "used_memory_bytes": (gpu + 1) * GIB, "sm_percent": 40}])
            fake.set(gpu, memory_used_bytes=(gpu + 1) * GIB, utilization_gpu_percent=50 + gpu)
        node = lab.node("good-node", env=fake.env)
        hosts = f"good={address(node)} tags=lab-a,train\ndead=127.0.0.1:{free_port()}\ngarbage={garbage}\n"
        hub = lab.hub(hosts, {"interval": 1})
        uuids = [fake.get(gpu, "uuid") or "" for gpu in range(fake.gpu_count)]
        yield Cluster(lab, fake, node, hub, [process.pid for process in processes], uuids)
    finally:
        lab.close()
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def test_the_good_node_is_on_every_view_and_stays(cluster: Cluster) -> None:
    until_status(cluster.hub, "good", "up")
    until = time.monotonic() + 3.0
    taken: set[float] = set()
    while time.monotonic() < until or len(taken) < 2:
        for path, expected in VIEWS:
            text = cluster.body(path.replace("{uuid}", cluster.uuids[1]))
            assert expected.replace("{uuid}", cluster.uuids[1]) in text, f"{path}: no {expected!r} in {text[:3000]}"
        good = nodes_of(cluster.hub)["good"]
        assert (good["status"], good["error"], good["tags"]) == ("up", None, ["lab-a", "train"])
        taken.add(good["snapshot"]["taken_at"])
        time.sleep(0.3)


VIEWS = (
    ("/", 'href="/hosts/good"'),
    ("/", 'href="/gpus/{uuid}"'),
    ("/?view=flat", 'href="/gpus/{uuid}"'),
    ("/?view=grid", "good"),
    ("/?term=true", "|good"),
    ("/?term=true&detail=true", "### good :: 127.0.0.1 #"),
    ("/?term=true&view=rows", "good  8 x H100 80GB"),
    ("/?format=json", '"name":"good","status":"up"'),
    ("/?format=csv", "\ngood,up,"),
    ("/states/", '"gpu:7": {'),
    ("/states/good/", '"gpu:7": {'),
    ("/states/good/?term=true", "H100"),
    ("/get-status", '{"hostname":"good"'),
    ("/gpu_table?term=true", "|good "),
    ("/gpu_table", 'href="/hosts/good"'),
    ("/api/v1/cluster", '"name":"good","status":"up"'),
    ("/api/v1/hosts/good", '"name":"good","status":"up"'),
    ("/api/v1/gpus/{uuid}", '"host":"good","status":"up"'),
    ("/hosts/good", "<title>good"),
    ("/hosts/good?term=true", "lab-a"),
    ("/hosts/good?format=json", '"status":"up"'),
    ("/hosts/good?format=csv", "good,"),
    ("/gpus/{uuid}", "H100 80GB"),
    ("/gpus/{uuid}?term=true", "H100 80GB"),
    ("/gpus/{uuid}?format=json", '"state":"busy"'),
    ("/gpus/{uuid}?format=csv", "good,"),
    ("/live", '"hosts":{"good":'),
)


def test_its_numbers_are_the_drivers(cluster: Cluster) -> None:
    good = until_status(cluster.hub, "good", "up")
    gpus = good["snapshot"]["gpus"]
    assert [gpu["uuid"] for gpu in gpus] == cluster.uuids
    for place, pid in enumerate(cluster.pids):
        gpu = gpus[place]
        assert (gpu["state"], gpu["utilization_percent"]) == ("busy", 50 + place)
        assert [(one["pid"], one["gpu_memory_bytes"]) for one in gpu["processes"]] == [(pid, (place + 1) * GIB)]
        assert gpu["processes"][0]["started_at"] == pytest.approx(time.time(), abs=600)
    assert gpus[7]["state"] == "free"
    assert gpus[7]["processes"] == []
    assert gpus[0]["processes"][0]["command"] == VISIBLE


def test_the_others_say_why_in_words(cluster: Cluster) -> None:
    dead = until_failure(cluster.hub, "dead", "connection refused")
    garbage = until_failure(cluster.hub, "garbage", "not HTTP")
    assert (dead["status"], garbage["status"]) == ("unseen", "error")
    assert "Next:" in dead["error"]
    assert "Next:" in garbage["error"]
    for path in ("/", "/?term=true&view=rows", "/?format=json", "/?format=csv", "/live"):
        assert eventually(lambda path=path: all(words in " ".join(cluster.body(path).split()) for words in ("refused", "not HTTP"))), path
    for path in ("/hosts/dead", "/hosts/dead?term=true", "/hosts/dead?format=json", "/hosts/dead?format=csv"):
        assert "refused" in cluster.body(path), path
    for path in ("/", "/hosts/garbage", "/?term=true&view=rows", "/live", "/hosts/garbage?term=true"):
        text = cluster.body(path)
        assert "\x1b" not in text, path
        assert "term=true" in path or "<script>alert" not in text, path
    assert [(node["hostname"], node["status"]) for node in get_json(cluster.hub.url() + "/get-status")["Nodes"]] == [
        ("good", True), ("dead", False), ("garbage", False),
    ]  # fmt: skip


# ---- clients that read as the old programs do


class OldApi002:
    """Seed 002's api.py: takes any answer whose body is JSON, whatever its status, and reads its keys without asking."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}

    def poll(self, url: str, password: str) -> None:
        """One round of its thread."""
        _, text, _ = get(f"{url}/get-status", {"Content-Type": "application/json"}, "POST", json.dumps({"passwd": password}).encode())
        try:
            received = json.loads(text)
        except ValueError:
            return
        received["status"] = (datetime.now() - datetime.fromisoformat(received["last_update"])).total_seconds() < 60
        received["version"] = received["gpus"][0]["name"]
        self.nodes[received["hostname"]] = received

    def rows(self) -> list[tuple[Any, ...]]:
        """What its page prints."""
        return [
            (name, gpu["index"], gpu["name"], f"{gpu['use_mem']}/{gpu['tot_mem']}", gpu["utilize"], gpu["temp"],
             [(user["username"], user["pid"], user["mem(MiB)"], user["command"]) for user in gpu["users"]])
            for name, node in self.nodes.items() if node["status"]
            for gpu in node["gpus"]
        ]  # fmt: skip


def test_seed_002_reads_the_node(cluster: Cluster) -> None:
    api = OldApi002()
    api.poll(cluster.node.url(), "wrong")
    api.poll(cluster.node.url(), "")
    assert api.nodes == {}
    api.poll(cluster.node.url(), "x")
    rows = api.rows()
    assert [row[:2] for row in rows] == [("good-node", index) for index in range(8)]
    assert rows[0][3:6] == ("1024/81559", 50, pytest.approx(59, abs=60))
    assert [user[1:3] for user in rows[0][6]] == [(cluster.pids[0], 1024)]
    assert datetime.fromisoformat(api.nodes["good-node"]["last_update"]).tzinfo is None


def test_readers_of_seed_004(cluster: Cluster) -> None:
    until_status(cluster.hub, "good", "up")
    for path in ("/states/", "/states/good/", "/states/?fetch_num=3", "/states/good/?fetch_num=3"):
        states = json.loads(cluster.body(path))
        entries = states["good"]["data"]
        assert (states["good"]["ip_address"], states["good"]["status"]) == ("127.0.0.1", "running")
        for entry in entries:
            moment = datetime.strptime(str(entry["timestamp"]), "%Y%m%d%H%M%S")
            assert isinstance(entry["timestamp"], int)
            assert abs((datetime.now() - moment).total_seconds()) < 86400
            cards = sorted(entry["gpu_data"].values(), key=lambda card: int(card["device_num"]))
            assert [f"gpu:{card['device_num']}" for card in cards] == list(entry["gpu_data"])
            assert sum(int(card["used_memory"]) for card in cards) == sum(1024 * (place + 1) for place in range(len(cluster.pids)))
            assert all(int(card["available_memory"]) <= int(card["total_memory"]) for card in cards)
            assert [int(process["pid"]) for card in cards for process in card["processes"]] == cluster.pids
        assert [entry["timestamp"] for entry in entries] == sorted(entry["timestamp"] for entry in entries)
    states = json.loads(cluster.body("/states/"))
    assert states["dead"] == {"data": [{"gpu_data": {}, "timestamp": None}], "ip_address": "127.0.0.1", "status": "down"}
    status, text, _ = cluster.get("/states/nobody/")
    assert (status, json.loads(text)) == (200, {"status": "ERROR", "status_code": 404, "message": "not found"})
    status, _, headers = cluster.get("/states/good?fetch_num=2")
    assert (status, headers["location"]) == (308, "/states/good/?fetch_num=2")


def test_csv_reads_back(cluster: Cluster) -> None:
    until_status(cluster.hub, "good", "up")
    until_failure(cluster.hub, "dead", "connection refused")
    until_failure(cluster.hub, "garbage", "not HTTP")
    body = eventually(lambda: (found := cluster.body("/?format=csv")) and "refused" in found and "not HTTP" in found and found)  # it is kept for a second
    rows = list(csv.DictReader(io.StringIO(body, newline="")))
    assert [row["uuid"] for row in rows if row["host"] == "good"] == cluster.uuids
    assert [row["utilization_percent"] for row in rows[:2]] == ["50", "51"]
    others = {row["host"]: row for row in rows if row["host"] != "good"}
    assert "refused" in others["dead"]["node_error"]
    assert "not HTTP" in others["garbage"]["node_error"]
    assert others["dead"]["utilization_percent"] == ""


# ---- who may see what


def every_view(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """(path, body) of all that the hub says about the good node, in all its forms."""
    paths = [path.replace("{uuid}", uuid) for path, _ in VIEWS for uuid in cluster.uuids]
    paths += [f"{path}{'&' if '?' in path else '?'}detail=true&width=400" for path in paths]
    paths += [
        "/?term=true&color=true&detail=true&ascii=true",
        "/states/?fetch_num=-1",
        "/states/good/?fetch_num=-1",
        "/live?since=0&view=flat",
    ]
    for uuid in cluster.uuids:
        paths += [f"/gpus/{uuid}{twin}" for twin in ("", "?term=true&width=400", "?format=json", "?format=csv")] + [f"/api/v1/gpus/{uuid}"]
    for path in dict.fromkeys(paths):
        yield path, cluster.body(path)


def test_strangers_see_no_arguments_in_any_view(cluster: Cluster) -> None:
    until_status(cluster.hub, "good", "up")
    seen = ""
    for path, text in every_view(cluster):
        assert SECRET not in text, f"{path} shows arguments"
        seen += text
    assert VISIBLE in seen
    assert "worker" in seen
    assert f'title="{VISIBLE}' in cluster.body(f"/gpus/{cluster.uuids[0]}") or VISIBLE in cluster.body("/hosts/good")
    for word in ("SECRET", "hunter2", "api-key"):
        found = get_json(f"{cluster.hub.url()}/?format=json&q={word}")["nodes"]
        assert [node for node in found if node["name"] == "good"] == [], "a filter that looks at arguments tells them"


def test_show_arguments_shows_them(cluster: Cluster) -> None:
    hub = cluster.lab.hub(f"good={address(cluster.node)}\n", {"show_arguments": True}, name="open")
    until_status(hub, "good", "up")
    for path in ("/?format=json", "/hosts/good", "/hosts/good?term=true&width=400", "/get-status", f"/gpus/{cluster.uuids[0]}"):
        assert SECRET in get(hub.url() + path)[1], path
    # seed 004's own server never had more than a program's name here
    assert SECRET not in get(f"{hub.url()}/states/")[1]
    assert hub.stop() == 0


def test_no_password_in_any_log(cluster: Cluster) -> None:
    secrets = ("Pa55-in-body", "Pa55-in-url", "Pa55-in-header")
    node, hub = cluster.node.url(), cluster.hub.url()
    ask_node(node, secrets[0])
    for url in (node, hub):
        get(
            f"{url}/get-status?passwd={secrets[1]}&token={secrets[1]}",
            {"Authorization": f"Bearer {secrets[2]}", "Cookie": f"a={secrets[2]}"},
        )
        get(
            f"{url}/get-status?passwd={secrets[1]}",
            {"Content-Type": "application/json"},
            "POST",
            json.dumps({"passwd": secrets[0]}).encode(),
        )
        eventually(lambda: "get-status" in cluster.node.output, 10)
    time.sleep(0.3)
    for running in (cluster.node, cluster.hub):
        assert not [secret for secret in secrets if secret in running.output]
        for process in [running.process.pid, *running.children()]:
            assert b"GPUWATCH_PASSWORD" not in Path(f"/proc/{process}/cmdline").read_bytes()


# ---- the table of routes


def filled(path: str, cluster: Cluster) -> str:
    """A route's path with what is there in the place of its variables, and the question that it cannot do without."""
    if path == "/api/v1/series":
        return f"{path}?metric=power_watts"
    if path == "/api/gpu/get_power_limits":
        return f"{path}?worker_id=good"
    name = "app.css" if path.startswith("/static") else "good"
    return re.sub("<(worker|gpu|id|file)>", lambda match: FILLINGS[match.group(1)], path.replace("<name>", name).replace("<uuid>", cluster.uuids[0]))


FILLINGS = {"worker": "good", "gpu": "0", "id": "1", "file": "gpu_usage_daily_2026-11-20.csv"}


def usual_status(route: Any) -> int:
    """What a GET of this route answers on a hub that takes no old system's senders."""
    if route.permission == "foreign" or route.path == "/favicon.ico":
        return 404
    if "moved:" in route.function or route.path == "/worker/<worker>":
        return 302
    return {"/states": 308, "/states/<name>": 308, "/update/client/ws": 405}.get(route.path, 200)


def security_headers(headers: dict[str, str]) -> bool:
    """The headers that every answer carries."""
    return "default-src 'self'" in headers.get("content-security-policy", "") and headers.get("x-content-type-options") == "nosniff"


def test_an_upload_is_taken_with_post_alone(cluster: Cluster) -> None:
    form = b'--xx\r\nContent-Disposition: form-data; name="csvFile"; filename="a.csv"\r\n\r\n%s\r\n--xx--\r\n'
    head = b"GPU Index,GPU Name,Timestamp,Utilization %,Memory Used (MiB)\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    path = "/api/analyze_csv"
    status, text, headers = cluster.get(path, method="POST", body=form % (head + b"0,RTX,2025-04-29 14:18:23,2,413"), headers=kind)
    assert (status, headers["content-type"], security_headers(headers)) == (200, "application/json", True)
    assert json.loads(text) == [{"index": 0, "name": "RTX", "timestamps": ["2025-04-29 14:18:23"], "utilization": [2], "memory": [413]}]
    assert cluster.get(path, method="POST", body=b"")[:2] == (400, '{"error":"No file uploaded"}\n')
    status, text, _ = cluster.get(path, method="POST", body=form % (b"x" * 9_000_000), headers=kind)
    assert (status, "larger than 8 MiB" in text) == (400, True)
    assert cluster.get("/live", method="POST", body=b"x" * 2_000_000)[0] == 413
    assert cluster.get(path)[0] == 405


def test_a_file_is_looked_into_and_nothing_of_it_is_stored(cluster: Cluster) -> None:
    line = b"2026/11/10 03:%02d:%02d.000, %d, 50 %%, 1000 MiB\r\n"
    log = b"timestamp, index, utilization.gpu [%], memory.used [MiB]\r\n" + b"".join(line % (number // 60 % 60, number % 60, number % 8) for number in range(60_000))
    form = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n%s\r\n--xx--\r\n' % log
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    status, text, headers = cluster.get("/import?format=json", method="POST", body=form, headers=kind)
    assert (status, security_headers(headers)) == (200, True), text
    assert (json.loads(text)["rows"], len(json.loads(text)["gpus"])) == (60_000, 8)
    assert json.loads(cluster.get("/import?format=json")[1]) == {"imports": []}
    assert cluster.get("/import", method="POST", body=b"")[0] == 400


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "GET"], ids=lambda route: f"{route.method}{route.path}")
def test_each_route(cluster: Cluster, route: Any) -> None:
    until_status(cluster.hub, "good", "up")
    path = filled(route.path, cluster)
    status, text, headers = cluster.get(path)
    assert status == usual_status(route), text[:300]
    assert (status in (302, 308)) == ("location" in headers)
    assert security_headers(headers)
    status_of_head, nothing, headers_of_head = cluster.get(path, method="HEAD")
    assert (status_of_head, nothing, headers_of_head.get("content-type")) == (status, "", headers.get("content-type"))
    also = {other.method for other in ROUTES if other.path == route.path}
    for method in sorted({"POST", "PUT", "DELETE", "PATCH"} - also):
        refused, words, its_headers = cluster.get(path, method=method, body=b"{}")
        assert (refused, "GET" in its_headers["allow"], security_headers(its_headers)) == (405, True, True), (method, words)
        assert "Traceback" not in words
    if route.html:
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert "<!doctype html>" in text.lower()
        twins(cluster, path)
    hostile(cluster, path.partition("?")[0], status)


API_QUERIES = (
    "", "at=never", "at=-1s", "page=x", "format=xml", "format=csv", "format=nvidia-smi-csv", "metric=power_watts", "metric=power_watts&host=good",
    "metric=power_watts&host=nobody", "metric=nonsense", "host=nobody", "by=x", "by=gpu", "from=never", "day=never", "day=today&host=nobody", "limit=0",
)  # fmt: skip


def test_every_answer_of_the_api_is_described(cluster: Cluster) -> None:
    """Of the running hub, good and bad questions: status, type and body are those of its own description."""
    until_status(cluster.hub, "good", "up")
    paths = json.loads(cluster.get("/api/v1/openapi.json")[1])["paths"]
    seen = set()
    for path, methods in paths.items():
        told = next(iter(methods.values()))["responses"]
        for name in ("good", "nobody") if "{" in path else ("",):
            place = path.replace("{name}", name).replace("{uuid}", cluster.uuids[0] if name == "good" else name)
            asked = [("GET", f"{place}?{query}", None) for query in API_QUERIES] if "get" in methods else [("POST", place, b""), ("POST", place, b"{}")]
            for method, where, body in asked:
                status, text, headers = cluster.get(where, method=method, **({} if body is None else {"body": body}))
                kind = headers["content-type"].partition(";")[0]
                assert str(status) in told, f"{method} {where}: {status} {text[:200]}"
                assert kind in told[str(status)]["content"], f"{method} {where}: {status} {kind}"
                if kind == "application/json":
                    assert errors(json.loads(text), told[str(status)]["content"][kind]["schema"]) == [], where
                seen.add((path, status))
    assert {path for path, status in seen if status == 200} == {path for path, methods in paths.items() if "get" in methods}
    assert {status for _, status in seen} >= {200, 400, 401, 403, 404}


def twins(cluster: Cluster, path: str) -> None:
    """Text, JSON and CSV at the same address."""
    status, text, headers = cluster.get(f"{path}?term=true")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert text.strip()
    assert "\x1b" not in text
    assert "<" not in text
    status, text, headers = cluster.get(f"{path}?format=json")
    assert (status, headers["content-type"]) == (200, "application/json")
    of_sums = {"/hubs": '"targets": ', "/history": '"metric": ', "/reports": '"usage": ', "/import": '"imports": '}  # of all GPUs together, or of none
    assert of_sums.get(path, cluster.uuids[0]) in json.dumps(json.loads(text))
    status, text, headers = cluster.get(f"{path}?format=csv")
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) > 1 or path in ("/reports", "/import")  # of a hub so young, maybe of nothing
    assert len({len(row) for row in rows if row}) == 1, "CSV is a table"


def hostile(cluster: Cluster, path: str, usual: int) -> None:
    """Requests that no browser sends: an answer in words, never a 500."""
    queries = (
        "q=" + "a" * 60000, "q=%ff%fe%00", "q=%zz%", "%00=%0d%0a", "&".join(f"p{number}=1" for number in range(60)), "width=abc", "width=-1",
        "page=1e9", "page=999999999999999999999", "sort=<script>", "format=exe", "view=../..", "since=abc", "since=-1", "fetch_num=abc",
        "fetch_num=99999999999999999999999", "term=true&width=99999", "term=true&color=true&ascii=true", "q=%1b%5b31m", "state=gone", "=", "&&&",
        "format=json&q=%F0%9F%92%A9", "term=true&q=%E4%BD%A0", "term&detail", "host=good%0Aevil",
    )  # fmt: skip
    for query in queries:
        status, text, headers = cluster.get(f"{path}?{query}")
        assert status in (usual, 200, 400, 404, 414, 431), f"{path}?{query[:80]} answered {status}: {text[:300]}"
        if status == usual or status == 400:
            assert security_headers(headers), query[:80]
        if status == 400:
            assert len(text) < 3000 or "<!doctype" in text.lower()
        assert "Traceback" not in text, query[:80]
        if headers["content-type"].startswith("text/html"):
            assert "<script>" not in text, query[:80]
            assert "\x1b" not in text, query[:80]


def test_hostile_request_lines(cluster: Cluster) -> None:
    until_status(cluster.hub, "good", "up")
    url = urlsplit(cluster.hub.url())
    for target in (
        b"/hosts/%", b"/hosts/%ff%fe", b"/hosts/%2e%2e%2f%2e%2e%2fetc%2fpasswd", b"/static/../../etc/passwd", b"/static/..%2fviews.py", b"//", b"/\xff\xfe",
        b"/states//", b"/states/%00/", b"/gpus/<script>alert(1)</script>", b"/hosts/" + b"a" * 20000, b"/api/v1/hosts/%0d%0aSet-Cookie:%20a=b",
        b"/api/v1/gpus/%22%5c", b"http://elsewhere/", b"/states/%0d%0aX-Evil:%20yes", b"*",
    ):  # fmt: skip
        for method in (b"GET", b"POST", b"BREW"):
            with socket.create_connection((url.hostname or "", url.port or 0), 20) as connection:
                connection.sendall(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert re.match(rb"HTTP/1\.1 (200|308|400|404|405|414|431|501) ", head), (method, target[:80], answer[:300])
            assert b"root:x:0" not in body, (method, target[:80])
            assert b"Traceback" not in body, (method, target[:80])
            assert b"<script>alert" not in body or b"Content-Type: text/html" not in head, (method, target[:80])
            assert not re.search(rb"(?mi)^(x-evil|set-cookie):", head), (method, target[:80])


def test_compression_and_tags_of_the_page(cluster: Cluster) -> None:
    until_status(cluster.hub, "good", "up")
    for path in ("/", "/?term=true&detail=true", "/api/v1/cluster", "/get-status", "/static/app.css"):
        plain = urllib.request.urlopen(cluster.hub.url() + path, timeout=20)
        assert plain.headers["Content-Encoding"] is None
        asked = urllib.request.Request(cluster.hub.url() + path, headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(asked, timeout=20) as packed:
            assert (packed.headers["Content-Encoding"], packed.headers["Vary"]) == ("gzip", "Accept-Encoding"), path
            assert gzip.decompress(packed.read())
    with urllib.request.urlopen(f"{cluster.hub.url()}/static/app.css", timeout=20) as answer:
        tag = answer.headers["ETag"]
    status, text, _ = cluster.get("/static/app.css", headers={"If-None-Match": tag})
    assert (status, text) == (304, "")


def test_nothing_of_all_this_was_an_error(cluster: Cluster) -> None:
    """Stands last: whatever the tests above asked, the hub's own code never failed."""
    cluster.body("/")
    assert "Traceback" not in cluster.hub.output
    assert " ERROR " not in cluster.hub.output
    assert "Traceback" not in cluster.node.output
    assert len(cluster.node.children()) == 1


# ---- a life with restarts and changes


def test_a_restarted_hub_shows_what_was_known(lab: Lab, tmp_path: Path) -> None:
    fake = FakeDriver(tmp_path, profile="h100x8")
    fake.set_processes(0, [{"pid": 1, "used_memory_bytes": GIB, "sm_percent": 90}])
    port = free_port()
    node = lab.node("good", env=fake.env, port=port)
    hub = lab.hub(f"good=127.0.0.1:{port}\n")
    before = until_status(hub, "good", "up")
    assert before["snapshot"]["gpus"][0]["state"] == "busy"
    assert node.stop() == 0
    assert hub.stop() == 0

    ended_at = time.time()
    hub = lab.hub(f"good=127.0.0.1:{port}\n")
    old = nodes_of(hub)["good"]
    assert old["status"] == "stale"
    assert "refused" in old["error"] or "no answer since the hub started" in old["error"]
    assert [gpu["uuid"] for gpu in old["snapshot"]["gpus"]] == [gpu["uuid"] for gpu in before["snapshot"]["gpus"]]
    busy = old["snapshot"]["gpus"][0]
    assert (busy["state"], busy["was"]) == ("stale", "busy")
    assert int(before["received_at"] * 1000) <= round(old["received_at"] * 1000) < ended_at * 1000, "kept to the millisecond"
    assert "stale" in get(f"{hub.url()}/?term=true&view=rows")[1]
    assert "stale" in get(f"{hub.url()}/")[1]

    lab.node("good", env=fake.env, port=port)
    after = until_status(hub, "good", "up")
    for gpu, was in zip(after["snapshot"]["gpus"], before["snapshot"]["gpus"]):
        assert gpu["state"] == was["state"]
        assert (gpu["since_at"], gpu["at_least"]) == (was["since_at"], was["at_least"])


def test_the_hosts_file_changes_while_the_hub_runs(lab: Lab) -> None:
    one, two = lab.simulated("one"), lab.simulated("two", "2xh100:free:2")
    hub = lab.hub(f"first={address(one)} tags=a\n")
    until_status(hub, "first", "up")

    def history() -> int:
        return len(json.loads(get(f"{hub.url()}/states/first/?fetch_num=-1")[1])["first"]["data"])

    assert eventually(lambda: history() > 1)
    lab.hosts_file().write_text(f"second={address(two)}\nfirst={address(one)} tags=b\n")
    until_status(hub, "second", "up")
    assert [(name, node["tags"]) for name, node in nodes_of(hub).items()] == [("second", []), ("first", ["b"])]

    lab.hosts_file().write_text(f"first={address(one)}\nthis is <no> host\nsecond={address(two)}\n")
    assert eventually(lambda: get_json(f"{hub.url()}/api/v1/cluster")["notices"])
    notice = get_json(f"{hub.url()}/api/v1/cluster")["notices"][0]
    assert "line 2" in notice
    assert "this is <no> host" in notice
    assert list(nodes_of(hub)) == ["first", "second"]
    assert "line 2" in get(f"{hub.url()}/")[1]
    assert "<no>" not in get(f"{hub.url()}/")[1]
    assert "line 2" in get(f"{hub.url()}/?term=true&view=rows&width=200")[1]

    lab.hosts_file().write_text(f"second={address(two)}\n")
    assert eventually(lambda: list(nodes_of(hub)) == ["second"])
    assert not get_json(f"{hub.url()}/api/v1/cluster")["notices"]
    assert get(f"{hub.url()}/hosts/first")[0] == 404
    assert nodes_of(hub)["second"]["status"] == "up"

    lab.hosts_file().write_text(f"second={address(two)}\nfirst={address(one)}\n")
    until_status(hub, "first", "up")
    assert history() > 1, "its history came back with it"

    lab.hosts_file().unlink()
    assert eventually(lambda: get_json(f"{hub.url()}/api/v1/cluster")["notices"])
    assert [node["status"] for node in nodes_of(hub).values()] == ["up", "up"]


def test_two_names_of_one_address_are_two_rows(lab: Lab) -> None:
    node = lab.simulated("own-name")
    hub = lab.hub(f"a={address(node)}\nb={address(node)}\n")
    for name in ("a", "b"):
        assert until_status(hub, name, "up")["snapshot"]["hostname"] == "own-name"
    assert [node["hostname"] for node in get_json(f"{hub.url()}/get-status")["Nodes"]] == ["a", "b"]


class Neighbours:
    """One server for each way to be a bad node; each connection is handled in a thread of its own."""

    def __init__(self) -> None:
        self._servers: list[socket.socket] = []
        self._stop = threading.Event()
        self.lines: list[str] = []
        for name in ("silent", "dripping", "huge", "redirecting", "foreign", "closing"):
            server = socket.create_server(("127.0.0.1", 0))
            self._servers.append(server)
            self.lines.append(f"{name}=127.0.0.1:{server.getsockname()[1]}\n")
            threading.Thread(target=self._serve, args=(server, getattr(self, name)), daemon=True).start()

    def _serve(self, server: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection, answer), daemon=True).start()

    def _answer(self, connection: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        with connection:
            try:
                if connection.recv(65536):
                    answer(connection)
            except OSError:
                pass

    def silent(self, connection: socket.socket) -> None:
        """Takes the request and never answers."""
        self._stop.wait(60)

    def dripping(self, connection: socket.socket) -> None:
        """A byte now and then."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while not self._stop.wait(0.05):
            connection.sendall(b"x")

    def huge(self, connection: socket.socket) -> None:
        """More and more."""
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self._stop.is_set():
            connection.sendall(b"[" * 65536)

    def redirecting(self, connection: socket.socket) -> None:
        """Elsewhere, to a place that would cost the hub its password."""
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://198.51.100.1/steal\r\nContent-Length: 0\r\n\r\n")

    def foreign(self, connection: socket.socket) -> None:
        """Another program."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + b'{"hello": "you"}')

    def closing(self, connection: socket.socket) -> None:
        """Hangs up."""

    def close(self) -> None:
        """End them all."""
        self._stop.set()
        for server in self._servers:
            server.shutdown(socket.SHUT_RDWR)
            server.close()


def test_bad_neighbours_delay_nobody(lab: Lab) -> None:
    node = lab.simulated("good")
    locked = lab.node("locked", {"source": "gpuwatch.sim.source:make"}, password="another")
    neighbours = Neighbours()
    try:
        hosts = f"good={address(node)}\nlocked={address(locked)}\n" + "".join(neighbours.lines)
        hub = lab.hub(hosts, {"interval": 0.5, "poll_deadline": 2.0, "poll_max_bytes": 200_000})
        until_status(hub, "good", "up")
        errors = {
            "locked": "wrong password: locked answered 403", "silent": "no whole answer", "dripping": "no whole answer", "huge": "larger than 200000 bytes",
            "redirecting": "302, a redirect to http://198.51.100.1/steal; redirects are not followed", "foreign": "not a gpuwatch frame",
            "closing": "closed",
        }  # fmt: skip
        for name, words in errors.items():
            assert "Next:" in until_failure(hub, name, words)["error"], name
        until = time.monotonic() + 4
        while time.monotonic() < until:
            answer = get_json(f"{hub.url()}/api/v1/cluster")
            good = answer["nodes"][0]
            assert good["status"] == "up"
            assert answer["taken_at"] - good["received_at"] < 4, "it is asked twice a second, whatever the others do"
            time.sleep(0.1)
        assert ask_node(locked.url(), "another")[0] in (200, 429), "a hub with a wrong password backs off"
        assert "Traceback" not in hub.output
    finally:
        neighbours.close()


def test_fetch_num_over_blocks_and_journal(lab: Lab, tmp_path: Path) -> None:
    fake = FakeDriver(tmp_path, profile="rtx4080s")
    fake.set(0, temperature_celsius=20)
    node = lab.node("one", {"interval": 0.1}, env=fake.env, port=free_port())
    hub = lab.hub(f"one={address(node)}\n", {"interval": 0.1, "pack_snapshots": 4})
    until_status(hub, "one", "up")
    url = f"{hub.url()}/states/one/?fetch_num="

    def entries(number: object) -> list[Any]:
        data: list[Any] = json.loads(get(f"{url}{number}")[1])["one"]["data"]
        return data

    def heats(found: list[Any]) -> list[int]:
        return [int(entry["gpu_data"]["gpu:0"]["temperature"]) for entry in found]

    def stored() -> tuple[int, int]:
        with sqlite3.connect(f"file:{tmp_path}/hub.db?mode=ro", uri=True) as database:
            (blocks,) = database.execute("SELECT count(*) FROM block").fetchone()
            (waiting,) = database.execute("SELECT count(*) FROM snapshot_journal").fetchone()
            return blocks, waiting

    def kept() -> list[int]:
        store = open_store(lab.database(), create=False, read_only=True)
        try:
            return [entry.taken_at_ms for entry in snapshots.read(store, machines.find(store, "one").id)]
        finally:
            store.close()

    for heat in range(20, 320):  # each step is seen by a sample or two
        fake.set(0, temperature_celsius=heat)
        time.sleep(0.1)
        if heat > 50 and stored()[0] >= 4 and len(set(heats(entries(-1)))) > 10:
            break
    assert eventually(lambda: stored()[0] >= 4 and stored()[1] >= 1), stored()
    everything = entries(-1)
    assert len(everything) > 12
    assert heats(everything) == sorted(heats(everything)), "oldest first, nothing out of order"
    assert len(set(heats(everything))) > 10
    read_at = [entry["gpu_data"]["gpu:0"]["timestamp"] for entry in everything]  # an entry's own says when the hub got it: one that was missed and fetched, later
    assert read_at == sorted(read_at)
    assert [entry for entry in everything if str(entry["timestamp"]) < re.sub("[^0-9]", "", entry["gpu_data"]["gpu:0"]["timestamp"])[:14]] == []
    assert node.stop() == 0
    last = until_failure(hub, "one", "refused")["snapshot"]["taken_at"]
    assert eventually(lambda: kept()[-1] == round(last * 1000)), "the last one is written, too"
    assert eventually(lambda: len(entries(-1)) == len(kept())), "what was answered a moment ago is answered no more"
    final = entries(-1)
    assert final[: len(everything)] == everything
    for count in (1, 2, 3, 7, 12, len(final) - 1, len(final), len(final) + 5, 10**30):
        assert entries(count) == final[-count:], count
    assert entries("abc") == entries("") == final[-1:]
    assert [entry["gpu_data"] for entry in json.loads(get(f"{hub.url()}/states/?fetch_num=5")[1])["one"]["data"]] == [
        entry["gpu_data"] for entry in final[-5:]
    ]
