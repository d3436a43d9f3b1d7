"""The command group `gpuwatch`: which commands there are, each imported only when it runs.

It must never import a command to list it: `gpuwatch --help` and a node's start pay only for what they use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Optional

import click

from gpuwatch import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "completion": ("gpuwatch.cli.completion:command", "Print the lines that teach your shell to complete gpuwatch."),
}


class LazyGroup(click.Group):
    """A group whose commands are dotted paths, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """Import and return one command, None for a name that is not in COMMANDS."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the help from COMMANDS, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="gpuwatch", message="%(prog)s %(version)s")
def group() -> None:
    """Which GPU is free, who is on the others, since when."""


def main(**extra: Any) -> None:
    """Run the command line and exit: 0 fine, 1 failed, 2 wrong usage."""
    group.main(prog_name="gpuwatch", **extra)
