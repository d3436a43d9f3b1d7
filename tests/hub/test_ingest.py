"""The one door: good frames, hostile frames, events, clock skew."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hub.readings import busy, flat, frame, gpu, snapshot

from gpuwatch.hub.ingest import Ingest
from gpuwatch.hub.journal import Arrival, ArrivalQueue
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, Snapshot, XidEvent
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest
from gpuwatch.store import events
from gpuwatch.store.database import open_store
from gpuwatch.store.journal_rows import line_of
from gpuwatch.wire.changes import Given, shape_in
from gpuwatch.wire.flat import Flattener, shape_id
from gpuwatch.wire.frame import encode, encode_values

NOW = 1_790_000_000.0
A = Target("a", "10.0.0.1", 7080)


def make() -> Tuple[Latest, Ingest]:
    latest = Latest()
    latest.set_targets([(A, "id-a")], NOW)
    return latest, Ingest(latest, ArrivalQueue())


@pytest.fixture
def door() -> Tuple[Latest, Ingest]:
    return make()


def send(ingest: Ingest, snap: Snapshot, now: float, **more: Any) -> None:
    body = frame(snap, ingest.shape_id("id-a"), **more)
    ingest.accept(A, "id-a", body, now - 0.1, now)


def kinds(ingest: Ingest) -> List[str]:
    return [event.kind for event in ingest.take_events()]


def test_a_frame_becomes_the_newest_state_and_waits_for_the_store(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    assert ingest.shape_id("id-a") == ""
    send(ingest, snapshot(NOW, busy(0)), NOW)
    node = cluster(latest, NOW).nodes[0]
    assert (node.status, node.received_at, node.gpus[0].state.state) == ("up", NOW, "busy")
    shape, values = flat(snapshot(NOW, busy(0)))
    assert ingest.shape_id("id-a") == shape.id
    (arrival,) = ingest.arrivals.take(10)
    assert (arrival.machine_id, arrival.taken_at, arrival.received_at, arrival.shape.id) == ("id-a", NOW, NOW, shape.id)
    assert json.loads(line_of(arrival.texts)) == values


def test_a_known_shape_need_not_be_sent_again(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    send(ingest, snapshot(NOW, busy(0)), NOW)
    known = latest.get("a")
    send(ingest, snapshot(NOW + 5, busy(0)), NOW + 5)
    new = latest.get("a")
    assert known is not None
    assert new is not None
    assert new.plan is known.plan
    assert len(ingest.arrivals) == 2


def test_a_repeated_sample_is_not_stored_twice(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    for i in range(5):
        send(ingest, snapshot(NOW, busy(0)), NOW + i)
    assert len(ingest.arrivals) == 1


def test_a_target_that_is_gone_leaves_no_trace(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    latest.set_targets([], NOW)
    ingest.accept(A, "id-a", frame(snapshot(NOW)), NOW, NOW)
    assert len(ingest.arrivals) == 0


def test_skew_is_measured_from_the_middle_and_corrected_only_when_large(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    ingest.accept(A, "id-a", frame(snapshot(NOW - 412), sent_at=NOW - 411.9), NOW, NOW + 0.2)
    assert cluster(latest, NOW).nodes[0].clock_skew_seconds == -412.0
    (arrival,) = ingest.arrivals.take(1)
    assert arrival.taken_at == NOW
    ingest.accept(A, "id-a", frame(snapshot(NOW - 407.1), sent_at=NOW - 406.7), NOW + 5, NOW + 5.2)
    (arrival,) = ingest.arrivals.take(1)
    assert arrival.taken_at == pytest.approx(NOW + 4.9)  # still by the first 412 s: noise does not move it


def test_a_slow_answer_makes_no_clock_wrong(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    for place, (sent_at, asked_at) in enumerate(((NOW, NOW), (NOW + 16, NOW + 10), (NOW + 23, NOW + 20))):  # sent at once, at the end, in the middle
        ingest.accept(A, "id-a", frame(snapshot(sent_at - 0.5), sent_at=sent_at), asked_at, asked_at + 6)
        assert cluster(latest, NOW).nodes[0].clock_skew_seconds == (0.0 if place == 2 else None)
        (arrival,) = ingest.arrivals.take(9)
        assert arrival.taken_at == sent_at - 0.5
    ingest.accept(A, "id-a", frame(snapshot(NOW - 400), sent_at=NOW - 400), NOW + 30, NOW + 36)
    assert cluster(latest, NOW).nodes[0].clock_skew_seconds == -433.0


def test_times_that_cannot_be_are_replaced_by_the_time_of_arrival(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    for sent_at, taken_at in (({"x": 1}, NOW + 10_000), ("x", 0), (True, -5), (1e300, 1e18), (NOW, 5), ([1], NOW - 100_000)):
        send(ingest, snapshot(taken_at), NOW, sent_at=sent_at)
    assert [arrival.taken_at for arrival in ingest.arrivals.take(10)] == [NOW] * 6


def answers(node: Given, ingest: Ingest, snap: Snapshot, **header: Any) -> bytes:
    """A node's answer to what the hub says that it has."""
    made = Flattener().flatten(snap)
    known = ingest.shape_id("id-a")
    names, lines = node.answer(made.shape_id, encode_values(made.values), known)
    shape = {} if shape_in(known) == made.shape_id else {"shape": made.shape}
    return encode({"flat": 1, "sent_at": snap.taken_at, "shape_id": made.shape_id, **names, **shape, **header}, lines)


