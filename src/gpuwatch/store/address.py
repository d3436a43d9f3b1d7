"""Addresses of databases: which kind one names, which file, and how a message may name it. Opens nothing."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from gpuwatch.model.errors import UsageError

_HOW = "Write sqlite:///FILE or postgresql://USER@HOST/DATABASE."
_SCHEMES = ("postgresql", "postgres")
_TELLING = ("host", "port", "dbname", "service")
"""Of an address's settings: what says which database it is."""


def is_postgres(url: str) -> bool:
    """The address is one of a PostgreSQL server's database, well-formed or not."""
    return url.partition("://")[0] in _SCHEMES and "://" in url


def path_of(url: str) -> str:
    """The file that ``url`` names. Raises UsageError; a password in the address never appears in it."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "sqlite":
        raise UsageError(f"The database {without_secrets(url)!r} is of a kind that this gpuwatch cannot use.", _HOW)
    path = rest[1:] if separator else url
    if (separator and not rest.startswith("/")) or not path or path.startswith(":memory:") or "\0" in path:
        raise UsageError(f"{without_secrets(url)!r} names no database file.", f"{_HOW} sqlite:////FOLDER/FILE begins at the root.")
    return path


def label_of(url: str) -> str:
    """How messages name the database: its file, or its address without password. Raises UsageError for an address that is none."""
    if not is_postgres(url):
        return path_of(url)
    try:
        parts = urlsplit(url)
        outside = parts.path + parts.query + parts.fragment
        if "@" in outside or parts.fragment or re.search(r"[\0-\x20]", url):  # a password that was not escaped
            raise ValueError
        host = parts.netloc.rpartition("@")[2]
        user = f"{parts.username}@" if parts.username else ""
        options = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name in _TELLING], safe="/:,")
    except ValueError:
        raise UsageError(
            f"The address {without_secrets(url)!r} cannot be understood.",
            "Write postgresql://USER@HOST:PORT/DATABASE, special characters of a password as %XX, or put it into ~/.pgpass.",
        ) from None
    return f"postgresql://{user}{host}{parts.path}{'?' if options else ''}{options}"


def place_of(url: str) -> str:
    """The same for all addresses of one file; else as ``label_of``. Raises UsageError."""
    return label_of(url) if is_postgres(url) else os.path.realpath(path_of(url))


def without_secrets(url: str) -> str:
    """The address for a message about an address that cannot be understood: whatever may be a password is left out."""
    return re.sub(r"(password|passwd|pwd)=[^&]*", r"\1=***", re.sub(r"//.*@", "//***@", url, flags=re.S), flags=re.I)[:200]
