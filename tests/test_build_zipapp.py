"""The build: the same bytes wherever it runs, nothing unpinned inside, and errors that say what to do."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import build_zipapp
import pytest
from tests.e2e.pythons import find_pythons

REPOSITORY = Path(__file__).resolve().parents[1]


def build(python: str, folder: Path, output: Path) -> str:
    """Run the build of a checkout, return the output's sha256."""
    command = [python, str(folder / "build_zipapp.py"), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert done.stdout == f"{digest}  {output}\n"
    return digest


def checkout(folder: Path) -> Path:
    """A copy of what the build reads, other dates and rights, with the wheels that were fetched already."""
    folder.mkdir()
    for name in ("build_zipapp.py", "requirements.lock", "requirements-build.lock"):
        shutil.copyfile(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    for path in (folder / "src").rglob("*.py"):
        path.chmod(0o600)
    (folder / "src" / "gpuwatch" / "__pycache__").mkdir(exist_ok=True)
    (folder / "src" / "gpuwatch" / "__pycache__" / "boot.cpython-39.pyc").write_bytes(b"stale")
    for wheels in (REPOSITORY / "build").glob("wheels-*"):
        shutil.copytree(wheels, folder / "build" / wheels.name)
    return folder


def test_two_builds_are_identical(tmp_path: Path) -> None:
    """In another folder, with other file rights, and by the oldest Python found instead of the newest."""
    pythons = list(find_pythons().values())
    copy = checkout(tmp_path / "another folder")
    build(pythons[0], REPOSITORY, tmp_path / "warm.pyz")  # fetches the wheels where this is the first build
    first = build(pythons[-1], copy, tmp_path / "one.pyz")
    second = build(pythons[0], copy, tmp_path / "two.pyz")
    assert first == second


def test_what_is_inside(pyz_names: list[str]) -> None:
    assert pyz_names[0] == "__main__.py"
    inside = {name for name in pyz_names if name.startswith("site-packages/")}
    for platform in ("x86_64-glibc", "aarch64-glibc", "x86_64-musl", "aarch64-musl"):
        assert f"site-packages/_arch/{platform}/psutil/_psutil_linux.abi3.so" in inside
    for module in ("bottle.py", "waitress/server.py", "pynvml.py", "peewee.py", "tabulate/__init__.py", "click/core.py"):
        assert f"site-packages/{module}" in inside
    for module in ("wcwidth/__init__.py", "tzdata/zoneinfo/Europe/Berlin", "tomli/_parser.py", "gpuwatch/boot.py"):
        assert f"site-packages/{module}" in inside
    assert [name for name in inside if name.endswith(".so") and "/_arch/" not in name] == []
    assert [name for name in inside if re.search(r"__pycache__|/tests?/|/bin/|/RECORD$|\.pyc$|/\.", name)] == []
    for package in ("bottle", "waitress", "peewee", "psutil", "tabulate", "click", "wcwidth", "tzdata", "tomli"):
        assert [name for name in inside if re.search(rf"/{package}-[^/]*dist-info/.*LICEN[CS]E", name)], package


@pytest.fixture(scope="module")
def pyz_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a freshly built file."""
    output = tmp_path_factory.mktemp("build") / "gpuwatch.pyz"
    build(sys.executable, REPOSITORY, output)
    with zipfile.ZipFile(output) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_the_locks_pin_all_and_name_no_address() -> None:
    for source in ("requirements", "requirements-build"):
        lock = (REPOSITORY / f"{source}.lock").read_text()
        wanted = re.findall(r"^([a-z][\w-]*)", (REPOSITORY / f"{source}.in").read_text(), re.MULTILINE)
        pinned = re.findall(r"^([a-z][\w-]*)==[\w.]+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
        assert sorted(wanted) == sorted(pinned)
        assert "://" not in lock
    psutil = re.search(r"^psutil==(?:.*\\\n)*.*\n", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE)
    assert psutil is not None
    assert psutil[0].count("--hash=sha256:") == len(build_zipapp.PLATFORMS) == 4


def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Path) -> str:
    """Run a build that must fail; return what it says."""
    monkeypatch.setattr(sys, "argv", ["build_zipapp.py", "--output", str(output)])
    assert build_zipapp.main() == 1
    assert not output.exists()
    text = capsys.readouterr().err
    assert re.fullmatch(r"build_zipapp\.py: .*\n", text)
    return text


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that this process's build_zipapp works on."""
    folder = checkout(tmp_path / "checkout")
    monkeypatch.setattr(build_zipapp, "HERE", folder)
    monkeypatch.setattr(build_zipapp, "LOCK", folder / "requirements.lock")
    monkeypatch.setattr(build_zipapp, "BUILD_LOCK", folder / "requirements-build.lock")
    return folder


def fake_python(path: Path, script: str) -> str:
    """An executable in place of a Python."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_without_venv_it_says_what_to_install(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "echo 'The virtual environment was not created successfully because ensurepip is not available.'; exit 1"
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path / "python", script))
    text = run_main(monkeypatch, capsys, tmp_path / "out.pyz")
    assert "apt install python3-venv" in text
    assert "ensurepip is not available" in text


def test_another_wheel_than_the_pinned_one_is_refused(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_zipapp, "build_environment", lambda work: sys.executable)
    (wheel,) = (copy / "build").glob("wheels-*/x86_64-glibc/bottle-*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"x")
    text = run_main(monkeypatch, capsys, tmp_path / "out.pyz")
    assert "bottle-" in text
    assert "is not what requirements.lock pins: delete " in text


def test_a_failed_fetch_is_one_line(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "build")
    pip = fake_python(tmp_path / "python", "echo 'WARNING: slow'; echo; echo 'ERROR: HASHES DO NOT MATCH'; exit 1")
    monkeypatch.setattr(build_zipapp, "build_environment", lambda work: pip)
    text = run_main(monkeypatch, capsys, tmp_path / "out.pyz")
    assert "cannot fetch the wheels for x86_64-glibc" in text
    assert "HASHES DO NOT MATCH" in text
    assert list((copy / "build").glob("wheels-*")) == []


def test_the_users_pip_settings_do_not_misplace_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PYTHONPATH"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    shown = tmp_path / "shown"
    build_zipapp.call(["sh", "-c", f"env > {shown}"], "")
    text = shown.read_text()
    assert "PIP_INDEX_URL=kept" in text
    assert re.search("^(PIP_TARGET|PIP_USER|PIP_PREFIX|PYTHONPATH)=", text, re.MULTILINE) is None
