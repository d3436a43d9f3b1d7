"""The node's answers over real HTTP, as real clients of several kinds ask."""

import gzip
import http.client
import io
import json
import socket
import threading
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.snapshot import GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.node.app import MAX_BODY_BYTES, NodeApp
from gpuwatch.node.door import Door
from gpuwatch.node.newest import Newest, Sample, Trouble
from gpuwatch.serve.http import Server
from gpuwatch.wire import frame
from gpuwatch.wire.asking import KEY_ID
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.signing import Signer, derive_key

PASSWORD = "pässword"
JSON = {"Content-Type": "application/json"}
SNAPSHOT = Snapshot(
    taken_at=1795303349.685502, hostname="vm", host=HostReading(ips=(("eth0", "192.0.2.2"),)),
    gpus=(
        GpuReading(
            uuid="GPU-1", index=0, name="NVIDIA GeForce RTX 3090", memory_used_bytes=2048 * 2**20, memory_total_bytes=24576 * 2**20,
            utilization_percent=37.0, temperature_celsius=41.0,
            processes=(ProcessReading(pid=19949, user="root", name="sleep", command="sleep 1000", gpu_memory_bytes=2**30),),
        ),
        GpuReading(uuid="GPU-2", index=1, name="NVIDIA GeForce RTX 3090", error="GPU is lost"),
    ),
)  # fmt: skip


@pytest.fixture
def newest():
    newest = Newest()
    newest.accept(Sample.of(SNAPSHOT))
    return newest


@pytest.fixture
def server(newest):
    server = Server(NodeApp(newest, PASSWORD), "127.0.0.1", 0, threads=4, max_body_bytes=MAX_BODY_BYTES)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.close()
    thread.join(20)


