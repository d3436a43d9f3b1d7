"""Charts as text: blocks of an eighth, or ASCII, one strip under the other on one axis of time, and a lane a user. Pure.

A gap is a column of its own sign over the whole height, zero is a line at the bottom, what is not kept is blank: no two of them look alike.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import List, Optional, Sequence, Tuple

from gpuwatch.model.series import PastProcess, Series
from gpuwatch.render import words
from gpuwatch.render.chart_strips import Strip, shown, summary, top_of, total
from gpuwatch.render.chart_window import Window, ticks
from gpuwatch.render.charts import Charts, counted_words, gpu_name, kept_words, nothing_words, until_words
from gpuwatch.render.text_cells import ALARM, BOLD, DIM, Look
from gpuwatch.render.text_words import UNKNOWN

LABEL = 9
"""Columns left of the axis: names of users, numbers of the scale."""
TALL_ROWS, ROWS = 6, 3
NAME = 14
MOST_LANES, MOST_PROCESSES = 20, 40
BLOCKS, GAP, ZERO = " ▁▂▃▄▅▆▇█", "░", "_"
ASCII_BLOCKS, ASCII_GAP = " ...:::##", "/"
"""In ASCII a column ends in ``.`` (up to three eighths), ``:`` (up to six) or ``#``."""
_NOTHING, _GAP = -1.0, -2.0
"""Columns before what is kept or after now; columns in a gap."""


def chart_columns(width: int) -> int:
    """How many columns the drawing has on a screen of this width: at most so many points can be shown."""
    return max(20, width - LABEL - 2)


def charts_text(charts: Charts, look: Look, *, detail: bool = False) -> str:
    """All strips, the axis, who was there, and below it what the signs mean. ``detail``: each process as a line."""
    lines = _heading(charts, look)
    if charts.trouble:
        return _joined([*lines, *look.wrap(charts.trouble, look.width)], look)
    for strip in charts.strips:
        lines += _strip(charts, strip, look)
    lines += _lanes(charts, look)
    lines += _axis(charts.window, charts.timezone, look)
    if detail and charts.processes:
        lines += ["", *_processes(charts, look)]
    return _joined([*lines, "", *_notes(charts, look)], look)


def _joined(lines: Sequence[str], look: Look) -> str:
    return look.final("\n".join(line.rstrip() for line in lines) + "\n")


def _heading(charts: Charts, look: Look) -> List[str]:
    window = charts.window
    start, end = (words.clock(at, charts.now, charts.timezone) for at in (window.start_at, min(window.end_at, charts.now)))
    told = f"{charts.subject}, {window.label}: {start} to {end}, mean of {window.step_label} each"
    return [look.paint(look.cut(told, look.width), BOLD), ""]


def _strip(charts: Charts, strip: Strip, look: Look) -> List[str]:
    series = charts.series.get(strip.metric)
    unit = f", {strip.unit}{strip.note}" if strip.unit else strip.note
    told = _told(charts, strip, series)
    unit = unit.replace("°", "") if look.ascii_only else unit
    room = look.width - LABEL - 1
    name = look.cut(f"{strip.title}{unit}", max(16, room - 2 - len(told)))
    told = look.cut(told, room - 2 - len(name))
    head = f"{'':{LABEL}} {look.paint(name, BOLD)}{' ' * (room - len(name) - len(told))}{told}"
    if series is None:
        return [head]
    height = TALL_ROWS if strip.tall else ROWS
    top = top_of(strip, series)
    columns = _columns(series, charts, chart_columns(look.width))
    labels = {0: _number(top / strip.scale), height - 1: "0"}
    rows = []
    for row in range(height):
        drawn = _row(columns, top, height, height - 1 - row, look)
        if strip.kind == "bad":
            drawn = look.paint(drawn, ALARM)
        side = "|" if look.ascii_only else "┤" if row in labels else "│"
        rows.append(f"{labels.get(row, ''):>{LABEL - 1}} {side}{drawn}")
    return [head, *rows]


def _told(charts: Charts, strip: Strip, series: Optional[Series]) -> str:
    if series is None:
        return "not read"
    told = summary(series)
    if told.mean is None:
        return nothing_words(charts)
    if strip.kind in ("bars", "hold"):
        return f"{strip.shown(total(series))} in all, a day {strip.shown(told.mean)}, up to {strip.shown(told.maximum)}"
    return f"mean {strip.shown(told.mean)}, {strip.shown(told.minimum)} to {strip.shown(told.maximum)}, last {strip.shown(told.last) or UNKNOWN}"


def _number(value: float) -> str:
    return shown(value, 0 if value >= 10 or value == int(value) else 1)


def _columns(series: Series, charts: Charts, count: int) -> List[float]:
    """The mean of each column's time; a sign of its own for gaps, and for what is not kept, not reported or yet to come."""
    window = charts.window
    found = []
    for column in range(count):
        at = window.start_at + (column + 0.5) * window.seconds / count
        place = bisect_right(series.times, at) - 1
        mean = series.mean[place] if 0 <= place < len(series.mean) else None
        if mean is None:
            found.append(_GAP if any(since <= at < until for since, until in charts.gaps) else _NOTHING)
        else:
            found.append(max(0.0, mean))
    return found


