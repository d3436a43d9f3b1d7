"""The hidden command that a node starts as its sampler process."""

from __future__ import annotations

import click


@click.command("_sampler", hidden=True)
def command() -> None:
    """Read the GPUs and write frames to stdout, until stdin ends."""
    from gpuwatch.node.sampler import main

    main()
