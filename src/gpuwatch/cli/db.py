"""``gpuwatch db``: the group of commands about the database. Each is imported when it runs; they get (--database, --config) as ``ctx.obj``."""

from __future__ import annotations

from typing import Optional

import click

from gpuwatch.cli.main import LazyGroup
from gpuwatch.cli.options import DatabaseGroup

DB_COMMANDS: dict[str, tuple[str, str]] = {
    "info": ("gpuwatch.cli.db_upkeep:info", "Show what is in it and how much space it takes."),
    "verify": ("gpuwatch.cli.db_upkeep:verify", "Look for damage."),
    "backup": ("gpuwatch.cli.db_upkeep:backup", "Write all of it to one file, beside a running hub."),
    "restore": ("gpuwatch.cli.db_upkeep:restore", "Bring a backup back."),
    "export": ("gpuwatch.cli.db_export:export", "Write what is kept to a CSV file."),
    "prune": ("gpuwatch.cli.db_upkeep:prune", "Delete what is older or larger than the settings keep, now."),
    "migrate": ("gpuwatch.cli.db_upkeep:migrate", "Bring it up to this version of gpuwatch."),
    "import": ("gpuwatch.cli.db_import:import_command", "Read other programs' logs and databases into it."),
    "assign": ("gpuwatch.cli.db_import:assign_command", "Give imported readings to a host."),
    "forget-user": ("gpuwatch.cli.db_forget:forget_user", "Delete what is kept of a user."),
    "copy": ("gpuwatch.cli.db_copy:copy", "Copy it into another one: from SQLite to PostgreSQL, or back."),
}
"""name: (dotted path, one line of help)."""


class DbGroup(DatabaseGroup, LazyGroup):
    """The commands of DB_COMMANDS."""

    table = DB_COMMANDS


@click.group("db", cls=DbGroup)
@click.option("--database", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE; else gpuwatch.db in the state folder.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
@click.pass_context
def command(ctx: click.Context, database: Optional[str], config: Optional[str]) -> None:
    """Copy, check, back up and fill the hub's database.

    A password in an address can be seen by everybody on this machine while the command runs: put it into ~/.pgpass, or into the settings file.
    """
    ctx.obj = (database, config)
