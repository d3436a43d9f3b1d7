"""The page of one host: its rows, its processes, its machine. Pure."""

from __future__ import annotations

from typing import Sequence

from gpuwatch.model.cluster import NodeState
from gpuwatch.model.snapshot import Number
from gpuwatch.render import words
from gpuwatch.render.html_controls import plain_head
from gpuwatch.render.html_facts import facts_html, machine
from gpuwatch.render.html_gpu_row import Moment, gpu_rows
from gpuwatch.render.html_host import AWAY, message_body, models, tags, unseen_word
from gpuwatch.render.html_parts import e, host_url, icon
from gpuwatch.render.html_process_table import csv_link, process_table

_STATUS_ICON = {"down": ("down", "bad"), "error": ("warn", "bad"), "stale": ("stale", "mute"), "unseen": ("stale", "mute")}


def host_main(node: NodeState, moment: Moment, charts: str = "") -> str:
    """The ``<main>`` of a host's page; ``charts``: HTML of ``html_charts``. What is old says from when it is."""
    away = message_body(node, moment, own_page=True) if node.status in AWAY or not node.gpus else ""
    table = f'<table class="gpus" role="table" aria-label="GPUs of {e(node.name)}">{plain_head()}{away}{_rows(node, moment)}</table>'
    last = ""
    if node.status != "up" and node.received_at is not None:
        last = f"The last reading is of {e(moment.clock(node.received_at))}."
    if node.error and not away:
        last = f"{last} {e(words.clean(node.error))}".strip()
    last = f'<p class="note">{last}</p>' if last else ""
    cards = models(node.gpus) or ("no GPU" if node.snapshot else "")
    processes = process_table(node.gpus, moment) if node.snapshot else '<p class="note">No reading.</p>'
    return (
        f'<div class="head"><h1>{e(node.name)}</h1>{tags(node)}<span class="soft">{e(cards)}</span>{_status(node, moment)}</div>'
        f'{table}{last}{charts}<div class="split"><section aria-labelledby="s-procs"><h2 class="sec" id="s-procs">Processes{csv_link(host_url(node.name), bool(node.snapshot))}</h2>'
        f'{processes}{_troubles(node)}</section><aside aria-label="Machine"><h2 class="sec">Machine</h2>'
        f"{facts_html(machine(node, moment))}{_cores(node)}</aside></div>"
    )


def _rows(node: NodeState, moment: Moment) -> str:
    if not node.gpus:
        return ""
    rows = sum(1 + len(view.reading.mig) for view in node.gpus)
    cell = f'<th role="rowheader" class="host" scope="rowgroup" rowspan="{rows}"><span class="soft">{e(node.name)}</span></th>'
    parts = [gpu_rows(view, moment, "" if place else cell, True) for place, view in enumerate(node.gpus)]
    return f'<tbody role="rowgroup">{"".join(parts)}</tbody>'


def _status(node: NodeState, moment: Moment) -> str:
    if node.status == "up":
        return ""
    shape, colour = _STATUS_ICON[node.status]
    since = "" if node.status_since_at is None else words.span_long(moment.now - node.status_since_at)
    word = {"error": "no GPU data", "unseen": unseen_word(node)}.get(node.status, node.status)
    return f'<span class="chip {colour}">{icon(shape)}{word} {since}</span>'


def _troubles(node: NodeState) -> str:
    parts = [part for part in (node.snapshot.collectors if node.snapshot else ()) if part.message]
    xids = node.snapshot.xids if node.snapshot else ()
    if not parts and not xids:
        return ""
    lines = [f"<tr><th scope=\"row\">{e(part.name)}</th><td class=\"wide\">{e(words.sentence(part.message or ''))}</td></tr>" for part in parts]
    lines += [
        f'<tr><th scope="row">Xid {xid.code}</th><td class="wide">{e(xid.message)} {e(xid.pci_bus_id)}{f" pid {xid.pid}" if xid.pid else ""}</td></tr>'
        for xid in reversed(xids)
    ]
    return f'<h2 class="sec">What the node says</h2><table class="list"><tbody>{"".join(lines)}</tbody></table>'


def _cores(node: NodeState) -> str:
    cores: Sequence[Number] = node.snapshot.host.cores_percent if node.snapshot else ()
    if not cores:
        return ""
    bars = "".join(
        f'<rect class="nocore" x="{place}" y="0" width="1" height="100" fill="url(#gap)"/>' if load is None
        else f'<rect x="{place + 0.1:.1f}" y="{100 - load:.0f}" width=".8" height="{load:.0f}"/>'
        for place, load in enumerate(cores)
    )  # fmt: skip
    return (
        f'<h2 class="sec">Load of each core <small>{len(cores)} cores, 0 to 100 %</small></h2>'
        f'<svg class="cores" viewBox="0 0 {max(len(cores), 16)} 100" preserveAspectRatio="none" role="img" aria-label="Load of {len(cores)} cores">{bars}'
        f'<path class="base" d="M0 99.5h{len(cores)}"/></svg>'
    )
