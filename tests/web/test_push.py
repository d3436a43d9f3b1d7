"""Enrolment and pushes over real sockets: routes, connections that stay, TLS; who has no key learns nothing."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
import zlib
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import pytest
from tests.certs import self_signed
from tests.hub.test_pushes import SHAPES, record
from tests.hub.test_service import Lab, status, stored, until

from gpuwatch.config.settings import PushSettings
from gpuwatch.hub.service import Hub
from gpuwatch.loops import Loop, Stop
from gpuwatch.model.errors import WireError
from gpuwatch.serve.http import CertificateFiles, Server
from gpuwatch.store import codes, enrolled
from gpuwatch.web.app import make_app
from gpuwatch.web.push_lines import PushLines
from gpuwatch.wire.http import fetch as fetch_once
from gpuwatch.wire.kept import KeptConnection
from gpuwatch.wire.push import ENROLL_PATH, HOP, PUSH_PATH, UNKNOWN_KEY, Push, decode_reply, encode_push
from gpuwatch.wire.signing import Signer
from gpuwatch.wire.tls import Trust

fetch = partial(fetch_once, deadline_seconds=50.0)


class Served:
    """A hub with its HTTP face."""

    def __init__(self, hub: Hub, tls: Optional[CertificateFiles] = None) -> None:
        self.hub = hub
        self.lines = PushLines(hub)
        self.server = Server(make_app(hub), "127.0.0.1", 0, 2, tls=tls, taker=self.lines)
        self.url = self.server.url.rstrip("/")
        self.stop = Stop()
        self.loop = Loop("push reader", self.lines.run_once, 0.05, self.stop).start()
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.stop.set()
        assert self.loop.join(50)
        self.lines.close()
        self.server.close()
        self.thread.join(50)

    def code(self, name: str = "", valid: float = 60.0) -> str:
        until(lambda: self.hub.store)
        assert self.hub.store is not None
        return codes.new(self.hub.store, name, valid, time.time())

    def enroll(self, code: str, name: str = "p1") -> Tuple[int, Dict[str, Any]]:
        response = fetch(self.url + ENROLL_PATH, method="POST", body=json.dumps({"code": code, "name": name}).encode())
        return response.status, json.loads(response.body)

    def signer(self, name: str = "p1") -> Signer:
        status_code, made = self.enroll(self.code(), name)
        assert status_code == 200
        until(lambda: self.hub.pair(made["name"]))
        return Signer(made["id"], bytes.fromhex(made["key"]))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    lab = Lab(tmp_path)
    lab.write("")
    made = Served(lab.start())
    yield made
    made.close()
    lab.stop()


def body(sequence: int, after: Optional[int] = None) -> bytes:
    now = time.time()
    return encode_push(Push("0.1.0", now, after, [record(sequence, now)], None, SHAPES))


def signed(signer: Signer, data: bytes, **more: str) -> Dict[str, str]:
    return {"Authorization": signer.header("POST", PUSH_PATH, data, time.time()), "Content-Type": "application/x-gpuwatch-push", **more}


def test_a_code_works_once_and_gives_a_key(served: Served) -> None:
    code = served.code()
    status_code, made = served.enroll(code.lower().replace("-", " "))
    assert (status_code, made["name"], len(made["key"])) == (200, "p1", 64)
    assert served.enroll(code) == (403, {"error": "The code is wrong, used, or too old.", "next_step": "Make another one on the hub: gpuwatch enroll create"})
    assert served.enroll(served.code(valid=-1))[0] == 403
    assert served.enroll("")[0] == 403
    assert served.hub.store is not None
    row = enrolled.require(served.hub.store, "p1")
    assert (row.id, row.secret) == (made["id"], made["key"])
    (used,) = [one for one in codes.list_all(served.hub.store) if one.used_at is not None]
    assert used.used_by == "p1"
    assert code.replace("-", "") not in str(served.hub.store.rows("SELECT * FROM enroll_code"))


def test_two_that_use_one_code_at_once_get_one_key(served: Served) -> None:
    code = served.code()
    found = []
    threads = [threading.Thread(target=lambda: found.append(served.enroll(code)[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200, 403, 403, 403, 403, 403]


def test_a_code_for_a_name_gives_that_name_and_ends_the_older_key(served: Served) -> None:
    old = served.enroll(served.code("gpu7"), "anything")[1]
    new = served.enroll(served.code("gpu7"), "other")[1]
    assert old["name"] == new["name"] == "gpu7"
    assert old["id"] != new["id"]
    assert served.hub.store is not None
    assert enrolled.find(served.hub.store, old["id"]) is None
    assert served.enroll(served.code(), "gpu7")[1]["name"] == "gpu7-2"


@pytest.mark.parametrize("name", ["a b", "../x", "<script>", "x" * 999, "\u202e", "", "import:y"])
def test_any_name_becomes_harmless(served: Served, name: str) -> None:
    status_code, made = served.enroll(served.code(), name)
    assert status_code == 200
    assert made["name"].isprintable()
    assert not set(made["name"]) & set(" /<>\"'=?&#")


@pytest.mark.parametrize("sent", [b"", b"[]", b"{", b'{"code": 1, "name": "x"}', b'{"code": "x", "name": [1]}', b'{"code": "' + b"x" * 500 + b'"}'])
def test_what_is_no_request_for_a_key_is_refused(served: Served, sent: bytes) -> None:
    assert fetch(served.url + ENROLL_PATH, method="POST", body=sent).status == 400


def test_guessing_codes_is_slowed(served: Served) -> None:
    answers = [served.enroll(f"AAAAA-AAAAA-AAAAA-{number:05d}")[0] for number in range(12)]
    assert answers == [403] * 10 + [429] * 2
    assert served.enroll(served.code())[0] == 429  # from the same address, even the right one waits


def test_who_pushes_with_a_dead_key_too_often_is_told_that_a_code_helps(served: Served) -> None:
    data = body(1)
    dead = Signer("d" * 32, b"e" * 32)
    answers = [fetch(served.url + PUSH_PATH, method="POST", body=data, headers=signed(dead, data)) for _ in range(12)]
    assert [one.status for one in answers] == [401] * 10 + [429] * 2
    assert {one.headers["www-authenticate"] for one in answers} == {UNKNOWN_KEY}
    assert served.enroll(served.code())[0] == 200


def test_without_a_code_only_where_the_hub_says_so(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.write("p1=127.0.0.1:1")
    made = Served(lab.start(push=PushSettings(auto_enroll=True)))
    try:
        until(lambda: made.hub.pair("p1"))
        assert made.enroll("", "p1")[1]["name"] == "p1-2"  # a host of the hosts file cannot be had so
        assert made.enroll("", "p3")[1]["name"] == "p3"
    finally:
        made.close()
        lab.stop()


def test_a_push_by_the_route(served: Served) -> None:
    signer = served.signer()
    data = body(1)
    headers = signed(signer, data)
    response = fetch(served.url + PUSH_PATH, method="POST", body=data, headers=headers)
    assert (response.status, decode_reply(response.body).have) == (200, 1)
    assert status(served.hub, "p1") == "up"
    again = fetch(served.url + PUSH_PATH, method="POST", body=data, headers=headers)
    assert (again.status, json.loads(again.body)["error"]) == (401, "The request came before: it is taken once only.")
    packed = zlib.compress(body(2, after=1))
    assert fetch(served.url + PUSH_PATH, method="POST", body=packed, headers=signed(signer, packed, **{"Content-Encoding": "deflate"})).status == 200
    for bomb in (zlib.compress(b"0" * 50_000_000), packed[:-3], b"rubbish"):
        assert fetch(served.url + PUSH_PATH, method="POST", body=bomb, headers=signed(signer, bomb, **{"Content-Encoding": "deflate"})).status == 400
    until(lambda: stored(served.hub, "p1") == 2)


def test_who_has_no_key_is_told_nothing(served: Served) -> None:
    signer = served.signer()
    data = body(1)
    tampered = data.replace(b"0.1.0", b"0.1.1")
    for headers in (
        {},
        {"Authorization": "Basic eDp5"},
        signed(Signer(signer.key_id, b"\1" * 32), data),
        signed(Signer("0" * 32, b"\1" * 32), data),
    ):
        response = fetch(served.url + PUSH_PATH, method="POST", body=data, headers=headers)
        assert response.status == 401
        assert "p1" not in response.body.decode()
    assert fetch(served.url + PUSH_PATH, method="POST", body=tampered, headers=signed(signer, data)).status == 401
    old = {"Authorization": signer.header("POST", PUSH_PATH, data, time.time() - 500)}
    stale = fetch(served.url + PUSH_PATH, method="POST", body=data, headers=old)
    assert stale.status == 401
    assert re.search(r" 5\d\d s ", stale.body.decode()), "500 s, and those that this took"
    assert status(served.hub, "p1") == "unseen"
    assert fetch(served.url + PUSH_PATH).status == 405


def test_a_connection_that_asks_for_it_stays_and_leaves_the_server(served: Served) -> None:
    signer = served.signer()
    connection = KeptConnection(served.url, program="gpuwatch hub")
    have = None
    for sequence in range(1, 6):
        data = body(sequence, after=have)
        response = connection.post(PUSH_PATH, data, partial(signed, signer, data, Connection=HOP), 50.0)
        assert response.status == 200
        have = decode_reply(response.body).have
        assert have == sequence
        assert len(served.lines) == 1
        assert response.keeps_connection
    until(lambda: stored(served.hub, "p1") == 5)
    refused = connection.post(PUSH_PATH, data, lambda: {"Connection": HOP}, 50.0)
    assert refused.status == 401
    assert refused.keeps_connection
    connection.close()
    until(lambda: len(served.lines) == 0)
    assert fetch(served.url + "/healthz").status == 200


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-For": "10.0.0.1", "Connection": HOP}, {"Via": "1.1 proxy", "Connection": HOP}], ids=["none", "forwarded", "via"])
def test_a_connection_of_a_proxy_stays_with_the_server(served: Served, headers: Dict[str, str]) -> None:
    """It sends pages' requests on the same connection; the content type of a push alone asks for nothing."""
    signer = served.signer()
    connection = http.client.HTTPConnection("127.0.0.1", served.server.port, timeout=50)
    for sequence in (1, 2):
        data = body(sequence)
        connection.request("POST", PUSH_PATH, data, {**signed(signer, data), **headers})
        response = connection.getresponse()
        assert (response.status, decode_reply(response.read()).have) == (200, sequence)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok\n")
    assert len(served.lines) == 0
    connection.close()


