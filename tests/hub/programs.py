"""Programs that are not gpuwatch, as small servers on 127.0.0.1: each answers what it was told and writes down what it was asked; no test in here."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Callable, List, Optional, Union

HERE = Path(__file__).resolve().parent.parent
PAGES = HERE / "wire" / "exporters" / "pages"
CAPTURES = HERE / "wire" / "captures"


def reply(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer as Werkzeug gives it: the connection is closed behind it."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def captured(name: str) -> bytes:
    """The recorded body of an answer."""
    return (CAPTURES / name).read_bytes().rpartition(b"<<<RESPONSE>>>")[2].rpartition(b"\r\n\r\n")[2].strip() + b"\n"


def page(name: str) -> bytes:
    """A recorded page of an exporter."""
    return (PAGES / f"{name}.txt").read_bytes()


Answer = Union[bytes, Callable[[bytes], bytes]]


class Program:
    """One server. ``answer``: the whole HTTP answer, or what makes it of a request; may be changed while it runs. ``tls``: it speaks so."""

    def __init__(self, answer: Answer, tls: Optional[ssl.SSLContext] = None) -> None:
        self.answer = answer
        self._tls = tls
        self.asked: List[bytes] = []
        """Whole requests, as they came."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening, at once: whoever waits for a connection would keep the socket open until one comes."""
        try:
            self._listening.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed already
            pass
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            with plain:
                plain.settimeout(10)
                try:
                    connection = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
                    asked = self._read(connection)
                    self.asked.append(asked)
                    connection.sendall(self.answer(asked) if callable(self.answer) else self.answer)
                    if self._tls:
                        connection.close()
                except OSError:
                    continue

    def _read(self, connection: socket.socket) -> bytes:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += self._more(connection)
        head, _, body = asked.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += self._more(connection)
        return head + b"\r\n\r\n" + body

    def _more(self, connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise OSError("closed")
        return data
