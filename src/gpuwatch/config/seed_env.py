"""A ``.env`` file of seed 000, 001 or 003 as our TOML: which system it is of, what becomes of each of its lines. Pure. Never tells a secret's value."""

from __future__ import annotations

import json
import re
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from gpuwatch.model.errors import UsageError

MOST_BYTES = 65536
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]{0,99})\s*=\s*(.*?)\s*")
_SECRET = re.compile(r"PASS|SECRET|TOKEN|PROXY_URL|DATABASE_UR[IL]|_KEY", re.IGNORECASE)


class Line(NamedTuple):
    """What becomes of one setting of the file."""

    name: str
    ours: str
    """Our setting such as ``hub.port``; empty: there is none."""
    value: str
    """Its TOML; empty where there is none."""
    why: str
    """Why not, or what to do."""


class Translation(NamedTuple):
    """A whole file."""

    system: str
    lines: Tuple[Line, ...]
    toml: str


Convert = Callable[[str], str]
Row = Tuple[str, Optional[Convert], str]
"""(our setting or empty, value -> TOML, why not or what to do)."""


def _text(value: str) -> str:
    return json.dumps(value[:500])


def _number(least: float, most: float, factor: float = 1.0, unit: str = "") -> Convert:
    def convert(value: str) -> str:
        number = float(value) * factor
        if not least <= number <= most:
            raise ValueError
        told = f"{number:.10g}"
        return json.dumps(told + unit) if unit else told

    return convert


def _log_level(value: str) -> str:
    return _text({"critical": "error", "warn": "warning"}.get(value.lower(), value.lower() if value.lower() in ("debug", "info", "warning", "error") else ""))


_NO_ACCOUNTS = "accounts come later; until then nobody signs in, and strangers see no command lines"
_NO_RESERVATIONS = "reservations come later; nothing is revoked yet"
_NO_MESSAGES = "messages come later"
_NO_REDIS = "there is no Redis or MongoDB; all is in one database"

_GPULOCKER: Mapping[str, Row] = {
    "HOST": ("hub.host", _text, ""),
    "PORT": ("hub.port", _number(1, 65535), ""),
    "LOG_FILE": ("log_file", _text, ""),
    "LOG_LEVEL": ("log_level", _log_level, ""),
    "GPUs_STATUS_REFRESH_RATE_SECONDS": ("hub.interval", _number(0.1, 3600), ""),
    "MIN_GPU_UTILIZATION_PERCENT": ("hub.idle_utilization", _number(0, 100), ""),
    "MIN_GPU_MEMORY_GB": ("hub.idle_memory", _number(0.001, 10**4, 1.0, "GB"), ""),
    "GPU_UTILIZATION_HISTORY_DAYS": ("hub.raw_retention", _number(1, 3650, 1.0, "d"), ""),
    "GPU_ACTIVITY_CHECK_MINUTES": ("", None, "every reading is kept"),
    "GPU_CONFIG": ("", None, "models and numbers of GPUs come from the driver"),
    "REVOKE_IDLE_GPU_AFTER_HOURS": ("", None, f"{_NO_RESERVATIONS}; pages call a GPU idle after hub.idle_after"),
    "CHECK_FOR_IDLE_GPU_HOURS": ("", None, _NO_RESERVATIONS),
    "USER_LOCKOUT_HOURS": ("", None, _NO_RESERVATIONS),
    "FORCE_REVOKE": ("", None, _NO_RESERVATIONS),
    "DISK_CACHE_TIMEOUT_SECONDS": ("", None, "a node reads its disks every status_age seconds"),
    "PRIVILEGED_USERS": ("", None, _NO_ACCOUNTS),
    "SECRET_KEY": ("", None, _NO_ACCOUNTS),
    "TG_ACCOUNT_REQUIRED": ("", None, _NO_MESSAGES),
    "TELEGRAM_BOT_TOKEN": ("", None, _NO_MESSAGES),
    "TELEGRAM_CHAT_ID": ("", None, _NO_MESSAGES),
    "PROXY_URL": ("", None, _NO_MESSAGES),
    "REDIS_HOST": ("", None, _NO_REDIS),
    "REDIS_PORT": ("", None, _NO_REDIS),
    "REDIS_DB": ("", None, _NO_REDIS),
    "MAX_RESERVERVATION_DAYS": ("", None, _NO_RESERVATIONS),
    "MAX_EXTENSION_DAYS": ("", None, _NO_RESERVATIONS),
}
_MONITORING: Mapping[str, Row] = {
    "WORKER_ID": ("node.name", _text, ""),
    "UPDATE_INTERVAL": ("node.interval", _number(0.1, 3600), ""),
    "MASTER_URL": ("", None, "the hub asks the node: write its name into the hub's hosts file; behind a firewall node.push; or let the worker send on (hub.compat.workers)"),
    "TOKEN_FILE": ("", None, "a gpuwatch node has a password or a key of its own"),
    "SQLALCHEMY_DATABASE_URI": ("", None, "what is in it comes over with gpuwatch db import FILE"),
}
_ACCESSGRID: Mapping[str, Row] = {
    "ACCESSGRID_ADMIN_USER": ("", None, _NO_ACCOUNTS),
    "ACCESSGRID_ADMIN_PASS": ("", None, _NO_ACCOUNTS),
}


