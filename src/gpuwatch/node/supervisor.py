"""Keeps the sampler process going and says what is wrong when it does not: hung, stopped, crashed, talking nonsense, not to be killed.

One thread, one sampler. A sampler that missed its deadline is told to end, killed only after a long grace (a kill inside the driver has
frozen GPUs), and none is started beside one that cannot be killed.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from typing import Any, Dict, Optional, Sequence, Tuple

from gpuwatch.child import Child, ChildError, Exit, Keeper
from gpuwatch.config.settings import NodeSettings, SamplerOptions
from gpuwatch.model.errors import WireError
from gpuwatch.node.host_only import HostOnly
from gpuwatch.node.inventory import Inventory, gpu_of, write_options
from gpuwatch.node.newest import Newest, Sample, Trouble
from gpuwatch.node.sampler import LOST
from gpuwatch.wire import frame
from gpuwatch.wire.flat import Shape

log = logging.getLogger(__name__)

START_SECONDS = 30.0
"""Python, unpacked for the first time on a slow disk, may take this long to say its first word."""
GRACE_SECONDS = 30.0
TOLD_SECONDS = 60.0
"""How long after a recovery the node still tells what happened, so that a hub hears of it."""
STEADY_SECONDS = 60.0
"""A sampler that lived this long is started at once when it ends."""
LONGEST_RETRY_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""The longest wait for a frame that should be there: so it shows when this process stands still."""
SLACK_SECONDS = 0.3
"""A frame that comes so much later than an interval after the one before it is not late."""
STOOD_STILL_SECONDS = 0.5
"""A wait that lasted so much longer than it should: the machine stood still (a virtual one that moves to another), and the sampler with it."""
LINES_A_MINUTE = 30


