"""The pushing side against a scripted hub on a real socket: what it sends after which reply, how it waits, what it says."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from tests.certs import self_signed
from tests.hub.programs import Program
from tests.hub.readings import busy, flat, snapshot

from gpuwatch.model.errors import WireError
from gpuwatch.node import identity
from gpuwatch.node import push as module
from gpuwatch.node.newest import Newest, Sample, Trouble
from gpuwatch.node.push import Pusher
from gpuwatch.node.spool import Spool
from gpuwatch.wire.changes import Reader
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.http import Trust
from gpuwatch.wire.kept import KeptConnection
from gpuwatch.wire.push import ENROLL_PATH, PUSH_PATH, UNKNOWN_KEY, Push, Reply, decode_push, encode_reply
from gpuwatch.wire.signing import Verifier

KEY = "ab" * 32
ID = "c" * 32
Answer = Tuple[int, bytes, Dict[str, str]]


class Hub:
    """Takes pushes as a hub does, unless ``script`` says otherwise for the next one."""

    def __init__(self) -> None:
        self.have: Optional[int] = 0
        self.stored = 0
        self.hold = 0.0
        self.shapes: Dict[str, Any] = {}
        self.sample: Tuple[int, Any] = (0, None)
        self.pushes: List[Push] = []
        self.taken: List[int] = []
        self.texts: Dict[int, List[str]] = {}
        self.enrolled: List[Dict[str, Any]] = []
        self.script: List[Callable[[], Optional[Answer]]] = []
        self.connections = 0
        self.lock = threading.Lock()
        """Of ``answer``: a push whose answer got lost comes again while the first one is still at work."""
        self.reader = Reader()
        self.verifier = Verifier(lambda id: bytes.fromhex(KEY) if id == ID else None)
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                hub.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with hub.lock:
                    status, answer, headers = hub.answer(self.path, body, self.headers)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, body: bytes, headers: Any) -> Answer:
        if self.script:
            made = self.script.pop(0)()
            if made is not None:
                return made
        if path == ENROLL_PATH:
            self.enrolled.append(json.loads(body))
            return 200, json.dumps({"id": ID, "key": KEY, "name": "p1"}).encode(), {}
        assert self.verifier.check(headers["Authorization"], "POST", PUSH_PATH, body, time.time()) == ID
        return 200, encode_reply(self.take(decode_push(zlib.decompress(body) if headers["Content-Encoding"] else body))), {}

    def take(self, push: Push) -> Reply:
        self.pushes.append(push)
        for shape_id, doc in push.shapes.items():
            self.shapes[shape_id] = Shape.parse(doc)
        if self.have is not None and not self.hold and (push.after is None or push.after <= self.have):
            for record in push.records:
                if record.sequence > self.have:
                    assert record.shape_id in self.shapes
                    assert record.base in (0, self.sample[0])
                    read = self.reader.changed({}, self.sample[1], record.values) if record.base else self.reader.whole({}, record.shape_id, record.values)
                    self.sample = (record.sequence, read)
                    self.texts[record.sequence] = read.texts
                    self.taken.append(record.sequence)
                    self.have = record.sequence
        return Reply(self.have, self.stored, self.sample[1].shape_id if self.sample[1] else "", self.sample[0], self.hold)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


class Node:
    """A pusher whose beats the test gives."""

    def __init__(self, url: str, folder: Path, code: str = "CODE", trust: Optional[Trust] = None) -> None:
        self.newest = Newest()
        self.spool = Spool(folder / "spool", 2**26)
        self.pusher = Pusher(KeptConnection(url, program="gpuwatch hub", trust=trust), self.newest, self.spool, name="p1", code=lambda: code, folder=folder, interval_seconds=1.0)
        self.newest.listen(self.pusher.sampled)
        self.count = 0

    def sample(self, count: int = 1, trouble: Optional[Trouble] = None, gpus: int = 1) -> None:
        for _ in range(count):
            self.count += 1
            shape, values = flat(snapshot(1_790_000_000.0 + self.count, *(busy(number, self.count % 100) for number in range(gpus))))
            self.newest.accept(Sample(shape, json.dumps(values, separators=(",", ":")).encode()), trouble)

    def beat(self, again: bool = True) -> None:
        if again:
            self.pusher._resume_at = 0.0
        self.pusher.run_once(time.time())


@pytest.fixture
def node(hub: Hub, tmp_path: Path) -> Iterator[Node]:
    made = Node(f"http://127.0.0.1:{hub.port}", tmp_path)
    yield made
    made.pusher.close()


def test_it_enrols_once_and_keeps_its_key_for_the_owner_alone(hub: Hub, node: Node, tmp_path: Path) -> None:
    node.sample()
    node.beat()
    assert [(one["code"], one["name"]) for one in hub.enrolled] == [("CODE", "p1")]
    assert os.stat(tmp_path / identity.FILE).st_mode & 0o777 == 0o600
    assert len(hub.taken) == 1
    again = Node(f"http://127.0.0.1:{hub.port}", tmp_path)
    again.sample()
    again.beat()
    assert len(hub.enrolled) == 1
    assert len(hub.taken) == 2
    again.pusher.close()


def test_one_push_a_sample_over_one_connection_told_by_what_changed(hub: Hub, node: Node) -> None:
    for _ in range(5):
        node.sample()
        node.beat()
        hub.stored = hub.have or 0
    assert [len(one.records) for one in hub.pushes] == [1] * 5
    assert [bool(one.records[0].base) for one in hub.pushes] == [False, True, True, True, True]
    assert [len(one.shapes) for one in hub.pushes] == [1, 0, 0, 0, 0]
    assert all(one.live is None for one in hub.pushes)
    assert hub.connections == 1
    assert len(node.spool) == 1  # the last one is not said to be stored yet
    assert len(hub.pushes[2].records[0].values) < len(hub.pushes[0].records[0].values) / 3


def test_what_waited_comes_in_order_and_as_it_was(hub: Hub, node: Node) -> None:
    node.sample(3)
    node.sample(2, Trouble("driver hung", 5.0))
    node.sample(60, gpus=2)
    node.beat()
    assert len(hub.taken) == 65
    assert hub.taken == sorted(hub.taken)
    texts = [hub.texts[sequence] for sequence in hub.taken]
    assert [any("1790000001" in text for text in texts[0]), any("1790000065" in text for text in texts[-1])] == [True, True]
    assert [bool(record.status) for one in hub.pushes for record in one.records][:6] == [False] * 3 + [True] * 2 + [False]
    assert hub.pushes[0].live is not None
    assert max(len(one.records) for one in hub.pushes) <= module.MOST_RECORDS


def test_a_hub_that_lost_some_gets_them_again(hub: Hub, node: Node) -> None:
    for _ in range(3):
        node.sample()
        node.beat()
    hub.stored = hub.taken[0]
    node.sample()
    node.beat()
    everything = list(hub.taken)
    hub.have, hub.sample, hub.shapes = hub.stored, (0, None), {}  # it was killed before it wrote
    node.sample()
    node.beat()
    assert hub.taken[len(everything) :] == [*everything[1:], node.spool.newest]


def test_while_the_hub_holds_only_the_newest_is_shown(hub: Hub, node: Node) -> None:
    hub.hold = 600.0
    node.sample(2)
    node.beat()
    node.sample()
    node.pusher._pushed_at = 0.0
    node.beat()
    assert hub.taken == []
    last = hub.pushes[-1]
    assert (len(last.records), last.live is not None) == (0, True)
    hub.hold, node.pusher._hold_until = 0.0, 0.0
    node.beat()
    assert len(hub.taken) == 3


def test_a_hub_without_its_database_keeps_nothing_from_going_on(hub: Hub, node: Node) -> None:
    hub.have = None
    node.sample()
    node.beat()
    hub.have = 0
    node.sample()
    node.pusher._hold_until = 0.0
    node.beat()
    assert len(hub.taken) == 2


def test_a_node_whose_sampler_hangs_still_says_so(hub: Hub, node: Node) -> None:
    node.sample()
    node.beat()
    node.newest.fail(Trouble("driver hung since 12:00", 7.0))
    node.pusher._pushed_at = 0.0
    node.beat()
    assert hub.pushes[-1].records == []
    assert hub.pushes[-1].live is not None
    assert (hub.pushes[-1].live.status or {})["message"] == "driver hung since 12:00"
    count = len(hub.pushes)
    node.pusher._interval_seconds = 600.0
    node.beat()  # it was said just now
    assert len(hub.pushes) == count


def test_it_waits_longer_each_time_and_never_too_long(node: Node) -> None:
    longest, shortest = [], []
    for _ in range(9):
        before = time.monotonic()
        node.pusher._failed(WireError("away"), 0.0)
        longest.append(node.pusher._resume_at - before)
        shortest.append(node.pusher._resume_at - time.monotonic())
    assert (longest[0] > 0.5, shortest[0] <= 1.0) == (True, True)
    assert shortest[0] < longest[4]
    assert longest[4] > 4.5
    assert (longest[8] >= 9, shortest[8] <= 15) == (True, True)
    assert node.pusher.away.is_set()


def test_nothing_is_sent_before_the_wait_is_over(hub: Hub, node: Node) -> None:
    hub.script = [lambda: (503, b'{"error": "not now", "next_step": ""}', {"Retry-After": "100"})]
    node.sample()
    before = time.monotonic()
    node.beat()
    assert node.pusher._resume_at - before >= 60
    assert node.pusher._resume_at - time.monotonic() <= 100
    node.beat(again=False)
    assert hub.enrolled == []
    node.beat()
    assert len(hub.taken) == 1
    assert not node.pusher.away.is_set()


def test_why_it_cannot_enrol_is_said_without_the_code(hub: Hub, node: Node, caplog: pytest.LogCaptureFixture) -> None:
    hub.script = [lambda: (403, b'{"error": "The code is wrong\\u0007.", "next_step": "Make another one."}', {})]
    node.sample()
    node.beat()
    assert "answered 403: The code is wrong . Make another one." in caplog.text
    assert "CODE" not in caplog.text
    node.sample()
    node.beat()
    assert len(hub.taken) == 2


@pytest.mark.parametrize("status", [401, 429])
def test_a_key_that_is_not_known_any_more_is_replaced_with_a_new_code(hub: Hub, node: Node, tmp_path: Path, status: int) -> None:
    identity.save(tmp_path, identity.Identity("d" * 32, "ee" * 32, "old"))
    known = Node(f"http://127.0.0.1:{hub.port}", tmp_path)
    hub.script = [lambda: (status, b'{"error": "The signature of the request is wrong.", "next_step": ""}', {"WWW-Authenticate": UNKNOWN_KEY, "Retry-After": "60"})]
    known.sample()
    known.beat()
    assert len(hub.enrolled) == 1
    assert hub.connections == 2, "a connection that has pushed takes nothing else"
    assert len(hub.taken) == 1
    made = identity.load(tmp_path)
    assert made is not None
    assert made.id == ID
    known.pusher.close()


def test_a_certificate_that_is_refused_is_told_in_the_words_of_the_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = self_signed(tmp_path / "pair", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    program = Program(b"", context)
    for trust, words in (
        (Trust(pin="sha256:" + "0" * 64), "Next: was it renewed there (gpuwatch cert --show)? Then change push_pin=; else"),
        (None, "Next: pin it (push_pin=sha256:... from gpuwatch cert --show there), or name its authority (push_ca=FILE)."),
        (Trust(ca_file=str(tmp_path / "none")), "Next: mend push_ca=."),
    ):
        caplog.clear()
        node = Node(f"https://{program.address}", tmp_path / "node", trust=trust)
        node.sample()
        node.beat()
        assert words in caplog.text
        assert "hosts file" not in caplog.text
        node.pusher.close()
    program.close()


def test_a_page_of_a_proxy_is_not_quoted(hub: Hub, node: Node, caplog: pytest.LogCaptureFixture) -> None:
    hub.script = [lambda: (502, b"<html><h1>Bad Gateway</h1></html>", {"Content-Type": "text/html"})]
    node.sample()
    node.beat()
    assert "answered 502: a web page; a proxy's, or another program's" in caplog.text
    assert "<h" not in caplog.text


def test_a_code_that_was_refused_is_not_tried_again_but_another_one_is(hub: Hub, tmp_path: Path) -> None:
    identity.save(tmp_path, identity.Identity("d" * 32, "ee" * 32, "old"))
    codes = ["USED"]
    known = Node(f"http://127.0.0.1:{hub.port}", tmp_path)
    known.pusher._code = lambda: codes[-1]
    asked: List[int] = []

    def unknown() -> Answer:
        asked.append(1)
        return 401, b"{}", {"WWW-Authenticate": UNKNOWN_KEY}

    hub.script = [unknown, lambda: (403, b"{}", {}), unknown, unknown]
    known.sample()
    for _ in range(3):
        known.beat()
    assert (len(asked), hub.enrolled, hub.script) == (3, [], [])
    codes.append("NEW")
    hub.script = [unknown]
    known.beat()
    assert [one["code"] for one in hub.enrolled] == ["NEW"]
    assert len(hub.taken) == 1
    known.pusher.close()


def test_a_refused_key_without_a_code_is_kept_and_told(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    identity.save(tmp_path, identity.Identity(ID, KEY, "p1"))
    known = Node(f"http://127.0.0.1:{hub.port}", tmp_path, code="")
    hub.script = [lambda: (401, b'{"error": "The request is stale.", "next_step": ""}', {})] * 2
    known.sample()
    known.beat()
    assert "answered 401: The request is stale." in caplog.text
    assert KEY not in caplog.text
    known.beat()
    known.beat()
    assert len(hub.taken) == 1
    known.pusher.close()


def test_a_snapshot_that_the_hub_never_takes_is_left_out(hub: Hub, node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.sample()
    node.beat()
    hub.script = [lambda: (400, b'{"error": "odd", "next_step": ""}', {})] * module.REFUSALS
    node.sample()
    for _ in range(module.REFUSALS):
        node.beat()
    assert "left out" in caplog.text
    node.sample()
    node.beat()
    assert len(hub.taken) == 2
    assert hub.pushes[-1].lost is not None


def test_what_is_too_large_is_sent_in_smaller_pieces(hub: Hub, node: Node) -> None:
    node.sample()
    node.beat()
    hub.script = [lambda: (413, b"too large", {})] * 2
    node.sample(40)
    node.beat()
    assert len(hub.taken) == 41


def test_what_was_dropped_is_told_once_and_in_the_status(hub: Hub, node: Node) -> None:
    node.spool._drop(3, 1.0, 2.0)
    hub.script = [lambda: (503, b"away", {})]
    node.sample()
    node.beat()
    answer = node.newest.answer()
    assert answer is not None
    assert "3 snapshots" in (answer.status["message"] or "")
    assert not answer.status["stale"]
    node.beat()
    node.sample()
    node.beat()
    assert [one.lost for one in hub.pushes] == [(3, 1.0, 2.0), None]


def test_a_push_whose_answer_got_lost_is_signed_anew(hub: Hub, node: Node) -> None:
    node.sample()
    node.beat()

    def lose() -> Optional[Answer]:
        assert node.pusher._connection._socket is not None
        node.pusher._connection._socket.shutdown(socket.SHUT_RDWR)
        return None

    hub.script = [lose]
    node.sample()
    node.beat()
    assert len(hub.taken) == 2
    assert len(hub.enrolled) == 1


def test_a_push_that_is_under_way_when_the_node_ends_is_no_trouble(hub: Hub, node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.sample()
    node.beat()
    hub.script = [lambda: node.pusher.close()]
    node.sample()
    node.beat()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(node.spool) == 2  # the hub may have it, but has not said so
    until = time.monotonic() + 60
    while len(hub.pushes) < 2:  # its thread may come after ours
        assert time.monotonic() < until
        time.sleep(0.01)
    node.beat()
    assert len(hub.pushes) == 2


def test_a_connection_that_was_closed_meanwhile_is_opened_again(tmp_path: Path) -> None:
    """An idle connection that the other side closed costs nothing; one that is closed in the middle of an answer is an error."""
    listening = socket.create_server(("127.0.0.1", 0))
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b""]

    def serve() -> None:
        for answer in answers:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    kept = KeptConnection(f"http://127.0.0.1:{listening.getsockname()[1]}/base", program="a test")
    for _ in range(2):
        assert kept.post("/x", b"{}", dict, 60.0).status == 200
        time.sleep(0.1)
    for _ in range(2):
        with pytest.raises(WireError, match="closed"):
            kept.post("/x", b"{}", dict, 60.0)
    listening.shutdown(socket.SHUT_RDWR)  # nobody listens any more, and nobody else gets the port
    with pytest.raises(WireError, match="refused"):
        kept.post("/x", b"{}", dict, 60.0)
    listening.close()


def test_a_hub_that_does_not_answer_costs_the_deadline_and_no_more(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept = KeptConnection(f"http://127.0.0.1:{listening.getsockname()[1]}", program="a test")
        began = time.monotonic()
        with pytest.raises(WireError, match=r"no answer from .* within 0.5 s"):
            kept.post("/x", b"{}", dict, 0.5)
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": "x/y", "key": "ab", "name": "n"}', '{"id": "x", "key": "zz", "name": "n"}', '{"id": 1}'])
def test_a_damaged_key_file_is_no_key(tmp_path: Path, text: str) -> None:
    (tmp_path / identity.FILE).write_text(text)
    assert identity.load(tmp_path) is None
