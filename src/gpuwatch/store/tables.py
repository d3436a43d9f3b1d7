"""The tables as peewee models, for queries only. No database is named here: ``Store.rows`` and ``Store.change`` run a query on theirs.

The tables themselves are made by ``migrations``; a test compares the two. Times are UTC in whole ms since the epoch. The large tables
have the machine first in their key, then a time.
"""

from __future__ import annotations

from peewee import BigIntegerField, BlobField, CompositeKey, DoubleField, IntegerField, Model, TextField

from gpuwatch.model import imports

GPU_NAMES = "gpu-names:"
"""What keys of ``meta`` begin with that hold the product names of GPUs of a machine; its id follows."""
IMPORTED = imports.IMPORTED
LIVE_MACHINES = f"SELECT id FROM machine WHERE substr(name, 1, {len(IMPORTED)}) != '{IMPORTED}'"
"""All others: whatever is asked of all machines together is about these."""
IMPORTED_MACHINES = f"SELECT id FROM machine WHERE substr(name, 1, {len(IMPORTED)}) = '{IMPORTED}'"


class Table(Model):
    """What all tables share."""

    class Meta:
        """peewee's settings."""

        legacy_table_names = False
        primary_key = False


class Meta(Table):
    """Facts about the database itself, such as ``schema_version``."""

    key = TextField(primary_key=True)
    value = TextField()


class Machine(Table):
    """A target of the hosts file, now or once. Its first three columns are those of seed 004."""

    id = TextField(primary_key=True)
    """128 random bits as 32 hex digits."""
    name = TextField()
    """Unique."""
    ip_address = TextField()
    hostname = TextField(null=True)
    created_at_ms = BigIntegerField()
    removed_at_ms = BigIntegerField(null=True)
    """Since when its line is gone from the hosts file."""


class Shape(Table):
    """The facts of a machine's snapshots; many snapshots share one."""

    machine_id = TextField()
    id = TextField()
    base_id = TextField(null=True)
    """The shape whose document is the dictionary that ``doc`` was compressed with."""
    last_ms = BigIntegerField()
    """The shape is needed at least up to here."""
    doc = BlobField()
    example = BlobField(null=True)
    """Values of one of its snapshots, as JSON: what the journal's rows with this shape are written against. None: the journal has none."""

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "id")


class SnapshotJournal(Table):
    """Snapshots that wait to be packed into a block, and each machine's newest."""

    machine_id = TextField()
    taken_at_ms = BigIntegerField()
    received_at_ms = BigIntegerField()
    shape_id = TextField()
    values = BlobField()
    """The values against the shape's example (``journal_rows``)."""

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "taken_at_ms")


class Block(Table):
    """Many consecutive snapshots of one machine (``blocks.pack``). Only thinning changes one once it is written."""

    machine_id = TextField()
    start_ms = BigIntegerField()
    """Earliest snapshot."""
    sequence = IntegerField()
    """0; counts on where several blocks of a machine start at the same time."""
    end_ms = BigIntegerField()
    """Latest snapshot."""
    count = IntegerField()
    codec = IntegerField()
    schema = IntegerField()
    size = IntegerField()
    """Bytes of ``data``: here, and in the index over ``end_ms``, so that retention and figures need not touch the data."""
    data = BlobField()
    digested = IntegerField()
    """1: it is counted in the tables of rollups, usage and intervals. 0: ``backfill`` has yet to do it."""
    step_seconds = IntegerField()
    """0: as it came. Else it was thinned to one snapshot in so many seconds."""

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "start_ms", "sequence")


class GpuState(Table):
    """What each GPU was doing when last looked at, so that a restart does not forget since when."""

    machine_id = TextField()
    gpu_uuid = TextField()
    state = TextField()
    since_at_ms = BigIntegerField(null=True)
    at_least = IntegerField()
    no_work_since_at_ms = BigIntegerField(null=True)
    recent = BlobField()

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "gpu_uuid")


class Event(Table):
    """Something changed (``model.event``)."""

    id = BigIntegerField(primary_key=True)
    machine_id = TextField()
    at_ms = BigIntegerField()
    kind = TextField()
    host = TextField()
    gpu_uuid = TextField(null=True)
    message = TextField()


class Rollup(Table):
    """One chunk of consecutive intervals of one subject and tier (``chunk_codec``)."""

    machine_id = TextField()
    """Empty: the fleet."""
    gpu_uuid = TextField()
    """A GPU or MIG slice; empty: the host, or the fleet."""
    tier_seconds = IntegerField()
    """Length of its intervals, one of ``model.series.TIERS``."""
    start_ms = BigIntegerField()
    """A multiple of the chunk's span (``chunks.SPANS``)."""
    size = IntegerField()
    data = BlobField()

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "gpu_uuid", "tier_seconds", "start_ms")


class RollupPart(Table):
    """The minutes of one block, all subjects together, until enough of them are merged into the chunks at once."""

    machine_id = TextField()
    """Whose chunks they go into; empty: the fleet's."""
    source_id = TextField()
    """The machine they come from."""
    start_ms = BigIntegerField()
    sequence = IntegerField()
    data = BlobField()

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "source_id", "start_ms", "sequence")


