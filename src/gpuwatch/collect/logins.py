"""Who is logged in on this machine: psutil's list of utmp, else systemd's sessions (new systems keep no utmp any more). Reads only."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

from gpuwatch.collect.files import read_text, under
from gpuwatch.model.snapshot import LoginReading

_MOST = 200
_UTMP = "/run/utmp"


Found = Tuple[Optional[Tuple[LoginReading, ...]], Optional[str]]


class Logins:
    """The logins, read again when their file or folder has changed."""

    def __init__(self, root: str, psutil: Any) -> None:
        """``psutil``: the module, or None where it cannot be imported; below another root than / its utmp would be the wrong one."""
        self._psutil = None if root.rstrip("/") else psutil
        self._sessions = under(root, "run/systemd/sessions")
        self._stamp: Optional[Tuple[str, int]] = None
        self._found: Found = (None, None)

    def read(self) -> Found:
        """(logins, None), or (None, why they are not known)."""
        stamp = _stamp(_UTMP) if self._psutil is not None else None
        stamp = stamp or _stamp(self._sessions)
        if stamp is None:
            return None, "neither /run/utmp nor /run/systemd/sessions can be read here"
        if stamp != self._stamp:
            found = _of_utmp(self._psutil) if stamp[0] == _UTMP else _of_sessions(self._sessions)
            self._stamp, self._found = stamp, (tuple(sorted(found[:_MOST], key=_order)), None)
        return self._found


def _stamp(path: str) -> Optional[Tuple[str, int]]:
    try:
        return path, os.stat(path).st_mtime_ns
    except OSError:
        return None


def _of_utmp(psutil: Any) -> List[LoginReading]:
    return [LoginReading(user.name, user.terminal or None, user.host or None, float(user.started) or None) for user in psutil.users()]


def _order(login: LoginReading) -> Tuple[str, str, float]:
    return login.user, login.terminal or "", login.since_at or 0.0


def _of_sessions(folder: str) -> List[LoginReading]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.endswith(".ref"))
    except OSError:
        return []
    found = (_session(read_text(os.path.join(folder, name)) or "") for name in names)
    return [login for login in found if login is not None]


def _session(text: str) -> Optional[LoginReading]:
    """One file of systemd-logind: lines KEY=value; REALTIME in microseconds. Those of services and of login screens are none."""
    facts: Dict[str, str] = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if facts.get("CLASS") != "user" or not facts.get("USER"):
        return None
    since = facts.get("REALTIME", "")
    return LoginReading(
        facts["USER"], facts.get("TTY") or None, facts.get("REMOTE_HOST") or None, int(since) / 1e6 if since.isdigit() else None
    )
