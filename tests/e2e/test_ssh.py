"""A hub that reads nodes through real sshd's: with nothing installed there, with noise, without keys or Python; and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Lab, Running, eventually, get, nodes_of, until_says, until_status
from tests.e2e.sshd import SIMULATED, Street, keygen, public

from gpuwatch import __version__

NODE = "--stdio"


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    made = Street(tmp_path / "street")
    try:
        yield made
    finally:
        made.close()


def install(machine: Any, pyz: Path, place: str = ".local/share/gpuwatch/gpuwatch.pyz") -> None:
    path = machine.home / place
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(pyz, path)


def environ(pyz: Path) -> dict[str, str]:
    """What a login has: simulated GPUs; the file is unpacked once for all tests."""
    return {**SIMULATED, "SHIV_ROOT": str(pyz.parent / "unpacked")}


def hub_of(lab: Lab, street: Street, hosts: str, **settings: Any) -> Running:
    return lab.hub(hosts, {"interval": 0.5, "ssh_config": str(street.config()), **settings})


def test_machines_good_and_bad_side_by_side(lab: Lab, street: Street, pyz: Path) -> None:
    more = environ(pyz)
    for name in ("good", "copied", "noisy"):
        street.machine(name).wrapper(environ=more)
    street.machines["noisy"].wrapper(environ=more, first=("echo 'Welcome to the cluster!'", "printf '{\"a\": 1}\\n\\n\\033[31mred\\n'", "echo banner >&2"))
    nothing = street.folder / "nothing"
    nothing.mkdir()
    (nothing / "sh").symlink_to("/bin/sh")
    street.machine("bare").wrapper(path=str(nothing))
    street.machine("empty")
    street.machine("flood").wrapper(environ=more, first=("exec yes 'no readings at all'",))
    street.machine("endless").wrapper(environ=more, first=("exec cat /dev/zero",))
    for name in ("stranger", "changed", "refuses"):
        street.machine(name)
    for machine in street.machines.values():
        machine.start()
    for name in ("good", "noisy", "refuses"):
        install(street.machines[name], pyz)
    street.machine("gone")
    del street.known["stranger"]
    street.known["changed"] = public(keygen(street.folder / "other_host_key"))
    (street.machines["refuses"].folder / "authorized_keys").write_text(public(street.machines["good"].host_key) + "\n")
    hosts = "ssh://good\nssh+copy://copied\n" + "".join(f"ssh://{name}\n" for name in street.machines if name not in ("good", "copied"))
    hub = hub_of(lab, street, hosts + "ssh://no-such-name.invalid\n")

    for name in ("good", "copied", "noisy"):
        node = until_status(hub, name, "up")
        assert [gpu["name"] for gpu in node["snapshot"]["gpus"]] == ["NVIDIA H100 80GB HBM3"] * 2
        assert node["address"] == f"ssh://{name}"
    wanted = {
        "bare": "python3 is not on that machine",
        "empty": r"there is no gpuwatch at ~/.local/share/gpuwatch/gpuwatch.pyz. Next: write ssh\+copy://",
        "stranger": "its host key is not known here",
        "changed": "its host key is not the one that is known.*ssh-keygen -R changed",
        "refuses": r"ssh is not let in \(.*Permission denied \(publickey\)\).*ssh-copy-id",
        "gone": "connection refused by gone",
        "no-such-name.invalid": "the name no-such-name.invalid is not known",
        "flood": "prints more than 65536 bytes and no readings",
        "endless": "what comes from there are no readings",
    }
    for name, words in wanted.items():
        found = until_says(hub, name, words)["error"]
        assert found.startswith(f"{name}: ")
        assert "Next: " in found
    assert (street.machines["copied"].home / ".local/share/gpuwatch/gpuwatch.pyz").read_bytes() == pyz.read_bytes()

    asked = lab.run("check", "--live", "--json", "--hosts", lab.hosts_file(), env={"GPUWATCH_HUB_SSH_CONFIG": str(street.folder / "ssh_config")})
    said = {node["name"]: (node["ok"], node["message"]) for node in json.loads(asked.stdout)["nodes"]}
    assert said["good"] == (True, f"version {__version__}")
    assert said["copied"] == (True, f"version {__version__}")
    for name in ("bare", "empty", "stranger", "changed", "refuses", "gone"):
        assert not said[name][0]
        assert re.search(wanted[name], said[name][1]), said[name]

    status, page, _ = get(f"{hub.url()}/hosts/good")
    assert status == 200
    assert re.search(rf"gpuwatch {re.escape(__version__)}\b", re.sub(r"<[^>]+>", " ", page)), page
    hub.stop()
    assert eventually(lambda: not any(machine.processes(NODE) for machine in street.machines.values()))
    assert "Traceback" not in hub.output


def test_readings_keep_coming_and_come_back(lab: Lab, street: Street, pyz: Path) -> None:
    closed = street.folder / "closed"
    machine = street.machine("gpu1").wrapper(environ=environ(pyz), first=(f"while test -e {closed}; do sleep 0.1; done",)).start()
    install(machine, pyz)
    hub = hub_of(lab, street, "a=ssh://gpu1 every=0.3\n")
    first = until_status(hub, "a", "up")
    assert eventually(lambda: nodes_of(hub)["a"]["snapshot"]["taken_at"] > first["snapshot"]["taken_at"] + 1.0)
    assert eventually(lambda: abs(nodes_of(hub)["a"]["clock_skew_seconds"]) < 1.0), nodes_of(hub)["a"]  # of a frame that was not held up
    closed.touch()  # the next login waits, so that there is time to see what became of the last one
    os.kill(machine.processes(NODE)[0], signal.SIGKILL)
    until_says(hub, "a", "connection or the program there ended")
    closed.unlink()
    assert eventually(lambda: nodes_of(hub)["a"]["error"] is None), nodes_of(hub)["a"]
    assert nodes_of(hub)["a"]["status"] == "up"

    machine.stop()
    until_says(hub, "a", "connection refused")
    machine.start()
    before = nodes_of(hub)["a"]["snapshot"]["taken_at"]
    assert eventually(lambda: nodes_of(hub)["a"]["snapshot"]["taken_at"] > before)

    assert eventually(lambda: len(machine.processes(NODE)) == 1), machine.processes()
    hub.process.kill()
    assert eventually(lambda: not machine.processes()), machine.processes()
