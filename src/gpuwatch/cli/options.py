"""Flags of node and hub, made from the table of settings; and the shape of groups of commands about the database."""

from __future__ import annotations

from typing import Any, Callable, Optional, Type

import click

from gpuwatch.config.example import toml_value
from gpuwatch.config.settings import CommonSettings, settings_of
from gpuwatch.model.errors import GpuwatchError

Command = Callable[..., Any]


class DatabaseGroup(click.Group):
    """A group whose ``--database`` stands before the command; the help of each command says so."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """The command, None for a name that is none."""
        command = super().get_command(ctx, cmd_name)
        hint = f"Another database: gpuwatch {self.name} --database URL {cmd_name} ..."
        if command is not None and hint not in (command.epilog or ""):
            command.epilog = f"{command.epilog}\n\n{hint}" if command.epilog else hint
        return command


def ask_first(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone, unless ``yes``. A no ends the command with exit code 1; where nobody can answer, it says so."""
    try:
        if not yes:
            click.confirm(question, abort=True, err=True)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        click.echo(err=True)
        raise GpuwatchError("Nobody answered, nothing was changed.", "To do it without a question: --yes") from None


def settings_options(table: Type[CommonSettings]) -> Callable[[Command], Command]:
    """A decorator that gives a command one flag for each setting that has one; its value is text, None where it is not given."""

    def decorate(command: Command) -> Command:
        for field in reversed(settings_of(table)):
            if field.metadata["where"] != "no_flag":
                command = _option(field)(command)
        return command

    return decorate


def _option(field: Any) -> Callable[[Command], Command]:
    spellings = [f"--{field.name.replace('_', '-')}", *field.metadata["flags"]]
    default = toml_value(field.default).strip('"')
    told = field.metadata["help"][:1].upper() + field.metadata["help"][1:]  # as the help of other flags is written
    text = f"{told}  [{default}]" if default and field.metadata["kind"] != "bool" else f"{told}."
    if field.metadata["kind"] == "bool":
        return click.option(*spellings, field.name, is_flag=True, default=None, help=text)
    return click.option(*spellings, field.name, default=None, metavar=_metavar(field.metadata["kind"]), help=text)


def _metavar(kind: str) -> str:
    return {"path": "PATH", "int": "N", "seconds": "SECONDS", "bytes": "SIZE", "float": "N"}.get(kind, "TEXT")
