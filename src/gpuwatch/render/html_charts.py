"""Charts of the past as HTML: strips on one time axis, drawn here as SVG, so that they are there with the first byte and without a script.

``static/charts.js`` draws the same strips with uPlot where it runs; it reads the ``data-`` attributes of a strip and asks ``/api/v1/series``.
Pure. No inline style: places are attributes of SVG, in percent.
"""

from __future__ import annotations

from html import escape
from typing import Dict, List, Optional, Sequence, Tuple
from urllib.parse import urlencode

from gpuwatch.model.imports import IMPORTED
from gpuwatch.model.series import Series
from gpuwatch.render import words
from gpuwatch.render.chart_strips import Row, Strip, rows, runs, shown, summary, top_of, total
from gpuwatch.render.chart_window import LEAST_USER_SECONDS, RANGES, Window, ticks
from gpuwatch.render.charts import Charts, counted_words, kept_words, nothing_words
from gpuwatch.render.html_parts import e, gpu_url, host_url
from gpuwatch.render.html_timeline import lanes_by_gpu, lanes_by_user, lanes_html, process_intervals

TABLE_ROWS = 48
COLUMNS = ("bars", "hold")
"""Kinds of strips with sums in columns."""
HELD = (
    '<svg class="sprite" width="0" height="0" aria-hidden="true" focusable="false"><defs><pattern id="held" width="5" height="5" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" class="heldground"/>'
    '<path d="M1.5 0v5" class="heldline"/></pattern></defs></svg>'
)
"""The orange hatch, once on a page with charts."""
_WIDE, _HIGH = 1000, 100
"""The drawing's own units; it is stretched to its place."""


def charts_html(charts: Charts, page: str = "/history") -> str:
    """The section with ranges, strips, axis and table. ``page``: address of the page without its query."""
    body = f'<p class="note">{e(charts.trouble)}</p>' if charts.trouble else _stack(charts)
    zoom = ' data-live="1"' if charts.window.range and not charts.at else ""
    return (
        f'<section class="charts" id="charts" aria-label="Charts of {e(charts.window.label)}" data-name="{e(charts.subject)}" '
        f'data-start="{charts.window.start_at}" data-end="{charts.window.end_at}" data-step="{charts.window.step_seconds}" data-zone="{e(charts.timezone)}" data-page="{e(_moments_page(charts, page))}"{zoom}>'
        f'{HELD}{_steering(charts, page)}<p class="loading" id="loading" role="status"></p>{body}</section>'
    )


def _moments_page(charts: Charts, page: str) -> str:
    """The page that can show a single moment of the subject."""
    if page != "/history" or charts.by_gpu:
        return "/" if page == "/history" else page
    if charts.host.startswith(IMPORTED):  # it has no page of its own
        return "/"
    return gpu_url(charts.gpu) if charts.gpu else host_url(charts.host) if charts.host else "/"


# ---- what one steers the charts with


def _steering(charts: Charts, page: str) -> str:
    """Ranges as links, a form for any other span, and the same data as files."""
    window = charts.window
    links = "".join(
        f'<a class="btn" href="{_address(charts, page, range=name)}" data-label="{label}"{_current(name == window.range)}>{label}</a>'
        for name, label, seconds in RANGES
        if not charts.user or seconds >= LEAST_USER_SECONDS
    )
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{e(value)}">'
        for name, value in _subject(charts, page).items()
        if value
    )
    start, end = (words.iso(at, charts.timezone)[:16].replace("T", " ") for at in (window.start_at, min(window.end_at, charts.now)))
    form = (
        f'<form class="between" action="{e(page)}" method="get">{hidden}<label>from <input name="from" size="15" value="{start}" autocomplete="off"></label>'
        f'<label>to <input name="to" size="15" value="{end}" autocomplete="off"></label><button>Show</button></form>'
    )
    files = (
        '<span class="small files"><a id="moment" hidden></a>'
        f'<a href="{history_url(charts, format="csv")}" download>CSV</a> <a href="{history_url(charts, format="json")}">JSON</a> '
        f'<a href="{history_url(charts, term="true", width="120")}">text</a> <button type="button" class="js plain" id="png">PNG</button></span>'
    )
    return f'<div class="ranges"><span class="seg" role="group" aria-label="Range">{links}</span>{form}<span class="gap"></span>{files}</div>'


def _current(is_current: bool) -> str:
    return ' aria-current="true"' if is_current else ""


def _address(charts: Charts, page: str, **query: str) -> str:
    """The page with another span, escaped for an attribute."""
    pairs = [(name, words.clean(value)) for name, value in {**_subject(charts, page), **query}.items() if value]
    return escape(f"{page}?{urlencode(pairs)}", quote=True)


