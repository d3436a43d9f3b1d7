"""gpuwatch as processes, as a person would run it: start, wait for what it prints, ask it, end it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Optional
from urllib.parse import urlsplit

DEADLINE = 60.0
"""Generous: the machine may be busy with other tests."""


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
        """Everything printed so far."""
        return "".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = DEADLINE) -> re.Match[str]:
        """The first match of ``pattern`` in the output."""
        found = eventually(lambda: re.search(pattern, self.output) or (self.process.poll() is not None and "ended"), seconds)
        assert not isinstance(found, str), f"ended with {self.process.returncode} before {pattern!r} came:\n{self.output}"
        assert found, f"{pattern!r} did not come:\n{self.output}"
        return found

    def url(self) -> str:
        """The address the process says it listens on."""
        return self.wait_for(r"(http://[\w.\[\]:]+:\d+)").group(1)

    def children(self) -> list[int]:
        """PIDs of all processes below this one."""
        found, queue = [], [self.process.pid]
        while queue:
            parent = queue.pop()
            try:
                text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            except OSError:
                continue
            below = [int(pid) for pid in text.split()]
            found += below
            queue += below
        return found

    def stop(self, seconds: float = 20.0) -> int:
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
        pids = [self.process.pid, *self.children()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(20)
        self._reader.join(5)


def eventually(check: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """The first true answer of ``check``; its last answer when the time is over."""
    until = time.monotonic() + seconds
    while True:
        answer = check()
        if answer or time.monotonic() > until:
            return answer
        time.sleep(0.05)


def get(url: str, headers: Optional[Mapping[str, str]] = None, method: str = "GET", body: Optional[bytes] = None) -> tuple[int, str, dict[str, str]]:
    """(status, text, headers) of one request; gzip is not asked for."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
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


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
