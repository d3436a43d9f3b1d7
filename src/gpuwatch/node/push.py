"""Pushes what the node samples to a hub: one request a sample over one connection, more at once after an outage. Never reads the driver, never waits for it.

What the hub has not said to be stored stays in the spool. ``after`` in each push is what the hub had last; where it has less, it says so, and we go back.
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from gpuwatch import __version__
from gpuwatch.config.checks import is_loopback
from gpuwatch.loops import Repeats
from gpuwatch.model.errors import WireError
from gpuwatch.node import identity
from gpuwatch.node.newest import Answer, Newest, Trouble
from gpuwatch.node.spool import Lost, Spool, Waiting
from gpuwatch.wire.changes import told_since
from gpuwatch.wire.frame import loads
from gpuwatch.wire.http import Response
from gpuwatch.wire.kept import KeptConnection
from gpuwatch.wire.push import CONTENT_TYPE, ENROLL_PATH, HOP, PUSH_PATH, UNKNOWN_KEY, Push, Record, Reply, decode_reply, encode_push
from gpuwatch.wire.signing import Signer

log = logging.getLogger(__name__)
DEADLINE_SECONDS = 20.0
LONGEST_WAIT_SECONDS = 15.0
"""Between two tries while the hub is away: so it is back on the page soon after it is back."""
PLAIN_FAILURES = 2
"""So many tries at the usual pace; then the waits double."""
MOST_RECORDS = 64
MOST_BYTES = 128 * 1024
PACK_FROM_BYTES = 4096
REQUESTS_A_BEAT = 8
"""Of one beat: then others of this process get their turn."""
REFUSALS = 3
"""A record that the hub refuses so often in a row is given up."""
LOST_TOLD_SECONDS = 3600.0


class Pusher:
    """``run_once`` is called by one Loop, woken by each sample. ``sampled`` is called by whoever samples."""

    def __init__(
        self, connection: KeptConnection, newest: Newest, spool: Spool, *, name: str, code: Callable[[], str], folder: Optional[Path], interval_seconds: float
    ) -> None:
        """``code``: the one-time code, asked when there is no key yet, empty for none; ``folder``: where the key is kept."""
        self._connection = connection
        self._newest = newest
        self._spool = spool
        self._name, self._code, self._folder = name, code, folder
        self._interval_seconds = interval_seconds
        known = identity.load(folder)
        self._signer: Optional[Signer] = known.signer if known is not None else None
        self._random = random.Random()
        self._repeats = Repeats("push")
        self._failures = 0
        self._resume_at = self._hold_until = self._pushed_at = 0.0
        self._have: Optional[int] = None
        self._known_shape = ""
        self._base: Optional[Waiting] = None
        """The record whose values the hub has at hand."""
        self._refused: Tuple[int, int] = (0, 0)
        self._batch = MOST_RECORDS
        self._lost_told_at = 0.0
        self._warned = self._ended = False
        self._tried_code = ""
        """The code that the hub refused: it is not tried again beside a key that is not known."""
        self.wake: Callable[[], None] = lambda: None
        """Called after each sample."""
        self.away = threading.Event()
        """The hub takes nothing at the moment."""

    def sampled(self, answer: Answer) -> None:
        """A new sample: it waits in the spool from now on."""
        sample = answer.sample
        self._spool.add(time.time(), sample.shape, _status(answer), sample.encoded)
        self.wake()

    def run_once(self, now: float) -> None:
        """Send what waits, if it is time. Never raises WireError: what is wrong is logged once, and told in the node's status."""
        if self._ended or time.monotonic() < self._resume_at:
            return
        try:
            if self._signer is None:
                self._enrol()
            for _ in range(REQUESTS_A_BEAT):
                if self._signer is None or not self._beat(self._signer):
                    break
        except WireError as error:
            if self._ended:  # it was under way when the node ended
                return
            self._failed(error if isinstance(error, _Answered) else _of_settings(error), 0.0)
        self._tell()

    def close(self) -> None:
        """For good: what is under way fails, and is not told as trouble."""
        self._ended = True
        self._connection.close()

    def _beat(self, signer: Signer) -> bool:
        """One push; True if there is more to send at once."""
        push, sent = self._next()
        if push is None:
            return False
        body, headers = encode_push(push), {"Content-Type": CONTENT_TYPE, "Connection": HOP}
        if len(body) > PACK_FROM_BYTES:
            body, headers["Content-Encoding"] = zlib.compress(body, 1), "deflate"
        response = self._connection.post(
            PUSH_PATH, body, lambda: {**headers, "Authorization": signer.header("POST", PUSH_PATH, body, time.time())}, DEADLINE_SECONDS
        )
        if response.status != 200:
            return self._refusal(response, sent)
        self._worked()
        self._pushed_at = time.monotonic()
        return self._heard(decode_reply(response.body), push, sent)

    def _next(self) -> Tuple[Optional[Push], List[Waiting]]:
        """What to send now; None = nothing."""
        now = time.monotonic()
        waiting = [] if now < self._hold_until else self._spool.after(self._have or 0, self._batch, MOST_BYTES)
        answer = self._newest.answer()
        live = answer is not None and (not waiting or waiting[-1].record.sequence < self._spool.newest)
        if not waiting and (not live or now - self._pushed_at < self._interval_seconds * 0.9):
            return None, []
        shapes: Dict[str, Any] = {}
        records = self._records(waiting, shapes)
        last = None
        if live and answer is not None:
            shape = answer.sample.shape
            last = Record(0, shape.id, _status(answer), answer.sample.encoded)
            if shape.id != self._known_shape:
                shapes[shape.id] = shape.doc
        return Push(__version__, time.time(), self._have, records, last, shapes, self._spool.lost), waiting

    def _records(self, waiting: List[Waiting], shapes: Dict[str, Any]) -> List[Record]:
        """The records, each told by what changed since the one before; ``shapes`` gets what the hub does not have."""
        records = []
        before, known = self._base, self._known_shape
        for one in waiting:
            record = one.record
            told = None
            if before is not None and before.record.shape_id == record.shape_id:
                told = told_since(before.record.line, record.line)
            if record.shape_id != known:
                shapes[record.shape_id] = one.shape.doc
            base = before.record.sequence if told is not None and before is not None else 0
            records.append(Record(record.sequence, record.shape_id, record.status, record.line if told is None else told, base))
            before = one
        return records

    def _heard(self, reply: Reply, push: Push, sent: List[Waiting]) -> bool:
        """What the hub has; True if more can be sent at once."""
        if push.lost is not None and reply.have is not None:
            self._spool.told(Lost(*push.lost))
        went_on = bool(sent) and reply.have is not None and reply.have >= sent[0].record.sequence
        self._have, self._known_shape = reply.have, reply.shape
        self._base = next((one for one in (*sent[::-1], self._base) if one is not None and one.record.sequence == reply.sample), None)
        hold_seconds = reply.hold_seconds or (self._interval_seconds if reply.have is None else 0.0)
        self._hold_until = time.monotonic() + hold_seconds if hold_seconds else 0.0
        self._spool.stored(reply.stored)
        if went_on:
            self._refused, self._batch = (0, 0), MOST_RECORDS
        elif sent and not hold_seconds and not self._counts(sent[0].record.sequence):
            return True  # it went back, or lacked a shape: once more, with all that it needs
        return went_on and not hold_seconds and (reply.have or 0) < self._spool.newest

    def _counts(self, sequence: int) -> bool:
        """A record that was not taken; True when it was so often in a row that it is given up."""
        self._base, self._known_shape = None, ""
        self._refused = (sequence, self._refused[1] + 1 if self._refused[0] == sequence else 1)
        if self._refused[1] < REFUSALS:
            return False
        log.error("the hub does not take the snapshot %d; it is left out", sequence)
        self._spool.skip(sequence)
        self._refused = (0, 0)
        return True

    def _refusal(self, response: Response, sent: List[Waiting]) -> bool:
        """An answer that is not 200; True to try again at once. Raises WireError in words."""
        told, wait = _said(response), _retry_after(response)
        if response.status == 413 and self._batch > 1:
            self._batch = max(1, self._batch // 4)
            return True
        if response.status in (400, 413) and sent:
            self._counts(sent[0].record.sequence)
        if response.headers.get("www-authenticate") == UNKNOWN_KEY and self._code() not in ("", self._tried_code):
            self._enrol()  # perhaps the code was given because the key is not known any more
            return True
        raise _Answered(f"the hub at {self._connection.address} answered {response.status}: {told}", wait)

    def _enrol(self) -> None:
        """Get a key. Raises WireError in words."""
        if not self._connection.is_secure and not self._warned and not is_loopback(self._connection.address.rpartition(":")[0].strip("[]")):
            log.warning("the key for pushing crosses the network in the clear: use an https:// address")
            self._warned = True
        code = self._code()
        body = json.dumps({"code": code, "name": self._name, "version": __version__}).encode()
        self._connection.close()  # one that has pushed takes nothing else
        response = self._connection.post(ENROLL_PATH, body, lambda: {"Content-Type": "application/json"}, DEADLINE_SECONDS)
        if response.status in (400, 403):
            self._tried_code = code
        if response.status != 200:
            raise _Answered(f"this node is not enrolled: the hub at {self._connection.address} answered {response.status}: {_said(response)}", _retry_after(response))
        made = identity.parsed(loads(response.body))
        if made is None:
            raise WireError(f"{self._connection.address} gave no key.", "Next: is it a gpuwatch hub?")
        identity.save(self._folder, made)
        self._signer = made.signer
        log.info("the hub at %s knows this node as %s", self._connection.address, made.name)
        self._worked()

    def _worked(self) -> None:
        self._failures, self._resume_at = 0, 0.0
        self.away.clear()
        self._repeats.worked()

    def _failed(self, error: WireError, least_seconds: float) -> None:
        """Wait before the next try: twice as long each time, and not all nodes at once."""
        self._failures += 1
        doubled = self._interval_seconds * 2.0 ** min(max(0, self._failures - PLAIN_FAILURES), 10)
        least_seconds = max(least_seconds, error.wait_seconds if isinstance(error, _Answered) else 0.0)
        wait = max(min(doubled, LONGEST_WAIT_SECONDS), min(least_seconds, 120.0))
        self._resume_at = time.monotonic() + wait * self._random.uniform(0.6, 1.0)
        self._base = None
        self.away.set()
        self._repeats.failed(error)

    def _tell(self) -> None:
        """What is wrong here, in the node's status."""
        lost = self._spool.lost
        if lost is not None:
            self._lost_told_at = time.monotonic()
            text = f"{lost.snapshots} snapshots from {_clock(lost.start_at)} to {_clock(lost.end_at)} were dropped: the spool is full while the hub is away"
            self._newest.note(Trouble(text, lost.start_at, False))
        elif not self._lost_told_at or time.monotonic() - self._lost_told_at > LOST_TOLD_SECONDS:
            self._newest.note(None if self._spool.trouble is None else Trouble(self._spool.trouble, self._spool.trouble_since_at, False))


class _Answered(WireError):
    """The hub answered, and not what we wanted."""

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def _of_settings(error: WireError) -> WireError:
    """What is said of a certificate names keys of the hub's hosts file; here they are settings."""
    step = re.sub(r"\b(pin|ca)=", r"push_\1=", error.next_step)
    return WireError(error.message, step.replace(" on this line of the hosts file", ""))


def _status(answer: Answer) -> Optional[Dict[str, Any]]:
    status = answer.status
    return status if status["stale"] or status["message"] else None


def _said(response: Response) -> str:
    """What an answer says, on one line of printable characters."""
    if response.headers.get("content-type", "").startswith("text/html"):
        return "a web page; a proxy's, or another program's"
    try:
        doc = loads(response.body[:4000])
        text = f"{doc.get('error') or ''} {doc.get('next_step') or ''}" if isinstance(doc, dict) else ""
    except WireError:
        text = response.body[:200].decode("utf-8", "replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:300] or "nothing"


def _retry_after(response: Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0.0


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