@pytest.fixture
def ask(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def ask(method="POST", path="/get-status", body=None, headers=JSON):
        if isinstance(body, dict):
            body = json.dumps(body)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    ask.connection = connection
    yield ask
    connection.close()


def assert_plain(answer, status):
    """Never JSON: seed 002's hub would take it for readings."""
    assert answer[0] == status
    assert answer[1]["Content-Type"] == "text/plain; charset=utf-8"
    text = answer[2].decode()
    assert text.endswith("\n")
    assert "Traceback" not in text
    with pytest.raises(ValueError):
        json.loads(text)


def test_seed_002_s_hub_polls_as_it_always_did(ask):
    for _ in range(2):
        status, headers, body = ask(
            body={"passwd": PASSWORD}, headers={**JSON, "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}
        )
        text = gzip.decompress(body) if headers["Content-Encoding"] == "gzip" else body
        node = json.loads(text)  # whatever the status
        assert headers["Content-Type"] == "application/json"
        assert node["gpus"][0]["name"] == "NVIDIA GeForce RTX 3090"
        age = datetime.now() - datetime.fromisoformat(node["last_update"])  # a zone or a null would raise here
        assert age.total_seconds() is not None
    gpu = node["gpus"][0]
    assert (gpu["index"], gpu["use_mem"], gpu["tot_mem"], gpu["utilize"], gpu["temp"]) == (0, 2048, 24576, 37, 41)
    assert gpu["users"] == [{"pid": 19949, "username": "root", "mem(MiB)": 1024, "command": "sleep 1000"}]
    assert node["gpus"][1]["use_mem"] is None
    assert node["ips"] == [["eth0", "192.0.2.2"]]


def test_beside_the_old_keys_stands_the_whole_snapshot(ask):
    body = json.loads(ask(body={"passwd": PASSWORD})[2])
    assert set(body) == {"hostname", "last_update", "ips", "gpus", "snapshot", "status"}
    assert body["snapshot"]["gpus"][0]["memory_total_bytes"] == 24576 * 2**20
    assert body["status"]["stale"] is False


def test_our_hub_gets_a_frame_and_the_shape_once(ask):
    status, headers, body = ask(body={"passwd": PASSWORD, "flat": ""})
    header, values = frame.decode(body)
    assert (status, headers["Content-Type"]) == (200, frame.CONTENT_TYPE)
    shape = Shape.parse(header["shape"])
    assert shape.build(shape.check(frame.loads(values))) == SNAPSHOT
    again = frame.decode(ask(body={"passwd": PASSWORD, "flat": shape.id})[2])
    assert "shape" not in again[0]
    assert again[1] == values


def test_gzip_when_asked_for(ask):
    plain = ask(body={"passwd": PASSWORD})
    zipped = ask(body={"passwd": PASSWORD}, headers={**JSON, "Accept-Encoding": "gzip"})
    assert plain[1]["Content-Encoding"] is None
    assert gzip.decompress(zipped[2]) == plain[2]
    assert len(zipped[2]) < len(plain[2])
    assert zipped[1]["Vary"] == plain[1]["Vary"] == "Accept-Encoding"


def test_before_the_first_sample_503_as_text(ask, newest):
    newest._sample = newest._answer = None
    answer = ask(body={"passwd": PASSWORD})
    assert_plain(answer, 503)
    assert answer[1]["Retry-After"] == "1"
    assert_plain(ask(body={"passwd": "wrong"}), 403)
    assert_plain(ask("GET", "/healthz", headers={}), 503)


@pytest.mark.parametrize(
    "body",
    [{}, {"passwd": ""}, {"passwd": "wrong"}, {"passwd": None}, {"passwd": 8888}, {"passwd": True}, {"passwd": [PASSWORD]}, {"passwd": {}},
     {"password": PASSWORD}, {"passwd": PASSWORD + "\0"}, {"passwd": "\ud800"}, {"passwd": PASSWORD.upper()}],
)  # fmt: skip
def test_a_wrong_or_missing_password_is_403_as_text(ask, body):
    assert_plain(ask(body=body), 403)


def test_an_empty_password_is_never_right():
    door = Door("")
    assert not door.is_password(None)
    assert not door.is_password(0)
    forged = Signer(KEY_ID, derive_key("")).header("POST", "/get-status", b"", time.time())
    assert door.signed(forged, "POST", "/get-status", b"", "192.0.2.1").words == "The signature of the request is wrong."


def test_after_ten_failures_429_at_once_also_for_the_right_password(ask):
    began = time.monotonic()
    for _ in range(10):
        assert_plain(ask(body={"passwd": "wrong"}), 403)
    answer = ask(body={"passwd": PASSWORD})
    assert_plain(answer, 429)
    assert 60 - (time.monotonic() - began) <= int(answer[1]["Retry-After"]) <= 60
    assert ask("GET", "/healthz", headers={})[0] == 200


def test_forwarded_addresses_do_not_help_a_guesser(ask):
    statuses = [ask(body={"passwd": "wrong"}, headers={**JSON, "X-Forwarded-For": f"192.0.2.{n}"})[0] for n in range(12)]
    assert statuses == [403] * 10 + [429] * 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"null", 400),
        (b"\xff\xfe\x00", 400),
        (b"[" * 16000, 400),
        (b'{"a":' * 3000, 400),
        (b"1" * 10000, 400),
        (b'{"passwd": "p", "flat": 5}', 400),
        (b'{"passwd": "p", "flat": null}', 400),
        (b'{"flat": "' + b"x" * 65 + b'"}', 400),
        (b"x" * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_other_bodies_are_refused_as_text(ask, body, status):
    assert_plain(ask(body=body), status)
    assert ask(body={"passwd": PASSWORD})[0] == 200


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "", "application/jsonx", "multipart/form-data; boundary=x"]
)
def test_other_content_types_are_415_as_text(ask, kind):
    assert_plain(ask(body=json.dumps({"passwd": PASSWORD}), headers={"Content-Type": kind}), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", " application/json "])
def test_spellings_of_json(ask, kind):
    assert ask(body=json.dumps({"passwd": PASSWORD}), headers={"Content-Type": kind})[0] == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405(ask, method):
    answer = ask(method, headers={})
    assert_plain(answer, 405)
    assert answer[1]["Allow"] == "POST"


def test_unknown_paths_are_404(ask):
    assert_plain(ask("GET", "/", headers={}), 404)
    assert_plain(ask("GET", "/get-status/", headers={}), 404)
    assert_plain(ask("GET", "/%ff%00", headers={}), 404)


def test_head(ask):
    status, headers, body = ask("HEAD", "/healthz", headers={})
    assert (status, body, headers["Content-Length"]) == (200, b"", "3")
    assert ask("HEAD", "/get-status", headers={})[0] == 405
    assert ask("HEAD", "/healthz", headers={})[0] == 200


def test_healthz_tells_what_is_wrong_and_no_readings(ask, newest):
    assert ask("GET", "/healthz", headers={})[2] == b"ok\n"
    newest.fail(Trouble("driver hung since 14:03:22", 1.0))
    answer = ask("GET", "/healthz", headers={})
    assert_plain(answer, 503)
    assert answer[2] == b"driver hung since 14:03:22\n"
    newest.fail(Trouble("driver hung since 14:03:22 (works again)", 1.0, False))
    assert ask("GET", "/healthz", headers={})[0] == 200


def test_one_connection_serves_all_of_it(ask):
    ask(body={"passwd": PASSWORD})
    port = ask.connection.sock.getsockname()[1]
    for method, path, body in (
        ("POST", "/get-status", b"{"),
        ("GET", "/nothing", None),
        ("HEAD", "/healthz", None),
        ("POST", "/get-status", {}),
    ):
        ask(method, path, body)
    assert ask(body={"passwd": PASSWORD})[0] == 200
    assert ask.connection.sock.getsockname()[1] == port


def test_requests_in_one_packet_are_answered_in_order(server):
    body = json.dumps({"passwd": PASSWORD}).encode()
    request = b"POST /get-status HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request + b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"\r\n\r\nok\n")


def test_a_password_in_an_error_or_log_is_never_seen(ask, caplog):
    caplog.set_level("DEBUG")
    for body in ({"passwd": PASSWORD}, {"passwd": PASSWORD + "x"}, b'{"passwd": "' + PASSWORD.encode()):
        assert PASSWORD not in ask(body=body)[2].decode()
    ask("GET", f"/get-status?passwd={PASSWORD.encode().hex()}", headers={})
    assert PASSWORD not in caplog.text
    assert PASSWORD.encode().hex() not in caplog.text


FUZZED = NodeApp(Newest(), PASSWORD)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(
    st.binary()
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(["passwd", "flat", "other"]), JSON_VALUES).map(lambda value: json.dumps(value).encode())
)
def test_no_body_but_the_right_one_gets_json_or_a_traceback(body):
    app = FUZZED
    app._door._guesses._failures.clear()
    app._door._all._failures.clear()
    seen = []
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/get-status", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "192.0.2.1", "wsgi.input": io.BytesIO(body),
    }  # fmt: skip
    answer = b"".join(app(environ, lambda status, headers, error=None: seen.append((status[:3], dict(headers)))))
    status, headers = seen[-1]
    assert status in ("400", "403")
    assert headers["Content-Type"].startswith("text/plain")
    assert answer.endswith(b".\n")
