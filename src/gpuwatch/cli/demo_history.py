"""The past of the demo: what its simulated nodes would have shown, written into the hub's database before the hub starts.

Snapshots take the way of live ones: into the journal, then packed and digested, a block and what follows from it in one transaction. What a hub
would have noted of each GPU (since when, the last 6 h) is noted too, so that the demo's hub starts like one that was restarted.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import click

from gpuwatch.config.settings import HubSettings, SamplerOptions
from gpuwatch.hub.restore import limits_of, to_row
from gpuwatch.model.event import Event
from gpuwatch.model.source import Source
from gpuwatch.query.plan import Plan
from gpuwatch.query.states import StateTracker
from gpuwatch.sim.source import make
from gpuwatch.store import events, machines, packing, snapshots, states
from gpuwatch.store.database import Store, open_store
from gpuwatch.store.digests import Digester
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.flat import Flattener, Shape
from gpuwatch.wire.numbers import texts_of

SPACING_SECONDS = 60.0
PORTION_SECONDS = 2 * 3600.0
"""Of each machine, before the next one's turn: what one block holds."""

Span = Tuple[float, float]


@dataclass
class Past:
    """A node to be: ``down`` are stretches without a reading."""

    name: str
    argument: str
    down: Sequence[Span] = ()
    machine_id: str = ""
    shape: Optional[Shape] = None
    watch: Optional[StateTracker] = None
    _plan: Optional[Plan] = None
    _flattener: Flattener = field(default_factory=Flattener)
    _source: Optional[Source] = None

    def snapshots(self, begin_at: float, end_at: float) -> Tuple[List[JournalEntry], Dict[Tuple[str, str], Dict[str, object]]]:
        """(snapshots of begin_at <= t < end_at, their shapes)."""
        options: Any = SamplerOptions(self.name, SPACING_SECONDS, 60.0, 60.0, 600.0, "", self.argument)
        source = self._source = self._source or make(options)
        entries: List[JournalEntry] = []
        docs: Dict[Tuple[str, str], Dict[str, object]] = {}
        at = begin_at
        while at < end_at:
            if not any(begin <= at < end for begin, end in self.down):
                flat = self._flattener.flatten(source.read(at))
                if flat.shape is not None:
                    docs[self.machine_id, flat.shape_id] = flat.shape
                    self.shape = Shape.parse(flat.shape)
                    self._plan = Plan(self.shape)
                if self.watch is not None and self._plan is not None:
                    self.watch.observe(self.machine_id, self._plan, flat.values, at)
                at_ms = round(at * 1000)
                entries.append(JournalEntry(self.machine_id, at_ms, at_ms + 20, flat.shape_id, texts_of(json.dumps(flat.values, separators=(",", ":")).encode())))
            at += SPACING_SECONDS
        return entries, docs


def midnight_before(now: float, zone: tzinfo) -> float:
    """The last midnight of the zone, in epoch seconds."""
    return datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def fill(settings: HubSettings, zone: tzinfo, pasts: Sequence[Past], seconds: float) -> None:
    """Write the last ``seconds`` of all into ``settings.database``, until now, with a progress bar on stderr. Raises StoreError."""
    with closing(open_store(settings.database)) as store:
        begin_at = _floor(time.time() - seconds)
        ids = machines.ensure_all(store, {past.name: "127.0.0.1" for past in pasts}, now=begin_at)
        watch = StateTracker(replace(limits_of(settings), down_after=3 * SPACING_SECONDS))
        for past in pasts:
            past.machine_id, past.watch = ids[past.name], watch
        by_id = {past.machine_id: past for past in pasts}
        digester = Digester(limits_of(settings), zone, lambda machine_id: by_id[machine_id].shape)
        events.add(store, [event for past in pasts for event in _events(past)])
        length = int(seconds / SPACING_SECONDS)
        shown: Any
        with click.progressbar(length=length, label=f"simulating {seconds / 86400:g} day{'' if seconds == 86400 else 's'}", file=sys.stderr, show_eta=True) as shown:
            _fill(store, pasts, digester, begin_at, shown.update)
        states.save(store, [to_row(row) for row in watch.take_changed(time.time())])


def _fill(store: Store, pasts: Sequence[Past], digester: Digester, begin_at: float, done: Callable[[int], None]) -> None:
    at = begin_at
    while at <= time.time():
        end_at = min(at + PORTION_SECONDS, _floor(time.time()) + SPACING_SECONDS)
        for past in pasts:
            entries, docs = past.snapshots(at, end_at)
            snapshots.append(store, entries, docs)
            packing.pack_machine(store, past.machine_id, round(PORTION_SECONDS / SPACING_SECONDS), digester=digester)
        done(round((end_at - at) / SPACING_SECONDS))
        at = end_at


def _floor(at: float) -> float:
    return at // SPACING_SECONDS * SPACING_SECONDS


def _events(past: Past) -> List[Event]:
    found = []
    for begin, end in past.down:
        found.append(Event(begin, "node_down", past.machine_id, past.name, "connection refused"))
        found.append(Event(end, "node_up", past.machine_id, past.name, "it answers again"))
    return found
