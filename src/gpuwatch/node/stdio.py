"""A node without a port: frames on standard output, one a sample, for a hub at the other end of ssh. Reads nothing.

It ends when its input ends, so it never outlives the connection, however that broke. Nothing but frames may reach the pipe: file
descriptor 1 is turned to stderr at once. It has the sampler process, the deadline and the words of a node that serves.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import Optional, Sequence

from gpuwatch import __version__
from gpuwatch.boot import self_argv
from gpuwatch.config.settings import NodeSettings
from gpuwatch.loops import Loop
from gpuwatch.node.inventory import Inventory, boot_id
from gpuwatch.node.newest import Answer, Newest
from gpuwatch.node.service import END_SECONDS, inventory_path, sampler_options
from gpuwatch.node.supervisor import Supervisor
from gpuwatch.wire import frame
from gpuwatch.wire.changes import known_as
from gpuwatch.wire.ssh import MAGIC

REPEAT_INTERVALS = 1.5
"""Without a new sample the last one is said again, with what is wrong: whoever listens knows that the node lives."""
ORPHAN_SECONDS = END_SECONDS + 2.0
"""A node that hangs in a full pipe after its input ended ends itself after this."""


def run(settings: NodeSettings, sampler_argv: Optional[Sequence[str]] = None) -> None:
    """Write frames until standard input ends, or SIGTERM or SIGINT comes, or nobody reads them any more."""
    output = os.dup(1)
    os.dup2(2, 1)
    bell = Bell()
    newest = Newest()
    newest.listen(lambda answer: bell.ring())
    inventory = Inventory(inventory_path(settings), boot_id(settings.root))
    argv = sampler_argv or [*self_argv(), "_sampler"]
    supervisor = Supervisor(settings, newest, inventory, sampler_options(settings), argv)
    ending = threading.Event()
    watch = Loop("sampler", supervisor.run_once, 0.0, ending).start()
    bell.watch(0)
    try:
        Frames(newest, output, settings.interval).write_until(bell)
    except OSError:  # nobody reads the frames any more
        pass
    finally:
        ending.set()
        supervisor.interrupt()
        watch.join(5.0)
        supervisor.close(END_SECONDS)


class Bell:
    """Wakes the main thread for news and tells it when to end. A pipe: a signal handler may write to it at any moment without a lock."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._ended = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.end())

    def ring(self) -> None:
        """There is news."""
        try:
            os.write(self._write, b"!")
        except BlockingIOError:  # it rings already
            pass

    def end(self) -> None:
        """It is time to end."""
        self._ended = True
        self.ring()

    def wait(self, seconds: float) -> bool:
        """Sleep until it rings; False when it is time to end."""
        if self._poll.poll(max(0.0, seconds) * 1000):
            os.read(self._read, 4096)
        return not self._ended

    def watch(self, stdin: int) -> None:
        """End when this file descriptor ends, even if the main thread hangs in a write by then."""
        threading.Thread(target=self._watch, args=(stdin,), name="stdin", daemon=True).start()

    def _watch(self, stdin: int) -> None:
        try:
            while os.read(stdin, 4096):  # not sys.stdin: Python aborts if a thread holds its lock at the end
                pass
        except OSError:  # it never was open
            pass
        self.end()
        time.sleep(ORPHAN_SECONDS)
        os._exit(0)


class Frames:
    """Writes the first line, then a frame for each answer that is new."""

    def __init__(self, newest: Newest, output: int, interval_seconds: float) -> None:
        self._newest = newest
        self._output = output
        self._repeat_seconds = REPEAT_INTERVALS * interval_seconds
        self._last: Optional[Answer] = None
        self._known = ""
        """What the reader has by now: a frame says what changed since the one before."""
        self._due = 0.0

    def write_until(self, bell: Bell) -> None:
        """Write until the bell says that it is time to end. Raises OSError when nobody reads."""
        self._put(MAGIC + __version__.encode() + b"\n")
        while bell.wait(self._repeat_seconds if self._last is None else self._due - time.monotonic()):
            self.tell(time.time())

    def tell(self, now: float) -> None:
        """Write a frame if there is something new, or nothing was said for long."""
        answer = self._newest.answer(now)
        if answer is None or (answer is self._last and time.monotonic() < self._due):
            return
        told = answer.flat(self._known, now)
        self._put(told)
        self._last, self._known = answer, known_as(answer.sample.shape.id, _name_in(told))
        self._due = time.monotonic() + self._repeat_seconds

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._output, rest) :]


def _name_in(told: bytes) -> str:
    header, _ = frame.decode(told)
    return str(header.get("sample", ""))
