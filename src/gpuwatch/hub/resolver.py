"""Names to addresses for the poller, off its event loop, with a cache: a resolver that hangs delays nobody whose address is known.

Each look-up has a daemon thread of its own, for the system's resolver knows no deadline and a thread that hangs must not keep the hub
from ending. At most ``MOST_AT_ONCE`` run.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Callable, Dict, List, Tuple

Address = Tuple[int, Any]
"""(address family, socket address)."""

KEEP_SECONDS = 60.0
KEEP_FAILURE_SECONDS = 15.0
MOST_AT_ONCE = 16
MOST_ADDRESSES = 4


def numeric(host: str, port: int) -> List[Address]:
    """The address of ``host`` if it is one already; never asks anybody."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in infos]


class Resolver:
    """Cached look-ups for one event loop."""

    def __init__(self, look_up: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._look_up = look_up
        self._known: Dict[Tuple[str, int], Tuple[float, List[Address]]] = {}
        self._failed: Dict[Tuple[str, int], Tuple[float, OSError]] = {}
        self._running: Dict[Tuple[str, int], asyncio.Future[List[Address]]] = {}
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def addresses(self, host: str, port: int) -> List[Address]:
        """Addresses of a name, at once where they are known; raises OSError (socket.gaierror) where there are none."""
        found = numeric(host, port)
        if found:
            return found
        key, now = (host, port), asyncio.get_running_loop().time()
        expires_at, known = self._known.get(key, (0.0, []))
        if known and now < expires_at:
            return known
        failed_until, error = self._failed.get(key, (0.0, OSError()))
        if now < failed_until and not known:
            raise error
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(self._refresh(key))
            running.add_done_callback(_look_at)
        return known or await asyncio.shield(running)

    async def _refresh(self, key: Tuple[str, int]) -> List[Address]:
        loop = asyncio.get_running_loop()
        try:
            async with self._slots:
                found = await self._in_thread(loop, key)
            self._known[key] = (loop.time() + KEEP_SECONDS, found)
            return found
        except OSError as error:
            self._failed[key] = (loop.time() + KEEP_FAILURE_SECONDS, error)
            if key in self._known:  # an address that worked is better than none
                self._known[key] = (loop.time() + KEEP_FAILURE_SECONDS, self._known[key][1])
            raise
        finally:
            self._running.pop(key, None)

    def _in_thread(self, loop: asyncio.AbstractEventLoop, key: Tuple[str, int]) -> asyncio.Future[List[Address]]:
        future: asyncio.Future[List[Address]] = loop.create_future()

        def work() -> None:
            try:
                infos = self._look_up(key[0], key[1], type=socket.SOCK_STREAM)
                result: Any = [(info[0], info[4]) for info in infos[:MOST_ADDRESSES]] or OSError("the name has no address")
            except OSError as error:
                result = error
            except UnicodeError:
                result = socket.gaierror(socket.EAI_NONAME, "not a host name")
            try:
                loop.call_soon_threadsafe(_settle, future, result)
            except RuntimeError:  # the loop was closed meanwhile
                pass

        threading.Thread(target=work, name=f"resolve {key[0]}", daemon=True).start()
        return future


def _settle(future: asyncio.Future[List[Address]], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, OSError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _look_at(future: asyncio.Future[List[Address]]) -> None:
    """Whoever waits sees the error; nobody waiting must not become a warning."""
    if not future.cancelled():
        future.exception()
