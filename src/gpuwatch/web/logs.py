"""``/api/v1/log.csv``: what the GPUs did on a day, in a week or month, a row a minute, made from the store while it is sent."""

from __future__ import annotations

import re
from datetime import date, datetime

from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.query.logs import parts
from gpuwatch.query.subjects import NoSuch
from gpuwatch.query.tail import Tails
from gpuwatch.render import words
from gpuwatch.render.csv_log import log_csv
from gpuwatch.render.reports import PERIODS, Days, days_of, parse_day
from gpuwatch.web.app import NotFound
from gpuwatch.web.context import Context
from gpuwatch.web.params import Params
from gpuwatch.web.replies import CSV, Reply

_WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})")
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")


def log(ctx: Context) -> Reply:
    """The log as a file; of ``host=`` or ``gpu=`` alone where that is named."""
    store = ctx.hub.store
    if store is None:
        raise GpuwatchError("The database is not open, so there is no log.", "The notice on the cluster page says why.")
    today = datetime.fromtimestamp(ctx.now if ctx.at is None else ctx.at, words.zone_of(ctx.hub.timezone)).date()
    days = days_asked(ctx.params, today)
    host, gpu = ctx.params.text("host"), ctx.params.text("gpu")
    tails: Tails = ctx.fragments.get("tails", 0, Tails)
    try:
        found = parts(store, ctx.hub.latest, first_day=days.first, last_day=days.last, host=host, gpu=gpu, now=ctx.now, tails=tails)
    except NoSuch as error:
        raise NotFound(error.message, error.next_step) from None
    name = "-".join(re.sub(r"[^A-Za-z0-9-]", "_", part) for part in ("gpus", days.period, days.first, host, gpu) if part)
    headers = {"Content-Disposition": f'attachment; filename="{name[:100]}.csv"'}
    return Reply(ctx.streams.take(log_csv(found, ctx.hub.timezone)), headers=headers, content_type=CSV)


def days_asked(params: Params, today: date) -> Days:
    """``day=``, ``week=`` or ``month=``, one of them: any day in it, or 2026-W47 and 2026-11; today where there is none. Raises UsageError."""
    given = [(name, params.text(name)) for name, _ in PERIODS if params.text(name)]
    if len(given) > 1:
        raise UsageError(f"{given[0][0]}= and {given[1][0]}= cannot be combined.", "Give one of day=, week= and month=.")
    name, text = given[0] if given else ("day", "today")
    return days_of(name, _day(name, text, today))


def _day(name: str, text: str, today: date) -> date:
    week, month = _WEEK.fullmatch(text), _MONTH.fullmatch(text)
    try:
        if name == "week" and week:
            return date.fromisocalendar(int(week[1]), int(week[2]), 1)
        if name == "month" and month:
            return date(int(month[1]), int(month[2]), 1)
    except ValueError:
        raise UsageError(f"{name}={text[:20]!r} is not in the calendar.", "Write it as 2026-W47, or 2026-11.") from None
    return parse_day(text, today, name)
