"""Which machine and GPU a question is about: names, numbers and UUIDs from an address, and what people call what is stored under a UUID.

Knows what is there now (``Latest``) and, for what is gone, what the store still tells. Never writes.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.query.latest import Latest
from gpuwatch.store import imports, intervals, machines, rollups, snapshots
from gpuwatch.store.database import Store
from gpuwatch.wire.flat import Shape

_NUMBER = re.compile(r"(?:gpu[ :]?)?([0-9]{1,9})", re.IGNORECASE)
"""How people name a GPU of a host. A UUID has a hyphen behind ``GPU``."""
_MOST_NAMED = 20
SLICE = "MIG-"
"""How the UUID of a MIG slice begins (NVML)."""


class NoSuch(UsageError):
    """There is no host or GPU of that name."""


class Subject(NamedTuple):
    """One machine and, where ``gpu`` is not empty, one GPU or slice of it."""

    machine_id: str
    host: str
    gpu: str = ""


def find(store: Store, latest: Latest, host: str = "", gpu: str = "") -> Subject:
    """The machine called ``host``, or the GPU ``gpu``: a UUID, or with ``host`` its number there (``3``, ``gpu3``). Raises NoSuch."""
    if not host:
        return _find_gpu(store, latest, gpu)
    machine_id = _machine(store, latest, host)
    if not gpu:
        return Subject(machine_id, host)
    number = _NUMBER.fullmatch(gpu)
    uuids: dict[str, str] = {}
    readings = gpus_of(store, latest, machine_id, host)
    for reading in readings:
        uuids.setdefault(str(reading.index), reading.uuid)  # a lost GPU keeps its number when another one gets it, and comes second
    if number and number.group(1) in uuids:
        return Subject(machine_id, host, uuids[number.group(1)])
    if not number and (any(gpu in (one.uuid, *(part.uuid for part in one.mig)) for one in readings) or _was_there(store, machine_id, gpu)):
        return Subject(machine_id, host, gpu)
    named = number.group(1) if number else repr(gpu[:100])
    there = list(uuids) or [repr(uuid) for uuid in rollups.subjects(store, machine_id, _MOST_NAMED) if uuid]  # what was imported has no numbers
    raise NoSuch(f"{host[:100]!r} has no GPU {named}.", f"It has {', '.join(there) or 'none'}. One that is gone is named by its UUID.")


def _was_there(store: Store, machine_id: str, uuid: str) -> bool:
    """Something is kept of the GPU or slice on that machine."""
    if rollups.kept_since(store, machine_id, uuid, 3600) is not None or uuid in imports.gpu_names(store, machine_id):
        return True
    return uuid in intervals.gpus(store, machine_id)


def _machine(store: Store, latest: Latest, host: str) -> str:
    known = latest.get(host)
    if known is not None:
        return known.machine_id
    for machine in machines.list_all(store):
        if machine.name == host:
            return machine.id
    raise NoSuch(f"There is no host {host[:100]!r}.", "The hosts are listed at /.")


def _find_gpu(store: Store, latest: Latest, uuid: str) -> Subject:
    """By UUID alone: where it is now, else where it was."""
    for known in latest.all()[1]:
        if known.plan is not None and any(row.uuid == uuid for row in known.plan.rows):
            return Subject(known.machine_id, known.target.name, uuid)
    for machine in machines.list_all(store):
        if rollups.kept_since(store, machine.id, uuid, 3600) is not None:
            return Subject(machine.id, machine.name, uuid)
    raise NoSuch(f"There is no GPU {uuid[:100]!r}.", "Name it by its UUID, or by host= and its number. The GPUs are listed at /.")


def with_slices(latest: Latest, subject: Subject) -> List[str]:
    """The subject's GPU and the slices that it has now."""
    known = latest.get(subject.host)
    for gpu in known.plan.shape.gpu_facts() if known is not None and known.plan is not None else ():
        if gpu["uuid"] == subject.gpu:
            return [subject.gpu, *(part["uuid"] for part in gpu.get("mig") or () if part.get("uuid"))]
    return [subject.gpu]


