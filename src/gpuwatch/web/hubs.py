"""``/hubs`` and ``/api/v1/hubs``: the hubs that share the database, and their shares."""

from __future__ import annotations

from typing import Callable, Mapping

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.render.hubs import hubs_csv, hubs_json, hubs_page, hubs_text
from gpuwatch.web.context import Context
from gpuwatch.web.replies import CSV, HTML, JSON, TEXT, Body, Reply

_TYPES = {"html": HTML, "text": TEXT, "json": JSON, "csv": CSV}


def hubs(ctx: Context) -> Reply:
    """A page, or one of its twins; always of now."""
    format = ctx.params.format
    found = ctx.hub.hubs()
    makers: Mapping[str, Callable[[ClusterNow], bytes]] = {
        "html": lambda now: hubs_page(now, found).encode("utf-8", "replace"),
        "text": lambda now: hubs_text(found, ctx.now),
        "json": lambda now: hubs_json(found),
        "csv": lambda now: hubs_csv(found),
    }
    return ctx.kept(("hubs", format, found), _TYPES[format], makers[format], host="")


def api_hubs(ctx: Context) -> Reply:
    """As JSON."""
    return Reply(Body(hubs_json(ctx.hub.hubs()), JSON))
