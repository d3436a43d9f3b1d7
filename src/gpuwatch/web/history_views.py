"""The pages about time, and their twins: ``/history`` (charts) and ``/reports`` (usage)."""

from __future__ import annotations

from datetime import date, datetime

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.query import reports as past_reports
from gpuwatch.query import usage as past_usage
from gpuwatch.query.subjects import NoSuch
from gpuwatch.query.tail import Tails
from gpuwatch.render import words
from gpuwatch.render.chart_window import MOST_POINTS
from gpuwatch.render.csv_reports import reports_csv
from gpuwatch.render.csv_series import series_csv
from gpuwatch.render.html_history import history_page
from gpuwatch.render.html_reports import reports_page
from gpuwatch.render.json_reports import reports_json
from gpuwatch.render.json_series import several_json
from gpuwatch.render.reports import BY, HEATS, PERIODS, TABLES, Days, Rates, Reports, days_between, days_of, parse_day
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_chart import chart_columns, charts_text
from gpuwatch.render.text_reports import reports_text
from gpuwatch.web.app import NotFound
from gpuwatch.web.charts import gather, span_key, window_of
from gpuwatch.web.context import Context
from gpuwatch.web.params import Params
from gpuwatch.web.replies import CSV, HTML, JSON, TEXT, Reply

TYPES = {"html": HTML, "text": TEXT, "json": JSON, "csv": CSV}


def history(ctx: Context) -> Reply:
    """Charts of a GPU, a host, a user, or of all GPUs."""
    options, format = ctx.options(), ctx.params.format
    host, gpu, user = (ctx.params.text(name) for name in ("host", "gpu", "user"))
    look = Look.of(options)
    points = chart_columns(look.width) if format == "text" else MOST_POINTS
    window = window_of(ctx, user=user, most_points=points)
    only = {"gpu": gpu} if gpu and not host else {"host": host}  # of nothing: its title and zone are all that is asked

    def render(now: ClusterNow) -> bytes:
        try:
            charts = gather(ctx, now, window, host=host, gpu=gpu, user=user)
        except NoSuch as error:
            raise NotFound(error.message, error.next_step) from None
        if format == "text":
            return charts_text(charts, look, detail=options.detail).encode("utf-8", "replace")
        if format == "json":
            return several_json(series for _, series in charts.shown)
        if format == "csv":
            return b"".join(series_csv((series for _, series in charts.shown), charts.timezone))
        return history_page(now, charts, _hosts(ctx)).encode("utf-8", "replace")

    reply = ctx.kept(("history", format, options, span_key(ctx), host, gpu, user), TYPES[format], render, **only)
    return _named(reply, host, gpu, user) if format == "csv" else reply


def _named(reply: Reply, *parts: str, kind: str = "history") -> Reply:
    """A file that a browser saves under a name of its own."""
    name = "-".join("".join(letter if letter.isascii() and (letter.isalnum() or letter == "-") else "_" for letter in part) for part in (kind, *parts) if part)
    return Reply(reply.body, reply.status, {**reply.headers, "Content-Disposition": f'attachment; filename="{name[:100]}.csv"'})


def _hosts(ctx: Context) -> list[str]:
    return [known.target.name for known in ctx.hub.latest.all()[1]]


# ---- reports

USUAL_PERIOD = "week"
FRESH_SECONDS = 30.0
"""A report is worked out this often at most, however many look at it."""


def reports(ctx: Context) -> Reply:
    """Usage of whole days, and what of the fleet stood idle, was not used, or was away."""
    options, format, look = ctx.options(), ctx.params.format, Look.of(ctx.options())
    today = _today(ctx)
    days = days_asked(ctx.params, today)
    by = ctx.params.choice("by", tuple(name for name, _ in BY))
    heat = ctx.params.choice("heat", tuple(metric for metric, _ in HEATS))
    table = ctx.params.choice("table", TABLES)

    def render(now: ClusterNow) -> bytes:
        found = gather_reports(ctx, days, today, by, heat, with_fleet=format != "csv" or table != "usage")
        if format == "text":
            return reports_text(found, look).encode("utf-8", "replace")
        if format == "json":
            return reports_json(found)
        if format == "csv":
            return reports_csv(found, table)
        return reports_page(now, found).encode("utf-8", "replace")

    reply = ctx.kept(("reports", format, options, days, today, by, heat, table), TYPES[format], render, host="")
    return _named(reply, table, days.first, days.last, kind="reports") if format == "csv" else reply


def days_asked(params: Params, today: date) -> Days:
    """The days of ``from=`` and ``to=``, or of the calendar's ``period=`` in which ``day=`` (else today) lies. Raises UsageError."""
    begin, end = params.text("from"), params.text("to")
    if begin or end:
        last = parse_day(end, today, "to") if end else today
        return days_between(parse_day(begin, today, "from") if begin else last, last)
    period = params.choice("period", (USUAL_PERIOD, *(name for name, _ in PERIODS)))
    day = params.text("day")
    return days_of(period, parse_day(day, today, "day") if day else today)


def gather_reports(ctx: Context, days: Days, today: date, by: str, heat: str, *, with_fleet: bool) -> Reports:
    """The report, worked out at most every half a minute. Raises GpuwatchError while the database cannot be read."""
    store, latest, settings = ctx.hub.store, ctx.hub.latest, ctx.hub.settings
    if store is None:
        raise GpuwatchError("The database is not open, so there is nothing to report.", "The notice on the cluster page says why.")
    first, last, tails = days.first, days.last, ctx.fragments.get("tails", 0, Tails)
    turn = int(ctx.now // FRESH_SECONDS)
    usage = ctx.fragments.get(
        ("usage", days, by), turn, lambda: past_usage.report(store, latest, first_day=first, last_day=last, by=by, now=ctx.now, tails=tails)
    )
    fleet = None
    if with_fleet:
        key = ("fleet", days, heat, ctx.audience)
        fleet = ctx.fragments.get(
            key,
            turn,
            lambda: past_reports.fleet_report(
                store, latest, first_day=first, last_day=last, now=ctx.now, metric=heat, audience=ctx.audience, tails=tails
            ),
        )
    rates = Rates(settings.price_per_kwh, settings.currency, settings.co2_grams_per_kwh)
    return Reports(days, today.isoformat(), usage, fleet, ctx.now, rates)


def _today(ctx: Context) -> date:
    return datetime.fromtimestamp(ctx.now if ctx.at is None else ctx.at, words.zone_of(ctx.hub.timezone)).date()
