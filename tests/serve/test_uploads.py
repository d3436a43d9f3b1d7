"""Files sent to the real server: larger than other bodies, few at once, refused in words that the client can read."""

import http.client
import socket
import threading
import time

import pytest

from gpuwatch.serve import uploads
from gpuwatch.serve.http import Server
from gpuwatch.serve.uploads import UploadLimits

LIMIT, MOST = 2000, 300_000


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def waiting():
    """Each request that waits at the gate."""
    return []


@pytest.fixture
def server(gate, waiting):
    def app(environ, start_response):
        length = len(environ["wsgi.input"].read())
        if environ["QUERY_STRING"] == "wait":
            waiting.append(length)
            assert gate.wait(50)
        body = str(length).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    server = Server(app, "127.0.0.1", 0, threads=4, max_body_bytes=LIMIT, uploads=UploadLimits(("/import",), MOST, 2))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    gate.set()
    server.close()
    thread.join(50)
    assert not thread.is_alive()


def post(server, path, body, headers=None, chunked=False):
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
    try:
        client.request("POST", path, iter([body]) if chunked else body, headers or {}, encode_chunked=chunked)
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        client.close()


def begin(server, path="/import", length=MOST):
    """A client that sends its head and a little, and then waits."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=50)
    sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nabc".encode())
    return sock


def until(check):
    deadline = time.monotonic() + 50
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def busy(server):
    return post(server, "/import", b"x" * 5000)[0] == 503


@pytest.mark.parametrize("chunked", [False, True])
def test_files_may_be_larger_than_other_bodies(server, chunked):
    for _ in range(3):  # those that were answered do not count
        assert post(server, "/import", b"x" * MOST, chunked=chunked, headers={"Transfer-Encoding": "chunked"} if chunked else {})[::2] == (200, str(MOST))
    status, _, body = post(server, "/other", b"x" * (LIMIT + 1))
    assert (status, body) == (413, "The body is larger than the 2000 bytes that are taken here.\n")


def test_a_file_that_is_too_large_is_refused_in_words(server):
    status, _, body = post(server, "/import", b"x" * (MOST + 1))
    assert status == 413
    assert "The file is larger than the 0.286102 MiB" in body
    assert "gpuwatch db import FILE" in body
    assert body.count("\n") == 1


def test_one_that_waits_for_our_word_is_refused_before_it_sends(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=50) as sock:
        sock.sendall(f"POST /import HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {MOST + 1}\r\n\r\n".encode())
        answer = b""
        while piece := sock.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_one_without_end_is_cut(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=50) as sock:
        sock.sendall(b"POST /import HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunks = (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 1000
        with pytest.raises(ConnectionError):
            sock.sendall(chunks)
    assert post(server, "/import", b"x")[0] == 200


def test_two_at_once(server, gate, waiting):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(server, "/import?wait", b"x" * 5000)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(waiting) == 2)  # whoever asks earlier may take the place of one of them
    status, headers, body = post(server, "/import", b"x" * MOST)
    assert (status, body) == (503, "Others are sending files at the moment. Try again in a minute.\n")
    assert headers["Retry-After"] == "60"
    assert post(server, "/other", b"x")[0] == 200
    gate.set()
    for thread in threads:
        thread.join(50)
    assert answers == [200, 200]
    until(lambda: not busy(server))


def test_clients_that_go_away_make_room(server):
    waiting = [begin(server), begin(server)]
    until(lambda: busy(server))
    for sock in waiting:
        sock.close()
    until(lambda: not busy(server))
    assert post(server, "/import", b"x")[0] == 200


def test_clients_that_take_too_long_make_room(server, monkeypatch):
    monkeypatch.setattr(uploads, "LONGEST_SECONDS", 0.2)
    waiting = [begin(server), begin(server)]
    until(lambda: busy(server))
    time.sleep(0.3)
    for sock in waiting:
        sock.sendall(b"x")
        assert sock.recv(4096).startswith(b"HTTP/1.1 408 ")
        sock.close()
    until(lambda: not busy(server))
