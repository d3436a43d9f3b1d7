"""``gpuwatch enroll``: codes for nodes that push, and who is enrolled, in the hub's database, beside a running hub."""

from __future__ import annotations

import json
import time
from typing import Any, Optional

import click

from gpuwatch.cli.host import open_database
from gpuwatch.cli.options import DatabaseGroup
from gpuwatch.model.errors import UsageError

MOST_CODES = 1000


@click.group("enroll", cls=DatabaseGroup)
@click.option("--database", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE; else gpuwatch.db in the state folder.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
@click.pass_context
def command(ctx: click.Context, database: Optional[str], config: Optional[str]) -> None:
    """Let nodes push to this hub: a code for each, who is enrolled, and its end."""
    ctx.obj = (database, config)


@command.command("create")
@click.option("--for", "name", metavar="NAME", default="", help="The code is for this node alone, whatever it calls itself; an older key of it ends.")
@click.option("--valid", default="1h", metavar="SPAN", help="How long the code can be used.  [1h]")
@click.option("--count", default=1, type=click.IntRange(1, MOST_CODES), metavar="N", help="So many codes, each for one node.  [1]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def create(ctx: click.Context, name: str, valid: str, count: int, as_json: bool) -> None:
    """Make a one-time code. On the node: gpuwatch node --push URL --enroll CODE"""
    from gpuwatch.config.hosts import is_name
    from gpuwatch.model.units import parse_seconds
    from gpuwatch.store import codes

    if name and not is_name(name):
        raise UsageError(f"{name[:60]!r} cannot be a name: no spaces, quotes or slashes.")
    if name and count > 1:
        raise UsageError("A name is for one node: leave out --count, or --for.")
    seconds, now = parse_seconds(valid), time.time()
    if not 1 <= seconds <= 366 * 86400:
        raise UsageError(f"--valid {valid}: a span from 1s to 366d is wanted.")
    store = open_database(*ctx.obj)
    try:
        made = [codes.new(store, name, seconds, now) for _ in range(count)]
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps([{"code": code, "for": name, "expires_at": round(now + seconds, 3)} for code in made]))
        return
    click.echo("\n".join(made))
    click.echo(f"Each works once, for {valid}. On the node: gpuwatch node --push https://THIS-HUB:7070 --enroll {made[0]}", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_all(ctx: click.Context, as_json: bool) -> None:
    """List who is enrolled, and the codes that are not used yet."""
    from gpuwatch.render.listing import listing
    from gpuwatch.store import codes, enrolled

    store = open_database(*ctx.obj, read_only=True)
    try:
        known, open_codes = enrolled.list_all(store), [code for code in codes.list_all(store) if code.used_at is None and code.expires_at > time.time()]
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"enrolled": [_told(one) for one in known], "codes": [_code(one) for one in open_codes]}))
        return
    rows = [(one.name, one.kind, one.state, one.last_address, _when(one.seen_at), one.id) for one in known]
    head = ("name", "kind", "state", "address", "last heard", "id")
    click.echo(listing(head, rows) if rows else "Nobody is enrolled. Next: gpuwatch enroll create\n", nl=False)
    if open_codes:
        click.echo(listing(("code", "for", "until"), [(f"{one.label}-...", one.for_name or "any", _when(one.expires_at)) for one in open_codes]), nl=False)


@command.command("revoke", short_help="End the key of a node, or a code.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def revoke(ctx: click.Context, name: str, as_json: bool) -> None:
    """End the key of NAME (or of an id): it can push no more, its history stays. Also ends a code, by its first letters."""
    from gpuwatch.store import codes, enrolled

    store = open_database(*ctx.obj)
    try:
        found = enrolled.named(store, name) or enrolled.find(store, name)
        ended = codes.revoke(store, name)
        if found is None and not ended:
            enrolled.require(store, name)  # says what there is instead
        if found is not None:
            enrolled.remove(store, found.id)
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"revoked": None if found is None else found.name, "codes": ended}))
    elif found is not None:
        click.echo(f"{found.name} can push no more. Its history stays: gpuwatch host forget {found.name}")
    else:
        click.echo(f"{ended} codes ended.")


def _told(one: Any) -> dict[str, Any]:
    """Without its secret."""
    return {"id": one.id, "kind": one.kind, "name": one.name, "state": one.state, "address": one.last_address, "created_at": one.created_at, "seen_at": one.seen_at}


def _code(one: Any) -> dict[str, Any]:
    return {"label": one.label, "for": one.for_name, "created_at": one.created_at, "expires_at": one.expires_at}


def _when(at: Optional[float]) -> str:
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
