"""One target that is read through ssh: one connection kept open, a node started at its other end, its frames read as they come.

All of it runs in the poller's event loop, as one task a target. A connection that breaks is made again, later and later, never at the same
moment as all others. Nothing here ever raises to the event loop; what is wrong is told to the sink in words.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Deque, Dict, List, Mapping, Optional, Set, Tuple, Union

from gpuwatch.child import Child, ChildError, run
from gpuwatch.hub.answers import clean
from gpuwatch.hub.passwords import stamp_of
from gpuwatch.hub.ssh_stream import Children, Stream
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import GpuwatchError, WireError
from gpuwatch.wire import ssh
from gpuwatch.wire.ssh import MAGIC, Trouble, Way

if TYPE_CHECKING:
    from gpuwatch.hub.poller import Poller

log = logging.getLogger(__name__)

AT_ONCE = 32
"""So many connections are begun at the same time: a handshake costs processor time on both sides, and machines that are off must not keep others waiting."""
START_SECONDS = 60.0
"""From the start of ssh to the first line of the node: it may have to unpack itself on a slow disk."""
FIRST_FRAME_SECONDS = 45.0
COPY_SECONDS = 180.0
NOISE_BYTES = 64 * 1024
HEAD_BYTES = 4096
"""The header's own keys stand before the shape, which may be long."""
SILENT_INTERVALS = 3.0
MOST_FRAMES_AN_INTERVAL = 2.5
STEADY_INTERVALS = 12.0
"""A connection that brought readings for so long is made again soon; of a shorter one the waits add up."""
FIRST_WAIT_SECONDS = {"lost": 1.0, "network": 2.0, "setup": 10.0, "login": 15.0}
LONGEST_WAIT_SECONDS = {"lost": 60.0, "network": 60.0, "setup": 300.0, "login": 300.0}
_BASE = re.compile(rb'"base":\s*"')
"""In the header of a frame that tells what changed: a third line has the texts."""
_SENT_AT = re.compile(rb'"sent_at":\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)')


class SshLinks:
    """What all ssh targets of a hub share. ``kinds`` and ``finish`` are for the Poller."""

    def __init__(self, way: Way, archive: Optional[str] = None) -> None:
        """``archive``: the gpuwatch.pyz that is copied for ``ssh+copy://``; None = this hub does not run from one."""
        self.way = way
        self.archive = archive
        self.children = Children()
        self._turns: Optional[asyncio.Semaphore] = None
        self._hash: Dict[object, str] = {}
        self._copying: Set[Child] = set()
        self._closing: Set[asyncio.Task[None]] = set()

    @property
    def kinds(self) -> Mapping[str, Callable[[Poller, Target, str, float], SshLink]]:
        """What reads which scheme."""

        def make(poller: Poller, target: Target, machine_id: str, interval_seconds: float) -> SshLink:
            return SshLink(self, poller, target, machine_id, interval_seconds)

        return {"ssh": make, "ssh+copy": make}

    async def finish(self) -> None:
        """Once all links are closed: until their processes are gone, 4 s at most."""
        self._turns = None
        for child in list(self._copying):
            child.ask_to_end()
        await asyncio.gather(*self._closing, return_exceptions=True)
        self._closing.clear()
        await self.children.finish()

    def close(self, task: asyncio.Task[None]) -> None:
        """End a link's task, which ends its process."""
        task.cancel()
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @property
    def turns(self) -> asyncio.Semaphore:
        """Who may begin a connection."""
        if self._turns is None:
            self._turns = asyncio.Semaphore(AT_ONCE)
        return self._turns

    def copy(self, target: Target) -> Optional[Trouble]:
        """Bring the file to a target that has another one, or none. Blocks: for a thread."""
        try:
            data, digest = self._file()
            there = self._run(target, ssh.hash_command(self.way))
            if isinstance(there, Trouble) or there == digest:
                return there if isinstance(there, Trouble) else None
            copied = self._run(target, ssh.copy_command(self.way), data)
        except ChildError as error:
            return _no_ssh(error)
        except OSError as error:
            return Trouble("setup", f"the hub cannot read its own file: {error.strerror}.", "put gpuwatch.pyz back in its place")
        if isinstance(copied, Trouble):
            return copied
        if copied != digest:
            return Trouble("setup", "what was copied is not what arrived.", "look at the disk there; it is tried again")
        log.info("%s: gpuwatch was copied there", target.name)
        return None

    def _began(self, child: Child, mine: List[Child]) -> None:
        mine.append(child)
        self._copying.add(child)

    def _file(self) -> Tuple[bytes, str]:
        if self.archive is None:
            raise OSError(2, "it runs from source, not from gpuwatch.pyz")
        data, stamp = Path(self.archive).read_bytes(), stamp_of(self.archive)
        if stamp not in self._hash:
            self._hash = {stamp: hashlib.sha256(data).hexdigest()}
        return data, self._hash[stamp]

    def _run(self, target: Target, command: str, data: bytes = b"") -> Union[str, Trouble]:
        """The last line that the command prints there, or what went wrong."""
        mine: List[Child] = []
        try:
            done = run(
                ssh.argv(target, command, self.way), data, timeout_seconds=COPY_SECONDS, most_lines=1000, on_start=lambda child: self._began(child, mine)
            )
        finally:
            self._copying.difference_update(mine)
        last = done.lines[-1].decode("utf-8", "replace").strip() if done.lines else ""
        return last if done.returncode == 0 else ssh.explain(target, self.way, done.returncode, done.errors, last)


