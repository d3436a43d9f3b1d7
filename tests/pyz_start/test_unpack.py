"""Unpacking and tidying up, on small archives. The whole runs as processes in tests/e2e/test_pyz.py."""

from __future__ import annotations

import fcntl
import json
import os
import zipfile
from pathlib import Path

import pytest

from pyz_start import unpack
from pyz_start.launch import KEPT_OVER_REBOOT, MARK, StartError, boot_id

BUILD = "0123456789abcdef"
NAME = f"gpuwatch-1.0-{BUILD}"


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """A small file of our kind."""
    path = tmp_path / "small.pyz"
    with zipfile.ZipFile(path, "w") as pyz:
        pyz.writestr("environment.json", json.dumps({"build_id": BUILD + "0" * 48}))
        pyz.writestr("site-packages/a/b.py", "print(1)\n")
        pyz.writestr("site-packages/empty.py", "")
    return str(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where it is unpacked."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_whole_and_for_us_alone(archive: str, root: Path) -> None:
    unpack.unpack(archive, str(root / NAME))
    assert sorted(path.name for path in root.iterdir()) == [".lock-of-gpuwatch", NAME]
    assert (root / NAME / "site-packages" / "a" / "b.py").read_text() == "print(1)\n"
    assert (root / NAME / MARK).read_text() == boot_id()
    assert [path for path in (root / NAME).rglob("*") if path.is_file() and path.stat().st_mode & 0o077] == []
    assert (root / NAME).stat().st_mode & 0o777 == 0o700


def test_filling_up_writes_only_what_is_lost(archive: str, root: Path) -> None:
    folder = root / NAME
    unpack.unpack(archive, str(folder))
    kept, lost = folder / "site-packages" / "empty.py", folder / "site-packages" / "a" / "b.py"
    inode = kept.stat().st_ino
    lost.write_text("")
    unpack.unpack(archive, str(folder))
    assert lost.read_text() == "print(1)\n"
    assert kept.stat().st_ino == inode
    assert (folder / MARK).read_text() == boot_id(), "still the same boot"
    (folder / MARK).write_text("an earlier boot")
    unpack.unpack(archive, str(folder))
    assert (folder / MARK).read_text() == KEPT_OVER_REBOOT


def test_an_archive_replaced_meanwhile_is_not_unpacked(archive: str, root: Path) -> None:
    with pytest.raises(StartError, match="was replaced by another version"):
        unpack.unpack(archive, str(root / "gpuwatch-1.0-ffffffffffffffff"))
    assert [path.name for path in root.iterdir()] == [".lock-of-gpuwatch"]


def test_without_locks_the_faster_one_wins(archive: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks two unpack at once; the slower one finds the name taken and is content."""
    rename = os.rename

    def slower(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        unpack.unpack(archive, target)  # the other machine
        rename(source, target)

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(os, "rename", slower)
    unpack.unpack(archive, str(root / NAME))
    assert sorted(path.name for path in root.iterdir()) == [".lock-of-gpuwatch", NAME]


def older(root: Path, number: int, started_at: float) -> Path:
    """An unpacked older version, last started at an epoch time."""
    folder = root / f"gpuwatch-0.{number}-{number:016x}"
    folder.mkdir()
    (folder / MARK).write_text("")
    os.utime(folder / MARK, (started_at, started_at))
    return folder


def test_cleaning_keeps_the_one_before_and_those_in_use(archive: str, root: Path) -> None:
    unpack.unpack(archive, str(root / NAME))
    folders = [older(root, number, 1000.0 * number) for number in (1, 2, 3)]
    broken = root / "gpuwatch-0.9-00000000000000ff"
    broken.mkdir()
    with (folders[0] / MARK).open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        unpack.clean(str(root), NAME)
        assert [folder.exists() for folder in folders] == [True, False, True]
    assert not broken.exists()
    unpack.clean(str(root), NAME)
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert (root / NAME).exists()


def test_cleaning_touches_nothing_else(root: Path) -> None:
    names = ["gpuwatch.pyz_0123", "gpuwatch-notes", ".gpuwatch", "other", f"x{NAME}", f".{NAME}.young"]
    for name in names:
        (root / name).mkdir()
    long_dead = root / f".{NAME}.abcd1234"
    long_dead.mkdir()
    os.utime(long_dead, (0, 0))
    unpack.clean(str(root), NAME)
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == sorted(names)


def test_cleaning_waits_for_nobody(root: Path) -> None:
    folder = older(root, 1, 1.0)
    older(root, 2, 2.0)
    with unpack.locked(str(root)) as held:
        assert held
        unpack.clean(str(root), NAME)
    assert folder.exists()
