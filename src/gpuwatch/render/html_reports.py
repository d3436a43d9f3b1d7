"""The page ``/reports``: who used what, when the fleet works, what stood idle and who held it, what nobody uses, which hosts were away. Pure."""

from __future__ import annotations

from html import escape
from typing import List, Optional, Sequence, Tuple
from urllib.parse import urlencode

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.series import Downtime, GpuUse, HeatMap, UsageRow
from gpuwatch.render import words
from gpuwatch.render.html_charts import HELD
from gpuwatch.render.html_frame import Frame, page
from gpuwatch.render.html_parts import e, gpu_url, host_url, plain_link
from gpuwatch.render.html_summary import notices_html
from gpuwatch.render.reports import (
    BY,
    HEATS,
    PERIODS,
    Days,
    Reports,
    co2,
    cost,
    counted_words,
    days_words,
    has_user_only,
    holders,
    hours,
    kwh,
    label,
    neighbours,
    percent,
    reconciliation,
)

MOST_ROWS = 100
MOST_OUTAGES = 3
_COLD = 0.5
"""Percent from which an hour of the week gets a shade."""


def reports_page(cluster: ClusterNow, reports: Reports) -> str:
    """The page. ``cluster``: for its title, zone and notices."""
    told, counted = days_words(reports.days, reports.today), counted_words(reports.usage, reports.now)
    body = (
        f'{HELD}<div id="notices">{notices_html(cluster)}</div><div class="head"><h1>Reports</h1><span class="soft">{e(told)}</span>'
        f'<span class="gap"></span>{_steps(reports)}</div>{_steering(reports)}{_figures(reports)}{_usage(reports)}{_fleet(reports)}'
    )
    return page(
        Frame(
            title=f"Reports, {told} - gpuwatch",
            lab=cluster.title,
            main_html=body,
            read_at=words.clock_seconds(cluster.taken_at, cluster.timezone),
            footer_html=f"<span>Days are of {e(words.zone_label(cluster.taken_at, cluster.timezone))}</span>"
            + (f"<span>{e(counted)}</span>" if counted else ""),
            terminal=_address(reports, term="true"),
            here="reports",
            css="view-detail",
            sheet=True,
        )
    )


# ---- what one steers the report with


def _address(reports: Reports, days: Optional[Days] = None, **query: str) -> str:
    days = days or reports.days
    heat = reports.fleet.heat.metric if reports.fleet else HEATS[0][0]
    span = {"period": days.period, "day": days.first} if days.period else {"from": days.first, "to": days.last}
    if days.period and days.first <= reports.today <= days.last:
        span = {"period": days.period}
    pairs = {**span, "by": reports.usage.by, "heat": "" if heat == HEATS[0][0] else heat, **query}
    return "/reports?" + urlencode([(name, value) for name, value in pairs.items() if value])


def _link(reports: Reports, days: Optional[Days] = None, **query: str) -> str:
    return escape(_address(reports, days, **query), quote=True)


def _steps(reports: Reports) -> str:
    before, after = neighbours(reports.days)
    earlier = f'<a class="btn" rel="prev" href="{_link(reports, before)}">‹ Earlier</a>' if before else ""
    later = f'<a class="btn" rel="next" href="{_link(reports, after)}">Later ›</a>' if after and reports.days.last < reports.today else ""
    return f'<span class="seg">{earlier}{later}</span>'


def _steering(reports: Reports) -> str:
    periods = "".join(
        f'<a class="btn" href="{escape(f"/reports?period={name}&by={reports.usage.by}", quote=True)}"{_current(name == reports.days.period)}>{word}</a>'
        for name, word in PERIODS
    )
    by = "".join(f'<a class="btn" href="{_link(reports, by=name)}"{_current(name == reports.usage.by)}>{word}</a>' for name, word in BY)
    form = (
        f'<form class="between" action="/reports" method="get"><input type="hidden" name="by" value="{reports.usage.by}">'
        f'<label>from <input name="from" size="11" maxlength="20" value="{reports.days.first}" autocomplete="off"></label>'
        f'<label>to <input name="to" size="11" maxlength="20" value="{reports.days.last}" autocomplete="off"></label><button>Show</button></form>'
    )
    return (
        f'<div class="ranges"><span class="seg" role="group" aria-label="Period">{periods}</span>{form}{_log(reports)}<span class="gap"></span>'
        f'<span class="seg" role="group" aria-label="Rows by">{by}</span></div>'
    )


