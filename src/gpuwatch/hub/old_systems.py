"""What senders of seed 004 and workers of seed 001 need of this hub, and seed 003's numbers: one object beside the rest of the hub.

Both are taken only while ``[hub.compat]`` names them. They can take no name that is in the hosts file or was enrolled, and bring no reading of another host.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import tzinfo
from typing import Callable, Collection, Dict, Optional, Sequence, Tuple

from gpuwatch.config.settings import CompatSettings
from gpuwatch.hub.enrol import Roster
from gpuwatch.hub.ingest import Ingest
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import GpuwatchError, StoreError
from gpuwatch.store import gpu_numbers
from gpuwatch.store.database import Store

TARGET_SECONDS = 3.0
"""A machine that was enrolled just now is a target within this time, or the database is away."""
LOOK_SECONDS = 0.03


@dataclass(frozen=True)
class Means:
    """What these parts use of the hub."""

    compat: CompatSettings
    zone: tzinfo
    roster: Roster
    ingest: Ingest
    pair: Callable[[str], Optional[Tuple[Target, str]]]
    """``Hub.pair``."""
    database: Callable[[], Optional[Store]]
    listed: Callable[[], Collection[str]]
    """The names in the hosts file: nobody else may have them."""
    enrolled: Callable[[], None]
    """``Hub.enrolled``."""
    notice: Callable[[str, Optional[str]], None]

    def store(self) -> Store:
        """The open database. Raises StoreError while there is none."""
        found = self.database()
        if found is None:
            raise StoreError("The database is not open.", "The page of now says why.")
        return found

    def target_of(self, name: str) -> Tuple[Target, str]:
        """The target of an enrolled machine, and its machine's id; waits for one that was enrolled just now. Raises GpuwatchError."""
        pair, until = self.pair(name), time.monotonic() + TARGET_SECONDS
        if pair is None:
            self.enrolled()
        while pair is None:
            if time.monotonic() > until:
                raise GpuwatchError(f"{name} is no target yet.", "Next: the hub's log says what keeps it.")
            time.sleep(LOOK_SECONDS)
            pair = self.pair(name)
        return pair


class GpuNumbers:
    """Seed 003's numbers in memory; what has none gets one in the database."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._known: Dict[str, int] = {}
        self._of: Optional[Store] = None
        self._lock = threading.Lock()

    def of(self, uuids: Sequence[str]) -> Dict[str, int]:
        """UUID -> number. Raises StoreError while the database is away, and where it takes no new ones."""
        with self._lock:
            store = self._means.store()
            if store is not self._of:
                self._known, self._of = {}, store
            full = len(self._known) >= gpu_numbers.MOST
            if not full and any(uuid not in self._known for uuid in uuids):
                self._known = gpu_numbers.assign(store, uuids)
            return self._known
