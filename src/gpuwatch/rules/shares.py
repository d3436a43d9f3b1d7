"""Which of several hubs polls which machine: rendezvous hashing, so that all hubs agree without asking, and a hub that comes or goes moves
only its own share."""

from __future__ import annotations

import hashlib
from typing import Dict, Iterable, Sequence


def owner_of(machine_id: str, hub_ids: Sequence[str]) -> str:
    """The hub that should poll the machine; empty where there is no hub."""
    return max(hub_ids, key=lambda hub_id: hashlib.blake2b(f"{hub_id} {machine_id}".encode(), digest_size=8).digest(), default="")


def owners_of(machine_ids: Iterable[str], hub_ids: Sequence[str]) -> Dict[str, str]:
    """The same for many: machine id -> hub id."""
    return {machine_id: owner_of(machine_id, hub_ids) for machine_id in machine_ids}
