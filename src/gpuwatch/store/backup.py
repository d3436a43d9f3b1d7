"""A database as one file: written beside a running hub, and brought back. A backup is a SQLite database, whatever it was made of."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from itertools import chain, count
from typing import Optional

from gpuwatch.model.errors import StoreError
from gpuwatch.store import copying
from gpuwatch.store.address import is_postgres, path_of
from gpuwatch.store.copying import Progress
from gpuwatch.store.database import Store, open_store

_SPARE = 1.05
"""A copy may be a little larger than what it is made of."""


def require_space(folder: str, wanted_bytes: int) -> None:
    """Raise StoreError where the disk of ``folder`` has not so much left."""
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes * _SPARE:
        raise StoreError(f"{folder} has {free / 1e9:.2f} GB left, {wanted_bytes / 1e9:.2f} GB are needed.", "Free some space, or name another folder.")


def work_bytes(store: Store) -> int:
    """How much ``Progress`` of a backup comes to."""
    return store.sizes().total if store.in_a_file else copying.total_bytes(store)


def write(store: Store, path: str, progress: Progress = lambda done: None) -> None:
    """Write the database as it is now to the new file ``path``; whole, or not at all. Raises StoreError."""
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    if os.path.exists(path) or not os.path.isdir(folder):
        raise StoreError(f"{path} {'exists already' if os.path.exists(path) else 'is in no folder that exists'}.", "Name another file.")
    require_space(folder, work_bytes(store))
    unfinished = f"{path}.unfinished"
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
        _fill(store, unfinished, progress)
        os.replace(unfinished, path)
    except OSError as error:
        raise StoreError(f"The backup {path} cannot be written: {error.strerror}.", "Check the folder's rights and free space.") from None
    finally:
        for leftover in (unfinished, f"{unfinished}-wal", f"{unfinished}-shm", f"{unfinished}-journal"):
            _unlink(leftover)


def _fill(store: Store, path: str, progress: Progress) -> None:
    if store.in_a_file:
        store.copy_to(path, progress)
    else:
        _fill_from_server(store, path, progress)
    with closing(sqlite3.connect(path)) as connection:  # so that who reads it needs no right to write beside it
        connection.execute("PRAGMA journal_mode = DELETE")


def _fill_from_server(store: Store, path: str, progress: Progress) -> None:
    with closing(open_store(path)) as target:
        with store.reading():  # one moment of it
            copying.copy(store, target, progress=progress)
        copying.finish(target)


def restore(path: str, url: str, progress: Progress = lambda done: None) -> Optional[str]:
    """Make the database at ``url`` what the backup ``path`` holds; the caller holds its ``HubLock``. Raises StoreError.

    Returns where the database that was there is kept; None where there was none. A server's database must be empty.
    """
    backup = open_store(path, create=False, read_only=True)
    try:
        problems = backup.problems(thorough=False)
        if problems:
            raise StoreError(f"The backup cannot be used. {problems[0]}", "Use another one.")
        if not is_postgres(url):
            return _into_file(backup, path_of(url), progress)
        _into_server(backup, url, progress)
        return None
    finally:
        backup.close()


def _into_server(backup: Store, url: str, progress: Progress) -> None:
    target = open_store(url)
    try:
        copying.copy(backup, target, progress=progress)
        if not all(one.same for one in copying.compare(backup, target)):
            raise StoreError("What arrived differs from the backup.", "Run gpuwatch db restore again; please report this.")
        copying.finish(target)
    finally:
        target.close()


def _into_file(backup: Store, path: str, progress: Progress) -> Optional[str]:
    path = os.path.abspath(path)
    if os.path.exists(path) and os.path.samefile(backup.path, path):
        raise StoreError(f"{path} is the database itself.", "Name a backup of it.")
    fresh, aside = f"{path}.restored", _aside(path)
    _unlink(fresh)  # of a restore that was killed
    try:
        write(backup, fresh, progress)
        if not os.path.exists(path):
            os.replace(fresh, path)
            return None
        _close_journal(path)
        _link(path, aside)
        os.replace(fresh, path)
        return aside
    except OSError as error:
        raise StoreError(f"The database {path} cannot be replaced: {error.strerror}.", "Check the folder's rights.") from None
    finally:
        _unlink(fresh)


def _aside(path: str) -> str:
    """What the database that was there is called from now on; two may be restored in one second."""
    name = f"{path}.before-restore-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(one for one in names if not os.path.exists(one) or _is_same(one, path))


def _close_journal(path: str) -> None:
    """Bring what waits beside the file into it: it would be taken for the restored one's. Raises StoreError while somebody has it open."""
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if "locked" in str(error) or "busy" in str(error):
            raise StoreError(f"The database {path} is in use.", "Stop what uses it; see who that is with: fuser FILE") from None
        for ending in ("-wal", "-shm"):  # it is damaged: that is why it is replaced
            if os.path.exists(path + ending):
                os.replace(path + ending, f"{path}.damaged{ending}")


def _link(path: str, aside: str) -> None:
    """Under both names; it may be so already, by a restore that was killed."""
    if not _is_same(aside, path):
        os.link(path, aside)


def _is_same(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