def _subject(charts: Charts, page: str) -> Dict[str, str]:
    """What an address must say beside the span."""
    about = {"host": charts.host, "gpu": charts.gpu, "user": charts.user} if page == "/history" else {}
    return {**about, "at": charts.at}


def history_url(charts: Charts, **query: str) -> str:
    """The same charts at ``/history``, in another form; escaped for an attribute."""
    window = charts.window
    span = {"range": window.range} if window.range else {"from": str(window.start_at), "to": str(window.end_at)}
    pairs = {"host": charts.host, "gpu": charts.gpu, "user": charts.user, "at": charts.at, **span, **query}
    return escape("/history?" + urlencode([(name, words.clean(value)) for name, value in pairs.items() if value]), quote=True)


# ---- the strips


def _stack(charts: Charts) -> str:
    hatches = charts.held
    strips = "".join(_strip(charts, strip, hatches if strip.metric == "memory_used_bytes" else []) for strip in charts.strips)
    kept = _kept(charts)
    first, last = (kept, "") if charts.kept_since_at is None else ("", kept)  # without any reading it is the first thing to know
    return (
        f'{first}<div class="stack{" named" if charts.by_gpu else ""}" id="stack">{strips}{_lanes(charts)}'
        f'<div class="strip foot">{axis_html(charts.window, charts.timezone)}</div></div>{last}{_table(charts)}'
        f'{process_intervals(charts.processes or (), charts.now, charts.timezone, charts.by_gpu, _processes_url(charts))}'
    )


def _lanes(charts: Charts) -> str:
    """Who was on the GPU, or which GPUs the user was on."""
    if charts.processes is None:
        return ""
    if charts.by_gpu:
        lanes = lanes_by_gpu(charts.processes, charts.now, charts.timezone)
        return lanes_html(lanes, charts.window, "GPUs", f"where {charts.user} ran something")
    return lanes_html(lanes_by_user(charts.processes, charts.now, charts.timezone), charts.window, "Processes", "who, and since when")


def _processes_url(charts: Charts) -> str:
    pairs = {"host": charts.host, "gpu": charts.gpu, "user": charts.user, "from": str(charts.window.start_at), "to": str(charts.window.end_at), "format": "csv"}
    return escape("/api/v1/processes?" + urlencode([(name, words.clean(value)) for name, value in pairs.items() if value]), quote=True)


def _strip(charts: Charts, strip: Strip, held: Sequence[Tuple[float, float]]) -> str:
    series, window = charts.series.get(strip.metric), charts.window
    top = top_of(strip, series)
    note = f"{strip.unit}{strip.note}".strip()
    told = f", mean and lowest to highest of {window.step_label}" if strip.kind == "line" and strip is charts.strips[0] else ""
    source = escape(_series_url(charts, strip), quote=True)
    marks = " ".join(f"{since:.0f}-{until:.0f}" for since, until in held)
    return (
        f'<section class="strip" data-src="{source}" data-top="{top:.10g}" data-scale="{strip.scale:.10g}" data-digits="{strip.digits}" '
        f'data-unit="{e(strip.unit)}" data-kind="{strip.kind}" data-limit="{"" if strip.limit is None else f"{strip.limit:.10g}"}" '
        f'data-held="{marks}"><h2>{e(strip.title)} <small>{e(note)}{told}</small></h2>{_labels(strip, top)}'
        f'<div class="plot{" tall" if strip.tall else ""}">{_drawing(charts, strip, series, top, held)}</div>{_read(charts, strip, series)}</section>'
    )


def _series_url(charts: Charts, strip: Strip) -> str:
    window = charts.window
    pairs = {"metric": strip.metric, "host": charts.host, "gpu": charts.gpu, "user": charts.user, "from": window.start_at, "to": window.end_at,
             "step": window.step_seconds}  # fmt: skip
    return "/api/v1/series?" + urlencode([(name, words.clean(str(value))) for name, value in pairs.items() if value != ""])


def _labels(strip: Strip, top: float) -> str:
    highest = top / strip.scale
    whole = 0 if highest >= 10 or (not strip.digits and highest >= 1) else 1
    half = 0 if highest / 2 >= 10 or highest / 2 == int(highest / 2) else 1
    return f'<div class="yax" aria-hidden="true"><span>{shown(highest, whole)}</span><span>{shown(highest / 2, half)}</span><span>0</span></div>'


