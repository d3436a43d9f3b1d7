"""Workers in the database, on both: states, tokens that are not stored, moves."""

from __future__ import annotations

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.store import enrolled, worker_commands, workers

NOW = 1_790_000_000.0


def add(store, worker_id="w", address="10.0.0.7", state="waiting", name=None):
    return workers.add(store, worker_id, name or worker_id, address, state, NOW + len(workers.list_all(store)), ())


def test_a_worker_is_added_once_for_an_id_and_an_address(store):
    first = add(store)
    assert add(store) == first
    other = add(store, address="10.0.0.8")
    assert (other.name, other.secret != first.secret) == ("w-2", True)
    assert [(one.worker_id, one.address) for one in workers.list_all(store)] == [("w", "10.0.0.7"), ("w", "10.0.0.8")]
    enrolled.add(store, kind="push", name="gpu1", address="h", now=NOW)
    assert len(workers.list_all(store)) == 2


def test_tokens_are_made_of_the_databases_key_and_never_stored(store):
    key = workers.key(store)
    assert workers.key(store) == key
    assert len(key) == 32
    row = add(store)
    token = workers.token_of(key, row)
    assert token == workers.token_of(key, row)
    assert token != workers.token_of(b"other" * 8, row)
    assert token not in str(store.rows("SELECT * FROM enrolled")) + str(store.rows("SELECT * FROM meta"))
    assert workers.by_token(key, [row]) == {token: row}


def test_inert_tokens_are_known_by_their_form_alone(store):
    key = workers.key(store)
    tokens = {workers.inert_token(key) for _ in range(50)}
    assert len(tokens) == 50
    assert all(workers.is_inert(key, token) and len(token) == 32 for token in tokens)
    some = tokens.pop()
    for wrong in ("", some[:-1], some + "0", some[:-1] + ("0" if some[-1] != "0" else "1"), "0" * 32, "\ud800" * 32, workers.token_of(key, add(store))):
        assert not workers.is_inert(key, wrong), wrong
    assert not workers.is_inert(b"x" * 32, some)


def test_approving_and_forgetting(store):
    row = add(store)
    done = workers.approve(store, "w")
    assert (done.row.id, done.row.state) == (row.id, "approved")
    for wanted in ("w", row.id):
        with pytest.raises(UsageError, match="is let in already, from 10.0.0.7"):
            workers.approve(store, wanted)
    with pytest.raises(UsageError, match="no worker 'x'"):
        workers.approve(store, "x")
    worker_commands.submit(store, row.id, "id", NOW)
    assert workers.forget(store, row.id).worker_id == "w"
    assert (workers.list_all(store), worker_commands.newest(store, row.id)) == ([], [])
    with pytest.raises(UsageError, match="worker list"):
        workers.forget(store, "w")


def test_one_that_moved_takes_its_place_and_the_old_token_ends(store):
    key, old = workers.key(store), add(store, state="approved")
    id = worker_commands.submit(store, old.id, "id", NOW)
    new = add(store, address="10.0.0.8")
    moved = workers.approve(store, "w")
    (left,) = workers.list_all(store)
    assert (left.row.id, left.row.name, left.address, left.row.last_address, left.row.state) == (old.id, "w", "10.0.0.8", "10.0.0.8", "approved")
    assert workers.token_of(key, left.row) == workers.token_of(key, new) != workers.token_of(key, old)
    assert moved.row.id == old.id
    assert worker_commands.find(store, old.id, id) is not None


def test_several_that_wait_under_one_id_are_to_be_named(store):
    add(store)
    add(store, address="10.0.0.8")
    with store.writing():
        enrolled.change(store, workers.list_all(store)[0].row.id, name="first")
    for act in (workers.approve, workers.forget):
        with pytest.raises(UsageError, match="2 workers call themselves 'w'.*first, w-2"):
            act(store, "w")
    assert workers.approve(store, "w-2").address == "10.0.0.8"


def test_a_damaged_detail_is_a_worker_of_its_name(store):
    row = enrolled.add(store, kind="worker", name="w", address="10.0.0.7", now=NOW, detail="{")
    assert workers.of_row(row)[:2] == ("w", "10.0.0.7")


def test_who_waits_and_is_not_heard_for_a_day_waits_no_more(store):
    add(store, "silent")
    heard, kept = add(store, "heard"), add(store, "let in", state="approved")
    enrolled.touch(store, [(heard.id, "10.0.0.7", NOW + 50_000)])
    assert workers.forget_silent(store, NOW + 86_000) == 0
    assert workers.forget_silent(store, NOW + 90_000) == 1
    assert [one.row.id for one in workers.list_all(store)] == [heard.id, kept.id]
    assert workers.forget_silent(store, NOW + 200_000) == 1
