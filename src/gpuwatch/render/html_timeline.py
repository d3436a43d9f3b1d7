"""Who was where when: a lane a user (or a GPU) with a bar a process, as SVG that needs no script; and the same as a table. Pure.

Commands were cut to what the audience may see before they came here.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.series import PastProcess
from gpuwatch.render import words
from gpuwatch.render.chart_window import Window
from gpuwatch.render.charts import gpu_name, until_words
from gpuwatch.render.html_parts import e, gpu_url, not_reported, plain_link

MOST_LANES = 12
MOST_ROWS = 200
LANE = 22
"""Height of a lane in pixels."""
_LETTER_SHARE = 0.9
"""About how many percent of the axis a letter takes on a usual screen."""


class Bar(NamedTuple):
    """One process, or several that touch: from, to, what stands at it, the whole sentence."""

    start_at: float
    end_at: float
    label: str
    title: str


class Lane(NamedTuple):
    """One line of the drawing."""

    name: str
    href: str
    """Where the name leads; already escaped."""
    bars: Tuple[Bar, ...]


def lanes_by_user(found: Sequence[PastProcess], now: float, zone: str) -> List[Lane]:
    """A lane a user, the one with most hours first; what nobody is known for stands last."""
    return _lanes([(one.interval.user or "", one) for one in found], now, zone, lambda user, _: plain_link(user=user) if user else "", "unknown user")


def lanes_by_gpu(found: Sequence[PastProcess], now: float, zone: str) -> List[Lane]:
    """A lane a GPU, the one with most hours first."""
    return _lanes([(gpu_name(one), one) for one in found], now, zone, lambda _, one: gpu_url(one.interval.gpu_uuid), "")


def _lanes(
    pairs: Iterable[Tuple[str, PastProcess]], now: float, zone: str, link: Callable[[str, PastProcess], str], nobody: str
) -> List[Lane]:
    found: Dict[str, List[PastProcess]] = {}
    for name, process in pairs:
        found.setdefault(name, []).append(process)
    order = sorted(found, key=lambda name: (not name, -sum(_seconds(one) for one in found[name]), name))
    return [Lane(name or nobody, link(name, found[name][0]), tuple(_bar(one, now, zone) for one in sorted(found[name], key=_begin))) for name in order]


def _begin(process: PastProcess) -> float:
    return process.interval.start_at


def _seconds(process: PastProcess) -> float:
    return process.interval.end_at - process.interval.start_at


def _bar(process: PastProcess, now: float, zone: str) -> Bar:
    interval = process.interval
    program = words.short_command(interval.command) or words.clean(interval.name) or "unknown program"
    memory = f", up to {words.gb(interval.peak_memory_bytes)} GB" if interval.peak_memory_bytes is not None else ""
    span = words.span(_seconds(process))
    title = (
        f"{words.clean(interval.user) or 'unknown user'}, pid {interval.pid}, {words.clock(interval.start_at, now, zone)} to "
        f"{until_words(process, now, zone)}, {span}{memory}: {program}"
    )
    return Bar(interval.start_at, interval.end_at, f"{program}, {span}", title)


def lanes_html(lanes: Sequence[Lane], window: Window, title: str, note: str) -> str:
    """A strip of the charts with at most 12 lanes; how many more there are stands below them."""
    shown = lanes[:MOST_LANES]
    if not shown:
        return f'<section class="strip"><h2>{e(title)} <small>nobody, as far as is recorded</small></h2></section>'
    names = "".join(f"<li>{_name(lane)}</li>" for lane in shown)
    more = f'<li class="mute">+{len(lanes) - len(shown)} more</li>' if len(lanes) > len(shown) else ""
    rows = "".join(_lane(lane, place, window) for place, lane in enumerate(shown))
    return (
        f'<section class="strip people"><h2>{e(title)} <small>{e(note)}</small></h2><ul class="who">{names}{more}</ul>'
        f'<svg class="lanes" width="100%" height="{LANE * (len(shown) + bool(more))}" role="group" aria-label="{e(title)}; the table below tells the same">{rows}</svg></section>'
    )


def _name(lane: Lane) -> str:
    return f'<a href="{lane.href}">{e(lane.name)}</a>' if lane.href else f'<span class="mute">{e(lane.name)}</span>'


def _lane(lane: Lane, place: int, window: Window) -> str:
    y = place * LANE
    bars = [bar for bar in lane.bars if bar.end_at > window.start_at and bar.start_at < window.end_at]
    drawn = "".join(_rect(bar, y, window) for bar in bars)
    return f'<path class="row" d="M0 {y + 0.5}h10000"/>{drawn}{_labels(lane.name, bars, y, window)}'


def _rect(bar: Bar, y: int, window: Window) -> str:
    left, right = 100 * window.share(bar.start_at), 100 * window.share(bar.end_at)
    return f'<rect class="span" x="{left:.2f}%" y="{y + 4}" width="{max(right - left, 0.15):.2f}%" height="14"><title>{e(bar.title)}</title></rect>'


def _labels(name: str, bars: Sequence[Bar], y: int, window: Window) -> str:
    """What runs, in the bar where it fits, else behind it where there is room until the next; clipped by a drawing of its own."""
    found, free_from, reach = [], 0.0, 0.0
    for place, bar in enumerate(bars):
        left, right = 100 * window.share(bar.start_at), 100 * window.share(bar.end_at)
        following = 100 * window.share(bars[place + 1].start_at) if place + 1 < len(bars) else 100.0
        needed = _LETTER_SHARE * min(len(bar.label), 24)
        reach = max(reach, right)  # another bar may end later than the one that began last
        if left >= free_from and right - left >= needed:
            found.append(_text(name, bar.label, left, right, y, "in"))
            free_from = right
        elif right >= max(free_from, reach) and following - right >= needed:
            found.append(_text(name, bar.label, right, following, y, ""))
            free_from = following
    return "".join(found) or _name_alone(name, bars, y, window)


def _name_alone(name: str, bars: Sequence[Bar], y: int, window: Window) -> str:
    """On a phone, where no names stand before the lanes: whose lane it is, in the wider of the rooms before and behind bars without a label."""
    if not bars:
        return ""
    before, behind = 100 * window.share(bars[0].start_at), 100 * window.share(max(bar.end_at for bar in bars))
    left, right = (0.0, before) if before >= 100 - behind else (behind, 100.0)
    return (
        f'<svg x="{left:.2f}%" y="{y}" width="{right - left:.2f}%" height="{LANE}" aria-hidden="true" pointer-events="none">'
        f'<text class="only-narrow" x="4" y="15">{e(name)}</text></svg>'
    )


def _text(name: str, label: str, left: float, right: float, y: int, css: str) -> str:
    who = f'<tspan class="only-narrow">{e(name)} </tspan>'
    return (
        f'<svg x="{left:.2f}%" y="{y}" width="{right - left:.2f}%" height="{LANE}" aria-hidden="true" pointer-events="none">'
        f'<text class="{css}" x="4" y="15">{who}{e(label[:160])}</text></svg>'
    )


# ---- the table


def process_intervals(found: Sequence[PastProcess], now: float, zone: str, with_gpu: bool = False, csv_url: str = "") -> str:
    """All of them as a table, newest first, at most 200. ``csv_url``: where all of them are a file; escaped already."""
    if not found:
        return ""
    rows = "".join(_row(one, now, zone, with_gpu) for one in sorted(found, key=_begin, reverse=True)[:MOST_ROWS])
    gpu = '<th scope="col">GPU</th>' if with_gpu else ""
    cut = f", the newest {MOST_ROWS}" if len(found) > MOST_ROWS else ""
    csv = f'<p class="small"><a href="{csv_url}" download>CSV</a></p>' if csv_url else ""
    return (
        f'<details class="numbers"><summary>Who was on it: {words.plural(len(found), "process", "processes")}{cut}</summary>{csv}<div class="scroll"><table class="list procs">'
        f'<thead><tr><th scope="col">User</th>{gpu}<th scope="col" class="num">PID</th><th scope="col">From</th><th scope="col">To</th><th scope="col" class="num">GPU GB, peak</th>'
        f'<th scope="col" class="num">mean</th><th scope="col">Command</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _row(process: PastProcess, now: float, zone: str, with_gpu: bool) -> str:
    one = process.interval
    user = f'<b><a href="{plain_link(user=one.user)}">{e(one.user)}</a></b>' if one.user else '<span class="mute">unknown</span>'
    gpu = f'<td><a href="{gpu_url(one.gpu_uuid)}">{e(gpu_name(process))}</a></td>' if with_gpu else ""
    return (
        f'<tr><td>{user}</td>{gpu}<td class="num" data-of="PID">{one.pid}</td><td data-of="from">{e(words.clock(one.start_at, now, zone))}</td>'
        f'<td data-of="to">{e(until_words(process, now, zone))}</td>{_gb(one.peak_memory_bytes, "peak GB")}{_gb(one.mean_memory_bytes, "mean GB")}'
        f'<td class="wide cmd">{e(one.command or one.name) or not_reported()}</td></tr>'
    )


def _gb(size_bytes: Optional[float], of: str) -> str:
    return f'<td class="num" data-of="{of}">{words.gb(size_bytes) or not_reported(short=True)}</td>'
