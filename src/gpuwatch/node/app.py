"""The node's HTTP face: ``POST /get-status`` for hubs of ours and of seed 002, ``GET /metrics`` for Prometheus, ``GET /healthz``.

The only room for HTTP status codes here.

Everything that is not readings is plain text: seed 002's hub takes any JSON for readings, whatever the status. No answer waits for the
sampler, and none tells a stranger more than that a node is here.
"""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List, Optional

import bottle

from gpuwatch.node import scraping
from gpuwatch.node.door import Door, Refusal
from gpuwatch.node.newest import Answer, Newest
from gpuwatch.node.ring import Ring
from gpuwatch.render import as_prometheus
from gpuwatch.wire import frame, push
from gpuwatch.wire.asking import SKEW_HEADER

MAX_BODY_BYTES = 16384
LONGEST_KNOWN = 64
SCHEME = "Gpuwatch "


class NodeApp(bottle.Bottle):  # type: ignore[misc]
    """The WSGI app of a node. Errors reach the server's wrappers; bottle's own pages are replaced by one line of text."""

    def __init__(
        self, newest: Newest, password: str, *, hostname: str = "", metrics_open: bool = False, plain_password: bool = True,
        public_status: bool = False, ring: Optional[Ring] = None,
    ) -> None:
        """``hostname``: what this machine is called before there is a sample; ``metrics_open``: /metrics needs no password;
        ``plain_password``: readings for the password itself, beside signed requests; ``public_status``: seed 000's address answers everybody;
        ``ring``: what a hub that was away may ask for."""
        super().__init__()
        self.config["catchall"] = False
        self._newest = newest
        self._ring = ring
        self._door = Door(password, plain_password=plain_password)
        self._hostname, self._metrics_open = hostname, metrics_open
        self.route("/get-status", "POST", self._get_status)
        self.route("/metrics", "GET", self._metrics)
        self.route("/healthz", "GET", self._healthz)
        if public_status:
            self.route("/api/gpu_status", "GET", self._public)

    def default_error_handler(self, error: Any) -> str:
        """bottle's 404 and 405 as text."""
        error.content_type = "text/plain; charset=utf-8"
        if error.status_code == 405:
            return f"This address takes {error.headers.get('Allow', 'other methods')} only.\n"
        return "A gpuwatch node answers POST /get-status, GET /metrics and GET /healthz.\n"

    def _get_status(self) -> bottle.HTTPResponse:
        address = str(bottle.request.get("REMOTE_ADDR", ""))  # .remote_addr would believe X-Forwarded-For
        authorization = str(bottle.request.get("HTTP_AUTHORIZATION", ""))
        is_signed = authorization.startswith(SCHEME)
        body = bottle.request["wsgi.input"].read(MAX_BODY_BYTES + 1)
        refusal = self._door.signed(authorization, "POST", _target(), body, address) if is_signed else self._door.waits(address)
        asked = _asked(body) if refusal is None else _refused(refusal)
        if isinstance(asked, bottle.HTTPResponse):
            return asked
        refusal = None if is_signed else self._door.told(asked.get("passwd"), address)
        if refusal is not None:
            return _refused(refusal)
        if "missed" in asked and self._ring is not None:
            return _missed(self._ring, asked["missed"])
        answer = self._newest.answer()
        if answer is None:
            return _text(503, "There is no sample yet.", {"Retry-After": "1"})
        return _readings(answer, asked)

    def _metrics(self) -> bottle.HTTPResponse:
        refusal = None if self._metrics_open else self._refused_scraper()
        if refusal is not None:
            return refusal
        openmetrics = as_prometheus.wants_openmetrics(bottle.request.get_header("Accept") or "")
        processes = str(bottle.request.query.get("processes", "")).lower() in ("1", "true", "yes", "on")
        counted = self._door.refusals.counts()
        body = scraping.metrics(self._newest.answer(), self._hostname, processes=processes, openmetrics=openmetrics, refused=counted)
        kind = as_prometheus.OPENMETRICS_TYPE if openmetrics else as_prometheus.TEXT_TYPE
        return bottle.HTTPResponse(body, 200, {"Content-Type": kind, "Cache-Control": "no-store", "Vary": "Accept"})

    def _refused_scraper(self) -> Optional[bottle.HTTPResponse]:
        """None for who gave the password."""
        given = scraping.password_in(str(bottle.request.get("HTTP_AUTHORIZATION", "")))
        refusal = self._door.scraper(given, str(bottle.request.get("REMOTE_ADDR", "")))
        if refusal is None or refusal.wait_seconds:
            return refusal and _refused(refusal)
        how = "Give it as basic or bearer authorization, or set metrics_open = true on the node."
        return _text(401, f"{refusal.words} {how}", {"WWW-Authenticate": 'Basic realm="gpuwatch"'})

    def _public(self) -> bottle.HTTPResponse:
        """Seed 000's hub looks at the body alone: also its errors are 200."""
        from gpuwatch.wire.legacy import seed000_node

        answer = self._newest.answer()
        body = seed000_node.answer(None) if answer is None else answer.public()
        return bottle.HTTPResponse(body, 200, {"Content-Type": "application/json", "Cache-Control": "no-store"})

    def _healthz(self) -> bottle.HTTPResponse:
        answer, trouble = self._newest.answer(), self._newest.trouble
        if trouble is not None and trouble.stale:
            return _text(503, trouble.message)
        return _text(503, "There is no sample yet.") if answer is None else _text(200, "ok")


