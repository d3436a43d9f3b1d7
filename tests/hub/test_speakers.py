"""Targets that are not gpuwatch over real sockets: what the hub asks, what it makes of the answers, what their errors cost."""

from __future__ import annotations

import json
import ssl
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest
from tests.certs import Pair, self_signed
from tests.hub.programs import Program, captured, page, reply

from gpuwatch.hub.ingest import Ingest
from gpuwatch.hub.journal import ArrivalQueue
from gpuwatch.hub.passwords import Passwords
from gpuwatch.hub.poller import Poller
from gpuwatch.hub.speakers import SPEAKERS, Speaker
from gpuwatch.loops import AsyncLoop
from gpuwatch.model.cluster import NodeState, Target
from gpuwatch.model.foreign import FOREIGN
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Display, Latest
from gpuwatch.rules.limits import Limits
from gpuwatch.wire.http import build_request

SECRET = "the hub's own secret"


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "did not happen in time"
        time.sleep(0.02)


class Hub:
    """A poller with everything behind it but the store. Readings are fresh for a while though this machine stands still."""

    def __init__(self) -> None:
        self.latest = Latest(Limits(stale_intervals=300.0), Display(interval_seconds=0.1))
        self.ingest = Ingest(self.latest, ArrivalQueue())
        self._poller = Poller(self.ingest, Passwords(SECRET), interval_seconds=0.1, deadline_seconds=50.0)
        self._loop = AsyncLoop("poller").start(self._poller.run)

    def watch(self, *targets: Target) -> None:
        pairs: List[Tuple[Target, str]] = [(target, f"{place:032x}") for place, target in enumerate(targets)]
        self.latest.set_targets(pairs, time.time())
        self._poller.set_targets(pairs)

    def node(self, name: str = "x") -> NodeState:
        return next(node for node in cluster(self.latest, time.time(), "admin").nodes if node.name == name)

    def status(self, name: str = "x") -> str:
        self.ingest.tick(time.time())
        return self.node(name).status

    def stop(self) -> None:
        assert self._loop.stop(60)


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.stop()


@pytest.fixture
def start() -> Iterator[Callable[[Any], Program]]:
    programs: List[Program] = []

    def start(answer: Any) -> Program:
        programs.append(Program(answer))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def target(scheme: str, program: Program, name: str = "x", **more: Any) -> Target:
    return Target(name, "127.0.0.1", program.port, scheme, **more)


def fresh_002(asked: bytes = b"", **keys: Any) -> bytes:
    """The recorded answer, read just now; local time, as it is."""
    now = datetime.now().isoformat(timespec="microseconds")
    return reply(json.dumps({**json.loads(captured("002_get-status.raw")), "last_update": now, **keys}).encode())


def test_node_info_is_asked_byte_for_byte_and_shown(hub: Hub, start: Callable[[Any], Program]) -> None:
    program = start(fresh_002)
    hub.watch(target("node_info+http", program))
    until(lambda: hub.status() == "up" and len(program.asked) > 2)
    assert program.asked[0] == (
        f"POST /get-status HTTP/1.1\r\nHost: {program.address}\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: 18\r\n\r\n"
        '{"passwd": "8888"}'
    ).encode()
    first, second = hub.node().gpus
    assert (first.state.state, first.reading.uuid, first.reading.memory_used_bytes) == ("busy", "no-uuid:x:0", 2 << 30)
    assert [(one.user, one.command) for one in first.reading.processes] == [("root", "sleep 1000")]
    assert (second.state.state, second.reading.power_watts) == ("free", None)
    arrivals = hub.ingest.arrivals.take(99)
    assert arrivals, "they are stored"
    assert len({id(one.shape) for one in arrivals}) == 1, "one shape, as long as no fact changes"


def test_the_hub_s_own_password_never_leaves_in_the_clear(hub: Hub, start: Callable[[Any], Program], tmp_path: Path) -> None:
    """Not to any of these programs, not after a refusal; to node_info.py the one of its own line."""
    (tmp_path / "password").write_text("its-own\n")
    (tmp_path / "password").chmod(0o600)
    programs = {scheme: start(reply(b"no", "404 NOT FOUND", "text/html")) for scheme in FOREIGN if not scheme.endswith("s")}
    own = start(reply(b"no", "404 NOT FOUND", "text/html"))
    hub.watch(*(target(scheme, program, scheme) for scheme, program in programs.items()), target("node_info+http", own, "own", password_file=str(tmp_path / "password")))
    until(lambda: all(len(program.asked) >= 2 for program in [*programs.values(), own]))
    for scheme, program in programs.items():
        assert not any(SECRET.encode() in asked or b"its-own" in asked for asked in program.asked)
        assert all((b"passwd" in asked) == (scheme == "node_info+http") for asked in program.asked), scheme
        assert all((b"8888" in asked.partition(b"\r\n\r\n")[2]) == (scheme == "node_info+http") for asked in program.asked)
    assert own.asked[0].endswith(b'{"passwd": "its-own"}')
    assert "wrong password: own answered 404" in (hub.node("own").error or "")
    assert "password_file=" in (hub.node("own").error or "")
    assert "is it dcgm-exporter that listens" in (hub.node("dcgm+http").error or "")


