"""Which hub keeps a database: the one that holds its lock, which ends with its process, however that ends.

Of a file it is the lock on ``<file>.hub-lock``, of a server's database an advisory lock of a session that does nothing else. Several hubs
may share a server's database (``leases``): they hold its lock together, and keep away who needs the database for itself.

Readers and the writers of the command line do not ask for it: ``Store.writing`` lets them take turns with the hub.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Optional, Union

from gpuwatch.store.address import is_postgres, label_of, path_of
from gpuwatch.store.database import need_libpq

if TYPE_CHECKING:
    from gpuwatch.store.postgres_link import Connection

SUFFIX = ".hub-lock"
PATIENCE_SECONDS = 10.0
LEAVING_SECONDS = 5.0
_SESSION_LOCK = 1735423864
"""First half of the advisory lock's key; the second is the schema's."""


class HubLock:
    """One hub's claim on one database. For one thread."""

    def __init__(self, url: str, *, shared: bool = False) -> None:
        """``shared``: with other hubs, where the database is a server's. Raises UsageError for an address that is none."""
        self._way: Union[_FileLock, _SessionLock] = _SessionLock(url, shared) if is_postgres(url) else _FileLock(url)
        self.label = self._way.label

    def take(self) -> bool:
        """True when this hub holds the database, now or since before; never waits for another hub.

        Where no lock file can be made (no folder, no right, no space) or the file system knows no locks, it is True too: opening
        the database then says what is wrong, or nobody can tell. Raises StoreError for a server that does not answer.
        """
        return self._way.take()

    def release(self) -> None:
        """Let another hub have it."""
        self._way.release()

    def holder(self) -> str:
        """Whoever holds it, for a message: ``process 123``, ``HOST:123``, or nothing that is known."""
        return self._way.holder()


class _FileLock:
    def __init__(self, url: str) -> None:
        self.label = path_of(url)
        self._path = os.path.abspath(self.label) + SUFFIX
        self._descriptor: Optional[int] = None

    def take(self) -> bool:
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
        """The file stays: removing it would let two hubs hold two files of one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
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


class _SessionLock:
    def __init__(self, url: str, shared: bool) -> None:
        self.label = label_of(url)
        self._function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        self._url = url
        self._connection: Optional[Connection] = None

    def take(self) -> bool:
        need_libpq()
        import psycopg

        from gpuwatch.store.postgres_link import connect
        from gpuwatch.store.postgres_words import in_words

        try:
            if self._connection is not None:
                self._connection.script("SELECT")
                return True
        except psycopg.Error:
            self._drop()
        try:
            connection = connect(self._url, role="hub", patience_seconds=PATIENCE_SECONDS)
            self._connection = connection
            taken = bool(connection.fetch(f"SELECT {self._function}({_SESSION_LOCK}, hashtext(current_schema()))".encode(), ())[0][0])
        except psycopg.Error as error:
            self._drop()
            raise in_words(error, self.label) from None
        if not taken:
            self._drop()
        return taken

    def release(self) -> None:
        """The server ends a session some time after it was left: whoever is next would be told that this hub still has the database."""
        import psycopg

        if self._connection is not None:
            try:
                self._connection.be_patient(LEAVING_SECONDS)
                self._connection.script("SELECT pg_advisory_unlock_all()")
            except psycopg.Error:  # the lock went, or goes, with the session
                pass
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def holder(self) -> str:
        import psycopg

        from gpuwatch.store.postgres_link import connect

        query = """SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted
            AND classid = %s AND objid = (hashtext(current_schema())::bigint & 4294967295)
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        try:
            connection = connect(self._url)
        except psycopg.Error:
            return "unknown process"
        try:
            found = connection.fetch(query.encode(), (_SESSION_LOCK,))
        except psycopg.Error:
            found = []
        finally:
            connection.close()
        return found[0][0].rpartition(" ")[2] if found and found[0][0] else "unknown process"
