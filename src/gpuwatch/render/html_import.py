"""The page ``/import``: a form to look into a log of another program, what it would bring, and what was imported. Pure."""

from __future__ import annotations

from html import escape
from typing import Any, Mapping, Optional, Sequence

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.model.imports import ImportedGpu, ImportedMachine
from gpuwatch.model.units import MIB
from gpuwatch.render import words
from gpuwatch.render.html_frame import Frame, page
from gpuwatch.render.html_parts import e
from gpuwatch.render.html_summary import notices_html
from gpuwatch.render.imports import history_of, steps
from gpuwatch.render.text_import import HEADS, gpu_rows

MOST_ROWS = 100
MOST_LINKS = 16
"""GPUs of an import that are linked by themselves."""


def import_page(
    cluster: ClusterNow, found: Sequence[ImportedMachine], most_bytes: int, doc: Optional[Mapping[str, Any]] = None, error: Optional[GpuwatchError] = None
) -> str:
    """The page; ``doc``: what ``gpuwatch db import --dry-run`` said of a file, ``error``: why it said nothing. ``cluster``: for title, zone and notices."""
    told = _refused(error) if error is not None else _told(doc) if doc is not None else ""
    body = (
        f'<div id="notices">{notices_html(cluster)}</div><div class="head"><h1>Import</h1><span class="soft">logs and databases of other programs</span></div>'
        f"{told}{_form(cluster.timezone, most_bytes)}{_imports(found, cluster.timezone)}"
    )
    return page(
        Frame(
            title="Import - gpuwatch",
            lab=cluster.title,
            main_html=body,
            read_at=words.clock_seconds(cluster.taken_at, cluster.timezone),
            footer_html=f"<span>Times are {e(words.zone_label(cluster.taken_at, cluster.timezone))}</span>",
            terminal="/import?term=true",
            here="import",
            css="view-detail",
            sheet=True,
        )
    )


def _form(timezone: str, most_bytes: int) -> str:
    return (
        '<section class="report" aria-labelledby="s-look"><h2 class="sec" id="s-look">Look into a file'
        f"<small>at most {most_bytes / MIB:g} MiB, also packed with gzip, bzip2 or xz; nothing is stored from here</small></h2>"
        '<form class="between filled" action="/import" method="post" enctype="multipart/form-data">'
        '<label>file <input class="file" type="file" name="file" required></label>'
        f'<label>time zone <input name="zone" maxlength="60" placeholder="{e(timezone)}" autocomplete="off"></label>'
        '<label>name <input name="host" maxlength="100" placeholder="the file\'s" title="for readings that name no host" autocomplete="off"></label>'
        '<label>fields <input name="fields" maxlength="2000" placeholder="told by its first line" title="columns of a log of nvidia-smi without a head, separated by commas" autocomplete="off">'
        "</label><button>Look into it</button></form>"
        '<p class="note small">Known are logs of <code>nvidia-smi --query-gpu=timestamp,... --format=csv</code> with any fields, this program\'s own CSV, '
        "and the logs, uploads and databases of AccessGrid, vesta and gpu-monitoring-system.</p></section>"
    )


def _refused(error: GpuwatchError) -> str:
    return f'<div class="message" role="alert"><p><b>{e(error.message)}</b></p>{f"<p>{e(error.next_step)}</p>" if error.next_step else ""}</div>'


# ---- what a file would bring


def _told(doc: Mapping[str, Any]) -> str:
    figures = (("Rows", str(doc["rows"])), ("Lines not understood", str(doc["refused_count"])), ("GPUs", str(len(doc["gpus"]))), ("Users", str(doc["users"])))
    shown = "".join(f'<div class="figure"><h2>{name}</h2><p><b>{value}</b></p></div>' for name, value in figures)
    notes = "".join(f'<p class="note">{e(note)}</p>' for note in doc["notes"])
    return (
        f'<section class="report" aria-labelledby="s-told"><h2 class="sec" id="s-told">{e(doc["file"])}<small>{e(doc["why"])} Times are read as {e(doc["zone"])}.</small></h2>'
        f'<div class="figures">{shown}</div>{notes}{_gpus(doc)}{_lines(doc)}{_next(doc)}</section>'
    )