def _read(charts: Charts, strip: Strip, series: Optional[Series]) -> str:
    """At the right: the last step, and what all of them come to; the script puts the pointed moment here."""
    if series is None:
        return '<p class="read"><b>not read</b></p>'
    told = summary(series)
    if told.mean is None:
        return f'<p class="read"><b class="mute">{nothing_words(charts)}</b></p>'
    if strip.kind in COLUMNS:
        return f'<p class="read"><b>{strip.shown(total(series))} <small>{e(strip.unit)}</small></b><span>in all; a day {strip.shown(told.mean)}, up to {strip.shown(told.maximum)}</span></p>'
    last = f'{strip.shown(told.last)} <small>{e(strip.unit)}</small>' if told.last is not None else "no reading"
    return f'<p class="read"><b>{last}</b><span>mean {strip.shown(told.mean)}, {strip.shown(told.minimum)} to {strip.shown(told.maximum)}</span></p>'


def _spoken(charts: Charts, strip: Strip, series: Optional[Series]) -> str:
    """The strip as a sentence, for those who cannot see it."""
    if series is None:
        return f"{strip.title}: not read"
    told = summary(series)
    if told.mean is None:
        return f"{strip.title}: {nothing_words(charts)}"
    without = sum(until - since for since, until in charts.gaps)
    unit = f" {strip.unit}" if strip.unit else ""
    gap = f"; no readings for {words.span(without)}" if without else ""
    return (
        f"{strip.title}, {charts.window.label}: mean {strip.shown(told.mean)}{unit}, lowest {strip.shown(told.minimum)}, "
        f"highest {strip.shown(told.maximum)}{gap}"
    )


def _drawing(charts: Charts, strip: Strip, series: Optional[Series], top: float, held: Sequence[Tuple[float, float]]) -> str:
    """The picture. What must keep its shape (hatches) lies in percent, what may be stretched in a drawing of its own."""
    lines, hatches, orange = "", "", ""
    if series is not None:
        lines = _lines(strip, series, charts.window, top)
        hatches = "".join(_hatch(charts.window, since, until, "gap") for since, until in charts.gaps)
        orange = "".join(_held_html(charts.window, strip, series, since, until, top) for since, until in held)
    if strip.limit is not None and 0 < strip.limit < top:
        y = _HIGH * (1 - strip.limit / top)
        lines += f'<path class="limit" d="M0 {y:.1f}H{_WIDE}"/>'
    return (
        f'<svg class="chart" width="100%" height="100%" role="img" aria-label="{e(_spoken(charts, strip, series))}">{hatches}'
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" width="100%" height="100%" preserveAspectRatio="none">{lines}</svg>{orange}</svg>'
    )


def _hatch(window: Window, since: float, until: float, pattern: str) -> str:
    left, right = 100 * window.share(since), 100 * window.share(until)
    return f'<rect x="{left:.2f}%" width="{right - left:.2f}%" height="100%" fill="url(#{pattern})"/>' if right > left else ""


def _held_html(window: Window, strip: Strip, series: Series, since: float, until: float, top: float) -> str:
    """Orange under the memory that was held while nothing worked, as high as its lowest mean."""
    within = [mean for at, mean in zip(series.times, series.mean) if since <= at < until and mean is not None]
    high = 100 * min(1.0, (min(within) if within else 0.0) / top)
    left, right = 100 * window.share(since), 100 * window.share(until)
    return f'<rect x="{left:.2f}%" y="{100 - high:.1f}%" width="{right - left:.2f}%" height="{high:.1f}%" fill="url(#held)"/>'


def _lines(strip: Strip, series: Series, window: Window, top: float) -> str:
    if strip.kind in COLUMNS:
        return _bars(strip, series, window, top)
    parts = []
    for first, behind in runs(series.mean):
        xs = _xs(series, window, first, behind)
        means = _ys(series.mean[first:behind], top)
        if strip.kind in ("area", "bad"):
            css = "bad-area" if strip.kind == "bad" else "area"
            parts.append(f'<path class="{css}" d="M{xs[0]} {_HIGH}L{_joined(xs, means)} {xs[-1]} {_HIGH}Z"/>')
        else:
            highest, lowest = _ys(series.maximum[first:behind], top), _ys(series.minimum[first:behind], top)
            parts.append(f'<path class="band" d="M{_joined(xs, highest)} {_joined(xs[::-1], lowest[::-1])}Z"/>')
        parts.append(f'<path class="mean" d="M{_joined(xs, means)}"/>')
    return "".join(parts)


