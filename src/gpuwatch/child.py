"""The one shape of a child process: ``Child`` for one that talks, ``Keeper`` to keep one alive, ``run`` for one that does one thing.

Every child has a process group of its own, a deadline and a limit on its output, and ends by SIGTERM first, SIGKILL long after
(a SIGKILL inside a driver has frozen GPUs). One that cannot be killed (state D: it hangs in the kernel) is remembered, and no other is
started beside it. Must never use a shell, nor put a secret into an argv. The only import of subprocess.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Callable, Optional, Sequence

from gpuwatch.model.errors import GpuwatchError

CHUNK_BYTES = INPUT_BYTES = 65536
MOST_LINE_BYTES, MOST_ERRORS = 1024**2, 40
KILL_WAIT_SECONDS = 3.0
"""A killed process that is not gone after this hangs in the kernel."""
SILENT_SECONDS = 5.0
"""A child that closed its output has mostly ended, though its end may be seen later than that of its output; if not by then, it is told to."""
LONGEST_BACK_OFF_SECONDS = 60.0


class ChildError(GpuwatchError):
    """A child could not be started, or broke the rules of the pipe."""


@dataclass(frozen=True)
class Exit:
    """How a kept child ended."""

    returncode: int
    asked: bool
    """Whoever started it had told it to end."""
    lifetime_seconds: float
    last_words: str
    """The last line that it wrote to stderr."""
    silent: bool = False
    """It closed its output and lived on; therefore, and for nothing else, it was told to end."""

    @property
    def words(self) -> str:
        """``exit code 1``, ``signal 11 (SIGSEGV)``."""
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        name = {one.value: f" ({one.name})" for one in signal.Signals}.get(-self.returncode, "")
        return f"signal {-self.returncode}{name}"


class Child:
    """A running child with pipes. One thread reads and ends it; ``interrupt`` may come from any thread."""

    def __init__(self, argv: Sequence[str], max_line_bytes: int = 8 * 1024**2, on_stderr: Optional[Callable[[str], None]] = None) -> None:
        """Start ``argv`` (no shell). Raises ChildError with the reason if that is impossible."""
        self._process = _spawn(argv)
        self.pid = self._process.pid
        self.started_at = time.monotonic()
        self.last_words = ""
        self.asked_to_end = False
        self._max_line_bytes = max_line_bytes
        self._on_stderr = on_stderr
        self._stdin, self._stdout, self._stderr = _fds(self._process)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._buffer = bytearray()
        self._errors = bytearray()
        self._open = {self._stdout, self._stderr}
        self._input: Optional[memoryview] = None
        self._closed = False
        self._closing = threading.Lock()

    def write(self, data: bytes, close: bool = False) -> None:
        """Write ``data`` (at most 64 KiB in all: a pipe takes that without a reader) to its stdin; ``close`` ends the input.

        Raises ChildError if it is too much. A child that is gone or does not want it is no error: its return code tells.
        """
        with suppress(OSError):
            if data and os.write(self._stdin, data) < len(data):
                raise ChildError(f"The input of process {self.pid} has {len(data)} bytes, the limit is {INPUT_BYTES}.")
        if close and self._process.stdin is not None:
            self._process.stdin.close()

    def send(self, data: bytes) -> None:
        """Write ``data`` of any size while ``read_line`` waits for output, and end its input then."""
        self._input = memoryview(data)

    def read_line(self, timeout_seconds: float) -> Optional[bytes]:
        """The next whole line of stdout without its line break; None after the timeout, ``interrupt``, or at the end of the output.

        Raises ChildError for a line longer than ``max_line_bytes``.
        """
        until = time.monotonic() + timeout_seconds
        while (line := self.next_line()) is None and self._stdout in self._open:
            left = until - time.monotonic()
            if not self._pump(left):
                return None
            if left <= 0:  # what was there is taken in; who writes errors without an end gets no more time
                return self.next_line()
        return line

    @property
    def outputs(self) -> tuple[int, ...]:
        """The file descriptors of stdout and stderr that are still open: for an event loop, which calls ``take_in`` when one can be read."""
        return tuple(self._open)

    @property
    def output_ended(self) -> bool:
        """It closed its stdout, mostly because it ended."""
        return self._stdout not in self._open

    @property
    def returncode(self) -> Optional[int]:
        """None while it runs."""
        return self._process.poll()

    @property
    def state(self) -> str:
        """The kernel's letter: R, S, D (hangs in the kernel), T (stopped), Z; empty if unknown."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1].decode("ascii", "replace")
        except OSError:
            return ""

    def interrupt(self) -> None:
        """End a ``read_line`` that waits in another thread."""
        with self._closing, suppress(OSError):  # full: it will wake anyway
            if not self._closed:  # else the descriptor may be another file's by now
                os.write(self._wake_write, b"!")

    def ask_to_end(self) -> None:
        """SIGTERM to its process group; SIGCONT too, since a stopped process could not obey."""
        self.asked_to_end = True
        _signal_group(self._process, signal.SIGTERM)
        _signal_group(self._process, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to its process group."""
        self.asked_to_end = True
        _signal_group(self._process, signal.SIGKILL)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for its end; True if it has ended. Its output is thrown away meanwhile, so that it cannot block on a full pipe."""
        until = time.monotonic() + timeout_seconds
        while self.returncode is None and (left := until - time.monotonic()) > 0:
            if self._open:
                self._pump(min(left, 0.05))
                self._buffer.clear()
            else:
                time.sleep(min(left, 0.02))
        return self.returncode is not None  # it may have ended while this process stood still

    def end(self, grace_seconds: float) -> bool:
        """SIGTERM, after the grace SIGKILL; True if it is gone. Call ``close`` afterwards."""
        self.ask_to_end()
        if self.wait(grace_seconds):
            return True
        self.kill()
        return self.wait(KILL_WAIT_SECONDS)

    def close(self) -> None:
        """Close the pipes; its stdin too, which tells it that nobody is there any more."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            os.close(self._wake_read)
            os.close(self._wake_write)
        self._open.clear()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def exit(self) -> Exit:
        """How it ended; only after it has."""
        for _ in range(16):  # what it left in a pipe is at most 64 KiB, but a grandchild may go on writing for ever
            if not self._open or not self._pump(0):
                break
        return Exit(self._process.returncode, self.asked_to_end, time.monotonic() - self.started_at, self.last_words)

    def next_line(self) -> Optional[bytes]:
        """The next whole line that is here already. Raises ChildError as ``read_line``."""
        end = self._buffer.find(b"\n")
        if end > self._max_line_bytes or (end < 0 and len(self._buffer) > self._max_line_bytes):
            raise ChildError(f"Process {self.pid} wrote a line of more than {self._max_line_bytes} bytes.")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _pump(self, timeout_seconds: float) -> bool:
        """Wait for output and take it in; False after the timeout or an interrupt."""
        poll = select.poll()
        for fd in (*self._open, self._wake_read):
            poll.register(fd, select.POLLIN)
        if self._input is not None:
            poll.register(self._stdin, select.POLLOUT)
        ready = [fd for fd, _ in poll.poll(max(0.0, timeout_seconds) * 1000)]
        if self._wake_read in ready:
            os.read(self._wake_read, CHUNK_BYTES)
        for fd in ready:
            if fd == self._stdin:
                self._give()
            elif fd != self._wake_read:
                self.take_in(fd)
        return bool(ready) and self._wake_read not in ready

    def _give(self) -> None:
        """As much of ``send``'s data as its stdin takes now. Who does not want it closes its end: that is no error."""
        assert self._input is not None
        try:
            self._input = self._input[os.write(self._stdin, self._input[:CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except OSError:
            self._input = self._input[:0]
        if not self._input:
            self._input = None
            self.write(b"", close=True)

    def take_in(self, fd: int) -> None:
        """What waits in one of ``outputs`` (64 KiB at most), without waiting for more."""
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._open.discard(fd)
        elif fd == self._stdout:
            self._buffer += data
        else:
            self._take_errors(data)

    def _take_errors(self, data: bytes) -> None:
        self._errors += data
        *lines, rest = self._errors.split(b"\n")
        self._errors = bytearray(rest[-CHUNK_BYTES:])
        for line in lines:
            text = "".join(filter(str.isprintable, line.decode("utf-8", "replace"))).strip()[:500]
            if text:
                self.last_words = text
                if self._on_stderr is not None:
                    self._on_stderr(text)


class Keeper:
    """Keeps at most one child: starts it anew with back-off after it ended, and never beside one that cannot be killed.

    All methods are for one thread, and none waits. Times (``now``) are of ``time.monotonic``.
    """

    def __init__(self, start: Callable[[], Child], grace_seconds: float = 30.0, first_back_off_seconds: float = 1.0) -> None:
        """``start`` makes the child; it may raise ChildError, which counts as an end."""
        self._make = start
        self.grace_seconds = grace_seconds
        self.first_back_off_seconds = first_back_off_seconds
        self.child: Optional[Child] = None
        self.stuck: Optional[Child] = None
        """The one that could not be killed; nothing is started until it is gone."""
        self.next_start_at = 0.0
        self._back_off_seconds = 0.0
        self._kill_at: Optional[float] = None
        self._give_up_at: Optional[float] = None
        self._silent_at: Optional[float] = None
        self._silenced = False

    def start(self, now: float) -> Optional[Child]:
        """The child, started if none runs and nothing is in the way; None while waiting. Raises ChildError."""
        if self.child is not None:
            return self.child
        if self.stuck is not None or now < self.next_start_at:
            return None
        self._back_off(now)  # counted as failed until ``worked`` says otherwise
        self.child = self._make()
        return self.child

    def worked(self) -> None:
        """The child does its work: if it ends now, the next one may start at once."""
        self._back_off_seconds = 0.0
        self.next_start_at = 0.0

    def give_up(self, now: float) -> None:
        """Tell the child to end; ``tend`` kills it after the grace."""
        if self.child is not None and self._kill_at is None:
            self.child.ask_to_end()
            self._kill_at = now + self.grace_seconds

    def tend(self, now: float) -> Optional[Exit]:
        """See after the child; how it ended, once it has. To be called at least every second."""
        if self.stuck is not None and self.stuck.returncode is not None:
            self.stuck.close()
            self.stuck = None
        child = self.child
        if child is None:
            return None
        if child.returncode is not None:
            exit = replace(child.exit(), asked=False, silent=True) if self._silenced else child.exit()
            self._forget()
            child.close()
            return exit
        if child.output_ended and self._silent_at is None:
            self._silent_at = now
        if self._silent_at is not None and now - self._silent_at > SILENT_SECONDS and self._kill_at is None:
            self._silenced = True
            self.give_up(now)
        if self._give_up_at is not None and now >= self._give_up_at:
            self._forget()
            child.close()
            self.stuck = child
        elif self._kill_at is not None and now >= self._kill_at and self._give_up_at is None:
            child.kill()
            self._give_up_at = now + KILL_WAIT_SECONDS
        return None

    def close(self, grace_seconds: float) -> None:
        """End the child, waiting for at most the grace and a little more."""
        child = self.child
        if child is not None:
            child.end(grace_seconds)
            child.close()
            self._forget()

    def _forget(self) -> None:
        self.child = self._kill_at = self._give_up_at = self._silent_at = None
        self._silenced = False

    def _back_off(self, now: float) -> None:
        self.next_start_at = now + self._back_off_seconds
        doubled = max(self.first_back_off_seconds, self._back_off_seconds * 2)
        self._back_off_seconds = min(doubled, LONGEST_BACK_OFF_SECONDS)


def _spawn(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, close_fds=True, start_new_session=True)
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ChildError(f"{str(argv[0])[:200] if argv else 'An empty command'} cannot be started: {reason}.") from None
    for fd in _fds(process):
        os.set_blocking(fd, False)
    return process


def _fds(process: subprocess.Popen[bytes]) -> tuple[int, int, int]:
    stdin, stdout, stderr = (pipe.fileno() for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None)
    return stdin, stdout, stderr


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        with suppress(OSError):  # gone meanwhile
            os.killpg(process.pid, number)


@dataclass(frozen=True)
class Done:
    """What became of a child that was run to its end."""

    returncode: Optional[int]
    """None: it took too long, or would not end, and was told to."""
    lines: tuple[bytes, ...]
    errors: tuple[str, ...]
    """The last lines of its stderr."""


def run(
    argv: Sequence[str], data: bytes = b"", *, timeout_seconds: float, on_line: Callable[[bytes], object] = len,
    on_start: Callable[[Child], object] = id, most_lines: int = 2000,
) -> Done:  # fmt: skip
    """Run a child to its end with ``data`` as its input; blocks. ``on_line`` gets each line as it comes, ``on_start`` the child. Raises ChildError."""
    errors, lines = deque[str](maxlen=MOST_ERRORS), list[bytes]()
    child = Child(argv, MOST_LINE_BYTES, errors.append)
    until = time.monotonic() + timeout_seconds
    try:
        on_start(child)
        child.send(data)
        while (line := child.read_line(until - time.monotonic())) is not None:
            lines.append(line)
            if len(lines) > most_lines:
                raise ChildError(f"Process {child.pid} wrote more than {most_lines} lines.")
            on_line(line)
        ended = child.output_ended and child.wait(SILENT_SECONDS)
        child.exit()  # takes in the last of stderr
        return Done(child.returncode if ended else None, tuple(lines), tuple(errors))
    finally:
        child.end(KILL_WAIT_SECONDS)
        child.close()
