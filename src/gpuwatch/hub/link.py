"""One target of the poller: its keep-alive connection, its rhythm and its back-off. All callbacks of one event loop; never blocks.

A poll costs one write and one read; its timers are those of its slot (``hub.slots``). What fails is told to the sink in words; nothing here ever raises to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Any, List, Optional, Protocol

from gpuwatch.hub.answers import LONGEST_WAIT_SECONDS, Failure, broken, refused, timed_out, unreachable
from gpuwatch.hub.resolver import Address
from gpuwatch.hub.slots import Slot
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import GpuwatchError, WireError
from gpuwatch.model.foreign import program_of
from gpuwatch.wire.asking import Question, signer_of
from gpuwatch.wire.http import Response, ResponseReader, network_error

if TYPE_CHECKING:
    from gpuwatch.hub.poller import Poller

log = logging.getLogger(__name__)
CLOCK_SECONDS = 0.001
"""A timer may come so much early."""


class Connection(asyncio.BufferedProtocol):
    """One TCP connection to a node. Reads into the poller's one buffer: no allocation per read."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.transport: Optional[asyncio.Transport] = None
        self.answered = 0
        """Answers read on it so far."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is usable."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ready(self) -> None:
        """Wait until it may be sent on."""

    def send(self, data: bytes) -> None:
        """Send."""
        assert self.transport is not None
        self.transport.write(data)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to: the same memory for all, emptied in ``buffer_updated`` at once."""
        return self.link.poller.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self.link.received(self, bytes(self.link.poller.buffer[:nbytes]))

    def eof_received(self) -> bool:
        """The node sends no more."""
        return False

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """The connection is gone."""
        self.link.lost(self, exc)

    def close(self) -> None:
        """Give it up at once, also with data unsent."""
        if self.transport is not None:
            self.transport.abort()


class Asks(Protocol):
    """Makes the requests to one target: ``wire.asking.Question`` those to a node."""

    def request(self, shape_id: str, now: float) -> bytes:
        """The bytes to send at ``now`` (epoch seconds), once; ``shape_id``: the shape that the hub has of the target."""


