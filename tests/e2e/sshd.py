"""Real sshd's on loopback, each a machine of its own for gpuwatch: home, PATH and quirks are set by a forced command. No test in here."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Mapping, Optional, Sequence

from tests.e2e.processes import eventually, free_port

NOBODY = 65534
SSHD = "/usr/sbin/sshd"
SIMULATED = {"GPUWATCH_NODE_SOURCE": "gpuwatch.sim.source:make", "GPUWATCH_NODE_SOURCE_ARGUMENT": "2xh100:mixed:1"}


def keygen(path: Path) -> Path:
    """A key pair without a passphrase; the private one's path."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True, timeout=60)
    return path


def public(path: Path) -> str:
    """Kind and key, without the comment."""
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


class Machine:
    """One sshd with a home folder. Whoever logs in (with the lab's key) runs what ``wrapper`` makes of the command."""

    def __init__(self, folder: Path, name: str, client_key: Path) -> None:
        self.name = name
        self.port = free_port()
        self.folder = folder / name
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.host_key = keygen(self.folder / "host_key")
        self._sshd: Optional[subprocess.Popen[bytes]] = None
        self._write_config(client_key)

    def _write_config(self, client_key: Path) -> None:
        (self.folder / "authorized_keys").write_text(client_key.with_name(client_key.name + ".pub").read_text())
        lines = (
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.host_key}", "PidFile none", "UsePAM no", "StrictModes no",
            f"AuthorizedKeysFile {self.folder}/authorized_keys", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "PermitRootLogin yes", f"ForceCommand {self.folder}/wrapper", "LogLevel VERBOSE", "MaxStartups 100", "PrintMotd no",
        )  # fmt: skip
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")

    def wrapper(
        self, path: str = "", environ: Optional[Mapping[str, str]] = None, first: Sequence[str] = (), as_nobody: bool = False, before: str = ""
    ) -> Machine:
        """What a login does. ``path``: its PATH; ``first``: lines of shell before the command; ``before``: a program that starts the rest."""
        base = getattr(sys, "_base_executable", sys.executable)
        values = {"HOME": str(self.home), "PATH": path or f"{os.path.dirname(base)}:/usr/bin:/bin", "SHELL": "/bin/sh", **(environ or {})}
        lines = ["#!/bin/sh", *(f"export {name}={shlex.quote(value)}" for name, value in values.items()), "cd /", *first]
        drop = ""
        if as_nobody and os.geteuid() == 0:
            shutil.chown(self.home, NOBODY, NOBODY)
            drop = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs --bounding-set=-all "
        lines.append(f'exec {before} {drop}/bin/sh -c "$SSH_ORIGINAL_COMMAND"')
        script = self.folder / "wrapper"
        script.write_text("\n".join(lines) + "\n")
        script.chmod(0o755)
        return self

    def start(self) -> Machine:
        """Run sshd until it listens."""
        if not (self.folder / "wrapper").exists():
            self.wrapper()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        log = (self.folder / "sshd.log").open("ab")
        self._sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        assert eventually(self._listens), self.log
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def log(self) -> str:
        """What sshd said."""
        return (self.folder / "sshd.log").read_text(errors="replace")

    def processes(self, *words: str) -> list[int]:
        """PIDs of what runs with this machine's home, and with all of ``words`` in its command line."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environ, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if f"HOME={self.home}".encode() in environ.split(b"\0") and all(word.encode() in command.split(b"\0") for word in words):
                found.append(int(folder.name))
        return found

    def stop(self) -> None:
        """End sshd with all that was started through it."""
        if self._sshd is not None:
            self._sshd.terminate()
            self._sshd.wait(60)
            self._sshd = None
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Street:
    """Machines, and the configuration of the ssh client that reaches them by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.key = keygen(folder / "client_key")
        self.machines: dict[str, Machine] = {}
        self.known: dict[str, str] = {}
        """Host keys that the client knows, by machine."""

    def machine(self, name: str) -> Machine:
        """One more machine, whose host key the client knows; not started yet."""
        made = self.machines[name] = Machine(self.folder, name, self.key)
        self.known[name] = public(made.host_key)
        return made

    def config(self, **more: str) -> Path:
        """A file for ``ssh -F``. ``more``: lines for one machine."""
        known = self.folder / "known_hosts"
        known.write_text("".join(f"[127.0.0.1]:{self.machines[name].port} {key}\n" for name, key in self.known.items()))
        blocks = []
        for name, machine in self.machines.items():
            blocks.append(f"Host {name}\n HostName 127.0.0.1\n Port {machine.port}\n{more.get(name, '')}")
        common = (
            f"Host *\n User {getpass.getuser()}\n IdentityFile {self.key}\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n"
        )
        path = self.folder / "ssh_config"
        path.write_text("\n".join([*blocks, common]))
        return path

    def close(self) -> None:
        """End all machines."""
        for machine in self.machines.values():
            machine.stop()
