"""What a reader steers the table with: filter form, chosen filters, heads that sort, layouts, pages. Links and GET forms, no script needed."""

from __future__ import annotations

from typing import Sequence

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.html_parts import e, link, query_pairs
from gpuwatch.render.select import Shown, gpu_count

COLUMNS = (
    ("c0", "Host", "name", ""), ("c1", "State", "state", ""), ("c2", "GPU", "", ""), ("c3", "User", "user", ""), ("c4", "Since", "since", ""),
    ("c5", "Utilization", "-utilization", ""), ("c6", "Memory, GB", "-memory", ""), ("c7", "°C", "-temperature", "num temp"),
    ("c8", "Power, W", "-power", "num pow"), ("c9", "Last 6 h", "", "six"), ("c10", "Process", "", ""),
)  # fmt: skip
"""(class of the column, head, what it sorts by first, class of the head)."""
_SPOKEN = {"°C": "Temperature, °C"}


def find_form(options: ViewOptions) -> str:
    """The filter: all words must match host, tag, model or user. What else is chosen goes along."""
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{e(value)}">' for name, value in query_pairs(options, q="") if name != "page"
    )
    pressed = options.free_only or options.state == "free"
    free = link(options, free="" if pressed else "true", state="" if pressed else options.state)
    return (
        f'<form class="find" id="find" role="search" action="/" method="get">{hidden}<label class="sr" for="q">Filter by host, tag, model or user</label>'
        f'<input type="search" id="q" name="q" value="{e(options.query)}" placeholder="host, tag, model or user" autocomplete="off" '
        'spellcheck="false" maxlength="200"><kbd aria-hidden="true">/</kbd><button class="nojs">Filter</button>'
        f'<a class="btn" id="free" role="button" href="{free}" aria-pressed="{str(pressed).lower()}">Free only</a></form>'
    )


def table_head(options: ViewOptions) -> str:
    """Columns and heads; the heads that can sort are links, the one that does says which way."""
    columns = "".join(f'<col class="{css}">' for css, _, _, _ in COLUMNS)
    heads = "".join(_head(options, *column[1:]) for column in COLUMNS)
    return f'<colgroup>{columns}</colgroup><thead role="rowgroup"><tr role="row">{heads}</tr></thead>'


def _head(options: ViewOptions, word: str, sort: str, css: str) -> str:
    css = f' class="{css}"' if css else ""
    if not sort:
        return f'<th role="columnheader" scope="col"{css}>{word}</th>'
    chosen = options.sort == sort.lstrip("-")
    order, following = "", sort
    if chosen:
        order = f' aria-sort="{"descending" if options.descending else "ascending"}"'
        following = options.sort if options.descending else f"-{options.sort}"
    mark = ("▾" if options.descending else "▴") if chosen else ""
    spoken = f' aria-label="{_SPOKEN[word]}"' if word in _SPOKEN else ""
    arrow = f'<span aria-hidden="true">{mark}</span>' if mark else ""
    return f'<th role="columnheader" scope="col"{css}{order}><a href="{link(options, sort=following)}"{spoken}>{word}{arrow}</a></th>'


def toolbar(cluster: ClusterNow, options: ViewOptions, layout: str, rows: Sequence[Shown], pages: int) -> str:
    """What of the cluster is shown, and the other ways to look at it. ``layout``: the one in force, chosen by the reader or by size."""
    gpus = sum(map(gpu_count, rows))
    total = sum([len(node.states) for node in cluster.nodes])
    shown = f'<span id="shown" data-total="{total}">{gpus:,} of {words.plural(total, "GPU")}</span>' if options.filtered else (
        f'<span id="shown" data-total="{total}"></span>'
    )  # fmt: skip
    return (
        f'<div class="tools">{shown}{_chosen(options)}{_order(options)}<span class="gap"></span>'
        f"{pager(options, pages)}{layouts(cluster, options, layout)}</div>"
    )


def _chosen(options: ViewOptions) -> str:
    given = (("host", options.host), ("user", options.user), ("tag", options.tag), ("model", options.model))
    return "".join(
        f'<a class="chosen" href="{link(options, **{name: ""})}" title="Show all again">{name} <b>{e(value)}</b>'
        '<span aria-hidden="true">×</span><span class="sr">remove this filter</span></a>'
        for name, value in given
        if value
    )


def _order(options: ViewOptions) -> str:
    if options.sort == "hosts" and not options.descending:
        return ""
    return f'<a class="chosen" href="{link(options, sort="")}">by <b>{options.sort}</b><span aria-hidden="true">×</span></a>'


def layouts(cluster: ClusterNow, options: ViewOptions, layout: str) -> str:
    """By host, one list of GPUs, grid."""
    choices = [("rows", "By host"), ("flat", "One list")]
    if len(cluster.nodes) > 12 or layout == "grid":
        choices.append(("grid", "Grid"))
    links = "".join(
        f'<a href="{link(options, view=name)}"{" aria-current=" + chr(34) + "true" + chr(34) if layout == name else ""}>{word}</a>'
        for name, word in choices
    )
    return f'<span class="seg" role="group" aria-label="Layout">{links}</span>'


def pager(options: ViewOptions, pages: int) -> str:
    """Links to the page before and after, where there are several."""
    if pages < 2:
        return ""
    before = f'<a href="{link(options, page=options.page - 1)}" rel="prev">‹ previous</a>' if options.page > 1 else ""
    after = f'<a href="{link(options, page=options.page + 1)}" rel="next">next ›</a>' if options.page < pages else ""
    return f'<nav class="pager" aria-label="Pages of the list">{before}<span>page {options.page} of {pages}</span>{after}</nav>'


def plain_head() -> str:
    """The same columns, without links, for the pages of one host or GPU."""
    columns = "".join(f'<col class="{css}">' for css, _, _, _ in COLUMNS)
    heads = "".join(f'<th role="columnheader" scope="col"{f" class={chr(34)}{css}{chr(34)}" if css else ""}>{word}</th>' for _, word, _, css in COLUMNS)
    return f'<colgroup>{columns}</colgroup><thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
