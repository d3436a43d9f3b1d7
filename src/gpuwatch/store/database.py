"""The database file: opening it, one writer at a time, readers on any thread, and its errors in words.

Each thread has a connection of its own. Everything that writes does so inside ``Store.writing()``: an IMMEDIATE transaction, so that two
writers queue instead of failing half-way. After an error the connection is thrown away; the Store itself stays usable.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union
from urllib.parse import quote

import peewee

from gpuwatch.model.errors import StoreError, UsageError
from gpuwatch.store import migrations
from gpuwatch.store.failures import check_place, in_words
from gpuwatch.store.memory import JournalMemory

BUSY_SECONDS = 10.0
"""How long a writer waits for another one, of this or another process."""
PAGE_BYTES = 8192
"""Chosen for the journal: a row of it (1 to 2 KB) fits in a quarter of a page, where SQLite keeps it whole."""
_WAL_PAGES = 1000
_WAL_BYTES_KEPT = 16 * 1024**2
_LONGEST_REST_SECONDS = 0.2
_WRITER_CACHE_KIB = 16 * 1024

Query = Union[str, peewee.Query]
Rows = List[Tuple[Any, ...]]


def open_store(url: str, *, create: bool = True, read_only: bool = False) -> Store:
    """Open (and make, and migrate) the database at ``sqlite:///relative``, ``sqlite:////absolute`` or a plain path.

    Raises UsageError for an address that is none, StoreError (full, read-only, damaged, newer, not a database ...) otherwise.
    """
    path = path_of(url)
    check_place(path, create=create and not read_only, read_only=read_only)
    store = Store(path, read_only=read_only)
    try:
        store.prepare()
    except BaseException:
        store.close()
        raise
    return store


def path_of(url: str) -> str:
    """The file that ``url`` names. Raises UsageError; a password in the address never appears in it."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "sqlite":
        raise UsageError(f"The database {_without_secrets(url)!r} is of a kind that this gpuwatch cannot use.", "Write sqlite:///FILE.")
    path = rest[1:] if separator else url
    if (separator and not rest.startswith("/")) or not path or path.startswith(":memory:") or "\0" in path:
        raise UsageError(
            f"{_without_secrets(url)!r} names no database file.", "Write sqlite:///FILE, or sqlite:////FOLDER/FILE from the root."
        )
    return path


def _without_secrets(url: str) -> str:
    return re.sub(r"(password|passwd|pwd)=[^&]*", r"\1=***", re.sub(r"//.*@", "//***@", url, flags=re.S), flags=re.I)[:200]


class _Database(peewee.SqliteDatabase):
    """Knows all connections, to close those of threads that are gone and, at the end, all."""

    def __init__(self, path: str, **options: Any) -> None:
        self._opened: List[Tuple[threading.Thread, sqlite3.Connection]] = []
        super().__init__(path, check_same_thread=False, **options)

    def _connect(self) -> sqlite3.Connection:  # called under peewee's lock
        for thread, connection in self._opened:
            if not thread.is_alive():
                connection.close()
        self._opened = [pair for pair in self._opened if pair[0].is_alive()]
        opened: sqlite3.Connection = super()._connect()  # type: ignore[misc]
        self._opened.append((threading.current_thread(), opened))
        return opened

    def _close(self, conn: sqlite3.Connection) -> None:
        self._opened = [pair for pair in self._opened if pair[1] is not conn]
        conn.close()

    def close_all(self) -> None:
        """Close the connections of all threads. None of them may be at work."""
        opened, self._opened = self._opened, []
        for _, connection in opened:
            connection.close()
        self.close()


class _OfThread(threading.local):
    writing = False
    large_cache = False
    last_seconds = 0.0
    when_committed: List[Callable[[], None]]


