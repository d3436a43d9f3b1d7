"""Which folder is trusted, and what else a start decides. The whole runs as processes in tests/e2e/test_pyz.py."""

from __future__ import annotations

import fcntl
import io
import os
from pathlib import Path

import pytest

from pyz_start import launch
from pyz_start.launch import MARK, StartError


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that names no place but a home."""
    for name in ("SHIV_ROOT", "CACHE_DIRECTORY", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_places_in_their_order(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ.setenv("CACHE_DIRECTORY", "/var/cache/gpuwatch:/var/cache/other")
    environ.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    environ.setenv("TMPDIR", str(tmp_path))
    own = f"gpuwatch-{os.geteuid()}"
    expected = ["/var/cache/gpuwatch", f"{tmp_path}/.cache/gpuwatch", "/run/user/7/gpuwatch", f"{tmp_path}/{own}"]
    assert list(launch.roots())[:4] == expected
    assert f"/tmp/{own}" in launch.roots()
    environ.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert list(launch.roots())[1] == "/elsewhere/gpuwatch"
    environ.setenv("SHIV_ROOT", "~/own")
    assert list(launch.roots()) == [f"{tmp_path}/own"]


@pytest.mark.parametrize("home", ["", "relative", "/nonexistent/home"])
def test_a_home_that_is_none_is_passed_over(environ: pytest.MonkeyPatch, home: str) -> None:
    environ.setenv("HOME", home)
    assert [place for place in launch.roots() if ".cache" in place] == []


def test_a_private_folder_is_made_and_trusted(tmp_path: Path) -> None:
    made = launch.private_folder(str(tmp_path / "a" / "b"))
    assert made == str(tmp_path / "a" / "b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert launch.private_folder(made) == made


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_not_ours(tmp_path: Path, mode: int) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(mode)
    with pytest.raises(StartError, match="can be written by others"):
        launch.private_folder(str(tmp_path / "root"))


def test_a_folder_below_a_writable_one_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(StartError, match="/a can be written by others"):
        launch.private_folder(str(tmp_path / "a" / "root"))
    assert not (tmp_path / "a" / "root").exists()
    (tmp_path / "a").chmod(0o1777)  # nobody can take a name of ours away in a sticky folder
    launch.private_folder(str(tmp_path / "a" / "root"))


def test_another_users_folder_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir(mode=0o700)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 4711)
    with pytest.raises(StartError, match=rf"belongs to another user \(uid {own}\)"):
        launch.check_own(str(tmp_path / "root"))


def test_nobody_stands_for_root_only_where_root_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = {"whole": "0 0 4294967295\n", "container": "0 100000 65536\n", "own user": "1000 1000 1\n", "as root": "0 1000 1\n"}
    for name, text in maps.items():
        files = {"/proc/self/uid_map": text, launch.OVERFLOW_UID: "65534\n"}
        monkeypatch.setattr(launch, "open", lambda path, encoding, files=files: io.StringIO(files[path]), raising=False)
        assert launch.is_unmapped(65534) == (name != "whole")
        assert not launch.is_unmapped(1001)


def test_a_link_is_judged_by_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad").chmod(0o777)
    (tmp_path / "good").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "good")
    assert launch.private_folder(str(tmp_path / "link")) == str(tmp_path / "good")
    (tmp_path / "trap").symlink_to(tmp_path / "bad" / "inside")
    with pytest.raises(StartError, match="can be written by others"):
        launch.private_folder(str(tmp_path / "trap"))


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="is not a folder"):
        launch.private_folder(str(tmp_path / "file"))
    with pytest.raises(StartError, match="is not a folder"):
        launch.private_folder(str(tmp_path / "file" / "below"))


def test_every_place_is_tried_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_text("")
    (tmp_path / "two").mkdir()
    (tmp_path / "two").chmod(0o777)
    monkeypatch.setattr(launch, "roots", lambda: [str(tmp_path / "one"), str(tmp_path / "two"), "/proc/none"])
    with pytest.raises(StartError) as caught:
        launch.unpacked("/nowhere.pyz", "gpuwatch-1-0123456789abcdef")
    text = str(caught.value)
    assert "one is not a folder; " in text
    assert "two can be written by others" in text
    assert "/proc/none: " in text
    assert text.endswith("Set SHIV_ROOT to a folder that only you can write")


@pytest.mark.parametrize("deletions", [1, launch.TRIES])
def test_what_another_version_deletes_before_it_is_held_is_unpacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletions: int) -> None:
    (tmp_path / "root").mkdir(mode=0o700)
    calls = []

    def unpack(archive: str, folder: str) -> None:
        calls.append(folder)
        if len(calls) > deletions:  # else it is gone again
            Path(folder).mkdir(mode=0o700)
            (Path(folder) / MARK).write_text(launch.boot_id())

    monkeypatch.setattr(launch, "roots", lambda: [str(tmp_path / "root")])
    monkeypatch.setattr(launch, "unpack_now", unpack)
    name = "gpuwatch-1-0123456789abcdef"
    if deletions < launch.TRIES:
        assert launch.unpacked("/nowhere.pyz", name) == str(tmp_path / "root" / name)
        assert len(calls) == deletions + 1
    else:
        with pytest.raises(StartError, match="vanished while starting: start again"):
            launch.unpacked("/nowhere.pyz", name)


def test_holding_keeps_a_deleter_out(tmp_path: Path) -> None:
    assert launch.hold(str(tmp_path)) is None
    (tmp_path / MARK).write_text("this boot")
    assert launch.hold(str(tmp_path)) == "this boot"
    with (tmp_path / MARK).open("r+") as mark, pytest.raises(BlockingIOError):
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_when_a_second_look_is_needed() -> None:
    home = "/home/u/.cache/gpuwatch"
    assert launch.is_whole(launch.boot_id(), home)
    assert launch.is_whole(launch.KEPT_OVER_REBOOT, home)
    assert not launch.is_whole("an earlier boot", home)
    assert not launch.is_whole(launch.boot_id(), f"/tmp/gpuwatch-{os.geteuid()}")
