"""``gpuwatch db export``: what the database holds as CSV, or JSON lines, to a file or to stdout, beside a running hub."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional, Tuple

import click

from gpuwatch.cli.db_upkeep import bar, opened, settings_of
from gpuwatch.config.load import timezone_name
from gpuwatch.model.errors import StoreError, UsageError
from gpuwatch.render import csv_export
from gpuwatch.rules.moments import FORMS, parse_moment

_TIERS = {"minutes": 60, "quarters": 900, "hours": 3600}
Piece = Tuple[int, bytes]
"""(how much of the work it took, lines)"""


@click.command("export", epilog="Columns and units: docs/export.md.")
@click.option("--what", type=click.Choice(("snapshots", "minutes", "quarters", "hours", "usage", "processes", "events")), required=True, help="What to write.")
@click.option("--host", metavar="NAME", default="", help="This host alone; what was imported is told by its name alone: import:NAME.")
@click.option("--from", "first", metavar="TIME", help="From this time on: 2026-11-20, '2026-11-20 03:00', yesterday, -30d  [the oldest]")
@click.option("--to", "last", metavar="TIME", help="Until before this time  [now]")
@click.option("--output", metavar="FILE", help="Write this new file, with progress  [stdout]")
@click.option("--json", "as_json", is_flag=True, help="JSON, an object a line.")
@click.pass_context
def export(ctx: click.Context, what: str, host: str, first: Optional[str], last: Optional[str], output: Optional[str], as_json: bool) -> None:
    """Write what is kept as CSV: snapshots, rollups by minute, quarter of an hour or hour, usage by day, processes, events.

    \b
    gpuwatch db export --what hours --from -30d --output november.csv
    gpuwatch db export --what snapshots --host dgx-a --from yesterday | gzip > dgx-a.csv.gz

    A running hub is not held up. Command lines of processes are whole: the file is for whom the database is for.
    """
    from gpuwatch.query.export import Span
    from gpuwatch.render.words import zone_of

    settings, now = settings_of(ctx), time.time()
    zone_name = timezone_name(settings)
    zone = zone_of(zone_name)
    start_at, end_at = (parse_moment(text, now, zone, name=name) if text else None for text, name in ((first, "--from"), (last, "--to")))
    if start_at is not None and (now if end_at is None else end_at) <= start_at:
        raise UsageError("--to is not later than --from.", f"Write times as {FORMS}.")
    with opened(ctx, read_only=True) as store:
        work, pieces = _pieces(store, settings, what, host, Span(start_at, end_at, zone, zone_name), now, as_json)
        if output is None:
            _print(pieces, b"" if as_json else csv_export.head(what))
            return
        with _whole_file(output) as write, bar(work, "Writing") as progress:
            write(b"" if as_json else csv_export.head(what))
            for done, lines in pieces:
                write(lines)
                progress(done)
    click.echo(f"{output} holds the {what}: {os.path.getsize(output) / 1e6:.1f} MB.")


def _pieces(store: Any, settings: Any, what: str, host: str, span: Any, now: float, as_json: bool) -> Tuple[int, Iterator[Piece]]:
    """How much there is to do, and the lines."""
    from gpuwatch.hub.restore import latest_from_store
    from gpuwatch.query import export as exports
    from gpuwatch.query.subjects import Names

    found = exports.chosen(store, host)
    if what in _TIERS:
        return _steps(store, latest_from_store(store, settings, span.zone_name, now), _TIERS[what], host, span, now, as_json)
    if what == "snapshots":
        made = exports.snapshot_rows(store, found, span, _damaged)
    elif what == "events":
        made = exports.event_rows(store, found[0] if host else None, span)
    else:
        rows = exports.usage_rows if what == "usage" else exports.process_rows
        made = rows(store, found, span, Names(store, latest_from_store(store, settings, span.zone_name, now)))
    write = (lambda rows: csv_export.rows_json(what, rows)) if as_json else csv_export.rows_csv
    return made.work, ((piece.work, write(piece.rows)) for piece in made.pieces)


def _steps(store: Any, latest: Any, tier: int, host: str, span: Any, now: float, as_json: bool) -> Tuple[int, Iterator[Piece]]:
    """The same of rollups; the work is counted in seconds."""
    from gpuwatch.query import export as exports
    from gpuwatch.query import logs

    end_at = now if span.end_at is None else min(span.end_at, now)
    kept_from = logs.oldest(store, [one.id for one in exports.chosen(store, host)])
    start_at = max(kept_from // tier * tier if kept_from is not None else end_at, span.start_at or 0.0)
    parts = logs.all_parts(store, latest, tier, start_at, end_at, host=host)

    write = csv_export.steps_json if as_json else csv_export.steps_csv

    def pieces() -> Iterator[Piece]:
        told_at = start_at
        for part in parts:
            yield max(0, int(part.times[-1] - told_at)), write(part, span.zone_name)
            told_at = max(told_at, part.times[-1])
        yield max(0, int(end_at - told_at)), b""

    return max(1, int(end_at - start_at)), pieces()


def _damaged(error: StoreError) -> None:
    click.echo(f"gpuwatch: {error}", err=True)


def _print(pieces: Iterator[Piece], head: bytes) -> None:
    sys.stdout.write(head.decode())
    for _, lines in pieces:
        sys.stdout.write(lines.decode())


@contextmanager
def _whole_file(path: str) -> Iterator[Callable[[bytes], Any]]:
    """Writes a new file that only its owner can read: it is there when it is whole, or not at all."""
    if os.path.exists(path):
        raise UsageError(f"{path} exists already.", "Name another file.")
    unfinished = f"{path}.unfinished"
    try:
        with open(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            yield file.write
        os.replace(unfinished, path)
    except BaseException as error:
        _unlink(unfinished)
        if isinstance(error, OSError):
            raise UsageError(f"{path} cannot be written: {error.strerror}.", "Check the folder's rights and free space.") from None
        raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
