"""The page of one GPU: what it does now and for whom, its charts, its processes, its health. Pure."""

from __future__ import annotations

from typing import Optional

from gpuwatch.model.cluster import GpuView, NodeState
from gpuwatch.render import words
from gpuwatch.render.html_controls import plain_head
from gpuwatch.render.html_facts import activity, card, facts_html, health
from gpuwatch.render.html_gpu_row import Moment, gpu_rows, people, state_icon, state_words
from gpuwatch.render.html_host import message_body
from gpuwatch.render.html_parts import e, gpu_url, host_url, meter, not_reported, sparkline
from gpuwatch.render.html_process_table import csv_link, process_table

_COLOURS = {"free": "go", "idle": "hold", "lost": "bad", "down": "bad"}


def gpu_main(node: NodeState, place: int, moment: Moment, charts: str = "") -> str:
    """The ``<main>`` of a GPU's page; ``place``: where in ``node.gpus``; ``charts``: HTML of ``html_charts``, else its last hours from memory."""
    view = node.gpus[place]
    reading, state = view.reading, view.state
    sentence = _sentence(view, moment)
    slices = ""
    if reading.mig:
        slices = (
            f'<h2 class="sec">Slices</h2><table class="gpus" role="table" aria-label="Slices">{plain_head()}'
            f'<tbody role="rowgroup">{gpu_rows(view, moment, _host_cell(node, 1 + len(reading.mig)), False)}</tbody></table>'
        )
    away = "" if node.status in ("up", "stale") else f'<table class="gpus" role="table">{plain_head()}{message_body(node, moment)}</table>'
    return (
        f'<div class="head"><h1><a href="{host_url(node.name)}">{e(node.name)}</a> GPU {reading.index}</h1>'
        f'<span class="soft">{e(words.model_name(reading.name))}</span>'
        f'<span class="chip {_COLOURS.get(state.state, "soft")}">{state_icon(state.state)}{e(sentence)}</span><span class="gap"></span>{_neighbours(node, place)}</div>'
        f'{away}<div class="figures">{_figures(view)}</div>{charts or _hours(view)}{slices}'
        f'<div class="split"><section aria-labelledby="s-procs"><h2 class="sec" id="s-procs">Processes{csv_link(gpu_url(reading.uuid))}</h2>{process_table((view,), moment, False)}</section>'
        f'<aside aria-label="Health and card"><h2 class="sec">Health</h2>{facts_html(health(reading, state.marks))}'
        f'<h2 class="sec">Activity</h2>{facts_html(activity(reading))}'
        f'<h2 class="sec">Card</h2>{facts_html(card(reading, node.snapshot.host if node.snapshot else None, moment.zone))}</aside></div>'
    )


def _host_cell(node: NodeState, rows: int) -> str:
    return f'<th role="rowheader" class="host" scope="rowgroup" rowspan="{rows}"><span class="soft">{e(node.name)}</span></th>'


def _sentence(view: GpuView, moment: Moment) -> str:
    reading, state = view.reading, view.state
    told = state_words(state, bool(reading.processes), moment)
    who = people(reading.processes)
    if state.state in ("lost", "unknown", "reserved", "stale", "down") and state.why:
        return f"{told}: {state.why}"
    if who and reading.memory_used_bytes is not None and state.state in ("busy", "idle"):
        held = f"{words.gb(reading.memory_used_bytes)} of {words.gb_total(reading.memory_total_bytes)} GB" if reading.memory_total_bytes else (
            f"{words.gb(reading.memory_used_bytes)} GB"
        )  # fmt: skip
        names = who[0] if len(who) == 1 else f"{who[0]} and {len(who) - 1} more"
        return f"{told}: {names} {'holds' if len(who) == 1 else 'hold'} {held}"
    since = moment.since(state.since_at)
    return f"{told}, {'at least ' if state.at_least else ''}{since}" if since and state.state in ("free", "busy") else told


def _neighbours(node: NodeState, place: int) -> str:
    links = ""
    if place > 0:
        before = node.gpus[place - 1].reading
        links += f'<a class="btn" rel="prev" href="{gpu_url(before.uuid)}">‹ GPU {before.index}</a>'
    if place + 1 < len(node.gpus):
        after = node.gpus[place + 1].reading
        links += f'<a class="btn" rel="next" href="{gpu_url(after.uuid)}">GPU {after.index} ›</a>'
    return f'<span class="seg">{links}</span>' if links else ""


def _figures(view: GpuView) -> str:
    reading, why = view.reading, view.reading.missing
    used, total = reading.memory_used_bytes, reading.memory_total_bytes
    limit, slow = reading.power_limit_watts, reading.temperature_slowdown_celsius
    return (
        _figure("Utilization", reading.utilization_percent, "%", 100.0, "", why.get("utilization_percent"))
        + _figure("Memory", None if used is None else used / 2**30, "GB", None if total is None else total / 2**30,
                  f"of {words.gb_total(total)}" if total else "", why.get("memory_used_bytes"), 1, "m")
        + _figure("Power", reading.power_watts, "W", limit, f"limit {limit:.0f}" if limit else "", why.get("power_watts"))
        + _figure("Temperature", reading.temperature_celsius, "°C", slow, f"slows at {slow:.0f}" if slow else "", why.get("temperature_celsius"))
    )  # fmt: skip


def _figure(
    name: str, value: Optional[float], unit: str, most: Optional[float], note: str, reason: Optional[str], digits: int = 0, css: str = ""
) -> str:
    shown = not_reported(reason) if value is None else f"<b>{value:,.{digits}f}</b> {unit}"
    bar = meter(value, most, css) if value is not None and most else ""
    return f'<div class="figure"><h2>{name}</h2><p>{shown} <small>{note}</small></p>{bar}</div>'


def _hours(view: GpuView) -> str:
    line = sparkline(view.recent_utilization, width=30, height=96)
    if not line:
        return ""
    known = [value for value in view.recent_utilization if value is not None]
    gaps = len(view.recent_utilization) - len(known)
    told = f"mean {sum(known) / len(known):.0f} %, highest 10 min {max(known):.0f} %"
    missing = f", {words.span(gaps * 600)} without a reading" if gaps else ""
    return (
        f'<section class="hours" aria-labelledby="s-hours"><h2 id="s-hours">Utilization, last 6 h <small>{told}{missing}</small></h2>'
        f'<div class="plot"><span class="y">100</span>{line}<span class="x"><span>6 h ago</span><span>3 h ago</span><span>now</span></span></div></section>'
    )
