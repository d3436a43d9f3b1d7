"""`gpuwatch completion`: prints what teaches a shell to complete gpuwatch. Must never write a file of the user's."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_GPUWATCH_COMPLETE"  # click looks for this name, made from the program's


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the lines that teach your shell to complete gpuwatch.

    The file must be on PATH under the name gpuwatch. Put one of these into your shell's start-up file:

    \b
    ~/.bashrc:                    eval "$(gpuwatch completion bash)"
    ~/.zshrc:                     eval "$(gpuwatch completion zsh)"
    ~/.config/fish/config.fish:   gpuwatch completion fish | source
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise click.ClickException(f"no completion for {shell}: bash, zsh and fish are known")
    click.echo(completion(ctx.find_root().command, {}, "gpuwatch", VARIABLE).source())