def _gpus(doc: Mapping[str, Any]) -> str:
    heads = "".join(f'<th scope="col"{NUM if name == "rows" else ""}>{name}</th>' for name in HEADS)
    rows = "".join(
        "<tr>" + "".join(f'<td{NUM if name == "rows" else ""} data-of="{name}">{e(str(value or ""))}</td>' for name, value in zip(HEADS, row)) + "</tr>"
        for row in gpu_rows(doc, MOST_ROWS)
    )
    more = f'<p class="note">... and {len(doc["gpus"]) - MOST_ROWS} more.</p>' if len(doc["gpus"]) > MOST_ROWS else ""
    return f'<div class="scroll"><table class="list"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{more}' if rows else ""


NUM = ' class="num"'


def _lines(doc: Mapping[str, Any]) -> str:
    if not doc["refused_count"]:
        return ""
    rows = "".join(f'<tr><th scope="row">line {one["line"]}</th><td class="wide">{e(one["why"])}</td></tr>' for one in doc["refused"])
    kept = len(doc["refused"])
    more = f'<p class="note">... and {doc["refused_count"] - kept} more.</p>' if doc["refused_count"] > kept else ""
    return (
        '<div class="scroll"><table class="list refused"><caption class="sr">Lines that are not understood</caption><thead><tr><th scope="col"><span class="sr">line</span></th>'
        f'<th scope="col" class="wide">not understood, because</th></tr></thead><tbody>{rows}</tbody></table></div>{more}'
    )


def _next(doc: Mapping[str, Any]) -> str:
    if not doc["rows"]:
        return '<p class="note"><b>Nothing in it can be stored.</b></p>'
    load, assign = steps(doc)
    names = " ".join(f"<code>{e(name)}</code>" for name in doc["imports"][:MOST_LINKS])
    return (
        f'<p class="note"><b>Nothing was stored.</b> To store it, on the hub: <code>{e(load)}</code></p>'
        f'<p class="note">It is looked at here then, as {names}, apart from the readings of the hub\'s own hosts. To make it part of a host for good: <code>{e(assign)}</code></p>'
    )


# ---- what was imported


def _imports(found: Sequence[ImportedMachine], timezone: str) -> str:
    rows = "".join(_row(one, timezone) for one in found) or '<tr><td class="mute" colspan="5">nothing yet</td></tr>'
    heads = "".join(f'<th scope="col"{NUM if name == "rows" else ""}>{name}</th>' for name in ("import", "GPUs", "from", "to", "rows"))
    return (
        '<section class="report" aria-labelledby="s-imports"><h2 class="sec" id="s-imports">Imported<small>not given to a host yet</small>'
        '<small><a href="/import?format=csv" download>CSV</a> <a href="/import?format=json">JSON</a></small></h2>'
        f'<div class="scroll"><table class="list imports"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _row(one: ImportedMachine, timezone: str) -> str:
    span = [words.date_time(at, timezone) for at in one.span] if one.span else ["", ""]
    more = "" if one.finished else ' <b class="hold">not finished: the same command goes on</b>'
    file = f' <small>{e(one.file)}</small>' if one.file else ""
    links = " ".join(_link(history_of(one, gpu), gpu.gpu, _title(gpu)) for gpu in one.gpus[:MOST_LINKS])
    links += f" ... {len(one.gpus) - MOST_LINKS} more" if len(one.gpus) > MOST_LINKS else ""
    return (
        f'<tr><th scope="row"><b>{_link(history_of(one), one.name)}</b>{file}{more}</th><td class="wide" data-of="GPUs">{links}</td>'
        f'<td data-of="from">{e(span[0])}</td><td data-of="to">{e(span[1])}</td><td class="num" data-of="rows">{one.rows or ""}</td></tr>'
    )


def _title(gpu: ImportedGpu) -> str:
    return f' title="{e(gpu.model)}"' if gpu.model else ""


def _link(address: str, name: str, more: str = "") -> str:
    return f'<a href="{escape(address, quote=True)}"{more}>{e(name)}</a>'
