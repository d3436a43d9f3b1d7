"""The systemd units: systemd finds no fault in them, they are hardened, and what they start runs as an unprivileged user without privileges."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.processes import Running, ask_node, eventually, free_port, get

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("gpuwatch-node", "gpuwatch-hub")
NOBODY = 65534
PROGRAM = "/usr/local/bin/gpuwatch"
MOST_EXPOSURE = {"gpuwatch-node": 3.0, "gpuwatch-hub": 2.0}
"""Of 10; systemd calls everything below 4 OK."""


@pytest.fixture
def unit(pyz, tmp_path):
    """A copy of a unit whose program is the one built here (systemd looks whether it exists)."""

    def copy(name):
        text = (ROOT / "systemd" / f"{name}.service").read_text(encoding="utf-8").replace(PROGRAM, str(pyz))
        path = tmp_path / f"{name}.service"
        path.write_text(text, encoding="utf-8")
        return path

    return copy


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault(unit, name):
    done = subprocess.run(["systemd-analyze", "verify", str(unit(name))], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert name not in done.stderr, done.stderr


def test_systemd_finds_no_fault_in_the_page_s_lines_for_tls(unit, tmp_path):
    path = unit("gpuwatch-node")
    lines = re.search(r"```ini\n(.*?)```", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    plain = re.search(r"ExecStart=(.*)", path.read_text(encoding="utf-8"))[1]
    added = re.search(r"ExecStart=(/.*)", lines)[1].replace(PROGRAM, plain.split()[0])
    assert added.startswith(plain + " --tls-cert "), "it is the unit's command and two flags"
    (tmp_path / "gpuwatch-node.service.d").mkdir()
    (tmp_path / "gpuwatch-node.service.d" / "tls.conf").write_text(lines.replace(PROGRAM, plain.split()[0]), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "gpuwatch-node" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_in_a_user_s(name, tmp_path):
    text = (ROOT / "systemd" / "user" / f"{name}.service").read_text(encoding="utf-8").replace("/usr/bin/env python3", sys.executable)
    path = tmp_path / f"{name}.service"
    path.write_text(text, encoding="utf-8")
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(["systemd-analyze", "--user", "verify", str(path)], capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode == 0, done.stderr
    assert name not in done.stderr, done.stderr


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("kind", ["system", "user"])
def test_deploy_brings_these_units(name, kind):
    folder = ROOT / "systemd" / ("user" if kind == "user" else "")
    carried = ROOT / "src/gpuwatch/deploy/units" / f"{kind}-{name.partition('-')[2]}.service"
    assert carried.read_bytes() == (folder / f"{name}.service").read_bytes()


@pytest.mark.parametrize("name", UNITS)
def test_the_exposure_is_low(unit, name):
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit(name))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    level = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level.group(1)) <= MOST_EXPOSURE[name], done.stdout[-300:]


@pytest.mark.parametrize("name", UNITS)
def test_it_has_what_a_service_needs(name):
    text = (ROOT / "systemd" / f"{name}.service").read_text(encoding="utf-8")
    for line in (
        "DynamicUser=yes",
        f"StateDirectory={name}",  # one each: two services on one machine are two users
        f"CacheDirectory={name}",
        f"SHIV_ROOT=/var/cache/{name}",
        "LoadCredential=password:",
    ):
        assert line in text
    assert "Restart=always" in text
    assert re.search(r"LimitNOFILE=\d{4,}", text)


def command_of(name, folder, pyz):
    """The unit's ExecStart as systemd would expand it, with its files below ``folder``, as nobody without any privilege."""
    text = (ROOT / "systemd" / f"{name}.service").read_text(encoding="utf-8")
    line = re.search(r"^ExecStart=(.*)$", text, re.M).group(1)
    line = (
        line.replace(PROGRAM, str(pyz)).replace("${CREDENTIALS_DIRECTORY}", f"{folder}/credentials").replace("/etc/gpuwatch", str(folder))
    )
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    return [*(drop if os.geteuid() == 0 else []), *shlex.split(line)]


def prepare(folder, port):
    """What a machine has before the unit starts: settings, credential, folders of systemd."""
    for name, mode in (("credentials", 0o700), ("state", 0o700), ("cache", 0o700)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    (folder / "credentials" / "password").write_text("for-tests\n")
    (folder / "credentials" / "password").chmod(0o400)
    (folder / "hosts.txt").write_text("# none yet\n")
    (folder / "gpuwatch.toml").write_text(f'[node]\nhost = "127.0.0.1"\nport = {port}\n[hub]\nport = {port}\n')
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, NOBODY, NOBODY)
    return {
        "STATE_DIRECTORY": f"{folder}/state", "CACHE_DIRECTORY": f"{folder}/cache", "SHIV_ROOT": f"{folder}/cache",
        "CREDENTIALS_DIRECTORY": f"{folder}/credentials", "HOME": "/",
    }  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_it_runs_as_nobody_without_privileges(name, pyz, open_folder):
    folder = open_folder / "etc"
    folder.mkdir(mode=0o755)
    program = open_folder / "gpuwatch"
    shutil.copy(pyz, program)
    program.chmod(0o755)
    port = free_port()
    running = Running(command_of(name, folder, program), prepare(folder, port), cwd=Path("/"))
    try:
        url = running.url()
        if name == "gpuwatch-node":
            assert eventually(lambda: ask_node(url, "for-tests")[0] == 200)
        else:
            assert get(f"{url}/")[0] == 200
            assert (folder / "state" / "gpuwatch.db").exists()
    finally:
        code = running.stop()
    assert code == 0, running.output
