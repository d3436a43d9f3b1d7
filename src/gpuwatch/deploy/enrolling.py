"""Codes and keys of nodes that are deployed to push, in the hub's database, beside a running hub. Never prints a code."""

from __future__ import annotations

import threading
import time
from typing import Callable, Optional

from gpuwatch.model.cluster import Target
from gpuwatch.store import codes, enrolled
from gpuwatch.store.database import Store

VALID_SECONDS = 3600.0


class Enrolling:
    """For all threads of a deployment; each question opens the database for a moment."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open = open_store
        self._lock = threading.Lock()

    def code(self, target: Target) -> str:
        """A code with which the machine gets its key, under the target's name; empty where it has one. Raises StoreError."""
        with self._lock:
            store = self._open()
            try:
                if enrolled.named(store, target.name) is not None:
                    return ""
                return codes.new(store, target.name, VALID_SECONDS, time.time())
            finally:
                store.close()

    def is_known(self, target: Target) -> bool:
        """It has its key."""
        with self._lock:
            store = self._open()
            try:
                return enrolled.named(store, target.name) is not None
            finally:
                store.close()

    def forget(self, target: Target) -> Optional[str]:
        """End its key, and codes that wait for it; what was done, None for nothing."""
        with self._lock:
            store = self._open()
            try:
                found, ended = enrolled.named(store, target.name), codes.revoke(store, target.name)
                if found is not None:
                    enrolled.remove(store, found.id)
            finally:
                store.close()
        return "its key for pushing was ended at the hub; its history stays" if found is not None or ended else None
