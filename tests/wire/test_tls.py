"""Whom a client of the command line trusts, against the real server."""

import os
import socket
import threading
from pathlib import Path

import pytest
from tests.certs import Authority, self_signed

from gpuwatch.model.errors import WireError
from gpuwatch.serve.http import CertificateFiles, Server
from gpuwatch.wire import http, tls
from gpuwatch.wire.http import Trust


def fetch(url, trust=None):
    """With time enough for a machine that stands still for a while."""
    return http.fetch(url, trust=trust, deadline_seconds=60.0)


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("good")


@pytest.fixture(scope="module")
def url(pair):
    server = Server(app, "127.0.0.1", 0, tls=CertificateFiles(str(pair.cert), str(pair.key)))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.url
    server.close()
    thread.join(20)


def test_a_pin_or_an_authority_lets_in(url, pair, authority):
    assert fetch(url, trust=Trust(pin=pair.pin)).body == b"ok"
    assert fetch(url, trust=Trust(ca_file=str(authority.cert))).body == b"ok"


def test_without_either_the_system_s_authorities_count(url):
    with pytest.raises(WireError, match=r"nobody who is trusted here signed it\. Next: pin it"):
        fetch(url)


def test_another_pin_is_refused_with_both(url, pair):
    with pytest.raises(WireError, match=f"it is {pair.pin}, pinned is sha256:0000"):
        fetch(url, trust=Trust(pin="sha256:" + "0" * 64))


def test_nothing_is_sent_to_who_shows_another_certificate(tmp_path):
    pair, got = self_signed(tmp_path), []
    context = tls.ssl.SSLContext(tls.ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True) as secure:
            try:
                got.append(secure.recv(1000))
            except ConnectionResetError:  # what a client sent before it hung up would have come first
                got.append(b"")

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(WireError, match="pinned is"):
        fetch(f"https://127.0.0.1:{listening.getsockname()[1]}/secret", trust=Trust(pin="sha256:" + "0" * 64))
    thread.join(60)
    listening.close()
    assert got == [b""]


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_a_file_of_authorities_that_is_none_is_said_without_its_path(tmp_path: Path, url, text):
    path = tmp_path / "ca.pem"
    path.write_text(text)
    with pytest.raises(WireError) as caught:
        fetch(url, trust=Trust(ca_file=str(path)))
    assert str(caught.value).startswith("The file of authorities cannot be used: it holds no PEM certificate.")
    path.write_bytes(b"")


def test_a_mended_file_of_authorities_is_read_again(tmp_path, url, authority):
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(WireError):
        fetch(url, trust=Trust(ca_file=str(path)))
    path.write_bytes(authority.cert.read_bytes())
    assert fetch(url, trust=Trust(ca_file=str(path))).status == 200


def test_a_file_of_authorities_that_was_read_half_written_is_read_again(tmp_path, url, authority):
    """The clock of the file system moves some hundred times a second only."""
    other, path = self_signed(tmp_path / "other", "other.test"), tmp_path / "ca.pem"
    for text, works in ((other.cert.read_text(), False), (other.cert.read_text() + authority.cert.read_text(), True)):
        path.write_text(text)
        os.utime(path, (1_790_000_000, 1_790_000_000))
        if works:
            assert fetch(url, trust=Trust(ca_file=str(path))).status == 200
        else:
            with pytest.raises(WireError):
                fetch(url, trust=Trust(ca_file=str(path)))
