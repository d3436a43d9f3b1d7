"""How the poller asks targets that are no gpuwatch node: who speaks their language, and what becomes of their answers.

A speaker is a module of pure functions ``request(target, password)`` and ``read(body, target, now, memory)``. To add one: the module, a row
here, a row in ``model.foreign``. Must never give a password to a program that takes none.
"""

from __future__ import annotations

import time
from base64 import b64encode
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, Protocol

from gpuwatch.hub.link import Link
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.foreign import FOREIGN
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.query.latest import Report
from gpuwatch.wire.foreign import Request, Told
from gpuwatch.wire.http import build_request

if TYPE_CHECKING:
    from gpuwatch.hub.poller import Poller

SPEAKERS: Dict[str, str] = {
    "node_info+http": "gpuwatch.wire.legacy.seed002_node",
    "accessgrid+http": "gpuwatch.wire.legacy.seed000_node",
    "dcgm+http": "gpuwatch.wire.exporters.dcgm",
    "nvitop+http": "gpuwatch.wire.exporters.nvitop",
    "node+http": "gpuwatch.wire.exporters.node",
    "dcgm+https": "gpuwatch.wire.exporters.dcgm",
    "nvitop+https": "gpuwatch.wire.exporters.nvitop",
    "node+https": "gpuwatch.wire.exporters.node",
}
"""By scheme of the hosts file; imported when the first such target is asked."""


class Door(Protocol):
    """Who takes whole snapshots (``hub.ingest``)."""

    def accept_snapshot(self, target: Target, machine_id: str, snapshot: Snapshot, answered_at: float, *, report: Report = ...) -> None:
        """Raises WireError where it is refused."""


class Speaker:
    """Speaks with one target, and remembers what its reader wants to compare with the next answer."""

    def __init__(self, target: Target, interval_seconds: float) -> None:
        """``interval_seconds``: between two polls, and so between two samples."""
        self.target = target
        self._interval_seconds = interval_seconds
        self._module: Any = import_module(SPEAKERS[target.scheme])
        self._memory: Any = None

    def asked(self, password: str) -> Request:
        """What to ask. The password reaches only programs that take one; an exporter's only by TLS, and only that of its own line."""
        foreign = FOREIGN[self.target.scheme]
        request: Request = self._module.request(self.target, password if foreign.takes_password else "")
        if foreign.takes_user and self.target.user and self.target.password_file:
            pair = b64encode(f"{self.target.user}:{password}".encode()).decode()
            request = request._replace(headers={**request.headers, "Authorization": f"Basic {pair}"})
        return request

    def request(self, password: str) -> bytes:
        """The same as bytes for a connection that is kept."""
        method, path, body, headers = self.asked(password)
        return build_request(method, self.target.address, path, body, headers)

    def read(self, body: bytes, now: float) -> Told:
        """A 200 as a reading. Raises WireError in words; what was remembered then stays."""
        told: Told = self._module.read(body, self.target, now, self._memory)
        self._memory = told.memory
        if told.snapshot is None:
            raise WireError(told.trouble or "There is no reading.")
        interval_seconds = max(told.snapshot.interval_seconds, self._interval_seconds)
        return told._replace(snapshot=replace(told.snapshot, interval_seconds=interval_seconds))

    def take(self, door: Door, machine_id: str, body: bytes, now: float) -> None:
        """Hand a 200 to the hub. Raises WireError in words."""
        told = self.read(body, now)
        assert told.snapshot is not None
        report = Report(told.trouble is not None, told.trouble, told.since_at)
        door.accept_snapshot(self.target, machine_id, told.snapshot, now, report=report)


class _Plain:
    """The same bytes at each poll."""

    def __init__(self, asked: bytes) -> None:
        self._asked = asked

    def request(self, shape_id: str, now: float) -> bytes:
        return self._asked


class ForeignLink(Link):
    """Polls one target that is not gpuwatch."""

    def __init__(self, poller: Poller, target: Target, machine_id: str, interval_seconds: float) -> None:
        super().__init__(poller, target, machine_id, interval_seconds)
        self._speaker = Speaker(target, interval_seconds)

    async def _make_key(self, password: str) -> None:
        self._question = _Plain(self._speaker.request(password))
        self._go(self.poller.loop.time())

    def _take(self, body: bytes) -> None:
        self._speaker.take(self.poller.sink, self.machine_id, body, time.time())
