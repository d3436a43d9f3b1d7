"""Large tables of a PostgreSQL database, cut by time: partitions are made ahead, and dropped whole when all in them is too old.

Rows of a time without a partition of its own lie in the table's ``_other`` partition, so that no insert ever fails for it; they are moved when
a partition is made for them. Nothing else in the store knows of partitions.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Set, Tuple

from gpuwatch.store.database import Dropped

if TYPE_CHECKING:
    from gpuwatch.store.postgres import PostgresStore

_DAY_MS = 86_400_000
WEEK_MS = 7 * _DAY_MS
_LONGEST_AGO_MS = 20 * 366 * _DAY_MS
"""Older rows are of a clock that was wrong: they stay in ``_other``, which keeps the number of partitions bounded."""
_ROW_BYTES = 160
"""What a block or shape takes beside its data: head, key and index entries."""


class Part(NamedTuple):
    """A partition: rows with start_ms <= time < end_ms. ``tier_seconds`` 0: the table has no tiers."""

    table: str
    name: str
    tier_seconds: int
    start_ms: int
    end_ms: int


SPANS: Dict[str, Dict[int, int]] = {
    "block": {0: WEEK_MS},
    "process_interval": {0: 4 * WEEK_MS},
    "rollup": {60: WEEK_MS, 900: 8 * WEEK_MS, 3600: 52 * WEEK_MS},
}
"""Table: tier (0: it has none): length of a partition in ms."""
_WITH_END = ("block", "process_interval")
_SLACK_BYTES = 16 * 1024**2
_NAME = re.compile(r"_p(?P<tier>\d+)_(?P<start>\d+)_(?P<end>\d+)$")


class Partitions:
    """The partitions of one store's tables."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def prepare(self) -> None:
        """For new tables: the ``_other`` partitions, and those of now. Raises StoreError."""
        missing = [table for table in self._tables() if f"{table}_other" not in self._names(table)]
        if not missing:
            self.tend()
            return
        with self._store.writing():
            for table in missing:
                self._store.change(f"CREATE TABLE IF NOT EXISTS {table}_other PARTITION OF {table} DEFAULT")
            self.tend()

    def tend(self) -> None:
        """Partitions for now and the next span, and for what lies in ``_other``. Raises StoreError."""
        now_ms = round(time.time() * 1000)
        for table in self._tables():
            for tier, span_ms in SPANS[table].items():
                this_ms = now_ms // span_ms * span_ms
                where = f"WHERE tier_seconds = {tier}" if tier else ""
                rows = self._store.rows(f"SELECT DISTINCT start_ms / {span_ms} FROM {table}_other {where}")
                found = {number * span_ms for (number,) in rows if now_ms - _LONGEST_AGO_MS < number * span_ms < now_ms}
                self._make(table, tier, found | {this_ms, this_ms + span_ms})

    def squeeze(self) -> None:
        """Write one partition anew whose blocks were thinned: nothing new comes into it, so its space would stay unused. Raises StoreError.

        Who asks for that time waits meanwhile. Outside ``writing()``.
        """
        now_ms = round(time.time() * 1000)
        for part in self._parts("block"):
            if part.end_ms < now_ms - _DAY_MS:
                ((count, size, files),) = self._store.rows(
                    f"SELECT count(*), coalesce(sum(size), 0), pg_total_relation_size('{part.name}') FROM {part.name}"
                )
                if files > 2 * (size + count * _ROW_BYTES) + _SLACK_BYTES:
                    self._store.run_alone(f"VACUUM (FULL, ANALYZE) {part.name}")
                    return

    def make_room(self, table: str, start_ms: int, end_ms: int) -> None:
        """Partitions for rows of that time, as far as that is sensible. Raises StoreError."""
        now_ms = round(time.time() * 1000)
        first_ms, last_ms = max(start_ms, now_ms - _LONGEST_AGO_MS), min(end_ms, now_ms)
        for tier, span_ms in SPANS.get(table, {}).items() if table in self._tables() else ():
            self._make(table, tier, set(range(first_ms // span_ms * span_ms, last_ms + 1, span_ms)))

    def cutoff_ms(self, table: str, before_ms: int, tier_seconds: int = 0) -> int:
        """The start of the partition that ``before_ms`` lies in: what is younger goes with its partition."""
        span_ms = SPANS.get(table, {}).get(tier_seconds, 1)
        return before_ms // span_ms * span_ms

    def drop_before(self, table: str, before_ms: int, tier_seconds: int = 0) -> Dropped:
        """Drop the partitions that end before, and of which nothing reaches further. Raises StoreError."""
        figures = "count(*), coalesce(sum(count), 0), coalesce(sum(size), 0)" if table == "block" else "count(*), 0, 0"
        dropped = Dropped()
        old = [part for part in self._parts(table) if part.end_ms <= before_ms and part.tier_seconds == tier_seconds]
        for part in old:
            if table in _WITH_END and self._store.rows(f"SELECT 1 FROM {part.name} WHERE end_ms >= ? LIMIT 1", (before_ms,)):
                continue
            with self._store.writing():
                (counted,) = self._store.rows(f"SELECT {figures} FROM {part.name}")
                self._store.change(f"DROP TABLE {part.name}")
            dropped = Dropped(*map(sum, zip(dropped, counted)))
        return dropped

    def used_bytes(self, total_bytes: int) -> int:
        """``total_bytes`` with the share of blocks and shapes by what they hold: files of a server do not shrink when rows are deleted."""
        ((files,),) = self._store.rows(
            """SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM (SELECT inhrelid AS oid FROM pg_inherits
               WHERE inhparent = to_regclass('block') UNION SELECT to_regclass('shape')) AS table_"""
        )
        ((blocks, size),) = self._store.rows("SELECT count(*), coalesce(sum(size), 0) FROM block")
        ((shapes, docs),) = self._store.rows("SELECT count(*), coalesce(sum(pg_column_size(doc) + coalesce(pg_column_size(example), 0)), 0) FROM shape")
        used: int = total_bytes - files + size + docs + (blocks + shapes) * _ROW_BYTES
        return used

    def _tables(self) -> List[str]:
        rows = self._store.rows("SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = current_schema()::regnamespace")
        return sorted(name for (name,) in rows if name in SPANS)

    def _names(self, table: str) -> List[str]:
        rows = self._store.rows(
            """SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = to_regclass(?)""", (table,)
        )
        return [name for (name,) in rows]

    def _parts(self, table: str) -> List[Part]:
        found = [(name, _NAME.search(name)) for name in self._names(table)]
        return sorted(Part(table, name, int(match["tier"]), int(match["start"]), int(match["end"])) for name, match in found if match)

    def _make(self, table: str, tier: int, starts: Set[int]) -> None:
        known = [part for part in self._parts(table) if part.tier_seconds == tier]
        for start_ms in sorted(starts):
            end_ms = start_ms + SPANS[table][tier]
            if start_ms >= 0 and not any(part.start_ms < end_ms and start_ms < part.end_ms for part in known):
                self._make_one(Part(table, f"{table}_p{tier}_{start_ms}_{end_ms}", tier, start_ms, end_ms))

    def _make_one(self, part: Part) -> None:
        """Made apart and then attached: that does not keep anybody from reading or writing the table's other partitions."""
        where, bounds = _spelled(part)
        with self._store.writing():
            if part.name in self._names(part.table):  # another process was faster
                return
            change = self._store.change
            change(f"CREATE TABLE {part.name} (LIKE {part.table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
            if self._store.rows(f"SELECT 1 FROM {part.table}_other WHERE {where} LIMIT 1"):
                change(f"WITH moved AS (DELETE FROM {part.table}_other WHERE {where} RETURNING *) INSERT INTO {part.name} SELECT * FROM moved")
            change(f"ALTER TABLE {part.table} ATTACH PARTITION {part.name} FOR VALUES {bounds}")


def _spelled(part: Part) -> Tuple[str, str]:
    """The WHERE of its rows, and its bounds."""
    span = f"start_ms >= {part.start_ms} AND start_ms < {part.end_ms}"
    if part.tier_seconds:
        bounds = f"FROM ({part.tier_seconds}, {part.start_ms}) TO ({part.tier_seconds}, {part.end_ms})"
        return f"tier_seconds = {part.tier_seconds} AND {span}", bounds
    return span, f"FROM ({part.start_ms}) TO ({part.end_ms})"
