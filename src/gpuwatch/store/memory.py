"""What the writer remembers between two appends, so that it need not ask the database. Never the truth: can be rebuilt at any time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, Hashable, Optional, Tuple

from gpuwatch.store.journal_rows import Example


@dataclass
class Waiting:
    """A machine's snapshots in the journal: how many, how many bytes, when the newest came (ms); and were some packed already?"""

    count: int = 0
    size: int = 0
    newest_ms: int = 0
    packed: bool = False
    enough: int = 1
    """With more than so many it may be due: the size of its next block, once that was worked out."""
    rest_until_ms: float = 0.0
    """Not packed before, as it failed: the others come first."""


class Recent:
    """The most recently used things by key, at most ``limit``. Safe on any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._things: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The thing, or None."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
            return self._things.get(key)

    def put(self, key: Hashable, thing: Any) -> None:
        """Remember the thing; forget the one not used for longest."""
        with self._lock:
            self._things[key] = thing
            if len(self._things) > self._limit:
                self._things.popitem(last=False)


@dataclass
class JournalMemory:
    """Changed only after a commit, in the writer's turn (``Store.when_committed``)."""

    epoch: Optional[str] = None
    """``meta.journal_epoch`` when this was built: another process that moves or deletes journal rows counts it up."""
    waiting: Dict[str, Waiting] = field(default_factory=dict)
    """By machine; a machine that is here exists."""
    example: Dict[str, Tuple[str, Example]] = field(default_factory=dict)
    """By machine, the id of the last shape that was written, and its example (``tables.Shape``)."""
    docs: Recent = field(default_factory=lambda: Recent(512))
    """Shapes read, by (machine, shape)."""
    places: Recent = field(default_factory=lambda: Recent(512))
    """Shapes as digests need them, by (machine, shape)."""


ShapeKey = Tuple[str, str]
"""(machine id, shape id)"""
