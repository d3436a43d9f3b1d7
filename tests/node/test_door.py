"""Who may ask a node: signed requests, the plain password, and those who guess, over real HTTP."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from gpuwatch.model.snapshot import Snapshot
from gpuwatch.node import door as module
from gpuwatch.node.app import MAX_BODY_BYTES, NodeApp
from gpuwatch.node.door import ALL_LOCKED_OUT, MOST_FAILURES, MOST_KNOWN, Door
from gpuwatch.node.newest import Newest, Sample
from gpuwatch.serve.http import Server
from gpuwatch.wire import asking
from gpuwatch.wire.signing import derive_key

PASSWORD = "long enough"
SIGNER = asking.signer_of(PASSWORD)
STRANGER = asking.signer_of("a guess")
BODY = asking.body_for("")


@contextmanager
def serving(**settings):
    newest = Newest()
    newest.accept(Sample.of(Snapshot(taken_at=time.time(), hostname="vm")))
    app = NodeApp(newest, PASSWORD, **settings)
    server = Server(app, "127.0.0.1", 0, threads=4, max_body_bytes=MAX_BODY_BYTES)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield app, Client(server.port)
    finally:
        server.close()
        thread.join(20)


class Client:
    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, authorization=None, body=BODY, path=asking.PATH, method="POST"):
        given = {"Content-Type": "application/json", **({"Authorization": authorization} if authorization is not None else {})}
        self._connection.request(method, path, body, given)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()

    def signed(self, signer=SIGNER, off_seconds=0.0, body=BODY, path=asking.PATH):
        return self.ask(signer.header("POST", path, body, module.time.time() + off_seconds), body, path)


@pytest.fixture
def node():
    with serving() as (app, client):
        yield app, client


def refused(app):
    return {name: count for name, count in app._door.refusals.counts().items() if count}


def test_a_signed_request_gets_readings(node):
    status, headers, body = node[1].signed()
    assert (status, headers["Content-Type"]) == (200, "application/x-gpuwatch-frame")
    assert json.loads(body.splitlines()[0])["shape_id"]
    assert refused(node[0]) == {}


def test_a_signed_request_without_flat_gets_seed_002_s_json(node):
    assert json.loads(node[1].signed(body=b"{}")[2])["hostname"] == "vm"


def test_replayed_it_is_refused_and_counts_as_no_guess(node):
    app, client = node
    header = SIGNER.header("POST", asking.PATH, BODY, time.time())
    assert client.ask(header)[0] == 200
    answers = [client.ask(header) for _ in range(15)]
    assert {(status, text) for status, _, text in answers} == {(403, "The request came before: it is taken once only.\n")}
    assert client.signed()[0] == 200
    assert refused(app) == {"replayed": 15}


@pytest.mark.parametrize(("off", "words", "header"), [(-312, "312 s ahead of yours", "312"), (312, "312 s behind yours", "-312")])
def test_a_wrong_clock_is_named_to_who_has_the_key(node, monkeypatch, off, words, header):
    app, client = node
    now = time.time()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now, monotonic=time.monotonic))  # it stands still
    for _ in range(12):
        status, headers, text = client.signed(off_seconds=off)
        assert (status, headers["Gpuwatch-Skew"]) == (403, header)
        assert words in text
    assert refused(app) == {"stale": 12}
    assert client.signed()[0] == 200


def test_a_stranger_hears_nothing_of_clocks_or_keys(node):
    answers = [node[1].signed(STRANGER, off) for off in (0, -312, 312)]
    assert {(status, headers.get("Gpuwatch-Skew"), text) for status, headers, text in answers} == {(403, None, "The signature of the request is wrong.\n")}


def test_a_tampered_request_is_refused(node):
    _, client = node
    header = SIGNER.header("POST", asking.PATH, BODY, time.time())
    assert client.ask(header, b'{"flat": "x"}')[0] == 403
    assert client.ask(header, BODY, asking.PATH + "?x=1")[0] == 403
    assert client.ask(SIGNER.header("GET", asking.PATH, BODY, time.time()))[0] == 403
    assert client.ask(header)[0] == 200


def test_a_locked_out_guesser_does_not_lock_out_the_hub_at_the_same_address(node):
    app, client = node
    guesses = [client.signed(STRANGER)[0] for _ in range(10)] + [client.ask(body=b'{"passwd": "8888"}')[0]]
    assert guesses == [403] * 10 + [429]
    assert client.signed(STRANGER)[0] == 429
    assert client.signed()[0] == 200
    assert refused(app) == {"wrong signature": 10, "too many tries": 2}


def test_guesses_from_many_addresses_are_slowed_together_and_known_ones_go_on():
    door = Door(PASSWORD)
    assert (door.waits("192.0.2.1"), door.told(PASSWORD, "192.0.2.1")) == (None, None)
    for number in range(MOST_FAILURES):
        assert door.waits(f"198.51.100.{number}") is None
        assert door.told("guess", f"198.51.100.{number}").wait_seconds == 0
    locked = door.waits("203.0.113.7")
    assert (locked.words, 0 < locked.wait_seconds <= 60) == (ALL_LOCKED_OUT, True)
    assert (door.waits("192.0.2.1"), door.told(PASSWORD, "192.0.2.1")) == (None, None)
    header = SIGNER.header("POST", asking.PATH, BODY, time.time())
    assert door.signed(header, "POST", asking.PATH, BODY, "203.0.113.7") is None


def test_a_request_that_is_signed_right_after_the_start_is_taken(monkeypatch):
    """Its time has three decimals, which may lie before the start."""
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: 1_790_000_000.2504, monotonic=time.monotonic))
    door = Door(PASSWORD)
    assert door.signed(SIGNER.header("POST", asking.PATH, BODY, 1_790_000_000.2504), "POST", asking.PATH, BODY, "192.0.2.1") is None


def test_what_is_remembered_of_addresses_is_bounded():
    door = Door(PASSWORD)
    for number in range(1000):
        door.told(PASSWORD, f"10.0.{number // 250}.{number % 250}")
    assert len(door._known) == MOST_KNOWN


def test_prometheus_sees_how_many_were_refused(node):
    client = node[1]
    for _ in range(3):
        client.signed(STRANGER)
    client.ask(body=b"{}")
    bearer = {"Authorization": f"Bearer {PASSWORD}"}
    client._connection.request("GET", "/metrics", headers=bearer)
    text = client._connection.getresponse().read().decode()
    assert "# TYPE gpuwatch_refused_total counter" in text
    assert 'gpuwatch_refused_total{reason="wrong signature"} 3' in text
    assert 'gpuwatch_refused_total{reason="wrong password"} 1' in text
    assert 'gpuwatch_refused_total{reason="replayed"} 0' in text


def test_what_looks_like_a_signature_and_a_right_password_is_no_way_in(node):
    assert node[1].ask("Gpuwatch x", json.dumps({"passwd": PASSWORD}).encode())[0] == 403


def test_the_plain_password_can_be_switched_off():
    with serving(plain_password=False) as (app, client):
        right = client.ask(body=json.dumps({"passwd": PASSWORD}).encode())
        wrong = client.ask(body=b'{"passwd": "no"}')
        assert right[0] == wrong[0] == 403
        assert right[2] == wrong[2] == "This node takes signed requests alone. Next: ask it with gpuwatch hub, or set plain_password = true in its [node] settings.\n"
        assert client.signed()[0] == 200
        assert refused(app) == {"plain password": 2}


def test_the_log_says_it_once_and_holds_nothing_that_was_sent(node, caplog):
    for _ in range(5):
        node[1].ask(body=b'{"passwd": "my bank pin"}')
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert lines == ["refused: wrong password 1x; the last one from 127.0.0.1"]
    assert "my bank pin" not in caplog.text


def test_the_key_is_the_documented_one():
    assert asking.KEY_ID == "password"
    assert SIGNER.header("POST", "/get-status", b"", 1.0, "0" * 32) == asking.Signer("password", derive_key(PASSWORD)).header("POST", "/get-status", b"", 1.0, "0" * 32)
