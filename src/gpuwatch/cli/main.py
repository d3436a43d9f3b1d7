"""The command group `gpuwatch`: which commands there are, each imported only when it runs.

It must never import a command to list it: `gpuwatch --help` and a node's start pay only for what they use.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any, Optional

import click
from click.shell_completion import CompletionItem

from gpuwatch import __version__
from gpuwatch.model.errors import GpuwatchError, UsageError

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("gpuwatch.cli.up:command", "Run a node and a hub together on this machine and show its GPUs."),
    "node": ("gpuwatch.cli.node:command", "Read the GPUs of this machine and serve them to a hub."),
    "hub": ("gpuwatch.cli.hub:command", "Gather all nodes of a hosts file and show them."),
    "demo": ("gpuwatch.cli.demo:command", "Show a hub with simulated nodes; needs no GPU."),
    "status": ("gpuwatch.cli.status:command", "Print the GPUs of this machine, or of a hub: who is on them, since when."),
    "pick": ("gpuwatch.cli.pick:command", "Print free GPUs of this machine for CUDA_VISIBLE_DEVICES."),
    "report": ("gpuwatch.cli.report:command", "Print who used how many GPU-hours, what stood idle, which hosts were away."),
    "check": ("gpuwatch.cli.check:command", "Check settings and hosts file; with --live, each node."),
    "cert": ("gpuwatch.cli.cert:command", "Make a certificate for TLS between hub and node, and print its fingerprint."),
    "enroll": ("gpuwatch.cli.enroll:command", "Let nodes push to this hub: codes, who is enrolled."),
    "deploy": ("gpuwatch.cli.deploy:command", "Bring gpuwatch to the machines of a hosts file over ssh; upgrade it, remove it."),
    "worker": ("gpuwatch.cli.worker:command", "List, approve or forget workers of gpu-monitoring-system that send to the hub."),
    "host": ("gpuwatch.cli.host:command", "Rename, merge or forget a host in the database."),
    "db": ("gpuwatch.cli.db:command", "Copy, check, back up and fill the database."),
    "completion": ("gpuwatch.cli.completion:command", "Print the lines that teach your shell to complete gpuwatch."),
}
"""name: (dotted path, one line of help)."""


class LazyGroup(click.Group):
    """A group whose commands are dotted paths, imported on first use."""

    table = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """Import and return one command, None for a name that is not in the table."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and flags that begin so, importing no command."""
        commands = [CompletionItem(name, help=self.table[name][1]) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the help from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.table[name][1]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="gpuwatch", message="%(prog)s %(version)s")
def group() -> None:
    """Which GPU is free, who is on the others, since when.

    \b
    On each GPU machine:   gpuwatch node
    On one machine:        gpuwatch hub --hosts hosts.txt
    To look:               curl 'http://127.0.0.1:7070/?term=true'
    Without any GPU:       gpuwatch demo
    """


def main(**extra: Any) -> None:
    """Run the command line and exit: 0 fine, 1 failed, 2 wrong usage. Errors are one line; nobody gets a traceback."""
    try:
        sys.exit(group.main(prog_name="gpuwatch", standalone_mode=False, **extra))
    except click.UsageError as error:
        said = " ".join(error.format_message().split()).rstrip(".")
        _end(f"{said}{'' if said.endswith('?') else '.'} Next: {_of_its_group(error) or (error.ctx.command_path if error.ctx else 'gpuwatch') + ' --help'}", 2)
    except click.ClickException as error:
        _end(error.format_message(), error.exit_code)
    except click.Abort as error:  # a Ctrl-C, or a "no" to a question
        sys.exit(130 if isinstance(error.__cause__, KeyboardInterrupt) else 1)
    except UsageError as error:
        _end(str(error), 2)
    except GpuwatchError as error:
        _end(str(error), 1)
    except Exception as error:  # the last door: a person gets one line, the log on request the rest
        if "--log-level" in sys.argv and "debug" in sys.argv:
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f"{error.filename} is written" if error.filename else "the output goes"
            _end(f"No space is left where {where}. Next: free some, or write elsewhere.", 1)
        more = "With --log-level debug the whole trace is shown." if _has_log_level() else "Please report this."
        _end(f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:200]}. {more}", 1)


def _of_its_group(error: click.UsageError) -> str:
    """Where an option belongs that a command does not know, but its group does: ``gpuwatch host --database URL rename ...``; else empty."""
    group_ctx = error.ctx.parent if error.ctx is not None else None
    if not isinstance(error, click.NoSuchOption) or group_ctx is None or error.ctx is None:
        return ""
    if not any(error.option_name in one.opts for one in group_ctx.command.params):
        return ""
    return f"{error.option_name} stands before {error.ctx.info_name}: {group_ctx.command_path} {error.option_name} ... {error.ctx.info_name}"


def _has_log_level() -> bool:
    """The command that was run has the flag."""
    name = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        command = group.get_command(click.Context(group), name)
    except Exception:  # its import is what failed
        return False
    return command is not None and any("--log-level" in option.opts for option in command.params)


def _end(message: str, code: int) -> None:
    click.echo(f"gpuwatch: {message}", err=True)
    sys.exit(code)