class _System(NamedTuple):
    rows: Mapping[str, Row]
    added: Mapping[str, str]
    """Our settings that stand for what its program has fixed: its port, so that addresses hold."""


SYSTEMS: Mapping[str, _System] = {
    "GPULocker (seed 003)": _System(_GPULOCKER, {"hub.port": "5151"}),
    "gpu-monitoring-system (seed 001)": _System(_MONITORING, {"hub.port": "5000", "hub.compat.workers": '"approve"'}),
    "AccessGrid (seed 000)": _System(_ACCESSGRID, {"hub.port": "5000"}),
}


def parse_env(text: str) -> Dict[str, str]:
    """Names and values of a ``.env`` file: quotes are taken off, ``# ...`` after a blank is a comment; other lines are left out."""
    found: Dict[str, str] = {}
    for raw in text[:MOST_BYTES].splitlines():
        match = _LINE.fullmatch(raw)
        if match is None or raw.lstrip().startswith("#"):
            continue
        name, value = match.groups()
        quote = value[:1]
        if quote in ("'", '"') and quote in value[1:]:
            value = value[1 : value.index(quote, 1)]
        else:
            value = re.split(r"\s+#|^#", value, maxsplit=1)[0].rstrip()
        found[name] = value
    return found


def translate(values: Mapping[str, str]) -> Translation:
    """What becomes of a file of one of the old systems. Raises UsageError for one that is of none of them."""
    name = max(SYSTEMS, key=lambda one: sum(1 for key in values if key in SYSTEMS[one].rows))
    system = SYSTEMS[name]
    if not any(key in system.rows for key in values):
        raise UsageError("The file has no setting of GPULocker, gpu-monitoring-system or AccessGrid.", "Other programs have no .env: docs/migrate/ has their options.")
    lines = tuple(_line(key, value, system.rows.get(key)) for key, value in values.items())
    ours = {**system.added, **{line.ours: line.value for line in lines if line.value}}
    return Translation(name, lines, _toml(name, ours, lines))


def _line(name: str, value: str, row: Optional[Row]) -> Line:
    if row is None:
        return Line(name, "", "", "that system's programs are not known to read it")
    ours, convert, why = row
    if convert is None:
        secret = "; a secret: it is not shown here" if is_secret(name) else ""
        return Line(name, "", "", why + secret)
    try:
        told = convert(value)
    except ValueError:
        told = ""
    if not told or told == '""':
        return Line(name, ours, "", f"the value {value[:40]!r} is not understood: it stays at its default")
    return Line(name, ours, told, "")


def is_secret(name: str) -> bool:
    """Its value must not be shown."""
    return bool(_SECRET.search(name))


def _toml(system: str, ours: Mapping[str, str], lines: Tuple[Line, ...]) -> str:
    sections: Dict[str, List[str]] = {}
    for full, value in ours.items():
        section, _, name = full.rpartition(".")
        sections.setdefault(section, []).append(f"{name} = {value}")
    out = [f"# From the .env of {system}. Use it with --config FILE, readable by its owner alone (chmod 600 FILE)."]
    out += ["# password_file = \"/etc/gpuwatch/password\"  # the password between hub and nodes: write it there, not here (chmod 600)"]
    for section in sorted(sections):
        out += ["", f"[{section}]"] if section else []
        out += sections[section]
    left = [line for line in lines if not line.value]
    if left:
        out += ["", "# Not taken over:"] + [f"# {_comment(line.name)}: {_comment(line.why)}" for line in left]
    return "\n".join(out) + "\n"


def _comment(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)[:300]
