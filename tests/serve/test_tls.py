"""TLS inside the server, with good, slow, broken and plain clients on real sockets."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from tests.certs import self_signed

from gpuwatch.model.errors import GpuwatchError
from gpuwatch.serve import tls
from gpuwatch.serve.http import CertificateFiles, Server

LARGE = b"x" * 5_000_000


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("pair"), "127.0.0.1", "localhost")


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/large":
        answer = LARGE
    else:
        answer = json.dumps({"length": len(body), "from": environ["REMOTE_ADDR"], "scheme": environ["wsgi.url_scheme"]}).encode()
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(answer)))])
    return [answer]


@contextmanager
def serving(pair, **more):
    server = Server(app, "127.0.0.1", 0, threads=4, max_body_bytes=4 * 1024**2, tls=CertificateFiles(str(pair.cert), str(pair.key)), **more)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(50)
        assert not thread.is_alive()


@pytest.fixture
def server(pair):
    with serving(pair) as server:
        yield server


def trusting(pair):
    return ssl.create_default_context(cafile=str(pair.cert))


def connect(server, pair):
    return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=50, context=trusting(pair))


def ask(connection, method="GET", path="/", body=None):
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_many_requests_on_one_connection_know_scheme_and_address(server, pair):
    client = connect(server, pair)
    assert [json.loads(ask(client)[1]) for _ in range(5)] == [{"length": 0, "from": "127.0.0.1", "scheme": "https"}] * 5
    assert client.sock.version() == "TLSv1.3"
    client.close()
    assert server.url == f"https://127.0.0.1:{server.port}/"


def test_large_answers_and_bodies_come_through_whole(server, pair):
    client = connect(server, pair)
    assert ask(client, path="/large") == (200, LARGE)
    assert json.loads(ask(client, "POST", body=b"y" * 3_000_000)[1])["length"] == 3_000_000
    client.close()


def test_many_clients_at_once(server, pair):
    found = []

    def work():
        client = connect(server, pair)
        for _ in range(5):
            found.append(ask(client, path="/large")[1] == LARGE)
            found.append(json.loads(ask(client, "POST", body=b"y" * 100_000)[1])["length"] == 100_000)
        client.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 60


def test_fifty_idle_connections_and_half_a_hello_delay_nobody(server, pair, monkeypatch):
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 60.0)  # until then the server would wait for them, if it did
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    hello = client_hello(pair)
    half = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    for number, one in enumerate(half):
        one.sendall(hello[: len(hello) // 2 + number])
    shaken = [trusting(pair).wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname="127.0.0.1") for _ in range(5)]
    client = connect(server, pair)
    began = time.monotonic()
    assert [ask(client)[0] for _ in range(5)] == [200] * 5
    assert time.monotonic() - began < 40  # a handshake in the server's loop would wait for the others for ever
    half[0].sendall(hello[len(hello) // 2 :])  # who goes on in time is served
    half[0].settimeout(50)
    assert half[0].recv(5)[:1] == b"\x16"
    for one in (*idle, *half, *shaken, client):
        one.close()


def client_hello(pair):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting(pair).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


def test_who_does_not_finish_its_handshake_is_cut_off(pair, monkeypatch):
    with serving(pair) as server:
        server._server.adj.cleanup_interval = 1
        server._server.next_channel_cleanup = 0
        ends_at = time.monotonic() + 50
        with monkeypatch.context() as patched:
            patched.setattr(tls, "HANDSHAKE_SECONDS", 0.2)  # for this one alone: others may be slow
            stalled = socket.create_connection(("127.0.0.1", server.port))
            while not server._server.active_channels:
                assert time.monotonic() < ends_at
                time.sleep(0.01)
        stalled.settimeout(0.5)
        while time.monotonic() < ends_at:  # the sweep runs when somebody comes
            client = connect(server, pair)
            assert ask(client)[0] == 200
            client.close()
            try:
                assert stalled.recv(1) == b""
                break
            except socket.timeout:
                continue
        else:
            pytest.fail("it was not cut off")
        stalled.close()


def test_plain_http_is_told_what_to_write(server):
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=50)
    assert ask(client) == (400, b"This address speaks TLS: write https:// instead of http://.\n")


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 600, b"\x00" * 100, b"SSH-2.0-x\r\n" * 20, b"\x80" * 5000])
def test_junk_costs_nobody_anything(server, pair, junk):
    with socket.create_connection(("127.0.0.1", server.port), timeout=50) as one:
        one.sendall(junk)
        try:
            while one.recv(4096):
                pass
        except ConnectionError:
            pass
    client = connect(server, pair)
    assert ask(client)[0] == 200
    client.close()


def test_old_versions_are_refused(server):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        input="", capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode != 0
    assert "alert protocol version" in done.stderr


def test_curl_sees_a_clean_end(server, pair):
    done = subprocess.run(["curl", "-sS", "--cacert", pair.cert, f"https://127.0.0.1:{server.port}/large"], capture_output=True, timeout=100)
    assert (done.returncode, done.stderr, done.stdout == LARGE) == (0, b"", True)


def test_a_session_is_taken_up_again(server, pair):
    context = trusting(pair)

    def once(session):
        with context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), timeout=50), server_hostname="127.0.0.1", session=session) as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while one.recv(4096):
                pass
            return one.session, one.session_reused

    session, reused = once(None)
    assert not reused
    assert once(session)[1]


def test_a_renewed_certificate_is_taken_over_and_a_broken_one_is_not(tmp_path, pair, monkeypatch, caplog):
    own = self_signed(tmp_path, "127.0.0.1")
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.0)
    with serving(own) as server:
        before = shown(server)
        own.cert.write_text("no certificate")
        assert shown(server) == before
        assert "stays in use" in caplog.text
        for old, new in zip(own, pair):
            os.replace(copy_of(new, tmp_path), old)
        assert shown(server) != before


def copy_of(path, folder):
    made = folder / "copy"
    made.write_bytes(path.read_bytes())
    made.chmod(0o600)
    return made


def shown(server):
    return ssl.get_server_certificate(("127.0.0.1", server.port))


def test_what_is_wrong_with_the_files_is_said(tmp_path, pair):
    other = self_signed(tmp_path / "other")
    encrypted, text, readable = tmp_path / "encrypted.pem", tmp_path / "text.pem", tmp_path / "readable.pem"
    subprocess.run(["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", encrypted], check=True)
    text.write_text("hello")
    text.chmod(0o600)
    readable.write_bytes(pair.key.read_bytes())
    readable.chmod(0o644)
    cases = [
        (str(tmp_path / "none.pem"), str(pair.key), "cannot be read: No such file"),
        (str(pair.cert), str(other.key), "does not belong to the certificate"),
        (str(pair.cert), str(encrypted), "is encrypted"),
        (str(text), str(text), "are not a certificate and its key in PEM"),
        (str(pair.cert), str(readable), "chmod 600"),
    ]
    for cert, key, words in cases:
        with pytest.raises(GpuwatchError, match=words):
            Server(app, "127.0.0.1", 0, tls=CertificateFiles(cert, key))


def test_settings_name_both_or_one_file_with_both(tmp_path, pair):
    assert CertificateFiles.of("", "") is None
    assert CertificateFiles.of("a.pem", "") == ("a.pem", "a.pem")
    with pytest.raises(GpuwatchError, match="tls_cert is not"):
        CertificateFiles.of("", "key.pem")
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.cert.read_bytes())
    both.chmod(0o600)
    tls.load(CertificateFiles.of(str(both), ""))


def test_as_many_records_are_read_as_are_asked_for(pair):
    context = tls.load(CertificateFiles(str(pair.cert), str(pair.key)))
    ours, theirs = socket.socketpair()
    secure = tls.SecureSocket(ours, context)
    sent, all_sent = os.urandom(3 * tls.RECORD_BYTES), threading.Event()

    def client():
        with trusting(pair).wrap_socket(theirs, server_hostname="127.0.0.1") as one:
            one.sendall(sent)
            all_sent.set()
            one.recv(1)

    thread = threading.Thread(target=client)
    thread.start()
    while not secure.handshake():
        time.sleep(0.001)
    assert all_sent.wait(50)  # all of them are there
    came, longest = b"", 0
    while len(came) < len(sent):
        try:
            part = secure.recv(10 * tls.RECORD_BYTES)
            came, longest = came + part, max(longest, len(part))
        except BlockingIOError:
            time.sleep(0.01)
    assert came == sent
    assert longest > tls.RECORD_BYTES
    assert secure.send(b"x") == 1
    thread.join(50)
    secure.close()
