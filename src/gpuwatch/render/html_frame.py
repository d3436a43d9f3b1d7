"""The frame of every page: head, top bar, footer. Pure. The pages run under a strict content policy: nothing inline."""

from __future__ import annotations

from dataclasses import dataclass

from gpuwatch.render import words
from gpuwatch.render.html_parts import SPRITE, e
from gpuwatch.render.static_files import static_url

KEYS = (
    ("/", "filter"), ("f", "free only"), ("Esc", "clear, close"), ("?", "this list"),
    ("Home End", "in the grid: first, last host"), ("Arrows", "in the grid: next host or GPU"), ("Enter", "in the grid: open the host"),
)  # fmt: skip

PAGES = (("cluster", "/", "Cluster"), ("history", "/history", "History"))
"""(name, address, word) of the pages in the top bar."""


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
    charts: bool = False
    """The page has charts or reports: their style sheet and scripts come along."""


def page(frame: Frame) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{e(frame.title)}</title><link rel="icon" href="{static_url("icon.svg")}">'
        f'<link rel="stylesheet" href="{static_url("app.css")}"><script src="{static_url("app.js")}" defer></script>{_chart_files() if frame.charts else ""}</head>'
        f'<body class="{frame.css}" data-live="{e(frame.live)}" data-poll="{frame.poll_seconds:g}" data-version="{frame.version}" '
        f'data-order="{e(frame.order)}"><a class="skip" href="#main">Skip to the GPUs</a>{SPRITE}'
        f'<header class="top">{_bar(frame)}{frame.heading_html}</header>'
        f'<main id="main" tabindex="-1">{frame.main_html}</main>{_footer(frame)}{_keys()}</body></html>\n'
    )


def _chart_files() -> str:
    return (
        f'<link rel="stylesheet" href="{static_url("uplot.css")}"><link rel="stylesheet" href="{static_url("charts.css")}">'
        f'<script src="{static_url("uplot.js")}" defer></script><script src="{static_url("charts.js")}" defer></script>'
    )


def _bar(frame: Frame) -> str:
    lab = f"<span>{e(frame.lab)}</span>" if frame.lab else ""
    current = ' aria-current="page"'
    pages = "".join(f'<li><a href="{address}"{current if frame.here == name else ""}>{word}</a></li>' for name, address, word in PAGES)
    time = ""
    if frame.read_at:
        time = (
            '<div class="time" role="group" aria-label="Time shown">'
            f'<span class="btn live" id="live"><span class="dot"></span><span id="live-word">Read</span> <time id="read-at">{e(frame.read_at)}</time></span>'
            '<button type="button" disabled title="The time machine comes with a later version">Go to a past time</button></div>'
        )
    return (
        f'<div class="bar"><a class="brand" href="/">gpuwatch{lab}</a>'
        f'<nav aria-label="Pages"><ul>{pages}</ul></nav><span class="gap"></span>{time}</div>'
    )


def _footer(frame: Frame) -> str:
    twin = ""
    if frame.terminal:
        twin = f'<span>In a terminal: <code id="curl" data-path="{e(frame.terminal)}">curl \'HUB{e(frame.terminal)}\'</code></span>'
    keys = '<span class="js">Keys: <kbd>/</kbd> filter <kbd>f</kbd> free only <kbd>?</kbd> all</span>'
    return f'<footer><div id="facts-line">{frame.footer_html}</div>{twin}{keys}</footer>'


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
