"""What runs first inside the program."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwatch import __version__, boot

SOURCE = Path(boot.__file__).resolve().parents[1]


def test_version_needs_neither_click_nor_psutil() -> None:
    code = "import sys; sys.argv = ['gpuwatch', '--version']; from gpuwatch.boot import main; main(); print(*sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    version, modules = done.stdout.splitlines()
    assert version == f"gpuwatch {__version__}"
    assert {"click", "psutil", "bottle", "gpuwatch.cli"}.isdisjoint(modules.split())


@pytest.mark.parametrize("how", [["-m", "gpuwatch"], [str(SOURCE / "gpuwatch" / "__main__.py")]])
def test_it_runs_from_source(how: list[str], tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, *how, "--help"], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: gpuwatch" in done.stdout


def test_started_by_its_path_its_modules_keep_their_names(tmp_path: Path) -> None:
    """`gpuwatch/wire` is never importable as `wire`."""
    main = SOURCE / "gpuwatch" / "__main__.py"
    code = f"import runpy, sys; sys.path.insert(0, {str(main.parent)!r}); runpy.run_path({str(main)!r}); print(*sys.path)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    path = done.stdout.split()
    assert str(main.parent) not in path
    assert path[0] == str(SOURCE)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_character_makes_output_fail(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    boot.make_output_safe()
    print("\u4e2d \udc80", flush=True)
    assert raw.getvalue().decode(encoding).endswith(" \\udc80\n")


def test_closed_output_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    boot.make_output_safe()
    assert sys.stdout is None


@pytest.mark.parametrize(
    ("machine", "libc", "maxsize", "expected"),
    [
        ("x86_64", "glibc 2.36", 2**63 - 1, "x86_64-glibc"),
        ("aarch64", None, 2**63 - 1, "aarch64-musl"),
        ("aarch64", "glibc 2.31", 2**31 - 1, "aarch64-32bit-glibc"),
        ("riscv64", "glibc 2.36", 2**63 - 1, "riscv64-glibc"),
    ],
)
def test_architecture(machine: str, libc: str | None, maxsize: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str | None:
        if libc is None:
            raise ValueError("unrecognized configuration name")
        return libc

    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", machine)))
    monkeypatch.setattr(os, "confstr", confstr)
    monkeypatch.setattr(sys, "maxsize", maxsize)
    assert boot.architecture() == expected


def test_self_argv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert boot.self_argv() == [sys.executable, str(SOURCE / "gpuwatch" / "__main__.py")]
    monkeypatch.setattr(boot, "_archive", "/opt/gpuwatch.pyz")
    monkeypatch.setattr(boot, "_unpacked", str(tmp_path))
    assert boot.self_argv() == [sys.executable, "-I", str(tmp_path)]
    monkeypatch.setattr(boot, "_unpacked", str(tmp_path / "gone"))
    assert boot.self_argv() == [sys.executable, "-I", "/opt/gpuwatch.pyz"]
