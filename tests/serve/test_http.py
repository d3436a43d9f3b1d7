"""The real server on real sockets."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from gpuwatch.model.errors import GpuwatchError
from gpuwatch.serve.http import Server, open_sockets

LIMIT = 2000


def app(environ, start_response):
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("inner secret")
    body = environ["wsgi.input"].read()
    answer = json.dumps({"method": environ["REQUEST_METHOD"], "length": len(body), "from": environ["REMOTE_ADDR"]}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def serve(host="127.0.0.1", inner=app):
    server = Server(inner, host, 0, threads=4, access_log=True, max_body_bytes=LIMIT)
    thread = threading.Thread(target=server.run)
    thread.start()
    return server, thread


@pytest.fixture
def server():
    server, thread = serve()
    yield server
    server.close()
    thread.join(50)
    assert not thread.is_alive()


@pytest.fixture
def client(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
    yield connection
    connection.close()


def ask(client, method="GET", path="/", body=None, headers=None):
    client.request(method, path, body, headers or {})
    answer = client.getresponse()
    return answer.status, answer.headers, answer.read()


def test_many_requests_on_one_connection(client):
    for _ in range(3):
        status, headers, body = ask(client)
        own_port = client.sock.getsockname()[1]
        assert (status, json.loads(body)["from"]) == (200, "127.0.0.1")
        assert headers["Server"] == "gpuwatch"
    assert ask(client)
    assert client.sock.getsockname()[1] == own_port


def test_head_keeps_the_connection_and_has_no_body(client):
    status, headers, body = ask(client, "HEAD")
    own_port = client.sock.getsockname()[1]
    assert (status, body) == (200, b"")
    assert ask(client)[0] == 200
    assert client.sock.getsockname()[1] == own_port


def test_an_error_shows_nothing_from_inside(client):
    status, headers, body = ask(client, path="/broken")
    assert status == 500
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert ask(client)[0] == 200


def test_bodies_up_to_the_limit_and_beyond(client):
    assert json.loads(ask(client, "POST", body=b"x" * LIMIT)[2])["length"] == LIMIT
    assert ask(client, "POST", body=b"x" * (LIMIT + 1))[0] == 413
    assert ask(client)[0] == 200  # the connection lives


def test_chunked_bodies_have_the_limit_too(client):
    def post(pieces):
        client.request("POST", "/", iter(pieces), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        answer = client.getresponse()
        return answer.status, answer.read()

    status, body = post([b"x" * 500, b"y" * 500])
    assert (status, json.loads(body)["length"]) == (200, 1000)
    assert post([b"x" * 1500, b"y" * 1500])[0] == 413


def raw(server, data):
    """What comes back for these bytes, until the server hangs up: it may do so before it has read them all."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=50) as connection:
        try:
            connection.sendall(data)
        except ConnectionError:
            pass
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nbroken header\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_broken_requests_get_an_answer_without_insides(server, data, status):
    answer = raw(server, data)
    assert answer.split(b" ", 2)[1] == status
    assert b"Traceback" not in answer
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"200"


def test_a_length_of_thousands_of_digits_does_not_stop_the_server(server):
    raw(server, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 6000 + b"\r\n\r\n")
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"200"


def test_a_client_that_goes_away_does_no_harm(server):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\npart")
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"200"


def test_forwarded_headers_of_strangers_are_not_believed(client):
    body = ask(client, headers={"X-Forwarded-For": "203.0.113.5", "Forwarded": "for=203.0.113.5"})[2]
    assert json.loads(body)["from"] == "127.0.0.1"


