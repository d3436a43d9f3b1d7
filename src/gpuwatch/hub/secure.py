"""A connection to a node by TLS, for the poller: the handshake and each record in the event loop, nothing blocks, sessions are taken up again.

OpenSSL works on two buffers in memory (not asyncio's own TLS, which cannot take up a session and costs twice as much a poll). The pinned
certificate is compared before anything is sent.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Optional

from gpuwatch.hub.link import Connection
from gpuwatch.model.errors import WireError
from gpuwatch.wire.http import Trust
from gpuwatch.wire.tls import check_pin, context_of, explained

if TYPE_CHECKING:
    from gpuwatch.hub.link import Link

READ_BYTES = 65536


class SecureConnection(Connection):
    """One TLS connection. ``ready`` returns once the certificate is found good."""

    def __init__(self, link: Link) -> None:
        """Raises WireError where the authorities' file cannot be used."""
        super().__init__(link)
        target = link.target
        self._trust = Trust(target.pin, target.ca_file)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._context = context_of(self._trust)
        context, session = link.session or (None, None)
        name = target.host.partition("%")[0].rstrip(".")
        usable = session if context is self._context else None  # a session belongs to the context that made it
        try:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_hostname=name, session=usable)
        except ValueError:
            raise WireError(f"{name[:60]!r} cannot be in a certificate.", "Next: write another name or the address.") from None
        self._shaken: asyncio.Future[None] = link.poller.loop.create_future()

    async def ready(self) -> None:
        """Wait for the end of the handshake. Raises WireError, OSError."""
        self._shake()
        await self._shaken

    def send(self, data: bytes) -> None:
        """Encrypt and send."""
        try:
            self._tls.write(data)
        except ssl.SSLError:  # the node has ended it: as if the connection were closed
            self.close()
            return
        self._flush()

    def buffer_updated(self, nbytes: int) -> None:
        """Encrypted bytes came."""
        self._incoming.write(self.link.poller.buffer[:nbytes])
        if not self._shaken.done():
            self._shake()
        if self._shaken.done():
            self._read()

    def _read(self) -> None:
        parts = []
        ended = False
        try:
            while True:
                part = self._tls.read(READ_BYTES)
                if not part:
                    ended = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._failed(explained(error, self.link.target.address))
            return
        self._flush()  # an answer of TLS itself, such as to a new key
        if parts:
            self.link.received(self, parts[0] if len(parts) == 1 else b"".join(parts))
        if ended and self.transport is not None:
            self.transport.close()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
            check_pin(self._trust, self._tls.getpeercert(True), self.link.target.address)
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # tells the other side why
            self._failed(explained(error, self.link.target.address))
            return
        except WireError as error:
            self._failed(error)
            return
        self._flush()
        if not self._shaken.done():
            self._shaken.set_result(None)

    def _failed(self, error: WireError) -> None:
        if not self._shaken.done():
            self._shaken.set_exception(error)
        if self.transport is not None:
            self.transport.close()

    def _flush(self) -> None:
        if self._outgoing.pending and self.transport is not None:
            self.transport.write(self._outgoing.read())

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """The connection is gone; its session may be taken up by the next one."""
        if not self._shaken.done():
            self._shaken.set_exception(exc or ConnectionResetError(0, "it closed the connection during the handshake"))
        elif not self._shaken.cancelled() and self._shaken.exception() is None:
            self.link.session = (self._context, self._tls.session)
        super().connection_lost(exc)

