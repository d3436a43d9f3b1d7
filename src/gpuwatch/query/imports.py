"""What was imported and is not given to a host yet: the machines ``import:...``, their GPUs, and from when to when there are readings. Never writes."""

from __future__ import annotations

from typing import List

from gpuwatch.model.imports import ImportedGpu, ImportedMachine
from gpuwatch.store import imports, machines, rollups
from gpuwatch.store.database import Store

MOST_IMPORTS = 200
MOST_GPUS = 64
"""That are told of one import; its page has the rest."""


def listed(store: Store, most: int = MOST_IMPORTS) -> List[ImportedMachine]:
    """The imported machines by name, at most so many."""
    with store.reading():
        records = imports.records(store)
        found: List[ImportedMachine] = []
        for machine in machines.list_all(store):
            if not machine.name.startswith(imports.PREFIX):
                continue
            if len(found) == most:
                break
            record = next((one for one in records if machine.id in one.machines.values()), None)
            gpus = tuple(_gpu(store, machine.id, uuid) for uuid in rollups.subjects(store, machine.id, MOST_GPUS) if uuid)
            if record is None:
                found.append(ImportedMachine(machine.name, gpus))
            else:
                found.append(ImportedMachine(machine.name, gpus, record.name, record.rows, record.at, record.finished))
        return found


def _gpu(store: Store, machine_id: str, uuid: str) -> ImportedGpu:
    span = rollups.span(store, machine_id, uuid) or (0.0, 0.0)
    return ImportedGpu(uuid, imports.gpu_names(store, machine_id).get(uuid, ""), *span)
