"""The hub's end of ssh: streams good and bad from real processes that stand for ssh, each bad one costs itself only; back-off; no process is left.

tests/e2e/test_ssh.py has the real sshd's.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from gpuwatch.hub.poller import Poller
from gpuwatch.hub.ssh_link import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, SshLinks, wait_seconds
from gpuwatch.loops import AsyncLoop
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.wire import frame
from gpuwatch.wire.ssh import Way

MAGIC = "gpuwatch frames 1 0.1.0"
PREAMBLE = """#!/usr/bin/env python3
import os, sys, time, signal
name, command = sys.argv[-2:]
open(os.path.join(%r, name), 'a').write('%%d %%s\\n' %% (os.getpid(), command))
def say(text, end='\\n'):
    sys.stdout.write(text + end); sys.stdout.flush()
def frames(count, pause):
    for number in range(count):
        say('{"number": %%d, "sent_at": %%.3f}' %% (number, time.time())); say('[%%d]' %% number); time.sleep(pause)
"""
WORDS = {
    "good": f"say('{MAGIC}'); frames(10**6, 0.1)",
    "silent": f"say('{MAGIC}'); frames(2, 0.1); time.sleep(600)",
    "drips": f"say('{MAGIC}'); frames(1, 0.1)\nwhile True: say('x', end=''); time.sleep(0.05)",
    "flood": f"say('{MAGIC}'); frames(10**6, 0)",
    "wrong": f"say('{MAGIC}'); frames(1, 0.1); say('no frame'); say('[]'); time.sleep(600)",
    "stubborn": f"signal.signal(signal.SIGTERM, signal.SIG_IGN); say('{MAGIC}'); frames(1, 0.1)\nwhile True: time.sleep(1)",
    "late": f"say('{MAGIC}')\nfor late in (0, 0, 30, 0):\n  say('{{\"number\": 1, \"sent_at\": %.3f}}' % (time.time() - late)); say('[1]'); time.sleep(0.1)\ntime.sleep(600)",
}  # fmt: skip


class Book:
    """A Sink that writes down what comes."""

    def __init__(self) -> None:
        self.good: Dict[str, List[Tuple[bytes, float, float]]] = {}
        self.bad: Dict[str, List[Tuple[str, float]]] = {}

    def shape_id(self, machine_id: str) -> str:
        return ""

    def accept(self, target: Target, machine_id: str, body: bytes, asked_at: float, answered_at: float) -> None:
        if frame.decode(body)[0].get("number") is None:
            raise WireError("The answer names a shape that the hub does not have, and does not bring it.", "Next: it is asked for with the next poll.")
        self.good[target.name] = [*self.good.get(target.name, []), (body, asked_at, answered_at)]  # no other thread sees an empty list

    def fail(self, target: Target, error: str, now: float, answers: bool) -> None:
        self.bad[target.name] = [*self.bad.get(target.name, []), (error, now)]


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.book = Book()
        program = folder / "ssh"
        cases = "\n".join(f"if name == {name!r}:\n" + "\n".join(f"  {line}" for line in code.split("\n")) for name, code in WORDS.items())
        program.write_text(PREAMBLE % str(folder) + cases + "\n")
        program.chmod(0o755)
        self.links = SshLinks(Way(program=str(program)))
        self.poller = Poller(self.book, lambda target: "", interval_seconds=0.1, deadline_seconds=5.7, links=self.links.kinds, at_end=(self.links.finish,))
        self.loop = AsyncLoop("poller")

    def read(self, *names: str) -> None:
        self.poller.set_targets([(Target(name, name, 0, "ssh"), f"id-{name}") for name in names])
        if not self.loop.alive:
            self.loop.start(self.poller.run)

    def wait(self, check: Callable[[], Any], seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < until, (self.book.bad, {name: len(got) for name, got in self.book.good.items()})
            time.sleep(0.02)

    def pids(self, name: str) -> List[int]:
        path = self.folder / name
        return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []

    def running(self, *names: str) -> List[int]:
        return [pid for name in names for pid in self.pids(name) if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    assert made.loop.stop(60) or not made.loop.alive


def test_good_and_bad_streams_side_by_side(rig: Rig) -> None:
    rig.read("good", "silent", "drips", "wrong", "late")
    rig.wait(lambda: len(rig.book.good.get("good", [])) > 20 and {"silent", "drips", "wrong"} <= set(rig.book.bad))
    numbers = [int(body.split(b"[")[1].rstrip(b"]\n")) for body, _, _ in rig.book.good["good"]]
    assert numbers == list(range(len(numbers)))
    assert rig.book.bad["silent"][0][0].startswith("silent: no reading came for 6 s. Next: ")
    assert rig.book.bad["drips"][0][0].startswith("drips: no reading came for 6 s. Next: ")
    assert rig.book.bad["wrong"][0][0].startswith("wrong: The answer is not JSON")
    assert "good" not in rig.book.bad
    command = (rig.folder / "good").read_text().partition(" ")[2]
    assert command == "exec python3 ~/.local/share/gpuwatch/gpuwatch.pyz node --stdio --interval 0.1\n"


def test_a_connection_that_broke_is_made_again_later_and_later(rig: Rig) -> None:
    rig.read("wrong")
    rig.wait(lambda: len(rig.pids("wrong")) == 3)
    times = [at for _, at in rig.book.bad["wrong"]]
    assert times[1] - times[0] > 0.75 * FIRST_WAIT_SECONDS["lost"]
    earlier = rig.pids("wrong")[:2]
    rig.wait(lambda: not any(_runs(pid) for pid in earlier))


def test_a_flood_waits_in_the_pipe(rig: Rig) -> None:
    rig.read("flood")
    rig.wait(lambda: len(rig.book.good.get("flood", [])) > 3)
    began = time.monotonic()
    before = len(rig.book.good["flood"])
    time.sleep(1.0)
    came = len(rig.book.good["flood"]) - before
    assert came <= (time.monotonic() - began) / 0.04 + 1


def test_a_frame_that_was_late_does_not_make_the_clock_wrong(rig: Rig) -> None:
    rig.read("late")
    rig.wait(lambda: len(rig.book.good.get("late", [])) == 4)
    skews = [float(body.split(b'"sent_at":')[1].split(b"}")[0]) - (asked + answered) / 2 for body, asked, answered in rig.book.good["late"]]
    assert all(abs(skew) < 15 for skew in skews), skews


def test_a_target_that_leaves_takes_its_process_along_and_so_does_the_end(rig: Rig) -> None:
    rig.read("good", "stubborn")
    rig.wait(lambda: set(rig.book.good) == {"good", "stubborn"})
    rig.read("stubborn")
    rig.wait(lambda: not rig.running("good"))
    assert rig.running("stubborn")
    assert rig.loop.stop(60)
    assert not rig.running("good", "stubborn")
    assert not os.path.exists(f"/proc/{rig.pids('stubborn')[0]}")  # reaped too


def test_where_there_is_no_ssh(rig: Rig) -> None:
    rig.links.way = Way(program=str(rig.folder / "none"))
    rig.read("good")
    rig.wait(lambda: rig.book.bad)
    assert "none cannot be started: No such file or directory. Next: install OpenSSH's client" in rig.book.bad["good"][0][0]


def test_a_path_that_cannot_be_one_is_said(rig: Rig) -> None:
    rig.links.way = Way(file="-bad")
    rig.read("good")
    rig.wait(lambda: rig.book.bad)
    assert "'-bad' cannot be a path on another machine. Next: Write one such as" in rig.book.bad["good"][0][0]


@pytest.mark.parametrize("kind", sorted(FIRST_WAIT_SECONDS))
def test_waits_grow_to_a_limit_and_are_spread(kind: str) -> None:
    waits = [wait_seconds(kind, failures, 0.5) for failures in range(1, 40)]
    assert waits[0] == FIRST_WAIT_SECONDS[kind]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_SECONDS[kind]
    assert wait_seconds(kind, 1, 0.0) == 0.75 * waits[0]
    assert wait_seconds(kind, 1, 1.0) == 1.25 * waits[0]

