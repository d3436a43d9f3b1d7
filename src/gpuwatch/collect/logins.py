"""Who is logged in on this machine: psutil's list of utmp, else systemd's sessions (new systems keep no utmp any more). Reads only."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

from gpuwatch.collect.files import read_text, under
from gpuwatch.model.snapshot import LoginReading

_MOST = 200


def read_logins(root: str, psutil: Any) -> Tuple[Optional[Tuple[LoginReading, ...]], Optional[str]]:
    """(logins, None), or (None, why they are not known). ``psutil``: the module, or None where it cannot be imported."""
    if not root.rstrip("/") and psutil is not None and os.path.exists("/run/utmp"):
        users = psutil.users()
        found = [LoginReading(user.name, user.terminal or None, user.host or None, float(user.started) or None) for user in users]
        return tuple(sorted(found[:_MOST], key=_order)), None
    sessions = _sessions(under(root, "run/systemd/sessions"))
    if sessions is None:
        return None, "neither /run/utmp nor /run/systemd/sessions can be read here"
    return tuple(sorted(sessions[:_MOST], key=_order)), None


def _order(login: LoginReading) -> Tuple[str, str, float]:
    return login.user, login.terminal or "", login.since_at or 0.0


def _sessions(folder: str) -> Optional[List[LoginReading]]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.endswith(".ref"))
    except OSError:
        return None
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