def _target() -> str:
    """The path with its query, as it was signed."""
    query = bottle.request.query_string
    return f"{bottle.request.path}?{query}" if query else str(bottle.request.path)


def _refused(refusal: Refusal) -> bottle.HTTPResponse:
    if refusal.wait_seconds:
        return _text(429, refusal.words, {"Retry-After": str(refusal.wait_seconds)})
    return _text(403, refusal.words, None if refusal.skew_seconds is None else {SKEW_HEADER: f"{refusal.skew_seconds:.0f}"})


def _asked(body: bytes) -> Any:
    """The JSON object of the request, or the answer to what is none."""
    kind = str(bottle.request.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()
    if kind != "application/json":
        return _text(415, 'Send {"passwd": "..."} with Content-Type: application/json.')
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return _text(400, "The body is not JSON.")
    if not isinstance(asked, dict):
        return _text(400, "The body is not a JSON object.")
    known = asked.get("flat", "")
    if not isinstance(known, str) or len(known) > LONGEST_KNOWN:
        return _text(400, '"flat" is not the id of a shape.')
    return asked


def _readings(answer: Answer, asked: Dict[str, Any]) -> bottle.HTTPResponse:
    known: Optional[str] = asked.get("flat")
    if known is None:
        body, kind = answer.json(), "application/json"
    else:
        body, kind = answer.flat(known, time.time()), frame.CONTENT_TYPE
    return bottle.HTTPResponse(body, 200, {"Content-Type": kind, "Cache-Control": "no-store"})


def _missed(ring: Ring, asked: Any) -> bottle.HTTPResponse:
    """Samples of a time when a hub was away."""
    given: List[Any] = [asked.get(name) for name in ("after", "before", "most")] if isinstance(asked, dict) else []
    if len(given) != 3 or not all(isinstance(one, (int, float)) and not isinstance(one, bool) and abs(one) < 1e15 for one in given):
        return _text(400, '"missed" is not {"after": TIME, "before": TIME, "most": NUMBER}.')
    body = ring.between(float(given[0]), float(given[1]), max(0, int(given[2])), time.time())
    return bottle.HTTPResponse(body, 200, {"Content-Type": push.CONTENT_TYPE, "Cache-Control": "no-store"})


def _text(status: int, message: str, headers: Optional[Dict[str, str]] = None) -> bottle.HTTPResponse:
    kind = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
    return bottle.HTTPResponse(message + "\n", status, {**kind, **(headers or {})})
