"""Builds the image of Dockerfile and runs a node and a hub in containers, as compose.yaml and the units do.

The node sees the processes of this machine and who owns them, the hub sees the node over a network of their own, and the hub's database outlives its
container. No image registry is asked: the base is a Debian made by debootstrap; the GPUs are those of the tests' library. Needs root and Debian's
packages debootstrap, podman, crun, curl, a C compiler. What this kernel forbids is left out, and said: storage is vfs, networks are those of the host.

    make trial-containers [BASE_ROOT=folder of a Debian with python3]
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.fake_nvml import FakeDriver  # noqa: E402

ROOT = REPOSITORY / "build/containers"
BASE = Path(os.environ.get("BASE_ROOT") or ROOT / "debian")
UID = 65532
GLOBAL = ["--root", f"{ROOT}/storage", "--runroot", f"{ROOT}/run", "--storage-driver", "vfs", "--runtime", "crun", "--cgroup-manager", "cgroupfs"]
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
MOST_FILES = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 16384)
# crun raises limits to podman's defaults, which needs a right that root may lack where this is tried.
LOCAL = ["--log-driver", "k8s-file", "--ulimit", f"nofile={MOST_FILES}:{MOST_FILES}", "--ulimit", "nproc=1024:1024"]
HYBRID = Path("/sys/fs/cgroup/unified")
HUB = "http://127.0.0.1:17070"


def podman(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["podman", *GLOBAL, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"podman {' '.join(arguments)[:200]}\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def leave_hybrid() -> None:
    """crun refuses a machine with cgroups of both versions: in a mount namespace of our own only the first is left."""
    if HYBRID.is_mount():
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "slave", "sh", "-c", f'umount {HYBRID} && exec "$@"', "sh", sys.executable, *sys.argv])


def prepare() -> None:
    for command in ("debootstrap", "podman", "crun", "cc"):
        if shutil.which(command) is None:
            raise SystemExit(f"{command} is missing. Next: apt-get install debootstrap podman crun gcc")
    if os.geteuid() != 0:
        raise SystemExit("It must run as root: it makes a system of its own.")
    ROOT.mkdir(parents=True, exist_ok=True)
    if not (BASE / "usr/bin/python3").exists():
        print(f"debootstrap into {BASE} ...", flush=True)
        subprocess.run(["debootstrap", "--variant=minbase", "--include=python3", "bookworm", str(BASE)], check=True, stdout=subprocess.DEVNULL)


def build() -> None:
    if subprocess.run(["podman", *GLOBAL, "image", "exists", "localhost/gpuwatch-base"]).returncode:
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=ROOT) as archive:
            left_out = [f"--exclude=./{path}/*" for path in ("dev", "proc", "sys", "usr/share/doc", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")]
            subprocess.run(["tar", "-C", str(BASE), "--one-file-system", *left_out, "-cf", archive.name, "."], check=True)
            podman("import", archive.name, "localhost/gpuwatch-base")
    digest = hashlib.sha256(b"".join((REPOSITORY / name).read_bytes() for name in ("Dockerfile", "dist/gpuwatch.pyz"))).hexdigest()
    if podman("image", "inspect", "--format", "{{.Labels.trial}}", "localhost/gpuwatch", check=False) != digest:
        podman("build", "--isolation", "chroot", "--layers=false", "--label", f"trial={digest}", "--build-arg", "BASE=localhost/gpuwatch-base", "-t", "gpuwatch", ".")
    print("image:", podman("run", "--rm", *LOCAL, "--network", "none", *HARDENED, "gpuwatch", "--version"), flush=True)


def fetch(path: str) -> Any:
    with urllib.request.urlopen(HUB + path, timeout=10) as answer:
        return json.load(answer)


def until(what: str, check: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            found = check()
            if found:
                return found
            error: object = "not so"
        except (OSError, ValueError, LookupError) as failure:
            error = failure
        if time.monotonic() > end:
            logs = "\n".join(podman("logs", "--tail", "20", name, check=False) for name in ("trial-node", "trial-hub"))
            raise SystemExit(f"FAILED: {what} ({error})\n{logs}")
        time.sleep(0.5)


def node() -> dict[str, Any]:
    found: dict[str, Any] = fetch("/api/v1/cluster")["nodes"][0]
    return found


def run(work: Path, worker: subprocess.Popen[bytes]) -> None:
    driver = FakeDriver(work / "driver", "h100x8")
    driver.set_processes(0, [{"pid": worker.pid, "used_memory_bytes": 1 << 30, "sm_percent": 7}])
    (work / "etc").mkdir(mode=0o755)
    (work / "etc/hosts.txt").write_text("node=127.0.0.1:7080\n")
    (work / "etc/password").write_text("trial\n")
    os.chown(work / "etc/password", UID, UID)
    (work / "etc/password").chmod(0o400)
    subprocess.run(["chmod", "-R", "a+rwX", str(work / "driver")], check=True)
    fake = [option for name, value in driver.env.items() for option in ("--env", f"{name}={value.split(':')[0]}")]
    fake += ["--volume", f"{work}:{work}", "--volume", f"{driver.library_path.parent}:{driver.library_path.parent}:ro"]
    etc = ["--volume", f"{work}/etc:/etc/gpuwatch:ro"]
    start_node(fake, etc)
    start_hub(etc)
    seen = until("the node is up", lambda: node() if node()["status"] == "up" else None)
    gpus = seen["snapshot"]["gpus"]
    host = seen["snapshot"]["host"]
    print(f"node: {len(gpus)} GPUs, {gpus[0]['name']}; host {seen['snapshot']['hostname']}, {host['os']}, {len(host['disks'])} disks", flush=True)
    process = gpus[0]["processes"][0]
    print("process:", {name: process[name] for name in ("pid", "user", "name", "host_memory_bytes")}, flush=True)
    assert (process["pid"], process["user"], process["name"]) == (worker.pid, getpass.getuser(), "sleep"), process
    assert process["host_memory_bytes"] > 0
    assert seen["snapshot"]["hostname"] == Path("/etc/hostname").read_text().strip()
    survives(etc)


def start_node(fake: list[str], etc: list[str]) -> None:
    podman(
        "run", "--detach", "--name", "trial-node", *LOCAL, *HARDENED, "--network", "host", "--pid", "host", "--env", "GPUWATCH_NODE_ROOT=/host",
        "--volume", "/:/host:ro,rslave", "--volume", "trial-node:/var/lib/gpuwatch", *etc, *fake,
        "gpuwatch", "node", "--host", "127.0.0.1", "--interval", "1", "--password-file", "/etc/gpuwatch/password",
    )  # fmt: skip


def start_hub(etc: list[str]) -> None:
    podman(
        "run", "--detach", "--replace", "--name", "trial-hub", *LOCAL, *HARDENED, "--network", "host", "--env", "GPUWATCH_HUB_HOST=127.0.0.1",
        "--env", "GPUWATCH_HUB_DATABASE=sqlite:////var/lib/gpuwatch/gpuwatch.db", "--volume", "trial-hub:/var/lib/gpuwatch", *etc,
        "gpuwatch", "hub", "--port", "17070", "--interval", "1", "--hosts", "/etc/gpuwatch/hosts.txt", "--password-file", "/etc/gpuwatch/password",
    )  # fmt: skip


def survives(etc: list[str]) -> None:
    """The hub's container is removed and made anew: what was stored before is there."""
    time.sleep(5)
    before = time.time() - 2  # stopping takes its time
    podman("stop", "--time", "20", "trial-hub")
    podman("rm", "trial-hub")
    start_hub(etc)
    then = until("the past before the new container", lambda: fetch(f"/api/v1/cluster?at={before:.3f}")["nodes"][0]["snapshot"])
    assert then["taken_at"] <= before, then["taken_at"]
    until("the node is up again", lambda: node()["status"] == "up")
    print(f"hub: made anew, and knows the reading of {before - then['taken_at']:.1f} s before a moment when the first one ran", flush=True)


def main() -> None:
    leave_hybrid()
    prepare()
    build()
    worker = subprocess.Popen(["sleep", "600"])
    work = Path(tempfile.mkdtemp(prefix="gpuwatch-trial-"))
    work.chmod(0o755)
    try:
        run(work, worker)
    finally:
        worker.kill()
        worker.wait()
        podman("rm", "--force", "--time", "5", "trial-node", "trial-hub", check=False)
        podman("volume", "rm", "--force", "trial-node", "trial-hub", check=False)
        shutil.rmtree(work, ignore_errors=True)
    print("containers: passed")


if __name__ == "__main__":
    main()
