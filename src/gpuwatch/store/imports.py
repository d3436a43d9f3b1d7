"""Imports: rows of somebody's logs into the tables of rollups, usage and intervals, under machines of their own (``import:<label>``).

A file is known by its hash. What was stored of it is noted in the same transaction, so that an import that was broken off goes on where it
was, and no line is counted twice. Imported machines are in no hosts file: no live view shows them, and nothing of them is in the fleet's sums.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import tzinfo
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

from gpuwatch.model.errors import UsageError
from gpuwatch.rules.limits import Limits
from gpuwatch.store import intervals, machines, rollups, usage
from gpuwatch.store.chunks import of_minutes
from gpuwatch.store.database import Store
from gpuwatch.store.import_streams import MOST_STREAMS, MOST_WAITING, Portion, Streams
from gpuwatch.store.tables import GPU_NAMES, IMPORTED
from gpuwatch.wire.csv_in.rows import ImportedRow

PREFIX = IMPORTED
MOST_MACHINES = 1000
PROGRESS_ROWS = 2000
_KEY = "import:"
"""What the keys in ``meta`` begin with; the file's hash follows."""
_UPSERT = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@dataclass
class Imported:
    """What is noted of one imported file."""

    name: str
    """Of the file, for people."""
    at: float
    """When the import began."""
    options: Dict[str, Any] = field(default_factory=dict)
    """How it was read; an import that goes on must read it in the same way."""
    rows: int = 0
    """Rows of the file that are stored."""
    finished: bool = False
    machines: Dict[str, str] = field(default_factory=dict)
    """Host as the file names it (or empty) -> machine id."""
    times: int = 1
    """How often it was imported, with ``again``."""
    assigned: List[str] = field(default_factory=list)
    """Names of the hosts that its machines were given to."""


class Import:
    """One file on its way into the store."""

    def __init__(self, store: Store, digest: str, record: Imported, label: str, streams: Streams, earlier: Optional[Imported] = None) -> None:
        """``earlier``: what was noted of the same file before."""
        self._store, self._digest, self.record = store, digest, record
        self._label, self._earlier = label, earlier
        self.streams = streams
        self.resumed_rows = record.rows
        """Rows that an earlier, interrupted import has stored."""

        self._names: Dict[str, Dict[str, str]] = {}
        """Host of the file -> GPU -> product name, of those that are not stored yet."""

    def run(self, rows: Iterable[ImportedRow]) -> Iterator[int]:
        """Store all rows of the file, from its beginning; yields how many were read, now and then. Raises StoreError, UsageError."""
        number = 0
        for number, row in enumerate(rows, 1):
            self.streams.add(row)
            if row.name is not None:
                self._names.setdefault(row.machine, {})[row.gpu] = row.name
            full = self.streams.waiting >= MOST_WAITING
            if number <= self.resumed_rows:
                if full or number == self.resumed_rows:
                    self.streams.skip()
            elif full:
                self._keep(self.streams.flush(), number)
            if number % PROGRESS_ROWS == 0:
                yield number
        self._keep(self.streams.flush(last=True), number, finished=True)
        yield number

    def names(self) -> List[str]:
        """The names of the machines that it is stored under."""
        return [self._name(machine) for machine in self.record.machines]

    def _keep(self, portions: Sequence[Portion], rows: int, *, finished: bool = False) -> None:
        chunks = [of_minutes(portion.minutes) for portion in portions]  # outside the transaction: it takes a while
        self.record.rows, self.record.finished = rows, finished
        with self._store.writing():
            for portion, chunk in zip(portions, chunks):
                machine_id = self._machine(portion.machine)
                if chunk.times:
                    rollups.add_chunks(self._store, machine_id, {portion.gpu: {60: chunk}})
                usage.merge(self._store, machine_id, portion.gpu_days, portion.user_days, of_fleet=False)
                intervals.merge(self._store, machine_id, portion.intervals, portion.gap_seconds)
            for machine, machine_id in self.record.machines.items():
                add_gpu_names(self._store, machine_id, self._names.pop(machine, {}))
            if self.record.machines:
                if self._earlier is not None:
                    write_record(self._store, _key_of_earlier(self._digest, self._earlier.times), self._earlier)
                write_record(self._store, self._digest, self.record)
        self._store.rest()

    def _machine(self, machine: str) -> str:
        """The id of the machine for a host of the file, made when the host is first seen."""
        known = self.record.machines.get(machine)
        if known is not None:
            return known
        if len(self.record.machines) >= MOST_MACHINES:
            raise UsageError(f"The file names more than {MOST_MACHINES} hosts.")
        name, at_ms = self._name(machine), round(self.record.at * 1000)
        row = (secrets.token_hex(16), name, "", at_ms, at_ms)  # as one whose line is gone from the hosts file
        self._store.change(
            "INSERT INTO machine (id, name, ip_address, created_at_ms, removed_at_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row
        )
        ((machine_id,),) = self._store.rows("SELECT id FROM machine WHERE name = ?", (name,))
        self.record.machines[machine] = machine_id
        return str(machine_id)

    def _name(self, machine: str) -> str:
        more = f"-{self.record.times}" if self.record.times > 1 else ""
        return f"{PREFIX}{machine or self._label}{more}"


