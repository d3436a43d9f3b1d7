"""The hub's WSGI app: routes of the table on bottle, one context a request, one way out for answers and errors.

No traceback and no HTML of bottle's reaches a client: errors are a page, text or JSON, as the client asked.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from http import HTTPStatus
from importlib import import_module
from typing import Any, Callable, Iterable, NamedTuple, Optional

import bottle

from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.query.past import Pasts
from gpuwatch.render.as_json import error_json
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.html_frame import message_page
from gpuwatch.render.words import clean
from gpuwatch.serve.wsgi import App as WsgiApp
from gpuwatch.serve.wsgi import accepts_gzip
from gpuwatch.web.ahead import Ahead
from gpuwatch.web.base import Base, checked, mounted
from gpuwatch.web.context import Context, Readings
from gpuwatch.web.guard import HEADERS, audience, check_routes
from gpuwatch.web.params import Params
from gpuwatch.web.replies import HTML, JSON, LEAST_GZIP_BYTES, TEXT, Body, Pages, Reply, Streams, past_pages
from gpuwatch.web.routes import ROUTES, Route
from gpuwatch.web.uploads import Rate, TooMany

log = logging.getLogger(__name__)

LIVE = "/live"
"""What holds parts of a page in JSON."""
ALWAYS = {**HEADERS, "Cache-Control": "no-cache"}
"""Headers of each answer."""
ANSWER = "gpuwatch.answer"
"""In the environ: status and headers of the answer."""
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
View = Callable[[Context], Reply]
TITLES = {400: "The address is not understood", 404: "Not found", 405: "Not possible", 429: "Too much at once", 503: "Not now"}


class NotFound(GpuwatchError):
    """There is no such page, host or GPU."""


def make_app(hub: Readings, fragments: Optional[Fragments] = None) -> Any:
    """The WSGI app over a running hub. ``fragments``: where its views keep what they made of hosts' facts."""
    check_routes(ROUTES)
    base = Base(checked(hub.settings.base_path))
    app = bottle.Bottle()
    app.config["json.enable"] = False
    most = max(1, hub.settings.threads // 2)
    shared = _Shared(Pages(), past_pages(), Fragments() if fragments is None else fragments, Streams(most), Pasts(most_waiting=most), Ahead(), Rate())
    for route in ROUTES:
        app.route(route.path, route.method, _handler(route, hub, shared, base))
    app.default_error_handler = lambda error: _bottle_error(error, base)  # 404, 405 and what bottle itself refuses
    return mounted(_direct(app), base.path)


class _Shared(NamedTuple):
    """What all requests share."""

    pages: Pages
    past_pages: Pages
    fragments: Fragments
    streams: Streams
    pasts: Pasts
    ahead: Ahead
    uploads: Rate

    def context(self, hub: Readings, path: dict[str, str]) -> Context:
        """Of the request at hand. What is made for the past is not kept among what is made for now. Raises UsageError."""
        params = Params.parse(bottle.request.query_string)
        pages, fragments = (self.past_pages, Fragments()) if params.text("at") else (self.pages, self.fragments)
        return Context(hub, pages, fragments, self.streams, self.pasts, params, audience(), path, bottle.request.path, time.time(), self.ahead, self.uploads)


def _load(dotted: str) -> View:
    module, _, name = dotted.partition(":")
    view: View = getattr(import_module(module), name)
    return view


def _handler(route: Route, hub: Readings, shared: _Shared, base: Base) -> Callable[..., Any]:
    view = _load(route.function)

    def handle(**path: str) -> Any:
        try:
            return _answer(view(shared.context(hub, path)), base)
        except Exception as error:  # one way out: nothing of the inside may reach the client
            return _answer(_error_reply(error, base), base)

    return handle


def _error_reply(error: Exception, base: Base) -> Reply:
    if isinstance(error, NotFound):
        return error_reply(404, error.message, base.words(error.next_step))
    if isinstance(error, TooMany):
        reply = error_reply(429, error.message, error.next_step)
        return Reply(reply.body, reply.status, {"Retry-After": "60"})
    if isinstance(error, UsageError):
        return error_reply(400, error.message, base.words(error.next_step))
    if isinstance(error, GpuwatchError):
        return error_reply(503, error.message, error.next_step)
    number = secrets.token_hex(4)
    log.error("error %s in %s %s", number, bottle.request.method, bottle.request.path, exc_info=error)
    return error_reply(500, f"Something went wrong inside the hub (error {number}).", "The hub's log tells more under this number.")


def error_reply(status: int, message: str, next_step: str = "") -> Reply:
    """An error as JSON under /api, as text for curl and ``term=true``, as a page for browsers."""
    message, next_step = clean(message), clean(next_step)  # it may name what the address said
    wants_html = "text/html" in (bottle.request.headers.get("Accept") or "") and "term=" not in bottle.request.query_string
    if bottle.request.path.startswith("/api/") or "format=json" in bottle.request.query_string:
        return Reply(Body(error_json(message, next_step), JSON), status)
    if wants_html:
        step = f"Next: {next_step[0].lower() if next_step[1:2].islower() else next_step[0]}{next_step[1:]}" if next_step else ""
        return Reply(Body(message_page(TITLES.get(status, "That did not work"), message, step).encode("utf-8", "replace"), HTML), status)
    return Reply(Body(f"{message} {next_step}".strip().encode("utf-8", "replace") + b"\n", TEXT), status)


def _bottle_error(error: Any, base: Base) -> Any:
    """404, 405 and malformed requests that never reach a view."""
    status = int(getattr(error, "status_code", 500))
    path, allow = bottle.request.path[:100], getattr(error, "headers", {}).get("Allow")
    told = {
        404: (f"There is no page {path}.", f"The cluster is at {base.path}/."),
        405: (f"{bottle.request.method[:20]} is not possible on {path}.", f"It takes {allow or 'GET'}."),
    }.get(status, ("The request cannot be understood.", ""))
    reply = error_reply(status, *told)
    return _answer(Reply(reply.body, status, {"Allow": allow} if allow else {}), base)


def _answer(reply: Reply, base: Base) -> Any:
    environ, headers = bottle.request.environ, reply.headers
    if "Location" in headers:
        headers = {**headers, "Location": base.location(headers["Location"])}
        if reply.status == 302:
            reply = replace(reply, body=Body(f"It is at {headers['Location']} now.\n".encode(), TEXT))
    if not isinstance(reply.body, Body):
        return bottle.HTTPResponse(reply.body, reply.status, {**ALWAYS, **headers, "Content-Type": reply.content_type})
    body = base.body(reply.body, environ["PATH_INFO"] == LIVE or "fetch_element=" in environ.get("QUERY_STRING", ""))
    # what is not Latin-1 goes as UTF-8, as bottle does it; a line break is refused by the server
    own = {**ALWAYS, **{name: value.encode("utf-8", "replace").decode("latin-1") for name, value in headers.items()}}
    if reply.status == 200:
        own.update({"ETag": body.etag, "Vary": "Accept-Encoding"})
        if body.etag in environ.get("HTTP_IF_NONE_MATCH", ""):
            environ[ANSWER] = STATUS_LINES[304], list(own.items())
            return b""
    data = body.data
    if len(data) >= LEAST_GZIP_BYTES and accepts_gzip(environ):
        data, own["Content-Encoding"] = body.packed, "gzip"
    own.update({"Content-Type": body.content_type, "Content-Length": str(len(data))})
    environ[ANSWER] = STATUS_LINES[reply.status], list(own.items())
    return data


def _direct(app: WsgiApp) -> WsgiApp:
    """Sends status and headers of a whole body as ``_answer`` made them. bottle checks, capitalizes and copies each of them: a third of what an answer costs."""

    def direct(environ: Any, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: Any, error: Any = None) -> Any:
            status, headers = environ.pop(ANSWER, (status, headers))
            return start_response(status, headers, error) if error else start_response(status, headers)

        return app(environ, start)

    return direct
