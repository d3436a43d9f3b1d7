"""What is made before it is asked for: only in a rhythm, only what is slow, and never for readers that stopped coming."""

from __future__ import annotations

import threading
import time
from typing import List

import pytest

from gpuwatch.web import ahead
from gpuwatch.web.ahead import Ahead


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made() -> List[str]:
    return []


class NoLoop:
    """In the place of its Loop: the test is the beat."""

    def __init__(self, *_: object) -> None:
        pass

    def start(self) -> NoLoop:
        return self


@pytest.fixture
def ahead_of(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Ahead:
    monkeypatch.setattr(ahead, "Loop", NoLoop)
    return Ahead(clock)


def test_a_reader_in_a_rhythm_finds_it_ready(ahead_of: Ahead, clock: Clock, made: List[str]) -> None:
    ahead_of.took("metrics", 2.0)
    for _ in range(2):
        ahead_of.asked("metrics", "10.0.0.1", lambda: made.append("x"))
        clock.now += 15.0
    clock.now -= 15.0  # 15 s after the first asking: the next one is 15 s away, and ready 3.5 s before
    ahead_of.run_once(clock.now + 11.4)
    assert made == []
    ahead_of.run_once(clock.now + 11.6)
    assert made == ["x"]
    ahead_of.run_once(clock.now + 100)
    assert made == ["x"], "whoever does not come again costs one making"


def test_two_readers_of_one_moment_cost_one_making(ahead_of: Ahead, clock: Clock, made: List[str]) -> None:
    ahead_of.took("metrics", 1.0)
    for _ in range(2):
        for reader in ("10.0.0.1", "10.0.0.2"):
            ahead_of.asked("metrics", reader, lambda: made.append("x"))
        clock.now += 10.0
    ahead_of.run_once(clock.now)
    assert made == ["x"]


def test_a_reader_s_second_coming_is_guessed_and_a_look_in_between_changes_nothing(ahead_of: Ahead, clock: Clock, made: List[str]) -> None:
    ahead_of.took("metrics", 2.0)
    for _ in range(2):
        ahead_of.asked("metrics", "10.0.0.1", lambda: made.append("x"))
        clock.now += 1.0
    ahead_of.run_once(1000.0 + 15.0 - 3.6)
    assert made == []
    ahead_of.run_once(1000.0 + 15.0 - 3.4)
    assert made == ["x"]


@pytest.mark.parametrize(("took", "rhythm"), [(0.05, 15.0), (1.0, 500.0)])
def test_what_is_quick_or_has_no_rhythm_is_left_to_its_readers(ahead_of: Ahead, clock: Clock, made: List[str], took: float, rhythm: float) -> None:
    ahead_of.took("metrics", took)
    for _ in range(3):
        ahead_of.asked("metrics", "10.0.0.1", lambda: made.append("x"))
        clock.now += rhythm
    ahead_of.run_once(clock.now + 1000)
    assert made == []
    assert (ahead_of._loop is None) == (took < 0.1), "no thread for what is quick"


def test_many_strangers_take_no_memory(ahead_of: Ahead, clock: Clock, made: List[str]) -> None:
    ahead_of.took("metrics", 1.0)
    for number in range(1000):
        for _ in range(2):
            ahead_of.asked("metrics", f"10.0.0.{number}", lambda: made.append("x"))
            clock.now += 5.0
        ahead_of.took(number, 1.0)
    assert len(ahead_of._asked_at) <= ahead.MOST_READERS
    assert len(ahead_of._due) <= ahead.MOST_READERS
    assert len(ahead_of._took) <= ahead.MOST_READERS


def test_its_own_thread_makes_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LEAST_RHYTHM_SECONDS", 0.0)
    monkeypatch.setattr(ahead, "BEAT_SECONDS", 0.01)
    done, one = threading.Event(), Ahead()
    one.took("metrics", 0.2)
    for _ in range(2):
        one.asked("metrics", "10.0.0.1", done.set)
        time.sleep(0.01)
    assert one._loop is not None
    try:
        assert done.wait(50)
    finally:
        one._loop.stop.set()
    assert one._loop.join(50)
