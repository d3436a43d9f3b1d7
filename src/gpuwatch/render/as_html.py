"""The pages as HTML: the cluster, a host, a GPU, a message; and what changes on an open page. Pure functions of what ``query`` answers.

Escaping is ``html_parts.e``; there is no other way for text from outside into a page. Audience: everything here is made for
``options.audience`` and cached under it; what a person alone may see is never rendered here.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import replace
from typing import Any, Iterable, List, Tuple
from urllib.parse import urlencode

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.html_controls import find_form, table_head, toolbar
from gpuwatch.render.html_frame import Frame, message_page, page
from gpuwatch.render.html_gpu_page import gpu_main
from gpuwatch.render.html_gpu_row import Moment
from gpuwatch.render.html_grid import grid_cells, grid_main
from gpuwatch.render.html_host import AWAY, flat_body, flat_key, host_body
from gpuwatch.render.html_host_page import host_main
from gpuwatch.render.html_large import large_answers_html
from gpuwatch.render.html_parts import e, gpu_url, host_url, link, query_pairs
from gpuwatch.render.html_past import keep_moment, past_of, with_moment
from gpuwatch.render.html_summary import answers_html, counts_html, notices_html, page_title, then
from gpuwatch.render.html_tally import HostTally, figures, tallies
from gpuwatch.render.select import Shown, page_count, page_of, shown
from gpuwatch.render.stencil import Piece, drawn, written

__all__ = ["Fragments", "cluster_page", "gpu_page", "host_page", "live_update", "message_page"]

GRID_FROM_HOSTS = 60
"""More hosts than this get the heat grid, unless ``view=`` says otherwise."""
POLL_SECONDS, GRID_POLL_SECONDS = 5.0, 10.0

Block = Tuple[str, NodeState, str]
"""(key, node, ``<tbody>``) of one part of the table."""


def cluster_page(cluster: ClusterNow, options: ViewOptions, fragments: Fragments) -> str:
    """Every GPU of every host that the options leave, under the answers of the whole cluster."""
    options, asked = _laid_out(cluster, options), options
    rows = shown(cluster, options)
    options, pages = _paged(options, len(rows))
    asked = replace(asked, page=options.page)
    paged = pages > 1 and options.layout != "grid"
    counted = tallies(cluster, fragments)
    counts = figures(counted)
    summary = _summary(cluster, counted, options, fragments, anchored=not (options.filtered or pages > 1 or options.layout == "flat"))
    heading = (
        '<div class="bar counts"><div id="figs" role="group" aria-label="GPUs by state; press to filter">'
        f'{counts_html(cluster, asked, counts)}</div><span class="gap"></span>{find_form(asked)}</div>'
    )
    if not cluster.nodes:
        body = _no_nodes()
    elif options.layout == "grid":
        body = toolbar(cluster, asked, options.layout, rows, pages) + grid_main(cluster, options, rows, fragments)
    else:
        body = toolbar(cluster, asked, options.layout, rows, pages) + _table(cluster, options, asked, rows, pages, fragments)
    live = options if paged else replace(options, query="", state="", free_only=False, page=0)
    address = _address(asked, at="")
    return page(
        Frame(
            title=_title(cluster, counts),
            lab=cluster.title,
            main_html=f'<h1 class="sr">Cluster {then(cluster)}</h1><div id="notices">{notices_html(cluster)}</div>'
            f'<div class="answers" id="answers">{summary}</div>{body}',
            heading_html=heading,
            read_at=words.clock_seconds(cluster.taken_at, cluster.timezone),
            live=_live_address(live),
            poll_seconds=GRID_POLL_SECONDS if len(cluster.nodes) > GRID_FROM_HOSTS else POLL_SECONDS,
            version=0 if options.filtered and not paged else cluster.version,
            order=_order_id(cluster, live),
            footer_html=_footer(cluster, asked),
            terminal=_address(asked, term="true", detail="true", view="", page=""),
            css=f"view-{options.layout}" + (" is-paged" if paged else ""),
            address=address,
            past=past_of(cluster, address),
        )
    )


def live_update(cluster: ClusterNow, options: ViewOptions, since: int, fragments: Fragments) -> dict[str, Any]:
    """What changed on an open cluster page since a version; 0 = everything, with the order of the hosts.

    Keys: ``version``, ``changed``, ``read_at``, ``order_id`` (differs when a host came or went: ask again with 0) and, where something
    changed, ``title``, ``counts``, ``answers``, ``notices``, ``footer`` (HTML), ``hosts`` (name -> ``<tbody>`` of what changed), ``order``
    (with 0 alone), and for the grid ``cells`` instead of ``hosts``.
    """
    options, asked = _laid_out(cluster, options), options
    answer: dict[str, Any] = {
        "version": cluster.version,
        "read_at": words.clock_seconds(cluster.taken_at, cluster.timezone),
        "order_id": _order_id(cluster, options),
        "changed": since <= 0 or since < cluster.version or any(_news(cluster, node, since) for node in cluster.nodes),
    }
    if not answer["changed"]:
        return answer
    whole_page = not options.filtered and options.page < 1 and options.layout != "flat"
    counted = tallies(cluster, fragments)
    counts = figures(counted)
    answer.update(
        title=_title(cluster, counts),
        counts=counts_html(cluster, asked, counts),
        answers=_summary(cluster, counted, options, fragments, anchored=whole_page),
        notices=notices_html(cluster),
        footer=_footer(cluster, asked),
    )
    if options.layout == "grid":
        answer["cells"] = grid_cells(cluster, options, since, fragments)
        return answer
    found = shown(cluster, options)
    options, _ = _paged(options, len(found))
    rows = _merged(options, page_of(found, options))
    answer["hosts"] = {
        key: html for key, _, html in _blocks(cluster, options, [row for row in rows if _news(cluster, row[0], since)], fragments)
    }
    if since <= 0:
        answer["order"] = [words.clean(_key(options, row)) for row in rows]
    past = past_of(cluster, "/")
    if past is not None:
        answer["hosts"] = {key: keep_moment(html, past) for key, html in answer["hosts"].items()}
    return answer


def host_element(cluster: ClusterNow, name: str) -> str | None:
    """The part of the table about one host; None where there is none of that name."""
    node = next((node for node in cluster.nodes if node.name == name), None)
    return None if node is None else written(host_body(node, node.gpus, _moment(cluster)))


def host_page(cluster: ClusterNow, name: str, options: ViewOptions, charts: str = "") -> str:
    """One host with its GPUs, charts (HTML of ``html_charts``), processes and machine. An unknown name gives a message page."""
    node = next((node for node in cluster.nodes if node.name == name), None)
    if node is None:
        return message_page(
            "No such host", f"No line of the hosts file is named {name[:200]!r}.", "Next: look at the list of all hosts.", cluster.title
        )
    body = host_main(node, _moment(cluster), charts)
    return _detail_page(cluster, f"{node.name} - gpuwatch", body, f"{host_url(node.name)}?term=true", bool(charts))


def gpu_page(cluster: ClusterNow, uuid: str, options: ViewOptions, charts: str = "") -> str:
    """One GPU with its charts (HTML of ``html_charts``), processes and health. An unknown UUID gives a message page, one without a reading then says why."""
    for node in cluster.nodes:
        for place, view in enumerate(node.gpus):
            if view.reading.uuid == uuid:
                body = gpu_main(node, place, _moment(cluster), charts)
                return _detail_page(cluster, f"{node.name} GPU {view.reading.index} - gpuwatch", body, f"{gpu_url(uuid)}?term=true", bool(charts))
    if cluster.at is not None and cluster.nodes:
        return _detail_page(cluster, f"{uuid[:200]} - gpuwatch", _no_reading(cluster, uuid), f"{gpu_url(uuid)}?term=true", False)
    return message_page("No such GPU", f"No GPU has the UUID {uuid[:200]!r}.", "Next: look at the list of all GPUs.", cluster.title)


# ---- parts


def _title(cluster: ClusterNow, counts: Counter[str]) -> str:
    """The tab's title: the answer, of the past with its time."""
    when = "" if cluster.at is None else f", {words.clock(cluster.at, cluster.asked_at or cluster.at, cluster.timezone)}"
    answer = "No readings" if when and not counts else page_title(counts)
    return f"{answer}{when} - {cluster.title or 'gpuwatch'}"


