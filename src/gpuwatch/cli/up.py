"""``gpuwatch up``: a node and a hub together on this machine."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import click

from gpuwatch.cli import logs
from gpuwatch.cli.hub import serve
from gpuwatch.cli.together import NodePlan, Together
from gpuwatch.config.load import load, state_dir
from gpuwatch.config.settings import HubSettings


@click.command("up")
@click.option("--port", default=None, metavar="N", help="Port of the page  [7070]")
@click.option("--interval", default=None, metavar="SECONDS", help="Seconds between two readings  [2]")
@click.option("--config", default=None, metavar="PATH", help="TOML file with settings.")
@click.option("--log-level", default=None, metavar="TEXT", help="debug, info, warning or error  [warning]")
def command(**flags: Any) -> None:
    """Run a node and a hub together on loopback and show this machine's GPUs."""
    flags = {"interval": "2", "log_level": "warning", "no_access_log": True, **{name: value for name, value in flags.items() if value is not None}}
    settings = dataclasses.replace(load(HubSettings, "hub", flags), host="127.0.0.1")
    logs.set_up(settings)
    folder = state_dir(settings)
    plan = NodePlan(socket.gethostname(), "", {"interval": str(settings.interval)})
    with Together([plan], folder / "up") as together:
        own = dataclasses.replace(settings, database=settings.database or f"sqlite:///{folder / 'up.db'}")
        serve(together.hub_settings(own), lambda hub, url: _announce(url))


def _announce(url: str) -> None:
    click.echo(f"This machine's GPUs: {url}  (curl '{url}?term=true&view=rows'). Ctrl-C ends it.")
