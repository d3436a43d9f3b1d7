"""Numbers sent on: to Debian's VictoriaMetrics and read back by its query API, and to servers that refuse, hang or are away."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from tests.hub.nodes import reserved_port
from tests.hub.programs import Program, page, reply
from tests.render import samples

from gpuwatch.config.settings import HubSettings
from gpuwatch.hub import lines as module
from gpuwatch.hub.lines import LineSender
from gpuwatch.hub.service import Hub
from gpuwatch.model.errors import UsageError

NO_CONTENT = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    ends_at = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < ends_at, "did not happen in time"
        time.sleep(0.05)


class Sending:
    """A LineSender over a cluster that may change."""

    def __init__(self, url: str, token_file: str = "") -> None:
        self.cluster = samples.lab()
        self.notices: List[Optional[str]] = []
        self.owned: Callable[[str], bool] = lambda machine_id: True
        self.sender = LineSender(
            url, token_file, lambda: self.cluster, lambda machine_id: self.owned(machine_id), lambda key, text: self.notices.append(text), threading.Event()
        )

    def beat(self) -> Optional[str]:
        """One beat; what the pages say now."""
        self.sender._next_at = 0.0
        self.sender.run_once(time.time())
        return self.notices[-1] if self.notices else None


@pytest.fixture
def start() -> Iterator[Callable[[Any], Program]]:
    programs: List[Program] = []

    def start(answer: Any) -> Program:
        programs.append(Program(answer))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


class Victoria:
    """Debian's victoria-metrics."""

    def __init__(self, folder: Path, port: int) -> None:
        program = shutil.which("victoria-metrics") or shutil.which("victoria-metrics-prod")
        assert program, "victoria-metrics is missing: make prepare"
        self.address = f"127.0.0.1:{port}"
        argv = [program, f"-storageDataPath={folder}", f"-httpListenAddr={self.address}", "-search.latencyOffset=0s", "-memory.allowedBytes=128MB"]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(self, path: str, **query: str) -> str:
        with urllib.request.urlopen(f"http://{self.address}{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    def is_up(self) -> bool:
        try:
            return bool(self.get("/health"))
        except OSError:
            return False

    def ask(self, query: str) -> List[Dict[str, Any]]:
        self.get("/internal/force_flush")
        found: List[Dict[str, Any]] = json.loads(self.get("/api/v1/query", query=query, nocache="1"))["data"]["result"]
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)


@pytest.fixture
def victoria(tmp_path: Path) -> Iterator[Victoria]:
    with reserved_port() as port:
        made = Victoria(tmp_path / "victoria", port)
        try:
            until(made.is_up)
            yield made
        finally:
            made.close()


def fresh(cluster: Any) -> Any:
    """The same cluster, read just now."""
    return replace(cluster, nodes=tuple(replace(node, received_at=time.time()) if node.status == "up" else node for node in cluster.nodes))


def test_victoria_metrics_gives_them_back_under_the_names_of_metrics(victoria: Victoria) -> None:
    sending = Sending(f"http://{victoria.address}/write")
    sending.cluster = fresh(sending.cluster)
    assert sending.beat() is None
    assert sending.sender.sent > 50
    (one,) = until(lambda: victoria.ask('DCGM_FI_DEV_GPU_UTIL{Hostname="dgx-a",gpu="0"}'))
    node = next(node for node in sending.cluster.nodes if node.name == "dgx-a")
    reading = node.gpus[0].reading
    assert float(one["value"][1]) == reading.utilization_percent
    assert (one["metric"]["UUID"], one["metric"]["modelName"], one["metric"]["__name__"]) == (reading.uuid, reading.name, "DCGM_FI_DEV_GPU_UTIL")
    ups = {series["metric"]["Hostname"]: series["value"][1] for series in victoria.ask("gpuwatch_node_up")}
    assert ups == {node.name: str(int(node.status == "up")) for node in sending.cluster.nodes}
    assert victoria.ask("count(gpuwatch_gpu_state)")[0]["value"][1] == str(sum(len(node.gpus) for node in sending.cluster.nodes if node.status == "up"))
    names = set(json.loads(victoria.get("/api/v1/label/__name__/values"))["data"])
    assert {"gpuwatch_host_memory_total_bytes", "DCGM_FI_DEV_FB_USED", "gpuwatch_disk_used_bytes"} <= names
    assert not [name for name in names if not name.startswith(("DCGM_FI_", "gpuwatch_"))]


def test_each_reading_is_sent_once_and_only_by_its_hub(start: Callable[[Any], Program]) -> None:
    program = start(NO_CONTENT)
    sending = Sending(f"http://{program.address}/write?db=lab")
    sending.owned = lambda machine_id: machine_id != sending.cluster.nodes[0].machine_id
    sending.beat()
    head, _, body = program.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /write?db=lab HTTP/1.1\r\n")
    assert b"Content-Encoding: gzip" in head
    assert b"Authorization" not in head
    first = zlib.decompress(body, 31).decode()
    assert "Hostname=dgx-a " not in first, "another hub's"
    assert "Hostname=dgx-b" in first
    sending.beat()
    again = zlib.decompress(program.asked[1].partition(b"\r\n\r\n")[2], 31).decode()
    assert "node_up=1" not in again, "no new reading, no line"
    assert again.count("node_up=0") == first.count("node_up=0")
    sending.cluster = fresh(sending.cluster)
    sending.beat()
    assert "Hostname=dgx-b" in zlib.decompress(program.asked[2].partition(b"\r\n\r\n")[2], 31).decode()


