"""The Store in one SQLite file, in WAL mode. Each thread has a connection of its own; a writer's transaction is IMMEDIATE."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Set, Tuple
from urllib.parse import quote

import peewee

from gpuwatch.model.errors import StoreError
from gpuwatch.store import database, migrations
from gpuwatch.store.address import path_of
from gpuwatch.store.database import Query, Rows, Sizes, Store
from gpuwatch.store.failures import check_place, in_words

PAGE_BYTES = 8192
"""Chosen for the journal: a row of it (1 to 2 KB) fits in a quarter of a page, where SQLite keeps it whole."""
_WAL_PAGES = 1000
_WAL_BYTES_KEPT = 16 * 1024**2
_WRITER_CACHE_KIB = 16 * 1024
_LOOK_SECONDS = 0.02
_PAGES_A_STEP = 500
_PAGES_COPIED = 2000
_FREE_BYTES_KEPT = 64 * 1024**2
"""So much free space stays in the file for the journal to reuse; more than a quarter of the file beyond goes back to the disk."""


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
    large_cache = False


class SqliteStore(Store):
    """See ``Store``."""

    spelling = {
        "blob": "BLOB",
        "clustered": "WITHOUT ROWID",
        "counter": "INTEGER PRIMARY KEY",
        "counter_key": "",
        "by_start": "",
        "by_tier_and_start": "",
    }

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        super().__init__(os.path.abspath(path), path, read_only=read_only)
        self._file: Optional[Tuple[int, int]] = None
        self._cache = _OfThread()
        self._database: Any = self._make(f"file:{quote(self.path)}?mode=ro" if read_only else self.path)

    @classmethod
    def at(cls, url: str, *, create: bool, read_only: bool) -> SqliteStore:
        """The Store of the file that ``url`` names, made if need be, but not prepared. Raises UsageError, StoreError."""
        path = path_of(url)
        check_place(path, create=create, read_only=read_only)
        return cls(path, read_only=read_only)

    def _make(self, name: str) -> _Database:
        pragmas = {"synchronous": 1, "wal_autocheckpoint": _WAL_PAGES, "journal_size_limit": _WAL_BYTES_KEPT}
        return _Database(name, pragmas={} if self.read_only else pragmas, timeout=database.BUSY_SECONDS, uri=self.read_only)

    def prepare(self) -> None:
        if self.read_only:
            self._prepare_reading()
        elif not self.rows("PRAGMA page_count")[0][0]:
            for pragma in (f"page_size = {PAGE_BYTES}", "auto_vacuum = INCREMENTAL"):  # before anything is written
                self.rows(f"PRAGMA {pragma}")
        if not self.read_only:
            self._write_ahead()
        self.backup = migrations.migrate(self)
        status = os.stat(self.path)
        self._file = status.st_dev, status.st_ino

    def _write_ahead(self) -> None:
        """To WAL mode, which the file keeps. Where others have it open SQLite does not wait for them here, as it does elsewhere: it fails at once."""
        until = time.monotonic() + database.BUSY_SECONDS
        with self._in_words():
            while True:
                try:
                    self._execute("PRAGMA journal_mode = WAL").fetchall()
                    return
                except (peewee.OperationalError, sqlite3.OperationalError) as error:
                    if "locked" not in str(error) or time.monotonic() > until:
                        raise
                threading.Event().wait(_LOOK_SECONDS)

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
        with self._in_words():
            fetched: Rows = self._execute(query, parameters).fetchall()
            return fetched

    def _change(self, query: Query, parameters: Sequence[Any]) -> int:
        with self._in_words():
            count: int = self._execute(query, parameters).rowcount
            return count

    def _change_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        with self._in_words():
            count: int = self._database.connection().executemany(sql, rows).rowcount
            return count

    def _execute(self, query: Query, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        if not isinstance(query, str):
            query, parameters = self._database.get_sql_context().sql(query).query()
        cursor: sqlite3.Cursor = self._database.execute_sql(query, parameters)
        return cursor

    @contextmanager
    def reading(self) -> Iterator[None]:
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
    def _transaction(self) -> Iterator[None]:
        with self._in_words():
            connection = self._database.connection()
            if not self._cache.large_cache:
                connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
                self._cache.large_cache = True
            connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._in_words():
                connection.execute("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """SQLite has rolled back by itself after some errors (full disk); asking again would hide the first error."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.release()

    def table_names(self) -> Set[str]:
        return {name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def sizes(self) -> Sizes:
        pages, free, page_bytes = self._pages()
        try:
            waiting = os.path.getsize(self.path + "-wal")
        except OSError:
            waiting = 0
        return Sizes(pages * page_bytes, waiting, free * page_bytes)

    def used_bytes(self) -> int:
        pages, free, page_bytes = self._pages()
        return (pages - free) * page_bytes

    def _pages(self) -> Tuple[int, int, int]:
        pages, free, size = (self.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size"))
        return pages, free, size

    def problems(self, *, thorough: bool) -> List[str]:
        found = [str(row[0]) for row in self.rows("PRAGMA integrity_check(20)" if thorough else "PRAGMA quick_check(20)")]
        return [f"The database {self.label} is damaged: {line}" for line in found if line != "ok"]

    def shrink(self, max_bytes: int) -> None:
        while True:
            pages, free, page_bytes = self._pages()
            too_large = pages * page_bytes > max_bytes and free > 0
            if not too_large and (free * page_bytes < _FREE_BYTES_KEPT or free * 4 < pages):
                return
            with self.writing():
                self.rows(f"PRAGMA incremental_vacuum({_PAGES_A_STEP})")
            if self._pages()[1] >= free:
                return
            self.rest()

    def copy_to(self, path: str, progress: Callable[[int], None] = lambda done: None) -> None:
        left: List[int] = []

        def told(_: int, remaining: int, total: int) -> None:
            progress(((left[-1] if left else total) - remaining) * page_bytes)
            left.append(remaining)

        page_bytes = self._pages()[2]
        with self._in_words(), closing(sqlite3.connect(path)) as target, self.reading():  # else it begins anew at each of the hub's commits
            self.rows("SELECT count(*) FROM meta")
            self._database.connection().backup(target, pages=_PAGES_COPIED, progress=told, sleep=0.0)

    def release(self) -> None:
        self._cache.large_cache = False
        self._database.close()

    def close(self) -> None:
        with self._in_words():
            self._database.close_all()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (peewee.PeeweeException, sqlite3.Error, OverflowError) as error:
            raise in_words(error, self.label) from None