def _bars(strip: Strip, series: Series, window: Window, top: float) -> str:
    """A column a step, from its begin to the next one's: days of 23 and 25 hours are as wide as they are."""
    path = []
    for place, value in enumerate(series.mean):
        if value is not None:
            end = series.times[place + 1] if place + 1 < len(series.times) else series.times[place] + series.step_seconds
            left, right = (_WIDE * (at - window.start_at) / window.seconds for at in (series.times[place], end))
            high = max(_HIGH * min(value, top) / top, 0.8)  # none at all is a line at the bottom, no gap
            path.append(f"M{left + 0.06 * (right - left):.1f} {_HIGH}v-{high:.1f}H{right - 0.06 * (right - left):.1f}V{_HIGH}z")
    return f'<path class="{strip.kind}" d="{"".join(path)}"/>' if path else ""


def _xs(series: Series, window: Window, first: int, behind: int) -> List[str]:
    """The middles of the steps; a step without neighbours is as wide as itself, so that it can be seen."""
    step = series.step_seconds
    scale = _WIDE / window.seconds
    if behind - first == 1:
        at = series.times[first]
        return [f"{(at - window.start_at) * scale:.1f}", f"{(at + step - window.start_at) * scale:.1f}"]
    return [f"{(at + step / 2 - window.start_at) * scale:.1f}" for at in series.times[first:behind]]


def _ys(values: Sequence[Optional[float]], top: float) -> List[str]:
    scale = _HIGH / top
    ys = [f"{_HIGH - min(max(value or 0.0, 0.0), top) * scale:.1f}" for value in values]
    return ys * 2 if len(ys) == 1 else ys


def _joined(xs: Sequence[str], ys: Sequence[str]) -> str:
    return " ".join([f"{x} {y}" for x, y in zip(xs, ys)])


# ---- axis, kept range, table


def axis_html(window: Window, zone: str) -> str:
    """Times under the strips; a new day stands above its first hour. Narrow screens leave out each second one."""
    labels = []
    for place, (at, day, time) in enumerate(ticks(window.start_at, window.end_at, zone)):
        x = 100 * window.share(at)
        css = ' class="second"' if place % 2 else ""
        anchor = "start" if x < 3 else "end" if x > 97 else "middle"
        above = f'<text class="day" x="{x:.2f}%" y="10" text-anchor="{anchor}">{day}</text>' if day else ""
        labels.append(f'{above}<text{css} x="{x:.2f}%" y="24" text-anchor="{anchor}">{time}</text>')
    return f'<svg class="xax" width="100%" height="28" aria-hidden="true">{"".join(labels)}</svg>'


def _kept(charts: Charts) -> str:
    told = " ".join(filter(None, (kept_words(charts), counted_words(charts))))
    return f'<p class="note">{e(told)}</p>' if told else ""


def _table(charts: Charts) -> str:
    """The same numbers as a table of at most 48 rows; all steps are in the CSV."""
    drawn = charts.shown
    if not drawn:
        return ""
    heads = "".join(f'<th scope="col" class="num">{e(strip.title)}{f", {e(strip.unit)}" if strip.unit else ""}</th>' for strip, _ in drawn)
    columns = [rows(series, TABLE_ROWS) for _, series in drawn]
    first = columns[0]
    lines = "".join(
        f'<tr><th scope="row">{e(words.clock(row[0].start_at, charts.now, charts.timezone))}</th>{_cells(charts, row)}<td class="num">{100 * max(one.coverage for one in row):.0f} %</td></tr>'
        for row in zip(*columns)
    )
    each = words.span_long(charts.window.seconds / max(1, len(first)))
    return (
        f'<details class="numbers"><summary>The charts as a table</summary><div class="scroll"><table class="list"><caption class="small">Mean of about {each} each, '
        f"behind it lowest to highest; measured: share of the time with readings. {e(words.zone_label(charts.window.end_at, charts.timezone))}</caption>"
        f'<thead><tr><th scope="col">From</th>{heads}<th scope="col" class="num">Measured</th></tr></thead><tbody>{lines}</tbody></table></div></details>'
    )


def _cells(charts: Charts, row: Sequence[Row]) -> str:
    """One line: a metric that is missing alone was not reported."""
    missing = "not reported" if any(one.mean is not None for one in row) else "no reading"
    return "".join(_cell(strip, one, missing) for (strip, _), one in zip(charts.shown, row))


def _cell(strip: Strip, row: Row, missing: str) -> str:
    if row.mean is None:
        return f'<td class="num mute">{missing}</td>'
    return f'<td class="num">{strip.shown(row.mean)} <small>{strip.shown(row.minimum)} to {strip.shown(row.maximum)}</small></td>'
