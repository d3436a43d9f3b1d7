"""Reading small files of /proc and /sys below the root that the node was told. Never raises for a file that is not there."""

from __future__ import annotations

import os
import select
from typing import Optional

_PIECE = 8192


def under(root: str, path: str) -> str:
    """``path`` (without its first slash) below ``root``, which stands for /."""
    return f"{root.rstrip('/')}/{path}"


def read_bytes(path: str, limit: int = 1 << 20) -> Optional[bytes]:
    """A file, at most about ``limit`` bytes of it; None when it cannot be read, e.g. since its process ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return _read_to_end(descriptor, limit)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read_to_end(descriptor: int, limit: int, at_once: bool = False) -> bytes:
    """From the start. Files of /proc that are lists (mounts, net/dev) give about a page per read, however much is asked for."""
    data = os.pread(descriptor, _PIECE, 0)
    if at_once and len(data) < _PIECE:
        return data
    piece = data
    while piece and len(data) < limit:
        piece = os.pread(descriptor, _PIECE, len(data))
        data += piece
    return data


def read_text(path: str, limit: int = 1 << 20) -> Optional[str]:
    """The same as text; bytes that are no UTF-8 are replaced."""
    data = read_bytes(path, limit)
    return None if data is None else data.decode("utf-8", "replace")


class KeptFile:
    """A small file of /proc that is read at each sample: kept open, read from its start. Opened anew when that fails.

    ``at_once``: the kernel writes it in one piece (single_open), so that a short read is its end.
    """

    def __init__(self, path: str, at_once: bool = False) -> None:
        self._path, self._descriptor, self._at_once = path, -1, at_once
        self._poll: Optional[select.poll] = None

    def read(self) -> bytes:
        """Its content, empty where it cannot be read."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return _read_to_end(self._descriptor, 1 << 20, self._at_once)
        except OSError:
            self.close()
            return b""

    def has_changed(self) -> bool:
        """For a list of mounts alone: whether it has changed since the last question, which the kernel tells by poll(2) (proc(5)).

        True whenever that cannot be told.
        """
        if self._descriptor < 0:
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLERR | select.POLLPRI)
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Close it; a later read opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor, self._poll = -1, None