def raw(served: Served, *parts: bytes, pause: float = 0.0) -> bytes:
    with socket.create_connection(("127.0.0.1", served.server.port), 50) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        connection.settimeout(50)
        answer = b""
        try:
            while True:
                data = connection.recv(65536)
                if not data:
                    return answer
                answer += data
                if b"\r\n\r\n" in answer and answer.startswith(b"HTTP/1.1 200"):
                    return answer
        except ConnectionResetError:  # it was closed with bytes unread
            return answer
        except socket.timeout:
            return answer + b"(open)"


HEAD = f"POST {PUSH_PATH} HTTP/1.1\r\nHost: x\r\nConnection: {HOP}\r\n".encode()


def test_a_request_in_small_pieces_is_put_together(served: Served) -> None:
    signer = served.signer()
    data = body(1)
    head = HEAD + f"Authorization: {signed(signer, data)['Authorization']}\r\ncontent-length: {len(data)}\r\n\r\n".encode()
    answer = raw(served, head[:90], head[90:300], head[300:] + data[:10], data[10:500], data[500:], pause=0.12)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert status(served.hub, "p1") == "up"


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 99999999\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n",
        HEAD + b"X: " + b"y" * 20_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
)
def test_anything_else_on_such_a_connection_ends_it(served: Served, sent: bytes) -> None:
    answer = raw(served, sent)
    assert not answer.endswith(b"(open)")
    assert answer.startswith(b"HTTP/1.1 400") or answer == b""
    until(lambda: len(served.lines) == 0)


