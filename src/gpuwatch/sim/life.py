"""What happens on simulated GPUs over weeks: jobs come and go by day and night, people leave and return, GPUs are held for days without work.

A pure function of time: the same seed tells the same life, whatever moment is asked about first. Each GPU has weeks of its own, which begin at
another hour on each GPU, so that no week's end shows.
"""

from __future__ import annotations

import random
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Sequence, Tuple

from gpuwatch.sim.profiles import PEOPLE, PROGRAMS, Card, Job

HOUR, DAY, WEEK = 3600.0, 86400.0, 604800.0
_THURSDAY = 3
"""Weekday (Monday is 0) of the first day of the epoch."""
_PRESENT = {"lisa": 1.0, "chen.w": 1.0, "sofia": 0.9, "mkato": 0.75, "a.novak": 0.6, "i.petrov": 0.5, "student7": 0.4, "root": 0.0}
"""In which share of the weeks somebody works here."""
_KINDS = ("experiment", "training", "notebook", "shared")
_WEIGHTS = {"work": (7, 1, 1.2, 1.5), "evening": (1, 4, 0.2, 0.5), "weekend": (3, 2, 0.3, 0.5), "night": (2, 1, 0.2, 0.2)}
_FREE_HOURS = {"work": 0.5, "evening": 5.0, "weekend": 4.5, "night": 16.0}
"""Mean time until somebody takes a free GPU."""

Span = Tuple[float, float]
"""(begin, end) in epoch seconds."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and when. ``lost``: of the last GPU; ``hot``: of GPU 1."""

    lost: Tuple[Span, ...] = ()
    hot: Tuple[Span, ...] = ()


def since(spans: Sequence[Span], now: float) -> float:
    """Begin of the span that ``now`` lies in; 0 = in none."""
    return next((begin for begin, end in spans if begin <= now < end), 0.0)


def load_seconds(job: Job, now: float) -> float:
    """Percent times seconds of work that a job has done until ``now``."""
    start_at, until = job.started_at or 0.0, now if job.busy_until is None else min(now, job.busy_until)
    return job.load * max(0.0, until - start_at)


class Episode(NamedTuple):
    """The jobs of one GPU between two times; ``done``: the load-seconds of its week before."""

    start_at: float
    end_at: float
    jobs: Tuple[Job, ...]
    done: float


class _Week(NamedTuple):
    start_at: float
    starts: List[float]
    episodes: List[Episode]


class Life:
    """The jobs of the GPUs of one machine. ``midnight_at``: any midnight of the lab, for its days and nights."""

    def __init__(self, seed: str, cards: Sequence[Card], midnight_at: float, always_busy: int = -1) -> None:
        """``always_busy``: the number of a GPU that is never free for long."""
        self._seed, self._cards, self._midnight_at, self._always_busy = seed, cards, midnight_at, always_busy
        self._weeks: Dict[Tuple[int, int], _Week] = {}

    def jobs(self, index: int, now: float) -> Tuple[Job, ...]:
        """What runs on a GPU."""
        week = self._week_at(index, now)
        place = bisect_right(week.starts, now) - 1
        return week.episodes[place].jobs if place >= 0 and now < week.episodes[place].end_at else ()

    def work(self, index: int, now: float) -> Tuple[float, float]:
        """(seconds, load-seconds) of a GPU since its week began: what its energy counter is made of."""
        week = self._week_at(index, now)
        place = bisect_right(week.starts, now) - 1
        if place < 0:
            return now - week.start_at, 0.0
        episode = week.episodes[place]
        return now - week.start_at, episode.done + sum(load_seconds(job, min(now, episode.end_at)) for job in episode.jobs)

    def hour_and_weekday(self, at: float) -> Tuple[float, int]:
        """Hour of the lab's day, and weekday from Monday = 0."""
        offset = (-self._midnight_at) % DAY  # of the lab's clock to UTC
        offset -= DAY if offset > DAY / 2 else 0
        days, seconds = divmod(at + offset, DAY)
        return seconds / HOUR, int(days + _THURSDAY) % 7

    def _week_at(self, index: int, now: float) -> _Week:
        shift = zlib.crc32(f"{self._seed}/week/{index}".encode()) / 2**32 * WEEK
        number = int((now - shift) // WEEK)
        week = self._weeks.get((index, number))
        if week is None:
            week = self._weeks[index, number] = self._made(index, number, number * WEEK + shift)
        return week

    def _made(self, index: int, number: int, start_at: float) -> _Week:
        dice = random.Random(f"{self._seed}/life/{index}/{number}")
        week, at, done = _Week(start_at, [], []), start_at, 0.0
        while True:
            at = self._next(dice, index, at)
            if at >= start_at + WEEK:
                return week
            seconds, jobs = self._episode(dice, index, round(at))
            end_at = min(at + seconds, start_at + WEEK)
            week.starts.append(at)
            week.episodes.append(Episode(at, end_at, jobs, done))
            done += sum(load_seconds(job, end_at) for job in jobs)
            at = end_at

    def _next(self, dice: random.Random, index: int, at: float) -> float:
        """When somebody takes a GPU that is free from ``at`` on: looked at hour by hour, for a morning ends a quiet night."""
        while True:
            free_seconds = HOUR * (0.1 if index == self._always_busy else _FREE_HOURS[self._time_of_day(at)])
            wait = dice.expovariate(1 / free_seconds)
            if wait < HOUR:
                return at + wait
            at += HOUR

    def _time_of_day(self, at: float) -> str:
        hour, weekday = self.hour_and_weekday(at)
        if not 8 <= hour < 23:
            return "night"
        if weekday >= 5:
            return "weekend"
        return "work" if hour < 18 else "evening"

    def _episode(self, dice: random.Random, index: int, at: float) -> Tuple[float, Tuple[Job, ...]]:
        """(seconds, jobs) of what begins at ``at``."""
        kind = "training" if index == self._always_busy else dice.choices(_KINDS, _WEIGHTS[self._time_of_day(at)])[0]
        card = self._cards[index]
        if kind == "notebook":
            seconds, busy = dice.choice((2, 3, 8, 20, 60, 90)) * HOUR * dice.uniform(0.7, 1.3), dice.uniform(0.3, 2.0) * HOUR
            return seconds, (self._job(dice, card, at, "jupyter kernel diffusion-ablation.ipynb", dice.uniform(25, 60), busy),)
        if kind == "shared":
            return dice.uniform(1, 7) * HOUR, tuple(self._job(dice, card, at, "", dice.uniform(15, 33), share=1 / 3) for _ in range(dice.randint(2, 3)))
        hours = dice.uniform(0.2, 3) if kind == "experiment" else dice.uniform(4, 16)
        return hours * HOUR, (self._job(dice, card, at, "", dice.uniform(55, 98)),)

    def _job(self, dice: random.Random, card: Card, at: float, command: str, load: float, busy: float = 0.0, share: float = 1.0) -> Job:
        program, memory_share = dice.choice(PROGRAMS)
        return Job(
            _who(dice, at), command or program, int(card.memory_bytes * memory_share * share * 0.95), load, 0.0, float(at), at + busy if busy else None
        )


def _who(dice: random.Random, at: float) -> str:
    """Somebody who works here in that week: the same people on all machines."""
    week = int(at // WEEK)
    here = [name for name in PEOPLE if random.Random(f"people/{name}/{week}").random() < _PRESENT[name]]
    return dice.choice(here)
