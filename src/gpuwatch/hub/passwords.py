"""Which password a target is asked with. Read by reference, again when its file changes; never logged, never shown.

What is wrong with a file stands in the log with its path; the error, which strangers read on a page, names no path.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from gpuwatch.config.load import read_secret
from gpuwatch.config.settings import DEFAULT_PASSWORD
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import UsageError
from gpuwatch.model.foreign import FOREIGN

log = logging.getLogger(__name__)
LOOK_SECONDS = 2.0


class _Read(NamedTuple):
    looked_at: float
    stamp: Optional[Tuple[int, int, int]]
    password: str
    trouble: str
    """What is wrong with the file; empty = nothing."""


class Passwords:
    """Called with a Target at each poll; costs a dictionary look-up, and a stat of the file every two seconds."""

    def __init__(self, common: str, common_file: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """``common``: the hub's own password, empty = the documented default; ``common_file``: where it came from, if from a file."""
        self._common = common or DEFAULT_PASSWORD
        self._common_file = common_file
        self._clock = clock
        self._files: Dict[str, _Read] = {}

    def __call__(self, target: Target) -> str:
        """The password of this target. Raises UsageError in words when its file cannot be read."""
        foreign = FOREIGN.get(target.scheme)
        if foreign is not None and not ((foreign.takes_password or foreign.takes_user) and target.password_file):
            # as it is: the common password is for signing, and never for these
            return DEFAULT_PASSWORD if foreign.takes_password else ""
        path = target.password_file or self._common_file
        if not path:
            return self._common
        read = self._files.get(path)
        now = self._clock()
        if read is None or now - read.looked_at > LOOK_SECONDS:
            read = self._files[path] = _look(path, read, now)
        if read.trouble:
            raise UsageError("The file with this node's password cannot be used.", "Next: the hub's log says why; mend the file.")
        return read.password


def _look(path: str, before: Optional[_Read], now: float) -> _Read:
    stamp = stamp_of(path)
    if before is not None and stamp is not None and stamp == before.stamp and not before.trouble:
        return before._replace(looked_at=now)
    try:
        return _Read(now, stamp, read_secret(path), "")
    except UsageError as error:
        if before is None or before.trouble != str(error):
            log.error("%s", error)
        return _Read(now, stamp, "", str(error))


def stamp_of(path: str) -> Optional[Tuple[int, int, int]]:
    """What changes when a file is written or replaced: (mtime in ns, inode, size); None where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
