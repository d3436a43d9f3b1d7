"""The pages about time, and their twins: ``/history`` (charts) and ``/reports`` (usage)."""

from __future__ import annotations

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.query.subjects import NoSuch
from gpuwatch.render.chart_window import MOST_POINTS
from gpuwatch.render.csv_series import series_csv
from gpuwatch.render.html_history import history_page
from gpuwatch.render.json_series import several_json
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_chart import chart_columns, charts_text
from gpuwatch.web.app import NotFound
from gpuwatch.web.charts import gather, span_key, window_of
from gpuwatch.web.context import Context
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


def _named(reply: Reply, *parts: str) -> Reply:
    """A file that a browser saves under a name of its own."""
    name = "-".join("".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in part) for part in ("history", *parts) if part)
    return Reply(reply.body, reply.status, {**reply.headers, "Content-Disposition": f'attachment; filename="{name[:100]}.csv"'})


def _hosts(ctx: Context) -> list[str]:
    return [known.target.name for known in ctx.hub.latest.all()[1]]
