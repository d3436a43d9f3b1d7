"""The rare part of a start of gpuwatch.pyz: unpack the archive, delete what older versions left.

Both are safe beside any number of other starts: a folder appears under its name only when it is whole, and disappears
only while nobody holds it. Nothing outside the given root is ever touched, and in it nothing but names that are ours.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pyz_start.launch import KEPT, KEPT_OVER_REBOOT, MARK, StartError, boot_id

LOCK = ".lock-of-gpuwatch"
UNPACKED = re.compile(r"gpuwatch-[^/]+-[0-9a-f]{16}")
LEFTOVER = re.compile(r"\.gpuwatch-[^/]+-[0-9a-f]{16}\.\w+")
LEFTOVER_SECONDS = 600.0  # a half-unpacked folder this old has no owner, even where locks do not work


def unpack(archive: str, folder: str) -> None:
    """Unpack `archive` to `folder`, once, however many start at the same time; fill up a folder that is there already.

    Raises StartError, OSError.
    """
    root, name = os.path.split(folder)
    with locked(root):
        if os.path.isdir(folder):  # another start was faster, or files were lost; others may be running from it
            write_files(archive, folder, name)
            return
        temporary = tempfile.mkdtemp(prefix=f".{name}.", dir=root)
        try:
            write_files(archive, temporary, name)
            os.rename(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if not os.path.exists(os.path.join(folder, MARK)):  # else one on another machine was faster
                raise


def write_files(archive: str, folder: str, name: str) -> None:
    """Write what is missing of the archive's files to `folder`, each whole or not at all, and the mark last."""
    try:
        with zipfile.ZipFile(archive) as pyz:
            build_id = json.loads(pyz.read("environment.json"))["build_id"]
            if not name.endswith(build_id[:16]):
                raise StartError(f"{archive} was replaced by another version while it started: start it again")
            for entry in pyz.infolist():
                path = os.path.join(folder, entry.filename)
                if size_of(path) != entry.file_size:
                    write_file(path, pyz.read(entry))
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise StartError(f"{archive} is damaged ({error}): copy it here again") from None
    write_mark(os.path.join(folder, MARK))


def size_of(path: str) -> int:
    """The file's size in bytes, -1 if there is none."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return -1


def write_file(path: str, content: bytes) -> None:
    """Write one file for us alone, at once or not at all."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def write_mark(path: str) -> None:
    """Say that the folder is whole since this boot, or over a reboot. In place: processes hold their lock on it."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as file:
        before = file.read()
        file.seek(0)
        file.truncate()
        file.write(boot_id() if before in ("", boot_id()) else KEPT_OVER_REBOOT)


@contextmanager
def locked(root: str, wait: bool = True) -> Iterator[bool]:
    """Hold the root's lock; yields whether it is held (not on a file system without locks, or if busy and not `wait`)."""
    descriptor = os.open(os.path.join(root, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


def clean(root: str, name: str) -> None:
    """Delete from `root` half-unpacked folders, and unpacked ones but `name`, the newest others and those in use."""
    try:
        with locked(root, wait=False) as held:
            if not held:
                return
            entries = os.listdir(root)
            for entry in filter(LEFTOVER.fullmatch, entries):
                path = os.path.join(root, entry)
                if time.time() - os.lstat(path).st_mtime > LEFTOVER_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
            others = [entry for entry in entries if UNPACKED.fullmatch(entry) and entry != name]
            others.sort(key=lambda entry: last_started(os.path.join(root, entry)), reverse=True)
            for entry in others[KEPT - 1 :]:
                delete_unless_held(root, entry)
    except OSError:
        pass  # tidying never keeps anybody from starting; the next start tries again


def last_started(folder: str) -> float:
    """When a process last started from `folder`, epoch seconds; 0 for one that is not whole."""
    try:
        return os.stat(os.path.join(folder, MARK)).st_mtime
    except FileNotFoundError:
        return 0.0


def delete_unless_held(root: str, entry: str) -> None:
    """Delete one unpacked folder, unless a process runs from it."""
    folder = os.path.join(root, entry)
    try:
        descriptor = os.open(os.path.join(folder, MARK), os.O_RDWR)
    except FileNotFoundError:
        descriptor = -1  # not whole: nobody can have started from it
    try:
        if descriptor >= 0:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = os.path.join(root, f".{entry}.{os.getpid()}")
        os.rename(folder, doomed)  # from here on nobody finds it by its name
    except BlockingIOError:
        return
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    shutil.rmtree(doomed, ignore_errors=True)
