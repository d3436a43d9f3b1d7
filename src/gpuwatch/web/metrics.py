"""``GET /metrics`` of the hub, for Prometheus. Kept packed: of a thousand hosts it is 50 MB of text, and 3 MB packed."""

from __future__ import annotations

import time
import zlib
from typing import Dict, Iterator, Tuple

import bottle

from gpuwatch.model.errors import UsageError
from gpuwatch.query.latest import Known
from gpuwatch.render import as_prometheus
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.prometheus_rows import TABLES, form_of
from gpuwatch.serve.wsgi import accepts_gzip
from gpuwatch.web.context import Context, Readings
from gpuwatch.web.replies import Body, Reply

STREAMED_BYTES = 1024**2
"""Packed; larger ones are unpacked while they are sent, to a few readers at a time. Prometheus takes them packed."""
PACKING = (2, zlib.DEFLATED, 31, 6)
"""Level, method, gzip, memory: tables that are small beside the processor's caches pack a third faster than zlib's usual ones, and no worse."""
BREATH_SECONDS, PIECES_A_BREATH = 0.001, 8
"""Where nobody waits for it."""
FORMS_BEAT_SECONDS, FORMS_A_BEAT, FORM_LASTS_SECONDS = 2.0, 200, 60.0


def metrics(ctx: Context) -> Reply:
    """Every number of every node with fresh readings; ``processes=true``: also of each process."""
    if ctx.params.text("at"):
        raise UsageError("/metrics tells what is now, so at= is not possible.", "The past as CSV is at /api/v1/series?format=csv")
    openmetrics = as_prometheus.wants_openmetrics(bottle.request.get_header("Accept") or "")
    processes = ctx.params.flag("processes")
    kind = as_prometheus.OPENMETRICS_TYPE if openmetrics else as_prometheus.TEXT_TYPE

    key = ("metrics", processes, openmetrics, ctx.audience)

    def made(breath_seconds: float = 0.0) -> Body:
        began, now, refused = time.monotonic(), ctx.hub.cluster(ctx.audience), ctx.hub.guesses.refusals.counts()
        pieces = as_prometheus.cluster_metrics(now, processes=processes, openmetrics=openmetrics, cache=ctx.fragments, refused=refused)
        body = Body(_packed(pieces, breath_seconds), kind)
        ctx.ahead.took(key, time.monotonic() - began)
        return body

    packed = ctx.pages.get(key, ctx.hub.version(), made).data
    reader = str(bottle.request.environ.get("REMOTE_ADDR", ""))
    ctx.ahead.asked(key, reader, lambda: ctx.pages.get(key, ctx.hub.version(), lambda: made(BREATH_SECONDS)))
    headers = {"Vary": "Accept, Accept-Encoding"}
    if accepts_gzip(bottle.request.environ):
        return Reply([packed], headers={**headers, "Content-Encoding": "gzip"}, content_type=kind)
    if len(packed) > STREAMED_BYTES:
        return Reply(ctx.streams.take(_unpacked(packed)), headers=headers, content_type=kind)
    return Reply([zlib.decompress(packed, 31)], headers=headers, content_type=kind)


def _packed(pieces: Iterator[str], breath_seconds: float) -> bytes:
    """One piece after the other, so that the text is never in memory as a whole. ``breath_seconds``: after some pieces the other threads come first."""
    packer = zlib.compressobj(*PACKING)
    packed = []
    for place, piece in enumerate(pieces):
        packed.append(packer.compress(piece.encode("utf-8", "replace")))
        if breath_seconds and place % PIECES_A_BREATH == 0:
            time.sleep(breath_seconds)
    return b"".join([*packed, packer.flush()])


def _unpacked(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(31)
    for start in range(0, len(packed), 65536):
        yield unpacker.decompress(packed[start : start + 65536])
    yield unpacker.flush()


class FormsAhead:
    """Makes the forms of new nodes before a first scraper waits for those of a thousand, and anew where processes changed: of each node once a minute at most."""

    def __init__(self, hub: Readings, cache: Fragments) -> None:
        self._hub, self._cache = hub, cache
        self._made: Dict[str, Tuple[object, object, float]] = {}
        """By node, the plan and target that its form was made for, and when."""

    def run_once(self, now: float) -> None:
        """One beat: some of those that are due at ``now`` (epoch seconds)."""
        known = self._hub.latest.all()[1]
        due = {one.target.name: (one.plan, one.target, now) for one in [one for one in known if self._is_due(one, now)][:FORMS_A_BEAT]}
        if due:
            for node in self._hub.cluster().nodes:
                if node.name in due and node.parts is not None and node.status == "up":
                    form_of(node, TABLES, self._cache)
            self._made.update(due)
        if len(self._made) > len(known):
            staying = {one.target.name for one in known}
            self._made = {name: made for name, made in self._made.items() if name in staying}

    def _is_due(self, one: Known, now: float) -> bool:
        if one.plan is None or one.verdict.status != "up":
            return False
        plan, target, made_at = self._made.get(one.target.name, (None, None, 0.0))
        return (plan is not one.plan or target is not one.target) and not 0 <= now - made_at < FORM_LASTS_SECONDS
