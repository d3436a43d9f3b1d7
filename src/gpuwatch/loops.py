"""The two shapes of a background thread: ``Loop`` calls a function at an interval, ``AsyncLoop`` runs one asyncio event loop.

Here, and nowhere else, everything that a thread's work raises is caught; it must never end because of an error, and never
flood the log: the same error again and again is one line with a count.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Optional

from gpuwatch.model.errors import GpuwatchError

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

FIRST_BACK_OFF_SECONDS = 1.0
LONGEST_BACK_OFF_SECONDS = 60.0
HANGS_SECONDS = 10.0
"""A loop that is so much later than it should be hangs."""
ASYNC_BEAT_SECONDS = 1.0
PLAIN_EVENT_SECONDS = 0.5
"""A plain ``threading.Event`` cannot wake a sleeping loop, so it is looked at this often; a ``Stop`` wakes it at once."""


class Stop(threading.Event):
    """An event that ends loops. ``set`` wakes each loop that was made with it, so that none sleeps to the end of its interval."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when the event is set; at once if it is set already."""
        self._listeners.append(wake)
        if self.is_set():
            wake()

    def set(self) -> None:
        """Set the event and wake all who listen."""
        super().set()
        for wake in list(self._listeners):
            wake()


class Repeats:
    """Logs an error once, however often it comes in a row, and how often that was when it is over."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: Optional[str] = None
        """The error of the last failure; None after a success."""
        self.count = 0

    def failed(self, error: BaseException) -> None:
        """One more failure. Only an error that differs from the last one is logged, foreign ones with their traceback."""
        text = str(error) if isinstance(error, GpuwatchError) else f"{type(error).__name__}: {error}"
        if text == self.last:
            self.count += 1
            return
        self._tell_count()
        self.last, self.count = text, 1
        log.error("%s: %s", self.name, text, exc_info=None if isinstance(error, GpuwatchError) else error)

    def worked(self) -> None:
        """One success; says so if there was trouble before."""
        if self.last is not None:
            self._tell_count()
            log.info("%s: works again", self.name)
        self.last, self.count = None, 0

    def _tell_count(self) -> None:
        if self.count > 1:
            log.error("%s: %d times: %s", self.name, self.count, self.last)


class Loop:
    """One thread that calls ``run_once(now)`` (epoch seconds) every ``interval_seconds`` until ``stop`` is set.

    Drift-free: beats stay on multiples of the interval after the start; a beat that is missed is left out. After an error the
    next call waits 1, 2, 4 ... 60 seconds, or the interval if that is longer.
    """

    def __init__(
        self, name: str, run_once: Callable[[float], None], interval_seconds: float, stop: Optional[threading.Event] = None
    ) -> None:
        self.name = name
        self.run_once = run_once
        self.interval_seconds = interval_seconds
        self.stop = stop or Stop()
        self.last_error: Optional[BaseException] = None
        """What the last call raised; None if it worked."""
        self._repeats = Repeats(name)
        self._back_off_seconds = 0.0
        self._due_at = 0.0
        """When the beat under way began, else when the next one is due (monotonic)."""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        if isinstance(self.stop, Stop):
            self.stop.listen(self._wake.set)

    def start(self) -> Loop:
        """Start the thread; the first call comes at once. Returns self."""
        self._due_at = time.monotonic()
        self._thread.start()
        return self

    def wake(self) -> None:
        """Call ``run_once`` as soon as possible instead of at the next beat."""
        self._wake.set()

    def join(self, timeout_seconds: Optional[float] = None) -> bool:
        """Wait until the thread has ended; True if it has."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """The thread runs."""
        return self._thread.is_alive()

    def trouble(self) -> str:
        """Why this loop does not do its work; empty = it does. For strangers' eyes: the error itself stands in the log."""
        return _trouble(self.alive, self._due_at, self.last_error)

    def beat(self, now: float) -> None:
        """Call ``run_once`` and note how it went; never raises."""
        try:
            self.run_once(now)
        except BaseException as error:  # also a SystemExit from a library must not end the thread
            self.last_error = error
            self._repeats.failed(error)
            self._back_off_seconds = min(max(self._back_off_seconds * 2, FIRST_BACK_OFF_SECONDS), LONGEST_BACK_OFF_SECONDS)
        else:
            self.last_error = None
            self._repeats.worked()
            self._back_off_seconds = 0.0

    def _run(self) -> None:
        due = time.monotonic()
        while not self.stop.is_set():
            self.beat(time.time())
            now = time.monotonic()
            due = next_beat(due, now, self.interval_seconds)
            self._due_at = max(due, now + self._back_off_seconds)
            self._pause(self._due_at)
            self._due_at = time.monotonic()

    def _pause(self, until: float) -> None:
        longest = threading.TIMEOUT_MAX if isinstance(self.stop, Stop) else PLAIN_EVENT_SECONDS
        while not self.stop.is_set():
            left = until - time.monotonic()
            if left <= 0 or self._wake.wait(min(left, longest)):
                break
        self._wake.clear()