def _log(reports: Reports) -> str:
    """The log of a day, week or month as a file."""
    if not reports.days.period:
        return ""
    address = f"/api/v1/log.csv?{reports.days.period}={reports.days.first}"
    return f'<span class="small files"><a href="{address}" download title="all GPUs, a row a minute">CSV log of the {reports.days.period}</a></span>'


def _current(is_current: bool) -> str:
    return ' aria-current="true"' if is_current else ""


# ---- the sums


def _figures(reports: Reports) -> str:
    total, rates = reports.usage.total, reports.rates
    measured = percent(total.coverage)
    free = max(0.0, total.measured_hours - total.held_hours)
    spent = ", ".join(filter(None, (cost(total.energy_joules, rates), f"{co2(total.energy_joules, rates)} CO2" if rates.co2_grams else "")))
    share = f", {percent(total.held_hours / total.measured_hours)} of what was measured" if total.measured_hours else ""
    idle_css = ' class="hold"' if total.idle_hours else ""
    cells = (
        ("Held", f"<b>{hours(total.held_hours)}</b> GPU-hours", f"{hours(free)} h free{share}"),
        ("At work", f"<b>{hours(total.busy_hours)}</b> h", _of(total.busy_hours, total.held_hours)),
        ("Idle but held", f"<b{idle_css}>{hours(total.idle_hours)}</b> h", _of(total.idle_hours, total.held_hours)),
        ("Energy", f"<b>{kwh(total.energy_joules)}</b> kWh", spent),
        ("Measured", f"<b>{measured or 'nothing'}</b>", f"{hours(total.measured_hours)} of {hours(total.possible_hours)} h"),
    )
    shown = "".join(f'<div class="figure"><h2>{head}</h2><p>{value}</p><small>{e(note)}</small></div>' for head, value, note in cells)
    since = reports.usage.kept_since_at
    kept = "" if since is not None else '<p class="note">Nothing is kept yet. The first sums are here after some minutes.</p>'
    if since is not None and words.iso(since, reports.usage.timezone)[:10] > reports.days.first:
        kept = f'<p class="note">No readings before {e(words.clock(since, reports.now, reports.usage.timezone))}.</p>'
    return f'<div class="figures five">{shown}</div>{kept}'


def _of(part: float, whole: float) -> str:
    return f"{percent(part / whole)} of what is held" if whole else ""


def _usage(reports: Reports) -> str:
    rows, total = reports.usage.rows, reports.usage.total
    most = max((row.held_hours for row in rows), default=0.0)
    heads = _usage_heads(reports)
    lines = "".join(_usage_row(reports, row, most) for row in rows[:MOST_ROWS])
    none = _none(reports, len(_columns(reports)) + 2, "nothing was held")
    more = f'<p class="note">{len(rows) - MOST_ROWS} more lines are in the CSV.</p>' if len(rows) > MOST_ROWS else ""
    note = "a host counts in each of its tags" if reports.usage.by == "tag" else reconciliation(total)
    files = f'<small><a href="{_link(reports, format="csv")}" download>CSV</a> <a href="{_link(reports, format="json")}">JSON</a></small>'
    return (
        f'<section class="report" aria-labelledby="s-usage"><h2 class="sec" id="s-usage">GPU-hours by {reports.by_noun}'
        f'<small>{e(note)}</small>{files}</h2><div class="scroll"><table class="list usage"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines or none}</tbody><tfoot>{_usage_row(reports, total, 0.0, foot=True)}</tfoot></table></div>{more}</section>"
    )


def _none(reports: Reports, columns: int, told: str) -> str:
    """The line of a table without lines: what that means, which is nothing where nothing was measured."""
    return f'<tr><td class="mute" colspan="{columns}">{told if reports.usage.total.measured_hours else "no readings in these days"}</td></tr>'


def _columns(reports: Reports) -> List[Tuple[str, str]]:
    """(head, class) of the columns of numbers."""
    found = [("held, h", "num"), ("at work", "num"), ("idle", "num hold"), ("unknown", "num mute"), ("GB h", "num"), ("kWh", "num")]
    if reports.rates.price:
        found.append(("cost", "num"))
    if reports.rates.co2_grams:
        found.append(("CO2", "num"))
    if not has_user_only(reports):
        found += [("unattributed", "num"), ("measured", "num")]
    return found


