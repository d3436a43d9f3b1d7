"""``gpuwatch db info | verify | backup | restore | prune | migrate``: the database's upkeep by hand, with progress."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any, Callable, Iterator, Optional, Sequence

import click

from gpuwatch.cli.host import database_url
from gpuwatch.cli.options import ask_first
from gpuwatch.config.load import load, timezone_name
from gpuwatch.config.settings import HubSettings
from gpuwatch.model.errors import StoreError
from gpuwatch.model.units import parse_bytes, parse_seconds

MOST_SHOWN = 20
"""Problems that are printed."""
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def settings_of(ctx: click.Context) -> HubSettings:
    """The hub's settings, with the group's --database and --config."""
    database, config = ctx.obj
    return load(HubSettings, "hub", {"database": database, "config": config})


@contextmanager
def bar(length: int, label: str, *, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, where that is a terminal; what it gives is called with how much more is done."""
    shown: Any
    with click.progressbar(length=max(1, length), label=label, file=sys.stderr, show_eta=True, show_percent=True) as shown:
        if done:
            shown.update(done)
        yield shown.update


@contextmanager
def hold(url: str) -> Iterator[None]:
    """No hub uses the database meanwhile. Raises StoreError while one does."""
    from gpuwatch.store.hub_lock import HubLock

    lock = HubLock(url)
    if not lock.take():
        raise StoreError(f"A hub ({lock.holder()}) uses the database {lock.label}.", "Stop it first, and start it again afterwards.")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def opened(ctx: click.Context, *, read_only: bool = False) -> Iterator[Any]:
    """The settings' database."""
    from gpuwatch.store.database import open_store

    with closing(open_store(database_url(settings_of(ctx)), create=False, read_only=read_only)) as store:
        yield store


@click.command("info")
@as_json_option
@click.pass_context
def info(ctx: click.Context, as_json: bool) -> None:
    """Show what is in the database, since when, and how much space it takes."""
    from gpuwatch.render.listing import listing
    from gpuwatch.store import migrations, upkeep

    zone = timezone_name(settings_of(ctx))
    with opened(ctx, read_only=True) as store:
        figures = {**asdict(upkeep.info(store)), "schema_version": migrations.version_of(store)}
    if as_json:
        click.echo(json.dumps(figures))
    else:
        rows = [(_WORDS.get(name) or name.partition("_at")[0].replace("_", " "), _shown(name, value, zone)) for name, value in figures.items()]
        click.echo(listing(("", ""), rows).partition("\n")[2], nl=False)


_WORDS = {
    "file_bytes": "file", "wal_bytes": "beside it (WAL)", "free_bytes": "free in it", "block_snapshots": "packed snapshots", "block_bytes": "packed",
    "journal_snapshots": "journal snapshots", "journal_bytes": "journal",
}  # fmt: skip
"""What figures are called for people, where their own names do not say it."""


def _shown(name: str, value: Any, zone: str) -> str:
    from gpuwatch.render.words import date_time

    if name.endswith("_at"):
        return date_time(value, zone) if value is not None else "none"
    if name.endswith("_bytes"):
        return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB" if value >= 1e5 or not value else f"{value / 1e3:.1f} kB"
    return str(value)


