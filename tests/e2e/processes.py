"""gpuwatch as processes, as a person would run it: start, wait for what it prints, ask it, end it."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Union
from urllib.parse import urlsplit

DEADLINE = 60.0
"""Generous: the machine may be busy with other tests."""
READ_SECONDS = 20.0
"""What a process that has ended wrote is read by then, unless one that it left behind holds its output."""
FRESH_SECONDS = 30.0
"""Readings of a lab's hub count as new for so long, unless a test says otherwise: a machine that stands still for a second makes nothing stale."""


class Running:
    """One gpuwatch process with its output, ended when the test ends."""

    def __init__(self, argv: list[str], env: Optional[Mapping[str, str]] = None, cwd: Optional[Path] = None) -> None:
        base = {name: value for name, value in os.environ.items() if not name.startswith("GPUWATCH_")}
        self.process = subprocess.Popen(
            argv, env={**base, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        """Everything printed so far; all of it once the process has been seen to end."""
        if self.process.returncode is not None:
            self._reader.join(READ_SECONDS)  # its last words may still lie in the pipe
        return "".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = DEADLINE) -> re.Match[str]:
        """The first match of ``pattern`` in the output."""

        def look() -> Union[re.Match[str], bool, None]:
            ended = self.process.poll() is not None
            return re.search(pattern, self.output) or ended

        found = eventually(look, seconds)
        assert found is not True, f"ended with {self.process.returncode} before {pattern!r} came:\n{self.output}"
        assert isinstance(found, re.Match), f"{pattern!r} did not come:\n{self.output}"
        return found

    def url(self) -> str:
        """The address the process says it listens on."""
        return self.wait_for(r"(http://[\w.\[\]:]+:\d+)").group(1)

    def children(self) -> list[int]:
        """PIDs of all processes below this one."""
        found, queue = [], [self.process.pid]
        while queue:
            below = []
            for task in Path(f"/proc/{queue.pop()}/task").glob("*/children"):  # a child belongs to the thread that started it
                try:
                    below += [int(pid) for pid in task.read_text().split()]
                except OSError:
                    continue
            found += below
            queue += below
        return found

    def stop(self, seconds: float = DEADLINE) -> int:
        """SIGTERM, then SIGKILL of the whole session; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL of the process and all below it."""
        if self.process.poll() is None:  # else its number may be somebody else's by now
            for pid in [self.process.pid, *self.children()]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.process.wait(DEADLINE)
        self._reader.join(READ_SECONDS)


Settings = Mapping[str, Union[str, int, float, bool]]


class Lab:
    """The gpuwatch processes of one test, each with its own state folder under ``folder``; ``close`` ends them all."""

    def __init__(self, pyz: Path, folder: Path) -> None:
        self.pyz = pyz
        self.folder = folder
        # not by the first line of the file: `env python3` may be a slow wrapper, and the tests' own environment has more packages
        self.program = [getattr(sys, "_base_executable", sys.executable), str(pyz)]
        self._running: list[Running] = []

    def env(self, name: str = "person") -> dict[str, str]:
        """What every process gets: nothing is written outside the test's folders."""
        state = self.folder / name
        state.mkdir(exist_ok=True)
        return {"SHIV_ROOT": str(self.pyz.parent / "unpacked"), "STATE_DIRECTORY": str(state), "HOME": str(state), "LC_ALL": "C.UTF-8"}

    def start(self, name: str, *argv: object, env: Optional[Mapping[str, str]] = None) -> Running:
        """``gpuwatch ARGV`` in the background."""
        running = Running([*self.program, *map(str, argv)], {**self.env(name), **(env or {})}, self.folder)
        self._running.append(running)
        return running

    def run(self, *argv: object, env: Optional[Mapping[str, str]] = None, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        """``gpuwatch ARGV`` to its end; output as text, what is no UTF-8 replaced."""
        base = {name: value for name, value in os.environ.items() if not name.startswith("GPUWATCH_")}
        return subprocess.run(
            [*self.program, *map(str, argv)], env={**base, **self.env(), **(env or {})}, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=timeout,
        )  # fmt: skip

    def node(
        self, name: str, settings: Optional[Settings] = None, env: Optional[Mapping[str, str]] = None, password: str = "x", port: int = 0
    ) -> Running:
        """A node on loopback that answers already. ``env``: that of a fake driver."""
        config = self.toml(f"{name}-node", "node", {"host": "127.0.0.1", "port": port, "interval": 0.3, "name": name, **(settings or {})})
        running = self.start(name, "node", "--config", config, env={"GPUWATCH_PASSWORD": password, **(env or {})})
        running.url()
        return running

    def simulated(self, name: str, argument: str = "2xh100:mixed:1", **settings: Any) -> Running:
        """A node whose GPUs are simulated."""
        return self.node(name, {"source": "gpuwatch.sim.source:make", "source_argument": argument, **settings})

    def hub(
        self, hosts: str, settings: Optional[Settings] = None, name: str = "hub", password: str = "x", common: Optional[Settings] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Running:  # fmt: skip
        """A hub on loopback with these lines as its hosts file (``hosts_file``) and ``NAME.db`` as its database, that answers already."""
        self.hosts_file(name).write_text(hosts)
        own: dict[str, Any] = {
            "port": 0,
            "interval": 0.5,
            "hosts": str(self.hosts_file(name)),
            "database": self.database(name),
            **(settings or {}),
        }
        own.setdefault("stale_intervals", FRESH_SECONDS / own["interval"])
        config = self.toml(f"{name}-hub", "hub", own, common)
        running = self.start(name, "hub", "--config", config, env={"GPUWATCH_PASSWORD": password, **(env or {})})
        running.url()
        return running

    def hosts_file(self, name: str = "hub") -> Path:
        """Where the hub of this name has its hosts file."""
        return self.folder / f"{name}-hosts.txt"

    def database(self, name: str = "hub") -> str:
        """The address of its database."""
        return f"sqlite:///{self.folder / name}.db"

    def toml(self, name: str, section: str, settings: Settings, common: Optional[Settings] = None) -> Path:
        """A settings file; JSON's values are TOML's."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in (common or {}).items()]
        lines += [f"[{section}]"] + [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        path = self.folder / f"{name}.toml"
        path.write_text("\n".join(lines) + "\n")
        if any("postgresql://" in line for line in lines):  # with a password: not for others, who run some of the hubs
            path.chmod(0o600)
        return path

    def close(self) -> None:
        """End everything that still runs."""
        for running in self._running:
            running.kill()


def address(running: Running) -> str:
    """``127.0.0.1:port`` of a process that listens."""
    return urlsplit(running.url()).netloc


def nodes_of(hub: Running) -> dict[str, Any]:
    """The nodes of a hub's ``/api/v1/cluster``, by name."""
    return {node["name"]: node for node in get_json(f"{hub.url()}/api/v1/cluster")["nodes"]}


def until_status(hub: Running, name: str, *statuses: str, seconds: float = DEADLINE) -> Any:
    """Wait until the hub gives the node one of these statuses; the node."""
    last: dict[str, Any] = {}

    def there() -> bool:
        last.update(nodes_of(hub).get(name) or {"status": "not there"})
        return last["status"] in statuses

    assert eventually(there, seconds), f"{name} is {last['status']} ({last.get('error')}), not {statuses}:\n{hub.output[-3000:]}"
    return last


def until_failure(hub: Running, name: str, words: str, seconds: float = DEADLINE) -> Any:
    """Wait until the hub tells this failure (``words``, in any case) of the node; the node."""
    last: dict[str, Any] = {}

    def there() -> bool:
        last.update(nodes_of(hub).get(name) or {"status": "not there"})
        return words.lower() in (last.get("error") or "").lower()

    assert eventually(there, seconds), f"{name} is {last['status']} ({last.get('error')}), not {words!r}:\n{hub.output[-3000:]}"
    return last


def until_says(hub: Running, name: str, pattern: str, seconds: float = DEADLINE) -> Any:
    """Wait until the hub's words about the node have a match of ``pattern``; the node. A status alone is there before the first answer or failure."""
    last: dict[str, Any] = {}

    def there() -> bool:
        last.update(nodes_of(hub).get(name) or {"status": "not there"})
        return re.search(pattern, last.get("error") or "") is not None

    assert eventually(there, seconds), f"{name} is {last['status']} ({last.get('error')}), not {pattern!r}:\n{hub.output[-3000:]}"
    return last


def eventually(check: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """The first true answer of ``check``; its last answer when the time is over."""
    until = time.monotonic() + seconds
    while True:
        answer = check()
        if answer or time.monotonic() > until:
            return answer
        time.sleep(0.05)


def get(
    url: str, headers: Optional[Mapping[str, str]] = None, method: str = "GET", body: Optional[bytes] = None, source: str = ""
) -> tuple[int, str, dict[str, str]]:
    """(status, text, headers) of one request; gzip is not asked for. ``source``: the address it comes from."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30, source_address=(source, 0) if source else None)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace"), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def get_json(url: str) -> Any:
    """The JSON of a GET that must answer 200."""
    status, text, _ = get(url)
    assert status == 200, f"{url} answered {status}: {text[:300]}"
    return json.loads(text)


def ask_node(url: str, password: str = "x") -> tuple[int, str]:
    """Seed 002's request to a node."""
    status, text, _ = get(f"{url}/get-status", {"Content-Type": "application/json"}, "POST", json.dumps({"passwd": password}).encode())
    return status, text


_mine: set[int] = set()
_reserved = -1
"""An open file; each byte of it stands for a port, and is locked by the test process that has it."""


def free_port() -> int:
    """A port of loopback for this test process alone, on which nobody listens.

    Below those that the kernel gives to whoever asks for any, so that no connection takes it until a program of the test listens there, or after that.
    """
    global _reserved
    if _reserved < 0:
        _reserved = os.open(Path(tempfile.gettempdir()) / f"gpuwatch-test-ports-{os.geteuid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    first_of_any = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(11_000, first_of_any if first_of_any > 20_000 else 60_000)  # Chromium opens no page on some below
    for port in random.SystemRandom().sample(ports, 1000):
        if port not in _mine and _is_ours(port):
            _mine.add(port)
            return port
    raise AssertionError("no port is free")


def _is_ours(port: int) -> bool:
    """No other test process has it (its end gives it back), and nobody listens there."""
    try:
        fcntl.lockf(_reserved, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
