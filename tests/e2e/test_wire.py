"""The link between hub and node as attackers find it: what each side says, with real processes on real sockets (docs/security.md names these tests)."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, List, Optional

import pytest
from tests.certs import Authority, Pair, self_signed
from tests.e2e.processes import Lab, Running, address, eventually, get, nodes_of, until_says, until_status

from gpuwatch.wire import asking
from gpuwatch.wire.push import PUSH_PATH
from gpuwatch.wire.signing import Signer

PASSWORD = "a long password of the lab"
SIMULATED = {"source": "gpuwatch.sim.source:make", "source_argument": "2xh100:mixed:1", "interval": 0.5, "no_access_log": True}


@pytest.fixture(scope="module")
def lab(pyz: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(pyz, tmp_path_factory.mktemp("wire"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return self_signed(tmp_path_factory.mktemp("pair"), "127.0.0.1")


@pytest.fixture(scope="module")
def node(lab: Lab) -> Running:
    return lab.node("plain", SIMULATED, password=PASSWORD)


def start_secure(lab: Lab, name: str, pair: Pair) -> Running:
    """A node with this certificate."""
    config = lab.toml(name, "node", {"host": "127.0.0.1", "port": 0, **SIMULATED}, {"tls_cert": str(pair.cert), "tls_key": str(pair.key)})
    return lab.start(name, "node", "--config", config, env={"GPUWATCH_PASSWORD": PASSWORD})


def port_of(running: Running) -> int:
    return int(running.wait_for(r"https?://[\w.\[\]:]+:(\d+)").group(1))


@pytest.fixture(scope="module")
def secure_node(lab: Lab, pair: Pair) -> Running:
    return start_secure(lab, "secure", pair)


class Tap:
    """Stands on the wire between hub and node, and keeps what the hub sends."""

    def __init__(self, to_port: int) -> None:
        self._to = to_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.sent: List[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                hub, _ = self._listening.accept()
            except OSError:
                return
            node = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pump, args=(hub, node, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(node, hub, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        try:
            while data := source.recv(65536):
                if keep:
                    self.sent.append(data)
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            one.close()

    def close(self) -> None:
        self._listening.close()


def raw(port: int, data: bytes) -> str:
    """What a node answers to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")


def test_what_is_recorded_cannot_be_sent_again_or_changed(lab: Lab, node: Running) -> None:
    tap = Tap(port_of(node))
    hub = lab.hub(f"a=127.0.0.1:{tap.port}\n", name="tapped", password=PASSWORD)
    try:
        until_status(hub, "a", "up")
        assert eventually(lambda: len(tap.sent) >= 3)
        wire = b"".join(tap.sent)
        assert PASSWORD.encode() not in wire
        assert b"passwd" not in wire
        assert asking.derive_key(PASSWORD).hex().encode() not in wire
        recorded = next(one for one in tap.sent if one.startswith(b"POST /get-status"))
        again = raw(port_of(node), recorded)
        assert again.startswith("HTTP/1.1 403 ")
        assert again.endswith("The request came before: it is taken once only.\n")
        for old, new in ((b'{"flat": ', b'{"flut": '), (b"POST /get-status ", b"POST /get-status?x=1 "), (b"time=1", b"time=2"), (b"key=password", b"key=passwort")):
            assert old in recorded
            changed = raw(port_of(node), recorded.replace(old, new, 1))
            assert changed.startswith("HTTP/1.1 403 ")
            assert changed.endswith("The signature of the request is wrong.\n")
        until_status(hub, "a", "up")
    finally:
        hub.stop()
        tap.close()


AHEAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (clock == CLOCK_REALTIME) {
        at->tv_nsec += 450000000;
        at->tv_sec += 312 + at->tv_nsec / 1000000000;
        at->tv_nsec %= 1000000000;
    }
    return result;
}
"""
"""Loaded into a process: its clock is 312 s ahead, and still is where a request takes most of a second."""


def test_a_hub_with_a_wrong_clock_is_told_by_how_much_and_counts_as_no_guesser(lab: Lab, node: Running) -> None:
    folder = lab.folder / "ahead"
    folder.mkdir()
    (folder / "ahead.c").write_text(AHEAD)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "ahead.so", folder / "ahead.c", "-ldl"], check=True, timeout=60)
    lab.hosts_file("ahead").write_text(f"a={address(node)}\n")
    settings = {"port": 0, "interval": 0.2, "hosts": str(lab.hosts_file("ahead")), "database": lab.database("ahead")}
    env = {"GPUWATCH_PASSWORD": PASSWORD, "LD_PRELOAD": str(folder / "ahead.so")}
    hub = lab.start("ahead", "hub", "--config", lab.toml("ahead-hub", "hub", settings), env=env)
    try:
        hub.url()
        found = until_says(hub, "a", "its clock is 312 s behind")
        assert found["status"] == "error"
        assert found["error"].startswith("a takes no requests of this hub: its clock is 312 s behind the hub's. Next: set both clocks")
        assert eventually(lambda: refused(node)["stale"] >= 12)
        assert signed(port_of(node))[0] == 200  # ten wrong passwords of this address would have locked it out
        assert eventually(lambda: "its clock is 312 s behind the hub's" in lab.run("check", "-c", lab.hosts_file("ahead"), "--live", env=env).stdout)
    finally:
        hub.stop()


def signed(port: int, password: str = PASSWORD, source: Optional[str] = None, connection: Any = None) -> tuple[int, str]:
    """A signed request, from a loopback address of one's choice."""
    body = asking.body_for("")
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(source, 0) if source else None)
    own.request("POST", asking.PATH, body, {**asking.HEADERS, "Authorization": asking.signer_of(password).header("POST", asking.PATH, body, time.time())})
    answer = own.getresponse()
    text = answer.read().decode("utf-8", "replace")
    if connection is None:
        own.close()
    return answer.status, text


def refused(node: Running) -> dict[str, int]:
    """What its /metrics counts, by reason."""
    text = get(f"http://127.0.0.1:{port_of(node)}/metrics", {"Authorization": f"Bearer {PASSWORD}"})[1]
    return {name: int(count) for name, count in re.findall(r'gpuwatch_refused_total\{reason="([^"]+)"\} (\d+)', text)}