@click.command("verify")
@as_json_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Read everything and say what is damaged; exit code 1 if anything is. A running hub is not held up."""
    from gpuwatch.store import upkeep

    with opened(ctx, read_only=True) as store:
        label, blocks = store.label, upkeep.info(store).blocks
        with bar(blocks, "Reading") as progress:
            problems = upkeep.check(store, thorough=True, progress=progress)
    if as_json:
        click.echo(json.dumps({"database": label, "problems": problems}))
    else:
        click.echo("\n".join([*problems[:MOST_SHOWN], *_and_more(problems)]) or f"No damage was found in {label}: {blocks} blocks were read.")
    if problems:
        ctx.exit(1)


def _and_more(problems: Sequence[str]) -> Sequence[str]:
    return [f"... and {len(problems) - MOST_SHOWN} more; --json lists them all."] if len(problems) > MOST_SHOWN else []


@click.command("backup")
@click.argument("file")
@click.pass_context
def backup(ctx: click.Context, file: str) -> None:
    """Write the database, as it is now, to the new FILE. A running hub is not held up."""
    from gpuwatch.store import backup as backups

    with opened(ctx, read_only=True) as store:
        with bar(backups.work_bytes(store), "Writing") as progress:
            backups.write(store, file, progress)
    click.echo(f"{file} holds the database. To bring it back: gpuwatch db restore {file}")


@click.command("restore")
@click.argument("file")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def restore(ctx: click.Context, file: str, yes: bool) -> None:
    """Put the backup FILE in the database's place. The database that is there is kept beside it; a PostgreSQL one must be empty."""
    from gpuwatch.store import backup as backups
    from gpuwatch.store.database import open_store

    url = database_url(settings_of(ctx))
    with closing(open_store(file, create=False, read_only=True)) as store:
        length = backups.work_bytes(store)
    with hold(url):
        ask_first("Put the backup in the database's place?", yes)
        with bar(length, "Restoring") as progress:
            kept = backups.restore(file, url, progress)
    click.echo(f"The database is that of {file} now." + (f" The one before it is kept as {kept}." if kept else ""))


@click.command("prune")
@click.option("--older-than", metavar="SPAN", help="Delete snapshots older than this, such as 30d  [thinned_retention of the settings]")
@click.option("--larger-than", metavar="SIZE", help="Then the oldest until all takes so much, such as 5GB  [max_database of the settings]")
@as_json_option
@click.pass_context
def prune(ctx: click.Context, older_than: Optional[str], larger_than: Optional[str], as_json: bool) -> None:
    """Delete and thin what the hub's retention would, now, in small steps beside a running hub."""
    from gpuwatch.store import retention, upkeep

    settings, now = settings_of(ctx), time.time()
    seconds = parse_seconds(older_than) if older_than else max(settings.raw_retention, settings.thinned_retention)
    most_bytes = parse_bytes(larger_than) if larger_than else settings.max_database
    kept = retention.Retention(settings.raw_retention, settings.minutes_retention, settings.quarters_retention, settings.processes_retention)
    with opened(ctx) as store:
        with bar(upkeep.old_blocks(store, now, seconds), "Deleting") as progress:
            result = upkeep.prune(store, now, seconds, most_bytes, progress=progress)
        with bar(upkeep.blocks_to_thin(store, now, kept.raw), "Thinning") as progress:
            tended = retention.tend(store, now, kept, _digester(settings), lambda: True, progress=progress)
    if as_json:
        click.echo(json.dumps({**asdict(result), **asdict(tended)}))
    else:
        click.echo(f"Deleted: {result.snapshots} snapshots ({result.bytes / 1e6:.1f} MB), {result.events} events, {tended.intervals} process intervals.")
        if result.rollups:
            click.echo(f"To make the database smaller: {result.rollups} pieces of rollups of a minute or a quarter of an hour.")
        click.echo(f"Thinned to one snapshot a minute: {tended.thinned} blocks.")


def _digester(settings: HubSettings) -> Any:
    from zoneinfo import ZoneInfo

    from gpuwatch.hub.restore import limits_of
    from gpuwatch.store.digests import Digester

    return Digester(limits_of(settings), ZoneInfo(timezone_name(settings)), asked_every_seconds=settings.interval)


@click.command("migrate")
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the database up to this version of gpuwatch; a copy of a file is written beside it first. A hub does the same at its start."""
    from gpuwatch.store import migrations
    from gpuwatch.store.database import unprepared

    url = database_url(settings_of(ctx))
    with hold(url), closing(unprepared(url, create=False)) as store:
        before = migrations.version_of(store)
        with bar(len(migrations.STEPS) - before, "Migrating") as progress:
            kept = migrations.migrate(store, progress=progress)
        store.prepare()
        after = migrations.version_of(store)
    if before == after:
        click.echo(f"The database has schema {after} already: nothing was done.")
    else:
        click.echo(f"The database has schema {after} now, it had {before}." + (f" The copy of before is {kept}." if kept else ""))
