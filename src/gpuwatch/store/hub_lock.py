"""Which hub keeps a database: the one that holds the lock on ``<file>.hub-lock``. The lock ends with its process, however that ends.

Readers and the writers of the command line do not ask for it: SQLite itself lets them take turns with the hub.
"""

from __future__ import annotations

import fcntl
import os
from typing import Optional

from gpuwatch.store.address import path_of

SUFFIX = ".hub-lock"


class HubLock:
    """One hub's claim on one database. For one thread."""

    def __init__(self, url: str) -> None:
        """Raises UsageError for an address that names no file."""
        self.label = path_of(url)
        self._path = os.path.abspath(self.label) + SUFFIX
        self._descriptor: Optional[int] = None

    def take(self) -> bool:
        """True when this hub holds the database, now or since before; never waits.

        Where no lock file can be made (no folder, no right, no space) or the file system knows no locks, it is True too: opening
        the database then says what is wrong, or nobody can tell.
        """
        while self._descriptor is None:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                return True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError:
                os.close(descriptor)
                return True
            if self._is_in_place(descriptor):
                self._note_holder(descriptor)
                self._descriptor = descriptor
            else:  # removed meanwhile: another hub may have made a new one
                os.close(descriptor)
        return True

    def release(self) -> None:
        """Let another hub have it. The file stays: removing it would let two hubs hold two files of one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """Whoever holds it, for a message: ``process 123``, or nothing that is known."""
        try:
            with open(self._path, "rb") as file:
                pid = file.read(20).strip()
        except OSError:
            return "unknown process"
        return f"process {pid.decode()}" if pid.isdigit() else "unknown process"

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except OSError:
            return False

    def _note_holder(self, descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except OSError:  # a full disk: only the number in a message is lost
            pass
