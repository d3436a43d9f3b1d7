"""The reader of answers on every form and every lie, and ``fetch`` against real sockets."""

from __future__ import annotations

import errno
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.wire import http
from gpuwatch.wire.http import Response, ResponseReader, build_request


def fetch(url: str, deadline_seconds: float = 60.0, **options: Any) -> Response:
    """``http.fetch`` with time enough for a machine that stands still for a while."""
    return http.fetch(url, deadline_seconds=deadline_seconds, **options)


def read(data: bytes, step: int = 0, max_bytes: int = 1000, has_body: bool = True) -> Optional[Response]:
    reader = ResponseReader(max_bytes, has_body=has_body)
    for start in range(0, len(data), step or len(data)):
        response = reader.feed(data[start : start + (step or len(data))])
        if response is not None:
            return response
    return None


GOOD = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello", b"hello", True),
    "empty": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", b"", True),
    "close": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nhi", b"hi", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
    "1.0 keep": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", b"hi", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\nA \r\n0123456789\r\n0\r\n\r\n", b"abc0123456789", True),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", b"a", True),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "both": (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b"a", True),
}


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_good_answers_however_they_are_cut(name: str, step: int) -> None:
    data, body, keeps = GOOD[name]
    response = read(data, step)
    assert response is not None
    assert (response.body, response.keeps_connection) == (body, keeps)


def test_headers_are_lower_case_and_stripped() -> None:
    response = read(GOOD["length"][0])
    assert response is not None
    assert response.headers == {"content-length": "5", "x-a": "b"}


def test_what_follows_an_answer_ends_the_connection() -> None:
    for data in (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"):
        response = read(data)
        assert response is not None
        assert response.keeps_connection is False


def test_a_head_request_has_no_body() -> None:
    response = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", has_body=False)
    assert response is not None
    assert response.body == b""


def test_until_close() -> None:
    reader = ResponseReader(10)
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc") is None
    assert reader.feed(b"def") is None
    assert reader.end().body == b"abcdef"


BAD = {
    b"SSH-2.0-x\r\n": "not HTTP",
    b"<html>": "not HTTP",
    b"HTTP/2 200\r\n\r\n": "not HTTP",
    b"HTTP/1.1 999 x\r\n\r\n": "not HTTP",
    b"HTTP/1.1 20 x\r\n\r\n": "not HTTP",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n": "larger than 1000",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n": "not a number",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n": "not a number",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n": "not a number",
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n": "not a number",
    b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n": "not a number",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n": "broken header",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n": "only chunked",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n": "not a size",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n": "not a size",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n": "larger than 1000",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300: "line is too long",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n": "longer than its size",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 20: "larger than 1000",
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001: "larger than 1000",
    b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 20000: "headers are longer",
}


@pytest.mark.parametrize("data", sorted(BAD))
@pytest.mark.parametrize("step", [0, 100])
def test_lies_are_told_in_words(data: bytes, step: int) -> None:
    with pytest.raises(WireError, match=BAD[data]) as error:
        read(data, step)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 2", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "in the middle"),
    ],
)
def test_an_early_end(data: bytes, words: str) -> None:
    reader = ResponseReader(100)
    if data:
        assert reader.feed(data) is None
    with pytest.raises(WireError, match=words):
        reader.end()


@given(st.lists(st.binary(max_size=60) | st.sampled_from([data for data, _, _ in GOOD.values()]), max_size=8))
def test_any_bytes_give_an_answer_or_words(parts: List[bytes]) -> None:
    reader = ResponseReader(500)
    try:
        for part in parts:
            if reader.feed(part) is not None:
                return
        reader.end()
    except WireError as error:
        assert str(error)


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_chunks_round_trip(body: bytes, sizes: List[int]) -> None:
    encoded, at, turn = b"", 0, 0
    while at < len(body):
        part = body[at : at + sizes[turn % len(sizes)]]
        encoded += b"%x\r\n%s\r\n" % (len(part), part)
        at, turn = at + len(part), turn + 1
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + encoded + b"0\r\n\r\n"
    for step in (0, 1, 3):
        response = read(data, step, max_bytes=10**6)
        assert response is not None
        assert response.body == body


def test_a_request_cannot_be_broken_out_of() -> None:
    assert build_request("POST", "a:1", "/x", b"{}", {"A": "b"}) == b"POST /x HTTP/1.1\r\nHost: a:1\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"
    for method, path, headers in (("GET", "/a b", {}), ("G\r\n", "/", {}), ("GET", "/", {"A": "b\r\nC: d"}), ("GET", "/", {"A:": "b"})):
        with pytest.raises(WireError):
            build_request(method, "a", path, None, headers)