def test_what_changed_gives_what_the_whole_answer_gives(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    node, sizes, whole = Given(), [], []
    for i in range(4):
        snap = snapshot(NOW + 5 * i, busy(0, 50 + i), gpu(1))
        body = answers(node, ingest, snap)
        sizes.append(len(body))
        ingest.accept(A, "id-a", body, NOW + 5 * i, NOW + 5 * i)
        whole.append(encode_values(Flattener().flatten(snap).values))
        known = latest.get("a")
        assert known is not None
        assert known.values == flat(snap)[1]
    assert max(sizes[1:]) < sizes[0] / 4
    assert [line_of(arrival.texts) for arrival in ingest.arrivals.take(10)] == whole


def test_an_answer_on_an_unknown_sample_costs_one_reading(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    node = Given()
    ingest.accept(A, "id-a", answers(node, ingest, snapshot(NOW, busy(0))), NOW, NOW)
    assert "+" in ingest.shape_id("id-a")
    for bad in ({"base": "no.1"}, {"base": None}, {"base": 5}):
        with pytest.raises(WireError, match="builds on a sample"):
            ingest.accept(A, "id-a", answers(node, ingest, snapshot(NOW + 5, busy(0)), **bad), NOW, NOW + 5)
        assert "+" not in ingest.shape_id("id-a"), "the next answer is asked for whole"
        known = latest.get("a")
        assert known is not None
        assert known.values == flat(snapshot(NOW, busy(0)))[1]
        ingest.accept(A, "id-a", answers(node, ingest, snapshot(NOW, busy(0))), NOW, NOW)
    with pytest.raises(WireError):
        ingest.accept(A, "id-a", answers(node, ingest, snapshot(NOW + 5, busy(0)))[:-3] + b"\n", NOW, NOW + 5)
    ingest.accept(A, "id-a", answers(node, ingest, snapshot(NOW + 10, busy(0))), NOW, NOW + 10)
    known = latest.get("a")
    assert known is not None
    assert known.values == flat(snapshot(NOW + 10, busy(0)))[1]


def test_a_new_shape_comes_with_the_whole_line(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    node = Given()
    for i, snap in enumerate((snapshot(NOW, busy(0)), snapshot(NOW + 5, busy(0), busy(1)), snapshot(NOW + 10, busy(0), busy(1)))):
        body = answers(node, ingest, snap)
        assert (b'"base"' in body) == (i == 2)
        ingest.accept(A, "id-a", body, NOW, NOW + 5 * i)
        known = latest.get("a")
        assert known is not None
        assert known.values == flat(snap)[1]


def test_a_machine_that_is_not_watched_any_more_leaves_no_sample(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    ingest.accept(A, "id-a", answers(Given(), ingest, snapshot(NOW)), NOW, NOW)
    ingest.keep_shapes_of({})
    assert ingest.shape_id("id-a") == ""
    assert not ingest._samples


def body_of(**header: Any) -> bytes:
    return frame(snapshot(NOW), **header)


SHAPE, VALUES = flat(snapshot(NOW))
HEADER = {"flat": 1, "shape_id": SHAPE.id, "shape": SHAPE.doc}


def with_values(text: str) -> bytes:
    return json.dumps(HEADER).encode() + b"\n" + text.encode() + b"\n"


def changed(place: int, text: str) -> bytes:
    parts = [json.dumps(value) for value in VALUES]
    parts[place] = text
    return with_values("[" + ",".join(parts) + "]")


HOSTILE = {
    "empty": (b"", "not a gpuwatch frame"),
    "html": (b"<html>\n</html>", "not a gpuwatch frame"),
    "binary": (bytes(range(256)), "not a gpuwatch frame"),
    "a list": (b"[]\n[]\n", "not a gpuwatch frame"),
    "one line": (b'{"flat": 1}', "not a gpuwatch frame"),
    "broken header": (b'{"flat": \n[]\n', "not JSON"),
    "deep": (b'{"flat":' + b"[" * 100_000 + b"\n[]\n", "not JSON"),
    "readable status": (b'{"gpus": [],\n"hostname": "x"}\n', "not JSON"),
    "no flat": (b'{"gpus": []}\n[]\n', "readable status"),
    "newer": (b'{"flat": 2}\n[]\n', "frame version 2"),
    "no shape": (b'{"flat": 1, "shape_id": "' + b"0" * 32 + b'"}\n[]\n', "does not have"),
    "wrong id": (body_of(shape_id="0" * 32), "does not match its id"),
    "id a list": (body_of(shape_id=[]), "does not match its id"),
    "shape a text": (body_of(shape="x"), "not an object"),
    "shape of nothing": (body_of(shape={}), "not an object"),
    "too few": (with_values("[1]"), "values where its shape says"),
    "an object": (with_values("{}"), "not a list"),
    "text among numbers": (changed(3, '"x"'), "not a number"),
    "true among numbers": (changed(3, "true"), "not a number"),
    "NaN": (changed(3, "NaN"), "not a number"),
    "Infinity": (changed(3, "-Infinity"), "not a number"),
    "infinite by size": (changed(3, "1e400"), "out of range"),
    "huge": (changed(3, "9" * 300), "out of range"),
    "very huge": (changed(3, "9" * 5000), "not a number"),
    "not utf-8": (json.dumps(HEADER).encode() + b'\n["\xff"]\n', "not JSON"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_frames_are_refused_in_words_and_change_nothing(door: Tuple[Latest, Ingest], name: str) -> None:
    latest, ingest = door
    send(ingest, snapshot(NOW, busy(0)), NOW)
    before, version, waiting = latest.get("a"), latest.version, len(ingest.arrivals)
    body, words = HOSTILE[name]
    with pytest.raises(WireError, match=words) as error:
        ingest.accept(A, "id-a", body, NOW, NOW)
    assert len(str(error.value)) < 400
    assert latest.get("a") is before
    assert (latest.version, len(ingest.arrivals)) == (version, waiting)


def test_after_a_shape_nobody_knows_the_next_poll_asks_for_it(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    send(ingest, snapshot(NOW), NOW)
    with pytest.raises(WireError):
        ingest.accept(A, "id-a", b'{"flat": 1, "shape_id": "x"}\n[]\n', NOW, NOW)
    assert ingest.shape_id("id-a") == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def places(doc: Any, path: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    found = [path] if path else []
    for key in doc if isinstance(doc, dict) else range(len(doc)) if isinstance(doc, list) else ():
        found += places(doc[key], (*path, key))
    return found


def replaced(doc: Any, path: Tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(doc))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


RICH_SHAPE, RICH_VALUES = flat(
    snapshot(NOW, busy(0), gpu(1, missing={"fan_percent": "not supported"}), xids=(XidEvent(NOW, 79, "00000000:10:00.0", 5, "fallen"),))
)


@given(st.sampled_from(places(RICH_SHAPE.doc)), JSON, st.integers(-1, 3))
@settings(max_examples=300, deadline=None)
def test_any_shape_is_taken_in_or_refused_in_words(path: Tuple[Any, ...], value: Any, more: int) -> None:
    latest, ingest = make()
    doc = replaced(RICH_SHAPE.doc, path, value)
    values = (RICH_VALUES + [1.0] * 3)[: len(RICH_VALUES) + more]
    try:
        body = json.dumps({"flat": 1, "shape_id": shape_id(doc), "shape": doc}).encode() + b"\n" + json.dumps(values).encode()
        ingest.accept(A, "id-a", body, NOW, NOW)
    except WireError:
        assert len(ingest.arrivals) == 0
    ingest.tick(NOW)
    cluster(latest, NOW)
    cluster(latest, NOW, "admin")


@given(st.binary(max_size=400), st.dictionaries(st.sampled_from(["flat", "shape_id", "shape", "status", "sent_at"]), JSON))
@settings(max_examples=200, deadline=None)
def test_any_header_and_any_bytes(tail: bytes, header: Any) -> None:
    latest, ingest = make()
    good = json.loads(frame(snapshot(NOW)).partition(b"\n")[0])
    for body in (tail, json.dumps({**good, **header}).encode() + b"\n" + tail, json.dumps({**good, **header}).encode() + b"\n" + json.dumps(VALUES).encode()):
        try:
            ingest.accept(A, "id-a", body, NOW, NOW)
        except WireError as error:
            assert "\n" not in str(error)
        cluster(latest, NOW)


def test_events_of_gpus(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    send(ingest, snapshot(NOW, gpu(0), gpu(1)), NOW)
    assert kinds(ingest) == []
    lost = GpuReading(uuid="GPU-00000001", error="GPU is lost")
    send(ingest, snapshot(NOW + 5, gpu(0), lost), NOW + 5)
    (event,) = ingest.take_events()
    assert (event.kind, event.gpu_uuid, event.host, event.at, event.machine_id) == ("gpu_lost", "GPU-00000001", "a", NOW + 5, "id-a")
    assert "Next: " in event.message
    send(ingest, snapshot(NOW + 10, gpu(0), lost), NOW + 10)
    assert kinds(ingest) == []
    send(ingest, snapshot(NOW + 15, gpu(0), gpu(1)), NOW + 15)
    assert kinds(ingest) == ["gpu_back"]


def test_a_gpu_that_is_lost_already_at_the_first_look_is_told(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    send(ingest, snapshot(NOW, GpuReading(uuid="GPU-1", error="GPU is lost")), NOW)
    assert kinds(ingest) == ["gpu_lost"]


def xid(at: float, code: int = 79, **more: Any) -> XidEvent:
    return XidEvent(at, code, "0000:11:00", 4242, "GPU has fallen off the bus.", **more)


def test_xids_are_told_once_also_when_node_or_window_restart(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    send(ingest, snapshot(NOW, gpu(0), gpu(1), xids=(xid(NOW - 50),)), NOW)
    (event,) = ingest.take_events()
    assert (event.kind, event.at, event.gpu_uuid) == ("xid", NOW - 50, "GPU-00000001")
    assert event.message == "Xid 79, process 4242: GPU has fallen off the bus."
    send(ingest, snapshot(NOW + 5, gpu(0), gpu(1), xids=(xid(NOW - 50), xid(NOW + 3, 31))), NOW + 5)
    (event,) = ingest.take_events()
    assert event.message.startswith("Xid 31")
    send(ingest, snapshot(NOW + 10, gpu(0), gpu(1)), NOW + 10)
    send(ingest, snapshot(NOW + 15, gpu(0), gpu(1), xids=(xid(NOW - 49.5), xid(NOW + 3.2, 31), xid(NOW + 14, 31))), NOW + 15)
    (event,) = ingest.take_events()
    assert event.at == NOW + 14


def test_events_of_a_hostile_node_can_be_stored(door: Tuple[Latest, Ingest], tmp_path: Path) -> None:
    _, ingest = door
    send(ingest, snapshot(NOW, gpu(0)), NOW)
    impossible = (xid(1e18), xid(-1e18, 31), xid(NOW + 9e5, 32))
    send(ingest, snapshot(NOW + 5, gpu(0), xids=impossible), NOW + 5, status={"stale": True, "message": "\ud800 \u202e", "since_at": 1})
    taken = ingest.take_events()
    assert {event.at for event in taken} == {NOW + 5}
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    events.add(store, taken)
    assert len(events.newest(store, 10)) == len(taken) == 4
    store.close()


def test_restored_readings_bring_no_old_events(door: Tuple[Latest, Ingest]) -> None:
    latest, ingest = door
    lost = GpuReading(uuid="GPU-1", error="GPU is lost")
    shape, values = flat(snapshot(NOW - 500, lost, xids=(xid(NOW - 600),)))
    latest.restore("a", shape, values, NOW - 500)
    ingest.learn("id-a", shape, NOW)
    ingest.tick(NOW)
    send(ingest, snapshot(NOW, lost, gpu(1), xids=(xid(NOW - 600),)), NOW)
    ingest.tick(NOW)
    assert kinds(ingest) == []


def test_events_of_the_driver(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    good = snapshot(NOW, gpu(0))
    send(ingest, good, NOW)
    hung = {"status": {"stale": True, "message": "driver hung", "since_at": NOW + 1}}
    send(ingest, good, NOW + 5, **hung)
    send(ingest, good, NOW + 10, **hung)
    send(ingest, dataclasses.replace(good, taken_at=NOW + 15), NOW + 15)
    gone = dataclasses.replace(good, taken_at=NOW + 20, gpus=(), collectors=(CollectorStatus("nvml", False, "driver gone"),))
    send(ingest, gone, NOW + 20)
    told = [(event.kind, event.message) for event in ingest.take_events()]
    assert told == [("driver", "driver hung"), ("driver", "The driver answers again."), ("driver", "driver gone")]


def test_events_of_nodes(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    ingest.tick(NOW)
    send(ingest, snapshot(NOW + 1), NOW + 1)
    ingest.tick(NOW + 2)
    assert kinds(ingest) == ["node_up"]
    ingest.fail(A, "connection refused by 10.0.0.1:7080. Next: x", NOW + 10, False)
    for second in range(10, 70):
        ingest.tick(NOW + second)
    (event,) = ingest.take_events()
    assert (event.kind, event.message) == ("node_down", "connection refused by 10.0.0.1:7080. Next: x")
    send(ingest, snapshot(NOW + 80), NOW + 80)
    ingest.tick(NOW + 80)
    ingest.tick(NOW + 81)
    assert kinds(ingest) == ["node_up"]


def test_the_sample_between_the_first_two_polls_after_an_outage_is_asked_for_too() -> None:
    latest, ingest = make()
    gaps: List[Tuple[float, float]] = []
    ingest.missed = lambda target, machine_id, after, before: gaps.append((after - NOW, before - NOW))

    def take(at: float) -> None:
        send(ingest, snapshot(NOW + at, interval_seconds=5.0), NOW + at)

    for at in (0, 5, 14, 19):  # a poll that failed is no outage
        take(at)
    assert gaps == []
    for at in (319, 328, 333, 342, 352):  # 300 s, then one sample missing; later again as before
        take(at)
    assert gaps == [(19, 319), (319, 328)]


def test_events_that_could_not_be_kept_come_again(door: Tuple[Latest, Ingest]) -> None:
    _, ingest = door
    send(ingest, snapshot(NOW, GpuReading(uuid="GPU-1", error="x")), NOW)
    events = ingest.take_events()
    ingest.put_back_events(events)
    assert ingest.take_events() == events


def test_the_queue_is_bounded_and_counts_what_it_drops() -> None:
    queue = ArrivalQueue(most_bytes=1000)
    for i in range(30):
        queue.put(Arrival("m", i, i, SHAPE, ["1"] * 10))
    assert (len(queue), queue.dropped) == (10, 20)
    first = queue.take(4)
    assert [one.taken_at for one in first] == [20, 21, 22, 23]
    queue.put_back(first)
    assert [one.taken_at for one in queue.take(100)] == list(range(20, 30))
    assert len(queue) == 0
    queue.put(Arrival("m", 1, 1, SHAPE, ["1"] * 500))
    assert len(queue) == 1


def test_a_shape_that_comes_with_a_snapshot_counts_in_the_bound() -> None:
    queue = ArrivalQueue(most_bytes=1000)
    for i in range(30):
        queue.put(Arrival("m", i, i, SHAPE, ["1"] * 10, shape_bytes=400 if i == 29 else 0))
    assert (len(queue), queue.dropped) == (6, 24)
    _, ingest = make()
    queue = ingest.arrivals
    send(ingest, snapshot(NOW), NOW)
    (arrival,) = queue.take(100)
    assert arrival.shape_bytes > 100
    assert arrival.size_bytes == arrival.shape_bytes + 10 * len(arrival.texts)
