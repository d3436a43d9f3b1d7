"""What a person asked a view to show. Pure data; ``web`` and ``cli`` fill it in, ``render`` obeys it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

AUDIENCES = ("stranger", "member", "admin")
"""Who reads. Strangers see a process's name, not its arguments (setting ``show_arguments``)."""

SORTS = ("hosts", "name", "state", "user", "since", "utilization", "memory", "temperature", "power")
LAYOUTS = ("", "rows", "grid", "flat")


@dataclass(frozen=True)
class ViewOptions:
    """The GET parameters of a view of the cluster, checked."""

    audience: str = "stranger"
    query: str = ""
    """``q``: all words must match host, tag, model or user."""
    host: str = ""
    user: str = ""
    tag: str = ""
    model: str = ""
    free_only: bool = False
    state: str = ""
    """Only GPUs in this state: the counts at the top are links with it."""
    sort: str = "hosts"
    descending: bool = False
    layout: str = ""
    """``view=``: rows, grid (above 60 hosts by itself), flat (one list of GPUs); empty = chosen by size."""
    page: int = 0
    """1, 2 ...; 0 = all on one page where that is possible."""
    at: Optional[float] = None
    """A past time, epoch seconds; None = now."""
    moment: str = ""
    """The same as links write it; empty = now."""
    detail: bool = False
    width: int = 80
    ascii_only: bool = False
    color: bool = False

    @property
    def filtered(self) -> bool:
        """Some of the GPUs may be left out."""
        return bool(self.query or self.host or self.user or self.tag or self.model or self.free_only or self.state)
