"""How the tables came to be: numbered steps, forward only, each in one transaction. A step that was released is never changed again.

Before an existing database is migrated, a copy of it is written beside it.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Callable, Optional, Sequence, Tuple

from gpuwatch.model.errors import StoreError

if TYPE_CHECKING:
    from gpuwatch.store.database import Store

Step = Tuple[str, ...]
"""SQL statements; ``{blob}``, ``{clustered}`` and so on stand for what databases spell differently (``Store.spelling``).

``{by_start}`` and ``{by_tier_and_start}`` end the CREATE TABLE of a large table: a server's database cuts it into partitions.
"""

_FIRST: Step = (
    "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE machine (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, ip_address TEXT NOT NULL, hostname TEXT,
       created_at_ms BIGINT NOT NULL, removed_at_ms BIGINT)""",
    """CREATE TABLE shape (machine_id TEXT NOT NULL, id TEXT NOT NULL, base_id TEXT, last_ms BIGINT NOT NULL, doc {blob} NOT NULL,
       example {blob}, PRIMARY KEY (machine_id, id))""",
    "CREATE INDEX shape_base ON shape (machine_id, last_ms) WHERE base_id IS NULL",
    """CREATE TABLE snapshot_journal (machine_id TEXT NOT NULL, taken_at_ms BIGINT NOT NULL, received_at_ms BIGINT NOT NULL,
       shape_id TEXT NOT NULL, "values" {blob} NOT NULL, PRIMARY KEY (machine_id, taken_at_ms)) {clustered}""",
    """CREATE TABLE block (machine_id TEXT NOT NULL, start_ms BIGINT NOT NULL, sequence INTEGER NOT NULL, end_ms BIGINT NOT NULL,
       count INTEGER NOT NULL, codec INTEGER NOT NULL, schema INTEGER NOT NULL, size INTEGER NOT NULL, data {blob} NOT NULL,
       PRIMARY KEY (machine_id, start_ms, sequence)) {by_start}""",
    "CREATE INDEX block_end ON block (end_ms, start_ms, count, size)",
    """CREATE TABLE gpu_state (machine_id TEXT NOT NULL, gpu_uuid TEXT NOT NULL, state TEXT NOT NULL, since_at_ms BIGINT,
       at_least INTEGER NOT NULL, no_work_since_at_ms BIGINT, recent {blob} NOT NULL, PRIMARY KEY (machine_id, gpu_uuid)) {clustered}""",
    """CREATE TABLE event (id {counter}, machine_id TEXT NOT NULL, at_ms BIGINT NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL,
       gpu_uuid TEXT, message TEXT NOT NULL{counter_key})""",
    "CREATE INDEX event_machine ON event (machine_id, at_ms)",
    "CREATE INDEX event_at ON event (at_ms)",
    "INSERT INTO meta (key, value) VALUES ('schema_version', '0')",
    "INSERT INTO meta (key, value) VALUES ('journal_epoch', '0')",
)