def test_the_wrong_certificate_of_each_kind(lab: Lab, pair: Pair, secure_node: Running, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    kinds = {"expired": ("IP:127.0.0.1", -1), "elsewhere": ("DNS:elsewhere.test", 10), "signed": ("IP:127.0.0.1", 10)}
    running = {name: start_secure(lab, name, authority.issue(name, *how)) for name, how in kinds.items()}
    port = port_of(secure_node)
    lines = [f"pinned=https://127.0.0.1:{port} pin={pair.pin}", f"wrong=https://127.0.0.1:{port} pin=sha256:{'0' * 64}", f"unknown=https://127.0.0.1:{port}"]
    lines += [f"{name}=https://127.0.0.1:{port_of(one)} ca={authority.cert}" for name, one in running.items()]
    hub = lab.hub("\n".join(lines) + "\n", name="certificates", password=PASSWORD)
    wanted = {
        "wrong": rf"it is {pair.pin}, pinned is sha256:0000",
        "unknown": r"self-signed certificate; nobody who is trusted here signed it. Next: pin it",
        "expired": r"certificate has expired. Next: renew it",
        "elsewhere": r"not valid for '127.0.0.1'. Next: write a name that it holds",
    }
    try:
        for good in ("pinned", "signed"):
            until_status(hub, good, "up")
        for name, words in wanted.items():
            assert until_says(hub, name, words)["status"] == "error"
        done = lab.run("check", "-c", lab.hosts_file("certificates"), "--live", env={"GPUWATCH_PASSWORD": PASSWORD})
        for name, words in wanted.items():
            assert re.search(rf"FAIL +{name} .*{words}", done.stdout), done.stdout
        for name in ("pinned", "signed"):
            assert re.search(rf"ok +{name} .*2 GPUs", done.stdout), done.stdout
    finally:
        hub.stop()
        for one in running.values():
            one.stop()


def test_fifty_idle_tls_connections_and_half_a_hello_delay_nobody(lab: Lab, pair: Pair, secure_node: Running) -> None:
    port = port_of(secure_node)
    lab.hosts_file("busy").write_text(f"a=https://127.0.0.1:{port} pin={pair.pin}\n")
    settings = {"port": 0, "interval": 0.5, "stale_intervals": 60, "hosts": str(lab.hosts_file("busy")), "database": lab.database("busy")}
    common = {"tls_cert": str(pair.cert), "tls_key": str(pair.key)}
    hub = lab.start("busy", "hub", "--config", lab.toml("busy-hub", "hub", settings, common), env={"GPUWATCH_PASSWORD": PASSWORD})
    idle: List[socket.socket] = []
    try:
        own = port_of(hub)
        hello = client_hello(pair)
        for target in (port, own):
            idle += [socket.create_connection(("127.0.0.1", target)) for _ in range(50)]
            half = [socket.create_connection(("127.0.0.1", target)) for _ in range(5)]
            for one in half:
                one.sendall(hello[:-40])
            idle += half
        ages = [asked(own, pair) for _ in range(3)]
        assert [status for status, _ in ages] == [200] * 3

        def taken_at() -> float:
            node = json.loads(asked(own, pair)[1])["nodes"][0]
            return float(node["snapshot"]["taken_at"]) if node["snapshot"] else 0.0

        first = eventually(taken_at)
        assert first
        assert eventually(lambda: taken_at() > first + 1.0)  # polls go on beside them
        assert f"https://127.0.0.1:{own}/" in hub.output
        done = lab.run("status", "--hub", f"https://127.0.0.1:{own}", env={"SSL_CERT_FILE": str(pair.cert)})
        assert (done.returncode, done.stdout.count("H100")) == (0, 2), done.stderr
        done = lab.run("status", "--hub", f"https://127.0.0.1:{own}")
        assert (done.returncode, "Next: name a file with its certificate" in done.stderr) == (1, True), done.stderr
    finally:
        for one in idle:
            one.close()
        hub.stop()


def asked(port: int, pair: Pair, path: str = "/api/v1/cluster") -> tuple[int, str]:
    """The hub's answer over a TLS connection of its own."""
    context = ssl.create_default_context(cafile=str(pair.cert))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def client_hello(pair: Pair) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context(cafile=str(pair.cert)).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


GUESSES, SOURCES = 10_000, 200


def test_ten_thousand_guesses_lock_out_nobody_but_the_guesser(lab: Lab, node: Running) -> None:
    port = port_of(node)
    hub = lab.hub(f"a={address(node)}\n", name="guessed", password=PASSWORD)
    try:
        until_status(hub, "a", "up")
        before, counted = memory_kib(node), refused(node)
        answers: Counter[int] = Counter()
        threads = [threading.Thread(target=guess, args=(port, number, answers)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert sum(answers.values()) == GUESSES
        assert answers[429] > GUESSES * 0.7, answers
        assert set(answers) == {403, 429}
        again = [get(f"http://127.0.0.1:{port}/get-status", {"Content-Type": "application/json"}, "POST", b'{"passwd": "x"}')[0] for _ in range(11)]
        assert again[-1] == 429  # also where all those guesses took more than a minute
        assert signed(port)[0] == 200  # the hub's address is the guesser's: the key lets it in
        after = refused(node)
        assert after["too many tries"] - counted["too many tries"] >= answers[429]
        assert memory_kib(node) - before < 20_000
        newest = nodes_of(hub)["a"]["snapshot"]["taken_at"]
        assert eventually(lambda: nodes_of(hub)["a"]["snapshot"]["taken_at"] > newest)
        lines = [line for line in node.output.splitlines() if "refused: " in line]
        assert 1 <= len(lines) <= 10
        assert "guess-" not in node.output
    finally:
        hub.stop()


answered = threading.Lock()


def guess(port: int, number: int, answers: "Counter[int]") -> None:
    """A quarter of the guesses, from 50 addresses, 127.0.0.1 among them, half of them signed; those of an address without waiting for answers."""
    found: List[bytes] = []
    wrong, body = asking.Question("node", asking.signer_of("wrong")), b'{"passwd": "guess-%d"}'
    for source in range(number, SOURCES, 4):
        sent = b""
        for turn in range(GUESSES // SOURCES):
            told = body % (1000 + turn)
            head = b"POST /get-status HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(told)
            sent += wrong.request("", time.time()) if turn % 2 else head + told
        with socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(f"127.0.0.{source + 1}", 0)) as connection:
            connection.sendall(sent)
            came = b""
            while came.count(b"HTTP/1.1 4") < GUESSES // SOURCES or not came.endswith(b"\n"):
                part = connection.recv(65536)
                assert part, came[-300:]
                came += part
        found += re.findall(rb"HTTP/1\.1 (\d+)", came)
    with answered:
        answers.update(map(int, found))


def memory_kib(running: Running) -> int:
    """Resident memory of the process itself."""
    text = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


def test_a_push_by_tls_goes_to_the_pinned_hub_alone_and_forged_ones_are_counted(lab: Lab, pair: Pair) -> None:
    lab.hosts_file("pushed").write_text("")
    settings = {"port": 0, "interval": 0.5, "hosts": str(lab.hosts_file("pushed")), "database": lab.database("pushed")}
    common = {"tls_cert": str(pair.cert), "tls_key": str(pair.key)}
    hub = lab.start("pushed", "hub", "--config", lab.toml("pushed-hub", "hub", settings, common))
    own = port_of(hub)
    assert eventually(lambda: asked(own, pair)[0] == 200)
    done = lab.run("enroll", "--database", lab.database("pushed"), "create")
    code = done.stdout.strip()
    nodes = {}
    for name, pin in (("false", "sha256:" + "0" * 64), ("pushing", pair.pin)):
        given = {"host": "127.0.0.1", "port": 0, "push": f"https://127.0.0.1:{own}", "push_pin": pin, "enroll": code, **SIMULATED}
        nodes[name] = lab.start(name, "node", "--config", lab.toml(name, "node", {"name": name, **given}), env={"GPUWATCH_PASSWORD": PASSWORD})
    try:
        nodes["false"].wait_for(rf"it is {pair.pin}, pinned is sha256:0000")

        def statuses() -> dict[str, str]:
            return {one["name"]: one["status"] for one in json.loads(asked(own, pair)[1])["nodes"]}

        assert eventually(lambda: statuses() == {"pushing": "up"}), (statuses(), nodes["pushing"].output[-2000:])
        forged = Signer("0" * 32, b"x" * 32)
        statuses_told = [pushed(own, pair, forged) for _ in range(12)]
        assert statuses_told == [401] * 10 + [429] * 2
        text = asked(own, pair, "/metrics")[1]
        assert 'gpuwatch_refused_total{reason="wrong signature"} 10' in text
        assert 'gpuwatch_refused_total{reason="too many tries"} 2' in text
        newest = json.loads(asked(own, pair)[1])["nodes"][0]["snapshot"]["taken_at"]  # the guesser's address is the node's
        assert eventually(lambda: json.loads(asked(own, pair)[1])["nodes"][0]["snapshot"]["taken_at"] > newest)
    finally:
        for one in (*nodes.values(), hub):
            one.stop()


def pushed(port: int, pair: Pair, signer: Signer) -> int:
    """What a push with this key is answered."""
    body = b"x"
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=ssl.create_default_context(cafile=str(pair.cert)))
    connection.request("POST", PUSH_PATH, body, {"Authorization": signer.header("POST", PUSH_PATH, body, time.time())})
    status = connection.getresponse().status
    connection.close()
    return status


def test_no_secret_is_in_a_log(lab: Lab, node: Running, secure_node: Running) -> None:
    for one in lab._running:
        assert PASSWORD not in one.output
        assert asking.derive_key(PASSWORD).hex() not in one.output
        assert "PRIVATE KEY" not in one.output
        assert "mac=" not in one.output
