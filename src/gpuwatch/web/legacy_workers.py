"""What seed 001's workers call, and its master's readers: statuses and bodies as there. Orders are only handed out here, never taken.

Without ``[hub.compat] workers`` the workers' addresses are answered like ones that are not there.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import bottle

from gpuwatch.model.cluster import NodeState
from gpuwatch.model.errors import GpuwatchError, UsageError, WireError
from gpuwatch.query import series
from gpuwatch.query.tail import Tails
from gpuwatch.web.app import NotFound
from gpuwatch.web.context import Context
from gpuwatch.web.legacy_senders import ONLY_GET, body, client, is_head
from gpuwatch.web.moved import found_at
from gpuwatch.web.replies import JSON, Body, Reply
from gpuwatch.wire.legacy import seed001

POINTS = 1500
_HTML = "text/html; charset=utf-8"


def register(ctx: Context) -> Reply:
    """A worker's token."""

    def answer() -> Reply:
        wrong = _not_json()
        if wrong is not None:
            return wrong
        name = seed001.worker_id(body())
        if not name:
            return _reply(seed001.error("Worker ID missing"), 400)
        return _reply(seed001.token(ctx.hub.workers.register(name, client(), ctx.now)))

    return _answered(ctx, answer)


def metrics(ctx: Context) -> Reply:
    """A worker's readings. A token of which nothing is kept is answered as if they were taken."""

    def answer(row: Any) -> Reply:
        wrong = _not_json()
        if wrong is not None:
            return wrong
        ctx.hub.workers.accept(row, body(), client(), ctx.now)
        return _reply(seed001.success())

    return _known(ctx, answer, seed001.success())


def commands(ctx: Context) -> Reply:
    """The next order for a worker, at most once."""

    def answer(row: Any) -> Reply:
        if is_head():
            return ONLY_GET
        found = ctx.hub.workers.take_command(row, ctx.now)
        return _reply(seed001.command(found.id, found.command) if found is not None else seed001.command(None, None))

    return _known(ctx, answer, seed001.command(None, None))


def report(ctx: Context) -> Reply:
    """What a worker says of an order."""

    def answer(row: Any) -> Reply:
        wrong = _not_json()
        if wrong is not None:
            return wrong
        if not ctx.hub.workers.report(row, seed001.command_report(body()), ctx.now):
            return _reply(seed001.error("Invalid command"), 400)
        return _reply(seed001.success())

    return _known(ctx, answer, seed001.success())


def command_output(ctx: Context) -> Reply:
    """The state of one of the worker's own orders: ``stopping`` tells it to end the command. Its pages asked without a token; here they may not."""
    id = ctx.path["id"]

    def answer(row: Any) -> Reply:
        found = ctx.hub.workers.command(row, int(id)) if id.isascii() and id.isdigit() and len(id) < 20 else None
        if found is None:
            return _reply(seed001.no_command(id, ctx.now), 500)
        return _reply(seed001.command_state(found.status, found.output, found.updated_at))

    return _known(ctx, answer, seed001.no_command(id, ctx.now), 500)


def history(ctx: Context) -> Reply:
    """The last ``hours`` of a GPU of a worker, or of any other host of that name."""
    node, number = _node(ctx, ctx.path["worker"]), ctx.path["gpu"]
    if node is None:
        return _reply(seed001.no_history(ctx.path["worker"]), 404)
    name, gpus = node.name, node.snapshot.gpus if node.snapshot is not None else ()
    gpu = next((gpu for gpu in gpus if str(gpu.index) == number), None)
    if ctx.hub.store is None:
        raise GpuwatchError("The database is not open, so there is no history.", "The page of now says why.")
    if gpu is None:
        return _reply(seed001.no_history(None))
    tails: Tails = ctx.fragments.get("tails", 0, Tails)
    found = series.many(
        ctx.hub.store, ctx.hub.latest, seed001.METRICS, host=name, gpu=gpu.uuid, start_at=ctx.now - 3600.0 * seed001.hours(ctx.params.text("hours")),
        end_at=ctx.now, points=POINTS, now=ctx.now, tails=tails,
    )  # fmt: skip
    return _reply(seed001.history(found, gpu.memory_total_bytes))


def worker_page(ctx: Context) -> Reply:
    """Its page of a worker: the host's page."""
    node = _node(ctx, ctx.path["worker"])
    if node is None:
        raise NotFound(f"There is no worker {ctx.path['worker'][:100]!r}.", "The hosts are listed at /.")
    return found_at("/hosts/" + node.name, quoted=False)


def power_limits(ctx: Context) -> Reply:
    """Power limits of a worker's GPUs as last read."""
    wanted = ctx.params.text("worker_id")
    if not wanted:
        return _reply(seed001.error("Missing worker_id parameter"), 400)
    node = _node(ctx, wanted)
    if node is None:
        return _reply(seed001.error("Worker not found"), 404)
    return _reply(seed001.power_limits(node.snapshot.gpus if node.snapshot is not None else ()))


def _node(ctx: Context, worker: str) -> Optional[NodeState]:
    """The host that a worker id stands for, looked up once: it may be gone a moment later. None = there is none."""
    return next(iter(ctx.cluster(host=ctx.hub.workers.host_of(worker[: seed001.MOST_ID])).nodes), None)


def _known(ctx: Context, answer: Callable[[Any], Reply], inert: bytes, inert_status: int = 200) -> Reply:
    """``answer`` for the worker of the request's token; ``inert`` for one of which nothing is kept."""

    def checked() -> Reply:
        token = seed001.bearer(bottle.request.get_header("Authorization") or "")
        row = ctx.hub.workers.of_token(token)
        if row is not None:
            return answer(row)
        if ctx.hub.workers.is_inert(token, client()):
            return _reply(inert, inert_status)
        return _reply(seed001.error("Invalid token"), 401)

    return _answered(ctx, checked)


def _answered(ctx: Context, answer: Callable[[], Reply]) -> Reply:
    if not ctx.hub.workers.is_on:
        raise NotFound(f"There is no page {ctx.url[:100]}.", "The cluster is at /.")
    try:
        return answer()
    except WireError as error:  # its own server breaks on such a body
        return Reply(Body(f"<title>500</title>{error.message}".encode("ascii", "xmlcharrefreplace"), _HTML), 500)
    except UsageError as error:
        return _reply(seed001.error(error.message), 400)
    except GpuwatchError:
        return _reply(seed001.error("Not now: the database is not open."), 503)


def _not_json() -> Optional[Reply]:
    kind = (bottle.request.get_header("Content-Type") or "").partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return None
    return Reply(Body(b"<title>415</title>The body is to be JSON, and its Content-Type application/json.", _HTML), 415)


def _reply(data: bytes, status: int = 200) -> Reply:
    return Reply(Body(data, JSON), status, {"Cache-Control": "no-store"})