class Server:
    """Answers each connection by one function in a thread of its own."""

    def __init__(self, family: int, address: Any, serve: Callable[[socket.socket], None]) -> None:
        self.requests: List[bytes] = []
        self._serve = serve
        self._socket = socket.socket(family)
        self._socket.bind(address)
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve(connection)
        except OSError:
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: List[Server] = []

    def start(answer: Any, family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> Server:
        def reply(connection: socket.socket) -> None:
            server.requests.append(connection.recv(65536))
            connection.sendall(answer) if isinstance(answer, bytes) else answer(connection)

        server = Server(family, address, reply)
        made.append(server)
        return server

    yield start
    for server in made:
        server.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_fetch(serve: Callable[..., Server]) -> None:
    server = serve(OK)
    response = fetch(f"http://127.0.0.1:{server.port}/a/b?c=d", method="POST", body=b"{}", headers={"X-A": "b"})
    assert (response.status, response.body) == (200, b"ok")
    request = server.requests[0]
    assert request.startswith(b"POST /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-A: b\r\n" % server.port)
    assert request.endswith(b"\r\n\r\n{}")


def test_no_proxy_of_the_environment_is_used(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(b"HTTP/1.1 502 Proxy\r\nContent-Length: 0\r\n\r\n"), serve(OK)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert fetch(f"http://127.0.0.1:{server.port}/").body == b"ok"
    assert proxy.requests == []


def test_redirects_are_not_followed(serve: Callable[..., Server]) -> None:
    other = serve(OK)
    server = serve(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % other.port)
    assert fetch(f"http://127.0.0.1:{server.port}/").status == 302
    assert other.requests == []


def test_ipv6(serve: Callable[..., Server]) -> None:
    server = serve(OK, socket.AF_INET6, ("::1", 0))
    assert fetch(f"http://[::1]:{server.port}/").body == b"ok"
    assert b"Host: [::1]:" in server.requests[0]


def test_the_next_address_of_a_name_is_tried(serve: Callable[..., Server]) -> None:
    server = serve(OK)
    assert fetch(f"http://localhost:{server.port}/").body == b"ok"


def test_refused() -> None:
    with socket.socket() as sock:  # bound, so that nobody else gets the port, and not listening
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(WireError) as error:
            fetch(f"http://127.0.0.1:{port}/", program="gpuwatch node")
    assert str(error.value) == f"connection refused by 127.0.0.1:{port}. Next: is gpuwatch node running there?"


def drip(connection: socket.socket) -> None:
    for byte in OK * 10:
        connection.sendall(bytes([byte]))
        threading.Event().wait(0.05)


def silence(connection: socket.socket) -> None:
    connection.recv(10)


@pytest.mark.parametrize("behaviour", [drip, silence])
def test_the_deadline_is_for_all_of_it(serve: Callable[..., Server], behaviour: Any) -> None:
    server = serve(behaviour)
    started = time.monotonic()
    with pytest.raises(WireError, match=r"no answer from 127\.0\.0\.1:\d+ within 0\.5 s\. Next: "):
        fetch(f"http://127.0.0.1:{server.port}/", deadline_seconds=0.5)
    assert time.monotonic() - started < 60


def test_a_resolver_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    real = socket.getaddrinfo

    def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):
            return real(host, *args, **kwargs)
        released.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(WireError, match="no answer from slow.example:80 within"):
        fetch("http://slow.example/", deadline_seconds=0.3)
    released.set()


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(WireError, match="the name of dgx-z:7080 is not known: Name or service not known. Next: "):
        fetch("http://dgx-z:7080/")


def test_too_many_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    with pytest.raises(WireError, match="too many files are open here. Next: raise the limit"):
        fetch("http://127.0.0.1:7080/")


def test_too_large(serve: Callable[..., Server]) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    with pytest.raises(WireError, match="larger than 100 bytes"):
        fetch(f"http://127.0.0.1:{server.port}/", max_bytes=100)


def test_a_closed_connection(serve: Callable[..., Server]) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc")
    with pytest.raises(WireError, match="in the middle of the answer"):
        fetch(f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a/", "http://", "a:7070", "http://a:99999/", "http://a b/", "http://a/\r\nX: y", "http://[::1/", "http://lisa:SECRET@a/", "http://\x00/"],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(WireError) as error:
        fetch(url)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "https://127.0.0.1:{}/"])
def test_errors_never_tell_the_query(url: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(WireError) as error:
            fetch(url.format(port) + "?token=SECRET")
    assert "SECRET" not in str(error.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def tls(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def reply(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(OK)

    server = Server(socket.AF_INET, ("127.0.0.1", 0), reply)
    yield server
    server.close()


def test_https_with_a_known_certificate(tls: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    assert fetch(f"https://127.0.0.1:{tls.port}/").body == b"ok"


def test_a_certificate_that_is_not_trusted_is_said(tls: Server) -> None:
    with pytest.raises(WireError, match=r"certificate of 127\.0\.0\.1:\d+ refused: .*self.signed.*Next: "):
        fetch(f"https://127.0.0.1:{tls.port}/")


def test_http_where_https_is_asked(serve: Callable[..., Server]) -> None:
    server = serve(OK)
    with pytest.raises(WireError, match=r"does not speak TLS\. Next: write http://"):
        fetch(f"https://127.0.0.1:{server.port}/")


def test_resolve_gives_numbers_without_asking_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http.resolve("127.0.0.1", 80, 1.0) == [(socket.AF_INET, ("127.0.0.1", 80))]
    assert http.resolve("::1", 80, 1.0)[0][0] == socket.AF_INET6
