"""Slots: one timer begins all of their links, each on the grid, and one more ends what takes too long."""

from __future__ import annotations

import asyncio
import math
from typing import Any, List, Tuple

from gpuwatch.hub.slots import Slot
from gpuwatch.model.cluster import Target


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time stands where a test puts it, and jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.timers = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *args, **more)

    def until(self, at: float) -> None:
        """Let happen what is due until ``at``."""
        while True:
            due = [timer.when() for timer in self._scheduled if not timer.cancelled()]
            if not due or min(due) > at:
                break
            self.now = max(self.now, min(due))
            self.call_soon(self.stop)
            self.run_forever()
        self.now = at


class Link:
    """Writes down when it is begun and looked after."""

    def __init__(self, name: str, loop: Clock) -> None:
        self.target = Target(name, "127.0.0.1", 1)
        self.due = 0.0
        self.loop = loop
        self.begun: List[Tuple[float, float]] = []
        self.looked: List[float] = []
        self.broken = False

    def begin(self, following: float) -> None:
        self.begun.append((self.loop.now, self.due))
        self.due = following
        if self.broken:
            raise RuntimeError("a bug")

    def look(self, now: float) -> None:
        self.looked.append(now)


def made(count: int, deadline: float = 4.0, grid: float = 1000.5, interval: float = 5.0) -> Tuple[Clock, Slot, List[Link]]:
    loop = Clock()
    return loop, Slot(loop, grid, interval, deadline), [Link(f"n{number}", loop) for number in range(count)]


def test_first_polls_are_spread_and_all_others_are_on_the_grid() -> None:
    loop, slot, links = made(3)
    for link, first in zip(links, (1000.1, 1004.0, 1001.0)):
        slot.start(link, first)
    loop.until(1016.0)
    assert [at for at, _ in links[0].begun] == [1000.1, 1005.5, 1010.5, 1015.5], "0.4 s after the first one is no beat"
    assert [at for at, _ in links[1].begun] == [1004.0, 1010.5, 1015.5], "1.5 s after the first one neither"
    assert [at for at, _ in links[2].begun] == [1001.0, 1005.5, 1010.5, 1015.5], "also where the slot waited for a later beat"
    assert all(at == due for link in links for at, due in link.begun)
    loop.close()


def test_a_slot_takes_two_timers_a_beat_and_looks_after_each_poll() -> None:
    loop, slot, links = made(20)
    for link in links:
        slot.start(link, 1000.5)
    loop.until(1005.0)
    before = loop.timers
    loop.until(1055.0)
    assert loop.timers - before == 2 * 10
    for link in links:
        assert len(link.begun) == 11
        for at, _ in link.begun[:10]:
            assert any(at + 4.0 <= looked <= at + 4.1 for looked in link.looked)
    loop.close()


def test_one_that_is_removed_or_raises_leaves_the_others_alone(caplog: Any) -> None:
    loop, slot, links = made(3)
    for link in links:
        slot.start(link, 1000.5)
    links[0].broken = True
    loop.until(1006.0)
    slot.remove(links[1])
    loop.until(1011.0)
    assert [len(link.begun) for link in links] == [3, 2, 3]
    assert "poll of n0" in caplog.text
    assert links[1].due == math.inf
    slot.remove(links[0])
    slot.remove(links[2])
    assert slot.is_empty
    before = loop.timers
    loop.until(1100.0)
    assert loop.timers == before, "nothing waits any more"
    loop.close()


def test_after_a_standstill_it_goes_on_at_the_next_beat() -> None:
    loop, slot, links = made(1)
    slot.start(links[0], 1000.5)
    loop.until(1006.0)
    loop.now = 1018.0
    loop.until(1021.0)
    assert links[0].begun[2:] == [(1018.0, 1010.5), (1020.5, 1020.5)]
    loop.until(1026.0)
    assert links[0].begun[-1] == (1025.5, 1025.5)
    loop.close()