def test_clients_that_say_nothing_delay_nobody(served: Served) -> None:
    signer = served.signer()
    silent = [socket.create_connection(("127.0.0.1", served.server.port), 50) for _ in range(30)]
    for one in silent:
        one.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
    until(lambda: len(served.lines) == 30)
    connection = KeptConnection(served.url, program="gpuwatch hub")
    data = body(1)
    assert connection.post(PUSH_PATH, data, partial(signed, signer, data, Connection=HOP), 50.0).status == 200
    connection.close()
    for one in silent:
        one.close()
    until(lambda: len(served.lines) == 0)


def test_idle_ones_are_let_go(served: Served) -> None:
    connection = socket.create_connection(("127.0.0.1", served.server.port), 50)
    connection.sendall(HEAD)
    until(lambda: len(served.lines) == 1)
    served.lines._sweep(time.time() + 1000)
    assert len(served.lines) == 0
    connection.close()


def test_by_tls_it_is_the_same_and_a_wrong_certificate_gets_nothing(tmp_path: Path) -> None:
    pair, other = self_signed(tmp_path / "hub"), self_signed(tmp_path / "other")
    lab = Lab(tmp_path)
    lab.write("")
    made = Served(lab.start(), CertificateFiles(str(pair.cert), str(pair.key)))
    try:
        until(lambda: made.hub.store)
        trusting, deceived = (KeptConnection(made.url, program="gpuwatch hub", trust=Trust(one.pin)) for one in (pair, other))
        asked = json.dumps({"code": made.code(), "name": "p1"}).encode()
        with pytest.raises(WireError, match="certificate of .* refused"):
            deceived.post(ENROLL_PATH, asked, dict, 50.0)
        key = json.loads(trusting.post(ENROLL_PATH, asked, dict, 50.0).body)
        signer = Signer(key["id"], bytes.fromhex(key["key"]))
        until(lambda: made.hub.pair("p1"))
        have = None
        for sequence in (1, 2, 3):
            data = body(sequence, after=have)
            response = trusting.post(PUSH_PATH, data, partial(signed, signer, data, Connection=HOP), 50.0)
            have = decode_reply(response.body).have
            assert have == sequence
            assert len(made.lines) == 1
        trusting.close()
        until(lambda: len(made.lines) == 0)
    finally:
        made.close()
        lab.stop()
