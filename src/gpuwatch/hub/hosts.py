"""The hosts file as it changes: looked at every two seconds; a bad line or a missing file costs only itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Tuple

from gpuwatch.config.hosts import BadLine, parse_hosts
from gpuwatch.hub.passwords import stamp_of
from gpuwatch.model.cluster import Target

LOOK_SECONDS = 2.0
MAX_BYTES = 8 * 1024**2
_SHOWN = 5


class Hosts(NamedTuple):
    """What the file says now. ``notice``: what is wrong with it, for every page; None = nothing."""

    targets: Tuple[Target, ...]
    notice: Optional[str]


class HostsFile:
    """Reads the file again when its time, size or inode changes."""

    def __init__(self, path: str, node_port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._node_port = node_port
        self._clock = clock
        self._looked_at = -LOOK_SECONDS
        self._stamp: object = "never read"
        self._targets: Tuple[Target, ...] = ()

    def changed(self) -> Optional[Hosts]:
        """The new content if it changed since the last call, else None. A file that cannot be read leaves the targets as they are."""
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return None
        self._looked_at = now
        stamp = stamp_of(self.path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        return self._read()

    def _read(self) -> Hosts:
        try:
            with Path(self.path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise OSError(27, f"larger than {MAX_BYTES} bytes")
        except OSError as error:
            kept = f"the {len(self._targets)} hosts known before stay" if self._targets else "no host is watched"
            return Hosts(self._targets, f"Hosts file {self.path} cannot be read ({error.strerror}): {kept}. Next: write it, one host a line.")
        self._targets, bad = parse_hosts(data.decode("utf-8", "replace"), port=self._node_port)
        return Hosts(self._targets, _notice(self.path, bad))


def _notice(path: str, bad: Tuple[BadLine, ...]) -> Optional[str]:
    if not bad:
        return None
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"Hosts file {path}: {'; '.join(map(str, bad[:_SHOWN]))}{more}. The other lines hold."
