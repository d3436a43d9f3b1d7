"""The push: what goes in comes out, and everything else is refused in words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import WireError
from gpuwatch.wire.push import Push, Record, Reply, decode_push, decode_reply, encode_push, encode_reply

PUSH = Push(
    "0.1.0",
    1_790_000_000.125,
    7,
    [Record(8, "a" * 32, None, b"[1,2]"), Record(9, "a" * 32, {"stale": True, "message": "hung"}, b"[1]\n[3]", 8)],
    Record(0, "b" * 32, None, b"[5]"),
    {"b" * 32: {"facts": {}}},
    (3, 1.0, 2.0),
)


def test_a_push_comes_out_as_it_went_in():
    assert decode_push(encode_push(PUSH)) == PUSH
    bare = Push("", 0.0, None, [])
    assert decode_push(encode_push(bare)) == bare


def test_a_reply_comes_out_as_it_went_in():
    for reply in (Reply(9, 8, "a" * 32, 9, 5.0), Reply(None, 0), Reply(0, 0, orders=({"id": 1},))):
        assert decode_reply(encode_reply(reply)) == reply._replace(orders=list(reply.orders))
    assert json.loads(encode_reply(Reply(9, 8)))["orders"] == []


def changed(**head):
    first, _, rest = encode_push(PUSH).partition(b"\n")
    return json.dumps({**json.loads(first), **head}).encode() + b"\n" + rest


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]\n",
        changed(push=2),
        changed(records={}),
        changed(records=[[1, "x", None, 0]] * 300),
        changed(records=[[9, "a", None, 0], [8, "a", None, 0]]),
        changed(records=[[0, "a", None, 0]]),
        changed(records=[[True, "a", None, 0]]),
        changed(records=[[1.5, "a", None, 0]]),
        changed(records=[[8, "a" * 99, None, 0]]),
        changed(records=[[8, "a", None]]),
        changed(records=[[8, "a", None, -1]]),
        changed(records=[[8, "a", None, 0]]),
        changed(live="x"),
        changed(live=[1, 2]),
        changed(after=-1),
        changed(after="7"),
        changed(shapes=[1]),
        changed(sent_at="now"),
        encode_push(PUSH) + b"[7]\n",
        encode_push(PUSH)[:-5],
    ],
)
def test_what_is_no_push_is_refused(body):
    with pytest.raises(WireError):
        decode_push(body)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(body):
    with pytest.raises(WireError):
        decode_push(body)
    with pytest.raises(WireError):
        decode_reply(body)


@pytest.mark.parametrize("lost", [[1], ["a", 1, 2], [-1, 0, 0], [True, 0, 0], 7])
def test_what_is_said_of_losses_in_another_way_is_nothing(lost):
    assert decode_push(changed(lost=lost)).lost is None


@pytest.mark.parametrize("changes", [{"have": -1}, {"have": "x"}, {"stored": None}, {"hold": True}, {"sample": "x"}, {"push": 0}])
def test_an_answer_that_is_no_reply_is_refused(changes):
    with pytest.raises(WireError):
        decode_reply(json.dumps({**json.loads(encode_reply(Reply(9, 8))), **changes}).encode())

