"""Fake nodes on 127.0.0.1, good and bad, each a small asyncio server in one thread; no test in here."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import Any, Awaitable, Callable, Dict, Iterator, List, Optional

from tests.hub.readings import busy, frame, gpu, snapshot

Behaviour = Callable[["FakeNode", bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", *headers: str, length: Optional[int] = None) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def good(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(node.frame(body), "200 OK", "Content-Type: application/x-gpuwatch-frame"))


async def chunked(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    data = node.frame(body)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(data), 100):
        part = data[start : start + 100]
        writer.write(b"%x;x=1\r\n%s\r\n" % (len(part), part))
        await writer.drain()
    writer.write(b"0\r\nTrailer: x\r\n\r\n")


async def closing(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(node.frame(body), "200 OK", "Connection: close"))
    await writer.drain()
    writer.close()


async def until_close(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + node.frame(body))
    await writer.drain()
    writer.close()


async def closes_idle(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    """Answers as one that keeps the connection, and closes it a little later all the same."""
    writer.write(answer(node.frame(body)))
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.close()


async def dripping(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    for byte in answer(node.frame(body)):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def silent(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def garbage(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff\xfe" * 5)


async def huge(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"", length=10**12))


async def endless_chunks(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        await writer.drain()


async def endless_headers(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def short_length(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    """Promises more than it sends, then closes."""
    writer.write(answer(b"abc", length=100))
    await writer.drain()
    writer.close()


async def redirecting(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"", "302 Found", "Location: http://169.254.169.254/latest/"))


async def wrong_password(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"wrong password\n", "403 Forbidden", "Content-Type: text/plain"))


async def clock_ahead(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    said = b"The request is stale: this machine's clock is 312 s ahead of yours.\n"
    writer.write(answer(said, "403 Forbidden", "Content-Type: text/plain", "Gpuwatch-Skew: 312"))


async def starting(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"no sample yet\n", "503 Service Unavailable", "Content-Type: text/plain"))


async def too_many(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"too many\n", "429 Too Many Requests", "Retry-After: 100"))


async def no_frame(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b'{"gpus": [], "hostname": "old"}\n', "200 OK", "Content-Type: application/json"))


async def html(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"<html>404</html>", "404 Not Found", "Content-Type: text/html"))


async def slams(node: FakeNode, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections until the test opens a server on it (with SO_REUSEADDR, as all servers here), and that nobody else gets."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def authorization(raw: bytes) -> str:
    """The Authorization header of a request."""
    lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return next(line.partition(": ")[2] for line in lines if line.lower().startswith("authorization: "))


class FakeNode:
    """One server; ``behaviour`` may be changed while it runs."""

    def __init__(self, behaviour: Behaviour = good, gpus: int = 1) -> None:
        self.behaviour = behaviour
        self.requests: List[Dict[str, Any]] = []
        self.raw: List[bytes] = []
        """Every byte that came, a request each."""
        self.connections = 0
        self.gpus = gpus
        self.port = 0
        self._server: Any = None

    def frame(self, body: bytes) -> bytes:
        """A fresh sample, taken now."""
        asked = json.loads(body)
        gpus = [busy(0), *(gpu(i) for i in range(1, self.gpus))]
        return frame(snapshot(time.time(), *gpus, interval_seconds=0.2), asked.get("flat", ""))

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.raw.append(head + body)
                self.requests.append(json.loads(body))
                await self.behaviour(self, body, writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class Street:
    """Runs fake nodes in one thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._nodes: List[FakeNode] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def node(self, behaviour: Behaviour = good, gpus: int = 1, port: int = 0) -> FakeNode:
        made = FakeNode(behaviour, gpus)
        self.call(made.open(port))
        self._nodes.append(made)
        return made

    def close(self) -> None:
        self.call(self._shut())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)
        self.loop.close()

    async def _shut(self) -> None:
        for node in self._nodes:
            await node.shut()
        await asyncio.sleep(0.02)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
