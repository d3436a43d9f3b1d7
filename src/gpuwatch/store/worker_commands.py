"""Orders to workers of seed 001: a queue in the database, each change a compare-and-set in one transaction.

    pending -> running -> completed | failed            pending -> stopped
                  running -> stopping -> stopped | completed | failed

At most once: a command is ``running`` before its worker hears of it, and is never given again. Where that reply was lost nobody knows, so a command of
which nothing was heard for ``SILENT_SECONDS`` is ``failed`` and says that it may have run. What is stopping stays so whatever the worker reports as
running; what has ended stays as it ended, and a report that comes again changes nothing.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Tuple

from gpuwatch.model.errors import UsageError
from gpuwatch.store.database import Store

PENDING, RUNNING, STOPPING, STOPPED, COMPLETED, FAILED = "pending", "running", "stopping", "stopped", "completed", "failed"
STATES = (PENDING, RUNNING, STOPPING, STOPPED, COMPLETED, FAILED)
ENDED = (STOPPED, COMPLETED, FAILED)
SILENT_SECONDS = 7200.0
"""Its newest worker ends what runs for an hour; older ones after a minute."""
SILENCE = "\nNothing was heard of it for 2 hours: it may have run or not. The worker, or the answer that brought it there, was lost."
MOST_TEXT = 4000
MOST_PENDING = 100
"""Of one worker."""
MOST_KEPT = 200
"""Of one worker; older ones that have ended go when another one is queued."""
_COLUMNS = "id, worker_id, command, status, output, created_at_ms, updated_at_ms"


class WorkerCommand(NamedTuple):
    """One order; times in epoch seconds. ``worker_id``: of ``store.enrolled``."""

    id: int
    worker_id: str
    command: str
    status: str
    output: str
    created_at: float
    updated_at: float


def submit(store: Store, worker_id: str, command: str, now: float) -> int:
    """Queue a command; its id. Raises UsageError for one that cannot be, and for a full queue."""
    if not command.strip() or len(command) > MOST_TEXT or "\0" in command:
        raise UsageError(f"The command is empty, holds a null character or is longer than {MOST_TEXT} characters.")
    at_ms = round(now * 1000)
    with store.writing():
        ((waiting,),) = store.rows("SELECT count(*) FROM worker_command WHERE worker_id = ? AND status = ?", (worker_id, PENDING))
        if waiting >= MOST_PENDING:
            raise UsageError(f"{waiting} commands wait for this worker already.", "Stop some, or wait until it fetched them.")
        ((id,),) = store.rows("SELECT coalesce(max(id), 0) + 1 FROM worker_command")
        store.change(f"INSERT INTO worker_command ({_COLUMNS}) VALUES (?, ?, ?, ?, '', ?, ?)", (id, worker_id, command, PENDING, at_ms, at_ms))
        oldest = "SELECT id FROM worker_command WHERE worker_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        store.change(
            f"DELETE FROM worker_command WHERE worker_id = ? AND status IN (?, ?, ?) AND id <= ({oldest})", (worker_id, *ENDED, worker_id, MOST_KEPT)
        )
    return int(id)


def take(store: Store, worker_id: str, now: float) -> Optional[WorkerCommand]:
    """The oldest pending command of this worker, running from now on; None = there is none."""
    found = _of(store.rows(f"SELECT {_COLUMNS} FROM worker_command WHERE worker_id = ? AND status = ? ORDER BY id LIMIT 1", (worker_id, PENDING)))
    if not found:
        return None
    with store.writing():  # another request of the worker, or a stop, may have been faster
        return found[0]._replace(status=RUNNING) if _set(store, found[0].id, (PENDING,), RUNNING, now) else None


def find(store: Store, worker_id: str, id: int) -> Optional[WorkerCommand]:
    """One command of this worker; None where there is none, or where it is another one's."""
    if not 0 < id < 2**62:
        return None
    return next(iter(_of(store.rows(f"SELECT {_COLUMNS} FROM worker_command WHERE id = ? AND worker_id = ?", (id, worker_id)))), None)


def report(store: Store, worker_id: str, id: int, status: str, output: str, now: float) -> bool:
    """What the worker says: ``running`` with all output so far, or how it ended. False = it has no such command, or was never given it."""
    known = find(store, worker_id, id)
    if known is None or known.status == PENDING:
        return False
    with store.writing():
        if status == RUNNING:
            changes = "output = ?, updated_at_ms = ? WHERE id = ? AND status IN (?, ?)"
            store.change(f"UPDATE worker_command SET {changes}", (output, round(now * 1000), id, RUNNING, STOPPING))
        else:
            _set(store, id, (RUNNING, STOPPING), status, now, output)
    return True


def stop(store: Store, id: int, now: float) -> str:
    """End a command: at once if its worker has not fetched it, else its worker is told. The state it has then. Raises UsageError for an unknown one."""
    with store.writing():
        if not _set(store, id, (PENDING,), STOPPED, now):
            _set(store, id, (RUNNING,), STOPPING, now)
        rows = store.rows("SELECT status FROM worker_command WHERE id = ?", (id,))
    if not rows:
        raise UsageError(f"There is no command {id}.")
    return str(rows[0][0])


def give_up_silent(store: Store, now: float) -> int:
    """Commands that nothing was heard of become ``failed``; how many."""
    before_ms = round((now - SILENT_SECONDS) * 1000)
    rows = store.rows("SELECT id FROM worker_command WHERE status IN (?, ?) AND updated_at_ms < ?", (RUNNING, STOPPING, before_ms))
    if not rows:
        return 0
    with store.writing():
        return store.change_many(
            "UPDATE worker_command SET status = ?, output = output || ?, updated_at_ms = ? WHERE id = ? AND status IN (?, ?) AND updated_at_ms < ?",
            [(FAILED, SILENCE, round(now * 1000), id, RUNNING, STOPPING, before_ms) for (id,) in rows],
        )


def newest(store: Store, worker_id: str, limit: int = 10) -> List[WorkerCommand]:
    """The newest commands of a worker, newest first."""
    return _of(store.rows(f"SELECT {_COLUMNS} FROM worker_command WHERE worker_id = ? ORDER BY id DESC LIMIT ?", (worker_id, limit)))


def forget(store: Store, worker_id: str) -> None:
    """Inside ``writing()``: the worker is gone, and what was asked of it."""
    store.change("DELETE FROM worker_command WHERE worker_id = ?", (worker_id,))


def _set(store: Store, id: int, old: Tuple[str, ...], new: str, now: float, output: Optional[str] = None) -> bool:
    """From one of the states ``old`` to ``new``; False if it is in another one."""
    told = "" if output is None else ", output = ?"
    values: List[Any] = [new, round(now * 1000), *([] if output is None else [output]), id, *old]
    places = ", ".join("?" * len(old))
    return bool(store.change(f"UPDATE worker_command SET status = ?, updated_at_ms = ?{told} WHERE id = ? AND status IN ({places})", values))


def _of(rows: List[Tuple[Any, ...]]) -> List[WorkerCommand]:
    return [WorkerCommand._make((*row[:5], row[5] / 1000, row[6] / 1000)) for row in rows]
