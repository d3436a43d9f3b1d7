"""Sends the nodes' newest numbers to a VictoriaMetrics or InfluxDB (``line_url``), in a thread of its own.

What cannot be sent waits in a bounded queue, and the oldest goes when it is full; both are said on every page. Never holds up polling, never
shows more of the address than host and port, never puts the token anywhere but into its header.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional
from urllib.parse import urlsplit

from gpuwatch.config.load import read_secret
from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.render.as_lines import node_lines
from gpuwatch.render.fragments import Fragments
from gpuwatch.wire.http import fetch

log = logging.getLogger(__name__)
NOTICE = "lines"
BATCH_BYTES = 1024**2
"""Of text; a batch is packed."""
QUEUE_BYTES = 64 * 1024**2
"""Packed: of 1,000 hosts half an hour."""
DEADLINE_SECONDS = 8.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 120.0
BREATH_SECONDS = 0.001
"""After each node the other threads come first: what is made here is in no hurry."""
KEPT_BYTES = 32 * 1024**2
"""Of labels, which are made once as long as no fact of a node changes."""
WORTH_RETRYING = (401, 403, 404, 408, 429)
"""Refusals that a person or time mends; another 4xx will be the same the next time, so its batch is given up."""


class Batch(NamedTuple):
    """Lines, packed."""

    packed: bytes
    lines: int


class LineSender:
    """``run_once`` is the beat of a Loop."""

    def __init__(
        self, url: str, token_file: str, cluster: Callable[[], ClusterNow], owns: Callable[[str], bool],
        notice: Callable[[str, Optional[str]], None], stop: threading.Event,
    ) -> None:  # fmt: skip
        """``owns``: whether this hub sends the machine's numbers, and not another one. Raises UsageError for an address that is none."""
        self.where = checked_url(url)
        self._url, self._token_file = url, token_file
        self._cluster, self._owns, self._notice, self._stop = cluster, owns, notice, stop
        self._sent_at: Dict[str, float] = {}
        """By machine: when the reading came whose numbers were last taken."""
        self._queue: Deque[Batch] = deque()
        self._cache = Fragments(most_bytes=KEPT_BYTES)
        self._failures = 0
        self._next_at = 0.0
        self.sent = 0
        """Lines that were taken."""
        self.dropped = 0
        """Lines that found no room, or were refused."""

    def run_once(self, now: float) -> None:
        """Take what is new, then send what waits. Trouble with the other side becomes a notice."""
        self._take(now)
        if time.monotonic() < self._next_at:
            return
        try:
            self._send_all()
        except GpuwatchError as error:
            self._failures += 1
            wait = min(FIRST_WAIT_SECONDS * 2 ** (self._failures - 1), LONGEST_WAIT_SECONDS)
            self._next_at = time.monotonic() + wait
            self._say(f"Numbers are not sent to the database of line_url: {error} They wait meanwhile.")

    @property
    def waiting_bytes(self) -> int:
        """Packed bytes in the queue."""
        return sum(len(batch.packed) for batch in self._queue)

    def _take(self, now: float) -> None:
        parts: List[str] = []
        size = 0
        nodes = [node for node in self._cluster().nodes if self._owns(node.machine_id)]
        for node in nodes:
            if self._stop.is_set():
                return
            if self._is_new(node):
                parts.append(node_lines(node, now, self._cache))
                size += len(parts[-1])
                time.sleep(BREATH_SECONDS)
            if size >= BATCH_BYTES:
                self._put(parts)
                parts, size = [], 0
        if parts:
            self._put(parts)
        if len(self._sent_at) > len(nodes):
            known = {node.machine_id for node in nodes}
            self._sent_at = {machine_id: at for machine_id, at in self._sent_at.items() if machine_id in known}

    def _is_new(self, node: NodeState) -> bool:
        """Of a node that is up each reading once; of one that is not, at each beat that it is not."""
        if node.status != "up" or node.received_at is None:
            return True
        known, self._sent_at[node.machine_id] = self._sent_at.get(node.machine_id), node.received_at
        return known != node.received_at

    def _put(self, parts: List[str]) -> None:
        text = "".join(parts)
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._queue.append(Batch(packer.compress(text.encode("utf-8", "replace")) + packer.flush(), text.count("\n")))
        while self.waiting_bytes > QUEUE_BYTES and len(self._queue) > 1:
            self._drop(self._queue.popleft(), "The database of line_url was away for too long")

    def _drop(self, batch: Batch, why: str) -> None:
        self.dropped += batch.lines
        log.error("%s: %d numbers' lines are lost, %d in all", why, batch.lines, self.dropped)

    def _send_all(self) -> None:
        """Raises GpuwatchError when the other side does not take them."""
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip", **self._authorization()}
        lost = ""
        while self._queue and not self._stop.is_set():
            batch = self._queue[0]
            reply = fetch(
                self._url, method="POST", body=batch.packed, headers=headers, deadline_seconds=DEADLINE_SECONDS, max_bytes=65536, program="the database"
            )
            if reply.status in WORTH_RETRYING or not 200 <= reply.status < 500:
                raise UsageError(f"{self.where} answered {reply.status}.", "Next: check line_url and line_token_file, and the database's log.")
            self._queue.popleft()
            if reply.status < 300:
                self.sent += batch.lines
            else:
                lost = f"{self.where} refused {batch.lines} lines ({reply.status}). Next: look into the database's log."
                self._drop(batch, lost)
        self._failures, self._next_at = 0, 0.0
        self._say(f"Numbers for the database of line_url are lost: {lost}" if lost else None)

    def _authorization(self) -> Dict[str, str]:
        """Read at each beat: a new token counts at once."""
        if not self._token_file:
            return {}
        try:
            token = read_secret(self._token_file)
        except UsageError as error:
            if not self._failures:
                log.error("%s", error)
            raise UsageError("the file of line_token_file cannot be used.", "Next: the hub's log says why; mend the file.") from None
        return {"Authorization": token if " " in token else f"Bearer {token}"}

    def _say(self, text: Optional[str]) -> None:
        self._notice(NOTICE, text)


def checked_url(url: str) -> str:
    """``host:port`` of a line_url, all that is ever shown of it. Raises UsageError for an address that is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UsageError("line_url is not an address such as http://127.0.0.1:8428/write, without a name or password. A token belongs into line_token_file.")
    return parts.netloc
