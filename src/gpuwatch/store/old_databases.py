"""The databases of the old programs, opened read-only: which program's it is, and its rows in the order they were written.

Nothing of the file is trusted: only plain tables are read, values longer than any real one come as NULL, and SQL in its schema is not run.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from datetime import timezone, tzinfo
from itertools import islice
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple
from urllib.parse import quote

from gpuwatch.model.errors import UsageError
from gpuwatch.wire.csv_in import pickles, seed000_db, seed001_db, seed004_db
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import ImportedRow, Report

MAGIC = b"SQLite format 3\0"
"""What such a file begins with."""
FORMATS = {
    "vesta-database": "database of vesta (gpu_states.db): a table a host, pickles of its GPUs",
    "gpu-monitoring-system-database": "database of gpu-monitoring-system: worker, gpu_metrics_history",
    "accessgrid-database": "database of AccessGrid (gpu_logs.db): gpu_logs, user_gpu_logs",
}
MOST_TABLES = 2000
_MOST_TEXT = 1000
_LONG = {"data": pickles.MAX_BYTES, "metrics": seed001_db.MAX_JSON}


class Found(NamedTuple):
    """What a database is: one of FORMATS or empty, why, and its tables with their columns."""

    format: str
    why: str
    tables: Dict[str, Tuple[str, ...]]


@contextmanager
def opened(path: str) -> Iterator[sqlite3.Connection]:
    """The file, for reading only. Raises UsageError, also for errors while it is read."""
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise UsageError(f"{path} cannot be opened as a database: {error}.") from None
    try:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        yield connection
    except sqlite3.Error as error:
        raise UsageError(f"{path} cannot be read as a database: {error}.", "Is it being written? Copy it with sqlite3's .backup.") from None
    finally:
        connection.close()


def sniff(connection: sqlite3.Connection) -> Found:
    """Whose database it is."""
    tables = _tables(connection)
    hosts = [name for name, columns in tables.items() if _is_host(name, columns)]
    if seed004_db.MACHINES in tables and (hosts or {"id", "name"} <= set(tables[seed004_db.MACHINES])):
        return Found("vesta-database", f"It has vesta's table of machines, and {len(hosts)} tables of hosts.", tables)
    if set(seed001_db.WORKER) <= set(tables.get("worker", ())):
        return Found("gpu-monitoring-system-database", "It has the table of workers of gpu-monitoring-system.", tables)
    if set(seed000_db.GPU_LOGS) <= set(tables.get("gpu_logs", ())):
        return Found("accessgrid-database", "It has AccessGrid's table gpu_logs.", tables)
    known = ", ".join(sorted(tables)[:5]) or "none"
    return Found("", f"Its tables are of no program that is known (tables: {known[:200]}).", tables)


def rows(connection: sqlite3.Connection, found: Found, report: Report, zone: tzinfo) -> Iterator[ImportedRow]:
    """All readings of the database, table after table. ``zone``: of the local times that vesta and AccessGrid wrote."""
    if found.format == "vesta-database":
        for name, columns in sorted(found.tables.items()):
            if _is_host(name, columns):
                records = _select(connection, name, ("rowid", *seed004_db.COLUMNS), "rowid")
                yield from seed004_db.rows(records, name, report, Clock(zone))
    elif found.format == "gpu-monitoring-system-database":
        yield from _of_workers(connection, found, report)
    elif found.format == "accessgrid-database":
        yield from seed000_db.gpus(_select(connection, "gpu_logs", seed000_db.GPU_LOGS, "id"), report, Clock(zone))
        if set(seed000_db.USER_LOGS) <= set(found.tables.get("user_gpu_logs", ())):
            yield from seed000_db.users(_select(connection, "user_gpu_logs", seed000_db.USER_LOGS, "id"), report, Clock(zone))


def count(connection: sqlite3.Connection, found: Found) -> int:
    """About how many records ``rows`` will read, for a progress bar: the highest row ids, which cost nothing to find."""
    wanted = {"gpu_logs", "user_gpu_logs", "gpu_metrics_history", "worker"}
    names = [name for name, columns in found.tables.items() if name in wanted or _is_host(name, columns)]
    found_ids = [connection.execute(f"SELECT max(rowid) FROM {_quoted(name)}").fetchone()[0] for name in names]
    return sum(id for id in found_ids if isinstance(id, int) and 0 <= id < 2**40)


def _of_workers(connection: sqlite3.Connection, found: Found, report: Report) -> Iterator[ImportedRow]:
    clock = Clock(timezone.utc)
    if set(seed001_db.HISTORY) <= set(found.tables.get("gpu_metrics_history", ())):
        workers = {id: str(name) for id, name in islice(_select(connection, "worker", ("id", "worker_id"), "id"), 100_000)}
        yield from seed001_db.history(_select(connection, "gpu_metrics_history", seed001_db.HISTORY, "id"), workers, report, clock)
    else:
        report.note("This version kept no history: only the last metrics of each worker are there.")
        yield from seed001_db.newest(_select(connection, "worker", seed001_db.WORKER, "id"), report, clock)


def _tables(connection: sqlite3.Connection) -> Dict[str, Tuple[str, ...]]:
    """Plain tables alone: a view or a virtual table could run code of the file's."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' LIMIT ?"
    names = [name for (name,) in connection.execute(query, (MOST_TABLES,))]
    return {name: tuple(column for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (name,))) for name in names}


def _is_host(name: str, columns: Sequence[str]) -> bool:
    return name != seed004_db.MACHINES and tuple(columns) == seed004_db.COLUMNS


def _select(connection: sqlite3.Connection, table: str, columns: Sequence[str], order: str) -> Iterator[Tuple[Any, ...]]:
    """The rows of a table; a value too long to be real is NULL, and was not loaded where it is a BLOB."""
    shown: List[str] = []
    for column in columns:
        most, quoted = _LONG.get(column, _MOST_TEXT), _quoted(column) if column != "rowid" else column
        shown.append(f"CASE WHEN typeof({quoted}) IN ('text', 'blob') AND length({quoted}) > {most} THEN NULL ELSE {quoted} END")
    return connection.execute(f"SELECT {', '.join(shown)} FROM {_quoted(table)} ORDER BY {order}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
