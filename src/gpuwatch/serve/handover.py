"""Connections that leave waitress: those of pushing nodes, which stay open for weeks and say little. Must never wait.

waitress looks at each of its connections whenever anything happens on one of them: a thousand pushing nodes would cost more than all they push. So who
asks for it by a token of the header ``Connection`` (which no proxy passes on) is handed over with what was read so far.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

HEAD_BYTES = 4096
"""The request line and the token must stand so far in front."""


class Connection(NamedTuple):
    """What is handed over. ``socket`` does not block: ``recv``, ``send``, ``fileno``, ``close`` as of a socket, TLS or not."""

    socket: Any
    address: str
    data: bytes
    """What was read from it already."""


class Taker(Protocol):
    """Who takes connections over. Called on waitress's thread: quick."""

    def wants(self, head: bytes) -> bool:
        """Whether a connection that begins with these bytes is for it."""

    def take(self, connection: Connection) -> None:
        """It is its own from now on."""


def channel_class(base: Any, taker: Taker) -> Any:
    """waitress's channel ``base``, which hands over what ``taker`` wants."""

    class Channel(base):  # type: ignore[misc]
        """One connection."""

        socket: Any

        def received(self, data: bytes) -> Any:
            """As the base does it, unless it is to be handed over: only between two requests, with nothing left to send."""
            if data[:5] == b"POST " and self.request is None and not self.requests and not self.total_outbufs_len and taker.wants(data[:HEAD_BYTES]):
                self._hand_over(data)
                return True
            return super().received(data)

        def _hand_over(self, data: bytes) -> None:
            socket, address = self.socket, str(self.addr[0]) if self.addr else ""
            self.del_channel()
            self.connected = False
            self.socket = None  # what waitress still does with this channel must not close it
            taker.take(Connection(socket, address, data))

        def readable(self) -> Any:
            """Not when it is gone."""
            return self.socket is not None and super().readable()

    return Channel
