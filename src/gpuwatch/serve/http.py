"""The HTTP server of node and hub: waitress on sockets that we open, so that what is wrong with an address is said in one line.

The only import of waitress. ``close`` is safe in a signal handler; it must never wait.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
import time
from typing import Any, NamedTuple, Optional

from gpuwatch.model.errors import GpuwatchError
from gpuwatch.serve import handover, plain, wsgi
from gpuwatch.serve.forwarded import forwarded, networks
from gpuwatch.serve.uploads import NO_UPLOADS, UploadLimits, parser_class

CONNECTION_LIMIT = 2000
SPARE_DESCRIPTORS = 200
"""For the database, pipes and outgoing connections; the rest may be connections of clients."""
MOST_DESCRIPTORS = 65536
CHANNEL_TIMEOUT_SECONDS = 60
TRANSPORT_BODY_BYTES = 4
"""waitress itself takes bodies up to this many times the limit, and hangs up on larger ones; between the two a client reads a clean 413."""


class CertificateFiles(NamedTuple):
    """Paths of the certificate (with those of the authorities between) and of its key, both PEM; one path twice where both are in one file."""

    cert: str
    key: str

    @classmethod
    def of(cls, cert: str, key: str) -> Optional[CertificateFiles]:
        """The files of two settings; None where both are empty. Raises GpuwatchError where the certificate alone is missing."""
        if not cert and not key:
            return None
        if not cert:
            raise GpuwatchError("tls_key is set and tls_cert is not.", "Set both; `gpuwatch cert` makes a pair.")
        return cls(cert, key or cert)


class Server:
    """One WSGI app on one address. The socket listens as soon as the Server is made; ``run`` answers until ``close``."""

    def __init__(
        self,
        app: wsgi.App,
        host: str,
        port: int,
        threads: int = 8,
        access_log: bool = True,
        max_body_bytes: int = 1024**2,
        uploads: UploadLimits = NO_UPLOADS,
        tls: Optional[CertificateFiles] = None,
        trusted_proxies: str = "",
        taker: Optional[handover.Taker] = None,
    ) -> None:
        """Raises GpuwatchError with the next step if address or certificate cannot be had. ``host`` "" = all, "::" = all, IPv6 too.

        ``taker``: who gets the connections that it wants.
        """
        from waitress.channel import HTTPChannel
        from waitress.server import create_server

        # at 500 waiting requests it would write 500 lines; a full queue shows in the response times
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        limit, proxies = _connection_limit(), networks(trusted_proxies)
        channel: Any = plain.channel_class(HTTPChannel) if tls is None else _secure(HTTPChannel, tls)
        self._scheme = "http" if tls is None else "https"
        self._sockets = open_sockets(host, port)
        self.host = host
        self.port: int = self._sockets[0].getsockname()[1]
        """The real port, also where 0 was asked for."""
        self._map: dict[int, Any] = {}
        self._closing = False
        self._server = create_server(
            forwarded(wsgi.wrap(app, max_body_bytes, access_log, dict.fromkeys(uploads.paths, uploads.most_bytes)), proxies),
            map=self._map,
            sockets=self._sockets,
            threads=threads,
            asyncore_use_poll=True,
            connection_limit=limit,
            channel_timeout=CHANNEL_TIMEOUT_SECONDS,
            cleanup_interval=10,
            ident="gpuwatch",
            url_scheme=self._scheme,
            clear_untrusted_proxy_headers=False,  # ``forwarded`` takes them away
            max_request_body_size=max_body_bytes * TRANSPORT_BODY_BYTES,
            max_request_header_size=65536,
            log_socket_errors=False,
        )
        if uploads.paths:
            channel = type("Channel", (channel,), {"parser_class": parser_class(uploads)})
        if taker is not None:
            channel = handover.channel_class(channel, taker)
        for one in list(self._map.values()):
            if hasattr(one, "channel_class"):  # a socket that listens
                one.channel_class = channel
        self._trigger = next(one for one in self._map.values() if hasattr(one, "pull_trigger"))

    @property
    def url(self) -> str:
        """``http://host:port/``, or with https, as a person on this machine can open it."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"{self._scheme}://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}/"

    def run(self) -> None:
        """Answer until ``close``; requests that are being answered then get 5 seconds."""
        from waitress import wasyncore

        try:
            while not self._closing:
                wasyncore.loop(timeout=10.0, use_poll=True, map=self._map, count=1)
        finally:
            self._end(wasyncore)

    def close(self) -> None:
        """End ``run``; from any thread or a signal handler."""
        self._closing = True
        try:
            self._trigger.pull_trigger()
        except OSError:  # it ends at this very moment
            pass

    def _end(self, wasyncore: Any) -> None:
        for one in list(self._map.values()):
            if one.accepting:
                wasyncore.dispatcher.close(one)
        self._server.task_dispatcher.shutdown(timeout=5)
        until, over = time.monotonic() + 1.0, False
        while not over and any(getattr(c, "total_outbufs_len", 0) for c in self._map.values()):
            over = time.monotonic() > until  # then once more: this process may have stood still
            wasyncore.loop(timeout=0.1, use_poll=True, map=self._map, count=1)
        # a second Ctrl-C, or an answer that took its 5 s: the number of the trigger's pipe then belongs to another file, such as a database
        self._trigger.pull_trigger = lambda *_: None
        wasyncore.close_all(self._map, ignore_all=True)


