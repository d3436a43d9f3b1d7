"""A server without TLS tells clients that begin with a handshake, instead of waiting for the end of their request."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import pytest

from gpuwatch.model.errors import WireError
from gpuwatch.serve.http import Server
from gpuwatch.serve.plain import HELLO, REPLY
from gpuwatch.wire.http import fetch


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def server():
    made = Server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.close()
    thread.join(50)
    assert not thread.is_alive()


def test_a_client_of_tls_is_told_at_once(server):
    began = time.monotonic()
    with pytest.raises(WireError, match=rf"127\.0\.0\.1:{server.port} does not speak TLS\. Next: write http://"):
        fetch(f"https://127.0.0.1:{server.port}/", deadline_seconds=60.0)
    assert time.monotonic() - began < 50, "it did not wait for its deadline"
    with socket.create_connection(("127.0.0.1", server.port), 50) as client:
        client.sendall(HELLO + b"\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert b"".join(iter(lambda: client.recv(4096), b"")) == REPLY


def test_bodies_may_begin_with_the_same_bytes(server):
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
    client.connect()
    for body in (HELLO * 3, HELLO + b"x"):
        client.putrequest("POST", "/")
        client.putheader("Content-Length", str(len(body)))
        client.endheaders()  # a segment of its own
        time.sleep(0.05)
        client.send(body)
        assert client.getresponse().read() == body
    client.close()
