"""The time machine on a page: the dark band with the moment, steps, slider and the way back; and links that stay at the moment. Pure.

Everything works by links and forms; the script only makes the slider quicker. Nothing here knows a reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from typing import List, Optional, Tuple
from urllib.parse import parse_qsl, quote, urlencode

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.render import words
from gpuwatch.render.html_parts import e

HOUR, DAY = 3600.0, 86400.0
MOST_TICKS = 8
FIRST_LOOK = "-10m"
"""Where *Go to a past time* leads from a page of now; from there the band leads anywhere."""
_TICK_HOURS = (1, 2, 3, 6, 12)
_TICK_DAYS = (1, 2, 7, 14, 28, 91, 364)
_OURS = re.compile(r'(<a\b[^<>]*? href=")(/(?:(?:hosts|gpus)/[^"?#]*)?)(\?[^"#]*)?([#"])')
"""Addresses of pages that can be asked about the past, as the pages write them."""


@dataclass(frozen=True)
class Past:
    """The moment that a page shows. Times are epoch seconds."""

    at: float
    now: float
    zone: str
    step_seconds: float
    """Time between two readings then."""
    kept_since_at: Optional[float]
    address: str
    """Path and query of this page, without ``at``."""

    def link(self, at: float) -> str:
        """This page at another moment, escaped for an attribute."""
        return e(with_moment(self.address, words.moment(at, self.zone)))


def past_of(cluster: ClusterNow, address: str) -> Optional[Past]:
    """What the band of a page needs; None for a page of now. ``address``: its path and query, with or without ``at``."""
    if cluster.at is None:
        return None
    asked_at = cluster.at if cluster.asked_at is None else cluster.asked_at
    return Past(cluster.at, asked_at, cluster.timezone, max(cluster.interval_seconds, 1.0), cluster.kept_since_at, with_moment(address, ""))


def with_moment(address: str, moment: str) -> str:
    """A path and query that ask about ``moment`` (as written in addresses); empty = about now."""
    path, _, query = address.partition("?")
    pairs = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] not in ("at", "change")]
    pairs += [("at", moment)] if moment else []
    return f"{path}?{urlencode(pairs, safe=':', quote_via=quote)}" if pairs else path


def keep_moment(html: str, past: Past) -> str:
    """The HTML with every link to a page of ours staying at the moment. Text from outside can make no link: it is escaped."""
    moment = words.moment(past.at, past.zone)

    def kept(match: re.Match[str]) -> str:
        head, path, query, tail = match.groups()
        return f"{head}{e(with_moment(unescape(path + (query or '')), moment))}{tail}"

    return _OURS.sub(kept, html)


# ---- the band


def band(past: Past) -> str:
    """The band under the top bar."""
    ago = words.span_long(past.now - past.at)
    return (
        f'<div class="bar past" role="region" aria-label="Time machine"><span class="then"><b>{words.date_time(past.at, past.zone)}</b> '
        f'<span id="ago">{ago} ago</span></span>{_steps(past)}{_slider(past)}{_picker(past)}'
        f'<a class="btn back" id="back" href="{e(past.address)}">Back to live</a></div>'
    )


def _steps(past: Past) -> str:
    first, step = past.kept_since_at, past.step_seconds
    if first is None:
        return ""
    if past.at < first:
        return f'<a class="btn" id="after" href="{past.link(first)}">First reading ›</a>'
    small, hour = words.span(step), words.span(HOUR).removesuffix(" 00 m")
    return (
        '<span class="steps" role="group" aria-label="Other times">'
        + _step(past, "earlier", f"« {hour}", max(first, past.at - HOUR), f"{hour} earlier")
        + _step(past, "before", f"‹ {small}", max(first, past.at - step), f"{small} earlier")
        + _step(past, "after", f"{small} ›", past.at + step, f"{small} later")
        + _step(past, "later", f"{hour} »", past.at + HOUR, f"{hour} later")
        + "</span>"
        + '<span class="steps" role="group" aria-label="Changes of processes">'
        + _change(past, "before", "‹ change", "Previous change: a process began or ended")
        + _change(past, "after", "change ›", "Next change: a process began or ended")
        + "</span>"
    )


def _change(past: Past, way: str, word: str, title: str) -> str:
    """Where it leads is looked up when somebody goes there: of a thousand GPUs that takes longer than the page."""
    address = with_moment(past.address, words.moment(past.at, past.zone))
    return f'<a class="btn" id="changed-{way}" href="{e(f"{address}&change={way}")}" title="{title}" aria-label="{title}">{word}</a>'


def _step(past: Past, name: str, word: str, at: float, title: str) -> str:
    if at == past.at or at > past.now:
        return f'<span class="btn" aria-disabled="true">{word}</span>'
    return f'<a class="btn" id="{name}" href="{past.link(at)}" title="{title}" aria-label="{title}">{word}</a>'


def _hidden(past: Past) -> str:
    pairs = parse_qsl(past.address.partition("?")[2], keep_blank_values=True)
    return "".join(f'<input type="hidden" name="{e(name)}" value="{e(value)}">' for name, value in pairs)


def _form(past: Past, css: str, inside: str) -> str:
    path = e(past.address.partition("?")[0])
    return f'<form class="{css}" action="{path}" method="get">{_hidden(past)}{inside}</form>'


def _slider(past: Past) -> str:
    """From the first reading kept to now, in steps of one reading."""
    first, step = past.kept_since_at, max(1, round(past.step_seconds))
    if first is None or past.now - first < 2 * step:
        return ""
    at = int(past.at)
    least = at - max(0, int((at - first) // step)) * step
    field = (
        f'<input type="range" id="slider" name="at" min="{least}" max="{int(past.now)}" step="{step}" value="{at}" data-zone="{e(past.zone)}" '
        f'aria-label="Time shown" aria-valuetext="{words.date_time(past.at, past.zone)}">'
    )
    return _form(past, "slide", f'<span class="track">{field}{_ticks(least, past.now, past.zone)}</span><button class="nojs">Go</button>')


def _picker(past: Past) -> str:
    least = "" if past.kept_since_at is None else f' min="{words.moment(past.kept_since_at // 60 * 60, past.zone)[:19]}"'
    field = (
        f'<input type="datetime-local" name="at" step="1" required aria-label="Go to a time" value="{words.moment(past.at, past.zone)[:19]}"{least} '
        f'max="{words.moment(past.now, past.zone)[:19]}">'
    )
    return _form(past, "when", f"{field}<button>Go</button>")


def _ticks(start: float, end: float, zone: str) -> str:
    marks = []
    for at, word in tick_times(start, end, zone):
        place = 100 * (at - start) / (end - start)
        if place < 94:
            marks.append(f'<text x="{place:.2f}%" dx="4" y="9">{word}</text><line x1="{place:.2f}%" x2="{place:.2f}%" y2="10"/>')
    return f'<svg class="days" aria-hidden="true">{"".join(marks)}</svg>'


def tick_times(start: float, end: float, zone: str) -> List[Tuple[float, str]]:
    """(epoch seconds, word) of round times between: hours, midnights or every so many days, at most MOST_TICKS, by the zone's calendar."""
    span = end - start
    hours = next((hours for hours in _TICK_HOURS if span / HOUR / hours <= MOST_TICKS), 0)
    days = 1 if hours else next((days for days in _TICK_DAYS if span / DAY / days <= MOST_TICKS), int(span / DAY / MOST_TICKS) + 1)
    tzinfo = words.zone_of(zone)
    day = datetime.fromtimestamp(start, tzinfo).replace(hour=0, minute=0, second=0, microsecond=0)
    found: List[Tuple[float, str]] = []
    while day.timestamp() < end:
        for hour in range(0, 24, hours) if hours else (0,):
            at = day.replace(hour=hour).timestamp()
            if start <= at < end:
                found.append((at, _tick_word(day, hour, days)))
        day = day.replace(tzinfo=None) + timedelta(days=days)
        day = day.replace(tzinfo=tzinfo)
    return found


def _tick_word(day: datetime, hour: int, days: int) -> str:
    if hour:
        return f"{hour:02d}:00"
    return f"{words.DAYS[day.weekday()]} {day.day}" if days == 1 else f"{day.day} {words.MONTHS[day.month - 1]}"
