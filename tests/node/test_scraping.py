"""A node's /metrics over real HTTP: who may read it, and what is not said when readings are old."""

from __future__ import annotations

import base64
import http.client
import threading

import pytest
from tests.node.test_app import PASSWORD, SNAPSHOT

from gpuwatch.node.app import MAX_BODY_BYTES, NodeApp
from gpuwatch.node.newest import Newest, Sample, Trouble
from gpuwatch.node.scraping import password_in
from gpuwatch.serve.http import Server
from gpuwatch.serve.throttle import FAILURES


def basic(password, user="prometheus"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(password):
    return ("Bearer " + password).encode()


@pytest.fixture
def newest():
    made = Newest()
    made.accept(Sample.of(SNAPSHOT))
    return made


@pytest.fixture
def node(newest):
    servers = []

    def start(**options):
        server = Server(NodeApp(newest, PASSWORD, hostname="vm0", **options), "127.0.0.1", 0, threads=2, max_body_bytes=MAX_BODY_BYTES)
        thread = threading.Thread(target=server.run)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        servers.append((server, thread, connection))

        def ask(path="/metrics", authorization=None, method="GET", body=None, **headers):
            if authorization is not None:
                headers["Authorization"] = authorization
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

        return ask

    yield start
    for server, thread, connection in servers:
        connection.close()
        server.close()
        thread.join(20)


@pytest.mark.parametrize("how", [basic(PASSWORD), basic(PASSWORD, ""), bearer(PASSWORD)])
def test_the_password_as_basic_or_bearer(node, how):
    status, headers, text = node()(authorization=how)
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'gpuwatch_node_up{Hostname="vm"} 1\n' in text
    assert 'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA GeForce RTX 3090",Hostname="vm"} 37\n' in text.replace("37.0", "37")
    assert "sleep" not in text
    assert "pid=" not in text


def test_processes_and_openmetrics_on_request(node):
    status, headers, text = node()("/metrics?processes=true", basic(PASSWORD), Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    assert 'pid="19949"' in text
    assert "sleep 1000" not in text


@pytest.mark.parametrize(
    "how", [None, "", "Basic", "Bearer", basic(""), basic("x"), bearer("x"), "Basic !!!", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Digest a"]
)
def test_others_are_refused(node, how):
    status, headers, text = node()(authorization=how)
    assert status == 401
    assert headers["Www-Authenticate"] == 'Basic realm="gpuwatch"'
    assert "GPU-1" not in text
    assert PASSWORD not in text


def test_guesses_are_limited_and_do_not_lock_out_the_hub(node):
    ask = node()
    for _ in range(3 * FAILURES):
        assert ask()[0] == 401, "who gives no password has not guessed"
    for _ in range(FAILURES):
        assert ask(authorization=basic("wrong"))[0] == 401
    status, headers, _ = ask(authorization=basic(PASSWORD))
    assert status == 429
    assert int(headers["Retry-After"]) > 0
    body = b'{"passwd": "%s"}' % PASSWORD.encode()
    assert ask("/get-status", method="POST", body=body, **{"Content-Type": "application/json"})[0] == 200


def test_open_only_if_set(node):
    ask = node(metrics_open=True)
    assert ask()[0] == 200
    assert ask("/get-status", method="POST", body=b"{}", **{"Content-Type": "application/json"})[0] == 403


def test_old_readings_are_not_told(node, newest):
    ask = node(metrics_open=True)
    newest.fail(Trouble("driver hung since 14:03:22", 1.0))
    status, _, text = ask()
    assert status == 200
    assert 'gpuwatch_node_up{Hostname="vm0"} 0\n' in text
    assert "GPU-1" not in text
    newest.fail(Trouble("works again", 1.0, False))
    assert "GPU-1" in ask()[2]


def test_before_the_first_sample():
    app = NodeApp(Newest(), PASSWORD, hostname="vm0", metrics_open=True)
    seen = []
    body = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}, lambda status, headers, error=None: seen.append(status)))
    assert seen[-1].startswith("200")
    assert b'gpuwatch_node_up{Hostname="vm0"} 0\n' in body


@pytest.mark.parametrize(("header", "password"), [
    ("Basic " + base64.b64encode(b"a:b:c").decode(), "b:c"), ("basic  " + base64.b64encode(b":x").decode() + " ", "x"), ("BEARER x", "x"), ("Basic YQ==", None), ("x", None),
])  # fmt: skip
def test_password_in(header, password):
    assert password_in(header) == password
