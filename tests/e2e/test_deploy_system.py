"""Deploying as root with systemd: in a mount namespace with its own /etc, /usr/local, /var and /run, where a small script stands for systemctl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.processes import Lab, eventually
from tests.e2e.sshd import SIMULATED
from tests.e2e.test_deploy import Deploying, other_pyz, silent_pyz

OWN = ("etc", "usr/local", "var/lib", "var/cache", "run")
SYSTEMCTL = '''#!/usr/bin/python3
"""Starts and ends what a unit says, with its credential and folders. Stands for systemd, which does not run here."""
import os, re, shlex, shutil, signal, subprocess, sys, time
here = os.path.dirname(os.path.abspath(__file__))
words = [word for word in sys.argv[1:] if not word.startswith("--")]
open(here + "/calls", "a").write(" ".join(sys.argv[1:]) + "\\n")
if words[0] == "daemon-reload":
    sys.exit(0)
name = words[1]
unit = "/etc/systemd/system/%s.service" % name
pid_file = here + "/" + name + ".pid"
def alive():
    try:
        return os.path.exists("/proc/%d" % int(open(pid_file).read())) and "Z" not in open("/proc/%d/stat" % int(open(pid_file).read())).read().split(")")[1].split()[0]
    except (OSError, ValueError):
        return False
def stop():
    if alive():
        pid = int(open(pid_file).read())
        os.kill(pid, signal.SIGTERM)
        for _ in range(400):
            if not alive():
                return
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
def start():
    text = open(unit).read()
    credentials = here + "/credentials"
    os.makedirs(credentials, exist_ok=True)
    key, path = re.search(r"^LoadCredential=(.*):(.*)$", text, re.M).groups()
    shutil.copy(path, credentials + "/" + key)
    environ = dict(os.environ, CREDENTIALS_DIRECTORY=credentials, STATE_DIRECTORY="/var/lib/" + name, CACHE_DIRECTORY="/var/cache/" + name)
    for folder in (environ["STATE_DIRECTORY"], environ["CACHE_DIRECTORY"]):
        os.makedirs(folder, exist_ok=True)
    for line in re.findall(r"^Environment=(.*)$", text, re.M):
        environ.update([line.split("=", 1)])
    argv = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.M).group(1).replace("${CREDENTIALS_DIRECTORY}", credentials))
    log = open(here + "/" + name + ".log", "ab")
    process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")
    open(pid_file, "w").write(str(process.pid))
if words[0] in ("restart", "disable"):
    stop()
if words[0] == "restart" or (words[0] == "start" and not alive()):
    start()
'''


@pytest.fixture
def apart(open_folder: Path) -> Iterator[str]:
    """A program that starts the rest in the namespace."""
    layers = open_folder / "layers"
    mounts = []
    for name in OWN:
        for kind in ("upper", "scratch"):
            (layers / name / kind).mkdir(parents=True)
        mounts.append(f"mount -t overlay overlay -o lowerdir=/{name},upperdir={layers}/{name}/upper,workdir={layers}/{name}/scratch /{name}")
    script = " && ".join([*mounts, "mkdir -p /run/systemd/system /etc/systemd/system", "echo ready", "exec sleep 600"])
    holder = subprocess.Popen(["unshare", "-m", "/bin/sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            pytest.skip(f"this kernel forbids: an overlay in a mount namespace ({holder.stderr.read().strip()[-200:]})")
        yield f"nsenter --mount=/proc/{holder.pid}/ns/mnt"
    finally:
        holder.kill()
        holder.wait(20)


def test_a_service_of_the_system(lab: Lab, open_folder: Path, apart: str, pyz: Path, tmp_path: Path) -> None:
    deploying = Deploying(lab, open_folder / "street", open_folder / "unpacked")
    (open_folder / "bin").mkdir()
    systemctl = open_folder / "bin" / "systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    machine = deploying.machine("gpu1", path=f"{open_folder}/bin:/usr/bin:/bin", environ=SIMULATED, as_nobody=False, before=apart).start()
    etc, bin_ = open_folder / "layers/etc/upper", open_folder / "layers/usr/local/upper/bin"
    try:
        report = deploying.run("--json")["gpu1"]
        assert (report["ok"], report["launcher"], report["notes"]) == (True, "system", [])
        assert deploying.answers("gpu1")
        assert (bin_ / "gpuwatch").read_bytes() == pyz.read_bytes()
        assert (etc / "gpuwatch/password").stat().st_mode & 0o777 == 0o600
        assert not deploying.run("--json")["gpu1"]["changed"]

        failed = deploying.run("--json", "--upgrade", "--wait", "2s", "--file", silent_pyz(tmp_path / "silent.pyz"), expect=1)["gpu1"]
        assert (failed["failed_step"], failed["rolled_back"]) == ("verify", True)
        assert "journalctl -u gpuwatch-node" in failed["next"]
        assert (bin_ / "gpuwatch").read_bytes() == pyz.read_bytes()
        assert deploying.answers("gpu1")
        assert deploying.run("--json", "--upgrade", "--file", other_pyz(pyz, tmp_path / "other.pyz"))["gpu1"]["changed"]
        assert (bin_ / "gpuwatch.previous").read_bytes() == pyz.read_bytes()

        assert deploying.run("--json", "--remove")["gpu1"]["ok"]
        assert eventually(lambda: not machine.processes("node"))
        left = [path for path in (open_folder / "layers").rglob("*gpuwatch*") if not path.is_char_device()]
        assert left == []
        calls = (open_folder / "bin" / "calls").read_text().splitlines()
        calls = [call for call in calls if not call.startswith("--user")]
        assert calls[:6] == ["daemon-reload", "enable gpuwatch-node", "restart gpuwatch-node", "daemon-reload", "enable gpuwatch-node", "start gpuwatch-node"]
        assert calls[-2:] == ["disable --now gpuwatch-node", "daemon-reload"]
    finally:
        deploying.street.close()
