"""What a database's errors mean, in words with the next step. Never names a password: paths only."""

from __future__ import annotations

import os
from typing import Tuple

from gpuwatch.model.errors import StoreError

MAGIC = b"SQLite format 3\0"

_MEANINGS: Tuple[Tuple[str, str, str], ...] = (
    ("locked", "is in use by another writer for too long", "Try again; see who holds it with: fuser FILE"),
    ("busy", "is in use by another writer for too long", "Try again; see who holds it with: fuser FILE"),
    ("is full", "cannot grow: the disk is full", "Free some space; storing goes on by itself then. What is stored is unharmed"),
    ("readonly", "may not be written", "Give this user the right to write the file and its folder"),
    ("unable to open", "cannot be opened", "Check the rights of the file and of its folder"),
    (
        "disk i/o",
        "cannot be read or written: the system reports an input/output error",
        "Check free space, quota and the kernel's log",
    ),
    ("locking protocol", "cannot be locked", "Keep it on a local disk: not on NFS or another network file system"),
    ("malformed", "is damaged", "Move it away and restart, or restore the backup"),
    ("corrupt", "is damaged", "Move it away and restart, or restore the backup"),
    ("decode", "is damaged ({error})", "Move it away and restart, or restore the backup"),
    ("not a database", "is not a database, or its beginning is damaged", "Move it away and restart, or name another file with --database"),
    ("no such table", "lacks a table ({error})", "It is damaged, or of another program: name another file with --database"),
    ("no such column", "lacks a column ({error})", "It is damaged, or of another program: name another file with --database"),
    ("too large", "was given a number that is too large for it", "Please report this"),
    ("closed", "is closed already", "Start again"),
)


def in_words(error: Exception, label: str) -> StoreError:
    """The StoreError for what SQLite said about the database ``label``. The same words while the trouble is the same: they are a notice."""
    said = " ".join(str(error).split())
    for sign, meaning, next_step in _MEANINGS:
        if sign in said.lower():
            what = meaning.format(error=said[:100])
            return StoreError(f"The database {label} {what}.", next_step + ".")
    return StoreError(f"The database {label} failed: {said[:200]}.", "Please report this.")


def check_place(path: str, *, create: bool, read_only: bool) -> None:
    """Raise StoreError in words for a file or folder that cannot work; make the file, for the owner's eyes only, if there is none."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise StoreError(f"The folder {folder} of the database {path} does not exist.", "Make it, or name another file with --database.")
    if not os.path.exists(path):
        _make_file(path, create)
    _check_file(path)
    if read_only:
        return
    for place, right in ((path, os.W_OK), (folder, os.W_OK | os.X_OK)):
        if not os.access(place, right):
            kind = "file" if place == path else "folder"
            raise StoreError(
                f"The database {path} may not be written: the {kind} {place} is read-only for this user.", "Change its rights."
            )


def _make_file(path: str, create: bool) -> None:
    if not create:
        raise StoreError(f"There is no database {path}.", "Start the hub once, or name the file with --database.")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise StoreError(f"The database {path} cannot be made: {error.strerror}.", "Check the folder's rights and free space.") from None


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        raise StoreError(f"{path} is not a file.", "Name a file with --database.")
    try:
        with open(path, "rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise StoreError(f"The database {path} cannot be read: {error.strerror}.", "Change its rights.") from None
    if start and start != MAGIC:
        raise StoreError(
            f"{path} is not a database, or its beginning is damaged.", "Move it away and restart, or name another file with --database."
        )
