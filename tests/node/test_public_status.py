"""Seed 000's hub asks our node: its recorded request, and the recorded answer byte for byte; off unless it is set."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.node.app import MAX_BODY_BYTES, NodeApp
from gpuwatch.node.newest import Newest, Sample, Trouble
from gpuwatch.serve.http import Server
from gpuwatch.wire.legacy import seed000_node

CAPTURE = (Path(__file__).resolve().parent.parent / "wire" / "captures" / "000_gpu_status.raw").read_bytes().replace(b"\r\n", b"\n")
ASKED = re.search(rb"<<<REQUEST>>>\n(.*?\n\n)", CAPTURE, re.DOTALL).group(1).replace(b"\n", b"\r\n")
BODY = CAPTURE.rpartition(b"\n\n")[2].strip() + b"\n"
KIND = re.search(rb"Content-Type: ([^\n]*)", CAPTURE).group(1)


@pytest.fixture
def newest():
    made = Newest()
    made.accept(Sample.of(seed000_node.read(BODY, Target("cs1", "h", 1, "accessgrid+http"), 1000.0).snapshot))
    return made


@pytest.fixture
def ask(newest):
    servers = []

    def start(**options):
        server = Server(NodeApp(newest, "secret", **options), "127.0.0.1", 0, threads=2, max_body_bytes=MAX_BODY_BYTES)
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread))

        def ask(request=ASKED):
            with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
                connection.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            return head, body

        return ask

    yield start
    for server, thread in servers:
        server.close()
        thread.join(20)


def test_the_recorded_request_gets_the_recorded_answer(ask):
    assert ASKED.startswith(b"GET /api/gpu_status HTTP/1.1\r\n")
    head, body = ask(public_status=True)()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert re.search(rb"(?im)^content-type: ([^\r]*)", head).group(1) == KIND
    assert body == BODY


def test_it_is_off_unless_it_is_set(ask):
    head, body = ask()()
    assert head.startswith(b"HTTP/1.1 404")
    assert b"RTX" not in body


def test_old_readings_are_its_error_with_200(ask, newest):
    asks = ask(public_status=True)
    newest.fail(Trouble("driver hung since 14:03:22", 1.0))
    head, body = asks()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body) == {"status": "error", "message": "There is no fresh reading.", "gpu_count": 0, "gpu_details": []}
    newest.fail(Trouble("works again", 1.0, False))
    assert asks()[1] == BODY


def test_before_the_first_sample_and_other_methods():
    app = NodeApp(Newest(), "secret", public_status=True)
    seen = []
    body = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/api/gpu_status"}, lambda status, headers, error=None: seen.append(status)))
    assert (seen[-1][:3], json.loads(body)["status"]) == ("200", "error")
    b"".join(app({"REQUEST_METHOD": "POST", "PATH_INFO": "/api/gpu_status"}, lambda status, headers, error=None: seen.append(status)))
    assert seen[-1][:3] == "405"