class GpuDay(Table):
    """``model.series.GpuDay``: one GPU or slice on one day of the hub's zone."""

    machine_id = TextField()
    day = TextField()
    """YYYY-MM-DD."""
    gpu_uuid = TextField()
    measured_seconds = DoubleField()
    held_seconds = DoubleField()
    busy_seconds = DoubleField()
    idle_seconds = DoubleField()
    unknown_seconds = DoubleField()
    unattributed_seconds = DoubleField()
    memory_gib_hours = DoubleField()
    energy_joules = DoubleField()

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "day", "gpu_uuid")


class UserDay(Table):
    """``model.series.UserDay``: what one user had of one GPU on one day."""

    machine_id = TextField()
    day = TextField()
    gpu_uuid = TextField()
    user_name = TextField()
    held_seconds = DoubleField()
    busy_seconds = DoubleField()
    idle_seconds = DoubleField()
    unknown_seconds = DoubleField()
    memory_gib_hours = DoubleField()
    energy_joules = DoubleField()

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "day", "gpu_uuid", "user_name")


class ProcessInterval(Table):
    """``model.series.ProcessInterval``: one process on one GPU without a gap."""

    machine_id = TextField()
    gpu_uuid = TextField()
    start_ms = BigIntegerField()
    pid = BigIntegerField()
    process_started_ms = BigIntegerField(null=True)
    end_ms = BigIntegerField()
    user_name = TextField(null=True)
    name = TextField(null=True)
    command = TextField(null=True)
    peak_memory_bytes = DoubleField(null=True)
    memory_byte_seconds = DoubleField()
    memory_seconds = DoubleField()

    class Meta:
        """peewee's settings."""

        primary_key = CompositeKey("machine_id", "gpu_uuid", "start_ms", "pid")


class Hub(Table):
    """One of several hubs that share this database (``leases``). Times are the database's."""

    id = TextField(primary_key=True)
    """New at each start of the hub."""
    name = TextField()
    address = TextField()
    version = TextField()
    targets = TextField()
    """Hash of the machines of its hosts file: hubs of the same one divide them."""
    started_ms = BigIntegerField()
    seen_ms = BigIntegerField()
    """Its last beat."""
    lease_ms = BigIntegerField()
    """So long after it its leases hold."""
    clock_ms = BigIntegerField()
    """Its clock minus the database's, at that beat."""


class Lease(Table):
    """Which hub polls and packs a machine."""

    machine_id = TextField(primary_key=True)
    """Or ``leases.ELECTED``: retention, for all hubs."""
    hub_id = TextField()
    """Empty: given up."""


class Enrolled(Table):
    """A machine that sends by itself (``enrolled``): it stands in no hosts file."""

    id = TextField(primary_key=True)
    """What it calls itself by: the id of its key."""
    kind = TextField()
    """One of ``model.cluster.SENDING``."""
    name = TextField()
    """Unique: its target's name."""
    secret = TextField()
    """Of kind push the key itself, for its requests are signed with it; of others the hash of a token; empty: none."""
    state = TextField()
    """``approved``, or ``waiting`` for an administrator."""
    detail = TextField()
    """JSON: what its protocol needs."""
    first_address = TextField()
    last_address = TextField()
    created_at_ms = BigIntegerField()
    seen_at_ms = BigIntegerField(null=True)


class EnrollCode(Table):
    """A one-time code with which a node gets its key (``enrolled``)."""

    hash = TextField(primary_key=True)
    """SHA-256 of the code: it is random enough that nothing slower is needed."""
    label = TextField()
    """What lists call it by: its first characters."""
    for_name = TextField()
    """The node that it is for; empty: any."""
    created_at_ms = BigIntegerField()
    expires_at_ms = BigIntegerField()
    used_at_ms = BigIntegerField(null=True)
    used_by = TextField()
    """The name of the node that used it."""


class Pushed(Table):
    """How far the pushes of a node are stored (``enrolled``)."""

    id = TextField(primary_key=True)
    """Of ``Enrolled``."""
    sequence = BigIntegerField()
    """The last one stored."""


class WorkerCommand(Table):
    """An order to a worker of seed 001 (``worker_commands``)."""

    id = BigIntegerField(primary_key=True)
    """Counts up; told to the worker."""
    worker_id = TextField()
    """Of ``Enrolled``."""
    command = TextField()
    status = TextField()
    """One of ``worker_commands.STATES``."""
    output = TextField()
    """What the worker told so far."""
    created_at_ms = BigIntegerField()
    updated_at_ms = BigIntegerField()


class GpuNumber(Table):
    """The number of a GPU in the whole fleet, as seed 003 counts; never given twice (``gpu_numbers``)."""

    gpu_uuid = TextField(primary_key=True)
    number = BigIntegerField()
    """Unique; from 0."""


KEPT = (
    Meta, Machine, Shape, SnapshotJournal, Block, GpuState, Event, Rollup, RollupPart, GpuDay, UserDay, ProcessInterval, Enrolled, Pushed, WorkerCommand,
    GpuNumber,
)  # fmt: skip
"""What a copy of the database has."""
TABLES = (*KEPT, Hub, Lease, EnrollCode)
