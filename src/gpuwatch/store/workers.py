"""Workers of seed 001 as they are enrolled: who waits, who is let in, and from where. Never holds a token in the clear.

A worker's token is made of a key of this database and the row's seed (its ``secret``), so that it can be told again to whom it belongs. A worker id is
bound to the address from which it was let in; the same id from another address waits in a row of its own until an administrator lets it take the place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from contextlib import nullcontext
from typing import Any, Collection, List, NamedTuple, Optional

from gpuwatch.model.errors import UsageError
from gpuwatch.store import enrolled, worker_commands
from gpuwatch.store.database import Store
from gpuwatch.store.enrolled import APPROVED, WAITING, Enrolled

KIND = "worker"
KEY = "worker_key"
SILENT_SECONDS = 86400.0
_INERT = "inert:"


class Worker(NamedTuple):
    """One enrolled worker as its protocol knows it."""

    worker_id: str
    """What it calls itself."""
    address: str
    """From which it is let in, or asked to be."""
    row: Enrolled


def of_row(row: Enrolled) -> Worker:
    """The worker of an enrolled machine; a damaged detail is that of a worker whose id is its name."""
    try:
        detail = json.loads(row.detail)
        return Worker(str(detail["worker_id"]), str(detail["address"]), row)
    except (ValueError, TypeError, KeyError):
        return Worker(row.name, row.first_address, row)


def list_all(store: Store) -> List[Worker]:
    """All workers, the first ones first. Raises StoreError."""
    return [of_row(row) for row in enrolled.list_all(store, KIND)]


def key(store: Store) -> bytes:
    """The key of this database that tokens are made with; made if there is none yet. Raises StoreError."""
    rows = store.rows("SELECT value FROM meta WHERE key = ?", (KEY,))
    if not rows:
        with store.writing():
            store.change("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING", (KEY, secrets.token_hex(32)))
            rows = store.rows("SELECT value FROM meta WHERE key = ?", (KEY,))
    return bytes.fromhex(rows[0][0])


def token_of(key: bytes, row: Enrolled) -> str:
    """32 hex digits: the token of this row."""
    return _mac(key, f"token:{row.secret}")


def inert_token(key: bytes) -> str:
    """A token like another one, for whom nothing is kept of: ``is_inert`` knows it again, and nothing else does."""
    nonce = secrets.token_hex(8)
    return nonce + _mac(key, _INERT + nonce)[:16]


def is_inert(key: bytes, token: str) -> bool:
    """Made by ``inert_token``."""
    return len(token) == 32 and hmac.compare_digest(token[16:].encode("utf-8", "replace"), _mac(key, _INERT + token[:16])[:16].encode())


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]


def add(store: Store, worker_id: str, name: str, address: str, state: str, now: float, taken: Collection[str]) -> Enrolled:
    """A new row, APPROVED or WAITING; that of this id and address where another hub was faster. Raises StoreError."""
    with store.writing():
        known = next((one.row for one in list_all(store) if (one.worker_id, one.address) == (worker_id, address)), None)
        if known is not None:
            return known
        return enrolled.add(
            store, kind=KIND, name=name, address=address, now=now, secret=secrets.token_hex(16), state=state, detail=_detail(worker_id, address), taken=taken
        )


def _detail(worker_id: str, address: str) -> str:
    return json.dumps({"worker_id": worker_id, "address": address})


def find(store: Store, wanted: str) -> Worker:
    """The worker of this id (its own, or the row's), or name. Raises UsageError where there is none, or more than one."""
    workers = list_all(store)
    exact = [one for one in workers if wanted in (one.row.id, one.row.name)]
    found = exact or [one for one in workers if one.worker_id == wanted]
    if not found:
        raise UsageError(f"There is no worker {wanted[:80]!r}.", "See all with: gpuwatch worker list")
    if len(found) > 1:
        raise UsageError(f"{len(found)} workers call themselves {wanted[:80]!r}.", f"Name one by its name: {', '.join(one.row.name for one in found)[:200]}")
    return found[0]


def approve(store: Store, wanted: str) -> Worker:
    """Let a waiting worker in. Where its id is let in from another address, it takes that one's place, whose token is then worth nothing.

    Raises UsageError for one that is not there, or does not wait.
    """
    with store.writing():
        chosen = _waiting(store, wanted)
        old = next((one for one in list_all(store) if one.worker_id == chosen.worker_id and one.row.state == APPROVED), None)
        if old is None:
            enrolled.change(store, chosen.row.id, state=APPROVED)
            return chosen._replace(row=chosen.row._replace(state=APPROVED))
        enrolled.remove(store, chosen.row.id)
        detail = _detail(chosen.worker_id, chosen.address)
        enrolled.change(store, old.row.id, secret=chosen.row.secret, detail=detail)
        enrolled.touch(store, [(old.row.id, chosen.address, chosen.row.created_at)])
        return Worker(chosen.worker_id, chosen.address, old.row._replace(secret=chosen.row.secret, detail=detail, last_address=chosen.address))


def _waiting(store: Store, wanted: str) -> Worker:
    waiting = [one for one in list_all(store) if one.row.state == WAITING]
    found = [one for one in waiting if wanted in (one.row.id, one.row.name)] or [one for one in waiting if one.worker_id == wanted]
    if len(found) == 1:
        return found[0]
    chosen = find(store, wanted)  # says that there is none, or several
    raise UsageError(f"{chosen.worker_id[:80]} is let in already, from {chosen.address}.")


def forget(store: Store, wanted: str) -> Worker:
    """It is not let in any more and does not wait; what was kept of its GPUs stays. Raises UsageError for one that is not there."""
    with store.writing():
        chosen = find(store, wanted)
        worker_commands.forget(store, chosen.row.id)
        enrolled.remove(store, chosen.row.id)
    return chosen


def forget_silent(store: Store, now: float) -> int:
    """Those who wait and were not heard for ``SILENT_SECONDS`` wait no more: strangers must not fill the list for ever. How many. Raises StoreError."""
    silent = [row for row in enrolled.list_all(store, KIND) if row.state == WAITING and now - max(row.seen_at or 0.0, row.created_at) > SILENT_SECONDS]
    with store.writing() if silent else nullcontext():
        for row in silent:
            enrolled.remove(store, row.id)
    return len(silent)


def by_token(key: bytes, rows: Collection[Enrolled]) -> Any:
    """Token -> row, of those that are workers."""
    return {token_of(key, row): row for row in rows if row.kind == KIND}


def of_address(workers: Collection[Worker], worker_id: str, address: str) -> Optional[Worker]:
    """The worker of this id that is known from this address."""
    return next((one for one in workers if one.worker_id == worker_id and one.address == address), None)
