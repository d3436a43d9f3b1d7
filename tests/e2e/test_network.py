"""Three machines in network namespaces with a node each, a hub in a fourth; one of them is cut off."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import pytest
from tests.e2e.processes import Lab, Running, eventually

HOSTS = ("one", "two", "three")
INTERVAL_SECONDS = 1.0
PORT = 7080


def ip(*words: str) -> str:
    """Run ``ip``; its output."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """A bridge in a namespace of its own (that of the hub), and a namespace for each host, joined to it by a cable."""

    def __init__(self) -> None:
        self.tag = f"gw{secrets.token_hex(3)}"
        self.hub = f"{self.tag}-hub"
        self._made: list[str] = []

    def build(self) -> None:
        """Raises OSError where this kernel, or our rights, do not allow it."""
        self._namespace(self.hub)
        self.inside(self.hub, "link", "add", "bridge0", "type", "bridge")
        self.inside(self.hub, "addr", "add", "10.77.0.1/24", "dev", "bridge0")
        self.inside(self.hub, "link", "set", "bridge0", "up")
        for number, host in enumerate(HOSTS, 11):
            name = self.of(host)
            self._namespace(name)
            self.inside(self.hub, "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", name)
            self.inside(self.hub, "link", "set", f"to-{host}", "master", "bridge0", "up")
            self.inside(name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            self.inside(name, "link", "set", "eth0", "up")

    def _namespace(self, name: str) -> None:
        ip("netns", "add", name)
        self._made.append(name)
        self.inside(name, "link", "set", "lo", "up")

    def of(self, host: str) -> str:
        """The namespace of a host."""
        return f"{self.tag}-{host}"

    def inside(self, name: str, *words: str) -> str:
        """``ip`` in a namespace."""
        return ip("-n", name, *words)

    def cable(self, host: str, up: bool) -> None:
        """Plug a host's cable in, or pull it."""
        self.inside(self.hub, "link", "set", f"to-{host}", "up" if up else "down")

    def close(self) -> None:
        """Delete all namespaces; links and bridge go with them."""
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30)


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of four machines, or the reason why there is none."""
    made = Network()
    try:
        made.build()
    except OSError as error:
        made.close()
        pytest.skip(f"this kernel forbids: network namespaces ({error})")
    try:
        yield made
    finally:
        made.close()


class PluggedLab(Lab):
    """Starts each process in the namespace of its name."""

    network: Network

    def start(self, name: str, *argv: object, env: Optional[Mapping[str, str]] = None) -> Running:
        """As ``Lab.start``."""
        words = ["ip", "netns", "exec", self.network.of(name), *self.program, *map(str, argv)]
        running = Running(words, {**self.env(name), **(env or {})}, self.folder)
        self._running.append(running)
        return running

    def curl(self, path: str) -> str:
        """A GET, asked in the hub's namespace."""
        words = ["ip", "netns", "exec", self.network.hub, "curl", "-sS", "-m", "20", f"http://127.0.0.1:7070{path}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def nodes(self) -> dict[str, Any]:
        """The hub's nodes by name."""
        return {node["name"]: node for node in json.loads(self.curl("/api/v1/cluster"))["nodes"]}


@pytest.fixture
def plugged(pyz: Any, tmp_path: Any, network: Network) -> Iterator[PluggedLab]:
    """A lab in the network."""
    made = PluggedLab(pyz, tmp_path)
    made.network = network
    try:
        yield made
    finally:
        made.close()


def test_one_of_three_hosts_is_cut_off_and_comes_back(plugged: PluggedLab, network: Network) -> None:
    for host in HOSTS:
        plugged.simulated(host, f"2xh100:full:{host}", host="0.0.0.0", port=PORT, interval=0.5)
    hosts = "".join(f"{host}=10.77.0.{number}\n" for number, host in enumerate(HOSTS, 11))
    settings = {"port": 7070, "interval": INTERVAL_SECONDS, "down_after": 12, "stale_intervals": 6, "poll_deadline": 0.9}
    plugged.hub(hosts, settings)
    wait_for(plugged, "two", "up")
    assert eventually(lambda: {node["status"] for node in plugged.nodes().values()} == {"up"})

    network.cable("two", up=False)
    stale = wait_for(plugged, "two", "stale")
    assert stale["snapshot"]["gpus"], "its last readings stay"
    assert {gpu["state"] for gpu in stale["snapshot"]["gpus"]} == {"stale"}
    assert "stale" in plugged.curl("/?term=true&view=rows")
    down = wait_for(plugged, "two", "down")
    assert down["received_at"] == stale["received_at"], "nothing came since"
    assert re.search(r"no answer from 10\.77\.0\.12:7080|no route to|not reachable", down["error"]), down["error"]
    assert "Next:" in down["error"]
    for path in ("/", "/hosts/two", "/?term=true&view=rows&width=200"):
        assert re.search("10.77.0.12", plugged.curl(path)), path
        assert "down" in plugged.curl(path), path
    assert '"two": {"data": [{"gpu_data": {}' in plugged.curl("/states/")

    late = others_are_on_time(plugged, 4.0)
    assert late < 3 * INTERVAL_SECONDS + 1.5, "the dead delay nobody"

    network.cable("two", up=True)
    plugged_at = time.time()
    up = wait_for(plugged, "two", "up")
    took = up["received_at"] - plugged_at
    assert took < 3 * INTERVAL_SECONDS + 4, f"{took:.1f} s: about one interval, and what the machine is busy with"
    assert {gpu["state"] for gpu in up["snapshot"]["gpus"]} == {"busy"}


def wait_for(lab: PluggedLab, name: str, status: str) -> Any:
    """Wait until a node has this status."""
    last: Optional[dict[str, Any]] = None

    def there() -> bool:
        nonlocal last
        last = lab.nodes()[name]
        return last["status"] == status

    assert eventually(there), f"{name} is not {status}: {last}"
    return last


def others_are_on_time(lab: PluggedLab, seconds: float) -> float:
    """Watch the others for a while: they stay up; how old their readings were at most."""
    until, oldest = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        answer = json.loads(lab.curl("/api/v1/cluster"))
        for node in answer["nodes"]:
            if node["name"] != "two":
                assert node["status"] == "up", node
                oldest = max(oldest, answer["taken_at"] - node["received_at"])
        time.sleep(0.1)
    return oldest
