"""One database into another, of the same or another kind: in chunks, resumable, and compared afterwards by counts and checksums.

How far it came stands in the target, written in the transactions that bring the rows: exactly once, however often it is broken off. Nobody else
may write either database meanwhile; ``cli`` sees to that by the hubs' locks.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type

from peewee import BlobField

from gpuwatch.model.errors import StoreError
from gpuwatch.store import packing
from gpuwatch.store.database import Rows, Store
from gpuwatch.store.tables import KEPT, Meta, Table

MARK = "copy"
"""Key of ``meta`` in a target while it is being filled; its value: JSON of ``_State``."""
_OWN_KEYS = ("schema_version", "journal_epoch", MARK)
"""Of ``meta``: not copied, each database has its own."""
_ROW_BYTES = 100
"""What a row counts beside its bytes, for progress."""
_CHUNK_BYTES = 4 * 1024**2
_CHUNK_ROWS = (16, 5000)
_UPSERT = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

Progress = Callable[[int], None]
"""Called with bytes done since the last call."""


@dataclass(frozen=True)
class Comparison:
    """One table in both databases; the checksums do not depend on the order of rows."""

    table: str
    source_rows: int
    target_rows: int
    source_sum: str
    target_sum: str

    @property
    def same(self) -> bool:
        """They hold the same rows."""
        return (self.source_rows, self.source_sum) == (self.target_rows, self.target_sum)


@dataclass
class _State:
    """How far a copy came."""

    source: str
    fingerprint: str
    after: Dict[str, Optional[List[Any]]]
    """Table: key of the last row that was copied; None: all of it is."""


def total_bytes(store: Store) -> int:
    """About how much there is to copy, as ``Progress`` counts it. Raises StoreError."""
    return sum(_bytes_of(store, table) for table in KEPT)


def done_bytes(source: Store, target: Store) -> int:
    """About how much of it an earlier copy into ``target`` brought already. Raises StoreError."""
    begun = target.rows("SELECT 1 FROM meta WHERE key = ?", (MARK,))
    return min(total_bytes(source), total_bytes(target)) if begun else 0


def copy(source: Store, target: Store, *, afresh: bool = False, progress: Progress = lambda done: None) -> None:
    """Fill the empty ``target`` with all of ``source``, or go on where an earlier copy was broken off. ``finish`` it afterwards.

    ``afresh``: throw away what an earlier copy brought. Raises StoreError: for a target that holds other data, for a source that changed
    since the copy began, and for whatever the databases refuse.
    """
    state = _begin(source, target, afresh)
    for table in KEPT:
        _copy_table(source, target, table, state, progress)
    with target.writing():
        target.settle_counters()
        packing.start_epoch(target)


def finish(target: Store) -> None:
    """The copy was compared and is good: the target is a database like any other from now on. Raises StoreError."""
    with target.writing():
        target.change("DELETE FROM meta WHERE key = ?", (MARK,))


def compare(source: Store, target: Store, *, progress: Progress = lambda done: None) -> List[Comparison]:
    """Read both; ``progress`` gets the bytes of the source and of the target. Raises StoreError."""
    compared = []
    for table in KEPT:
        sums = [_checksum(store, table, progress) for store in (source, target)]
        compared.append(Comparison(_name(table), sums[0][0], sums[1][0], sums[0][1], sums[1][1]))
    return compared


def _begin(source: Store, target: Store, afresh: bool) -> _State:
    fingerprint = _fingerprint(source)
    rows = target.rows("SELECT value FROM meta WHERE key = ?", (MARK,))
    if rows and not afresh:
        state = _State(**json.loads(rows[0][0]))
        if (state.source, state.fingerprint) != (source.label, fingerprint):
            raise StoreError(f"{source.label} is not what the copy into {target.label} was begun with, or changed since.", "Begin again: --afresh")
        return state
    if rows:
        _empty(target)
    elif any(target.rows(f"SELECT 1 FROM {_name(table)} LIMIT 1") for table in KEPT if table is not Meta):
        raise StoreError(f"The database {target.label} holds data already.", "Copy into an empty one.")
    state = _State(source.label, fingerprint, {_name(table): [] for table in KEPT})
    with target.writing():
        _save(target, state)
    for table in KEPT:
        _make_room(source, target, table)
    return state


def _fingerprint(store: Store) -> str:
    """Changes when anybody writes snapshots or events, or deletes some."""
    with store.reading():
        block = store.rows("SELECT count(*), max(start_ms), min(start_ms) FROM block")[0]
        journal = store.rows("SELECT count(*), max(taken_at_ms), min(taken_at_ms) FROM snapshot_journal")[0]
        return json.dumps([block, journal, store.rows("SELECT count(*), max(id) FROM event")[0]])


def _empty(target: Store) -> None:
    with target.writing():
        for table in KEPT:
            target.change(f"DELETE FROM {_name(table)}" + (f" WHERE key NOT IN {_OWN_KEYS}" if table is Meta else ""))


def _make_room(source: Store, target: Store, table: Type[Table]) -> None:
    if "start_ms" in _columns(table):
        ((first_ms, last_ms),) = source.rows(f"SELECT min(start_ms), max(start_ms) FROM {_name(table)}")
        if first_ms is not None:
            target.make_room(_name(table), first_ms, last_ms)


def _copy_table(source: Store, target: Store, table: Type[Table], state: _State, progress: Progress) -> None:
    name, columns = _name(table), _columns(table)
    for rows, after in _chunks(source, table, state.after[name]):
        state.after[name] = after
        with target.writing():
            if rows:
                if table is Meta:
                    target.change_many(_UPSERT, rows)
                else:
                    target.load(name, columns, rows)
            _save(target, state)
        progress(sum(map(_row_bytes, rows)))


def _chunks(store: Store, table: Type[Table], after: Optional[List[Any]]) -> Iterator[Tuple[Rows, Optional[List[Any]]]]:
    """Rows in the order of their key from ``after`` on, each time with the last one's key; None with the last of them."""
    columns, key = _columns(table), _key(table)
    places = [columns.index(name) for name in key]
    shown, ordered = ", ".join(map(_quoted, columns)), ", ".join(key)
    own = f"key NOT IN {_OWN_KEYS}" if table is Meta else ""
    most = 100
    while after is not None:
        beyond = f"({ordered}) > ({', '.join('?' * len(key))})" if after else ""
        where = " AND ".join(filter(None, (own, beyond)))
        rows = store.rows(f"SELECT {shown} FROM {_name(table)}{' WHERE ' + where if where else ''} ORDER BY {ordered} LIMIT ?", (*after, most))
        after = [rows[-1][place] for place in places] if len(rows) == most else None
        yield rows, after
        size = max(1, sum(map(_row_bytes, rows)))
        most = min(max(_CHUNK_ROWS[0], most * _CHUNK_BYTES // size), 4 * most, _CHUNK_ROWS[1])


def _checksum(store: Store, table: Type[Table], progress: Progress) -> Tuple[int, str]:
    count = total = 0
    for rows, _ in _chunks(store, table, []):
        count += len(rows)
        total += sum(map(_number_of, rows))
        progress(sum(map(_row_bytes, rows)))
    return count, f"{total % 2**128:032x}"


def _number_of(row: Sequence[Any]) -> int:
    """128 bits that are the same whatever database the row comes from. PostgreSQL keeps no NUL in a text."""
    plain = repr([len(value) if isinstance(value, bytes) else value for value in row]).replace("\\x00", "\ufffd")
    made = hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=16)
    for value in row:
        if isinstance(value, bytes):
            made.update(value)
    return int.from_bytes(made.digest(), "little")


def _row_bytes(row: Sequence[Any]) -> int:
    return _ROW_BYTES + sum(len(value) for value in row if isinstance(value, bytes))


def _bytes_of(store: Store, table: Type[Table]) -> int:
    blobs = [_quoted(field.column_name) for field in table._meta.sorted_fields if isinstance(field, BlobField)]
    size = "size" if "size" in _columns(table) else " + ".join(f"coalesce(length({blob}), 0)" for blob in blobs) or "0"
    ((count, total),) = store.rows(f"SELECT count(*), coalesce(sum({size}), 0) FROM {_name(table)}")
    return int(count * _ROW_BYTES + total)


def _save(target: Store, state: _State) -> None:
    value = json.dumps({"source": state.source, "fingerprint": state.fingerprint, "after": state.after})
    target.change(_UPSERT, (MARK, value))


def _name(table: Type[Table]) -> str:
    return str(table._meta.table_name)


def _columns(table: Type[Table]) -> List[str]:
    return [field.column_name for field in table._meta.sorted_fields]


def _key(table: Type[Table]) -> List[str]:
    key: Any = table._meta.primary_key
    return list(getattr(key, "field_names", (key.name,)))


def _quoted(column: str) -> str:
    return f'"{column}"'


def as_mapping(compared: Sequence[Comparison]) -> Mapping[str, Any]:
    """For JSON."""
    return {one.table: {"source_rows": one.source_rows, "target_rows": one.target_rows, "same": one.same} for one in compared}
