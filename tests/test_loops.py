"""Background threads: beats, errors, wake, stop; and the event loop in a thread."""

import asyncio
import logging
import threading
import time

import pytest

from gpuwatch.loops import AsyncLoop, Loop, Repeats, Stop, next_beat
from gpuwatch.model.errors import GpuwatchError


@pytest.fixture
def stop():
    event = Stop()
    yield event
    event.set()


def wait_until(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.005)


def test_calls_at_once_and_then_every_interval(stop):
    times = []
    Loop("beat", times.append, 0.02, stop).start()
    wait_until(lambda: len(times) >= 5)
    assert times[0] == pytest.approx(time.time(), abs=60)
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("due", "now", "interval", "expected"),
    [
        (10.0, 10.1, 4.0, 14.0),
        (10.0, 13.9, 4.0, 14.0),
        (10.0, 14.0, 4.0, 18.0),
        (10.0, 23.0, 4.0, 26.0),
        (10.0, 9.9, 4.0, 14.0),
        (10.0, 11.0, 0.0, 11.0),
    ],
)
def test_beats_stay_on_multiples_and_missed_ones_are_left_out(due, now, interval, expected):
    assert next_beat(due, now, interval) == expected


def test_stop_ends_a_loop_in_a_long_interval_at_once(stop):
    calls = []
    loop = Loop("long", calls.append, 3600.0, stop).start()
    wait_until(lambda: calls)
    stop.set()
    assert loop.join(60.0)
    assert len(calls) == 1


def test_a_plain_event_ends_it_too():
    calls, stop = [], threading.Event()
    loop = Loop("plain", calls.append, 3600.0, stop).start()
    wait_until(lambda: calls)
    stop.set()
    assert loop.join(60.0)


def test_a_loop_made_with_a_set_stop_never_calls():
    stop, calls = Stop(), []
    stop.set()
    assert Loop("late", calls.append, 0.01, stop).start().join(60.0)
    assert calls == []


def test_wake_calls_at_once(stop):
    calls = []
    loop = Loop("wake", calls.append, 3600.0, stop).start()
    wait_until(lambda: len(calls) == 1)
    loop.wake()
    wait_until(lambda: len(calls) == 2)
    assert calls[1] - calls[0] < 3600, "not at the next beat"


def test_an_error_is_kept_and_backed_off_from_and_then_forgotten(stop, caplog):
    def fail_twice(now):
        calls.append(now)
        if len(calls) < 3:
            raise ValueError("broken")

    calls = []
    loop = Loop("faulty", fail_twice, 0.01, stop)
    with caplog.at_level(logging.INFO):
        loop.beat(0.0)
        assert isinstance(loop.last_error, ValueError)
        assert loop._back_off_seconds == 1.0
        loop.beat(0.0)
        assert loop._back_off_seconds == 2.0
        loop.beat(0.0)
    assert loop.last_error is None
    assert loop._back_off_seconds == 0.0
    assert [r.message for r in caplog.records] == [
        "faulty: ValueError: broken", "faulty: 2 times: ValueError: broken", "faulty: works again"
    ]  # fmt: skip


def test_even_a_system_exit_does_not_end_the_thread(stop):
    def leave(now):
        calls.append(now)
        raise SystemExit(3)

    calls = []
    loop = Loop("leaver", leave, 0.01, stop).start()
    wait_until(lambda: calls)
    loop.wake()
    wait_until(lambda: len(calls) >= 2)
    assert loop.alive


def test_the_longest_back_off_is_a_minute():
    loop = Loop("faulty", lambda now: 1 / 0, 0.01)
    for _ in range(20):
        loop.beat(0.0)
    assert loop._back_off_seconds == 60.0


def test_a_repeated_error_is_one_line_with_a_count(caplog):
    repeats = Repeats("poll")
    with caplog.at_level(logging.INFO):
        for _ in range(500):
            repeats.failed(GpuwatchError("The disk is full.", "Make room."))
        repeats.failed(OSError(5, "Input/output error"))
        repeats.worked()
        repeats.worked()
    assert [r.message for r in caplog.records] == [
        "poll: The disk is full. Make room.",
        "poll: 500 times: The disk is full. Make room.",
        "poll: OSError: [Errno 5] Input/output error",
        "poll: works again",
    ]
    assert caplog.records[0].exc_info is None
    assert caplog.records[2].exc_info[0] is OSError