@pytest.mark.parametrize("scheme", [scheme for scheme in SPEAKERS if scheme != "node_info+http"])
def test_the_others_are_asked_without_a_password(scheme: str) -> None:
    one = Target("x", "h", 1, scheme)
    method, path, body, headers = Speaker(one, 5.0).asked(SECRET)
    assert (method, path, body) == ("GET", "/api/gpu_status" if scheme == "accessgrid+http" else "/metrics", None)
    assert SECRET not in str(headers)
    assert build_request(method, one.address, path, body, headers) == Speaker(one, 5.0).request(SECRET)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return self_signed(tmp_path_factory.mktemp("pair"), "127.0.0.1")


def guarded(asked: bytes) -> bytes:
    """node_exporter behind basic auth, as its web configuration makes it."""
    if b"\r\nAuthorization: Basic c2NyYXBlcjppdHMgb3du\r\n" in asked:
        return reply(page("node_exporter"), kind="text/plain; version=0.0.4")
    return reply(b"Unauthorized\n", "401 Unauthorized", "text/plain")


def test_exporters_behind_tls_and_basic_auth(hub: Hub, pair: Pair, tmp_path: Path) -> None:
    """The user and password of the line go by TLS, to the certificate that it names; nothing goes to another one."""
    (tmp_path / "password").write_text("its own\n")
    (tmp_path / "password").chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    program = Program(guarded, context)
    login = {"user": "scraper", "password_file": str(tmp_path / "password")}
    hub.watch(
        target("node+https", program, "pinned", pin=pair.pin, **login), target("node+https", program, "authority", ca_file=str(pair.cert), **login),
        target("node+https", program, "impostor", pin="sha256:" + "0" * 64, **login), target("node+https", program, "unknown", **login),
        target("node+https", program, "nobody", pin=pair.pin), target("node+https", program, "wrong", pin=pair.pin, user="other", password_file=login["password_file"]),
    )  # fmt: skip
    try:
        until(lambda: hub.status("pinned") == hub.status("authority") == "up")
        until(lambda: all(hub.status(name) in ("error", "down") for name in ("impostor", "unknown", "nobody", "wrong")))
        machine = hub.node("pinned")
        errors = {name: hub.node(name).error or "" for name in ("impostor", "unknown", "nobody", "wrong")}
    finally:
        program.close()
    assert machine.snapshot is not None
    assert (machine.gpus, machine.snapshot.host.memory_total_bytes) == ((), 25276510208)
    assert f"certificate of {program.address} refused: it is {pair.pin}" in errors["impostor"]
    assert f"certificate of {program.address} refused" in errors["unknown"]
    assert "nobody answered 401: it wants a password, and the hub sends none to node_exporter on this line. Next: write USER@" in errors["nobody"]
    assert "wrong answered 401: it does not take this user and password. Next: correct the file" in errors["wrong"]
    assert not any("its own" in error or "scraper" in error for error in errors.values())
    asked = list(program.asked)
    told = {line for one in asked for line in one.split(b"\r\n") if line.startswith(b"Authorization")}
    assert told == {b"Authorization: Basic c2NyYXBlcjppdHMgb3du", b"Authorization: Basic b3RoZXI6aXRzIG93bg=="}
    assert SECRET.encode() not in b"".join(asked)


def test_without_tls_an_exporter_that_wants_a_password_gets_none(hub: Hub, start: Callable[[Any], Program]) -> None:
    program = start(guarded)
    hub.watch(target("node+http", program, user="scraper", password_file="/nowhere"))
    until(lambda: hub.status() == "error")
    assert "401: it wants a password, and the hub sends none to node_exporter without TLS. Next: open it to the hub, or ask it by node+https://." in (hub.node().error or "")
    assert b"Authorization" not in b"".join(program.asked)


