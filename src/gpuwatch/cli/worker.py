"""``gpuwatch worker``: seed 001's workers that send to the hub, beside a running hub. Never prints a token."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Any, Dict, List, Optional, Tuple

import click

from gpuwatch.cli.host import open_database
from gpuwatch.cli.options import DatabaseGroup


@click.group("worker", cls=DatabaseGroup)
@click.option("--database", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE; else gpuwatch.db in the state folder.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
@click.pass_context
def command(ctx: click.Context, database: Optional[str], config: Optional[str]) -> None:
    """Workers of gpu-monitoring-system that send to the hub. With workers = "approve" under [hub.compat] a new one waits here."""
    ctx.obj = (database, config)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_workers(ctx: click.Context, as_json: bool) -> None:
    """List the workers: those who wait for approval first."""
    from gpuwatch.render.listing import listing

    rows = sorted(_rows(ctx.obj), key=lambda row: row["state"] != "waiting")
    if as_json:
        click.echo(json.dumps(rows))
        return
    now = time.time()
    head = ("worker id", "state", "address", "host", "asked", "heard")
    told = [
        (_shown(row["worker_id"]), "waiting for approval" if row["state"] == "waiting" else row["state"], row["address"], row["host"], _ago(row["created_at"], now), _ago(row["seen_at"], now))
        for row in rows
    ]
    click.echo(listing(head, told) if told else "No worker sends to this hub.\n", nl=False)
    waiting = [row for row in rows if row["state"] == "waiting"]
    if waiting:
        click.echo(f"Next: gpuwatch worker approve {waiting[0]['host']}  (or forget)")


@command.command("approve", short_help="Let in a worker that waits.")
@click.argument("worker", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def approve(ctx: click.Context, worker: str, as_json: bool) -> None:
    """Let in the worker ID (what it calls itself, or the host's name in the list). Its readings are taken from the next one on."""
    from gpuwatch.store import workers

    with closing(open_database(*ctx.obj)) as store:
        done = _row(workers.approve(store, worker))
    click.echo(json.dumps(done) if as_json else f"{_shown(done['worker_id'])} at {done['address']} is let in as {done['host']}.")


@command.command("forget", short_help="Let in a worker no more.")
@click.argument("worker", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def forget(ctx: click.Context, worker: str, as_json: bool) -> None:
    """Let in the worker ID no more. It waits again when it registers again; what was kept of it stays: gpuwatch host forget."""
    from gpuwatch.store import workers

    with closing(open_database(*ctx.obj)) as store:
        done = _row(workers.forget(store, worker))
    click.echo(json.dumps(done) if as_json else f"{_shown(done['worker_id'])} at {done['address']} is forgotten.")


def _rows(where: Tuple[Optional[str], Optional[str]]) -> List[Dict[str, Any]]:
    from gpuwatch.store import workers

    with closing(open_database(*where, read_only=True)) as store:
        return [_row(one) for one in workers.list_all(store)]


def _row(worker: Any) -> Dict[str, Any]:
    row = worker.row
    return {
        "id": row.id, "worker_id": worker.worker_id, "host": row.name, "state": row.state, "address": worker.address, "created_at": row.created_at,
        "seen_at": row.seen_at,
    }  # fmt: skip


def _shown(text: str) -> str:
    """A stranger's name for a terminal: cut, and nothing that moves the cursor."""
    from gpuwatch.render.words import clean

    shown = clean(text)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


def _ago(at: Optional[float], now: float) -> str:
    from gpuwatch.render.words import span

    return f"{span(now - at)} ago" if at is not None else "never"
