"""``gpuwatch db copy``: a whole database into another one, with progress; broken off, it goes on where it was."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from typing import Optional

import click

from gpuwatch.cli.db_upkeep import bar, hold, settings_of
from gpuwatch.cli.host import database_url
from gpuwatch.model.errors import StoreError, UsageError


@click.command("copy")
@click.option("--from", "source_url", metavar="URL", help="Database to copy  [that of the settings]")
@click.option("--to", "target_url", metavar="URL", required=True, help="Database to fill; it must be empty, or hold a part of this copy.")
@click.option("--afresh", is_flag=True, help="Throw away what an earlier, unfinished copy brought.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def copy(ctx: click.Context, source_url: Optional[str], target_url: str, afresh: bool, as_json: bool) -> None:
    """Copy a database into another one, such as from a SQLite file to PostgreSQL. No hub may use either meanwhile.

    \b
    gpuwatch db copy --from sqlite:///gpuwatch.db --to postgresql://gpuwatch@db.lab/gpuwatch

    Afterwards both are read and compared. When it is broken off, the same command goes on.
    """
    from gpuwatch.store import copying
    from gpuwatch.store.address import place_of
    from gpuwatch.store.database import open_store

    source_url = source_url or database_url(settings_of(ctx))
    if place_of(source_url) == place_of(target_url):  # before the locks: it would wait for itself
        raise UsageError(f"{place_of(source_url)} cannot be copied into itself.", "Name another database with --to.")
    with ExitStack() as stack:
        for url in (source_url, target_url):
            stack.enter_context(hold(url))
        source = stack.enter_context(closing(open_store(source_url, create=False, read_only=True)))
        target = stack.enter_context(closing(open_store(target_url)))
        size = copying.total_bytes(source)
        with bar(size, "Copying", done=0 if afresh else copying.done_bytes(source, target)) as progress:
            copying.copy(source, target, afresh=afresh, progress=progress)
        with bar(2 * size, "Comparing") as progress:
            compared = copying.compare(source, target, progress=progress)
        differing = [one.table for one in compared if not one.same]
        if not differing:
            copying.finish(target)
        if as_json:
            click.echo(json.dumps({"source": source.label, "target": target.label, "same": not differing, "tables": copying.as_mapping(compared)}))
        if differing:
            raise StoreError(f"The tables {', '.join(differing)} differ after the copy.", "Begin again with --afresh; please report this.")
        if not as_json:
            rows = sum(one.target_rows for one in compared)
            click.echo(f"Copied and compared: {rows} rows in {len(compared)} tables. Next: gpuwatch hub --database {target.label}")

