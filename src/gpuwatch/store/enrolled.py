"""Machines that send by themselves: who they are, what they are known by, and whether they are let in. Never holds a token or code in the clear.

A pushing node's key is kept as it is, since its requests are signed with it; the database's file is readable by its owner alone.
Every change of who is enrolled counts up ``epoch``, so that hubs notice what another process did.
"""

from __future__ import annotations

import secrets
from typing import Any, Collection, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.store.database import Rows, Store
from gpuwatch.store.tables import IMPORTED

APPROVED, WAITING = "approved", "waiting"
EPOCH = "enrolled_epoch"
_COLUMNS = "id, kind, name, secret, state, detail, first_address, last_address, created_at_ms, seen_at_ms"
_COUNT_UP = """INSERT INTO meta (key, value) VALUES (?, '1')
    ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(meta.value AS INTEGER) + 1 AS TEXT)"""
_IDS_AT_ONCE = 500
_LONGEST_STEM = 180
"""A name has 200 characters at most, its suffix included."""


class Enrolled(NamedTuple):
    """One enrolled machine; see ``tables.Enrolled``. Times in epoch seconds."""

    id: str
    kind: str
    name: str
    secret: str
    state: str
    detail: str
    first_address: str
    last_address: str
    created_at: float
    seen_at: Optional[float]


def list_all(store: Store, kind: str = "") -> List[Enrolled]:
    """All of them, or of one kind, the first ones first."""
    where, values = ("WHERE kind = ?", (kind,)) if kind else ("", ())
    return _read(store.rows(f"SELECT {_COLUMNS} FROM enrolled {where} ORDER BY created_at_ms, id", values))


def find(store: Store, id: str) -> Optional[Enrolled]:
    """The one with this id; None = there is none."""
    return next(iter(_read(store.rows(f"SELECT {_COLUMNS} FROM enrolled WHERE id = ?", (id,)))), None)


def named(store: Store, name: str) -> Optional[Enrolled]:
    """The one of this name; None = there is none."""
    return next(iter(_read(store.rows(f"SELECT {_COLUMNS} FROM enrolled WHERE name = ?", (name,)))), None)


def of_secret(store: Store, kind: str, secret: str) -> Optional[Enrolled]:
    """The one of a kind that is known by this hash of a token; None = there is none."""
    return next(iter(_read(store.rows(f"SELECT {_COLUMNS} FROM enrolled WHERE kind = ? AND secret = ? AND secret != ''", (kind, secret)))), None)


def add(
    store: Store, *, kind: str, name: str, address: str, now: float, secret: str = "", state: str = APPROVED, detail: str = "{}", id: str = "",
    taken: Collection[str] = (), may_take: Collection[str] = (),
) -> Enrolled:  # fmt: skip
    """Enrol a machine; ``name`` (one that ``config.hosts.is_name`` takes) gets a suffix where it is taken. ``id``: made up if empty.

    Taken are the names of all enrolled and all known machines, and those in ``taken``; but not those in ``may_take`` as long as nobody is enrolled so.
    """
    made = id or secrets.token_hex(16)
    at_ms = round(now * 1000)
    with store.writing():
        chosen = free_name(store, name, taken, may_take)
        store.change(
            f"INSERT INTO enrolled ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (made, kind, chosen, secret, state, detail, address, address, at_ms, None),
        )
        start_epoch(store)
    return Enrolled(made, kind, chosen, secret, state, detail, address, address, at_ms / 1000, None)


def free_name(store: Store, name: str, taken: Collection[str] = (), may_take: Collection[str] = ()) -> str:
    """``name``, or ``name-2``, ``name-3`` ... where it is taken (as ``add`` says)."""
    used = {row[0] for row in store.rows("SELECT name FROM enrolled")}
    known = {row[0] for row in store.rows("SELECT name FROM machine")}.union(taken).difference(may_take)
    wanted, number = name, 1
    while wanted in used or wanted in known or wanted.startswith(IMPORTED):
        number += 1
        wanted = f"{name.replace(':', '-')[:_LONGEST_STEM]}-{number}"
    return wanted


