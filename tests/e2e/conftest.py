"""The built gpuwatch.pyz for all end-to-end tests, once per test run, and the Pythons found on this machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.processes import Lab
from tests.e2e.pythons import find_pythons

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gpuwatch.pyz, built from this checkout; all workers of one run share it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    base = tmp_path_factory.getbasetemp()
    folder = base.parent / f"pyz-{run}" if run else base / "pyz"
    folder.mkdir(exist_ok=True)
    output = folder / "gpuwatch.pyz"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            command = [sys.executable, str(REPOSITORY / "build_zipapp.py"), "--output", str(output)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def pythons() -> dict[str, str]:
    """See find_pythons."""
    return find_pythons()


@pytest.fixture
def lab(pyz: Path, tmp_path: Path) -> Iterator[Lab]:
    """Nodes, hubs and commands of one test; all end with it."""
    made = Lab(pyz, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, unlike tmp_path; everybody may write it, as in /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-test-"))
    folder.chmod(0o1777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