def test_one_that_stopped_reading_becomes_stale(hub: Hub, start: Callable[[Any], Program], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.wire.legacy.seed002_node.FROZEN_SECONDS", 0.5)
    program = start(fresh_002)
    hub.watch(target("node_info+http", program))
    until(lambda: hub.status() == "up")
    program.answer = fresh_002()
    until(lambda: hub.status() == "stale")
    assert "it has stopped reading" in (hub.node().error or "")
    assert hub.node().gpus[0].state.state == "stale"
    stored = hub.ingest.arrivals.take(10_000)
    assert len({one.taken_at for one in stored}) == len(stored), "the same reading is stored once"
    program.answer = fresh_002
    until(lambda: hub.status() == "up")


def test_an_answer_of_days_ago_is_no_reading_until_it_moves(hub: Hub, start: Callable[[Any], Program]) -> None:
    program = start(fresh_002(last_update="2026-11-01T03:00:00.5"))
    hub.watch(target("node_info+http", program))
    until(lambda: hub.status() == "error")
    assert "last read its GPUs at 2026-11-01T03:00:00.5" in (hub.node().error or "")
    assert hub.node().snapshot is None
    program.answer = fresh_002(last_update="2026-11-01T03:00:04.5")
    until(lambda: hub.status() == "up")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(b"<html>", "500 INTERNAL SERVER ERROR", "text/html"), "answered 500"),
        (reply(b"<html>", "415 UNSUPPORTED MEDIA TYPE", "text/html"), "answered 415"),
        (reply(b"<html>", "404 NOT FOUND", "text/html"), "wrong password"),
        (reply(b"<html>"), "not JSON"),
        (reply(b"[]"), "no list of gpus"),
        (lambda asked: fresh_002(last_update=None, gpus=[]), "has read no GPU yet"),
        (lambda asked: fresh_002(gpus=[{"index": 0}, {"index": 0}]), "two GPUs or slices of the UUID"),
    ],
)
def test_errors_of_node_info_are_said(hub: Hub, start: Callable[[Any], Program], answer: Any, words: str) -> None:
    hub.watch(target("node_info+http", start(answer)))
    until(lambda: hub.status() == "error")
    error = hub.node().error or ""
    assert words in error
    assert "Next:" in error
    assert "gpuwatch node" not in error, "node_info.py is what should listen there"


def test_accessgrid_its_fillers_and_its_errors(hub: Hub, start: Callable[[Any], Program]) -> None:
    program = start(reply(captured("000_gpu_status.raw")))
    hub.watch(target("accessgrid+http", program))
    until(lambda: hub.status() == "up")
    assert program.asked[0] == f"GET /api/gpu_status HTTP/1.1\r\nHost: {program.address}\r\nAccept: */*\r\n\r\n".encode()
    assert [(gpu.reading.name, gpu.state.state) for gpu in hub.node().gpus] == [("NVIDIA GeForce RTX 3090", "busy"), ("NVIDIA GeForce RTX 3090", "free")]
    hub.latest.limits = Limits()
    program.answer = reply(b'{"status":"error","message":"nvidia-smi failed","gpu_count":0,"gpu_details":[]}')
    until(lambda: hub.status() == "error")
    assert "could not read its GPUs: nvidia-smi failed. Next:" in (hub.node().error or "")


def test_exporters(hub: Hub, start: Callable[[Any], Program]) -> None:
    kind = "text/plain; version=0.0.4; charset=utf-8"
    pages = {"dcgm+http": page("dcgm"), "nvitop+http": page("nvitop"), "node+http": page("node_exporter")}
    programs = {scheme: start(reply(body, kind=kind)) for scheme, body in pages.items()}
    hub.watch(*(target(scheme, program, scheme) for scheme, program in programs.items()))
    until(lambda: all(hub.status(scheme) == "up" for scheme in pages))
    assert programs["dcgm+http"].asked[0] == f"GET /metrics HTTP/1.1\r\nHost: {programs['dcgm+http'].address}\r\nAccept: text/plain;version=0.0.4\r\n\r\n".encode()
    assert [gpu.state.state for gpu in hub.node("dcgm+http").gpus] == ["busy", "free"], "without processes the memory in use decides"
    assert hub.node("nvitop+http").gpus[0].reading.processes[0].user == "root"
    machine = hub.node("node+http")
    assert (machine.gpus, machine.snapshot.host.memory_total_bytes if machine.snapshot else None) == ((), 25276510208)
    programs["dcgm+http"].close()
    until(lambda: "is dcgm-exporter running there" in (hub.node("dcgm+http").error or ""))
    until(lambda: hub.status("nvitop+http") == "up")


def test_every_scheme_has_a_speaker_that_imports() -> None:
    assert set(SPEAKERS) == set(FOREIGN)
    for scheme in SPEAKERS:
        assert callable(Speaker(Target("x", "h", 1, scheme), 5.0)._module.read)