class Supervisor:
    """Call ``run_once`` in a loop without pauses (it waits by itself), and ``interrupt`` and ``close`` at the end."""

    def __init__(
        self, settings: NodeSettings, newest: Newest, inventory: Inventory, options: SamplerOptions, argv: Sequence[str],
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:  # fmt: skip
        self._options = options
        self._newest = newest
        self._inventory = inventory
        self._argv = list(argv)
        self._patience_seconds = settings.sample_deadline + settings.interval
        self._keeper = Keeper(self._start, grace_seconds)
        self._host = HostOnly(options)
        self._host_at: Optional[float] = None
        """When the host alone was read, which is what is shown; None where a sampler's sample is."""
        self._header: Optional[Dict[str, Any]] = None
        self._shape: Optional[Shape] = None
        self._due = self._expected_at = 0.0
        self._ready = False
        self._deaf = False
        """It talked nonsense once, so nothing more is believed."""
        self._alive_at = time.time()
        self._retry_seconds = options.sampler_retry
        self._spoken = Allowance(LINES_A_MINUTE)
        self._wake = threading.Event()

    def run_once(self, now: float) -> None:
        """Look after the sampler and take in a line if there is one. ``now`` in epoch seconds."""
        ended = self._keeper.tend(time.monotonic())
        if ended is not None:
            self._explain(ended, now)
        child = self._child(now)
        if self._wake.is_set():
            return
        if child is None:
            self._host_alone(now)
            self._wake.wait(0.25)
            return
        try:
            self._listen(child)
        except (ChildError, WireError) as error:
            self._fail(f"the sampler talks nonsense ({error}); restarting", now)
            self._deaf = True
            self._keeper.give_up(time.monotonic())
        if child.output_ended:
            self._wake.wait(0.02)
        elif time.monotonic() > self._due:
            self._overdue(child, now)
        self._host_alone(now)

    def interrupt(self) -> None:
        """End a ``run_once`` that waits, and all later waits; from any thread."""
        self._wake.set()
        child = self._keeper.child
        if child is not None:
            child.interrupt()

    def close(self, grace_seconds: float = 5.0) -> None:
        """End the sampler. Only after the thread of ``run_once`` has ended."""
        self._keeper.close(grace_seconds)

    def _start(self) -> Child:
        child = Child(self._argv, on_stderr=self._say)
        options = dataclasses.replace(self._options, known_gpus=self._inventory.gpus, sampler_retry=self._retry_seconds)
        child.write(write_options(options))
        return child

    def _child(self, now: float) -> Optional[Child]:
        """The running child, started if it is time for that."""
        if self._keeper.child is not None:
            return self._keeper.child
        if self._keeper.stuck is not None:
            return None
        try:
            child = self._keeper.start(time.monotonic())
        except ChildError as error:
            self._fail(f"the sampler cannot be started: {error}", now)
            return None
        if child is not None:
            self._header = self._shape = None
            self._ready = self._deaf = False
            self._alive_at = now
            self._due = time.monotonic() + START_SECONDS
        return child

    # what it says

    def _listen(self, child: Child) -> None:
        """Wait for the next frame until it should be there, then a second at most. Time in which this process stood still itself is no time of the sampler's."""
        began = time.monotonic()
        left = self._due - began
        wait = LONGEST_WAIT_SECONDS if child.asked_to_end or left <= 0 else min(left + 0.001, max(LOOK_SECONDS, self._expected_at - began))
        line = child.read_line(wait)
        late = time.monotonic() - began - wait
        if late > STOOD_STILL_SECONDS:
            self._due += late
        while line is not None and not self._deaf:
            self._take(line)
            line = child.read_line(LONGEST_WAIT_SECONDS) if self._header is not None else None

    def _take(self, line: bytes) -> None:
        if self._header is None:
            header = frame.loads(line)
            if not isinstance(header, dict):
                raise WireError(f"it wrote {line[:40]!r}")
            self._header = header
            return
        header, self._header = self._header, None
        self._alive_at = time.time()
        at = time.monotonic()
        self._due, self._expected_at = at + self._patience_seconds, at + self._options.interval + SLACK_SECONDS
        self._ready = True
        child = self._keeper.child
        if "ready" not in header and not (child is not None and child.asked_to_end):  # what was begun before a hang is old
            self._accept(header, line)

    def _accept(self, header: Dict[str, Any], line: bytes) -> None:
        if "shape" in header:
            self._shape = Shape.parse(header["shape"])
            self._inventory.remember(dataclasses.replace(gpu_of(gpu), error=gpu.get("error")) for gpu in self._shape.gpu_facts() if gpu.get("uuid"))
        if self._shape is None or header.get("shape_id") != self._shape.id:
            raise WireError("its values are of an unknown shape")
        self._newest.accept(Sample(self._shape, line), self._recovered())
        self._host_at = None
        child = self._keeper.child
        if child is not None and time.monotonic() - child.started_at > STEADY_SECONDS:
            self._keeper.worked()
            self._retry_seconds = self._options.sampler_retry

    def _recovered(self) -> Optional[Trouble]:
        """What was wrong until now, to be told for a while."""
        trouble = self._newest.trouble
        if trouble is None or not trouble.stale:
            return trouble
        log.info("the sampler works again")
        message = trouble.message.replace("; restarting", "; restarted")
        return Trouble(f"{message} (works again since {clock(self._alive_at)})", trouble.since_at, False, self._alive_at + TOLD_SECONDS)

    def _say(self, line: str) -> None:
        if self._spoken.take(time.monotonic()):
            log.warning("sampler: %s", line)

    # what is wrong with it

    def _explain(self, ended: Exit, now: float) -> None:
        self._header = None
        if ended.returncode == LOST:
            # it has waited already, and has told why in its snapshots
            if ended.lifetime_seconds > self._retry_seconds + STEADY_SECONDS:
                self._retry_seconds = self._options.sampler_retry
            else:
                self._retry_seconds = min(self._retry_seconds * 2, LONGEST_RETRY_SECONDS)
            self._keeper.worked()
            log.info("the sampler lost the driver; a new one is started, its patience is %.0f s", self._retry_seconds)
        elif not ended.asked:
            self._fail(_why(ended), now)

    def _overdue(self, child: Child, now: float) -> None:
        if child.asked_to_end:
            return
        since = self._alive_at
        if not self._ready:
            message = f"the sampler says nothing since its start at {clock(since)}; restarting"
        elif child.state in ("T", "t"):
            message = f"the sampler was stopped (SIGSTOP) and reads nothing since {clock(since)}; restarting"
        else:
            message = f"driver hung since {clock(since)}"
        self._fail(message, now, since)
        self._keeper.give_up(time.monotonic())

    def _fail(self, message: str, now: float, since_at: Optional[float] = None) -> None:
        before = self._newest.trouble
        if before is not None and before.stale and since_at is None:
            since_at = before.since_at  # one trouble that goes on
        if before is None or not before.stale or before.message != message:
            log.error("%s", message)
        self._newest.fail(Trouble(message, now if since_at is None else since_at))

    def _host_alone(self, now: float) -> None:
        """Before any sample of the sampler, one of the host alone, so that the node says what is wrong."""
        stuck = self._keeper.stuck
        before = self._newest.trouble
        if stuck is not None and before is not None and "cannot be killed" not in before.message:
            self._fail(
                f"{before.message}: process {stuck.pid} cannot be killed; no other is started until it is gone, a reboot may be needed",
                now,
                before.since_at,
            )
        trouble = self._newest.trouble
        answer = self._newest.answer(now)
        if trouble is None or not trouble.stale or (answer is not None and self._host_at is None):
            return
        if self._host_at is None or now - self._host_at >= self._options.interval or now < self._host_at:
            self._host_at = now
            self._newest.accept(Sample.of(self._host.snapshot(now, trouble.message, trouble.since_at)), trouble)


class Allowance:
    """So many lines a minute; the rest is dropped, with one note."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._window: Tuple[float, int] = (0.0, 0)

    def take(self, now: float) -> bool:
        """True if one more is allowed (``now``: monotonic)."""
        began, count = self._window
        if now - began >= 60.0:
            began, count = now, 0
        self._window = (began, count + 1)
        if count == self._lines:
            log.warning("sampler: more than %d lines a minute, the rest is not logged", self._lines)
        return count < self._lines


def clock(at: float) -> str:
    """``14:03:22``, this machine's time."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def _why(ended: Exit) -> str:
    if ended.silent and ended.returncode in (0, -15, -9):
        return "the sampler closed its output; restarting"
    if ended.returncode == -9:
        return "the sampler was killed (SIGKILL), perhaps for want of memory; restarting"
    if ended.returncode < 0:
        where = " in the driver's library" if ended.returncode in (-11, -7, -6, -4, -8) else ""
        return f"sampler crashed: {ended.words}{where}; restarting"
    words = f": {ended.last_words}" if ended.last_words else ""
    return f"the sampler ended ({ended.words}{words}); restarting"
