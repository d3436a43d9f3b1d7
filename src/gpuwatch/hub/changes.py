"""From what is known before and after to Events: a GPU was lost or is back, a new Xid, driver trouble, a node down or up.

Keeps only what it needs to tell new from known. Never writes; never repeats an event after a restart of hub or node.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Deque, Dict, Iterable, List, Optional

from gpuwatch.hub.answers import clean
from gpuwatch.model.event import Event
from gpuwatch.model.snapshot import XidEvent
from gpuwatch.query.latest import Known
from gpuwatch.rules.states import why_lost

SAME_XID_SECONDS = 5.0
"""The same Xid line read again after a restart of the node may differ a little in time: the kernel counts from the boot."""
XIDS_REMEMBERED = 128
_PCI = re.compile(r"(?:([0-9a-f]+):)?([0-9a-f]{2}:[0-9a-f]{2})(?:\.[0-9a-f])?")
_GOOD, _BAD = ("up",), ("down", "error")


class Changes:
    """Tells what is worth an Event."""

    def __init__(self) -> None:
        self._xids: Dict[str, Deque[XidEvent]] = {}
        self._nodes: Dict[str, str] = {}
        self._statuses: Dict[str, str] = {}
        """As of the last call."""

    def of_reading(self, old: Optional[Known], new: Known, now: float) -> List[Event]:
        """Events between two readings of one target. ``old`` without a plan: the first reading ever, or since a restart without one."""
        events: List[Event] = []
        if new.plan is None or old is None:
            return events
        if old.plan is not new.plan:
            self._gpus(old, new, now, events)
            self._new_xids(old, new, now, events)
        before, after = _trouble(old), _trouble(new)
        if before != after:
            events.append(_event(new, now, "driver", f"{after or 'The driver answers again.'}"))
        return events

    def of_nodes(self, known: Iterable[Known], now: float) -> List[Event]:
        """Events of nodes that went down or came back since the last call."""
        events: List[Event] = []
        for one in known:
            status = one.verdict.status
            if self._statuses.get(one.machine_id) == status:  # a thousand, each second
                continue
            self._statuses[one.machine_id] = status
            before = self._nodes.get(one.machine_id)
            if status in _BAD:
                self._nodes[one.machine_id] = "bad"
                if before == "good":
                    events.append(_event(one, now, "node_down", one.verdict.error or f"{one.target.name} is {status}."))
            elif status in _GOOD:
                self._nodes[one.machine_id] = "good"
                if before in ("bad", "unseen"):
                    text = "gives readings again." if before == "bad" else "gives its first readings."
                    events.append(_event(one, now, "node_up", f"{one.target.name} {text}"))
            elif status == "unseen":
                self._nodes[one.machine_id] = "unseen"
        return events

    def _gpus(self, old: Known, new: Known, now: float, events: List[Event]) -> None:
        assert new.plan is not None
        before = old.plan.errors if old.plan is not None else {}
        for uuid, error in new.plan.errors.items():
            was = before.get(uuid)
            if error is not None and was is None:
                events.append(_event(new, now, "gpu_lost", why_lost(error), uuid))
            elif error is None and was is not None:
                events.append(_event(new, now, "gpu_back", "The GPU answers again.", uuid))

    def _new_xids(self, old: Known, new: Known, now: float, events: List[Event]) -> None:
        assert new.plan is not None
        seen = self._xids.get(new.machine_id)
        if seen is None:
            seen = self._xids[new.machine_id] = deque(old.plan.xids if old.plan else (), maxlen=XIDS_REMEMBERED)
        for xid in new.plan.xids:
            if not any(_same(xid, one) for one in seen):
                seen.append(xid)
                events.append(_event(new, _time_of(xid, now), "xid", _xid_text(xid), _uuid_of(new, xid)))


def _trouble(known: Known) -> Optional[str]:
    if known.report.stale:
        return known.report.message or "The node's readings are old."
    return (known.plan.trouble or known.plan.warning) if known.plan else None


def _event(known: Known, at: float, kind: str, message: str, uuid: Optional[str] = None) -> Event:
    return Event(at, kind, known.machine_id, known.target.name, clean(message, 500), uuid)


def _time_of(xid: XidEvent, now: float) -> float:
    """When it happened, as the node says; ``now`` where that cannot be (a time that no database takes must not block the others)."""
    return xid.at if 0.0 <= xid.at <= now else now


def _same(one: XidEvent, other: XidEvent) -> bool:
    return (
        one.code == other.code
        and one.pci_bus_id == other.pci_bus_id
        and one.pid == other.pid
        and one.message == other.message
        and abs(one.at - other.at) < SAME_XID_SECONDS
    )


def _xid_text(xid: XidEvent) -> str:
    process = f", process {xid.pid}" if xid.pid is not None else ""
    return f"Xid {xid.code}{process}{f': {xid.message}' if xid.message else ''}"


def _uuid_of(known: Known, xid: XidEvent) -> Optional[str]:
    assert known.plan is not None
    wanted = _pci(xid.pci_bus_id)
    return next((uuid for uuid, bus in known.plan.buses.items() if wanted is not None and _pci(bus) == wanted), None)


def _pci(text: Optional[str]) -> Optional[str]:
    """Domain, bus and device, whatever the spelling: ``00000000:3B:00.0`` is ``0000:3b:00``."""
    match = _PCI.fullmatch((text or "").lower())
    return f"{int(match.group(1) or '0', 16):x}:{match.group(2)}" if match else None
