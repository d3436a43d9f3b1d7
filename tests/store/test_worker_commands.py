"""The queue of orders to workers on both databases: states, at most once, no lost stop."""

import threading

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.store import worker_commands as queue

NOW = 1_790_000_000.0


def state(store, id, worker="w"):
    found = queue.find(store, worker, id)
    return found.status, found.output


def test_a_command_runs_grows_and_completes(store):
    id = queue.submit(store, "w", "nvidia-smi", NOW)
    taken = queue.take(store, "w", NOW + 1)
    assert (taken.id, taken.command, taken.status, taken.created_at) == (id, "nvidia-smi", "running", NOW)
    assert queue.report(store, "w", id, "running", "a\n", NOW + 2)
    assert queue.report(store, "w", id, "running", "a\nb\n", NOW + 3)
    assert state(store, id) == ("running", "a\nb\n")
    assert queue.report(store, "w", id, "completed", "a\nb\nc\n", NOW + 4)
    assert state(store, id) == ("completed", "a\nb\nc\n")
    assert queue.find(store, "w", id).updated_at == NOW + 4


def test_commands_come_in_order_each_once_to_its_own_worker(store):
    first, other, second = queue.submit(store, "w", "1", NOW), queue.submit(store, "v", "x", NOW), queue.submit(store, "w", "2", NOW)
    assert [queue.take(store, "w", NOW).id for _ in range(2)] == [first, second]
    assert queue.take(store, "w", NOW) is None
    assert queue.take(store, "v", NOW).id == other
    assert queue.find(store, "w", other) is None
    assert not queue.report(store, "w", other, "completed", "", NOW)
    assert not queue.report(store, "w", 999, "completed", "", NOW)
    assert not queue.report(store, "w", 2**70, "completed", "", NOW)
    assert [one.id for one in queue.newest(store, "w")] == [second, first]


def test_many_requests_at_once_get_a_command_once(store):
    ids = [queue.submit(store, "w", str(number), NOW) for number in range(6)]
    taken = []

    def ask():
        for _ in range(8):
            found = queue.take(store, "w", NOW)
            if found is not None:
                taken.append(found.id)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == ids


def test_a_stop_is_not_lost_when_the_worker_reports_running_again(store):
    id = queue.submit(store, "w", "sleep 100", NOW)
    queue.take(store, "w", NOW)
    assert queue.stop(store, id, NOW) == "stopping"
    assert queue.report(store, "w", id, "running", "still here", NOW + 1)
    assert state(store, id) == ("stopping", "still here")
    assert queue.report(store, "w", id, "stopped", "still here\nstopped.", NOW + 2)
    assert state(store, id) == ("stopped", "still here\nstopped.")
    assert queue.stop(store, id, NOW + 3) == "stopped"


def test_what_ended_while_it_was_to_be_stopped_ends_as_it_did(store):
    id = queue.submit(store, "w", "x", NOW)
    queue.take(store, "w", NOW)
    queue.stop(store, id, NOW)
    assert queue.report(store, "w", id, "completed", "done", NOW)
    assert state(store, id) == ("completed", "done")


def test_what_was_not_fetched_yet_is_stopped_at_once_and_never_given(store):
    id = queue.submit(store, "w", "x", NOW)
    assert not queue.report(store, "w", id, "completed", "made up", NOW)
    assert queue.stop(store, id, NOW) == "stopped"
    assert queue.take(store, "w", NOW) is None
    with pytest.raises(UsageError, match="no command 77"):
        queue.stop(store, 77, NOW)


def test_a_report_that_comes_again_or_late_changes_nothing(store):
    id = queue.submit(store, "w", "x", NOW)
    queue.take(store, "w", NOW)
    assert queue.report(store, "w", id, "failed", "exit 3", NOW)
    for status, output in (("failed", "exit 3"), ("running", "older"), ("completed", "other")):
        assert queue.report(store, "w", id, status, output, NOW + 9)
        assert state(store, id) == ("failed", "exit 3")


def test_what_nothing_is_heard_of_is_given_up_and_says_that_it_may_have_run(store):
    lost, told, waiting = (queue.submit(store, "w", name, NOW) for name in "abc")
    queue.take(store, "w", NOW)
    queue.take(store, "w", NOW)
    queue.report(store, "w", told, "running", "x", NOW + 7000)
    assert queue.give_up_silent(store, NOW + 7201) == 1
    assert state(store, lost)[0] == "failed"
    assert "may have run or not" in state(store, lost)[1]
    assert (state(store, told)[0], state(store, waiting)[0]) == ("running", "pending")
    assert queue.give_up_silent(store, NOW + 7202) == 0


@pytest.mark.parametrize("command", ["", " \n", "x" * 4001, "a\0b"])
def test_what_is_no_command(store, command):
    with pytest.raises(UsageError):
        queue.submit(store, "w", command, NOW)


def test_the_queue_of_a_worker_is_bounded(store, monkeypatch):
    monkeypatch.setattr(queue, "MOST_PENDING", 2)
    queue.submit(store, "w", "1", NOW)
    queue.submit(store, "w", "2", NOW)
    with pytest.raises(UsageError, match="2 commands wait"):
        queue.submit(store, "w", "3", NOW)
    queue.submit(store, "v", "1", NOW)


def test_a_worker_that_is_forgotten_takes_its_commands_with_it(store):
    queue.submit(store, "w", "1", NOW)
    kept = queue.submit(store, "v", "2", NOW)
    with store.writing():
        queue.forget(store, "w")
    assert (queue.newest(store, "w"), queue.newest(store, "v")[0].id) == ([], kept)


def test_old_commands_that_have_ended_go(store, monkeypatch):
    monkeypatch.setattr(queue, "MOST_KEPT", 3)
    ids = []
    for number in range(6):
        ids.append(queue.submit(store, "w", str(number), NOW))
        queue.take(store, "w", NOW)
        if number:
            queue.report(store, "w", ids[-1], "completed", "", NOW)
    assert [one.id for one in queue.newest(store, "w")] == [*reversed(ids[3:]), ids[0]], "the first one still runs"
    assert queue.submit(store, "w", "x", NOW) == ids[-1] + 1