def test_a_loop_tells_whether_it_does_its_work(monkeypatch):
    monkeypatch.setattr("gpuwatch.loops.HANGS_SECONDS", 0.2)
    stop, hold, fail = Stop(), threading.Event(), threading.Event()
    hold.set()

    def work(_):
        hold.wait(120)
        if fail.is_set():
            raise ValueError("secret")

    loop = Loop("x", work, 0.05, stop)
    assert loop.trouble() == "does not run"
    loop.start()
    wait_until(lambda: loop.trouble() == "")
    hold.clear()
    wait_until(lambda: loop.trouble().startswith("hangs for "))
    hold.set()
    wait_until(lambda: loop.trouble() == "")
    fail.set()
    wait_until(lambda: loop.trouble() == "fails; the log says why")
    fail.clear()
    loop.wake()
    wait_until(lambda: loop.trouble() == "")
    stop.set()
    assert loop.join(60)
    assert loop.trouble() == "does not run"


def test_a_long_interval_is_no_trouble(monkeypatch, stop):
    monkeypatch.setattr("gpuwatch.loops.HANGS_SECONDS", 0.1)
    loop = Loop("x", lambda _: None, 600, stop).start()
    wait_until(lambda: loop._due_at > time.monotonic() + 300)  # it was called, and waits
    time.sleep(0.3)
    assert loop.trouble() == ""


def test_an_async_loop_tells_whether_it_does_its_work(monkeypatch):
    monkeypatch.setattr("gpuwatch.loops.HANGS_SECONDS", 0.3)
    monkeypatch.setattr("gpuwatch.loops.ASYNC_BEAT_SECONDS", 0.01)
    loop, hold = AsyncLoop("x"), threading.Event()
    assert loop.trouble() == "does not run"

    async def main():
        await asyncio.Event().wait()

    loop.start(main)
    try:
        wait_until(lambda: loop.trouble() == "")
        loop.call(hold.wait, 120)
        wait_until(lambda: loop.trouble().startswith("hangs for "))
        hold.set()
        wait_until(lambda: loop.trouble() == "")
    finally:
        hold.set()
        assert loop.stop(60)
    assert loop.trouble() == "does not run"


def test_async_loop_runs_main_and_takes_calls_from_other_threads():
    seen = []

    async def main():
        seen.append(threading.current_thread().name)
        await asyncio.Event().wait()

    loop = AsyncLoop("poller").start(main)
    wait_until(lambda: seen)
    called = threading.Event()
    loop.call(lambda word: (seen.append(word), called.set()), "hello")
    assert called.wait(60.0)
    assert seen == ["poller", "hello"]
    assert loop.stop(60)
    assert not loop.alive
    loop.call(seen.append, "late")
    assert seen == ["poller", "hello"]


def test_async_loop_calls_main_again_after_an_error(monkeypatch):
    monkeypatch.setattr("gpuwatch.loops.FIRST_BACK_OFF_SECONDS", 0.01)
    tries = []

    async def main():
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("broken")
        await asyncio.Event().wait()

    loop = AsyncLoop("poller").start(main)
    wait_until(lambda: len(tries) == 3)
    assert loop.last_error is None, "it works again"
    assert loop.stop(60)


def test_async_loop_that_is_stopped_during_back_off_ends():
    async def main():
        raise RuntimeError("broken")

    loop = AsyncLoop("poller").start(main)
    wait_until(lambda: loop.last_error is not None)
    assert loop.stop(60)


def test_a_node_that_imports_loops_has_no_asyncio():
    import subprocess
    import sys

    code = "import sys; sys.path[:0] = %r; import gpuwatch.loops; print('asyncio' in sys.modules)" % [p for p in sys.path if p]
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
