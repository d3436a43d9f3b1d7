"""``gpuwatch db import`` and ``gpuwatch db assign``: other programs' logs into the database, apart from live data, and from there to a host."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import click

from gpuwatch.cli.options import ask_first
from gpuwatch.config.load import load, timezone_name
from gpuwatch.config.settings import HubSettings
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.render.text_import import MOST_SHOWN, told_text
from gpuwatch.store.import_source import Source, Summary, label_of, told


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Say what would be read, which lines not and why; store nothing.")
@click.option("--host", metavar="NAME", help="Name for the readings of a file that names no host  [the file's name]")
@click.option("--zone", metavar="ZONE", help="Time zone of the file's times, such as Europe/Berlin  [the hub's]")
@click.option("--fields", metavar="NAMES", help="Columns of a log of nvidia-smi without a head, separated by commas.")
@click.option("--format", "format_", metavar="NAME", default="", help="Format of the file  [told from its first lines]")
@click.option("--again", is_flag=True, help="Store a file that was imported before once more, under a name of its own.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON, a line a file.")
@click.option("--all", "show_all", is_flag=True, help="Print every refused line that is kept, and every GPU.")
@click.pass_context
def import_command(ctx: click.Context, /, files: Sequence[str], dry_run: bool, as_json: bool, show_all: bool, **options: Any) -> None:
    """Read logs of nvidia-smi, exports and databases of other programs into the database.

    They are looked at like a host, under the name import:NAME, until "gpuwatch db assign" gives them to one. A file that was imported is
    refused; an import that was broken off goes on where it was.
    """
    if as_json and not dry_run:
        raise UsageError("--json is for --dry-run.")
    settings = load(HubSettings, "hub", {"database": _given(ctx, "database"), "config": _given(ctx, "config")})
    zone = _zone(options["zone"] or timezone_name(settings))
    failed = False
    with _store(ctx, dry_run) as store:
        for path in files:
            source, fields = Source(path), _fields(options["fields"])
            try:
                if dry_run:
                    _dry_run(source, zone, options["format_"], fields, show_all, as_json)
                else:
                    _import(store, settings, source, zone, fields, show_all, options)
            except GpuwatchError as error:
                if len(files) == 1:
                    raise
                failed = True
                click.echo(f"gpuwatch: {error}", err=True)
    if failed:
        sys.exit(1)


@click.command("assign")
@click.argument("imported", metavar="import:NAME")
@click.argument("host")
@click.option("--gpu", "gpus", metavar="FROM=UUID", multiple=True, help="Which GPU of the host one of the import is, such as 'index 0=GPU-...'.")
@click.option("--overlap", is_flag=True, help="Also where both have readings of one time: it counts twice then.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def assign_command(ctx: click.Context, imported: str, host: str, gpus: Sequence[str], overlap: bool, yes: bool) -> None:
    """Give imported readings to a host: they become part of its charts and of the reports. It cannot be undone."""
    from gpuwatch.render.listing import listing
    from gpuwatch.store import import_assign, imports, machines

    with _store(ctx, False) as store:
        name = imported if imported.startswith(imports.PREFIX) else imports.PREFIX + imported
        source, target = machines.find(store, name), machines.find(store, host)
        matches = import_assign.match(store, source.id, target.id, dict(_pair(gpu) for gpu in gpus))
        click.echo(listing((source.name, target.name, "because"), [tuple(one) for one in matches]), nl=False)
        twice = None if overlap else import_assign.overlap(store, source.id, target.id, matches)
        if twice is not None:
            raise UsageError(
                f"{target.name} has readings of its own of {twice[0]} from the time of {_time(twice[1], _hub_zone(ctx))} on.",
                "To count that time twice: --overlap",
            )
        ask_first(f"Give the readings of {source.name} to {target.name}?", yes)
        with _bar(0, "moving") as (_, advance):
            for moved in import_assign.assign(store, source.id, target.id, matches):
                advance(moved)
    click.echo(f"{source.name} is part of {target.name} now.")


def _dry_run(source: Source, zone: tzinfo, format: str, fields: Sequence[str], show_all: bool, as_json: bool) -> None:
    summary = Summary()
    with source.opened(zone, format, fields) as (found, why, report, rows), _bar(source.size, source.name) as (shown, _):
        for number, _ in enumerate(summary.count(rows)):
            if number % 2000 == 0:
                shown(source.position)
    doc = told(source, found, why, report, summary, zone)
    if as_json:
        click.echo(json.dumps(doc))
        return
    click.echo(told_text(doc, sys.maxsize if show_all else MOST_SHOWN), nl=False)
    click.echo("Nothing was stored: this was a dry run.")


def _import(
    store: Any, settings: HubSettings, source: Source, zone: tzinfo, fields: Sequence[str], show_all: bool, options: Any
) -> None:
    from gpuwatch.hub.restore import limits_of
    from gpuwatch.store import imports

    label = label_of(options["host"] or "", source.name)
    read_as = {"host": label, "zone": str(zone), "fields": ",".join(fields), "format": options["format_"]}
    job = imports.begin(
        store, source.digest(), source.name, label, read_as,
        now=time.time(), limits=limits_of(settings), zone=_zone(timezone_name(settings)), again=options["again"],
    )  # fmt: skip
    if job.resumed_rows:
        click.echo(f"{source.name}: the import was broken off; it goes on after row {job.resumed_rows}.", err=True)
    summary = Summary()
    with source.opened(zone, options["format_"], fields) as (found, why, report, rows), _bar(source.size, source.name) as (shown, _):
        for _ in job.run(summary.count(rows)):
            shown(source.position)
    click.echo(told_text(told(source, found, why, report, summary, zone), sys.maxsize if show_all else MOST_SHOWN), nl=False)
    if job.streams.repeated:
        click.echo(f"  {job.streams.repeated} readings were left out: there was one of that GPU and time already.")
    if not job.names():
        raise UsageError(f"Nothing in {source.name} could be stored.")
    click.echo(f"Stored as {', '.join(job.names())}. To give it to a host: gpuwatch db assign {job.names()[0]} HOST")


def _time(at: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def _bar(size: int, label: str) -> Iterator[Tuple[Callable[[int], None], Callable[[int], None]]]:
    """(show that so much is done, show that so much more is done) on a terminal; nothing elsewhere. ``size`` 0: not known."""
    if not sys.stderr.isatty() or not size:
        yield (lambda done: None), (lambda more: None)
        return
    bar: Any
    with click.progressbar(length=size, label=label[:40], file=sys.stderr) as bar:
        yield (lambda done: bar.update(max(0, min(done, size) - bar.pos))), bar.update


@contextmanager
def _store(ctx: click.Context, dry_run: bool) -> Iterator[Any]:
    """The database; None for a dry run, which needs none."""
    from gpuwatch.cli.host import open_database

    if dry_run:
        yield None
        return
    store = open_database(_given(ctx, "database"), _given(ctx, "config"))
    try:
        yield store
    finally:
        store.close()


def _given(ctx: click.Context, name: str) -> Optional[str]:
    """A flag of the group ``gpuwatch db``."""
    found: Tuple[Optional[str], Optional[str]] = ctx.obj
    return found[("database", "config").index(name)]


def _hub_zone(ctx: click.Context) -> tzinfo:
    return _zone(timezone_name(load(HubSettings, "hub", {"config": _given(ctx, "config")})))


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"{name[:60]!r} is not a time zone.", "Write a name such as Europe/Berlin or UTC.") from None


def _fields(text: Optional[str]) -> List[str]:
    return [field.strip() for field in (text or "").split(",") if field.strip()]


def _pair(text: str) -> Tuple[str, str]:
    name, _, uuid = text.partition("=")
    if not name.strip() or not uuid.strip():
        raise UsageError(f"--gpu {text[:60]!r} is not FROM=UUID.", "Such as --gpu 'index 0=GPU-...'.")
    return name.strip(), uuid.strip()
