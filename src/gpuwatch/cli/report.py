"""``gpuwatch report``: usage of whole days, of a hub or of its database."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import date, datetime
from typing import Optional
from urllib.parse import urlencode

import click

from gpuwatch.cli import here
from gpuwatch.cli.host import open_database
from gpuwatch.config.load import color_wanted, load, timezone_name
from gpuwatch.config.settings import HubSettings
from gpuwatch.model.errors import UsageError
from gpuwatch.render.reports import BY, PERIODS, TABLES, Days, Rates, Reports, days_between, days_of, parse_day


@click.command("report")
@click.option("--from", "first", metavar="DAY", help="First day: 2026-11-01, today, yesterday or -30d.")
@click.option("--to", "last", metavar="DAY", help="Last day, included; today if it is not given.")
@click.option("--period", type=click.Choice([name for name, _ in PERIODS]), help="This day, week or month instead.  [week]")
@click.option("--by", type=click.Choice([name for name, _ in BY]), default="user", help="What the lines are.  [user]")
@click.option("--json", "as_json", is_flag=True, help="JSON as /reports?format=json gives it.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV; --table chooses which.")
@click.option("--table", type=click.Choice(TABLES), default="usage", help="With --csv: which table.  [usage]")
@click.option("--hub", metavar="URL", help="Ask this hub.")
@click.option("--database", metavar="URL", help="Read a hub's database; else gpuwatch.db in the state folder.")
@click.option("--ascii", "ascii_only", is_flag=True, help="No characters beyond ASCII.")
@click.option("--color/--no-color", default=None, help="Colour; by itself on a terminal unless NO_COLOR is set.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
def command(
    first: Optional[str], last: Optional[str], period: Optional[str], by: str, as_json: bool, as_csv: bool, table: str, hub: Optional[str],
    database: Optional[str], ascii_only: bool, color: Optional[bool], config: Optional[str],
) -> None:  # fmt: skip
    """Print who used how many GPU-hours, what stood idle, what nobody used, and which hosts were away."""
    for one, other, told in ((hub, database, "--hub and --database"), (as_json, as_csv, "--json and --csv"), (period, first or last, "--period and --from, --to")):
        if one and other:
            raise UsageError(f"{told} exclude each other. Choose one.")
    form = "json" if as_json else "csv" if as_csv else "text"
    painted = (sys.stdout.isatty() and color_wanted()) if color is None else color
    look = (min(400, max(60, shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80)), ascii_only, painted)
    if hub:
        sys.stdout.write(here.ask_hub(hub, _path(first, last, period, by, form, table, look), 60.0).decode("utf-8", "replace"))
        return
    if by == "tag":
        raise UsageError("Tags are in the hub's hosts file, not in its database.", "Next: gpuwatch report --by tag --hub URL.")
    settings = load(HubSettings, "hub", {"database": database, "config": config})
    sys.stdout.write(_text(_report(settings, first, last, period, by, form != "csv" or table != "usage"), form, table, look))


def _path(
    first: Optional[str], last: Optional[str], period: Optional[str], by: str, form: str, table: str, look: tuple[int, bool, bool]
) -> str:
    wanted = {
        "from": first, "to": last, "period": period, "by": by, "format": form, "table": table, "width": str(look[0]), "ascii": "true" if look[1] else "",
        "color": "true" if look[2] else "",
    }  # fmt: skip
    return "/reports?" + urlencode([(name, value) for name, value in wanted.items() if value])


def _report(settings: HubSettings, first: Optional[str], last: Optional[str], period: Optional[str], by: str, with_fleet: bool) -> Reports:
    """From the database. Who can read it sees whole command lines."""
    from gpuwatch.hub.restore import latest_from_store
    from gpuwatch.query import reports, usage
    from gpuwatch.render import words

    now, zone = time.time(), timezone_name(settings)
    today = datetime.fromtimestamp(now, words.zone_of(zone)).date()
    days = _days(first, last, period, today)
    store = open_database(settings.database, settings.config or None, read_only=True)
    try:
        latest = latest_from_store(store, settings, zone, now)
        used = usage.report(store, latest, first_day=days.first, last_day=days.last, by=by, now=now)
        fleet = reports.fleet_report(store, latest, first_day=days.first, last_day=days.last, now=now, audience="admin") if with_fleet else None
    finally:
        store.close()
    return Reports(days, today.isoformat(), used, fleet, now, Rates(settings.price_per_kwh, settings.currency, settings.co2_grams_per_kwh))


def _days(first: Optional[str], last: Optional[str], period: Optional[str], today: date) -> Days:
    if first or last:
        end = parse_day(last, today, "--to") if last else today
        return days_between(parse_day(first, today, "--from") if first else end, end)
    return days_of(period or "week", today)


def _text(found: Reports, form: str, table: str, look: tuple[int, bool, bool]) -> str:
    from gpuwatch.render.csv_reports import reports_csv
    from gpuwatch.render.json_reports import reports_json
    from gpuwatch.render.text_cells import Look
    from gpuwatch.render.text_reports import reports_text

    if form == "json":
        return reports_json(found).decode() + "\n"
    return reports_csv(found, table).decode() if form == "csv" else reports_text(found, Look(*look))