def next_beat(due: float, now: float, interval: float) -> float:
    """When to run next: the first multiple of ``interval`` seconds after ``due`` that is later than ``now``."""
    if interval <= 0:
        return now
    return due + interval * max(1.0, (now - due) // interval + 1.0)


def _trouble(alive: bool, due_at: float, last_error: Optional[BaseException]) -> str:
    if not alive:
        return "does not run"
    late_seconds = time.monotonic() - due_at
    if late_seconds > HANGS_SECONDS:
        return f"hangs for {late_seconds:.0f} s"
    return "fails; the log says why" if last_error is not None else ""


class AsyncLoop:
    """One thread with one asyncio event loop (for the hub's poller alone). asyncio is imported when it starts, not before."""

    def __init__(self, name: str, gather_seconds: float = 0.0) -> None:
        """``gather_seconds``: before it waits for something to happen it sleeps so long, and so finds more at once: to be woken up costs as much as an answer."""
        self.name = name
        self._gather_seconds = gather_seconds
        self.last_error: Optional[BaseException] = None
        """What ``main`` raised; None while it runs."""
        self._due_at = 0.0
        self._repeats = Repeats(name)
        self._ready = threading.Event()
        self._stopped = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._main: Optional[asyncio.Task[None]] = None
        self._thread: Optional[threading.Thread] = None

    def start(self, main: Callable[[], Awaitable[None]]) -> AsyncLoop:
        """Run ``main()`` in the thread; if it raises, it is called again after 1, 2, 4 ... 60 s. Returns when the loop runs."""
        self._thread = threading.Thread(target=self._run, args=(main,), name=self.name, daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` called inside the event loop; from any thread. Nothing happens once it is stopped."""
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed meanwhile
            pass

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """Cancel ``main`` and wait for the thread; True if it has ended."""
        self._stopped = True
        self.call(self._cancel)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        return not self.alive

    @property
    def alive(self) -> bool:
        """The thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def trouble(self) -> str:
        """Why this loop does not do its work; empty = it does. Something that blocks the event loop is noticed after 10 s."""
        return _trouble(self.alive, self._due_at, self.last_error)

    def _beat(self) -> None:
        self._due_at = time.monotonic() + ASYNC_BEAT_SECONDS
        if self._loop is not None:
            self._loop.call_later(ASYNC_BEAT_SECONDS, self._beat)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self, main: Callable[[], Awaitable[None]]) -> None:
        import asyncio

        loop = asyncio.SelectorEventLoop(_gathering(self._gather_seconds))
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self._keep(main))
        except asyncio.CancelledError:
            pass
        finally:
            self._loop = None
            _end(loop)
            self._ready.set()

    async def _keep(self, main: Callable[[], Awaitable[None]]) -> None:
        import asyncio

        self._main = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._beat()
        self._ready.set()
        back_off_seconds = FIRST_BACK_OFF_SECONDS
        while not self._stopped:
            started_at = time.monotonic()
            self.last_error = None
            try:
                await main()
                return
            except asyncio.CancelledError:
                if self._stopped:
                    return
                raise
            except Exception as error:
                self.last_error = error
                self._repeats.failed(error)
            if time.monotonic() - started_at > LONGEST_BACK_OFF_SECONDS:
                back_off_seconds = FIRST_BACK_OFF_SECONDS
            await asyncio.sleep(back_off_seconds)
            back_off_seconds = min(back_off_seconds * 2, LONGEST_BACK_OFF_SECONDS)


def _gathering(seconds: float) -> Any:
    """The system's selector, which sleeps before it waits."""
    import selectors

    class Gathering(selectors.DefaultSelector):
        def select(self, timeout: Optional[float] = None) -> Any:
            if seconds and (timeout is None or timeout > seconds):
                time.sleep(seconds)
                timeout = None if timeout is None else timeout - seconds
            return super().select(timeout)

    return Gathering()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """As ``asyncio.run`` ends its loop: what still runs is cancelled."""
    import asyncio

    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
