"""Pages of the old systems that live elsewhere now, and their writers that anybody could call: a redirect or a refusal, never an action."""

from __future__ import annotations

import re
from typing import Dict, Mapping
from urllib.parse import quote

from gpuwatch.web.context import Context
from gpuwatch.web.replies import JSON, Body, Reply, text_reply
from gpuwatch.wire.legacy import seed001

PAGES: Mapping[str, str] = {
    "/login": "/",
    "/logout": "/",
    "/status": "/",
    "/dashboard": "/",
    "/display": "/",
    "/server_dashboard": "/history",
    "/user_utilization": "/reports",
    "/search_user": "/reports",
    "/create_user": "/reports",
    "/delete_user": "/reports",
    "/list_users": "/reports",
    "/inactive_users": "/reports",
    "/csv_analysis": "/import",
    "/download_csvs": "/history",
    "/schedule": "/",
    "/notifications": "/",
    "/admin_notifications": "/",
    "/reset": "/",
    "/logs": "/history",
    "/register_telegram": "/",
    "/telegram_settings": "/",
}
"""Page of seed 000 (its others are ``/``, which is ours, and ``/download_csv/<file>``) or of seed 003: the best page of this hub. People's accounts, reservations
and messages do not exist here yet."""
_LOG = re.compile(r"gpu_usage_(?:daily_(\d{4}-\d\d-\d\d)|weekly_(\d{4})-(\d\d)|monthly_(\d{4}-\d\d))\.csv")
ORDERS = (
    "Orders are not taken at this address, from nobody. They will be given on the host's page, {base}/hosts/NAME of this hub, by people who are signed in; "
    "this version has no accounts yet. To take a worker out: gpuwatch worker forget ID, on the hub."
)


def page(ctx: Context) -> Reply:
    """A page that is elsewhere now."""
    return found_at(PAGES[ctx.url])


def log_file(ctx: Context) -> Reply:
    """A log file of seed 000's: the same days, as this hub kept them."""
    match = _LOG.fullmatch(ctx.path["file"])
    if match is None:
        return found_at("/history")
    day, year, week, month = match.groups()
    query = f"day={day}" if day else f"week={year}-W{week}" if week else f"month={month}"
    return found_at(f"/api/v1/log.csv?{query}")


def orders(ctx: Context) -> Reply:
    """A form that gave orders to whoever filled it in."""
    return text_reply(_no_orders(ctx) + "\n", 403)


def api_orders(ctx: Context) -> Reply:
    """The same for programs."""
    return Reply(Body(seed001.error(_no_orders(ctx)), JSON), 403)


def _no_orders(ctx: Context) -> str:
    return ORDERS.format(base=ctx.base_path)


def found_at(path: str, *, quoted: bool = True) -> Reply:
    """302 to an address of this hub; ``quoted``: it is one already."""
    location = path if quoted else quote(path)
    headers: Dict[str, str] = {"Location": location}
    return Reply(Body(b"", "text/plain; charset=utf-8"), 302, headers)  # what it says: web.app, which knows the base path
