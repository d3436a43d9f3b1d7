"""The database as all others see it: opening it, one writer at a time, readers on any thread, and its errors in words.

Everything that writes does so inside ``Store.writing()``: a transaction that waits for its turn, so that two writers queue instead of
failing half-way. After an error the connection is thrown away; the Store itself stays usable. What databases do differently is in
``sqlite`` and ``postgres``; SQL elsewhere is one text for both, with ``?`` for parameters.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

import peewee

from gpuwatch.model.errors import StoreError
from gpuwatch.store.address import is_postgres
from gpuwatch.store.memory import JournalMemory

BUSY_SECONDS = 10.0
"""How long a writer waits for another one, of this or another process."""
_LONGEST_REST_SECONDS = 0.2

Query = Union[str, peewee.Query]
Rows = List[Tuple[Any, ...]]


class Sizes(NamedTuple):
    """Bytes: all that the database takes; what it wrote and has not sorted in yet; what is free in it for reuse."""

    total: int
    waiting: int
    free: int


class Dropped(NamedTuple):
    """What went with whole partitions; snapshots and bytes only of blocks."""

    rows: int = 0
    snapshots: int = 0
    bytes: int = 0


def open_store(url: str, *, create: bool = True, read_only: bool = False) -> Store:
    """Open (and make, and migrate) the database at ``sqlite:///relative``, ``sqlite:////absolute``, a plain path, or ``postgresql://...``.

    Raises UsageError for an address that is none, StoreError (full, read-only, damaged, newer, away, no right ...) otherwise.
    """
    store = unprepared(url, create=create, read_only=read_only)
    try:
        store.prepare()
    except BaseException:
        store.close()
        raise
    return store


def unprepared(url: str, *, create: bool = True, read_only: bool = False) -> Store:
    """As ``open_store``, without bringing it up to date: for ``migrations.version_of``, then ``prepare``. Raises UsageError, StoreError."""
    create = create and not read_only
    if is_postgres(url):
        need_libpq()
        from gpuwatch.store.postgres import PostgresStore  # loads psycopg

        return PostgresStore(url, create=create, read_only=read_only)
    from gpuwatch.store.sqlite import SqliteStore  # it is a Store itself

    return SqliteStore.at(url, create=create, read_only=read_only)


def need_libpq() -> None:
    """Raises StoreError where the system's library, which psycopg calls, is not there."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise StoreError(
            "For a PostgreSQL database this machine lacks the library libpq.so.5.",
            "Install it: apt install libpq5 (Debian, Ubuntu), dnf install libpq (Fedora, RHEL), apk add libpq (Alpine).",
        ) from None


class _OfThread(threading.local):
    writing = False
    last_seconds = 0.0
    when_committed: List[Callable[[], None]]


class Store(ABC):
    """An open database. Every method may be called on any thread."""

    spelling: Mapping[str, str]
    """What ``migrations`` puts into its statements."""
    in_a_file = True
    """False: a server keeps it; copies are its own business."""

    def __init__(self, path: str, label: str, *, read_only: bool = False) -> None:
        self.path = path
        """The file's absolute path; of a server's database its label."""
        self.label = label
        """How messages name the database."""
        self.read_only = read_only
        self.memory = JournalMemory()
        self.backup: Optional[str] = None
        """Path of the copy that was made before migrating, if one was."""
        self._turn = threading.Lock()
        self._of_thread = _OfThread()

    def spelled(self, statement: str) -> str:
        """A statement of ``migrations`` in this database's words."""
        return statement.format(**self.spelling)

    @abstractmethod
    def prepare(self) -> None:
        """Bring a new or older database up to date. Called once, by ``open_store``."""

    @abstractmethod
    def is_in_place(self) -> bool:
        """Still the database that was opened; False: what is written is lost, or another hub may have taken it over. Open it anew."""

    @abstractmethod
    def rows(self, query: Query, parameters: Sequence[Any] = ()) -> Rows:
        """All rows of a SELECT (SQL text with ``?``, or a peewee query) as tuples. Raises StoreError."""

    def change(self, query: Query, parameters: Sequence[Any] = ()) -> int:
        """Run an INSERT, UPDATE or DELETE inside ``writing()``; how many rows it touched. Raises StoreError."""
        self._must_be_writing()
        return self._change(query, parameters)

    def change_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement for many rows inside ``writing()``; how many rows it touched in all. Raises StoreError."""
        self._must_be_writing()
        return self._change_many(sql, rows)

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Many rows at once that are not there yet, inside ``writing()``, as fast as the database can. Raises StoreError."""
        names = ", ".join(f'"{column}"' for column in columns)
        self.change_many(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", rows)

    @abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """All SELECTs inside see the database as it is at the first of them. Keep it short: it holds back the reuse of space."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, the only one that writes: all of it is kept, or nothing. One inside another is part of the outer one.

        Raises StoreError when another writer does not finish within BUSY_SECONDS, and for whatever the database or disk refuses.
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
                self._of_thread.writing = True
                try:
                    yield
                finally:
                    self._of_thread.writing = False
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

    @abstractmethod
    def table_names(self) -> Set[str]:
        """The names of all tables; empty = a new database. Raises StoreError."""

    @abstractmethod
    def sizes(self) -> Sizes:
        """How much space it takes. Raises StoreError."""

    @abstractmethod
    def used_bytes(self) -> int:
        """What its content takes: falls at once when rows are deleted. Raises StoreError."""

    @abstractmethod
    def problems(self, *, thorough: bool) -> List[str]:
        """What is wrong with its files, in words; ``thorough``: indexes too. Raises StoreError when that cannot be found out."""

    @abstractmethod
    def shrink(self, max_bytes: int) -> None:
        """Give free space back to the disk, little by little, where much is free or all together is larger than ``max_bytes``."""

    def cutoff_ms(self, table: str, before_ms: int, tier_seconds: int = 0) -> int:
        """Until when retention really deletes rows of ``table``: a server's database drops whole partitions only."""
        return before_ms

    def drop_before(self, table: str, before_ms: int, tier_seconds: int = 0) -> Dropped:
        """Drop the partitions in which all is older; without partitions, nothing. Raises StoreError."""
        return Dropped()

    def make_room(self, table: str, start_ms: int, end_ms: int) -> None:  # noqa: B027  (a file needs none)
        """Before rows of that time come in bulk: make the partitions they belong into, where there are such. Raises StoreError."""

    def settle_counters(self) -> None:  # noqa: B027  (a file's counters go on from the largest number by themselves)
        """Inside ``writing()``, after rows came in with their numbers: the next number is larger. Raises StoreError."""

    @abstractmethod
    def copy_to(self, path: str, progress: Callable[[int], None] = lambda done: None) -> None:
        """Write a copy of the database, as it is now, to the file ``path``; ``progress`` gets bytes done. Raises StoreError."""

    @abstractmethod
    def release(self) -> None:
        """Close this thread's connection; the next call opens a new one. For threads that end or rest long."""

    def abandon(self) -> None:  # noqa: B027  (a file is never cut off)
        """The server is cut off: end at once, with a StoreError, what any thread waits for. The Store is to be opened anew."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections. The threads that used the Store must have stopped. The Store is not used afterwards."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """A transaction that no other writer of any process has at the same time; rolled back when its body raises."""

    @abstractmethod
    def _change(self, query: Query, parameters: Sequence[Any]) -> int: ...

    @abstractmethod
    def _change_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int: ...

    def _must_be_writing(self) -> None:
        if not self._of_thread.writing:
            raise RuntimeError("a change outside Store.writing()")
