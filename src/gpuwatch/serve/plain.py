"""waitress's channel where no TLS is spoken: who begins with a handshake is told at once, instead of both sides waiting for the other. Must never wait."""

from __future__ import annotations

from typing import Any

HELLO = b"\x16\x03"
"""So begins each handshake of TLS, and no request of HTTP."""
_TOLD = b"This address speaks no TLS: write http:// instead of https://, or set tls_cert here.\n"
REPLY = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_TOLD) + _TOLD
"""What a client of TLS takes for a wrong version, which it says."""


def channel_class(base: Any) -> Any:
    """waitress's channel ``base``, which answers a handshake with ``REPLY`` and ends."""

    class Channel(base):  # type: ignore[misc]
        """One connection."""

        socket: Any

        def received(self, data: bytes) -> Any:
            """As the base does it, but for a handshake in front."""
            if data[:2] != HELLO or self.request is not None or self.requests:
                return super().received(data)
            try:
                self.socket.send(REPLY)
            except OSError:
                pass
            self.handle_close()
            return False

    return Channel
