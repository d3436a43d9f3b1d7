"""Which Python runs the hub of a bench: the one that a service of this machine gets, not the one of the tests' virtual environment.

The peers of the benches are release builds. A Python that somebody compiled without ``--enable-optimizations`` (pyenv's default) takes 36 ms for a loop
that the distribution's own does in 25, and a hub under it about a fifth more processor time, and the file's first line (``#!/usr/bin/env python3``) under systemd finds the distribution's.
Set ``BENCH_PYTHON`` to measure another one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""Where systemd looks."""
_PROBE = """
import platform, sys, time
assert sys.version_info >= (3, 9)
def loop():
    found = {}
    for number in range(200000):
        found[number % 1000] = str(number) + "x"
times = []
for _ in range(7):
    began = time.process_time()
    loop()
    times.append(time.process_time() - began)
print(f"{platform.python_version()}, {min(times) * 1000:.0f} ms for 200,000 turns of a small loop")
"""


def python() -> str:
    """The interpreter: ``BENCH_PYTHON``, else that of services where it is one that gpuwatch runs on, else this one."""
    chosen = os.environ.get("BENCH_PYTHON")
    if chosen:
        return chosen
    found = shutil.which("python3", path=SERVICE_PATH)
    return found if found and _probe(found) else sys.executable


def words(path: str) -> str:
    """Which one it is and how fast, to be printed with the figures."""
    return f"hub under {path}: Python {_probe(path) or 'unknown'}"


def run_under() -> None:
    """Start this bench anew under that interpreter, with the packages of this one: for questions that are asked in its own process."""
    target = python()
    if os.path.realpath(target) != os.path.realpath(sys.executable):
        packages = [path for path in sys.path if path.endswith("site-packages")]
        os.execve(target, [target, *sys.argv], {**os.environ, "PYTHONPATH": os.pathsep.join(packages), "BENCH_PYTHON": target})


def _probe(path: str) -> str:
    result = subprocess.run([path, "-I", "-c", _PROBE], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""
