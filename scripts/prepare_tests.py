"""Sets up what the tests need: a virtual environment in .venv, and system packages through apt where it may.

What is missing and cannot be installed is listed, and the exit code is 1: a test never skips because a tool is absent.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "prepared"
LISTS = [ROOT / "requirements.lock", ROOT / "requirements-dev.txt"]

TOOLS = {
    "cc": (("cc",), "gcc"),
    "C headers": (("/usr/include/stdio.h",), "libc6-dev"),
    "Chromium": (("chromium", "chromium-browser"), "chromium"),
    "ip": (("ip",), "iproute2"),
    "sshd": (("/usr/sbin/sshd",), "openssh-server"),
    "ssh": (("ssh",), "openssh-client"),
    "systemd-analyze": (("systemd-analyze",), "systemd"),
    "PostgreSQL": (("initdb", "/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb"), "postgresql"),
    "Prometheus": (("prometheus",), "prometheus"),
    "nginx": (("nginx", "/usr/sbin/nginx"), "nginx-light"),
    "Caddy": (("caddy",), "caddy"),
    "openssl": (("openssl",), "openssl"),
    "curl": (("curl",), "curl"),
    "node_exporter": (("prometheus-node-exporter", "node_exporter"), "prometheus-node-exporter"),
    "VictoriaMetrics": (("victoria-metrics", "victoria-metrics-prod"), "victoria-metrics"),
    "libpq": (("/usr/lib/*/libpq.so.5", "/usr/lib*/libpq.so.5"), "libpq5"),
}
"""what: (any of these on PATH or in the file system, Debian package)"""


def present(names: "tuple[str, ...]") -> bool:
    return any(glob.glob(name) if name.startswith("/") else shutil.which(name) for name in names)


def install_tools() -> None:
    missing = {what: package for what, (names, package) in TOOLS.items() if not present(names)}
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "-q", "update"], check=False, env=environment)
        install = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing.values(), "fonts-dejavu-core"]
        subprocess.run(install, check=False, env=environment)
        missing = {what: package for what, (names, package) in TOOLS.items() if not present(names)}
    if missing:
        wanted = " ".join(missing.values())
        sys.exit(f"The tests need {', '.join(missing)}. Next: sudo apt-get install {wanted}")


def install_packages() -> None:
    if sys.version_info < (3, 10):
        sys.exit(f"The tests need Python 3.10 or newer (this is {sys.version.split()[0]}). Next: make test PYTHON=python3.11")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in LISTS) + sys.version.encode()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == digest:
        return
    python = VENV / "bin" / "python"
    if not python.exists() and subprocess.run([sys.executable, "-m", "venv", str(VENV)]).returncode:
        sys.exit("Python's venv is missing. Next: sudo apt-get install python3-venv")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    for arguments in (["--require-hashes", "-r", str(LISTS[0])], ["-r", str(LISTS[1])]):
        if subprocess.run([*pip, *arguments]).returncode:
            sys.exit("pip could not install what the tests need; its message is above.")
    STAMP.write_text(digest)


if __name__ == "__main__":
    install_tools()
    install_packages()
