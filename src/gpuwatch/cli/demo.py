"""``gpuwatch demo``: a hub and six simulated nodes on loopback, each a real node over real HTTP whose GPUs alone are simulated."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from typing import Any

import click

from gpuwatch.cli import logs
from gpuwatch.cli.hub import serve
from gpuwatch.cli.together import NodePlan, Together, wait_until
from gpuwatch.config.load import load
from gpuwatch.config.settings import HubSettings

DOWN = "old-1"
"""This node is ended as soon as the hub has seen it."""
NODES = (
    ("dgx-a", "train,h100", "8xh100:mixed:37"),
    ("dgx-b", "train,mig", "mig:mixed:3"),
    ("gpu01", "vision", "6xrtx4090:mixed:16"),
    ("vision-2", "vision,render", "4xl40s:hot:5"),
    ("gpu03", "nlp", "4xrtx2080s:lost:8"),
    (DOWN, "teaching", "3xgtx1080ti+1xrtx4080s:full:4"),
)
"""(name, tags, profile:scenario:seed of the simulation)"""
IDLE_AFTER_SECONDS = 20.0
DOWN_AFTER_SECONDS = 15.0
SEEN_SECONDS = 60.0
_HELLO = f"""
Demo: the GPUs of these six nodes are simulated.  {{url}}

  curl -s '{{url}}?term=true'
  curl -s '{{url}}?term=true&view=rows'
  curl -s '{{url}}api/v1/cluster'

One node ({DOWN}) goes down in {DOWN_AFTER_SECONDS:g} s; a GPU counts as idle after {IDLE_AFTER_SECONDS:g} s without work. Ctrl-C ends all."""


@click.command("demo")
@click.option("--port", default=None, metavar="N", help="Port of the page  [7070]")
@click.option("--config", default=None, metavar="PATH", help="TOML file with settings.")
@click.option("--log-level", default=None, metavar="TEXT", help="debug, info, warning or error  [error]")
def command(**flags: Any) -> None:
    """Show a hub with six simulated nodes on this machine; needs no GPU. Ctrl-C ends all."""
    flags = {"interval": "2", "log_level": "error", "no_access_log": True, **{name: value for name, value in flags.items() if value is not None}}
    settings = dataclasses.replace(
        load(HubSettings, "hub", flags), host="127.0.0.1", database="", title="Demo", idle_after=IDLE_AFTER_SECONDS, down_after=DOWN_AFTER_SECONDS,
    )  # fmt: skip
    logs.set_up(settings)
    simulated = {"source": "gpuwatch.sim.source:make", "interval": "2"}
    plans = [NodePlan(name, tags, {**simulated, "source_argument": argument}) for name, tags, argument in NODES]
    click.echo("starting six simulated nodes ...", err=True)
    with Together(plans) as together:
        # in a thread: page and Ctrl-C must work while the nodes come up
        serve(together.hub_settings(settings), lambda hub, url: threading.Thread(target=_ready, args=(together, hub, url), daemon=True).start())


def _ready(together: Together, hub: Any, url: str) -> None:
    if not wait_until(lambda: all(node.status == "up" for node in hub.cluster().nodes), SEEN_SECONDS):
        click.echo("some simulated nodes do not answer; the page says why", err=True)
    with contextlib.suppress(BrokenPipeError):  # nobody reads it: the page goes on
        click.echo(_HELLO.format(url=url))
    together.end_node(DOWN)
