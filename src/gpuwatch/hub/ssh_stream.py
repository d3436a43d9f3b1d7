"""A child of the event loop: started in a thread, read without one, ended without waiting. Never blocks, never leaves a process behind."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Awaitable, Callable, Deque, List, Optional, Sequence, TypeVar

from gpuwatch.child import Child

T = TypeVar("T")
STARTERS, WORKERS = 4, 8
"""Threads that start children, and threads for what takes longer: copying to slow machines must not keep others from being started."""
KILL_SECONDS = 3.0
LOOK_SECONDS = 0.1
MOST_ERRORS = 40
END_SECONDS = 5.0
"""For a child whose output ended to end too."""


class Children:
    """Starts and ends the children of one event loop."""

    def __init__(self) -> None:
        self._starters: Optional[ThreadPoolExecutor] = None
        self._workers: Optional[ThreadPoolExecutor] = None
        self._ending: List[Child] = []

    async def start(self, argv: Sequence[str], max_line_bytes: int) -> Stream:
        """A running child. Raises ChildError. If the caller is cancelled meanwhile, the child is ended."""
        errors: Deque[str] = deque(maxlen=MOST_ERRORS)
        loop = asyncio.get_running_loop()
        if self._starters is None:
            self._starters = ThreadPoolExecutor(STARTERS, "ssh")
        starting = self._starters.submit(Child, argv, max_line_bytes, errors.append)
        try:
            child = await asyncio.wrap_future(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(lambda done: self._unwanted(done, loop))
            raise
        return Stream(child, errors)

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done in one of a few threads."""
        if self._workers is None:
            self._workers = ThreadPoolExecutor(WORKERS, "ssh copy")
        return await asyncio.wrap_future(self._workers.submit(work))

    def end(self, child: Child) -> None:
        """Tell it to end, kill it later if it does not; nobody waits."""
        child.ask_to_end()
        child.close()
        self._ending.append(child)
        loop = asyncio.get_running_loop()
        loop.call_later(LOOK_SECONDS, self._reap)
        loop.call_later(KILL_SECONDS, self._kill, child)

    async def finish(self) -> None:
        """Once all were told to end: until they have."""
        for seconds in (KILL_SECONDS, LOOK_SECONDS * 10):
            await self._wait(seconds)
            for child in self._ending:
                self._kill(child)
        for pool in (self._starters, self._workers):
            if pool is not None:
                pool.shutdown(wait=False)
        self._starters = self._workers = None

    def _unwanted(self, done: Future[Child], loop: asyncio.AbstractEventLoop) -> None:
        if not done.cancelled() and done.exception() is None:
            try:
                loop.call_soon_threadsafe(self.end, done.result())
            except RuntimeError:  # the loop is gone
                done.result().kill()
                done.result().close()

    async def _wait(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        self._reap()
        while self._ending and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(LOOK_SECONDS / 4)
            self._reap()

    def _reap(self) -> None:
        self._ending = [child for child in self._ending if child.returncode is None]

    def _kill(self, child: Child) -> None:
        if child.returncode is None:
            child.kill()
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._reap)


class Stream:
    """The lines of a running child. While nobody waits for one nothing is read, so a flood waits in its pipe."""

    def __init__(self, child: Child, errors: Deque[str]) -> None:
        self.child = child
        self.errors = errors
        """The last lines of its stderr."""

    async def line(self, until: float) -> Optional[bytes]:
        """The next line of its output; None at its end. Raises asyncio.TimeoutError at ``until`` (the loop's time), ChildError for an endless line."""
        while True:
            line = self.child.next_line()
            if line is not None:
                return line
            if self.child.output_ended:
                return None
            await self._more(until)

    async def returncode(self) -> Optional[int]:
        """How it ended, with its stderr read to the end; None if it does not end. After the end of its output."""
        loop = asyncio.get_running_loop()
        until = loop.time() + END_SECONDS
        while self.child.outputs and loop.time() < until:
            try:
                await self._more(until)
            except asyncio.TimeoutError:
                break
        while self.child.returncode is None and loop.time() < until:
            await asyncio.sleep(LOOK_SECONDS / 4)
        return self.child.returncode

    def _more(self, until: float) -> Awaitable[None]:
        """Take in what comes next; a TimeoutError if that is nothing."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[None] = loop.create_future()
        fds = self.child.outputs

        def ready(fd: int) -> None:
            self.child.take_in(fd)
            if not came.done():
                came.set_result(None)

        def over() -> None:
            if not came.done():
                came.set_exception(asyncio.TimeoutError())

        timer = loop.call_at(until, over)
        for fd in fds:
            loop.add_reader(fd, ready, fd)

        def tidy(_: object) -> None:
            timer.cancel()

        came.add_done_callback(tidy)
        return self._wait(came, fds)

    @staticmethod
    async def _wait(came: asyncio.Future[None], fds: Sequence[int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await came
        finally:
            for fd in fds:
                loop.remove_reader(fd)