class Link:
    """Polls one target until ``close``. ``hub.speakers`` has one for programs that are not gpuwatch: it asks and takes in another way."""

    def __init__(self, poller: Poller, target: Target, machine_id: str, interval_seconds: float) -> None:
        self.poller = poller
        self.target = target
        self.machine_id = machine_id
        self.interval_seconds = interval_seconds
        self.due = 0.0
        """When its next poll begins (time of the event loop)."""
        self._slot: Optional[Slot] = None
        self._first: Optional[asyncio.TimerHandle] = None
        self._ends_at = 0.0
        """When the poll under way has taken too long (time of the event loop)."""
        self._task: Optional[asyncio.Task[None]] = None
        self._connection: Optional[Connection] = None
        self._reader: Optional[ResponseReader] = None
        self._busy = False
        self._asked_at = 0.0
        self._password: Optional[str] = None
        self._question: Optional[Asks] = None
        """How this password asks; None until its key is made."""
        self._failures = 0
        self._resume_at = 0.0
        self.session: Any = None
        """(context, session) of the last TLS connection, for the next one."""

    def start(self, first: float, grid: float) -> None:
        """First poll at ``first``, all others at ``grid`` plus whole intervals (times of the event loop)."""
        self._slot = self.poller.slot(grid, self.interval_seconds)
        self._first = self._slot.start(self, first)

    def close(self) -> None:
        """Stop polling; nothing is reported any more."""
        self._busy = False
        for handle in (self._first, self._task):
            if handle is not None:
                handle.cancel()
        if self._slot is not None:
            self._slot.remove(self)
        self._drop()

    # The rhythm.

    def begin(self, following: float) -> None:
        """It is due; the next poll is due at ``following`` (time of the event loop)."""
        now = self.poller.loop.time()
        self.poller.stats.began(now - self.due, self.interval_seconds)
        self.due = following
        if self._busy:
            self.poller.stats.skipped += 1
            return
        self._ask(now)

    def look(self, now: float) -> None:
        """End the poll that has taken too long."""
        if self._busy and self._ends_at <= now + CLOCK_SECONDS:
            self._timed_out()

    def _ask(self, now: float) -> None:
        self._busy = True
        self._asked_at = time.time()
        self._ends_at = now + self.poller.deadline_seconds
        try:
            password = self.poller.password(self.target)
        except GpuwatchError as error:
            self._failed(Failure(str(error), True, False))
            return
        if password != self._password:
            self._password, self._question, self._resume_at, self._failures = password, None, 0.0, 0
        if self._question is None:
            self._task = self.poller.loop.create_task(self._make_key(password))
        else:
            self._go(now)

    async def _make_key(self, password: str) -> None:
        """Off the event loop: it takes 20 ms for each password."""
        signer = await self.poller.loop.run_in_executor(None, signer_of, password)
        self._question = Question(self.target.address, signer)
        self._go(self.poller.loop.time())

    def _go(self, now: float) -> None:
        if now < self._resume_at:
            self._task = self.poller.loop.create_task(self._probe())
        elif self._connection is not None:
            self._send(self._connection)
        else:
            self._task = self.poller.loop.create_task(self._connect_and_send())

    def _send(self, connection: Connection) -> None:
        assert self._question is not None
        self._reader = ResponseReader(self.poller.max_bytes)
        connection.send(self._question.request(self.poller.sink.shape_id(self.machine_id), time.time()))

    # Connecting.

    async def _open(self) -> socket.socket:
        """A connected socket. Raises OSError."""
        loop = self.poller.loop
        addresses: List[Address] = await self.poller.resolver.addresses(self.target.host, self.target.port)
        share = self.poller.deadline_seconds / (len(addresses) + 1)
        for place, (family, address) in enumerate(addresses):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                if place == len(addresses) - 1:
                    await loop.sock_connect(sock, address)
                else:
                    await asyncio.wait_for(loop.sock_connect(sock, address), share)
                return sock
            except BaseException as error:
                sock.close()
                if place == len(addresses) - 1 or not isinstance(error, (OSError, asyncio.TimeoutError)):
                    raise
        raise OSError("the name has no address")

    async def _connect_and_send(self) -> None:
        try:
            connection = self._new_connection()
            sock = await self._open()
            await self.poller.loop.create_connection(lambda: connection, sock=sock)
            self._connection = connection
            await connection.ready()
        except WireError as error:
            self._drop()
            self._failed(broken(self.target, error))
            return
        except OSError as error:
            self._drop()
            self._failed(self._unreachable(error))
            return
        self._send(connection)

    def _new_connection(self) -> Connection:
        """Raises WireError where nobody's certificate could be trusted."""
        if not self.target.by_tls:
            return Connection(self)
        from gpuwatch.hub.secure import SecureConnection

        return SecureConnection(self)

    async def _probe(self) -> None:
        """Back-off: only look whether something takes connections. If not, it was restarted or died: forget the back-off."""
        try:
            (await self._open()).close()
        except OSError as error:
            self._failed(self._unreachable(error))
            self._failures, self._resume_at = 0, 0.0
            return
        self._end_poll()

    def _unreachable(self, error: OSError) -> Failure:
        return unreachable(network_error(error, self.target.address, self.poller.deadline_seconds, program_of(self.target.scheme)))

    # Answers.

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes from the node."""
        reader = self._reader
        if connection is not self._connection or reader is None:
            if connection is self._connection:
                self._drop()  # it speaks without being asked
            return
        try:
            response = reader.feed(data)
        except WireError as error:
            self._drop()
            self._failed(broken(self.target, error))
            return
        if response is not None:
            self._answered(connection, response)

    def _answered(self, connection: Connection, response: Response) -> None:
        connection.answered += 1
        self._reader = None
        if not response.keeps_connection:
            self._drop()
        if response.status != 200:
            self._failed(refused(self.target, response))
            return
        try:
            self._take(response.body)
        except WireError as error:
            self._drop()
            self._failed(broken(self.target, error))
        except Exception:  # a bug of ours costs this target one reading, never the poller
            log.exception("answer of %s", self.target.name)
            self._drop()
            self._failed(Failure(f"{self.target.name}: the hub could not take the answer in. Next: see the hub's log.", True, True))
        else:
            self._failures, self._resume_at = 0, 0.0
            self.poller.stats.good += 1
            self._end_poll()

    def _take(self, body: bytes) -> None:
        """Hand a 200 to the hub. Raises WireError in words."""
        self.poller.sink.accept(self.target, self.machine_id, body, self._asked_at, time.time())

    def lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """The node closed the connection, or the network did."""
        if connection is not self._connection:
            return
        reader, self._connection, self._reader = self._reader, None, None
        if reader is None or not self._busy:
            return
        if connection.answered and not reader.began:
            # It closed an idle connection just when we asked: ask again on a fresh one, within the same deadline.
            self._task = self.poller.loop.create_task(self._connect_and_send())
            return
        try:
            if error is not None:
                raise network_error(error, self.target.address, self.poller.deadline_seconds, program_of(self.target.scheme))
            self._answered(connection, reader.end())
        except WireError as reason:
            self._failed(broken(self.target, reason)._replace(answers=reader.began))

    def _timed_out(self) -> None:
        connected = self._connection is not None
        if self._task is not None:
            self._task.cancel()
        self._drop()
        self._failed(timed_out(self.target, self.poller.deadline_seconds, connected))

    # Endings.

    def _failed(self, failure: Failure) -> None:
        now = self.poller.loop.time()
        self.poller.stats.failed += 1
        if failure.costly:
            self._failures += 1
            # The first failure costs nothing; then 1, 2, 4 ... intervals. A hair less, so that it falls before the beat it means.
            wait = self.interval_seconds * (2 ** min(self._failures - 2, 10)) if self._failures > 1 else 0.0
            self._resume_at = now + max(min(wait, LONGEST_WAIT_SECONDS), failure.wait_seconds) - 0.1 * self.interval_seconds
        else:
            self._failures, self._resume_at = 0, 0.0
        self._end_poll()
        self.poller.sink.fail(self.target, failure.text, time.time(), failure.answers)

    def _end_poll(self) -> None:
        self._busy = False
        self._task = None

    def _drop(self) -> None:
        connection, self._connection, self._reader = self._connection, None, None
        if connection is not None:
            connection.close()
