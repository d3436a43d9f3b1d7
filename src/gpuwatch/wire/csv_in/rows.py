"""What all parsers of the import yield, and where they report the lines that they did not understand. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Optional

MOST_REFUSED = 100
"""Refused lines that are kept with their reason; the others are counted."""
MOST_NOTES = 20
MOST_WHY = 300


class ImportedRow(NamedTuple):
    """What one line says of one GPU (or of one process or user on it) at one time."""

    at: float
    """Epoch seconds."""
    machine: str
    """The host, as the file names it; empty where it does not."""
    gpu: str
    """UUID, or PCI address, or ``index N``; empty where the line is of a user or process and names no GPU."""
    name: Optional[str]
    """Product name of the GPU."""
    values: Dict[str, float]
    """By field of ``GpuReading``; of a row with ``pid`` or ``user``, by field of ``ProcessReading``. What is not reported is absent."""
    user: Optional[str] = None
    pid: Optional[int] = None
    process: Optional[str] = None
    """Name of the program."""


class Refused(NamedTuple):
    """A line that was not understood. ``line`` counts from 1; in a database it is the row's number."""

    line: int
    why: str


class Unreadable(Exception):
    """A line, or a cell of it, is not what its format says. The text says which and why, for a person."""


@dataclass
class Report:
    """What became of the lines of one file. Filled while the rows are read."""

    lines: int = 0
    """Lines looked at, heads and empty ones included."""
    rows: int = 0
    """Rows yielded."""
    refused: List[Refused] = field(default_factory=list)
    """The first MOST_REFUSED of them."""
    refused_count: int = 0
    notes: List[str] = field(default_factory=list)
    """What a person should know of how the file was read, each once."""

    def refuse(self, line: int, why: str) -> None:
        """Count a line that was not understood."""
        self.refused_count += 1
        if len(self.refused) < MOST_REFUSED:
            self.refused.append(Refused(line, why[:MOST_WHY]))

    def note(self, text: str) -> None:
        """Remember a remark, once."""
        if text not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(text[: 2 * MOST_WHY])