def change(store: Store, id: str, *, state: Optional[str] = None, secret: Optional[str] = None, detail: Optional[str] = None, name: Optional[str] = None) -> bool:
    """Change what is given; False = there is none of this id. ``name`` must be free."""
    changes = {"state": state, "secret": secret, "detail": detail, "name": name}
    given = {column: value for column, value in changes.items() if value is not None}
    with store.writing():
        found = store.change(f"UPDATE enrolled SET {', '.join(f'{column} = ?' for column in given)} WHERE id = ?", (*given.values(), id))
        start_epoch(store)
    return bool(found)


def remove(store: Store, id: str) -> bool:
    """It may send no more; what was kept of it stays. False = there is none of this id."""
    with store.writing():
        found = store.change("DELETE FROM enrolled WHERE id = ?", (id,))
        store.change("DELETE FROM pushed WHERE id = ?", (id,))
        start_epoch(store)
    return bool(found)


def touch(store: Store, seen: Iterable[Tuple[str, str, float]]) -> None:
    """Note when and from which address they were last heard: (id, address, epoch seconds)."""
    rows = [(address, round(at * 1000), id) for id, address, at in seen]
    if rows:
        with store.writing():
            store.change_many("UPDATE enrolled SET last_address = ?, seen_at_ms = ? WHERE id = ?", rows)


def pushed(store: Store, ids: Sequence[str]) -> Dict[str, int]:
    """How far the pushes of these are stored: id -> last sequence; those of whom nothing is are left out."""
    found: Dict[str, int] = {}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[start : start + _IDS_AT_ONCE]
        rows = store.rows(f"SELECT id, sequence FROM pushed WHERE id IN ({', '.join('?' * len(some))})", some)
        found.update((id, sequence) for id, sequence in rows)
    return found


def set_pushed(store: Store, sequences: Mapping[str, int]) -> None:
    """Inside ``writing()``, with the snapshots themselves: they are stored up to here."""
    store.change_many(
        """INSERT INTO pushed (id, sequence) VALUES (?, ?)
           ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence WHERE pushed.sequence < excluded.sequence""",
        list(sequences.items()),
    )


def make_way(store: Store, id: str, taken: Collection[str]) -> str:
    """Its name is wanted by the hosts file: it, and the machine with its past, get another one, which is returned."""
    with store.writing():
        ((name,),) = store.rows("SELECT name FROM enrolled WHERE id = ?", (id,)) or [("",)]
        if not name:
            return ""
        new = free_name(store, name, taken)
        store.change("UPDATE enrolled SET name = ? WHERE id = ?", (new, id))
        store.change("UPDATE machine SET name = ? WHERE name = ?", (new, name))
        start_epoch(store)
    return new


def follow(store: Store, name: str, new: str) -> None:
    """Inside ``writing()``: the machine of this name is called otherwise now."""
    if store.change("UPDATE enrolled SET name = ? WHERE name = ?", (new, name)):
        start_epoch(store)


def epoch(store: Store) -> str:
    """Another one after every change of who is enrolled, by whichever process."""
    rows = store.rows("SELECT value FROM meta WHERE key = ?", (EPOCH,))
    return str(rows[0][0]) if rows else ""


def require(store: Store, name_or_id: str) -> Enrolled:
    """The one of this name or id. Raises UsageError if there is none."""
    found = named(store, name_or_id) or find(store, name_or_id)
    if found is None:
        raise UsageError(f"Nothing of the name {name_or_id[:80]!r} is enrolled.", "See all with: gpuwatch enroll list")
    return found


def start_epoch(store: Store) -> None:
    """Inside ``writing()``: tell all hubs that what is enrolled changed."""
    store.change(_COUNT_UP, (EPOCH,))


def _read(rows: Rows) -> List[Enrolled]:
    return [_row(row) for row in rows]


def _row(row: Tuple[Any, ...]) -> Enrolled:
    return Enrolled._make((*row[:8], row[8] / 1000, None if row[9] is None else row[9] / 1000))
