"""``gpuwatch db forget-user``: what is kept of a person goes, beside a running hub."""

from __future__ import annotations

import json

import click

from gpuwatch.cli.db_upkeep import as_json_option, opened, settings_of
from gpuwatch.cli.options import ask_first
from gpuwatch.model.errors import UsageError


@click.command("forget-user")
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_context
def forget_user(ctx: click.Context, name: str, yes: bool, as_json: bool) -> None:
    """Delete who-was-on-which-GPU and the usage by day of the user NAME, of hosts and of imports. It cannot be undone.

    Sums of GPUs stay: reports tell the hours as nobody's. Snapshots name the user until they are older than the settings keep them; what runs
    now is noted again.
    """
    from gpuwatch.store import intervals, usage

    keeps = settings_of(ctx)
    days = max(keeps.raw_retention, keeps.thinned_retention) / 86400
    with opened(ctx) as store:
        ((stretches,),) = store.rows("SELECT count(*) FROM process_interval WHERE user_name = ?", (name,))
        ((sums,),) = store.rows("SELECT count(*) FROM user_day WHERE user_name = ? AND machine_id != ''", (name,))
        if not stretches and not sums:
            raise UsageError(f"Nothing is kept of a user {name[:80]!r}.", "Names are told by: gpuwatch report --by user")
        ask_first(f"Delete {stretches} stretches of processes and {sums} daily sums of {name}?", yes)
        found = {"user": name, "process_intervals": intervals.forget_user(store, name), "user_days": usage.forget_user(store, name)}
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(f"Deleted of {name}: {found['process_intervals']} stretches of processes, {found['user_days']} daily sums.")
        click.echo(f"Snapshots of the last {days:g} days still name who was on a GPU, until they are thinned and deleted.")
