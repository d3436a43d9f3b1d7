"""Polls by TLS over real sockets: whom the hub trusts, what it says of those it does not, and that it sends them nothing."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from tests.certs import Authority, Pair, self_signed
from tests.hub import nodes
from tests.hub.nodes import FakeNode, Street
from tests.hub.test_poller import PASSWORD, Hub, target, until

from gpuwatch.wire.tls import fingerprint


@pytest.fixture
def street() -> Iterator[Street]:
    made = Street()
    yield made
    made.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return self_signed(tmp_path_factory.mktemp("pair"), "127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class SecureNode(FakeNode):
    """A FakeNode that speaks TLS, and counts whole handshakes and resumed ones."""

    def __init__(self, pair: Pair, behaviour: nodes.Behaviour = nodes.good) -> None:
        super().__init__(behaviour)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.cert, pair.key)
        self.resumed = 0

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.resumed += bool(writer.get_extra_info("ssl_object").session_reused)
        await super()._serve(reader, writer)


def secure(street: Street, pair: Pair, behaviour: nodes.Behaviour = nodes.good) -> SecureNode:
    made = SecureNode(pair, behaviour)
    street.call(made.open())
    street._nodes.append(made)
    return made


def https(node: FakeNode, **more: Any) -> Any:
    return target("a", node.port, scheme="https", **more)


def test_a_pinned_node_is_polled_on_one_connection(street: Street, hub: Hub, pair: Pair) -> None:
    node = secure(street, pair)
    hub.poll([https(node, pin=pair.pin)])
    until(lambda: hub.book.counts("a") >= 5)
    assert (node.connections, hub.book.bad) == (1, {})
    assert node.requests[0] == {"flat": ""}


def test_an_authority_s_node_is_polled(street: Street, hub: Hub, authority: Authority) -> None:
    node = secure(street, authority.issue("good"))
    hub.poll([https(node, ca_file=str(authority.cert))])
    until(lambda: hub.book.counts("a") >= 2)
    assert hub.book.bad == {}


def test_the_wrong_certificate_is_named_with_both_fingerprints_and_sent_nothing(street: Street, hub: Hub, pair: Pair, tmp_path: Path) -> None:
    other = self_signed(tmp_path)
    node = secure(street, other)
    hub.poll([https(node, pin=pair.pin)])
    until(lambda: hub.book.bad.get("a"))
    assert hub.book.bad["a"][-1] == (
        f"a: certificate of 127.0.0.1:{node.port} refused: it is {other.pin}, pinned is {pair.pin}. "
        "Next: was it renewed there (gpuwatch cert --show)? Then change pin=; else somebody stands between.",
        True,
    )
    assert node.raw == []


@pytest.mark.parametrize(
    ("what", "alternatives", "days", "trusts", "words"),
    [
        ("expired", "IP:127.0.0.1", -1, True, "certificate has expired. Next: renew it there (gpuwatch cert --force), or look at the clocks."),
        ("elsewhere", "DNS:elsewhere.test", 10, True, "IP address mismatch, certificate is not valid for '127.0.0.1'. Next: write a name that it holds, or pin it"),
        ("unknown", "IP:127.0.0.1", 10, False, "unable to get local issuer certificate; nobody who is trusted here signed it. Next: pin it"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said(
    street: Street, hub: Hub, authority: Authority, what: str, alternatives: str, days: int, trusts: bool, words: str
) -> None:
    node = secure(street, authority.issue(what, alternatives, days))
    hub.poll([https(node, ca_file=str(authority.cert) if trusts else "")])
    until(lambda: hub.book.bad.get("a"))
    assert hub.book.error("a").startswith(f"a: certificate of 127.0.0.1:{node.port} refused: {words}")
    assert node.raw == []


def test_a_pin_stands_above_name_and_date(street: Street, hub: Hub, authority: Authority) -> None:
    expired = authority.issue("pinned", "DNS:elsewhere.test", -1)
    node = secure(street, expired)
    hub.poll([https(node, pin=expired.pin)])
    until(lambda: hub.book.counts("a") >= 2)
    assert hub.book.bad == {}


def test_the_next_connection_takes_up_the_session(street: Street, hub: Hub, pair: Pair) -> None:
    node = secure(street, pair, nodes.closing)
    hub.poll([https(node, pin=pair.pin)], interval=0.05)
    until(lambda: hub.book.counts("a") >= 5)
    connections = node.connections  # read first: it grows on, and each is counted as resumed before
    assert connections >= 5
    assert node.resumed >= connections - 2


def test_of_two_targets_neither_takes_the_other_s_session(street: Street, hub: Hub, pair: Pair, authority: Authority) -> None:
    one, two = secure(street, pair, nodes.closing), secure(street, authority.issue("two"), nodes.closing)
    pinned, signed = https(one, pin=pair.pin), target("b", two.port, scheme="https", ca_file=str(authority.cert))
    hub.poll([pinned, signed], interval=0.05)
    until(lambda: min(hub.book.counts("a"), hub.book.counts("b")) >= 5)
    assert hub.book.bad == {}


@pytest.mark.parametrize("behaviour", [nodes.chunked, nodes.closing, nodes.until_close, nodes.closes_idle])
def test_every_form_of_answer_is_read(street: Street, hub: Hub, pair: Pair, behaviour: nodes.Behaviour) -> None:
    node = secure(street, pair, behaviour)
    hub.poll([https(node, pin=pair.pin)])
    until(lambda: hub.book.counts("a") >= 3)
    assert hub.book.bad == {}


def test_a_large_answer_comes_whole(street: Street, hub: Hub, pair: Pair) -> None:
    node = secure(street, pair)
    node.gpus = 400
    hub.poll([https(node, pin=pair.pin)], interval=0.5)
    until(lambda: hub.book.counts("a") >= 2)
    assert len(hub.book.good["a"][0][0]) > 60_000


@pytest.mark.parametrize("behaviour", [nodes.slams, nodes.garbage, nodes.huge, nodes.short_length, nodes.wrong_password, nodes.silent])
def test_a_bad_answer_costs_itself_only(street: Street, hub: Hub, pair: Pair, behaviour: nodes.Behaviour) -> None:
    node, other = secure(street, pair, behaviour), secure(street, pair)
    hub.poll([https(node, pin=pair.pin), target("b", other.port, scheme="https", pin=pair.pin)], deadline=5.0 if behaviour is nodes.silent else 50.0)
    until(lambda: hub.book.bad.get("a") and hub.book.counts("b") >= 5)
    node.behaviour = nodes.good
    assert "Next: " in hub.book.error("a")
    assert hub.book.bad.get("b") is None


def test_a_stalled_handshake_ends_at_the_deadline(street: Street, hub: Hub, pair: Pair) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(600)

    server = street.call(asyncio.start_server(hold, "127.0.0.1", 0))
    port, other = server.sockets[0].getsockname()[1], secure(street, pair)
    began = time.monotonic()
    hub.poll([target("a", port, scheme="https", pin=pair.pin), target("b", other.port, scheme="https", pin=pair.pin)], deadline=0.5)
    said = f"a: no whole answer from 127.0.0.1:{port} within 0.5 s. Next: look at the node's load and log."
    # where this machine stands still before it is connected, that poll has no answer at all
    until(lambda: said in [text for text, _ in hub.book.bad.get("a", [])] and hub.book.counts("b") >= 5)
    assert time.monotonic() - began < 70
    street.loop.call_soon_threadsafe(server.close)


def test_plain_http_where_tls_should_be_is_said(street: Street, hub: Hub, pair: Pair) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = street.call(asyncio.start_server(plain, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    hub.poll([target("a", port, scheme="https", pin=pair.pin)])
    until(lambda: hub.book.bad.get("a"))
    assert hub.book.error("a") == f"a: 127.0.0.1:{port} does not speak TLS. Next: write http://, or set tls_cert there."
    street.loop.call_soon_threadsafe(server.close)


def test_nobody_there_and_a_missing_authority_are_said(hub: Hub, tmp_path: Path) -> None:
    missing = tmp_path / "secret-place" / "ca.pem"
    with nodes.reserved_port() as port:
        hub.poll([target("a", port, scheme="https"), target("b", port, scheme="https", ca_file=str(missing))])
        until(lambda: hub.book.bad.get("a") and hub.book.bad.get("b"))
    assert hub.book.error("a") == f"connection refused by 127.0.0.1:{port}. Next: is gpuwatch node running there?"
    assert hub.book.error("b").startswith("b: The file of authorities cannot be used: No such file or directory. Next: mend ca=")
    assert "secret-place" not in hub.book.error("b")


def test_the_secret_never_crosses(street: Street, hub: Hub, pair: Pair) -> None:
    node = secure(street, pair)
    hub.poll([https(node, pin=pair.pin)])
    until(lambda: hub.book.counts("a") >= 3)
    assert PASSWORD.encode() not in b"".join(node.raw)
    assert fingerprint(b"").startswith("sha256:e3b0c442")
