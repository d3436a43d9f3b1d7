"""Usage by (day, GPU) and by (day, GPU, user): sums that grow. Days are texts YYYY-MM-DD in the hub's zone, as the digest made them.

What each user had of all GPUs on a day stands in ``user_day`` too, under the machine FLEET, so that a year of a large lab is added up from a few
rows: each transaction that changes the others changes it.
"""

from __future__ import annotations

from dataclasses import fields
from operator import add, attrgetter
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.series import GpuDay, UserDay
from gpuwatch.store.database import Store
from gpuwatch.store.tables import LIVE_MACHINES

_GPU_SUMS = tuple(field.name for field in fields(GpuDay))
_USER_SUMS = tuple(field.name for field in fields(UserDay))
GPU_KEYS = ("machine_id", "day", "gpu_uuid")
USER_KEYS = (*GPU_KEYS, "user_name")
_BATCH = 500
_MOST_ROWS = 5000
"""Rows of one block: more than any machine has. Those beyond are a hostile node's."""
_MOST = 1e18
"""Larger sums are no sums of anything that exists."""
_GET_GPU = attrgetter(*_GPU_SUMS)
_GET_USER = attrgetter(*_USER_SUMS)
FLEET = ""
"""Stands for the machine, and ALL for the GPU, where all together are meant."""
ALL = ""


def _upsert(table: str, keys: Sequence[str], sums: Sequence[str]) -> str:
    marks = ", ".join("?" * (len(keys) + len(sums)))
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in sums)
    return f"INSERT INTO {table} ({', '.join((*keys, *sums))}) VALUES ({marks}) ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {added}"


_ADD_GPU = _upsert("gpu_day", GPU_KEYS, _GPU_SUMS)
_ADD_USER = _upsert("user_day", USER_KEYS, _USER_SUMS)


class GpuDayRow(NamedTuple):
    """Sums of one group; a key that was not grouped by is empty."""

    machine_id: str
    day: str
    gpu_uuid: str
    sums: GpuDay


class UserDayRow(NamedTuple):
    """Sums of one group; a key that was not grouped by is empty."""

    machine_id: str
    day: str
    gpu_uuid: str
    user_name: str
    sums: UserDay


def merge(
    store: Store,
    machine_id: str,
    gpu_sums: Mapping[Tuple[str, str], GpuDay],
    user_sums: Mapping[Tuple[str, str, str], UserDay],
    *,
    of_fleet: bool = True,
) -> None:
    """Inside ``writing()``: add a digest's ``gpu_days`` and ``user_days`` to what is stored. ``of_fleet``: not an imported machine."""
    gpu_rows = [(machine_id, *key, *map(_number, _GET_GPU(one))) for key, one in sorted(gpu_sums.items())[:_MOST_ROWS]]
    user_rows = [(machine_id, *key, *map(_number, _GET_USER(one))) for key, one in sorted(user_sums.items())[:_MOST_ROWS]]
    for statement, rows in ((_ADD_GPU, gpu_rows), (_ADD_USER, user_rows + (_of_fleet(user_rows) if of_fleet else []))):
        if rows:
            store.change_many(statement, rows)


def _of_fleet(rows: Iterable[Sequence[Any]]) -> List[Tuple[Any, ...]]:
    """Rows of FLEET for rows (machine, day, GPU, user, sums ...)."""
    found: Dict[Tuple[str, str], Sequence[float]] = {}
    for _, day, _, user, *sums in rows:
        known = found.get((day, user))
        found[day, user] = sums if known is None else list(map(add, known, sums))
    return [(FLEET, day, ALL, user, *sums) for (day, user), sums in found.items()]


def recount(store: Store, days: Iterable[str]) -> None:
    """Inside ``writing()``: the sums of FLEET anew, of days of which rows were deleted."""
    for day in sorted(set(days)):
        columns = ", ".join((*USER_KEYS, *_USER_SUMS))
        rows = store.rows(f"SELECT {columns} FROM user_day WHERE machine_id IN ({LIVE_MACHINES}) AND day = ?", (day,))
        store.change("DELETE FROM user_day WHERE machine_id = ? AND day = ?", (FLEET, day))
        if rows:
            store.change_many(_ADD_USER, _of_fleet(rows))


def _number(value: float) -> float:
    """What a database can add up: a hostile node's endless or missing number counts as nothing."""
    return value if -_MOST < value < _MOST else 0.0


def gpu_days(
    store: Store, first_day: str, last_day: str, machine_ids: Optional[Iterable[str]] = None, *, by: Sequence[str] = GPU_KEYS
) -> List[GpuDayRow]:
    """Sums over the days ``first_day`` to ``last_day``, both included, of all machines or some, grouped ``by`` some of GPU_KEYS."""
    found = _sums(store, "gpu_day", (GPU_KEYS, _GPU_SUMS), (first_day, last_day), machine_ids, by)
    return [GpuDayRow(machine_id, day, uuid, GpuDay(*sums)) for (machine_id, day, uuid), sums in found.items()]