_TIME: Step = (
    # 1 = it is in the rollups, usage and intervals below; 0 = ``backfill`` has yet to do it
    "ALTER TABLE block ADD COLUMN digested INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE block ADD COLUMN step_seconds INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX block_undigested ON block (machine_id, start_ms, sequence) WHERE digested = 0",
    "CREATE INDEX block_full_rate ON block (machine_id, start_ms, sequence, end_ms) WHERE step_seconds = 0",
    """CREATE TABLE rollup (machine_id TEXT NOT NULL, gpu_uuid TEXT NOT NULL, tier_seconds INTEGER NOT NULL, start_ms BIGINT NOT NULL,
       size INTEGER NOT NULL, data {blob} NOT NULL, PRIMARY KEY (machine_id, gpu_uuid, tier_seconds, start_ms)) {clustered} {by_tier_and_start}""",
    """CREATE TABLE rollup_part (machine_id TEXT NOT NULL, source_id TEXT NOT NULL, start_ms BIGINT NOT NULL, sequence INTEGER NOT NULL,
       data {blob} NOT NULL, PRIMARY KEY (machine_id, source_id, start_ms, sequence)) {clustered}""",
    """CREATE TABLE gpu_day (machine_id TEXT NOT NULL, day TEXT NOT NULL, gpu_uuid TEXT NOT NULL, measured_seconds DOUBLE PRECISION NOT NULL,
       held_seconds DOUBLE PRECISION NOT NULL, busy_seconds DOUBLE PRECISION NOT NULL, idle_seconds DOUBLE PRECISION NOT NULL,
       unknown_seconds DOUBLE PRECISION NOT NULL, unattributed_seconds DOUBLE PRECISION NOT NULL, memory_gib_hours DOUBLE PRECISION NOT NULL,
       energy_joules DOUBLE PRECISION NOT NULL, PRIMARY KEY (machine_id, day, gpu_uuid)) {clustered}""",
    """CREATE TABLE user_day (machine_id TEXT NOT NULL, day TEXT NOT NULL, gpu_uuid TEXT NOT NULL, user_name TEXT NOT NULL,
       held_seconds DOUBLE PRECISION NOT NULL, busy_seconds DOUBLE PRECISION NOT NULL, idle_seconds DOUBLE PRECISION NOT NULL,
       unknown_seconds DOUBLE PRECISION NOT NULL, memory_gib_hours DOUBLE PRECISION NOT NULL, energy_joules DOUBLE PRECISION NOT NULL,
       PRIMARY KEY (machine_id, day, gpu_uuid, user_name)) {clustered}""",
    """CREATE TABLE process_interval (machine_id TEXT NOT NULL, gpu_uuid TEXT NOT NULL, start_ms BIGINT NOT NULL, pid BIGINT NOT NULL,
       process_started_ms BIGINT, end_ms BIGINT NOT NULL, user_name TEXT, name TEXT, command TEXT, peak_memory_bytes DOUBLE PRECISION,
       memory_byte_seconds DOUBLE PRECISION NOT NULL, memory_seconds DOUBLE PRECISION NOT NULL,
       PRIMARY KEY (machine_id, gpu_uuid, start_ms, pid)) {clustered} {by_start}""",
    "CREATE INDEX process_interval_end ON process_interval (machine_id, gpu_uuid, end_ms)",
    "CREATE INDEX process_interval_user ON process_interval (user_name, start_ms)",
)

_HUBS: Step = (
    """CREATE TABLE hub (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, address TEXT NOT NULL, version TEXT NOT NULL, targets TEXT NOT NULL,
       started_ms BIGINT NOT NULL, seen_ms BIGINT NOT NULL, lease_ms BIGINT NOT NULL, clock_ms BIGINT NOT NULL)""",
    "CREATE TABLE lease (machine_id TEXT NOT NULL PRIMARY KEY, hub_id TEXT NOT NULL)",
)

_ENROLLED: Step = (
    """CREATE TABLE enrolled (id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL UNIQUE, secret TEXT NOT NULL, state TEXT NOT NULL,
       detail TEXT NOT NULL, first_address TEXT NOT NULL, last_address TEXT NOT NULL, created_at_ms BIGINT NOT NULL, seen_at_ms BIGINT)""",
    """CREATE TABLE enroll_code (hash TEXT NOT NULL PRIMARY KEY, label TEXT NOT NULL, for_name TEXT NOT NULL, created_at_ms BIGINT NOT NULL,
       expires_at_ms BIGINT NOT NULL, used_at_ms BIGINT, used_by TEXT NOT NULL)""",
    "CREATE TABLE pushed (id TEXT NOT NULL PRIMARY KEY, sequence BIGINT NOT NULL) {clustered}",
)

_USERS_OF_FLEET: Step = (  # see ``usage.FLEET``
    """INSERT INTO user_day (machine_id, day, gpu_uuid, user_name, held_seconds, busy_seconds, idle_seconds, unknown_seconds, memory_gib_hours, energy_joules)
       SELECT '', day, '', user_name, sum(held_seconds), sum(busy_seconds), sum(idle_seconds), sum(unknown_seconds), sum(memory_gib_hours), sum(energy_joules)
       FROM user_day WHERE machine_id IN (SELECT id FROM machine WHERE substr(name, 1, 7) != 'import:') GROUP BY day, user_name""",
)