def begin(
    store: Store,
    digest: str,
    name: str,
    label: str,
    options: Mapping[str, Any],
    *,
    now: float,
    limits: Limits,
    zone: tzinfo,
    again: bool = False,
) -> Import:
    """An import of the file with this hash, from its beginning or from where it was broken off.

    ``label``: the machine of rows that name no host. ``zone``: of the hub's days. Raises UsageError for a file that is stored already, unless
    ``again``: then it is stored once more, under machines of its own.
    """
    record, earlier = _newest(store, digest), None
    if record is None:
        record = Imported(name, now, dict(options))
    elif record.finished:
        if not again:
            raise UsageError(f"{name} was imported before, as {_told(store, record)}.", "To store it once more, under a name of its own: --again")
        record, earlier = Imported(name, now, dict(options), times=record.times + 1), record
    elif record.options != dict(options):
        raise UsageError(
            f"The import of {name} was broken off after {record.rows} rows, and was read with other options: {_options(record.options)}.",
            "Use the same, or forget its hosts first: gpuwatch host forget import:...",
        )
    return Import(store, digest, record, label, Streams(limits, zone), earlier)


def _newest(store: Store, digest: str) -> Optional[Imported]:
    """What is noted of the last import of the file of which something is still there."""
    record = read_record(store, digest)
    while record is not None and record.finished and not _is_there(store, record):  # its machines were forgotten
        record = read_record(store, _key_of_earlier(digest, record.times - 1))
    return record


def _key_of_earlier(digest: str, times: int) -> str:
    return f"{digest}.{times}"


def _is_there(store: Store, record: Imported) -> bool:
    known = {machine.id for machine in machines.list_all(store)}
    return bool(record.assigned) or any(id in known for id in record.machines.values())


def _told(store: Store, record: Imported) -> str:
    names = [machine.name for machine in machines.list_all(store) if machine.id in record.machines.values()]
    return ", ".join([*names, *record.assigned][:5]) or "nothing"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"--{name} {value}" for name, value in options.items() if value) or "none"


def read_record(store: Store, digest: str) -> Optional[Imported]:
    """What is noted of the file with this hash."""
    rows = store.rows("SELECT value FROM meta WHERE key = ?", (_KEY + digest,))
    return Imported(**json.loads(rows[0][0])) if rows else None


def records(store: Store) -> List[Imported]:
    """What is noted of all files that were imported."""
    rows = store.rows("SELECT value FROM meta WHERE key LIKE ? ORDER BY key", (f"{_KEY}%",))
    return [Imported(**json.loads(value)) for (value,) in rows]


# ---- product names of GPUs that no snapshot tells of


def gpu_names(store: Store, machine_id: str) -> Dict[str, str]:
    """GPU -> product name, of those that logs told of this machine."""
    rows = store.rows("SELECT value FROM meta WHERE key = ?", (GPU_NAMES + machine_id,))
    found: Dict[str, str] = json.loads(rows[0][0]) if rows else {}
    return found


def add_gpu_names(store: Store, machine_id: str, names: Mapping[str, str]) -> None:
    """Inside ``writing()``: remember more of them."""
    known = gpu_names(store, machine_id)
    if not names.items() <= known.items():
        merged = dict(list({**known, **names}.items())[:MOST_STREAMS])
        store.change(_UPSERT, (GPU_NAMES + machine_id, json.dumps(merged)))


def move_gpu_names(store: Store, source: str, into: str, renamed: Mapping[str, str]) -> None:
    """Inside ``writing()``: what was known of machine ``source`` is known of ``into``, where its GPUs may be called otherwise."""
    add_gpu_names(store, into, {renamed.get(gpu, gpu): name for gpu, name in gpu_names(store, source).items()})


def write_record(store: Store, digest: str, record: Imported) -> None:
    """Inside ``writing()``: note it."""
    store.change(_UPSERT, (_KEY + digest, json.dumps(asdict(record))))


def note_assigned(store: Store, machine_id: str, name: str) -> None:
    """Inside ``writing()``: an imported machine was given to the host ``name``, so that its file is still known as imported."""
    for key, value in store.rows("SELECT key, value FROM meta WHERE key LIKE ?", (f"{_KEY}%",)):
        record = Imported(**json.loads(value))
        if machine_id in record.machines.values() and name not in record.assigned:
            record.assigned.append(name)
            write_record(store, str(key)[len(_KEY) :], record)