def test_a_taken_port_is_one_line_with_the_next_step(server):
    with pytest.raises(GpuwatchError) as error:
        Server(app, "127.0.0.1", server.port)
    assert str(error.value) == (
        f"Cannot listen on 127.0.0.1, port {server.port}: another program does already. "
        f"`ss -ltnp 'sport = :{server.port}'` shows it; or choose another with --port."
    )


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("192.0.2.77", 0, "this machine has no such address"),
        ("no-such-host.invalid", 0, "neither an address of this machine nor a known name"),
        ("a" * 70 + ".b", 0, "neither an address"),
        ("127.0.0.1", 70000, "70000 is not a port"),
        ("127.0.0.1", -1, "-1 is not a port"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line(host, port, words):
    with pytest.raises(GpuwatchError, match=words) as error:
        Server(app, host, port)
    assert "\n" not in str(error.value)
    assert error.value.next_step


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(host):
    server, thread = serve(host)
    connection = http.client.HTTPConnection("::1", server.port, timeout=50)
    assert json.loads(ask(connection)[2])["from"] == "::1"
    connection.close()
    assert server.url == f"http://[::1]:{server.port}/"
    server.close()
    thread.join(50)


def test_all_addresses_of_both_families():
    server, thread = serve("::")
    for host in ("::1", "127.0.0.1"):
        connection = http.client.HTTPConnection(host, server.port, timeout=50)
        assert json.loads(ask(connection)[2])["from"] == host
        connection.close()
    server.close()
    thread.join(50)


def test_a_name_with_two_addresses_has_one_port(monkeypatch):
    both = [(socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: both)
    opened = open_sockets("localhost", 0)
    assert len({one.getsockname()[1] for one in opened}) == 1
    assert len(opened) == 2
    for one in opened:
        one.close()


def test_a_running_request_is_answered_before_the_end():
    begun, go = threading.Event(), threading.Event()

    def slow(environ, start_response):
        begun.set()
        go.wait(50)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    server, thread = serve(inner=slow)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
    client.request("GET", "/")
    assert begun.wait(50)
    server.close()
    go.set()
    assert client.getresponse().read() == b"done"
    client.close()
    thread.join(50)
    assert not thread.is_alive()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_once_it_has_ended_nothing_is_written_where_its_pipe_was(tmp_path):
    server = Server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    pipe = server._trigger.trigger
    server.close()
    thread.join(50)
    other = os.open(tmp_path / "database", os.O_RDWR | os.O_CREAT)
    os.dup2(other, pipe)
    try:
        server.close()  # a second Ctrl-C
        server._server.pull_trigger()  # an answer that comes late
    finally:
        os.close(other)
        if pipe != other:
            os.close(pipe)
    assert (tmp_path / "database").read_bytes() == b""


def test_a_line_break_in_a_header_reaches_nobody():
    def split(environ, start_response):
        start_response("200 OK", [("Location", "/a\r\nSet-Cookie: b=c"), ("Content-Length", "2")])
        return [b"ok"]

    server, thread = serve(inner=split)
    try:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
        status, headers, body = ask(client)
        client.close()
    finally:
        server.close()
        thread.join(50)
    assert status == 500
    assert "set-cookie" not in str(headers).lower()
    assert b"Traceback" not in body


def test_a_signal_ends_it():
    code = f"""
import signal, sys
sys.path[:0] = {[p for p in sys.path if p]!r}
from gpuwatch.serve.http import Server
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
server = Server(app, "127.0.0.1", 0)
signal.signal(signal.SIGTERM, lambda *_: server.close())
print(server.port, flush=True)
server.run()
print("clean end")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    port = int(process.stdout.readline())
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
    assert ask(client)[2] == b"ok"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=50)[0] == "clean end\n"
    assert process.returncode == 0
    client.close()


def test_more_clients_than_select_can_watch(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2500, hard))
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=50) for _ in range(1100)]
    try:
        clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert clients[-1].recv(1000).startswith(b"HTTP/1.1 200")
    finally:
        for one in clients:
            one.close()


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        server, thread = serve()
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
        ask(client)
        client.close()
        server.close()
        thread.join(50)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_large_answers_come_whole_to_readers_that_take_their_time():
    whole = bytes(range(256)) * 40_000

    def large(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(whole)))])
        return [whole]

    server, thread = serve(inner=large)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
        for _ in range(2):  # on the same connection
            connection.request("GET", "/")
            answer = connection.getresponse()
            parts = [answer.read(1_000_000)]
            time.sleep(0.2)  # the kernel's buffers are full by now
            parts.append(answer.read())
            assert (answer.status, b"".join(parts)) == (200, whole)
        connection.request("HEAD", "/")
        answer = connection.getresponse()
        assert (answer.getheader("Content-Length"), answer.read()) == (str(len(whole)), b"")
        connection.request("GET", "/")
        connection.getresponse().read(1000)
        connection.close()  # in the middle: the next one is answered all the same
        connection.request("GET", "/")
        assert connection.getresponse().read() == whole
    finally:
        server.close()
        thread.join(50)