_OLD_SYSTEMS: Step = (
    """CREATE TABLE worker_command (id BIGINT NOT NULL PRIMARY KEY, worker_id TEXT NOT NULL, command TEXT NOT NULL, status TEXT NOT NULL,
       output TEXT NOT NULL, created_at_ms BIGINT NOT NULL, updated_at_ms BIGINT NOT NULL)""",
    "CREATE INDEX worker_command_status ON worker_command (worker_id, status, id)",
    "CREATE TABLE gpu_number (gpu_uuid TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL UNIQUE) {clustered}",
)

_ROWS_AGAINST_EXAMPLES: Step = ()
"""No table changes: the journal gets rows (``journal_rows``) that an older program would take for damaged, so it has to refuse the database."""

STEPS: Tuple[Step, ...] = (_FIRST, _TIME, _HUBS, _ENROLLED, _USERS_OF_FLEET, _OLD_SYSTEMS, _ROWS_AGAINST_EXAMPLES)
"""Step n (from 1) leads to schema version n."""


def migrate(store: Store, *, steps: Sequence[Step] = STEPS, progress: Callable[[int], None] = lambda done: None) -> Optional[str]:
    """Bring the database to the newest schema. Returns the path of the backup, if one had to be made; ``progress`` is told of steps done.

    Raises StoreError for a database that is newer than this program, or read-only and older.
    """
    version = version_of(store)
    if version > len(steps):
        raise StoreError(
            f"The database {store.label} has schema {version}, this program knows {len(steps)}: a newer gpuwatch wrote it.",
            "Use that gpuwatch, or another --database.",
        )
    if version == len(steps):
        return None
    if store.read_only:
        raise StoreError(f"The database {store.label} has schema {version}, older than {len(steps)}.", "Start the hub once, or: gpuwatch db migrate")
    backup = None
    if version and store.in_a_file:
        with store.writing():  # one at a time, and of what nobody changes meanwhile
            backup = _back_up(store, version) if version_of(store) == version else None
    with store.writing() if not version else nullcontext():  # nobody finds a new database half made, and copies it
        for number in range(version, len(steps)):
            _run_step(store, number + 1, steps[number])
            progress(1)
    return backup


def version_of(store: Store) -> int:
    """The schema version; 0 = an empty database. Raises StoreError for a database of another program."""
    names = store.table_names()
    if not names:
        return 0
    rows = store.rows("SELECT value FROM meta WHERE key = 'schema_version'") if {"meta", "machine"} <= names else []
    if not rows or not str(rows[0][0]).isdigit():
        raise StoreError(f"{store.label} is a database of another program.", "Name another one with --database.")
    return int(rows[0][0])


def _run_step(store: Store, number: int, step: Step) -> None:
    with store.writing():
        if version_of(store) >= number:  # another process was faster
            return
        for statement in step:
            store.change(store.spelled(statement))
        store.change("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(number),))


def _back_up(store: Store, version: int) -> str:
    from gpuwatch.store.database import unprepared

    free, needed = shutil.disk_usage(os.path.dirname(store.path)).free, store.sizes().total
    if free < 2 * needed:  # the copy, and what the steps themselves take
        raise StoreError(
            f"Before migrating {store.label} a copy is made: that needs {2 * needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left.", "Free some space."
        )
    path = f"{store.path}.schema{version}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.backup"
    unfinished = f"{store.path}.unfinished-backup"  # whoever finds a backup finds a whole one; what was killed is written over
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
        with closing(unprepared(store.path, create=False, read_only=True)) as reader:  # who is writing cannot copy
            reader.copy_to(unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        raise StoreError(f"The backup {path} cannot be written before migrating: {error.strerror}.", "Make the folder writable.") from None
    except StoreError as error:
        os.unlink(unfinished)
        raise StoreError(f"The backup before migrating failed: {error.message}", error.next_step) from None
    return path
