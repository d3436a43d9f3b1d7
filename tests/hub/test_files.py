"""Passwords and the hosts file as they change on disk, and clocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.hub.clocks import NodeClocks
from gpuwatch.hub.hosts import HostsFile
from gpuwatch.hub.passwords import Passwords
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import UsageError

A = Target("a", "10.0.0.1", 7080)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str, mode: int = 0o600) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    os.replace(new, path)


def test_the_default_password() -> None:
    assert Passwords("")(A) == "8888"
    assert Passwords("own")(A) == "own"


def test_a_target_s_own_password_is_read_by_reference(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, clock = tmp_path / "p", Clock()
    passwords = Passwords("common", clock=clock)
    target = Target("a", "10.0.0.1", 7080, password_file=str(file))
    for _ in range(2):
        with pytest.raises(UsageError, match="this node's password cannot be used") as error:
            passwords(target)
        assert str(tmp_path) not in str(error.value), "strangers read it"
        clock.now += 3
    assert caplog.text.count(f"{file} cannot be read") == 1
    write(file, "one\n")
    clock.now += 3
    assert passwords(target) == "one"
    write(file, "two\n")
    assert passwords(target) == "one"
    clock.now += 3
    assert passwords(target) == "two"
    assert passwords(A) == "common"
    file.chmod(0o644)
    os.utime(file, (5, 5))
    clock.now += 3
    with pytest.raises(UsageError):
        passwords(target)
    assert f"chmod 600 {file}" in caplog.text


def test_the_hub_s_own_password_file_is_followed(tmp_path: Path) -> None:
    file, clock = tmp_path / "p", Clock()
    write(file, "one\n")
    passwords = Passwords("one", str(file), clock)
    assert passwords(A) == "one"
    write(file, "two\n")
    clock.now += 3
    assert passwords(A) == "two"


@pytest.fixture
def hosts(tmp_path: Path) -> Any:
    clock = Clock()
    return HostsFile(str(tmp_path / "hosts.txt"), 7080, clock), tmp_path / "hosts.txt", clock


def test_a_file_that_is_not_there_is_said(hosts: Any) -> None:
    file, path, clock = hosts
    read = file.changed()
    assert read.targets == ()
    assert "cannot be read (No such file or directory): no host is watched. Next: " in read.notice
    clock.now += 3
    assert file.changed() is None
    write(path, "a\n")
    clock.now += 3
    assert [target.name for target in file.changed().targets] == ["a"]


def test_changes_are_seen_and_bad_lines_cost_only_themselves(hosts: Any) -> None:
    file, path, clock = hosts
    write(path, "a\nb:7081 tags=x\n")
    read = file.changed()
    assert ([target.name for target in read.targets], read.notice) == (["a", "b:7081"], None)
    write(path, "a\nb c d\nc\n")
    assert file.changed() is None  # looked a moment ago
    clock.now += 3
    read = file.changed()
    assert [target.name for target in read.targets] == ["a", "c"]
    assert "line 2: " in read.notice
    assert read.notice.endswith("The other lines hold.")
    clock.now += 3
    assert file.changed() is None


def test_the_notice_of_a_bad_line_tells_no_password_and_no_path_of_one(hosts: Any) -> None:
    file, path, _ = hosts
    write(path, "a password=SECRET\nb password_file=/home/x/secret.txt every=\nc Passwd_File=/home/x/secret.txt\n")
    notice = file.changed().notice
    assert "password=***" in notice
    assert "line 3" in notice
    assert "SECRET" not in notice
    assert "secret.txt" not in notice


def test_a_file_that_vanishes_leaves_the_hosts_as_they_are(hosts: Any) -> None:
    file, path, clock = hosts
    write(path, "a\nb\n")
    file.changed()
    path.unlink()
    clock.now += 3
    read = file.changed()
    assert len(read.targets) == 2
    assert "the 2 hosts known before stay" in read.notice


def test_a_folder_or_a_huge_file_is_said(hosts: Any, tmp_path: Path) -> None:
    file, path, clock = hosts
    path.mkdir()
    assert "cannot be read" in file.changed().notice
    path.rmdir()
    with path.open("wb") as huge:
        huge.truncate(20 * 1024**2)
    clock.now += 3
    assert "larger than" in file.changed().notice


def test_many_bad_lines_are_counted(hosts: Any) -> None:
    file, path, _ = hosts
    write(path, "\n".join("x y z" for _ in range(50)))
    assert "and 45 more" in file.changed().notice


def test_small_skew_is_left_alone() -> None:
    clocks = NodeClocks()
    assert clocks.corrected("m", 1000.0, 0.4, 1000.1) == 1000.0
    assert clocks.corrected("m", 1000.5, -0.9, 1000.1) == 1000.5


def test_large_skew_is_corrected_until_it_is_gone() -> None:
    clocks = NodeClocks()
    assert clocks.corrected("m", 1500.0, 500.0, 1000.5) == 1000.0
    assert clocks.corrected("m", 1505.0, 500.3, 1005.5) == 1005.0
    assert clocks.corrected("m", 1010.0, 0.2, 1010.5) == 1010.0


def test_impossible_times_become_the_arrival() -> None:
    clocks = NodeClocks()
    assert clocks.corrected("m", None, None, 1000.0) == 1000.0
    assert clocks.corrected("m", 1002.0, None, 1000.0) == 1000.0
    assert clocks.corrected("m", 600.0, None, 1000.0) == 1000.0
