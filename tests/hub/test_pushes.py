"""What nodes push, in a whole hub: each sequence is stored once, nothing is skipped, whatever is repeated, killed or comes late."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import pytest
from tests.hub.nodes import Street
from tests.hub.readings import busy, flat, snapshot
from tests.hub.test_service import Lab, node, parked, status, stored, until

from gpuwatch.hub.enrolment import Asked
from gpuwatch.hub.journal import Arrival, ArrivalQueue, Mark
from gpuwatch.hub.pushes import NotYet
from gpuwatch.hub.service import Hub
from gpuwatch.model.errors import WireError
from gpuwatch.rules.shares import owner_of
from gpuwatch.store import codes, enrolled, events, machines, snapshots
from gpuwatch.wire.changes import told_since
from gpuwatch.wire.push import Push, Record, Reply, decode_reply, encode_push


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    made.write("")
    yield made
    made.stop()


def enrol(hub: Hub, name: str = "p1", **code: Any) -> str:
    assert hub.store is not None
    made = hub.enrolment.enrol(Asked(codes.new(hub.store, code.get("for_name", ""), 60, time.time()), name, "10.0.0.9"), time.time(), time.monotonic())
    assert made.row is not None
    until(lambda: made.row and hub.pair(made.row.name))
    return made.row.id


def record(sequence: int, at: float, util: float = 90, **changes: Any) -> Record:
    shape, values = flat(snapshot(at, busy(0, util)))
    return Record(sequence, shape.id, changes.get("status"), json.dumps(values, separators=(",", ":")).encode())


SHAPES: Dict[str, Any] = {flat(snapshot(1.0, busy(0)))[0].id: flat(snapshot(1.0, busy(0)))[0].doc}


def push(hub: Hub, id: str, records: Sequence[Record], after: Optional[int] = None, live: Optional[Record] = None, **more: Any) -> Reply:
    now = more.pop("now", time.time())
    body = encode_push(Push("0.1.0", more.pop("sent_at", now), after, records, live, more.pop("shapes", SHAPES), more.pop("lost", None)))
    return decode_reply(hub.pushes.take(id, body, "10.0.0.9", now))


def times(hub: Hub, name: str = "p1") -> List[float]:
    assert hub.store is not None
    return [entry.taken_at_ms / 1000 for entry in snapshots.read(hub.store, machines.find(hub.store, name).id)]


def test_a_push_is_shown_at_once_and_said_to_be_stored_when_it_is(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    with parked(hub):
        reply = push(hub, id, [record(1, now)])
        assert (reply.have, reply.stored, reply.sample, reply.orders) == (1, 0, 1, [])
        assert status(hub, "p1") == "up"
    until(lambda: push(hub, id, []).stored == 1)
    assert stored(hub, "p1") == 1
    with parked(hub):
        reply = push(hub, id, [record(2, now + 1)], after=1, shapes={})
    assert (reply.have, reply.stored) == (2, 1)
    assert reply.shape == record(1, now).shape_id
    assert hub.pushes.version_of(id) == "0.1.0"


def test_repeats_are_acknowledged_and_not_stored_twice(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    for _ in range(3):
        assert push(hub, id, [record(n, now + n / 10) for n in (1, 2, 3)]).have == 3
    assert push(hub, id, [record(n, now + n / 10) for n in (2, 3, 4)], after=1).have == 4
    until(lambda: push(hub, id, []).stored == 4)
    assert stored(hub, "p1") == 4


def test_what_changed_alone_is_enough_where_the_hub_has_the_one_before(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    one, two, three = (record(n, now + n / 10, util=50 + n) for n in (1, 2, 3))
    told = [after._replace(values=told_since(before.values, after.values) or b"", base=before.sequence) for before, after in ((one, two), (two, three))]
    assert b"\n" in told[0].values
    assert push(hub, id, [one, told[0]]).sample == 2
    assert push(hub, id, [told[1]], after=2).have == 3
    until(lambda: stored(hub, "p1") == 3)
    assert hub.store is not None
    kept = list(snapshots.read(hub.store, machines.find(hub.store, "p1").id))
    assert [entry.values for entry in kept] == [json.loads(each.values) for each in (one, two, three)]
    # a hub that does not have it says so, and takes nothing
    hub.pushes.forget()
    until(lambda: push(hub, id, []).stored == 3)
    again = record(4, now + 0.4)
    reply = push(hub, id, [again._replace(values=told_since(three.values, again.values) or b"", base=3)], after=3)
    assert (reply.have, reply.sample) == (3, 0)
    assert push(hub, id, [again], after=3).have == 4


def test_a_hub_that_was_killed_says_what_it_has_and_the_node_goes_back(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    push(hub, id, [record(1, now)])
    until(lambda: push(hub, id, []).stored == 1)
    with parked(hub):
        push(hub, id, [record(2, now + 0.1)], after=1)
        hub.ingest.arrivals.clear()  # as a kill would: it was taken, and is nowhere
        hub.pushes.forget()
        reply = push(hub, id, [record(3, now + 0.2)], after=2)
        assert (reply.have, reply.stored) == (1, 1)
    assert push(hub, id, [record(2, now + 0.1), record(3, now + 0.2)], after=1).have == 3
    until(lambda: stored(hub, "p1") == 3)


def test_after_a_restart_it_goes_on(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    push(hub, id, [record(n, now + n / 10) for n in (1, 2)])
    until(lambda: stored(hub, "p1") == 2)
    lab.stop()
    again = lab.start()
    until(lambda: again.pair("p1"))
    assert status(again, "p1") == "stale"
    with parked(again):
        reply = push(again, id, [record(n, now + n / 10) for n in (1, 2, 3)])
    assert (reply.have, reply.stored) == (3, 2)
    until(lambda: stored(again, "p1") == 3)


def test_two_hubs_on_one_database_store_it_once(lab: Lab, postgres: Any) -> None:
    with postgres.new_url() as url:
        one, two = lab.start(database=url, interval=1.0), lab.start(database=url, interval=1.0)
        until(lambda: one.store and two.store)
        id = enrol(one)
        until(lambda: two.pair("p1"))
        now = time.time()
        assert push(one, id, [record(1, now)]).have == 1
        assert push(two, id, [record(1, now), record(2, now + 0.1)]).have == 2  # it was not stored yet
        until(lambda: push(one, id, []).stored == 1 and push(two, id, []).stored == 2)
        assert push(one, id, [record(4, now + 0.3)], after=3).have == 2  # asked anew of the store
        assert push(one, id, [record(3, now + 0.2), record(4, now + 0.3)], after=2).have == 4
        until(lambda: stored(two, "p1") == 4)
        until(lambda: getattr(node(two, "p1"), "snapshot", None) and node(two, "p1").snapshot.taken_at == pytest.approx(now + 0.3, abs=0.01))
        assert status(one, "p1") == "up"
        found = times(one)
        assert len(found) == len(set(found)) == 4
        lab.stop()


def test_what_one_hub_was_sent_another_one_packs(lab: Lab, postgres: Any) -> None:
    with postgres.new_url() as url:
        one, two = lab.start(database=url), lab.start(database=url)
        until(lambda: all(sum(peer.alive for peer in hub.hubs()) == 2 for hub in (one, two)))
        id = enrol(one)
        until(lambda: two.pair("p1"))
        machine = two.pair("p1")[1]
        packer = one if owner_of(machine, [hub._me.id for hub in (one, two)]) == one._me.id else two
        other = two if packer is one else one
        until(lambda: packer.ingest.owns(machine))
        at = time.time() - 10
        for number in range(1, 20):
            push(other, id, [record(number, at + number / 10)], after=number - 1, now=at + number / 10)
        until(lambda: stored(other, "p1") == 19)
        until(lambda: other.store and other.store.rows("SELECT count(*) FROM block")[0][0] >= 3)
        assert times(other) == pytest.approx([at + number / 10 for number in range(1, 20)], abs=0.002)
        lab.stop()


def test_who_was_enrolled_just_now_is_known_at_once(lab: Lab) -> None:
    """Its first push may come before the hub looks at the database again: one that is unknown would be told to enrol once more."""
    hub = lab.start()
    until(lambda: hub.store is not None)
    assert hub.store is not None
    with parked(hub):
        made = hub.enrolment.enrol(Asked(codes.new(hub.store, "", 60, time.time()), "p1", "10.0.0.9"), time.time(), time.monotonic())
        assert made.row is not None
        assert hub.pushes._key(made.row.id) == bytes.fromhex(made.row.secret)
        with pytest.raises(NotYet):
            push(hub, made.row.id, [record(1, time.time())])
    until(lambda: hub.pair("p1"))
    assert push(hub, made.row.id, [record(1, time.time())]).have == 1


def test_who_was_enrolled_by_another_hub_just_now_is_known_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = lab.start()
    assert hub.store is not None
    with parked(hub):
        made = enrolled.add(hub.store, kind="push", name="p1", address="10.0.0.9", now=time.time(), secret="ab" * 32)
        assert hub.pushes._key(made.id) == bytes.fromhex("ab" * 32)
        assert hub.roster.get(made.id) is not None
        asked: List[str] = []
        monkeypatch.setattr(enrolled, "find", lambda store, id: asked.append(id))
        monkeypatch.setattr("gpuwatch.hub.pace.Pace.allows", lambda self, key, now: len(asked) < 3)
        for number in range(9):
            assert hub.pushes._key(f"{number:032x}") is None
            assert hub.pushes._key(f"no id {number}") is None
        assert len(asked) == 3, "strangers do not make it ask at any pace"
        monkeypatch.undo()


def test_as_long_as_the_database_was_not_read_nobody_is_unknown(lab: Lab) -> None:
    lab.database.write_bytes(b"no database" * 100)
    hub = lab.start()
    assert hub.store is None
    with pytest.raises(NotYet, match="database is away"):
        hub.pushes._key("0" * 32)
    lab.stop()
    lab.database.unlink()
    assert lab.start().pushes._key("0" * 32) is None, "in a new database there is nobody, which is known"


def test_what_comes_late_is_stored_and_does_not_touch_the_newest_state(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    hour = [record(n, now - 3600 + n * 5, util=n % 100) for n in range(1, 201)]
    reply = push(hub, id, hour[:100], live=record(0, now, util=33))
    assert reply.have == 100
    shown = node(hub, "p1")
    assert shown is not None
    assert shown.status == "up"
    assert shown.gpus[0].reading.utilization_percent == 33
    assert push(hub, id, hour[100:], after=100).have == 200
    until(lambda: stored(hub, "p1") == 200)
    assert times(hub) == [pytest.approx(now - 3600 + n * 5, abs=0.001) for n in range(1, 201)]


def test_times_that_cannot_be_are_left_out_and_acknowledged(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    reply = push(hub, id, [record(1, 1000.0), record(2, now + 9000), record(3, now - 40 * 86400), record(4, now - 5), record(5, now)])
    assert reply.have == 5
    until(lambda: push(hub, id, []).stored == 5)
    assert stored(hub, "p1") == 2


def test_a_clock_that_is_wrong_is_corrected_for_late_ones_too(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    push(hub, id, [record(n, now - 500 - 50 + n * 5) for n in range(1, 11)], now=now, sent_at=now - 500)
    until(lambda: stored(hub, "p1") == 10)
    assert times(hub) == [pytest.approx(now - 50 + n * 5, abs=0.05) for n in range(1, 11)]


def test_an_older_push_does_not_set_the_newest_state_back(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    push(hub, id, [record(1, now, util=11)])
    push(hub, id, [], live=record(0, now - 5, util=22), sent_at=now)
    shown = node(hub, "p1")
    assert shown is not None
    assert shown.gpus[0].reading.utilization_percent == 11
    push(hub, id, [record(2, now - 100, util=44)], after=1, sent_at=now - 99)  # its clock was set back
    shown = node(hub, "p1")
    assert shown is not None
    assert shown.gpus[0].reading.utilization_percent == 44


def test_a_node_that_is_polled_and_pushes_is_stored_once(lab: Lab) -> None:
    street = Street()
    try:
        fine = street.node()
        lab.write(f"p1=127.0.0.1:{fine.port}")
        hub = lab.start(interval=0.5)
        id = enrol(hub)
        until(lambda: stored(hub, "p1") >= 4)
        assert len(hub.cluster().nodes) == 1
        assert hub.store is not None
        machine = machines.find(hub.store, "p1").id
        kept = list(snapshots.read(hub.store, machine))[:4]
        shape = hub.ingest.shape_of(machine)
        assert shape is not None
        again = [Record(n + 1, one.shape_id, None, json.dumps(one.values, separators=(",", ":")).encode()) for n, one in enumerate(kept)]
        assert push(hub, id, again, live=again[-1], shapes={shape.id: shape.doc}).have == 4
        until(lambda: push(hub, id, []).stored == 4)
    finally:
        street.close()
    found = times(hub)
    assert len(found) == len(set(found))
    by_its_clock = [shape.taken_at(entry.values) for entry in snapshots.read(hub.store, machine)]
    assert len(by_its_clock) == len(set(by_its_clock))


def test_while_the_database_is_away_the_newest_is_shown_and_nothing_is_taken(lab: Lab, tmp_path: Path) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    push(hub, id, [record(1, now)])
    until(lambda: push(hub, id, []).stored == 1)
    with parked(hub):
        store, hub.store = hub.store, None
        hub.pushes.forget()
        reply = push(hub, id, [record(2, now + 1, util=77)], after=1)
        assert reply.have is None
        assert reply.hold_seconds > 0
        shown = node(hub, "p1")
        assert shown is not None
        assert shown.gpus[0].reading.utilization_percent == 77
        hub.store = store
    assert push(hub, id, [record(2, now + 1, util=77)]).have == 2


def test_a_hub_whose_store_cannot_follow_lets_nodes_keep_it(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    push(hub, id, [record(1, now)])
    with parked(hub):
        hub.ingest.arrivals._bytes += 60 * 1024**2
        reply = push(hub, id, [record(2, now + 1)], after=1)
        assert (reply.have, reply.hold_seconds > 0) == (1, True)
        hub.ingest.arrivals._bytes -= 60 * 1024**2
    assert push(hub, id, [record(2, now + 1)], after=1).have == 2


def test_while_many_wait_those_with_much_are_asked_to_take_their_time(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    hub.pushes.waiting = lambda: 1000
    reply = push(hub, id, [record(n, now - 100 + n) for n in range(1, 65)], live=record(0, now))
    assert (reply.have, reply.hold_seconds) == (64, 20.0)
    assert push(hub, id, [record(65, now + 1)], after=64).hold_seconds == 0.0
    hub.pushes.waiting = lambda: 3
    assert push(hub, id, [record(n, now - 30 + n / 10) for n in range(66, 99)], after=65, live=record(0, now + 2)).hold_seconds == 0.0


def test_what_a_node_had_to_drop_is_an_event(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    push(hub, id, [record(1, now)], lost=(812, now - 7200, now - 3600))
    until(lambda: hub.store and any(event.kind == "snapshots_lost" for event in events.newest(hub.store, 9)))
    assert hub.store is not None
    (event,) = [event for event in events.newest(hub.store, 9) if event.kind == "snapshots_lost"]
    assert event.message == "812 snapshots of 60 minutes were lost: the node's spool was full while this hub was away."


def test_hostile_pushes_are_refused_and_change_nothing(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    now = time.time()
    good = record(1, now)
    for bad in (
        good._replace(values=b"[1,2]"),
        good._replace(values=good.values.replace(b"null", b"NaN", 1)),
        good._replace(values=b"[1]\n[2]", base=7),
    ):
        try:
            assert push(hub, id, [bad]).have == 0
        except WireError:
            pass
    with pytest.raises(WireError):
        push(hub, id, [good._replace(shape_id="f" * 32)], shapes={"f" * 32: next(iter(SHAPES.values()))})
    assert push(hub, id, [good._replace(shape_id="e" * 32)], shapes={}).have == 0
    assert status(hub, "p1") == "unseen"
    assert push(hub, id, [good]).have == 1


def test_who_is_not_enrolled_any_more_is_not_known(lab: Lab) -> None:
    hub = lab.start()
    id = enrol(hub)
    assert hub.pushes._key(id) is not None
    assert hub.store is not None
    enrolled.remove(hub.store, id)
    until(lambda: hub.pushes._key(id) is None)
    with pytest.raises(NotYet):
        push(hub, id, [record(1, time.time())])


def test_pushed_ones_are_never_dropped_from_the_queue() -> None:
    shape, _ = flat(snapshot(1.0))
    queue = ArrivalQueue(1000)
    queue.put(Arrival("m", 1.0, 1.0, shape, ["1"] * 30, mark=Mark("a", 1)))
    for _ in range(5):
        queue.put(Arrival("m", 1.0, 1.0, shape, ["2"] * 30))
    assert queue.dropped == 3
    assert [bool(one.mark) for one in queue.take(9)] == [True, False, False]
    assert not queue.is_filling


