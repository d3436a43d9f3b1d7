"""``/import``: what was imported, and what a file would bring. Writes nothing: that is for the command line until there are accounts."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import bottle

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.model.imports import ImportedMachine
from gpuwatch.query.imports import listed
from gpuwatch.render import imports as render
from gpuwatch.render.html_import import import_page
from gpuwatch.store.import_source import label_of
from gpuwatch.web import uploads
from gpuwatch.web.context import Context
from gpuwatch.web.replies import CSV, HTML, JSON, TEXT, Body, Reply

MOST_OPTION = 2000
OPTIONS = ("zone", "host", "fields")
"""Fields of the form that are options of ``gpuwatch db import``."""
FRESH_SECONDS = 5.0


def imports(ctx: Context) -> Reply:
    """The list of what was imported, and the form to look into a file."""
    found, format = _listed(ctx), ctx.params.format
    if format == "csv":
        return Reply(Body(render.imports_csv(found), CSV), headers={"Content-Disposition": 'attachment; filename="imports.csv"'})
    if format == "json":
        return Reply(Body(render.imports_json(found), JSON))
    if format == "text":
        return Reply(Body(render.imports_text(found, ctx.hub.timezone).encode("utf-8", "replace"), TEXT))
    return _page(ctx, found)


def dry_run(ctx: Context) -> Reply:
    """What a file would bring: format, GPUs, rows, and the lines that are not understood. Nothing of it is kept."""
    format = ctx.params.format
    try:
        doc = _read(ctx)
    except UsageError as error:
        if format != "html":
            raise
        return _page(ctx, _listed(ctx), error=error)
    if format == "json":
        return Reply(Body(render.dry_run_json(doc), JSON))
    if format == "html":
        return _page(ctx, _listed(ctx), doc)
    return Reply(Body(render.dry_run_text(doc).encode("utf-8", "replace"), TEXT))


def _read(ctx: Context) -> Dict[str, Any]:
    ctx.uploads.count(str(bottle.request.environ.get("REMOTE_ADDR")))
    upload = uploads.file_of(bottle.request, "file")
    if upload is None or not upload.raw_filename:
        raise UsageError("There is no file in the form.", "Choose one; with curl: -F file=@log.csv")
    given = {name: _option(name) for name in OPTIONS}
    with uploads.kept_for_now(upload) as path:
        words = [f"--{name}={value}" for name, value in given.items() if value and name != "zone"]
        doc = uploads.dry_run(path, given["zone"] or ctx.hub.timezone, words)
    label = label_of(given["host"], doc["file"])
    names = sorted({str(gpu["host"]) or label for gpu in doc["gpus"]}) or [label]
    return {**doc, "host": given["host"], "fields": given["fields"], "imports": [f"import:{name}" for name in names]}


def _option(name: str) -> str:
    value = str(bottle.request.forms.getunicode(name) or "").strip()
    if len(value) > MOST_OPTION or not value.isprintable():
        raise UsageError(f"{name} is longer than {MOST_OPTION} characters, or holds characters that are none.")
    return value


def _listed(ctx: Context) -> List[ImportedMachine]:
    store = ctx.hub.store
    if store is None:
        raise GpuwatchError("The database is not open, so there are no imports.", "The page of now says why.")
    found: List[ImportedMachine] = ctx.fragments.get("imports", int(ctx.now // FRESH_SECONDS), lambda: listed(store))
    return found


def _page(ctx: Context, found: Sequence[ImportedMachine], doc: Any = None, error: Any = None) -> Reply:
    cluster: ClusterNow = ctx.hub.cluster(ctx.audience, host="")
    most = ctx.hub.settings.upload_max_bytes
    return Reply(Body(import_page(cluster, found, most, doc, error).encode("utf-8", "replace"), HTML), 400 if error is not None else 200)
