"""What was imported from other programs and belongs to no host yet."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

IMPORTED = "import:"
"""What the names of machines begin with whose readings were imported and not given to a host yet."""


class ImportedGpu(NamedTuple):
    """One GPU, as its log named it. Times are epoch seconds, the first to the hour."""

    gpu: str
    model: str
    """Product name; empty = the log has none."""
    first_at: float
    last_at: float


class ImportedMachine(NamedTuple):
    """One imported machine."""

    name: str
    """``import:...``."""
    gpus: Tuple[ImportedGpu, ...]
    file: str = ""
    """The file that it comes from; empty = it is not known any more."""
    rows: int = 0
    """Rows of that file that are stored, of all machines in it."""
    imported_at: Optional[float] = None
    finished: bool = True
    """False: the import was broken off, or still goes on."""

    @property
    def span(self) -> Optional[Tuple[float, float]]:
        """Begin and end of its readings; None = there are none of GPUs."""
        return (min(one.first_at for one in self.gpus), max(one.last_at for one in self.gpus)) if self.gpus else None
