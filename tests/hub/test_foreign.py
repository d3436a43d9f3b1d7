"""Whole snapshots from any thread: the same path as frames, the same refusals."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import List, Tuple

import pytest
from tests.hub.readings import busy, flat, frame, gpu, snapshot

from gpuwatch.hub.ingest import Ingest
from gpuwatch.hub.journal import ArrivalQueue
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest
from gpuwatch.store.journal_rows import line_of

NOW = 1_790_000_000.0
TARGETS = [(Target(f"n{number}", "10.0.0.1", 7080), f"id-{number}") for number in range(4)]


def make() -> Tuple[Latest, Ingest]:
    latest = Latest()
    latest.set_targets(TARGETS, NOW)
    return latest, Ingest(latest, ArrivalQueue())


def test_a_snapshot_is_taken_in_like_a_frame() -> None:
    latest, ingest = make()
    ingest.accept_snapshot(*TARGETS[0], snapshot(NOW, busy(0)), NOW)
    ingest.accept_snapshot(*TARGETS[0], snapshot(NOW + 5, busy(0, 50)), NOW + 5)
    view = cluster(latest, NOW + 5).nodes[0].gpus[0]
    assert (view.state.state, view.reading.utilization_percent) == ("busy", 50)
    first, second = ingest.arrivals.take(9)
    shape, values = flat(snapshot(NOW, busy(0)))
    assert (first.shape.id, json.loads(line_of(first.texts)), first.taken_at) == (shape.id, values, NOW)
    assert second.shape is first.shape
    assert first.shape_bytes > 0 == second.shape_bytes


def test_facts_that_change_and_come_back_are_another_shape() -> None:
    _, ingest = make()
    for number, snap in enumerate((snapshot(NOW, gpu(0)), snapshot(NOW + 1, busy(0)), snapshot(NOW + 2, gpu(0)))):
        ingest.accept_snapshot(*TARGETS[0], snap, NOW + number)
    one, two, three = ingest.arrivals.take(9)
    assert one.shape.id == three.shape.id != two.shape.id


@pytest.mark.parametrize(
    "broken",
    [
        snapshot(NOW, gpu(0, power_watts=float("nan"))),
        snapshot(NOW, gpu(0, power_watts=1e300)),
        snapshot(NOW, gpu(0), gpu(0)),
        snapshot(NOW, gpu(0, uuid="")),
        snapshot(NOW, gpu(0, name="x" * 2_000_000)),
        snapshot(NOW, gpu(0, power_watts="many")),
    ],
)
def test_what_a_node_would_be_refused_for_is_refused(broken: object) -> None:
    latest, ingest = make()
    with pytest.raises(WireError):
        ingest.accept_snapshot(*TARGETS[0], broken, NOW)
    assert len(ingest.arrivals) == 0
    assert latest.get("n0").plan is None
    ingest.accept_snapshot(*TARGETS[0], snapshot(NOW, gpu(0)), NOW)
    assert len(ingest.arrivals) == 1


def test_of_another_hubs_machine_only_what_was_sent_here_is_kept() -> None:
    _, ingest = make()
    ingest.owns = lambda machine_id: False
    ingest.accept_snapshot(*TARGETS[0], snapshot(NOW, gpu(0)), NOW)
    assert len(ingest.arrivals) == 0
    ingest.accept_snapshot(*TARGETS[0], snapshot(NOW + 1, gpu(0)), NOW + 1, sent=True)
    (arrival,) = ingest.arrivals.take(9)
    assert arrival.sent


def test_a_machine_that_is_another_one_now_changes_nothing() -> None:
    latest, ingest = make()
    ingest.accept_snapshot(TARGETS[0][0], "id-old", snapshot(NOW, gpu(0)), NOW)
    assert latest.get("n0").plan is None
    assert len(ingest.arrivals) == 0


def test_many_threads_come_in_at_once_and_nothing_is_lost() -> None:
    """Frames and snapshots, several threads on one machine: each sample is kept once, and what is known is one of the samples."""
    latest, ingest = make()
    errors: List[BaseException] = []

    def send(which: int, thread: int) -> None:
        try:
            for number in range(60):
                at = NOW + thread * 1000 + number
                snap = dataclasses.replace(snapshot(at, busy(0, number % 100), gpu(1)), interval_seconds=float(1 + number % 3))
                if thread % 2:
                    ingest.accept_snapshot(*TARGETS[which], snap, at)
                else:
                    ingest.accept(*TARGETS[which], frame(snap), at, at)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=(which, thread)) for thread in range(4) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    kept = ingest.arrivals.take(10_000)
    assert len(kept) == 4 * 4 * 60
    assert len({(one.machine_id, one.taken_at) for one in kept}) == len(kept)
    for one in kept:
        assert one.shape.count == len(one.texts)
