"""``gpuwatch node``: serve this machine's GPUs."""

from __future__ import annotations

import json
from typing import Any

import click

from gpuwatch.cli import logs
from gpuwatch.cli.options import settings_options
from gpuwatch.config.load import load
from gpuwatch.config.settings import NodeSettings


@click.command("node")
@settings_options(NodeSettings)
@click.option("--debug", is_flag=True, help="Print one status as JSON and exit.")
@click.option("--stdio", is_flag=True, help="Open no port: write readings to standard output until standard input ends, for a hub with ssh:// targets.")
def command(debug: bool, stdio: bool, **flags: Any) -> None:
    """Read the GPUs of this machine and serve them to a hub.

    Needs no root. The password comes from --password-file, GPUWATCH_PASSWORD or the settings file, never from the command line.
    """
    settings = load(NodeSettings, "node", flags)
    logs.set_up(settings)
    if debug:
        click.echo(_status(settings))
        return
    if stdio:
        from gpuwatch.node import stdio as without_port

        without_port.run(settings)
        return
    from gpuwatch.node.service import run

    run(settings, announce=click.echo)  # not print: the line must leave the buffer of a pipe at once


def _status(settings: NodeSettings) -> str:
    """What ``/get-status`` would answer, indented."""
    from gpuwatch.node.newest import Answer, Sample
    from gpuwatch.node.once import read_once

    answer = Answer(Sample.of(read_once(settings)), None)
    return json.dumps(json.loads(answer.json()), indent=4, ensure_ascii=False)