def _secure(channel: Any, files: CertificateFiles) -> Any:
    from gpuwatch.serve import tls  # imports this module

    return tls.channel_class(channel, tls.Certificate(files))


def _connection_limit() -> int:
    """How many clients may be connected; lifts this process's limit of open files first, as waitress spins when it is reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = MOST_DESCRIPTORS if hard == unlimited else min(hard, MOST_DESCRIPTORS)
    if soft != unlimited and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass
    return CONNECTION_LIMIT if soft == unlimited else max(16, min(CONNECTION_LIMIT, soft - SPARE_DESCRIPTORS))


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening addresses for ``host`` (a name may have several), all with one port. Raises GpuwatchError with the next step."""
    opened: list[socket.socket] = []
    unusable: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            opened.append(_open(family, address, opened[0].getsockname()[1] if opened else port))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _close_all(opened)
                raise _explain(host, port, error) from None
            unusable = error
    if not opened:
        raise _explain(host, port, unusable or OSError(errno.EADDRNOTAVAIL, "no address"))
    return opened


def _close_all(sockets: list[socket.socket]) -> None:
    for opened in sockets:
        opened.close()


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    if not 0 <= port <= 65535:
        raise GpuwatchError(f"{port} is not a port.", "Choose one from 1 to 65535 with --port, or 0 for any free one.")
    try:
        found = socket.getaddrinfo(host.strip("[]") or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise GpuwatchError(
            f"{host!r} is neither an address of this machine nor a known name.", "Listen on 0.0.0.0 (all) or 127.0.0.1 with --host."
        ) from None
    return list(dict.fromkeys((entry[0], entry[4]) for entry in found))


def _open(family: int, address: Any, port: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" takes IPv4 too; any other IPv6 address leaves IPv4 to its own socket
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        listening.bind((address[0], port, *address[2:]))
        listening.listen(1024)
    except BaseException:
        listening.close()
        raise
    return listening


def _explain(host: str, port: int, error: OSError) -> GpuwatchError:
    where = f"{host or '0.0.0.0'}, port {port}"
    if error.errno == errno.EADDRINUSE:
        return GpuwatchError(
            f"Cannot listen on {where}: another program does already.",
            f"`ss -ltnp 'sport = :{port}'` shows it; or choose another with --port.",
        )
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return GpuwatchError(
            f"Cannot listen on {where}: this machine has no such address.", "Listen on 0.0.0.0 (all) or 127.0.0.1 with --host."
        )
    if error.errno == errno.EACCES:
        return GpuwatchError(f"Cannot listen on {where}: ports below 1024 are for root.", "Choose a higher one with --port.")
    return GpuwatchError(f"Cannot listen on {where}: {error.strerror or error}.", "Choose another address with --host or --port.")
