"""What this hub missed of nodes that it polls, while it or the network was away: asked of them afterwards, in small pieces, for the store alone.

One thread, one node at a time, resting longer than it works: the present never waits for the past. A node that does not know the question, or was away itself,
has nothing, and is not asked again for that gap.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from typing import Callable, Dict, NamedTuple, Optional, Set, Tuple

from gpuwatch.hub.ingest import Came, Ingest, report_of
from gpuwatch.hub.pushes import known_times
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import GpuwatchError, WireError
from gpuwatch.store.database import Store
from gpuwatch.wire.asking import PATH, signer_of
from gpuwatch.wire.changes import Read
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.http import Trust
from gpuwatch.wire.kept import KeptConnection
from gpuwatch.wire.push import CONTENT_TYPE, Push, decode_push

log = logging.getLogger(__name__)
PIECE = 64
"""Snapshots asked for at once."""
PIECES_A_TURN = 8
"""Then the next node."""
DEADLINE_SECONDS = 10.0
LEAST_REST_SECONDS = 0.02
REST = 2.0
"""So many times as long as a piece took is rested after it."""
MOST_TRIES = 3
SCHEMES = ("http", "https")
MOST_BYTES = 4 * 1024**2


class Gap(NamedTuple):
    """What is missing of one machine: samples taken after one time and before another, by the hub's clock."""

    target: Target
    after: float
    before: float
    tries: int = 0


class Missed:
    """``note`` may be called on any thread, ``run_once`` by one Loop."""

    def __init__(self, ingest: Ingest, password: Callable[[Target], str], store: Callable[[], Optional[Store]], stop: threading.Event) -> None:
        self._ingest = ingest
        self._password = password
        self._store = store
        self._stop = stop
        self._gaps: OrderedDict[str, Gap] = OrderedDict()
        self._given: Dict[str, Set[int]] = {}
        """By machine whose gap is being filled, the times (ms) of what was handed on: a gap that grows meanwhile begins anew, before all of it is stored."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._gaps)

    def note(self, target: Target, machine_id: str, after: float, before: float) -> None:
        """Between these two samples of a machine some are missing (epoch seconds, the hub's clock)."""
        if target.scheme not in SCHEMES:
            return
        with self._lock:
            old = self._gaps.get(machine_id)
            self._gaps[machine_id] = Gap(target, after if old is None else min(old.after, after), before)

    def run_once(self, now: float) -> None:
        """Ask what there is to ask, until all is asked or the hub ends."""
        while not self._stop.is_set():
            with self._lock:
                found = next(iter(self._gaps.items()), None)
            store = self._store()
            if found is None or store is None or self._ingest.arrivals.is_filling:
                return
            self._turn(store, *found)

    def _turn(self, store: Store, machine_id: str, gap: Gap) -> None:
        try:
            left = self._fill(store, machine_id, gap)
        except GpuwatchError as error:
            log.debug("%s: what was missed cannot be asked: %s", gap.target.name, error)
            left = gap._replace(tries=gap.tries + 1) if gap.tries + 1 < MOST_TRIES else None
            self._stop.wait(1.0)
        with self._lock:
            if self._gaps.get(machine_id) == gap:
                del self._gaps[machine_id]
                if left is not None:
                    self._gaps[machine_id] = left  # behind the others
                else:
                    self._given.pop(machine_id, None)

    def _fill(self, store: Store, machine_id: str, gap: Gap) -> Optional[Gap]:
        """Some pieces; what is left then. Raises GpuwatchError."""
        target, count = gap.target, 0
        scheme = "https" if target.scheme == "https" else "http"
        connection = KeptConnection(f"{scheme}://{target.address.rpartition('://')[2]}", program="gpuwatch node", trust=Trust(target.pin, target.ca_file), max_bytes=MOST_BYTES)
        try:
            for _ in range(PIECES_A_TURN):
                began = time.monotonic()
                last = self._piece(connection, store, machine_id, gap)
                if last is None:
                    break
                count += last[1]
                gap = gap._replace(after=last[0], tries=0)
                if last[1] < PIECE:
                    break
                if self._stop.wait(max(LEAST_REST_SECONDS, REST * (time.monotonic() - began))):
                    return gap
            else:
                return gap
        finally:
            connection.close()
        if count:
            log.info("%s: %d snapshots that were missed are here now", target.name, count)
        return None

    def _piece(self, connection: KeptConnection, store: Store, machine_id: str, gap: Gap) -> Optional[Tuple[float, int]]:
        """(time of the last sample, how many came); None = the node has none. Raises WireError, UsageError, StoreError."""
        offset = self._ingest.clock_offset(machine_id)
        body = json.dumps({"flat": "", "missed": {"after": gap.after + offset, "before": gap.before + offset, "most": PIECE}}).encode()
        signer = signer_of(self._password(gap.target))
        headers = {"Content-Type": "application/json", "Accept": CONTENT_TYPE}
        response = connection.post(PATH, body, lambda: {**headers, "Authorization": signer.header("POST", PATH, body, time.time())}, DEADLINE_SECONDS)
        if response.status != 200:
            raise WireError(f"it answered {response.status}")
        if response.headers.get("content-type") != CONTENT_TYPE:
            return None  # an older gpuwatch
        push = decode_push(response.body)
        return self._keep(store, machine_id, gap, push, time.time()) if push.records else None

    def _keep(self, store: Store, machine_id: str, gap: Gap, push: Push, now: float) -> Tuple[float, int]:
        shapes = {shape_id: _shape(shape_id, doc) for shape_id, doc in push.shapes.items()}
        stored, given = known_times(store, machine_id, gap.after, gap.before), self._given.setdefault(machine_id, set())
        sample: Optional[Read] = None
        last = gap.after
        for record in push.records:
            shape = shapes.get(record.shape_id)
            if shape is None or (record.base and (sample is None or sample.shape_id != shape.id)):
                raise WireError("it does not bring what its snapshots build on")
            sample = self._ingest.read_pushed(shape, record.values, sample if record.base else None)
            at = self._ingest.keep_late(machine_id, Came(shape, sample, 0, report_of(record.status), None, now), None, lambda at: round(at * 1000) in given or stored(at))
            if at is not None:
                given.add(round(at * 1000))
                last = max(last, at)
        return last, len(push.records)


def _shape(shape_id: str, doc: object) -> Shape:
    shape = Shape.parse(doc)
    if shape.id != shape_id:
        raise WireError("a shape does not match its id")
    return shape