def _usage_heads(reports: Reports) -> str:
    named = "".join(f'<th scope="col" class="num">{head}</th>' for head, _ in _columns(reports))
    return f'<th scope="col">{reports.by_word}</th><th scope="col" class="wide"><span class="sr">Held and idle as a bar</span></th>{named}'


def _usage_row(reports: Reports, row: UsageRow, most: float, foot: bool = False) -> str:
    numbers = [
        hours(row.held_hours), hours(row.busy_hours), hours(row.idle_hours), hours(row.unknown_hours), f"{row.memory_gib_hours:,.0f}", kwh(row.energy_joules)
    ]  # fmt: skip
    numbers += [cost(row.energy_joules, reports.rates)] if reports.rates.price else []
    numbers += [co2(row.energy_joules, reports.rates)] if reports.rates.co2_grams else []
    numbers += [] if has_user_only(reports) else [hours(row.unattributed_hours), percent(row.coverage)]
    cells = "".join(
        f'<td class="{"num mute" if number == "0" and css == "num hold" else css}" data-of="{head}">{e(number)}</td>'
        for number, (head, css) in zip(numbers, _columns(reports))
    )
    name = "all GPUs" if foot else _named(reports, row)
    return f'<tr><th scope="row">{name}</th><td class="wide">{_bar(row, most) if most else ""}</td>{cells}</tr>'


def _named(reports: Reports, row: UsageRow) -> str:
    text = e(label(reports, row))
    if not row.key:
        return f'<span class="mute">{text}</span>'
    address = {
        "user": escape("/history?" + urlencode({"user": words.clean(row.key), "range": "30d"}), quote=True), "host": host_url(row.key), "gpu": gpu_url(row.key),
        "model": plain_link(model=row.key), "tag": plain_link(tag=row.key),
    }[reports.usage.by]  # fmt: skip
    return f'<b><a href="{address}">{text}</a></b>'


def _bar(row: UsageRow, most: float) -> str:
    """Held hours against the most of any line; the idle part is hatched in orange."""
    held, idle = 100 * row.held_hours / most, 100 * row.idle_hours / most
    return (
        f'<svg class="hoursbar" width="100%" height="10" aria-hidden="true"><rect class="ground" width="100%" height="10"/>'
        f'<rect class="work" width="{held:.2f}%" height="10"/><rect x="{held - idle:.2f}%" width="{idle:.2f}%" height="10" fill="url(#held)"/></svg>'
    )


# ---- the fleet


def _fleet(reports: Reports) -> str:
    if reports.fleet is None:
        return ""
    fleet = reports.fleet
    return (
        f"{_heat(reports, fleet.heat)}{_idle(reports, fleet.most_idle)}"
        f'<div class="halves">{_inactive(reports, fleet.inactive)}{_downtime(reports, fleet.downtime)}</div>'
    )


def _head(reports: Reports, name: str, title: str, note: str) -> str:
    csv = f'<small><a href="{_link(reports, format="csv", table=name)}" download>CSV</a></small>'
    return f'<h2 class="sec" id="s-{name}">{title}<small>{e(note)}</small>{csv}</h2>'


def _heat(reports: Reports, heat: HeatMap) -> str:
    kinds = "".join(f'<a href="{_link(reports, heat=metric)}"{_current(metric == heat.metric)}>{word}</a> ' for metric, word in HEATS)
    heads = "".join(f'<th scope="col">{hour:02d}</th>' for hour in range(24))
    lines = "".join(
        f'<tr><th scope="row">{words.DAYS[day]}</th>{"".join(_hour(day, hour, value, heat.hours[day][hour]) for hour, value in enumerate(row))}</tr>'
        for day, row in enumerate(heat.mean)
    )
    word = dict(HEATS).get(heat.metric, heat.metric)
    return (
        f'<section class="report" aria-labelledby="s-heat">{_head(reports, "heat", f"{e(word)} by hour of the week", f"mean in {heat.unit}, measured {percent(heat.coverage)}")}'
        f'<p class="tools"><span class="seg">{kinds}</span></p><table class="heat"><thead><tr><td></td>{heads}</tr></thead><tbody>{lines}</tbody></table></section>'
    )


