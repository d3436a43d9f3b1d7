"""One connection to PostgreSQL: made, set up, and its statements. Knows psycopg; knows nothing of tables."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type, TypeVar, Union

import psycopg
from psycopg import conninfo
from psycopg.abc import PQGen
from psycopg.adapt import Dumper
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper, NumericBinaryLoader

from gpuwatch.model.errors import StoreError, UsageError

T = TypeVar("T")
_LOOK_SECONDS = 0.1
_LIBPQ_SETTINGS: Dict[str, Union[str, int]] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "client_encoding": "utf8",
}
"""A server that was cut off is noticed within 10 s."""
_SESSION = """SET lock_timeout = '{busy}ms'; SET plan_cache_mode = force_custom_plan; SET jit = off; SET client_min_messages = error;
    SET tcp_keepalives_idle = 4; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 10000; SET default_transaction_read_only = {read_only};
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"""
"""Custom plans: a plan for any time would lock all partitions. Keepalives: within 10 s the server gives up a hub that was cut off, and its locks."""
OLDEST = 12
"""Before it, attaching a partition kept everybody from reading."""
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|\?|%""")


@lru_cache(maxsize=1024)
def translate(sql: str) -> bytes:
    """SQL with ``?`` as psycopg wants it."""
    return _TOKEN.sub(lambda found: {"?": "%s", "%": "%%"}.get(found[0], found[0].replace("%", "%%")), sql).encode()


class _Text(Dumper):
    """Text as text, also in places where PostgreSQL would have to guess. It can hold neither NUL nor half a character."""

    oid = 25

    def dump(self, obj: str) -> bytes:
        return obj.replace("\0", "\ufffd").encode("utf-8", "replace")


_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\ufffd"})


def _copied(value: Any) -> str:
    """A value as COPY takes it in its text format."""
    if isinstance(value, str):
        return value.translate(_ESCAPED)
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    return "\\N" if value is None else repr(value)


class _Number(NumericBinaryLoader):
    """Sums of large integers come as numeric: int where whole, else float, as from SQLite."""

    def load(self, data: Any) -> Union[int, float]:  # type: ignore[override]
        number: Decimal = super().load(data)
        return int(number) if number == number.to_integral_value() else float(number)


class _Patient(psycopg.Connection[Tuple[Any, ...]]):
    """libpq waits for ever for a server whose system still takes what is sent, but which answers nothing: a stopped proxy, a frozen disk."""

    patience_seconds: Optional[float] = None
    """A statement without an answer after so long fails; None = never."""
    given_up = False
    """Statements under way, of whatever thread, fail within a moment."""

    def wait(self, gen: PQGen[T], interval: float = _LOOK_SECONDS) -> T:
        return super().wait(self._patiently(gen), interval)

    def _patiently(self, gen: PQGen[T]) -> PQGen[T]:
        until = math.inf if self.patience_seconds is None else time.monotonic() + self.patience_seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and (self.given_up or time.monotonic() > until):
                    raise psycopg.OperationalError("no answer")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


class Connection:
    """A connection that commits each statement by itself, except between BEGIN and its end. Raises psycopg's errors."""

    def __init__(self, raw: _Patient) -> None:
        self.raw = raw
        adapters: Tuple[Tuple[type, Type[Dumper]], ...] = ((str, _Text), (int, Int8Dumper))
        for kind, dumper in adapters:  # one type for all integers: one prepared statement
            raw.adapters.register_dumper(kind, dumper)
        raw.adapters.register_loader("numeric", _Number)
        self._cursor = raw.cursor(binary=True)

    def fetch(self, sql: bytes, values: Sequence[Any]) -> List[Tuple[Any, ...]]:
        """All rows; none for a statement that gives none."""
        self._cursor.execute(sql, values)
        return self._cursor.fetchall() if self._cursor.description else []

    def execute(self, sql: bytes, values: Sequence[Any]) -> int:
        """How many rows it touched."""
        return self._cursor.execute(sql, values).rowcount

    def execute_many(self, sql: bytes, rows: Sequence[Sequence[Any]]) -> int:
        """How many rows it touched in all. ``rows`` must not be empty."""
        self._cursor.executemany(sql, rows)
        return self._cursor.rowcount

    def copy(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """COPY ... FROM STDIN, several times as fast as INSERT."""
        with self._cursor.copy(statement.encode()) as stream:
            stream.write("".join("\t".join(map(_copied, row)) + "\n" for row in rows).encode("utf-8", "replace"))

    def script(self, statements: str) -> None:
        """Several statements without values, in one round trip."""
        self.raw.execute(statements.encode(), binary=False)

    def roll_back(self) -> None:
        """End the transaction; nothing where that cannot be told to the server any more."""
        try:
            if self.status() in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                self.script("ROLLBACK")
        except psycopg.Error:
            self.close()

    def status(self) -> TransactionStatus:
        """IDLE: ready for the next user."""
        return self.raw.info.transaction_status

    def be_patient(self, seconds: float) -> None:
        """From now on each statement fails that is not answered after so long."""
        self.raw.patience_seconds = seconds

    def give_up(self) -> None:
        """End what another thread waits for on it, with an error. It is of no use afterwards."""
        self.raw.given_up = True

    def close(self) -> None:
        """Never raises."""
        self.raw.close()


def connect(
    url: str, *, read_only: bool = False, busy_seconds: float = 10.0, role: str = "", patience_seconds: Optional[float] = None
) -> Connection:
    """A new connection. ``patience_seconds``: each statement fails that is not answered by then.

    Raises psycopg.Error, StoreError for a server that is too old, UsageError for settings that libpq does not know.
    """
    try:
        name = f"gpuwatch {role + ' ' if role else ''}{socket.gethostname()}:{os.getpid()}"[:63]
        settings = conninfo.make_conninfo(url, application_name=name, **_LIBPQ_SETTINGS)
    except psycopg.ProgrammingError:  # its text may hold the password
        raise UsageError("The address of the PostgreSQL database has a setting that libpq does not know.", "See --database.") from None
    raw = _Patient.connect(settings, autocommit=True)
    raw.patience_seconds = patience_seconds
    try:
        if raw.info.server_version < OLDEST * 10_000:
            raise StoreError(f"The PostgreSQL server has version {raw.info.server_version // 10_000}, gpuwatch needs {OLDEST} or newer.", "Upgrade it.")
        made = Connection(raw)
        made.script(_SESSION.format(busy=round(busy_seconds * 1000), read_only="on" if read_only else "off"))
    except BaseException:
        raw.close()
        raise
    return made

