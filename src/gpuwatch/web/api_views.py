"""What programs ask about time: ``/api/v1/series``, ``/api/v1/processes`` and ``/api/v1/usage``, as JSON, and as CSV with ``format=csv``."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.query import processes as past_processes
from gpuwatch.query import series as past_series
from gpuwatch.query import usage as past_usage
from gpuwatch.query.subjects import NoSuch
from gpuwatch.query.tail import Tails, zone_of
from gpuwatch.render.csv_series import processes_csv, series_csv
from gpuwatch.render.csv_usage import usage_csv
from gpuwatch.render.json_series import series_json
from gpuwatch.render.json_usage import processes_json, usage_json
from gpuwatch.web.app import NotFound
from gpuwatch.web.context import Context
from gpuwatch.web.replies import CSV, JSON, Body, Reply
from gpuwatch.web.spans import days_of, span_of, step_of

USUAL_POINTS = 1000
USUAL_LIMIT = 1000
FRESH_SECONDS = 30.0
"""Sums over days are worked out this often at most, however many ask."""


def series(ctx: Context) -> Reply:
    """One metric over time."""
    metric, step = ctx.params.text("metric"), step_of(ctx.params)
    about = {name: ctx.params.text(name) for name in ("host", "gpu", "user")}
    if not metric:
        raise UsageError("metric= is missing.", f"It is one of {', '.join(past_series.units_of(**about))}.")
    points = ctx.params.whole("points", past_series.MOST_POINTS if step else USUAL_POINTS, 1, past_series.MOST_POINTS)
    start_at, end_at = span_of(ctx.params, _end(ctx), _zone(ctx))

    def ask(store: Any) -> Any:
        return past_series.series(
            store, ctx.hub.latest, metric=metric, **about, start_at=start_at, end_at=end_at, step=step, points=points, now=ctx.now, tails=_tails(ctx)
        )  # fmt: skip

    return _answer(ctx, "series", ask, series_json, lambda found: series_csv([found], ctx.hub.timezone))


def processes(ctx: Context) -> Reply:
    """Who was on which GPU when."""
    about = {name: ctx.params.text(name) for name in ("host", "gpu", "user")}
    limit = ctx.params.whole("limit", USUAL_LIMIT, 1, past_processes.MOST_ROWS)
    span = span_of(ctx.params, _end(ctx), _zone(ctx))

    def ask(store: Any) -> Any:
        return past_processes.processes(
            store, ctx.hub.latest, **about, start_at=span[0], end_at=span[1], limit=limit, audience=ctx.audience, tails=_tails(ctx)
        )  # fmt: skip

    return _answer(ctx, "processes", ask, lambda found: processes_json(found, span, limit), lambda found: [processes_csv(found, ctx.hub.timezone)])


def usage(ctx: Context) -> Reply:
    """Who used what over whole days."""
    by = ctx.params.choice("by", past_usage.BY)
    first_day, last_day = days_of(ctx.params, _end(ctx), _zone(ctx))

    def ask(store: Any) -> Any:
        def work() -> Any:
            return past_usage.report(store, ctx.hub.latest, first_day=first_day, last_day=last_day, by=by, now=ctx.now, tails=_tails(ctx))

        return ctx.fragments.get(("api usage", first_day, last_day, by), int(ctx.now // FRESH_SECONDS), work)

    return _answer(ctx, "usage", ask, usage_json, usage_csv)


def _answer(
    ctx: Context, name: str, ask: Callable[[Any], Any], as_json: Callable[[Any], bytes], as_csv: Callable[[Any], Iterable[bytes]]
) -> Reply:
    """JSON, made once for all who ask the same at the same time; CSV is sent while it is made."""
    store = ctx.hub.store
    if store is None:
        raise GpuwatchError("The database is not open, so there is no past to tell.", "The notice on the cluster page says why.")
    try:
        if ctx.params.choice("format", ("json", "csv")) == "csv":
            pieces = ctx.streams.take(as_csv(ask(store)))
            return Reply(pieces, headers={"Content-Disposition": f'attachment; filename="{name}.csv"'}, content_type=CSV)
        key = (f"api {name}", tuple(sorted(ctx.params.values.items())), ctx.audience)
        return Reply(ctx.pages.get(key, ctx.hub.version(), lambda: Body(as_json(ask(store)), JSON)))
    except NoSuch as error:
        raise NotFound(error.message, error.next_step) from None


def _end(ctx: Context) -> float:
    """Where a span ends that does not say it: at the moment asked about, or now."""
    return ctx.now if ctx.at is None else ctx.at


def _zone(ctx: Context) -> Any:
    return zone_of(ctx.hub.timezone)


def _tails(ctx: Context) -> Tails:
    found: Tails = ctx.fragments.get("tails", 0, Tails)
    return found
