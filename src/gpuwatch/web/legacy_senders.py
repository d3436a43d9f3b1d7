"""What seed 004's senders call: register, update, its notification. HTTP 200 with the verdict in ``status_code``, as they expect.

Without ``[hub.compat] vesta_token`` these addresses are answered like ones that are not there: then senders drop their readings and go on.
"""

from __future__ import annotations

import logging
from typing import Callable

import bottle

from gpuwatch.model.errors import GpuwatchError, WireError
from gpuwatch.serve.wsgi import IS_HEAD
from gpuwatch.web.app import NotFound
from gpuwatch.web.context import Context
from gpuwatch.web.replies import Body, Reply
from gpuwatch.wire.legacy import seed004_sender

log = logging.getLogger(__name__)
ONLY_GET = Reply(Body(b"", "text/plain; charset=utf-8"), 405, {"Allow": "GET"})
"""To HEAD where GET changes something."""


def register(ctx: Context) -> Reply:
    """A host's id and name. The token is looked at first."""

    def answer() -> Reply:
        if is_head():
            return ONLY_GET
        name = ctx.params.values.get("host_name")
        if not name:
            return _reply(b"<title>500</title>The address has no host_name=.", 500)
        return _reply(seed004_sender.registered(*ctx.hub.vesta.register(name, client(), ctx.now)))

    return _allowed(ctx, answer)


def update(ctx: Context) -> Reply:
    """A host's readings; the token is looked at before the id."""

    def answer() -> Reply:
        known = ctx.hub.vesta.update(ctx.path["id"], body(), client(), ctx.now)
        return _reply(seed004_sender.stored() if known else seed004_sender.unknown_host())

    return _allowed(ctx, answer, has_id=ctx.hub.vesta.knows(ctx.path["id"]))


def notification(ctx: Context) -> Reply:
    """Its Slack message: this hub has no Slack bot, and says so as it does without one."""

    def answer() -> Reply:
        if not seed004_sender.is_notification(body()):
            return _reply(seed004_sender.invalid_notification())
        return _reply(b"<title>500</title>Slack is not set: this hub sends no messages for others.", 500)

    return _allowed(ctx, answer)


def websocket(ctx: Context) -> Reply:
    """Its page's live feed, which is a WebSocket there."""
    text = f"There is no WebSocket here. The same by asking again: {ctx.base_path}/states/ (its JSON), or {ctx.base_path}/live?since=VERSION (what changed).\n"
    return Reply(Body(text.encode(), "text/plain; charset=utf-8"), 405, {"Allow": ""})


def _allowed(ctx: Context, answer: Callable[[], Reply], has_id: bool = False) -> Reply:
    """``has_id``: it tells a host's id, which nobody guesses: its readings are taken while others of its address guess tokens."""
    vesta = ctx.hub.vesta
    if not vesta.is_on:
        raise NotFound(f"There is no page {ctx.url[:100]}.", "The cluster is at /.")
    right = vesta.allows(ctx.params.values.get("token", ""))
    if not (has_id and right) and not ctx.hub.guesses.token(right, client()):
        return _reply(seed004_sender.forbidden())
    try:
        return answer()
    except WireError as error:
        return _reply(seed004_sender.refused(error.message, 400))
    except GpuwatchError as error:
        log.warning("%s: %s", ctx.url, error)
        return _reply(seed004_sender.refused("not now", 503))


def body() -> bytes:
    """Of the request; the server has refused larger ones than it takes."""
    data: bytes = bottle.request.body.read()
    return data


def is_head() -> bool:
    """Somebody looks, and wants nothing done."""
    return bool(bottle.request.environ.get(IS_HEAD))


def client() -> str:
    """The address that asks."""
    return str(bottle.request.environ.get("REMOTE_ADDR") or "")


def _reply(data: bytes, status: int = 200) -> Reply:
    return Reply(Body(data, seed004_sender.CONTENT_TYPE), status, {"Cache-Control": "no-store"})
