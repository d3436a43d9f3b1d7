"""The frame of every page: head, top bar, footer. Pure. The pages run under a strict content policy: nothing inline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from gpuwatch.render import words
from gpuwatch.render.html_parts import SPRITE, e
from gpuwatch.render.html_past import FIRST_LOOK, Past, band, keep_moment, with_moment
from gpuwatch.render.static_files import static_url

KEYS = (
    ("/", "filter"), ("f", "free only"), ("Esc", "clear, close"), (", .", "earlier, later by one reading"), ("&lt; &gt;", "previous, next change of a process"),
    ("l", "back to live"), ("?", "this list"),
    ("Home End", "in the grid: first, last host"), ("Arrows", "in the grid: next host or GPU"), ("Enter", "in the grid: open the host"),
    ("← → PgUp PgDn", "in charts: move the reading line"),
)  # fmt: skip

PAGES = (("cluster", "/", "Cluster"), ("history", "/history", "History"), ("reports", "/reports", "Reports"))
"""(name, address, word) of the pages in the top bar."""
MORE_PAGES = (("/hubs", "Hubs"), ("/import", "Imports"))
"""(address, word) of the pages that few need: in the footer."""


@dataclass(frozen=True)
class Frame:
    """What a page puts into the frame. Texts are plain, ``*_html`` are not escaped again."""

    title: str
    lab: str
    main_html: str
    heading_html: str = ""
    """Under the top bar, sticky with it: figures and filter."""
    read_at: str = ""
    """When the readings were taken, as the clock in the bar shows it."""
    live: str = ""
    """Where the page asks for news; empty = it does not."""
    poll_seconds: float = 5.0
    version: int = 0
    order: str = ""
    footer_html: str = ""
    terminal: str = ""
    """Path and query of the page's twin in a terminal."""
    here: str = "cluster"
    css: str = ""
    address: str = ""
    """Path and query of this page, where it can be asked about the past; empty = it cannot."""
    past: Optional[Past] = None
    """The moment that the page shows; None = now."""
    charts: bool = False
    """The page has charts: their style sheet and scripts come along."""
    sheet: bool = False
    """The style sheet of charts and reports alone."""


def page(frame: Frame) -> str:
    """A whole page. One of the past asks for no news, and its links stay at the moment."""
    past, moment = frame.past, ""
    if past is not None:
        frame = _in_the_past(frame, past)
        moment = f' data-at="{e(words.moment(past.at, past.zone))}"'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{e(frame.title)}</title><link rel="icon" href="{static_url("icon.svg")}">'
        f'<link rel="stylesheet" href="{static_url("app.css")}"><script src="{static_url("app.js")}" defer></script>{_chart_files(frame)}</head>'
        f'<body class="{frame.css}" data-live="{e(frame.live)}" data-poll="{frame.poll_seconds:g}" data-version="{frame.version}" data-root="/" '
        f'data-order="{e(frame.order)}"{moment}><a class="skip" href="#main">Skip to the GPUs</a>{SPRITE}'
        f'<header class="top">{_bar(frame)}{band(past) if past else ""}{frame.heading_html}</header>'
        f'<main id="main" tabindex="-1">{frame.main_html}</main>{_footer(frame)}{_keys()}</body></html>\n'
    )


def _in_the_past(frame: Frame, past: Past) -> Frame:
    return replace(
        frame,
        main_html=keep_moment(frame.main_html, past),
        heading_html=keep_moment(frame.heading_html, past),
        footer_html=keep_moment(frame.footer_html, past),
        live="",
        version=0,
        css=f"{frame.css} is-past".strip(),
    )


def _chart_files(frame: Frame) -> str:
    sheet = f'<link rel="stylesheet" href="{static_url("charts.css")}">' if frame.charts or frame.sheet else ""
    if not frame.charts:
        return sheet
    return (
        f'<link rel="stylesheet" href="{static_url("uplot.css")}">{sheet}'
        f'<script src="{static_url("uplot.js")}" defer></script><script src="{static_url("charts.js")}" defer></script>'
    )


def _bar(frame: Frame) -> str:
    lab = f"<span>{e(frame.lab)}</span>" if frame.lab else ""
    current = ' aria-current="page"'
    pages = "".join(f'<li><a href="{address}"{current if frame.here == name else ""}>{word}</a></li>' for name, address, word in PAGES)
    bar = (
        f'<div class="bar"><a class="brand" href="/">gpuwatch{lab}</a>'
        f'<nav aria-label="Pages"><ul>{pages}</ul></nav><span class="gap"></span>'
    )
    return f"{keep_moment(bar, frame.past) if frame.past else bar}{_time(frame)}</div>"


def _time(frame: Frame) -> str:
    """The clock of a page of now, with the way to the past."""
    if frame.past is not None or not frame.read_at:
        return ""
    goto = f'<a class="btn" id="goto" href="{e(with_moment(frame.address, FIRST_LOOK))}">Go to a past time</a>' if frame.address else ""
    return (
        '<div class="time" role="group" aria-label="Time shown">'
        f'<span class="btn live" id="live"><span class="dot"></span><span id="live-word">Read</span> <time id="read-at">{e(frame.read_at)}</time></span>'
        f"{goto}</div>"
    )


def _footer(frame: Frame) -> str:
    twin = ""
    if frame.terminal:
        twin = f'<span>In a terminal: <code id="curl" data-path="{e(frame.terminal)}">curl \'HUB{e(frame.terminal)}\'</code></span>'
    found = [("/", "filter"), ("f", "free only")] if frame.heading_html else []
    found += [(",", "earlier")] if frame.address or frame.past else []
    keys = " ".join(f"<kbd>{key}</kbd> {what}" for key, what in (*found, ("?", "all")))
    keys = f'<span class="js">Keys: {keys}</span>'
    more = " ".join(f'<a href="{address}">{word}</a>' for address, word in MORE_PAGES)
    return f'<footer><div id="facts-line">{frame.footer_html}</div>{twin}{keys}<nav aria-label="More pages">{more}</nav></footer>'


def _keys() -> str:
    rows = "".join(f"<dt>{''.join(f'<kbd>{key}</kbd>' for key in keys.split())}</dt><dd>{what}</dd>" for keys, what in KEYS)
    return (
        f'<dialog id="keys" aria-labelledby="keys-h"><h2 id="keys-h">Keys</h2><dl>{rows}</dl>'
        '<form method="dialog"><button>Close</button></form></dialog>'
    )


def message_page(title: str, text: str, next_step: str = "", lab: str = "") -> str:
    """A page that says one thing: not found, refused, failed. What, which value, and what to do next."""
    step = f'<p class="next">{e(next_step)}</p>' if next_step else ""
    body = f'<div class="message"><h1>{e(title)}</h1><p>{e(text)}</p>{step}<p><a href="/">All GPUs</a></p></div>'
    return page(Frame(title=f"{words.clean(title)} - gpuwatch", lab=lab, main_html=body, here=""))
