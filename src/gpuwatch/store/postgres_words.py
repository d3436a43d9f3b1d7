"""What PostgreSQL's errors mean, in words with the next step. Never names a password: its texts are looked up, not repeated, where one may hold it."""

from __future__ import annotations

from typing import Any, Tuple

import psycopg

from gpuwatch.model.errors import StoreError

_AWAY = "Start it, or check the address; storing goes on by itself when it answers"

_STATES: Tuple[Tuple[str, str, str], ...] = (
    ("55P03", "is in use by another writer for too long", "Try again; see who holds it in pg_stat_activity"),
    ("40P01", "had two writers that waited for each other", "Try again"),
    ("40001", "had two writers at once", "Try again"),
    ("53100", "cannot grow: the server's disk is full", "Free some space; storing goes on by itself then. What is stored is unharmed"),
    ("53200", "has no memory left on its server", "Give the server more memory"),
    ("53300", "takes no more connections", "Raise max_connections of the server, or close other programs' connections"),
    ("57P01", "was stopped", _AWAY),
    ("57P02", "was stopped", _AWAY),
    ("57P03", "is being started or stopped", _AWAY),
    ("57014", "broke off: it took too long", "Try again"),
    ("25006", "may not be written: it is read-only (a standby server?)", "Name the primary server with --database"),
    ("42501", "refuses: its user lacks a right ({error})", "Grant the user the rights to make and use tables in the schema"),
    ("42P01", "lacks a table ({error})", "It is damaged, or of another program: name another one with --database"),
    ("42703", "lacks a column ({error})", "It is damaged, or of another program: name another one with --database"),
    ("3D000", "does not exist", "Make it with: createdb -O USER DATABASE"),
    ("3F000", "has no schema to work in", "Make the schema that its address names in search_path"),
    ("28", "lets nobody in with this user name and password", "Correct them in the address, or in ~/.pgpass"),
    ("22003", "was given a number that is too large for it", "Please report this"),
    ("XX001", "is damaged ({error})", "Restore a backup of it"),
    ("XX002", "is damaged ({error})", "Restore a backup of it"),
    ("58", "cannot be read or written: the server reports {error}", "Check the server's disk and log"),
)
"""By the first characters of the SQLSTATE (appendix A of PostgreSQL's documentation)."""

_TEXTS: Tuple[Tuple[str, str], ...] = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("authentication failed", "28P01"),
    ("pg_hba.conf", "28000"),
    ("role ", "28000"),
    ("database ", "3D000"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
    ("not accepting connections", "57P03"),
    ("too many", "53300"),
    ("remaining connection slots", "53300"),
)
"""libpq tells no state of an error that comes before there is a connection."""


def in_words(error: psycopg.Error, label: str) -> StoreError:
    """The StoreError for what psycopg said about the database ``label``. The same words while the trouble is the same: they are a notice."""
    said = " ".join(str(error).split())[:100]
    state = error.sqlstate or _state_of(error)
    for sign, meaning, next_step in _STATES:
        if state.startswith(sign):
            return StoreError(f"The database {label} {meaning.format(error=said)}.", next_step + ".")
    if state == "away":
        return StoreError(f"The server of the database {label} does not answer.", _AWAY + ".")
    return StoreError(f"The database {label} failed ({state or type(error).__name__}): {said}.", "Please report this.")


def _state_of(error: psycopg.Error) -> str:
    if not isinstance(error, psycopg.OperationalError):
        return ""
    said = str(error)
    if "FATAL" in said:
        for sign, state in _TEXTS:
            if sign in said:
                return state
    return "28P01" if "no password supplied" in said else "away"


def is_broken(error: BaseException, connection: Any) -> bool:
    """The connection is of no use any more: the server went away, or ended the session."""
    return bool(connection.raw.closed or connection.raw.broken or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None))
