"""A simulated source that notes when each snapshot was taken, in the file that TRIAL_TAKEN names: what trial_push.py compares the hub's history with."""

from __future__ import annotations

import os
from typing import Any

from gpuwatch.model.snapshot import Snapshot
from gpuwatch.sim.source import make as simulated


class Noted:
    """A source like the one inside, with a note for each snapshot."""

    def __init__(self, inside: Any) -> None:
        self._inside = inside
        self._file = os.open(os.environ["TRIAL_TAKEN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        """As the one inside."""
        self._inside.close()

    def read(self, now: float) -> Snapshot:
        """One snapshot, noted before anybody else has it."""
        made: Snapshot = self._inside.read(now)
        os.write(self._file, f"{made.taken_at:.6f}\n".encode())
        return made


def make(options: Any) -> Noted:
    """As the simulated one."""
    return Noted(simulated(options))
