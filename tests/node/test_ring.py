"""The ring of a polled node: what a hub that was away asks for, and what it gets."""

import json

import pytest
from tests.hub.readings import busy, flat, snapshot

from gpuwatch.node.newest import Answer, Newest, Sample, Trouble
from gpuwatch.node.ring import Ring
from gpuwatch.wire.changes import Reader
from gpuwatch.wire.push import decode_push

AT = 1_790_000_000.0


def answer(number, trouble=None, gpus=1):
    shape, values = flat(snapshot(AT + number, *(busy(place, number % 100) for place in range(gpus))))
    return Answer(Sample(shape, json.dumps(values, separators=(",", ":")).encode()), trouble)


def read(body):
    """(seconds, utilization) of each record, as a hub reads them."""
    push, reader, last, found = decode_push(body), Reader(), None, []
    for record in push.records:
        last = reader.changed({}, last, record.values) if record.base else reader.whole({}, record.shape_id, record.values)
        assert record.shape_id in push.shapes
        found.append(last.values[0] - AT)
    return found


def test_a_hub_gets_what_is_between_in_order_and_not_the_ends():
    ring = Ring()
    for number in range(20):
        ring.add(answer(number, gpus=1 + number // 10))
    assert read(ring.between(AT + 5, AT + 15, 64, 0.0)) == list(range(6, 15))
    assert read(ring.between(AT + 5, AT + 15, 3, 0.0)) == [6, 7, 8]
    assert read(ring.between(0.0, 1e12, 0, 0.0)) == []
    assert read(ring.between(AT + 15, AT + 5, 64, 0.0)) == []
    push = decode_push(ring.between(0.0, 1e12, 64, 0.0))
    assert len(push.shapes) == 2
    assert sum(bool(record.base) for record in push.records) == 18


def test_what_was_wrong_then_is_told_with_it():
    ring = Ring()
    ring.add(answer(1, Trouble("driver hung", 7.0)))
    (record,) = decode_push(ring.between(0.0, 1e12, 64, 0.0)).records
    assert record.status == {"stale": True, "message": "driver hung", "since_at": 7.0}


def test_it_is_bounded_by_bytes():
    size = len(answer(0).sample.encoded)
    ring = Ring(size * 10)
    for number in range(100):
        ring.add(answer(number))
    assert 8 <= len(ring) <= 10
    assert read(ring.between(0.0, 1e12, 64, 0.0))[-1] == 99


def test_newest_tells_its_listeners_of_each_sample():
    newest, ring = Newest(), Ring()
    newest.listen(ring.add)
    for number in range(3):
        newest.accept(answer(number).sample)
    newest.fail(Trouble("hung", 1.0))
    assert read(ring.between(0.0, 1e12, 64, 0.0)) == [0, 1, 2]


@pytest.mark.parametrize("line", [b"[]", b"[null]", b"[x]"])
def test_a_sample_that_does_not_say_when_is_not_kept(line):
    class Odd:
        taken_at = answer(0).sample.shape.taken_at_in(line)

    assert Odd.taken_at is None
