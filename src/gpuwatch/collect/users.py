"""Names of users by uid. Asks the system's name service (LDAP and the like included), once in a while, never for each sample."""

from __future__ import annotations

import pwd
from typing import Dict, Tuple

from gpuwatch.collect.files import read_text, under

KNOWN_SECONDS = 3600.0
UNKNOWN_SECONDS = 60.0


class Users:
    """uid -> name. Below another root than / the names are those of that root's etc/passwd alone."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: Dict[int, Tuple[str, float]] = {}

    def name(self, uid: int, now: float) -> str:
        """The user's name; the uid as text where no name is known (a name service that is down is asked again after a minute)."""
        name, until = self._names.get(uid, ("", 0.0))
        if now >= until or not name:
            found = self._look_up(uid)
            name = found or str(uid)
            self._names[uid] = (name, now + (KNOWN_SECONDS if found else UNKNOWN_SECONDS))
        return name

    def _look_up(self, uid: int) -> str:
        if self._root.rstrip("/"):
            return self._from_file(uid)
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError, OSError):
            return ""

    def _from_file(self, uid: int) -> str:
        for line in (read_text(under(self._root, "etc/passwd"), 1 << 20) or "").splitlines():
            parts = line.split(":")
            if len(parts) > 2 and parts[2] == str(uid):
                return parts[0]
        return ""