class Store:
    """An open database. Every method may be called on any thread."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.path = os.path.abspath(path)
        self.label = path
        """How messages name the database."""
        self.read_only = read_only
        self.memory = JournalMemory()
        self.backup: Optional[str] = None
        """Path of the copy that was made before migrating, if one was."""
        self._file: Optional[Tuple[int, int]] = None
        self._turn = threading.Lock()
        self._of_thread = _OfThread()
        self._database: Any = self._make(f"file:{quote(self.path)}?mode=ro" if read_only else self.path)

    def _make(self, name: str) -> _Database:
        pragmas = {"synchronous": 1, "wal_autocheckpoint": _WAL_PAGES, "journal_size_limit": _WAL_BYTES_KEPT}
        return _Database(name, pragmas={} if self.read_only else pragmas, timeout=BUSY_SECONDS, uri=self.read_only)

    def prepare(self) -> None:
        """Bring a new or older file up to date. Called once, by ``open_store``."""
        if self.read_only:
            self._prepare_reading()
        elif not self.rows("PRAGMA page_count")[0][0]:
            for pragma in (f"page_size = {PAGE_BYTES}", "auto_vacuum = INCREMENTAL"):  # before anything is written
                self.rows(f"PRAGMA {pragma}")
        if not self.read_only:
            self.rows("PRAGMA journal_mode = WAL")
        self.backup = migrations.migrate(self)
        status = os.stat(self.path)
        self._file = status.st_dev, status.st_ino

    def is_in_place(self) -> bool:
        """The file is still the one that was opened: what is written to one that was removed or replaced is lost when all close it."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            return not isinstance(error, FileNotFoundError)  # a file system that does not answer has not removed anything
        return self._file in (None, (status.st_dev, status.st_ino))

    def _prepare_reading(self) -> None:
        """In a folder that may not be written, SQLite opens a WAL database only when told that nobody else writes it."""
        try:
            self.rows("PRAGMA schema_version")
        except StoreError:
            if os.access(os.path.dirname(self.path), os.W_OK) or os.path.exists(self.path + "-wal"):
                raise
            self._database = self._make(f"file:{quote(self.path)}?mode=ro&immutable=1")

    def rows(self, query: Query, parameters: Sequence[Any] = ()) -> Rows:
        """All rows of a SELECT (SQL text with ``?``, or a peewee query) as tuples. Raises StoreError."""
        with self._in_words():
            fetched: Rows = self._execute(query, parameters).fetchall()
            return fetched

    def change(self, query: Query, parameters: Sequence[Any] = ()) -> int:
        """Run an INSERT, UPDATE or DELETE inside ``writing()``; how many rows it touched. Raises StoreError."""
        self._must_be_writing()
        with self._in_words():
            count: int = self._execute(query, parameters).rowcount
            return count

    def change_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement for many rows inside ``writing()``; how many rows it touched in all. Raises StoreError."""
        self._must_be_writing()
        with self._in_words():
            count: int = self._database.connection().executemany(sql, rows).rowcount
            return count

    def _execute(self, query: Query, parameters: Sequence[Any]) -> sqlite3.Cursor:
        if not isinstance(query, str):
            query, parameters = self._database.get_sql_context().sql(query).query()
        cursor: sqlite3.Cursor = self._database.execute_sql(query, parameters)
        return cursor

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All SELECTs inside see the database as it is at the first of them. Keep it short: it holds back the WAL's reuse."""
        with self._in_words():
            connection = self._database.connection()
            nested = connection.in_transaction
            if not nested:
                connection.execute("BEGIN")
        try:
            yield
        finally:
            if not nested and connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One IMMEDIATE transaction: all of it is kept, or nothing. One inside another is part of the outer one.

        Raises StoreError when another writer does not finish within BUSY_SECONDS, and for whatever the file or disk refuses.
        """
        if self._of_thread.writing:
            yield
            return
        if self.read_only:
            raise StoreError(f"The database {self.label} was opened for reading only.", "Nothing was changed.")
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StoreError(f"The database {self.label} is being written by another part of this program.", "Try again.")
        try:
            began_at = time.monotonic()
            self._of_thread.when_committed = []
            with self._transaction():
                yield
            for function in self._of_thread.when_committed:
                function()
            self._of_thread.last_seconds = time.monotonic() - began_at
        finally:
            self._turn.release()

    def rest(self) -> None:
        """Between the transactions of a long piece of work: wait as long as the last one took, so that other writers get their turn."""
        if not self._of_thread.writing:
            threading.Event().wait(min(_LONGEST_REST_SECONDS, self._of_thread.last_seconds))

    def when_committed(self, function: Callable[[], None]) -> None:
        """Call ``function`` after the commit of the running ``writing()``, before the next writer's turn; never if it fails."""
        self._of_thread.when_committed.append(function)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._in_words():
            connection = self._database.connection()
            if not self._of_thread.large_cache:
                connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
                self._of_thread.large_cache = True
            connection.execute("BEGIN IMMEDIATE")
        self._of_thread.writing = True
        try:
            yield
            with self._in_words():
                connection.execute("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise
        finally:
            self._of_thread.writing = False

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """SQLite has rolled back by itself after some errors (full disk); asking again would hide the first error."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.release()

    def copy_to(self, path: str) -> None:
        """Write a copy of the database, as it is now, to ``path``. Raises StoreError."""
        with self._in_words(), closing(sqlite3.connect(path)) as target:
            self._database.connection().backup(target)

    def release(self) -> None:
        """Close this thread's connection; the next call opens a new one. For threads that end or rest long."""
        self._of_thread.large_cache = False
        self._database.close()

    def close(self) -> None:
        """Close all connections. The threads that used the Store must have stopped. The Store is not used afterwards."""
        with self._in_words():
            self._database.close_all()

    def _must_be_writing(self) -> None:
        if not self._of_thread.writing:
            raise RuntimeError("a change outside Store.writing()")

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (peewee.PeeweeException, sqlite3.Error, OverflowError) as error:
            raise in_words(error, self.label) from None
