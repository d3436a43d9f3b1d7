"""Polls that begin together: one timer for all targets of a slot, and one more that looks after their deadlines, in place of two for each poll.

Knows no HTTP. A link that raises costs itself one poll, never the others of its slot.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Dict, Optional, Protocol

from gpuwatch.model.cluster import Target

log = logging.getLogger(__name__)


class Timed(Protocol):
    """A target that is polled (``hub.link``). Times are those of the event loop."""

    target: Target
    due: float
    """When its next poll begins."""

    def begin(self, following: float) -> None:
        """It is due: ask; the next poll is due at ``following``."""

    def look(self, now: float) -> None:
        """End a poll whose deadline has passed."""


class Slot:
    """The links whose polls begin at ``grid`` plus whole intervals."""

    def __init__(self, loop: asyncio.AbstractEventLoop, grid: float, interval_seconds: float, deadline_seconds: float) -> None:
        self._loop = loop
        self._grid = grid
        self._interval_seconds = interval_seconds
        self._deadline_seconds = deadline_seconds
        self._links: Dict[Timed, None] = {}
        self._due = math.inf
        self._timer: Optional[asyncio.TimerHandle] = None

    def start(self, link: Timed, first: float) -> asyncio.TimerHandle:
        """A link's first poll begins at ``first``, all others with the slot."""
        self._links[link] = None
        link.due = first
        return self._loop.call_at(first, self._first, link)

    @property
    def is_empty(self) -> bool:
        """It has no links."""
        return not self._links

    def remove(self, link: Timed) -> None:
        """It is begun no more."""
        self._links.pop(link, None)
        link.due = math.inf
        if not self._links and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _first(self, link: Timed) -> None:
        following = self._following(link.due)
        if self._timer is None or following < self._due:
            self._wait(following)
        self._ask(link, following)
        self._loop.call_later(self._deadline_seconds, self._look)

    def _begin(self) -> None:
        due, following = self._due, self._following(self._due)
        self._wait(following)
        for link in tuple(self._links):
            if link.due <= due:
                self._ask(link, following)
        self._loop.call_later(self._deadline_seconds, self._look)

    def _ask(self, link: Timed, following: float) -> None:
        try:
            link.begin(following)
        except Exception:  # a bug of ours costs this target one reading, never the others of its slot
            log.exception("poll of %s", link.target.name)

    def _look(self) -> None:
        now = self._loop.time()
        for link in tuple(self._links):
            link.look(now)

    def _wait(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._begin)

    def _following(self, due: float) -> float:
        """The next beat of the grid that is still to come, and not just after ``due``."""
        beats = (self._loop.time() - self._grid) // self._interval_seconds + 1
        following = self._grid + beats * self._interval_seconds
        return following + self._interval_seconds if following - due < self._interval_seconds / 2 else following