def test_what_cannot_be_sent_waits_and_goes_later(start: Callable[[Any], Program]) -> None:
    program = start(reply(b"later", "503 Service Unavailable"))
    sending = Sending(f"http://{program.address}/write")
    assert "answered 503. Next:" in (sending.beat() or "")
    sending.cluster = fresh(sending.cluster)
    sending.beat()
    assert (len(sending.sender._queue), sending.sender.sent) == (2, 0)
    program.answer = NO_CONTENT
    assert sending.beat() is None, "the notice goes when they went"
    assert (len(sending.sender._queue), sending.sender.dropped) == (0, 0)
    assert sending.sender.sent > 50


def test_a_failure_is_backed_off(start: Callable[[Any], Program]) -> None:
    program = start(reply(b"", "503 Service Unavailable"))
    sending = Sending(f"http://{program.address}/write")
    for _ in range(5):
        sending.sender.run_once(time.time())
    assert len(program.asked) == 1


def test_the_queue_is_bounded_and_says_what_is_lost(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES", 20_000)
    sending = Sending("http://127.0.0.1:9/write")
    for _ in range(12):
        sending.cluster = fresh(sending.cluster)
        assert "connection refused" in (sending.beat() or "")
    assert sending.sender.waiting_bytes <= 20_000
    assert sending.sender.dropped > 0
    assert "lines are lost" in caplog.text


def test_refused_lines_are_given_up_and_do_not_block_the_others(start: Callable[[Any], Program]) -> None:
    program = start(reply(b"unable to parse", "400 Bad Request"))
    sending = Sending(f"http://{program.address}/write")
    notice = sending.beat() or ""
    assert "refused" in notice
    assert "(400)" in notice
    assert not sending.sender._queue
    assert sending.sender.dropped > 50


def test_the_token(start: Callable[[Any], Program], tmp_path: Path) -> None:
    program, token = start(NO_CONTENT), tmp_path / "token"
    sending = Sending(f"http://{program.address}/api/v2/write?bucket=lab", str(token))
    notice = sending.beat() or ""
    assert "line_token_file cannot be used" in notice
    assert str(tmp_path) not in notice, "strangers read it"
    assert program.asked == []
    for written, header in (("s3cret", b"Authorization: Bearer s3cret\r\n"), ("Token s3cret", b"Authorization: Token s3cret\r\n")):
        token.write_text(written + "\n")
        token.chmod(0o600)
        sending.cluster = fresh(sending.cluster)
        assert sending.beat() is None
        assert header in program.asked[-1]
    program.answer = reply(b"", "401 Unauthorized")
    sending.cluster = fresh(sending.cluster)
    assert "s3cret" not in (sending.beat() or "")
    assert len(sending.sender._queue) == 1, "a wrong token is mended by a person: nothing is thrown away"


@pytest.mark.parametrize("url", ["127.0.0.1:8428", "ftp://h/write", "http://", "http://user:pass@h/write", "file:///etc/passwd"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match="line_url is not an address"):
        Sending(url)


def test_a_hub_with_line_url_sends(start: Callable[[Any], Program], tmp_path: Path) -> None:
    """From the exporter that it polls to the database, within the hub's own threads; and it stops at once though the other side hangs."""
    exporter, hanging = start(reply(page("dcgm"))), threading.Event()
    program = start(NO_CONTENT)
    (tmp_path / "hosts.txt").write_text(f"dgx=dcgm+http://{exporter.address}\n")
    settings = HubSettings(
        hosts=str(tmp_path / "hosts.txt"), database=f"sqlite:///{tmp_path}/hub.db", interval=0.2, timezone="UTC", password="x",
        line_url=f"http://{program.address}/write", line_interval=0.2,
    )  # fmt: skip
    hub = Hub(settings)
    hub.start()
    try:
        until(lambda: any(b"FI_DEV_GPU_UTIL=97" in zlib.decompress(asked.partition(b"\r\n\r\n")[2], 31) for asked in list(program.asked)))
        program.answer = lambda asked: reply(b"", "503 Service Unavailable") if hanging.wait(20) else b""
        asked = len(program.asked)
        until(lambda: len(program.asked) > asked)
        polls = hub.poller.stats.good
        until(lambda: hub.poller.stats.good > polls + 5)
        assert hub.health() == ""
        hanging.set()
        until(lambda: any("answered 503" in notice for notice in hub.cluster().notices))
    finally:
        hanging.set()
        hub.stop()