def _no_reading(cluster: ClusterNow, uuid: str) -> str:
    node = cluster.nodes[0]
    why = node.error or f"{node.name} had other GPUs then."
    return (
        f'<div class="head"><h1><a href="{host_url(node.name)}">{e(node.name)}</a> GPU</h1><span class="soft">{e(uuid)}</span></div>'
        f'<div class="message"><p><b>No reading of this GPU.</b></p><p>{e(why)}</p></div>'
    )

def _moment(cluster: ClusterNow) -> Moment:
    return Moment(cluster.taken_at, cluster.timezone)


def _laid_out(cluster: ClusterNow, options: ViewOptions) -> ViewOptions:
    """The options with the layout that ``view=`` or the size of the cluster chooses."""
    if options.layout:
        return options
    return replace(options, layout="grid" if len(cluster.nodes) > GRID_FROM_HOSTS else "rows")


def _paged(options: ViewOptions, rows: int) -> Tuple[ViewOptions, int]:
    """The options with a page that exists, and how many there are; all on one page where that holds them."""
    pages = page_count(rows, options)
    return (replace(options, page=min(max(1, options.page), pages)) if pages > 1 else replace(options, page=0)), pages


def _summary(cluster: ClusterNow, counted: List[HostTally], options: ViewOptions, fragments: Fragments, anchored: bool) -> str:
    large = options.layout == "grid"
    version = (cluster.version, int(cluster.taken_at // 10))
    moment = _moment(cluster)

    def make() -> str:
        return large_answers_html(cluster, counted, moment) if large else answers_html(cluster, counted, moment, anchored)

    return fragments.get(("answers", options.audience, anchored, large), version, make)


def _table(
    cluster: ClusterNow, options: ViewOptions, asked: ViewOptions, rows: List[Shown], pages: int, fragments: Fragments
) -> str:
    on_page = _merged(options, rows if pages < 2 else page_of(rows, options))
    bodies = "".join(html for _, _, html in _blocks(cluster, options, on_page, fragments))
    sought = " ".join(filter(None, (options.query, options.host, options.user, options.tag, options.model, options.state)))
    none = "" if not rows else " hidden"
    empty = f'<p id="none" class="empty"{none}>No GPU matches <q>{e(sought)}</q>. <a href="{link(ViewOptions(layout=asked.layout))}">Clear the filter</a></p>'
    return (
        f'<table class="gpus" role="table" id="gpus" aria-label="GPUs">{table_head(asked)}{bodies}</table>{empty}'
    )


def _merged(options: ViewOptions, rows: List[Shown]) -> List[Shown]:
    """In the list of all GPUs a host that is away is one message, where its first GPU would stand."""
    if options.layout != "flat":
        return rows
    merged: List[Shown] = []
    seen = set()
    for node, gpus in rows:
        if node.status not in AWAY:
            merged.append((node, gpus))
        elif node.name not in seen:
            seen.add(node.name)
            merged.append((node, ()))
    return merged


def _blocks(cluster: ClusterNow, options: ViewOptions, rows: List[Shown], fragments: Fragments) -> List[Block]:
    moment = _moment(cluster)
    flat = options.layout == "flat"
    return [(words.clean(_key(options, row)), row[0], _body(row, moment, options.audience, flat, fragments)) for row in rows]


def _body(row: Shown, moment: Moment, audience: str, flat: bool, fragments: Fragments) -> str:
    node, gpus = row
    version = (node.version, _bucket(node, moment.now))
    if flat:
        view = gpus[0] if gpus else None
        return fragments.get(("flat", flat_key(node, view), audience), version, lambda: flat_body(node, view, moment))
    if gpus is not None:
        part = tuple(view.reading.index for view in gpus)
        return fragments.get(("host", node.name, audience, part), version, lambda: written(host_body(node, gpus, moment)))

    def draw(node: NodeState, gpus: Tuple[GpuView, ...], now: Any) -> Iterable[Piece]:
        return host_body(node, gpus, Moment(now, moment.zone))

    key = ("host", audience, moment.zone)
    return fragments.get((*key, node.name), version, lambda: drawn(node, moment.now, fragments, key, draw, recent=True))


def _key(options: ViewOptions, row: Shown) -> str:
    node, gpus = row
    if options.layout != "flat":
        return node.name
    return flat_key(node, gpus[0] if gpus else None)


def _bucket(node: NodeState, now: float) -> int:
    """Changes as often as the spans of a node that brings no new readings: each minute, each 5 s where they count seconds."""
    if node.status == "up":
        return 0
    return int(now // 5) if _counts_seconds(node, now) else int(now // 60)


def _counts_seconds(node: NodeState, now: float) -> bool:
    return node.status == "stale" or (node.status_since_at is not None and now - node.status_since_at < 70)


def _news(cluster: ClusterNow, node: NodeState, since: int) -> bool:
    if since <= 0 or node.version > since:  # of the past nothing has a version
        return True
    return node.status != "up" and (_minute_turned(cluster) or _counts_seconds(node, cluster.taken_at))


def _minute_turned(cluster: ClusterNow) -> bool:
    """A page that asks every 5 or 10 s sees this once or twice a minute: time to say "13 min" where "12 min" stood."""
    return cluster.taken_at % 60 < 2 * GRID_POLL_SECONDS and any(node.status != "up" for node in cluster.nodes)


def _order_id(cluster: ClusterNow, options: ViewOptions) -> str:
    """Differs when a host (or, in the list of GPUs, a GPU) comes or goes; not when the order of a sorted table changes."""
    rows = _merged(options, shown(cluster, replace(options, sort="hosts", descending=False, page=0)))
    return f"{zlib.crc32(chr(0).join(_key(options, row) for row in rows).encode('utf-8', 'replace')):08x}"


def _address(options: ViewOptions, **changes: object) -> str:
    pairs = query_pairs(options, **changes)
    return f"/?{urlencode(pairs, safe=':')}" if pairs else "/"


def _live_address(options: ViewOptions) -> str:
    return "/live?" + _address(options, page=options.page or "").partition("?")[2]


def _footer(cluster: ClusterNow, options: ViewOptions) -> str:
    up = sum(1 for node in cluster.nodes if node.status == "up")
    read = f"Read {words.clock_seconds(cluster.taken_at, cluster.timezone)}, every {cluster.interval_seconds:g} s"
    answer = "answers" if len(cluster.nodes) == 1 else "answer"
    if cluster.at is not None:
        read, answer = f"As it was {words.date_time(cluster.at, cluster.timezone)}", "has a reading" if len(cluster.nodes) == 1 else "have a reading"
    return (
        f'<span id="read-line">{read}; {up:,} of {words.plural(len(cluster.nodes), "node")} {answer}</span>'
        f"<span>Times are {words.zone_label(cluster.taken_at, cluster.timezone)}</span>"
        f'<span><a href="{link(options, format="json", view="")}">JSON</a> <a href="{link(options, format="csv", view="")}">CSV</a></span>'
    )


def _detail_page(cluster: ClusterNow, title: str, body: str, terminal: str, charts: bool) -> str:
    address = terminal.partition("?")[0]
    moment = words.moment(cluster.at, cluster.timezone)
    zone = f"<span>Times are {words.zone_label(cluster.taken_at, cluster.timezone)}</span>"
    twins = f'<span><a href="{e(address)}?format=json">JSON</a> <a href="{e(address)}?format=csv">CSV</a></span>'
    return page(
        Frame(
            title=title, lab=cluster.title, main_html=f'<div id="notices">{notices_html(cluster)}</div>{body}',
            read_at=words.clock_seconds(cluster.taken_at, cluster.timezone), live="page", poll_seconds=POLL_SECONDS, version=cluster.version,
            footer_html=zone + twins, terminal=with_moment(terminal, moment) if moment else terminal, here="", css="view-detail", charts=charts,
            address=address, past=past_of(cluster, address),
        )
    )  # fmt: skip


def _no_nodes() -> str:
    return (
        '<div class="message"><p><b>No nodes yet.</b></p><p class="next">Next: run <code>gpuwatch node</code> on a GPU machine '
        "and put its name into the hosts file.</p></div>"
    )