def gpus_of(store: Store, latest: Latest, machine_id: str, host: str) -> Sequence[GpuReading]:
    """The GPUs of a machine at its newest reading; their numbers are not values. Empty where none is known."""
    known = latest.get(host)
    if known is not None and known.machine_id == machine_id and known.plan is not None:
        shape: Optional[Shape] = known.plan.shape
    else:
        shape = _newest_shape(store, machine_id)
    found: Sequence[GpuReading] = shape.places().gpus if shape is not None else ()
    return found


def _newest_shape(store: Store, machine_id: str) -> Optional[Shape]:
    try:
        for entry in snapshots.newest(store, machine_id, 1):
            return Shape.parse(snapshots.shape(store, machine_id, entry.shape_id))
    except GpuwatchError:  # of the wire or the store: it only tells names
        pass
    return None


class Known(NamedTuple):
    """What people call a GPU or slice."""

    machine_id: str
    host: str
    number: Optional[int]
    """NVML's number of the card; None = it is gone."""
    name: str
    """``dgx-a GPU 1``, ``dgx-a GPU 1 1g.10gb``; of one that is gone its host and UUID."""
    model: str
    """Product name of the card; empty = not known."""
    tags: Tuple[str, ...] = ()
    is_slice: bool = False


class Names:
    """Names of machines, GPUs and slices, worked out once for one answer."""

    def __init__(self, store: Store, latest: Latest) -> None:
        self._store, self._latest = store, latest
        present = {known.machine_id: known.target for known in latest.all()[1]}
        self.present: Set[str] = set(present)
        """Ids of the machines of the hosts file."""
        self.hosts: Dict[str, str] = {machine.id: machine.name for machine in machines.list_all(store)}
        self.hosts.update((machine_id, target.name) for machine_id, target in present.items())
        self.tags: Dict[str, Tuple[str, ...]] = {machine_id: target.tags for machine_id, target in present.items()}
        self._gpus: Dict[str, Dict[str, Known]] = {}
        self._plans = {known.machine_id: known.plan for known in latest.all()[1] if known.plan is not None}
        self._uuids: Dict[str, Set[str]] = {}

    def host(self, machine_id: str) -> str:
        """Name of a machine; of one that is gone from the store, its id."""
        return self.hosts.get(machine_id, machine_id)

    def has(self, machine_id: str, uuid: str) -> bool:
        """The GPU or slice is in its machine, by the machine's newest reading."""
        plan = self._plans.get(machine_id)
        if plan is None:
            return self.gpu(machine_id, uuid).number is not None
        if machine_id not in self._uuids:
            self._uuids[machine_id] = {row.uuid for row in plan.rows}
        return uuid in self._uuids[machine_id]

    def gpu(self, machine_id: str, uuid: str) -> Known:
        """Name, number and model of a GPU or slice."""
        known = self._gpus.get(machine_id)
        if known is None:
            known = self._gpus[machine_id] = self._of(machine_id)
        found = known.get(uuid)
        if found is None:
            host = self.host(machine_id)
            found = known[uuid] = Known(machine_id, host, None, f"{host} {uuid}", "", self.tags.get(machine_id, ()), uuid.startswith(SLICE))
        return found

    def _of(self, machine_id: str) -> Dict[str, Known]:
        host, tags = self.host(machine_id), self.tags.get(machine_id, ())
        found: Dict[str, Known] = {}
        for gpu in gpus_of(self._store, self._latest, machine_id, host):
            name, model = f"{host} GPU {gpu.index}", gpu.name or ""
            found[gpu.uuid] = Known(machine_id, host, gpu.index, name, model, tags)
            for part in gpu.mig:
                found[part.uuid] = Known(machine_id, host, gpu.index, f"{name} {part.profile or part.index}", model, tags, True)
        for uuid, model in imports.gpu_names(self._store, machine_id).items():
            found.setdefault(uuid, Known(machine_id, host, None, f"{host} {uuid}", model, tags))
        return found


def cards(latest: Latest) -> int:
    """How many whole GPUs the newest readings tell of."""
    return sum(len(known.plan.gauges) for known in latest.all()[1] if known.plan is not None)


def card_uuids(store: Store, machine_id: str) -> List[str]:
    """UUIDs of the whole GPUs of a machine that there are rollups of."""
    return [uuid for uuid in rollups.subjects(store, machine_id) if uuid and not uuid.startswith(SLICE)]