class SshLink:
    """Reads one target until ``close``."""

    def __init__(self, shared: SshLinks, poller: Poller, target: Target, machine_id: str, interval_seconds: float) -> None:
        self.poller = poller
        self.target = target
        self.machine_id = machine_id
        self.interval_seconds = interval_seconds
        self._shared = shared
        self._task: Optional[asyncio.Task[None]] = None
        self._failures = 0
        self._copied = False
        self._worked = False
        """A reading came through this connection."""
        self._offsets: Deque[float] = deque(maxlen=32)

    def start(self, first: float, grid: float) -> None:
        """Connect at ``first`` (time of the event loop); the node there keeps the rhythm."""
        self._task = self.poller.loop.create_task(self._keep(first))

    def close(self) -> None:
        """End the connection; nothing is reported any more."""
        if self._task is not None:
            self._shared.close(self._task)

    async def _keep(self, first: float) -> None:
        loop = self.poller.loop
        await asyncio.sleep(max(0.0, first - loop.time()))
        while True:
            began = loop.time()
            trouble = await self._session_or_trouble()
            self.poller.stats.failed += 1
            self.poller.sink.fail(self.target, clean(f"{self.target.name}: {trouble.words}", 600), time.time(), trouble.kind == "setup")
            steady = self._worked and loop.time() - began > STEADY_INTERVALS * self.interval_seconds
            self._failures = 1 if steady else self._failures + 1
            await asyncio.sleep(wait_seconds(trouble.kind, self._failures, random.random()))

    async def _session_or_trouble(self) -> Trouble:
        try:
            return await self._session()
        except ChildError as error:  # an endless line
            return Trouble("setup", f"what comes from there are no readings: {error.message}", "log in by hand and look what is printed")
        except GpuwatchError as error:
            return Trouble("setup", error.message, (error.next_step or "see the hub's log").rstrip("."))
        except Exception:  # a bug of ours costs this target its readings for a while, never the poller
            log.exception("ssh to %s", self.target.name)
            return Trouble("setup", "the hub made a mistake.", "see the hub's log")

    async def _session(self) -> Trouble:
        """One connection from its start to its end; why it ended."""
        stream: Optional[Stream] = None
        shared, self._worked = self._shared, False
        try:
            async with shared.turns:
                if self.target.scheme == "ssh+copy" and not self._copied:
                    trouble = await shared.children.elsewhere(lambda: shared.copy(self.target))
                    if trouble is not None:
                        return trouble
                    self._copied = True
                command = ssh.node_command(shared.way, self.interval_seconds)
                try:
                    stream = await shared.children.start(ssh.argv(self.target, command, shared.way), self.poller.max_bytes)
                except ChildError as error:
                    return _no_ssh(error)
                trouble = await self._greet(stream)
            return trouble or await self._read(stream)
        finally:
            if stream is not None:
                shared.children.end(stream.child)

    async def _greet(self, stream: Stream) -> Optional[Trouble]:
        """Until the line that begins the frames; a greeting of the login shell before it is passed over."""
        until = self.poller.loop.time() + START_SECONDS
        noise, size = b"", 0
        while True:
            try:
                line = await stream.line(until)
            except asyncio.TimeoutError:
                return Trouble("setup", f"no node began to speak within {START_SECONDS:g} s{_last_line(stream, noise)}.", "log in by hand and look what waits there")
            if line is None:
                self._copied = False
                return ssh.explain(self.target, self._shared.way, await stream.returncode(), stream.errors, noise.decode("utf-8", "replace"))
            if line.startswith(MAGIC):
                return None
            noise, size = line or noise, size + len(line) + 1
            if size > NOISE_BYTES:
                return Trouble("setup", f"the login there prints more than {NOISE_BYTES} bytes and no readings.", "look at the shell's start-up files there")

    async def _read(self, stream: Stream) -> Trouble:
        """Frames until something is wrong; what."""
        loop = self.poller.loop
        patience = SILENT_INTERVALS * self.interval_seconds + self.poller.deadline_seconds
        until = loop.time() + max(FIRST_FRAME_SECONDS, patience)
        while True:
            try:
                header, values = await stream.line(until), await stream.line(until)
                texts = await stream.line(until) if header is not None and _BASE.search(header, 0, HEAD_BYTES) else b""
            except asyncio.TimeoutError:
                return Trouble("lost", f"no reading came for {patience:g} s{_last_line(stream, b'')}.", "look at the machine's load and the network; it is tried again")
            if header is None or values is None or texts is None:
                return ssh.explain(self.target, self._shared.way, await stream.returncode(), stream.errors)
            trouble = self._accept(header, b"%s\n%s" % (values, texts) if texts else values)
            if trouble is not None:
                return trouble
            until = loop.time() + patience
            await asyncio.sleep(self.interval_seconds / MOST_FRAMES_AN_INTERVAL)  # a flood waits there, not here

    def _accept(self, header: bytes, values: bytes) -> Optional[Trouble]:
        poller, now = self.poller, time.time()
        poller.stats.began(0.0, self.interval_seconds)
        try:
            poller.sink.accept(self.target, self.machine_id, b"%s\n%s\n" % (header, values), self._asked_at(header, now), now)
        except WireError as error:
            return _not_taken(error)
        poller.stats.good += 1
        self._worked = True
        return None

    def _asked_at(self, header: bytes, now: float) -> float:
        """When it would have been asked, had it been: the middle from then to ``now`` is when it was sent, as far as can be told.

        A frame may have waited in the network; the quickest of the last ones tells what the clocks differ by.
        """
        found = _SENT_AT.search(header, 0, HEAD_BYTES)
        if found is None:
            return now
        offset = float(found.group(1)) - now
        self._offsets.append(offset)
        return now - 2 * (max(self._offsets) - offset)


def wait_seconds(kind: str, failures: int, luck: float) -> float:
    """How long to wait after so many failures in a row; ``luck`` from 0 to 1 spreads those that failed together."""
    wait = FIRST_WAIT_SECONDS[kind] * 2.0 ** min(failures - 1, 16)
    return min(wait, LONGEST_WAIT_SECONDS[kind]) * (0.75 + luck / 2)


def _not_taken(error: WireError) -> Trouble:
    return Trouble("lost", clean(error.message, 300), (error.next_step or "upgrade the older of hub and node").replace("Next: ", "").rstrip("."))


def _no_ssh(error: ChildError) -> Trouble:
    return Trouble("setup", f"ssh does not work here: {error.message}", "install OpenSSH's client on the hub (Debian: openssh-client)")


def _last_line(stream: Stream, noise: bytes) -> str:
    said = stream.errors[-1] if stream.errors else noise.decode("utf-8", "replace")
    return f" (it said: {ssh.shown(said)})" if said.strip() else ""
