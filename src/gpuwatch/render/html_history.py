"""The page ``/history``: the charts of all GPUs, of a host, a GPU or a user, and a form to choose. Pure."""

from __future__ import annotations

from html import escape
from typing import Sequence
from urllib.parse import urlencode

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.imports import IMPORTED
from gpuwatch.render import words
from gpuwatch.render.charts import Charts
from gpuwatch.render.html_charts import charts_html, history_url
from gpuwatch.render.html_frame import Frame, page
from gpuwatch.render.html_parts import e, gpu_url, host_url
from gpuwatch.render.html_summary import notices_html

MOST_NAMES = 500
"""Hosts offered while one types."""


def history_page(cluster: ClusterNow, charts: Charts, hosts: Sequence[str] = ()) -> str:
    """The page. ``cluster``: for its title, zone and notices; its nodes are not shown. ``hosts``: names to offer."""
    title = f"{charts.subject} - history" if charts.subject else "History"
    body = (
        f'<div id="notices">{notices_html(cluster)}</div><div class="head"><h1>{_heading(charts)}</h1><span class="soft">history</span>'
        f'{_logs(charts)}<span class="gap"></span>{_chooser(charts, hosts)}</div>{charts_html(charts)}'
    )
    return page(
        Frame(
            title=f"{title} - gpuwatch",
            lab=cluster.title,
            main_html=body,
            read_at=words.clock_seconds(cluster.taken_at, cluster.timezone),
            footer_html=f"<span>Times are {e(words.zone_label(cluster.taken_at, cluster.timezone))}</span>",
            terminal=history_url(charts, term="true").replace("&amp;", "&"),
            here="history",
            css="view-detail",
            charts=True,
        )
    )


def _heading(charts: Charts) -> str:
    if charts.host.startswith(IMPORTED):  # it has no page of its own
        return e(charts.subject)
    if charts.gpu:
        return f'<a href="{gpu_url(charts.gpu)}">{e(charts.subject)}</a>'
    return f'<a href="{host_url(charts.host)}">{e(charts.subject)}</a>' if charts.host else e(charts.subject)


def _logs(charts: Charts) -> str:
    """The log of the subject as files, of the day, week and month in which the span ends; and where imports are listed."""
    imports = '<a href="/import">Imports</a>'
    if charts.user:
        return f'<span class="small files">{imports}</span>'
    day = words.iso(min(charts.window.end_at, charts.now), charts.timezone)[:10]
    subject = [(name, words.clean(value)) for name, value in (("host", charts.host), ("gpu", charts.gpu)) if value]
    links = " ".join(
        f'<a href="{escape("/api/v1/log.csv?" + urlencode([(name, day), *subject]), quote=True)}" download title="{title} {day}, a row a minute">{name}</a>'
        for name, title in (("day", "CSV of"), ("week", "CSV of the week of"), ("month", "CSV of the month of"))
    )
    return f'<span class="small files">CSV log of the {links} {imports}</span>'


def _chooser(charts: Charts, hosts: Sequence[str]) -> str:
    """A form for another subject; the span stays."""
    window = charts.window
    span = (("range", window.range),) if window.range else (("from", str(window.start_at)), ("to", str(window.end_at)))
    hidden = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in span)
    names = "".join(f'<option value="{e(name)}">' for name in hosts[:MOST_NAMES])
    everything = "" if not (charts.host or charts.gpu or charts.user) else f'<a href="/history?{"&amp;".join(f"{name}={value}" for name, value in span)}">All GPUs</a>'
    return (
        f'{everything}<form class="between" action="/history" method="get">{hidden}<datalist id="hosts">{names}</datalist>'
        f'<label>host <input name="host" size="12" maxlength="200" list="hosts" value="{e(charts.host)}"></label>'
        f'<label>GPU <input name="gpu" size="6" maxlength="200" value="{e(charts.gpu)}" title="its number on the host, or its UUID"></label>'
        f'<label>user <input name="user" size="10" maxlength="200" value="{e(charts.user)}"></label><button>Show</button></form>'
    )