def user_days(
    store: Store,
    first_day: str,
    last_day: str,
    machine_ids: Optional[Iterable[str]] = None,
    *,
    user: Optional[str] = None,
    by: Sequence[str] = USER_KEYS,
) -> List[UserDayRow]:
    """The same of users, grouped ``by`` some of USER_KEYS; with ``user`` of that one alone."""
    found = _sums(store, "user_day", (USER_KEYS, _USER_SUMS), (first_day, last_day), machine_ids, by, user)
    return [UserDayRow(machine_id, day, uuid, name, UserDay(*sums)) for (machine_id, day, uuid, name), sums in found.items()]


def _sums(
    store: Store,
    table: str,
    columns: Tuple[Sequence[str], Sequence[str]],
    days: Tuple[str, str],
    machine_ids: Optional[Iterable[str]],
    by: Sequence[str],
    user: Optional[str] = None,
) -> Mapping[Tuple[Any, ...], Tuple[float, ...]]:
    """Keys (empty where not grouped by) and sums of each group. The database adds up: it does so much faster."""
    keys, sums = columns
    shown = [name if name in by else "''" for name in keys]
    grouped = [name for name in keys if name in by]
    summed = list(sums) if len(grouped) == len(keys) else [f"sum({name})" for name in sums]
    ending = f" GROUP BY {', '.join(grouped)}" if grouped and len(grouped) < len(keys) else ""
    ending += f" ORDER BY {', '.join(grouped)}" if grouped else " HAVING count(*) > 0"
    known = LIVE_MACHINES if machine_ids is None else "SELECT id FROM machine"
    where, parameters = f"machine_id IN ({known}) AND day BETWEEN ? AND ?", [*days]
    if machine_ids is None and table == "user_day" and not {"machine_id", "gpu_uuid"}.intersection(by):
        where, parameters = "machine_id = ? AND day BETWEEN ? AND ?", [FLEET, *days]
    if user is not None:
        where, parameters = f"{where} AND user_name = ?", [*parameters, user]
    found: Dict[Tuple[Any, ...], Tuple[float, ...]] = {}
    for ids in _batches(machine_ids):
        chosen = f" AND machine_id IN ({', '.join('?' * len(ids))})" if ids else ""
        for row in store.rows(f"SELECT {', '.join([*shown, *summed])} FROM {table} WHERE {where}{chosen}{ending}", (*parameters, *ids)):
            key, numbers = row[: len(keys)], row[len(keys) :]
            found[key] = tuple(map(add, found[key], numbers)) if key in found else numbers
    return found


def _batches(machine_ids: Optional[Iterable[str]]) -> List[Sequence[str]]:
    """Few enough for one statement each; one empty batch stands for all machines."""
    if machine_ids is None:
        return [()]
    ids = sorted(set(machine_ids))
    return [ids[first : first + _BATCH] for first in range(0, len(ids), _BATCH)]


def days(store: Store, machine_id: str, first_day: str, last_day: str) -> List[str]:
    """The days from one to another, both included, of which a machine has sums."""
    rows = store.rows("SELECT DISTINCT day FROM gpu_day WHERE machine_id = ? AND day BETWEEN ? AND ? ORDER BY day", (machine_id, first_day, last_day))
    return [day for (day,) in rows]


def forget_user(store: Store, user: str) -> int:
    """Delete all sums of a user, in small transactions; how many rows. Sums of GPUs keep what was theirs: reports tell it as nobody's."""
    total = 0
    for (machine_id,) in store.rows("SELECT DISTINCT machine_id FROM user_day WHERE user_name = ?", (user,)):
        days = store.rows("SELECT DISTINCT day FROM user_day WHERE machine_id = ? AND user_name = ?", (machine_id, user))
        for first in range(0, len(days), _BATCH):
            with store.writing():
                keys = [(machine_id, day, user) for (day,) in days[first : first + _BATCH]]
                deleted = store.change_many("DELETE FROM user_day WHERE machine_id = ? AND day = ? AND user_name = ?", keys)
                total += 0 if machine_id == FLEET else deleted
            store.rest()
    return total


def move(store: Store, source: str, into: str, most: int) -> int:
    """Inside ``writing()``: add at most ``most`` rows of each table of machine ``source`` to those of ``into``; how many. Both are of the fleet."""
    moved = 0
    for table, statement, keys, sums in (("gpu_day", _ADD_GPU, GPU_KEYS, _GPU_SUMS), ("user_day", _ADD_USER, USER_KEYS, _USER_SUMS)):
        rows = store.rows(f"SELECT {', '.join((*keys, *sums))} FROM {table} WHERE machine_id = ? LIMIT ?", (source, most))
        if rows:
            where = " AND ".join(f"{name} = ?" for name in keys)
            store.change_many(f"DELETE FROM {table} WHERE {where}", [row[: len(keys)] for row in rows])
            moved += store.change_many(statement, [(into, *row[1:]) for row in rows])
    return moved
