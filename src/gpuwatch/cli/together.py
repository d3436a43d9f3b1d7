"""Nodes and a hub started together on loopback, each node a real process: for ``up`` and ``demo``."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple, Optional, Sequence

from gpuwatch.boot import self_argv
from gpuwatch.child import Child
from gpuwatch.config.settings import HubSettings
from gpuwatch.model.errors import GpuwatchError

START_SECONDS = 30.0
GRACE_SECONDS = 10.0
_SWEEP = """
import os, shutil, sys, time
sys.stdin.buffer.read()
gone = 0 if os.path.lexists(sys.argv[1]) else 10
for _ in range(150):
    if gone >= 10:  # whoever else ends now may still write, and a node that was starting makes its folder anew
        break
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    gone = 0 if os.path.lexists(sys.argv[1]) else gone + 1
    time.sleep(0.2)
"""


@contextlib.contextmanager
def passing_folder() -> Iterator[Path]:
    """A temporary folder that goes with this process, even by a SIGKILL: a small process waits for that, on a pipe."""
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-"))
    sweeper: Optional[Child] = None
    try:
        sweeper = Child([sys.executable, "-I", "-S", "-c", _SWEEP, str(folder)])
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if sweeper is not None:
            sweeper.write(b"", close=True)  # it finds nothing, or sweeps what was written meanwhile
            sweeper.wait(GRACE_SECONDS)
            sweeper.end(GRACE_SECONDS)
            sweeper.close()


class NodePlan(NamedTuple):
    """A node to start: its name, tags, and settings beyond the usual ones."""

    name: str
    tags: str
    settings: Mapping[str, str]


class Together:
    """A folder with hosts file, password and settings, and the nodes' processes. A context manager: all ends with it."""

    def __init__(self, plans: Sequence[NodePlan], state_dir: Optional[Path] = None) -> None:
        self._plans = plans
        self._state_dir = state_dir
        self._children: dict[str, Child] = {}
        self._passing = contextlib.ExitStack()
        self._one_thread = threading.Lock()
        """Ends children and closes their pipes: ``end_node`` may be called while all ends."""
        self.folder = Path()

    def __enter__(self) -> Together:
        self.folder = self._passing.enter_context(passing_folder())
        try:
            self.password_file.touch(mode=0o600)
            self.password_file.write_text(secrets.token_urlsafe(24))
            for plan in self._plans:
                self._children[plan.name] = self._start(plan)
            ports = {plan.name: self._port(plan.name) for plan in self._plans}
            self.hosts_file.write_text("".join(f"{p.name}=127.0.0.1:{ports[p.name]}{f' tags={p.tags}' if p.tags else ''}\n" for p in self._plans))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.ask_to_end()
        until = time.monotonic() + GRACE_SECONDS
        with self._one_thread:
            for child in self._children.values():
                if not child.wait(max(0.1, until - time.monotonic())):
                    child.end(0.1)
                child.close()
        self._passing.close()

    @property
    def hosts_file(self) -> Path:
        """Names all nodes."""
        return self.folder / "hosts.txt"

    @property
    def password_file(self) -> Path:
        """A password made for this run."""
        return self.folder / "password"

    def hub_settings(self, base: HubSettings) -> HubSettings:
        """``base`` with this run's hosts file, password and, unless named, a database in the run's folder."""
        import dataclasses

        return dataclasses.replace(
            base, hosts=str(self.hosts_file), password=self.password_file.read_text(), password_file="",
            database=base.database or f"sqlite:///{self.folder / 'gpuwatch.db'}",
        )  # fmt: skip

    def end_node(self, name: str) -> None:
        """End one node, as if its machine went down."""
        with self._one_thread:
            self._children[name].end(GRACE_SECONDS)

    def _start(self, plan: NodePlan) -> Child:
        state = self._state_dir or self.folder / plan.name
        # its stdin ends with this process, even by a SIGKILL
        settings = {"host": "127.0.0.1", "name": plan.name, "ends_with_stdin": "true", **plan.settings}
        config = self.folder / f"{plan.name}.toml"
        lines = [f"{name} = {_toml(value)}\n" for name, value in settings.items()]
        config.write_text(f'state_dir = {_toml(str(state))}\npassword_file = {_toml(str(self.password_file))}\n[node]\nport = 0\n' + "".join(lines))
        # to a file: nobody reads the pipe of its stderr any more once it runs, and a full pipe would stop it
        log_file = str(self.folder / f"{plan.name}.log")
        plain = ["--tls-cert", "", "--tls-key", ""]  # whatever the environment says: these are asked on loopback alone
        return Child([*self_argv(), "node", "--config", str(config), "--no-access-log", "--log-level", "error", "--log-file", log_file, *plain])

    def _port(self, name: str) -> int:
        child = self._children[name]
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            line = child.read_line(0.5)
            found = re.search(rb"http://127\.0\.0\.1:(\d+)/", line or b"")
            if found:
                return int(found.group(1))
            if child.returncode is not None:
                raise GpuwatchError(f"The node {name} ended at once: {child.exit().last_words}")
        raise GpuwatchError(f"The node {name} did not start within {START_SECONDS:g} s.")


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def wait_until(check: Callable[[], bool], seconds: float) -> bool:
    """True as soon as ``check`` is; False when the time is over."""
    until, late = time.monotonic() + seconds, False
    while not check():
        if late:
            return False
        time.sleep(0.1)
        late = time.monotonic() > until  # told when it was looked at once more: this process may have stood still
    return True
