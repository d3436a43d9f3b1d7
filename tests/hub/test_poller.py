"""Polls of good and bad nodes over real sockets: each bad one costs itself only, and says why."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from tests.hub import nodes
from tests.hub.nodes import FakeNode, Street

from gpuwatch.hub import answers
from gpuwatch.hub.poller import Poller, PollerStats
from gpuwatch.loops import AsyncLoop
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import UsageError, WireError
from gpuwatch.wire.signing import Verifier, derive_key

PASSWORD = "s3cret-word"


class Book:
    """A Sink that writes down what comes."""

    def __init__(self) -> None:
        self.good: Dict[str, List[Tuple[bytes, float, float]]] = {}
        self.bad: Dict[str, List[Tuple[str, bool]]] = {}
        self.shapes: Dict[str, str] = {}

    def shape_id(self, machine_id: str) -> str:
        return self.shapes.get(machine_id, "")

    def accept(self, target: Target, machine_id: str, body: bytes, asked_at: float, answered_at: float) -> None:
        header = json.loads(body.partition(b"\n")[0])
        if "flat" not in header:
            raise WireError("The answer is readable status, not a frame.")
        self.shapes[machine_id] = header["shape_id"]
        self.good.setdefault(target.name, []).append((body, asked_at, answered_at))

    def fail(self, target: Target, error: str, now: float, answers: bool) -> None:
        self.bad[target.name] = [*self.bad.get(target.name, []), (error, answers)]  # no other thread sees an empty list

    def counts(self, name: str) -> int:
        return len(self.good.get(name, []))

    def error(self, name: str) -> str:
        return self.bad[name][-1][0]


class Hub:
    """A poller in its thread."""

    def __init__(self) -> None:
        self.book = Book()
        self._loops: List[AsyncLoop] = []

    def poll(
        self, targets: List[Target], interval: float = 0.1, deadline: float = 50.0, password: Optional[Callable[[Target], str]] = None, **more: Any
    ) -> Poller:
        """``deadline``: so long that a machine that stands still for a while makes no failure; short where a test is about it."""
        poller = Poller(
            self.book, password or (lambda target: PASSWORD), interval_seconds=interval, deadline_seconds=deadline, **more
        )
        poller.set_targets([(target, f"id-{target.name}") for target in targets])
        self._loops.append(AsyncLoop("poller").start(poller.run))
        return poller

    def stop(self) -> None:
        assert all(loop.stop(30) for loop in self._loops)


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


def target(name: str, port: int, host: str = "127.0.0.1", **more: Any) -> Target:
    return Target(name, host, port, **more)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "did not happen in time"
        threading.Event().wait(0.01)


def test_a_good_node_is_polled_on_one_connection(street: Street, hub: Hub) -> None:
    node = street.node()
    poller = hub.poll([target("a", node.port)])
    until(lambda: hub.book.counts("a") >= 5)
    assert node.connections == 1
    assert hub.book.bad == {}
    first, second = node.requests[:2]
    assert first == {"flat": ""}
    assert second == {"flat": hub.book.shapes["id-a"]}
    assert b'"shape":' in hub.book.good["a"][0][0]
    assert b'"shape":' not in hub.book.good["a"][1][0]
    for _, asked_at, answered_at in hub.book.good["a"]:
        assert 0 <= answered_at - asked_at < 5
    until(lambda: poller.stats.good >= 5)  # counted a moment after the book has it
    assert poller.stats.failed == 0
    assert poller.stats.lateness_seconds(0.99) is not None


def test_a_line_s_own_interval_counts_for_it_alone(street: Street, hub: Hub) -> None:
    often, usual = street.node(), street.node()
    hub.poll([target("often", often.port, interval_seconds=0.1), target("usual", usual.port)], interval=30.0)
    until(lambda: hub.book.counts("often") >= 8)
    assert hub.book.counts("usual") <= 2
    asked = [asked_at for _, asked_at, _ in hub.book.good["often"]]
    assert 0.05 < (asked[7] - asked[2]) / 5 < 30.0


@pytest.mark.parametrize("behaviour", [nodes.chunked, nodes.closing, nodes.until_close])
def test_every_form_of_body_is_read(street: Street, hub: Hub, behaviour: nodes.Behaviour) -> None:
    node = street.node(behaviour)
    hub.poll([target("a", node.port)])
    until(lambda: hub.book.counts("a") >= 3)
    assert hub.book.bad == {}


def test_an_idle_connection_that_was_closed_is_no_failure(street: Street, hub: Hub) -> None:
    node = street.node(nodes.closes_idle)
    hub.poll([target("a", node.port)])
    until(lambda: hub.book.counts("a") >= 4)
    assert hub.book.bad == {}
    assert node.connections >= 3


WORDS = {
    "dripping": (nodes.dripping, "no whole answer from", False),
    "silent": (nodes.silent, "no whole answer from", False),
    "garbage": (nodes.garbage, "The answer is not HTTP (it starts with 'SSH-2.0", True),
    "huge": (nodes.huge, "larger than", True),
    "endless_chunks": (nodes.endless_chunks, "larger than", True),
    "endless_headers": (nodes.endless_headers, "headers are longer", True),
    "short_length": (nodes.short_length, "closed in the middle", True),
    "redirecting": (nodes.redirecting, "a redirect to http://169.254.169.254/latest/; redirects are not followed", True),
    "wrong_password": (nodes.wrong_password, "wrong password: wrong_password answered 403. Next: ", True),
    "starting": (nodes.starting, "has no reading yet: no sample yet", True),
    "too_many": (nodes.too_many, "refuses this hub for 100 s", True),
    "no_frame": (nodes.no_frame, "not a frame", True),
    "html": (nodes.html, "answered 404 instead of readings. Next: ", True),
    "slams": (nodes.slams, "closed", False),
}


NEVER_END = (nodes.dripping, nodes.silent)
"""Only a deadline ends polls of these."""


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_bad_node_says_why_and_a_good_one_beside_it_goes_on(street: Street, hub: Hub, name: str) -> None:
    behaviour, words, answers = WORDS[name]
    bad, fine = street.node(behaviour), street.node()
    hub.poll([target(name, bad.port), target("fine", fine.port)], deadline=5.0 if behaviour in NEVER_END else 50.0, max_bytes=100_000)
    until(lambda: hub.book.bad.get(name) and hub.book.counts("fine") >= 5)
    error, answered = hub.book.bad[name][0]
    assert words in error
    assert "Next: " in error
    assert "\n" not in error
    assert PASSWORD not in error
    assert answered is answers
    assert "fine" not in hub.book.bad


def test_a_dead_target_is_refused_in_words_and_back_within_an_interval(street: Street, hub: Hub) -> None:
    with nodes.reserved_port() as port:
        hub.poll([target("a", port)], interval=0.2)
        until(lambda: len(hub.book.bad.get("a", [])) >= 4)
        assert hub.book.error("a") == f"connection refused by 127.0.0.1:{port}. Next: is gpuwatch node running there?"
        assert hub.book.bad["a"][0][1] is False
        node = street.node(port=port)
        failed = len(hub.book.bad["a"])
        until(lambda: hub.book.counts("a") >= 1)
        assert len(hub.book.bad["a"]) <= failed + 1, "the poll that was under way, and no more"
        assert node.connections == 1, "it is asked at once, not looked at first"


def test_what_costs_more_is_backed_off(street: Street, hub: Hub) -> None:
    node, other = street.node(nodes.garbage), street.node()
    hub.poll([target("a", node.port), target("b", other.port)], interval=0.05)
    until(lambda: hub.book.counts("b") >= 40 and len(node.requests) >= 2)
    asked, connections = len(node.requests), node.connections
    assert asked <= 12
    assert connections > asked  # a bare connect at each interval goes on


async def shut_out(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    """Is not to be asked again for longer than a test waits; closes."""
    writer.write(nodes.answer(b"too many\n", "429 Too Many Requests", "Retry-After: 100", "Connection: close"))
    await writer.drain()
    writer.close()


def test_a_node_that_restarts_during_its_back_off_is_asked_at_once(street: Street, hub: Hub) -> None:
    with nodes.reserved_port() as port:
        node = street.node(shut_out, port=port)
        hub.poll([target("a", port)])
        until(lambda: hub.book.bad.get("a") and node.connections > 1)  # looked at, not asked
        street.call(node.shut())
        until(lambda: "connection refused" in hub.book.error("a"))
        better = street.node(port=port)
        until(lambda: hub.book.counts("a") >= 1)
        assert (len(node.requests), better.connections) == (1, 1)


def test_wrong_passwords_never_come_close_to_the_nodes_limit(street: Street, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10 * answers.WRONG_PASSWORD_WAIT_SECONDS > 60.0  # ten in a minute would shut the hub out
    monkeypatch.setattr(answers, "WRONG_PASSWORD_WAIT_SECONDS", 600.0)  # however long the test takes
    node, other = street.node(nodes.wrong_password), street.node()
    word = ["one"]
    hub.poll([target("a", node.port), target("b", other.port)], interval=0.05, password=lambda target: word[0])
    until(lambda: hub.book.counts("b") >= 30)
    assert len(node.requests) == 1
    word[0] = "two"
    until(lambda: len(node.requests) == 2)
    body = node.raw[1].partition(b"\r\n\r\n")[2]
    verifier = Verifier({"password": derive_key("two")}.get)
    assert verifier.check(nodes.authorization(node.raw[1]), "POST", "/get-status", body, time.time()) == "password"


def test_every_poll_is_signed_anew_and_none_holds_the_password(street: Street, hub: Hub) -> None:
    node = street.node()
    hub.poll([target("a", node.port)])
    until(lambda: hub.book.counts("a") >= 5)
    verifier = Verifier({"password": derive_key(PASSWORD)}.get)
    for raw in list(node.raw):  # a nonce that came twice would be refused
        verifier.check(nodes.authorization(raw), "POST", "/get-status", raw.partition(b"\r\n\r\n")[2], time.time())
        assert PASSWORD.encode() not in raw
        assert derive_key(PASSWORD).hex().encode() not in raw


REFUSALS = (nodes.wrong_password, nodes.html, nodes.garbage, nodes.slams, nodes.no_frame, nodes.redirecting, nodes.clock_ahead, nodes.closes_idle)


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_the_password_is_never_sent_whatever_is_answered(street: Street, hub: Hub, behaviour: nodes.Behaviour) -> None:
    node, other = street.node(behaviour), street.node()
    word = ["s3cret-word"]
    hub.poll([target("a", node.port), target("b", other.port)], interval=0.05, password=lambda target: word[0])
    until(lambda: hub.book.counts("b") >= 5 and len(node.raw) >= 1)
    word[0] = "s3cret-other"  # asked at once, whatever the back-off
    until(lambda: len(node.raw) >= 2)
    assert b"s3cret" not in b"".join(node.raw)


def test_a_wrong_clock_is_named_and_asked_about_at_every_beat(street: Street, hub: Hub) -> None:
    node = street.node(nodes.clock_ahead)
    hub.poll([target("a", node.port)], interval=0.05)
    until(lambda: len(node.requests) >= 5)
    assert hub.book.error("a").startswith("a takes no requests of this hub: its clock is 312 s ahead of the hub's. Next: set both clocks")
    node.behaviour = nodes.good
    until(lambda: hub.book.counts("a") >= 1)


def test_retry_after_is_obeyed(street: Street, hub: Hub) -> None:
    node, other = street.node(nodes.too_many), street.node()
    hub.poll([target("a", node.port), target("b", other.port)], interval=0.05)
    until(lambda: hub.book.counts("b") >= 30)
    assert len(node.requests) == 1


def test_a_password_that_cannot_be_read_is_said(hub: Hub, street: Street) -> None:
    node = street.node()

    def password(target: Target) -> str:
        raise UsageError("the password file is missing.", "Next: write it.")

    hub.poll([target("a", node.port)], password=password)
    until(lambda: hub.book.bad.get("a"))
    assert hub.book.error("a") == "the password file is missing. Next: write it."
    assert node.connections == 0


def test_targets_come_and_go_while_running(street: Street, hub: Hub) -> None:
    one, two = street.node(), street.node()
    poller = hub.poll([target("one", one.port)])
    until(lambda: hub.book.counts("one") >= 2)
    poller.set_targets([(target("one", one.port), "id-one"), (target("two", two.port), "id-two")])
    until(lambda: hub.book.counts("two") >= 2)
    assert one.connections == 1
    poller.set_targets([(target("two", two.port), "id-two")])
    polled = hub.book.counts("two")
    until(lambda: hub.book.counts("two") >= polled + 2)
    seen = hub.book.counts("one")
    until(lambda: hub.book.counts("two") >= polled + 8)
    assert hub.book.counts("one") <= seen + 1


def test_a_changed_address_is_used(street: Street, hub: Hub) -> None:
    one, two = street.node(), street.node()
    poller = hub.poll([target("a", one.port)])
    until(lambda: len(one.requests) >= 1)
    poller.set_targets([(target("a", two.port), "id-a")])
    until(lambda: len(two.requests) >= 2)
    asked, asked_two = len(one.requests), len(two.requests)
    until(lambda: len(two.requests) >= asked_two + 4)
    assert len(one.requests) == asked, "the old address is left alone"


def test_ipv6(hub: Hub) -> None:
    server = socket.socket(socket.AF_INET6)
    server.bind(("::1", 0))
    server.listen()
    port = server.getsockname()[1]
    hub.poll([target("six", port, "::1")])
    connection, _ = server.accept()
    request = connection.recv(4096)
    assert f"Host: [::1]:{port}\r\n".encode() in request
    connection.close()
    server.close()
    until(lambda: any("connection refused by [::1]:" in text for text, _ in hub.book.bad.get("six", [])))


def test_a_hanging_resolver_delays_nobody(street: Street, hub: Hub) -> None:
    from gpuwatch.hub.resolver import Resolver

    held = threading.Event()
    asked: List[str] = []

    def look_up(host: str, port: int, **kwargs: Any) -> Any:
        asked.append(host)
        if host.startswith("slow"):
            held.wait(30)
        if host == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    node = street.node()
    targets = [target(name, node.port, name) for name in ("slow1", "slow2", "fine", "nowhere")]
    hub.poll(targets, deadline=0.3, new_resolver=lambda: Resolver(look_up))
    try:
        until(lambda: hub.book.counts("fine") >= 10 and hub.book.bad.get("slow1"))
        assert asked.count("fine") == 1
        assert asked.count("slow1") == 1
        assert "no answer from slow1" in hub.book.error("slow1")
        # the first polls of it may end at the deadline, before its look-up does
        until(lambda: any("the name of nowhere" in text for text, _ in hub.book.bad.get("nowhere", [])))
    finally:
        held.set()


def test_a_bug_in_the_sink_costs_one_target_one_reading(street: Street, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    node = street.node()
    accept = hub.book.accept
    broken = iter([True, False])

    def fragile(*args: Any) -> None:
        if next(broken, False):
            raise ZeroDivisionError
        accept(*args)

    hub.book.accept = fragile
    hub.poll([target("a", node.port)])
    until(lambda: hub.book.counts("a") >= 2)
    assert "could not take the answer in" in hub.book.bad["a"][0][0]


def test_two_hundred_targets_with_bad_ones_among_them(street: Street, hub: Hub) -> None:
    """60 bad targets of every kind do not keep 140 good ones from their rhythm."""
    with nodes.reserved_port() as dead:
        fine = [street.node() for _ in range(20)]
        bad = [street.node(behaviour) for behaviour, _, _ in WORDS.values()]
        good_targets = [target(f"g{i}", fine[i % 20].port) for i in range(140)]
        bad_targets = [target(f"b{i}", bad[i % len(bad)].port if i % 5 else dead) for i in range(60)]
        mixed = [one for i, one in enumerate(good_targets) for one in ([one, bad_targets[i]] if i < 60 else [one])]
        poller = hub.poll(mixed, interval=1.0, deadline=10.0, max_bytes=200_000)
        until(lambda: all(hub.book.counts(one.name) >= 6 for one in good_targets) and len(hub.book.bad) >= 60, 90)
        assert not any(one.name in hub.book.bad for one in good_targets)
        assert {one.name for one in bad_targets} == set(hub.book.bad)
        counts = [hub.book.counts(one.name) for one in good_targets]
        assert min(counts) >= max(counts) / 2
        until(lambda: poller.stats.good >= sum(counts))


def test_starts_are_spread_and_stay_on_their_grid(street: Street, hub: Hub) -> None:
    node = street.node()
    poller = hub.poll([target(f"t{i}", node.port) for i in range(10)], interval=0.5)
    until(lambda: all(hub.book.counts(f"t{i}") >= 2 for i in range(10)))
    before = {name: link.due for name, link in poller._links.items()}
    until(lambda: all(hub.book.counts(f"t{i}") >= 6 for i in range(10)))
    for name, due in before.items():
        beats = (poller._links[name].due - due) / 0.5
        assert beats >= 3
        assert beats == pytest.approx(round(beats), abs=1e-6), "no drift adds up"

    def spread() -> float:  # of the last polls: those that waited for a machine that stood still begin together
        phases = [hub.book.good[f"t{i}"][-1][1] % 0.5 for i in range(10)]
        return max(phases) - min(phases)

    until(lambda: spread() > 0.2)


def test_stop_ends_open_polls(street: Street, hub: Hub) -> None:
    node = street.node(nodes.silent)
    hub.poll([target("a", node.port)], deadline=60)
    until(lambda: node.requests)
    started = time.monotonic()
    hub.stop()
    assert time.monotonic() - started < 40
    assert hub.book.bad == {}


def test_stats() -> None:
    stats = PollerStats(keep=100)
    assert stats.lateness_seconds(0.5) is None
    for i in range(100):
        stats.began(i / 1000, 1.0)
    stats.began(2.5, 1.0)
    assert stats.missed == 2
    assert stats.started == 101
    assert stats.lateness_seconds(0.5) == pytest.approx(0.05, abs=0.002)
    assert stats.summary()["lateness_p99_seconds"] == pytest.approx(0.099, abs=0.002) or stats.lateness_seconds(0.99) == 2.5


def test_run_ends_when_cancelled() -> None:
    async def scene() -> None:
        poller = Poller(Book(), lambda target: "x")
        task = asyncio.ensure_future(poller.run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
