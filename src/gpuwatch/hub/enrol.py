"""Who may send to this hub by itself: the enrolled machines in memory, as targets beside those of the hosts file. Never shows a secret.

A target of the hosts file is stronger than an enrolled one of its name: a pushing node becomes one with it, a foreign sender has to take another name.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Dict, Optional, Sequence, Set, Tuple

from gpuwatch.config.hosts import is_name
from gpuwatch.model.cluster import Target
from gpuwatch.store import enrolled
from gpuwatch.store.database import Store
from gpuwatch.store.enrolled import APPROVED, Enrolled

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
"""So often what other processes enrolled is looked at."""
TOUCH_SECONDS = 60.0
PUSH = "push"
LONGEST_NAME = 60


class Roster:
    """All enrolled machines. ``get``, ``seen`` and ``targets`` may be called on any thread; what takes a store is the writer's."""

    def __init__(self) -> None:
        self._of: Dict[str, Enrolled] = {}
        self._all: Tuple[Enrolled, ...] = ()
        self._epoch: Optional[str] = None
        """As of the list that is known; None before one was read. A store in which nobody ever was has an empty one."""
        self._learned = self._followed = 0
        """How often somebody was learned, also when the store was last asked: what is known of those since then may be old by now."""
        self._look_at = 0.0
        self._touch_at = 0.0
        self._seen: Dict[str, Tuple[str, float]] = {}
        self._lock = threading.Lock()
        """Held while what is known is changed: a change that began before another one must not undo it."""

    @property
    def is_read(self) -> bool:
        """Whom the store has is known: before, nobody can be told that he is unknown."""
        return self._epoch is not None

    def get(self, id: str) -> Optional[Enrolled]:
        """The enrolled machine of this id, approved or not."""
        return self._of.get(id)

    def all(self) -> Tuple[Enrolled, ...]:
        """All of them, the first ones first; the same tuple again while nothing changed."""
        return self._all

    def learn(self, row: Enrolled) -> None:
        """This one was enrolled a moment ago: it is known before the store is looked at again. Any thread."""
        with self._lock:
            self._know({**self._of, row.id: row})
            self._learned += 1

    def heard_at(self, id: str) -> Optional[float]:
        """When it was last heard, epoch seconds; None = never."""
        seen, known = self._seen.get(id), self._of.get(id)
        return seen[1] if seen is not None else known.seen_at if known is not None else None

    def seen(self, id: str, address: str, now: float) -> None:
        """It was heard: it goes into the store within a minute, at once from a new address."""
        with self._lock:
            self._seen[id] = (address, now)
        known = self._of.get(id)
        if known is not None and known.last_address != address:
            self._touch_at = 0.0

    def targets(self, hosts: Sequence[Target]) -> Tuple[Target, ...]:
        """The targets of the hosts file, then those enrolled and approved whose name is free."""
        names = {target.name for target in hosts}
        more = [one for one in self._all if one.state == APPROVED and one.name not in names]
        return (*hosts, *(Target(one.name, one.last_address, 0, one.kind) for one in more))

    def is_due(self) -> bool:
        """It is time to look at the store."""
        return not 0 < self._look_at - time.monotonic() <= LOOK_SECONDS

    def refresh(self, store: Store, hosts: Sequence[Target], now: float) -> bool:
        """Follow the store, and note there who was heard; True when the targets may be others now. Raises StoreError."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        moved = self._note(store, now)
        learned, epoch = self._learned, enrolled.epoch(store)
        changed = (learned, epoch) != (self._followed, self._epoch)
        if changed:
            self._follow(store)
            self._followed, self._epoch = learned, epoch
        return self._make_way(store, {target.name for target in hosts}) or changed or moved

    def look_again(self) -> None:
        """Something was enrolled by this hub: the next ``refresh`` is due."""
        self._look_at = 0.0

    def forget(self) -> None:
        """The database is another one now."""
        self._epoch, self._look_at = None, 0.0

    def _follow(self, store: Store) -> None:
        """What the store has, and who was learned while it was asked: the answer may be older."""
        before = self._of
        found = {one.id: one for one in enrolled.list_all(store)}
        with self._lock:
            self._know({**found, **{id: one for id, one in self._of.items() if id not in before and id not in found}})

    def _know(self, of: Dict[str, Enrolled]) -> None:
        """Replaced as a whole: other threads may be reading."""
        self._of, self._all = of, tuple(of.values())

    def _note(self, store: Store, now: float) -> bool:
        """Who was heard; True when one of them has another address now."""
        if not self._seen or 0 < self._touch_at - now <= TOUCH_SECONDS:
            return False
        self._touch_at = now + TOUCH_SECONDS
        with self._lock:
            seen = {id: one for id, one in self._seen.items() if id in self._of}
            moved = any(self._of[id].state == APPROVED and self._of[id].last_address != address for id, (address, _) in seen.items())
            self._know({**self._of, **{id: self._of[id]._replace(last_address=address, seen_at=at) for id, (address, at) in seen.items()}})
            self._seen = {}  # only now: nobody may find that one was not heard
        enrolled.touch(store, [(id, address, at) for id, (address, at) in seen.items()])
        return moved

    def _make_way(self, store: Store, names: Set[str]) -> bool:
        """Foreign senders whose name came into the hosts file."""
        found = [one for one in self._all if one.kind != PUSH and one.name in names]
        for one in found:
            new = enrolled.make_way(store, one.id, names)
            log.warning("%s is in the hosts file now: the %s sender of that name is called %s", one.name, one.kind, new)
            self.learn(one._replace(name=new))
        return bool(found)


def clean_name(text: str) -> str:
    """A stranger's name for itself, made one that a target can have: at most 60 characters, no spaces, quotes, slashes; never empty."""
    kept = "".join(one if is_name(one) else "-" for one in text.strip()[:LONGEST_NAME]).strip("-.")
    return kept if kept and is_name(kept) else "unnamed"
