"""What a machine sends to the hub: pushes, and the request for a key. The same answers for the routes and for connections that stay (``push_lines``)."""

from __future__ import annotations

import logging
import time
import zlib
from typing import Any, Mapping, NamedTuple

import bottle

from gpuwatch.hub.enrolment import Asked
from gpuwatch.hub.pushes import NotYet
from gpuwatch.model.errors import GpuwatchError, UsageError, WireError
from gpuwatch.render.as_json import dump, error_json
from gpuwatch.web.context import Context
from gpuwatch.web.replies import JSON, Body, Reply
from gpuwatch.wire.frame import loads
from gpuwatch.wire.push import PUSH_PATH, UNKNOWN_KEY
from gpuwatch.wire.signing import Refused

log = logging.getLogger(__name__)
MOST_BYTES = 4 * 1024**2
"""Of a push, unpacked."""
LONGEST_CODE = 200


class Answer(NamedTuple):
    """Status, JSON, and headers beyond the usual ones."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


def answer(hub: Any, authorization: str, encoding: str, body: bytes, address: str, now: float) -> Answer:
    """What a push is answered; never raises. ``encoding``: of the header Content-Encoding."""
    try:
        id = hub.pushes.verifier.check(authorization, "POST", PUSH_PATH, body, now)
        return Answer(200, hub.pushes.take(id, unpacked(body, encoding), address, now))
    except Refused as refusal:
        wait_seconds = hub.guesses.refused(refusal, address)
        if wait_seconds:
            # a node that has a new code need not wait: codes are counted apart
            return _error(429, "Too many wrong keys from your address.", "Wait a minute.", {"Retry-After": str(wait_seconds), "WWW-Authenticate": UNKNOWN_KEY})
        if refusal.has_key:
            return _error(401, str(refusal), "", {"WWW-Authenticate": "Gpuwatch"})
        return _error(401, str(refusal), "A node that this hub does not know (any more) needs a code: gpuwatch enroll create", {"WWW-Authenticate": UNKNOWN_KEY})
    except NotYet as error:
        return _error(503, error.message, error.next_step, {"Retry-After": "1"})
    except WireError as error:
        return _error(400, error.message, error.next_step)
    except GpuwatchError as error:
        return _error(503, error.message, error.next_step, {"Retry-After": "5"})
    except Exception:  # a bug costs this push, and is told to the log alone
        log.exception("push from %s", address)
        return _error(500, "Something went wrong inside the hub.", "The hub's log tells more.")


def unpacked(body: bytes, encoding: str) -> bytes:
    """The body without its Content-Encoding. Raises WireError."""
    if not encoding or encoding == "identity":
        return body
    if encoding != "deflate":
        raise WireError(f"The content encoding {encoding[:20]!r} is not taken; deflate is.")
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(body, MOST_BYTES)
    except zlib.error:
        raise WireError("The body is not deflated as its header says.") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise WireError(f"The body is longer than {MOST_BYTES} bytes, or not whole.")
    return data


def push(ctx: Context) -> Reply:
    """``POST /api/v1/push`` by way of a proxy, or of a client that opens a connection each time."""
    request = bottle.request
    made = answer(ctx.hub, request.get_header("Authorization") or "", request.get_header("Content-Encoding") or "", request.body.read(), _address(), time.time())
    return Reply(Body(made.body, JSON), made.status, made.headers)


def enroll(ctx: Context) -> Reply:
    """``POST /api/v1/enroll``: a code (or, with ``auto_enroll``, none) for a key of one's own."""
    try:
        doc = loads(bottle.request.body.read(65536))
    except WireError:
        doc = None
    code, name = (doc.get("code") or "", doc.get("name") or "") if isinstance(doc, dict) else (None, None)
    if not isinstance(code, str) or not isinstance(name, str) or len(code) > LONGEST_CODE:
        raise UsageError("A JSON object with the texts code and name is wanted.")
    made = ctx.hub.enrolment.enrol(Asked(code, name, _address()), ctx.now, time.monotonic())
    if made.wait_seconds:
        return Reply(Body(error_json("Too many wrong codes from your address.", "Wait a minute."), JSON), 429, {"Retry-After": str(made.wait_seconds)})
    if made.row is None:
        return Reply(Body(error_json(*made.refusal), JSON), 403)
    return Reply(Body(dump({"id": made.row.id, "key": made.row.secret, "name": made.row.name}) + b"\n", JSON), headers={"Cache-Control": "no-store"})


def _address() -> str:
    return str(bottle.request.environ.get("REMOTE_ADDR", ""))


def _error(status: int, message: str, next_step: str, headers: Mapping[str, str] = {}) -> Answer:
    return Answer(status, error_json(message, next_step), headers)