def _row(columns: Sequence[float], top: float, height: int, level: int, look: Look) -> str:
    """One line of a strip; ``level`` 0 is the lowest. From the smallest value on that is not zero, something shows."""
    blocks, gap = (ASCII_BLOCKS, ASCII_GAP) if look.ascii_only else (BLOCKS, GAP)
    signs = []
    for value in columns:
        if value == _GAP:
            signs.append(gap)
            continue
        if value == 0 and level == 0:
            signs.append(ZERO)
            continue
        eighths = 0 if value <= 0 else max(1, round(min(value, top) * height * 8 / top))
        signs.append(blocks[min(8, max(0, eighths - 8 * level))])
    return "".join(signs)


def _axis(window: Window, zone: str, look: Look) -> List[str]:
    count = chart_columns(look.width)
    line, days, times = ["-" if look.ascii_only else "─"] * count, [" "] * count, [" "] * count
    for at, day, time in ticks(window.start_at, window.end_at, zone, max(2, count // 11)):
        column = min(count - 1, int(window.share(at) * count))
        line[column] = "+" if look.ascii_only else "┴"
        _put(times, time, column)
        if day:
            _put(days, day, column)
    corner = "+" if look.ascii_only else "└"
    above = [f"{'':{LABEL}} {''.join(days)}"] if "".join(days).strip() else []
    return [f"{'':{LABEL}}{corner}{''.join(line)}", f"{'':{LABEL}} {''.join(times)}", *above]


def _put(line: List[str], text: str, column: int) -> None:
    """The text around a column where it is free; nothing where it would touch another one."""
    start = min(max(0, column - len(text) // 2), len(line) - len(text))
    if start >= 0 and not "".join(line[max(0, start - 1) : start + len(text) + 1]).strip():
        line[start : start + len(text)] = text


# ---- who was there


def _lanes(charts: Charts, look: Look) -> List[str]:
    if charts.processes is None:
        return []
    found = _grouped(charts)
    head = f"{'':{LABEL}} {look.paint('GPUs' if charts.by_gpu else 'Processes', BOLD)}{'' if found else ': nobody, as far as is recorded'}"
    side = "|" if look.ascii_only else "│"
    lines = [head]
    for name, processes in found[:MOST_LANES]:
        if charts.by_gpu:  # too long for the place beside the lane
            lines.append(f"{'':{LABEL}}{side}{look.cut(name, chart_columns(look.width))}")
        lines.append(f"{look.left('' if charts.by_gpu else name, LABEL)}{side}{_lane(processes, charts.window, look)}")
    if len(found) > MOST_LANES:
        lines.append(f"{'':{LABEL}} +{len(found) - MOST_LANES} more")
    return lines


def _grouped(charts: Charts) -> List[Tuple[str, List[PastProcess]]]:
    groups: dict[str, List[PastProcess]] = {}
    for one in charts.processes or ():
        groups.setdefault(_name(charts, one), []).append(one)
    order = sorted(groups, key=lambda name: (not name, -sum(one.interval.end_at - one.interval.start_at for one in groups[name]), name))
    return [(name or "unknown", groups[name]) for name in order]


def _name(charts: Charts, process: PastProcess) -> str:
    return gpu_name(process) if charts.by_gpu else process.interval.user or ""


def _lane(processes: Sequence[PastProcess], window: Window, look: Look) -> str:
    """A column is filled when a process was there at some time of it."""
    count = chart_columns(look.width)
    filled = [" "] * count
    for one in (process.interval for process in processes):
        if one.end_at <= window.start_at or one.start_at >= window.end_at:
            continue
        first, last = int(window.share(one.start_at) * count), int(window.share(one.end_at) * count - 1e-9)
        for column in range(min(first, count - 1), min(max(first, last), count - 1) + 1):
            filled[column] = "=" if look.ascii_only else "━"
    return "".join(filled)


def _processes(charts: Charts, look: Look) -> List[str]:
    """The newest processes, a line each."""
    head = f"{'GPU' if charts.by_gpu else 'USER':{NAME}} {'PID':>8}  {'FROM':12} {'TO':12} {'GB':>6}  COMMAND"
    lines = [look.paint(look.cut(head, look.width), BOLD)]
    newest = sorted(charts.processes or (), key=lambda process: process.interval.start_at, reverse=True)
    for process in newest[:MOST_PROCESSES]:
        one, name = process.interval, _name(charts, process) or UNKNOWN
        start, end = words.clock(one.start_at, charts.now, charts.timezone), until_words(process, charts.now, charts.timezone)
        program = words.short_command(one.command) or one.name or UNKNOWN
        peak = words.gb(one.peak_memory_bytes) or UNKNOWN
        lines.append(look.cut(f"{look.left(name, NAME)} {one.pid:>8}  {look.left(start, 12)} {look.left(end, 12)} {peak:>6}  {program}", look.width))
    if len(newest) > MOST_PROCESSES:
        lines.append(f"+{len(newest) - MOST_PROCESSES} more: /api/v1/processes gives all")
    return lines


def _notes(charts: Charts, look: Look) -> List[str]:
    notes = [kept_words(charts), counted_words(charts)]
    if charts.gaps:
        notes.append(f"{ASCII_GAP if look.ascii_only else GAP} no reading")
    held = sum(until - since for since, until in charts.held)
    if held:
        notes.append(f"memory held without work: {words.span(held)}")
    notes.append(f"times: {words.zone_label(charts.window.end_at, charts.timezone)}")
    return [look.paint(line, DIM) for note in notes if note for line in look.wrap(note, look.width)]
