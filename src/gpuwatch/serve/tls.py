"""TLS inside waitress: a channel whose handshake never blocks the server, and the certificate, read anew when its file changes.

Must never wait for a client: one that stalls in the middle of its handshake costs a file descriptor for ten seconds, and delays nobody.
"""

from __future__ import annotations

import errno
import logging
import os
import ssl
import stat
import threading
import time
from pathlib import Path
from typing import Any

from gpuwatch.model.errors import GpuwatchError
from gpuwatch.serve.http import CertificateFiles

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
"""A client that has not finished its handshake by then is cut off when waitress next looks, which it does every ten seconds."""
LOOK_SECONDS = 10.0
"""So often the certificate's files are looked at."""
RECORD_BYTES = 16384
"""The longest record of TLS: read whole, nothing of it waits where poll() does not see it."""
_TOLD = b"This address speaks TLS: write https:// instead of http://.\n"
PLAIN_REPLY = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_TOLD) + _TOLD


class Certificate:
    """The server's side of TLS, with the certificate as it lies in its files."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises GpuwatchError in words for files that cannot be used."""
        self._files = files
        self._stamp = _stamp(files)
        self._context = load(files)
        self._looked_at = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """For the next connection. A pair that was renewed is taken over; a broken one is told to the log, and the old one stays."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            stamp = _stamp(self._files)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = load(self._files)
                    log.info("the certificate was renewed")
                except (GpuwatchError, OSError) as error:  # the last: a file went away while it was read
                    log.error("%s The certificate that was read before stays in use.", error)
        return self._context


def _stamp(files: CertificateFiles) -> Any:
    found = []
    for path in files:
        try:
            status = os.stat(path)
            found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        except OSError:
            found.append((0, 0, 0))
    return found


def load(files: CertificateFiles) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and newer. Raises GpuwatchError naming the file that cannot be used, and why."""
    for path in files:
        _refuse_unreadable(path)
    if stat.S_IMODE(os.stat(files.key).st_mode) & stat.S_IROTH:
        raise GpuwatchError(f"{files.key} holds a private key and everybody on this machine can read it.", f"Run: chmod 600 {files.key}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except _Encrypted:
        raise GpuwatchError(f"The key {files.key} is encrypted.", "Write one without a password: openssl pkey -in OLD -out NEW") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise GpuwatchError(f"The key {files.key} does not belong to the certificate {files.cert}.", "Name a pair; `gpuwatch cert` makes one.") from None
        raise GpuwatchError(
            f"{files.cert} and {files.key} are not a certificate and its key in PEM ({error.reason or 'no PEM'}).", "`gpuwatch cert` makes a pair."
        ) from None
    return context


class _Encrypted(Exception):
    """Else OpenSSL asks at the terminal."""


def _no_password() -> bytes:
    raise _Encrypted


def _refuse_unreadable(path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise GpuwatchError(f"The TLS file {path} cannot be read: {error.strerror}.", "`gpuwatch cert` makes a certificate and its key.") from None


class SecureSocket:
    """TLS on one connection, as waitress uses a socket that does not block: where there is nothing yet, EWOULDBLOCK."""

    def __init__(self, plain: Any, context: ssl.SSLContext) -> None:
        self._ssl = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._ssl.setblocking(False)
        self._lock = threading.Lock()
        """A worker may send while the loop reads; OpenSSL takes one at a time."""
        self.handshaking = True
        self.wants_write = False
        self.fileno = self._ssl.fileno
        self.getsockopt = self._ssl.getsockopt
        self.setsockopt = self._ssl.setsockopt
        self.getpeername = self._ssl.getpeername
        self.getsockname = self._ssl.getsockname

    def setblocking(self, flag: object) -> None:
        """It never blocks."""

    def handshake(self) -> bool:
        """Go on as far as the client's bytes lead; True once it is done. Raises OSError where it failed."""
        with self._lock:
            self.wants_write = False
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLWantWriteError:
                self.wants_write = True
                return False
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    os.write(self._ssl.fileno(), PLAIN_REPLY)
                raise
            except ValueError as error:  # closed meanwhile
                raise OSError(errno.EBADF, str(error)) from None
            self.handshaking = False
            return True

    def recv(self, most: int) -> bytes:
        """One record, or as many as are here where more is asked for; empty at the end. Raises BlockingIOError where no whole one is here."""
        with self._lock:
            data = b""
            try:
                data = part = self._ssl.recv(RECORD_BYTES)
                while part and len(data) + RECORD_BYTES <= most:
                    part = self._ssl.recv(RECORD_BYTES)
                    data += part
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not data:
                    raise BlockingIOError(errno.EWOULDBLOCK, "no record yet") from None
            return data

    def send(self, data: bytes) -> int:
        """How much of ``data`` was taken. Raises BlockingIOError where nothing can be now."""
        if self.handshaking:
            raise BlockingIOError(errno.EWOULDBLOCK, "no handshake yet")
        with self._lock:
            try:
                return self._ssl.send(data)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise BlockingIOError(errno.EWOULDBLOCK, "no room") from None

    def close(self) -> None:
        """Say the end, as TLS wants it, but do not wait for the client's."""
        with self._lock:
            if not self.handshaking:
                try:
                    self._ssl.unwrap()
                except (OSError, ValueError):
                    pass
            self._ssl.close()


class SecureChannel:
    """What differs in waitress's channel when TLS lies under it: stands before its class in ``channel_class``."""

    certificate: Certificate
    socket: Any
    addr: Any
    will_close: bool
    recv: Any
    received: Any
    handle_close: Any

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        try:
            secure = SecureSocket(sock, self.certificate.context())
        except (OSError, ValueError) as error:
            log.debug("a connection could not be secured: %s", error)
            sock.close()
            return
        super().__init__(server, secure, addr, adj, map=map)  # type: ignore[call-arg]
        # idle since before it came: so the usual sweep cuts off who does not finish the handshake in time
        self.last_activity = time.time() - adj.channel_timeout + HANDSHAKE_SECONDS

    def writable(self) -> Any:
        """Also where the handshake has something to send."""
        return super().writable() or (self.socket is not None and self.socket.wants_write)  # type: ignore[misc]

    def handle_read(self) -> None:
        """As the base does it, but a record may not be whole yet."""
        if self.socket.handshaking and not self._shaken():
            return
        try:
            data = self.recv(RECORD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if data:
            self.last_activity = time.time()
            self.received(data)
        else:
            self.connected = False

    def handle_write(self) -> None:
        """The handshake first."""
        if self.socket.handshaking and not self.will_close:
            self._shaken()
        else:
            super().handle_write()  # type: ignore[misc]

    def _shaken(self) -> bool:
        try:
            done: bool = self.socket.handshake()
        except OSError as error:
            log.debug("handshake with %s failed: %s", self.addr[0] if self.addr else "a client", error)
            self.handle_close()
            return False
        if done:
            self.last_activity = time.time()
        return done


def channel_class(base: Any, certificate: Certificate) -> Any:
    """waitress's channel ``base`` with TLS under it."""
    return type("Channel", (SecureChannel, base), {"certificate": certificate})
