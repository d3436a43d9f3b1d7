"""The thresholds that the rules decide by. The hub fills them in from its settings. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Thresholds of states; the names and meanings are those of the hub's settings."""

    idle_memory: float = 100e6
    """Bytes held from which a GPU is not free and may be idle."""
    idle_utilization: float = 1.0
    """Percent up to which there is no work."""
    idle_after: float = 1800.0
    """Seconds without work until a GPU is idle."""
    hot_celsius: float = 90.0
    """Hot from here where the card tells no limit of its own."""
    hot_margin_celsius: float = 5.0
    """Hot from so far below the card's own slowdown temperature: the warning comes before the clocks fall."""
    stale_intervals: float = 3.0
    """A node is stale after so many intervals without a reading."""
    down_after: float = 60.0
    """A node is down after so many seconds without a reading."""
    blind_seconds: float = 600.0
    """Not looking for longer than this ends what was known of "since": it becomes "at least"."""
