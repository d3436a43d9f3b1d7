"""Reading small files of /proc and /sys below the root that the node was told. Never raises for a file that is not there."""

from __future__ import annotations

import os
from typing import Optional


def under(root: str, path: str) -> str:
    """``path`` (without its first slash) below ``root``, which stands for /."""
    return f"{root.rstrip('/')}/{path}"


def read_bytes(path: str, limit: int = 65536) -> Optional[bytes]:
    """At most ``limit`` bytes of a file in one read; None when it cannot be read, e.g. since its process ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return os.read(descriptor, limit)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_text(path: str, limit: int = 65536) -> Optional[str]:
    """The same as text; bytes that are no UTF-8 are replaced."""
    data = read_bytes(path, limit)
    return None if data is None else data.decode("utf-8", "replace")
