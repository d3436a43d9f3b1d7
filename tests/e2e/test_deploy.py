"""``gpuwatch deploy`` over real sshd's: what it does on a good machine, what it says of bad ones, that an upgrade comes back, that nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Lab, ask_node, eventually, free_port, get, until_status
from tests.e2e.sshd import NOBODY, SIMULATED, Machine, Street, keygen, public

PASSWORD = "s3cret-of-the-lab"
FILE = ".local/share/gpuwatch/gpuwatch.pyz"
SMALL_DISK = "unshare -m /bin/sh -c 'mount -t tmpfs -o size=1m,mode=1777 tmpfs \"$HOME\" && exec \"$@\"' sh"


def can_mount() -> bool:
    """This kernel, and our rights, allow a small disk of one's own."""
    probe = ["unshare", "-m", "/bin/sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return subprocess.run(probe, capture_output=True, timeout=30).returncode == 0


class Deploying:
    """Machines to deploy to, and the command line that does it."""

    def __init__(self, lab: Lab, folder: Path, unpacked: Path) -> None:
        self.lab = lab
        self.street = Street(folder)
        self.ports: dict[str, int] = {}
        self.environ = {**SIMULATED, "SHIV_ROOT": str(unpacked)}
        (folder / "password").write_text(PASSWORD + "\n")
        (folder / "password").chmod(0o600)

    def machine(self, name: str, **how: Any) -> Machine:
        """One more machine, with simulated GPUs; logins are of nobody."""
        self.ports[name] = free_port()
        return self.street.machine(name).wrapper(**{"path": "/usr/bin:/bin", "environ": self.environ, "as_nobody": True, **how})

    def run(self, *argv: object, expect: int = 0) -> Any:
        """``gpuwatch deploy``; its JSON, or its text."""
        hosts = self.street.folder / "hosts.txt"
        hosts.write_text("".join(f"{name}:{port}\n" for name, port in self.ports.items()))
        environ = {"GPUWATCH_HUB_SSH_CONFIG": str(self.street.config())}
        password = self.street.folder / "password"
        given = ["--password-file", password] if password.exists() else []
        done = self.lab.run("deploy", hosts, *given, *argv, env=environ)
        assert done.returncode == expect, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return {host["name"].partition(":")[0]: host for host in json.loads(done.stdout)["hosts"]} if "--json" in argv else done.stdout

    def answers(self, name: str) -> bool:
        """The node of a machine answers with the lab's password."""
        try:
            return ask_node(f"http://127.0.0.1:{self.ports[name]}", PASSWORD)[0] in (200, 503)
        except OSError:
            return False


@pytest.fixture(scope="module")
def unpacked() -> Iterator[Path]:
    """A folder of nobody's where the file is unpacked once for all machines."""
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-test-"))
    if os.geteuid() == 0:
        shutil.chown(folder, NOBODY, NOBODY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def deploying(lab: Lab, open_folder: Path, unpacked: Path) -> Iterator[Deploying]:
    made = Deploying(lab, open_folder / "street", unpacked)
    (open_folder / "street").chmod(0o755)
    try:
        yield made
    finally:
        made.street.close()


def left_in(home: Path) -> list[str]:
    """Files and folders, as a person would list them."""
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def other_pyz(pyz: Path, path: Path) -> Path:
    """The same program as another file."""
    shutil.copy(pyz, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"another build"
    return path


def silent_pyz(path: Path) -> Path:
    """A program that tells a version and never answers."""
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("__main__.py", 'import sys, time\nVERSION = "9.9.9"\nif "--version" in sys.argv: print("gpuwatch", VERSION)\nelse: time.sleep(600)\n')
    return path


def test_a_good_machine_beside_bad_ones(deploying: Deploying) -> None:
    good = deploying.machine("good", first=("echo 'Welcome!'", "echo banner >&2"))
    deploying.machine("wrongkey")
    small = {"before": SMALL_DISK} if can_mount() else {"first": ("ulimit -f 1000",)}
    full = deploying.machine("full", **small)
    nothing = deploying.street.folder / "nothing"
    nothing.mkdir()
    bare = deploying.machine("bare", path=str(nothing))
    for machine in deploying.street.machines.values():
        machine.start()
    deploying.street.known["wrongkey"] = public(keygen(deploying.street.folder / "other_key"))
    deploying.machine("taken").start()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", deploying.ports["taken"]))
        taken.listen()
        plan = deploying.run("--dry-run", expect=1)
        assert "copy gpuwatch 0.1.0 to ~/.local/share/gpuwatch/gpuwatch.pyz" in plan
        assert "start ~/.local/share/gpuwatch/gpuwatch.pyz node (no systemd there)" in plan
        assert left_in(good.home) == []
        reports = deploying.run("--json", expect=1)

    assert {name: report["ok"] for name, report in reports.items()} == {"good": True, "wrongkey": False, "full": False, "bare": False, "taken": False}
    assert (reports["wrongkey"]["failed_step"], reports["wrongkey"]["error"]) == (
        "connect", "its host key is not the one that is known: it was installed anew, or another machine answers in its place.",
    )  # fmt: skip
    assert "ssh-keygen -R wrongkey" in reports["wrongkey"]["next"]
    assert reports["bare"]["failed_step"] == "python"
    assert "python3 is not on that machine" in reports["bare"]["error"]
    assert reports["full"]["failed_step"] == "copy"
    assert ("No space left on device" if "before" in small else "File too large") in reports["full"]["error"]
    assert reports["full"]["next"]
    assert reports["taken"]["failed_step"] == "verify"
    assert "its log ends with: gpuwatch: Cannot listen on" in reports["taken"]["error"]
    assert not bare.processes()
    assert not full.processes()
    assert left_in(bare.home) == []

    assert reports["good"]["launcher"] == "plain"
    assert [step["name"] for step in reports["good"]["steps"] if step["state"] == "done"] == ["copy", "settings", "password", "start"]
    assert "a reboot" in reports["good"]["notes"][0]
    assert deploying.answers("good")
    modes = {name: stat.S_IMODE((good.home / name).stat().st_mode) for name in (FILE, ".config/gpuwatch/gpuwatch.toml", ".config/gpuwatch/password")}
    assert list(modes.values()) == [0o755, 0o600, 0o600]
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in good.processes()]
    assert commands
    assert not any(PASSWORD.encode() in command for command in commands)

    again = deploying.run("--json", "--only", f"good:{deploying.ports['good']}")["good"]
    assert (again["ok"], again["changed"]) == (True, False)
    assert "machines are as they should be" in deploying.run("--only", f"good:{deploying.ports['good']}")


def test_upgrade_rollback_and_remove(deploying: Deploying, pyz: Path, tmp_path: Path) -> None:
    machine = deploying.machine("good", environ=SIMULATED).start()  # unpacks itself at home, which is to be taken away too
    assert deploying.run("--json")["good"]["ok"]
    first = (machine.home / FILE).read_bytes()

    kept = deploying.run("--json", "--file", other_pyz(pyz, tmp_path / "other.pyz"))["good"]
    assert kept["ok"]
    assert "--upgrade puts 0.1.0 in its place" in kept["notes"][0]
    assert (machine.home / FILE).read_bytes() == first

    failed = deploying.run("--upgrade", "--wait", "2s", "--file", silent_pyz(tmp_path / "silent.pyz"), expect=1)
    assert "verify: no good answer of" in failed
    assert "The former version runs again. Next: look at ~/.local/state/gpuwatch/node.log there" in failed
    assert (machine.home / FILE).read_bytes() == first
    assert deploying.answers("good")

    upgraded = deploying.run("--json", "--upgrade", "--file", tmp_path / "other.pyz")["good"]
    assert (upgraded["ok"], upgraded["changed"]) == (True, True)
    assert (machine.home / FILE).read_bytes() == (tmp_path / "other.pyz").read_bytes()
    assert (machine.home / f"{FILE}.previous").read_bytes() == first
    assert deploying.answers("good")

    gone = deploying.run("--json", "--remove")["good"]
    assert (gone["ok"], gone["changed"]) == (True, True)
    assert eventually(lambda: not machine.processes()), machine.processes()
    assert [name for name in left_in(machine.home) if "gpuwatch" in name] == []
    once_more = deploying.run("--json", "--remove")["good"]
    assert (once_more["ok"], once_more["changed"], once_more["notes"]) == (True, False, ["no gpuwatch node there"])


def test_a_target_of_ssh_gets_the_file_alone(deploying: Deploying) -> None:
    machine = deploying.machine("good").start()
    hosts = deploying.street.folder / "ssh-hosts.txt"
    hosts.write_text("ssh://good\n")
    environ = {"GPUWATCH_HUB_SSH_CONFIG": str(deploying.street.config()), "GPUWATCH_PASSWORD": PASSWORD}
    done = deploying.lab.run("deploy", hosts, "--json", env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)["hosts"]
    assert (report["launcher"], report["changed"]) == ("ssh", True)
    assert (machine.home / FILE).stat().st_mode & 0o111
    assert not (machine.home / ".config").exists()
    assert deploying.lab.run("deploy", hosts, "--remove", env=environ).returncode == 0
    assert not (machine.home / FILE).exists()


def test_nodes_that_push_are_enrolled(deploying: Deploying) -> None:
    machine = deploying.machine("good").start()
    hub = deploying.lab.hub("")
    name = f"good:{deploying.ports['good']}"
    push = ("--push", hub.url(), "--database", deploying.lab.database())
    done = deploying.run(*push, "--dry-run")
    assert "write a one-time code to ~/.config/gpuwatch/enroll_code (mode 600)" in done
    (deploying.street.folder / "password").unlink()
    report = deploying.run("--json", *push)["good"]
    assert report["ok"], report
    node = until_status(hub, name, "up")
    assert node["address"].startswith("push://")
    assert 'host = "127.0.0.1"' in (machine.home / ".config/gpuwatch/gpuwatch.toml").read_text()
    assert (machine.home / ".config/gpuwatch/enroll_code").stat().st_mode & 0o777 == 0o600
    again = deploying.run("--json", *push)["good"]
    assert (again["changed"], {step["state"] for step in again["steps"]}) == (False, {"same"}), again
    assert deploying.lab.run("enroll", "--database", deploying.lab.database(), "revoke", name).returncode == 0
    again = deploying.run("--json", *push)["good"]
    assert (again["ok"], [step["name"] for step in again["steps"] if step["state"] == "done"]) == (True, ["enrol", "start"]), again
    until_status(hub, name, "up")
    gone = deploying.run("--json", "--remove", "--database", deploying.lab.database())["good"]
    assert gone["notes"] == ["its key for pushing was ended at the hub; its history stays"]
    assert [path for path in left_in(machine.home) if "gpuwatch" in path] == []
    assert deploying.lab.run("enroll", "--database", deploying.lab.database(), "list", "--json").stdout.strip() == '{"enrolled": [], "codes": []}'


def test_a_hub(deploying: Deploying, tmp_path: Path) -> None:
    machine = deploying.machine("good").start()
    (tmp_path / "hub.toml").write_text(f'[hub]\nport = {deploying.ports["good"]}\ntitle = "The lab"\n')
    (tmp_path / "its-hosts.txt").write_text("gpu1 tags=a\n")
    argv = ("--json", "--role", "hub", "--settings", tmp_path / "hub.toml", "--hub-hosts", tmp_path / "its-hosts.txt")
    report = deploying.run(*argv)["good"]
    assert report["ok"], report
    status, text, _ = get(f"http://127.0.0.1:{deploying.ports['good']}/api/v1/cluster")
    assert (status, [node["name"] for node in json.loads(text)["nodes"]]) == (200, ["gpu1"])
    gone = deploying.run("--json", "--role", "hub", "--remove")["good"]
    assert gone["notes"] == ["the database stays in ~/.local/state/gpuwatch. Next: delete it by hand if nobody needs it"]
    assert [path for path in left_in(machine.home) if "gpuwatch" in path and "state" not in path] == []
    assert (machine.home / ".local/state/gpuwatch/gpuwatch.db").exists()


def test_wrong_usage(deploying: Deploying) -> None:
    deploying.ports["good"] = 7080
    hosts = deploying.street.folder / "hosts.txt"
    for argv, words in (
        (["--upgrade", "--remove"], "exclude each other"),
        (["--only", "other"], "has no machine 'other'"),
        (["--file", __file__], "is not a gpuwatch.pyz"),
        ([], "There is no password"),
    ):
        hosts.write_text("good\n")
        given = ["--password-file", deploying.street.folder / "password"] if argv else []
        done = deploying.lab.run("deploy", hosts, *given, *argv)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    assert os.environ.get("GPUWATCH_PASSWORD") is None
