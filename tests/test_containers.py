"""Dockerfile, compose.yaml and the units that run containers agree with the settings and with each other. That they run is seen by make trial-containers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwatch.config.load import load
from gpuwatch.config.settings import HubSettings, NodeSettings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
TABLES = {"node": NodeSettings, "hub": HubSettings}
PORTS = {"node": 7080, "hub": 7070}


def unit(name: str) -> str:
    return (ROOT / "systemd" / f"gpuwatch-{name}-container.service").read_text(encoding="utf-8")


def service(name: str) -> str:
    """A service of compose.yaml, without comments."""
    text = re.sub(r"\s+# .*", "", COMPOSE)
    return re.search(rf"(?m)^  {name}:\n((?:    .*\n|\n)+)", text).group(1)


def run_line(name: str) -> list[str]:
    """The words of a unit's ExecStart."""
    return shlex.split(re.search(r"(?m)^ExecStart=((?:.*\\\n)*.*)$", unit(name)).group(1).replace("\\\n", " "))


def environments(name: str) -> list[dict[str, str]]:
    """What compose and the unit set, each."""
    block = re.search(r"    environment:\n((?:      .*\n)+)", service(name)).group(1)
    words = run_line(name)
    in_unit = [words[place + 1] for place, word in enumerate(words) if word == "--env"]
    return [dict(re.findall(r"(?m)^      (\w+): (.*)$", block)), dict(one.split("=", 1) for one in in_unit)]


def commands(name: str) -> list[list[str]]:
    words = run_line(name)
    return [re.findall(r'"([^"]+)"', re.search(r"    command: \[(.*)\]", service(name)).group(1)), words[words.index("gpuwatch") + 1 :]]


@pytest.mark.parametrize("name", ["node", "hub"])
def test_every_variable_is_a_setting(name):
    for environment in environments(name):
        ours = {key: value for key, value in environment.items() if key.startswith("GPUWATCH_") and "${" not in value}
        assert ours
        changed = load(TABLES[name], name, {}, ours)
        assert changed != load(TABLES[name], name, {}, {})
        for key in ours:
            assert load(TABLES[name], name, {}, {key: ours[key]}) != load(TABLES[name], name, {}, {}), f"{key} changes no setting"


def test_the_node_reads_the_host_where_it_is_mounted():
    for environment, mounts in zip(environments("node"), (service("node"), " ".join(run_line("node")))):
        assert load(NodeSettings, "node", {}, environment).root == "/host"
        assert "/:/host:ro,rslave" in mounts
    assert "pid: host" in service("node")
    assert "--pid host" in " ".join(run_line("node"))


def test_the_hub_keeps_its_database_in_the_volume():
    (state,) = re.findall(r"STATE_DIRECTORY=(\S+)", DOCKERFILE)
    assert f"VOLUME {state}\n" in DOCKERFILE
    for environment in environments("hub"):
        found = load(HubSettings, "hub", {}, environment)
        assert found.database == f"sqlite:///{state}/gpuwatch.db"
        assert found.host == "0.0.0.0"
    for name in TABLES:
        assert f"{name}-state:{state}" in service(name)
        assert f"gpuwatch-{name}:{state}" in run_line(name)


@pytest.mark.parametrize("name", ["node", "hub"])
def test_commands_and_ports_are_those_of_the_program(name):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-m", "gpuwatch", name, "--help"], capture_output=True, text=True, timeout=60, check=True, env=environment)
    help_text = done.stdout
    for words in commands(name):
        assert words[0] == name
        for word in words[1:]:
            assert word.startswith("/etc/gpuwatch/") or word in help_text, word
    assert TABLES[name]().port == PORTS[name]
    assert re.search(rf"^EXPOSE .*\b{PORTS[name]}\b", DOCKERFILE, re.MULTILINE)
    assert re.search(rf'ports: \["(127\.0\.0\.1:)?{PORTS[name]}:{PORTS[name]}"\]', service(name))
    assert re.search(rf"--publish (127\.0\.0\.1:)?{PORTS[name]}:{PORTS[name]} ", " ".join(run_line(name)))
    assert f"127.0.0.1:{PORTS[name]}/healthz" in service(name)


def test_the_hub_is_open_to_its_own_machine_alone_until_someone_says_more():
    assert '"127.0.0.1:7070:7070"' in service("hub")
    assert "--publish 127.0.0.1:7070:7070" in " ".join(run_line("hub"))


@pytest.mark.parametrize("name", ["node", "hub"])
def test_a_container_has_no_more_rights_than_it_needs(name):
    (uid,) = re.findall(r"^ARG UID=(\d+)", DOCKERFILE, re.MULTILINE)
    assert int(uid) > 0
    assert "USER ${UID}:${UID}\n" in DOCKERFILE
    assert f"owned by {uid}" in COMPOSE
    for line in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"):
        assert line in service(name)
    assert {"--read-only", "--cap-drop", "no-new-privileges"} <= set(run_line(name))
    assert "/etc/gpuwatch:ro" in service(name)
    assert "/etc/gpuwatch:/etc/gpuwatch:ro" in run_line(name)


def test_only_the_file_goes_into_the_image():
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").split() == ["*", "!dist/gpuwatch.pyz"]
    assert re.findall(r"^COPY .*$", DOCKERFILE, re.MULTILINE) == ["COPY --chmod=755 dist/gpuwatch.pyz /usr/local/bin/gpuwatch"]


@pytest.mark.parametrize("name", ["node", "hub"])
def test_systemd_finds_no_fault(name, tmp_path):
    path = tmp_path / f"gpuwatch-{name}-container.service"
    path.write_text(unit(name).replace("/usr/bin/podman", "/bin/true"), encoding="utf-8")  # it looks whether the program exists
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert path.name not in done.stderr, done.stderr