def _hour(day: int, hour: int, value: Optional[float], number: int) -> str:
    when = f"{words.DAYS[day]} {hour:02d}:00"
    if value is None:
        return f'<td class="none" title="{when}: no reading"><span class="sr">no reading</span></td>'
    step = 0 if value < _COLD else min(4, 1 + int(value // 25))
    return f'<td class="h{step}" title="{when}: {value:.1f} over {words.plural(number, "hour")}"><span>{value:.0f}</span></td>'


def _idle(reports: Reports, found: Sequence[GpuUse]) -> str:
    lines = "".join(_idle_row(reports, use) for use in found)
    heads = '<th scope="col">GPU</th><th scope="col">Model</th><th scope="col" class="num">idle, h</th><th scope="col" class="num">held</th><th scope="col">Held longest by</th>'
    body = lines or _none(reports, 5, "none: no GPU was held without work")
    return (
        f'<section class="report" aria-labelledby="s-idle">{_head(reports, "idle", "Most idle GPU-hours", "memory held, no work")}'
        f'<div class="scroll"><table class="list"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>'
    )


def _idle_row(reports: Reports, use: GpuUse) -> str:
    who = "; ".join(f'<b><a href="{plain_link(user=user)}">{e(user)}</a></b> {e(program[:60])} <small>{hours(held)} h</small>' for user, program, held in holders(use))
    return (
        f'<tr><th scope="row"><b><a href="{gpu_url(use.gpu_uuid)}">{e(use.name)}</a></b></th><td>{e(words.model_name(use.model))}</td>'
        f'<td class="num hold" data-of="idle, h">{hours(use.idle_hours)}</td><td class="num" data-of="held">{hours(use.held_hours)}</td>'
        f'<td class="wide">{who or "<span class=mute>no process is known</span>"}</td></tr>'
    )


def _inactive(reports: Reports, found: Sequence[GpuUse]) -> str:
    zone = reports.usage.timezone
    lines = "".join(
        f'<tr><th scope="row"><a href="{gpu_url(use.gpu_uuid)}">{e(use.name)}</a></th><td>{e(words.model_name(use.model))}</td>'
        f'<td class="num" data-of="measured, h">{hours(use.measured_hours)}</td>'
        f'<td>{e(words.clock(use.last_held_at, reports.now, zone)) or "<span class=mute>not known</span>"}</td></tr>'
        for use in found
    )
    body = lines or _none(reports, 4, "none: each GPU was held at some time")
    return (
        f'<section class="report" aria-labelledby="s-inactive">{_head(reports, "inactive", "GPUs that nobody held", f"{len(found)}")}'
        '<table class="list"><thead><tr><th scope="col">GPU</th><th scope="col">Model</th><th scope="col" class="num">measured, h</th>'
        f'<th scope="col">last held</th></tr></thead><tbody>{body}</tbody></table></section>'
    )


def _downtime(reports: Reports, found: Sequence[Downtime]) -> str:
    away = [one for one in found if one.down_seconds >= 60]
    lines = "".join(_downtime_row(reports, one) for one in away)
    rest = len(found) - len(away)
    body = lines or _none(reports, 4, "none: every host was read all the time")
    exact = min((one.step_seconds for one in found), default=3600)
    note = f"outages by {'the hour' if exact >= 3600 else 'the quarter of an hour'}" + (f"; {words.plural(rest, 'host')} without" if rest and away else "")
    return (
        f'<section class="report" aria-labelledby="s-downtime">{_head(reports, "downtime", "Hosts without readings", note)}'
        '<table class="list"><thead><tr><th scope="col">Host</th><th scope="col" class="num">away</th><th scope="col" class="num">measured</th>'
        f'<th scope="col">Longest</th></tr></thead><tbody>{body}</tbody></table></section>'
    )


def _downtime_row(reports: Reports, one: Downtime) -> str:
    zone = reports.usage.timezone
    shown = "; ".join(
        f"{e(words.clock(since, reports.now, zone))} <small>{words.span(until - since)}</small>" for since, until in one.outages[:MOST_OUTAGES]
    )
    more = f" <small>+{len(one.outages) - MOST_OUTAGES} more</small>" if len(one.outages) > MOST_OUTAGES else ""
    share = one.measured_seconds / one.possible_seconds if one.possible_seconds else None
    return (
        f'<tr><th scope="row"><a href="{host_url(one.host)}">{e(one.host)}</a></th><td class="num bad" data-of="away">{words.span(one.down_seconds)}</td>'
        f'<td class="num" data-of="measured">{percent(share)}</td><td class="wide">{shown}{more}</td></tr>'
    )


