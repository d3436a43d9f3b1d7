"""``gpuwatch host``: hosts in the hub's database, beside a running hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Optional

import click

from gpuwatch.cli.options import DatabaseGroup, ask_first
from gpuwatch.config.load import load, state_dir
from gpuwatch.config.settings import HubSettings


def database_url(settings: HubSettings) -> str:
    """The setting, else gpuwatch.db in the state folder."""
    return settings.database or f"sqlite:///{Path(state_dir(settings)) / 'gpuwatch.db'}"


def open_database(database: Optional[str], config: Optional[str], *, read_only: bool = False) -> Any:
    """The store. Raises StoreError if there is none."""
    from gpuwatch.store.database import open_store

    return open_store(database_url(load(HubSettings, "hub", {"database": database, "config": config})), create=False, read_only=read_only)


@click.group("host", cls=DatabaseGroup)
@click.option("--database", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE; else gpuwatch.db in the state folder.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
@click.pass_context
def command(ctx: click.Context, database: Optional[str], config: Optional[str]) -> None:
    """Rename, merge or forget a host in the hub's database. The history stays with the host, whatever its name."""
    ctx.obj = (database, config)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_hosts(ctx: click.Context, as_json: bool) -> None:
    """List the hosts that the database knows."""
    from gpuwatch.render.listing import listing
    from gpuwatch.store import machines

    store = open_database(*ctx.obj, read_only=True)
    try:
        rows = [{"id": one.id, "name": one.name, "ip_address": one.ip_address} for one in machines.list_all(store)]
    finally:
        store.close()
    click.echo(json.dumps(rows) if as_json else listing(("id", "name", "address"), [tuple(row.values()) for row in rows]), nl=as_json)


@command.command("rename")
@click.argument("name")
@click.argument("new_name")
@click.pass_context
def rename(ctx: click.Context, name: str, new_name: str) -> None:
    """Give the host NAME the name NEW_NAME. Change the hosts file too."""
    from gpuwatch.store import machines

    _with_store(ctx, lambda store: machines.rename(store, machines.find(store, name).id, new_name))
    click.echo(f"{name} is {new_name} now. Next: write {new_name}=ADDRESS into the hosts file.")


@command.command("merge", short_help="Give a host's history to another one.")
@click.argument("name")
@click.argument("into")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def merge(ctx: click.Context, name: str, into: str, yes: bool) -> None:
    """Move all that is known of the host NAME to the host INTO, and forget NAME. It cannot be undone."""
    from gpuwatch.store import machines

    def act(store: Any) -> None:
        source, target = machines.find(store, name), machines.find(store, into)
        ask_first(f"Give the whole history of {source.name} to {target.name}, and forget {source.name}?", yes)
        machines.merge(store, source.id, target.id)

    _with_store(ctx, act)
    click.echo(f"The history of {name} belongs to {into} now.")


@command.command("forget")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def forget(ctx: click.Context, name: str, yes: bool) -> None:
    """Delete the host NAME and its whole history."""
    from gpuwatch.store import machines

    def act(store: Any) -> None:
        machine = machines.find(store, name)
        ask_first(f"Delete {machine.name} and its whole history?", yes)
        machines.forget(store, machine.id)

    _with_store(ctx, act)
    click.echo(f"{name} is forgotten. While it stands in the hosts file it begins anew.")


def _with_store(ctx: click.Context, act: Callable[[Any], None]) -> None:
    store = open_database(*ctx.obj)
    try:
        act(store)
    finally:
        store.close()
