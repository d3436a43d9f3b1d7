"""``gpuwatch demo``: a hub and six simulated nodes on loopback, each a real node over real HTTP whose GPUs alone are simulated."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, Optional, Sequence, Tuple
from zoneinfo import ZoneInfo

import click

from gpuwatch.cli import logs
from gpuwatch.cli.hub import serve
from gpuwatch.cli.together import NodePlan, Together, passing_folder, wait_until
from gpuwatch.config.load import load, timezone_name
from gpuwatch.config.settings import HubSettings
from gpuwatch.model.errors import UsageError

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
LIVES = {"mixed": "life", "full": "life", "hot": "life-hot", "lost": "life-lost"}
"""Scenarios that stay as they are, and those in which jobs come and go instead: for a demo with a past."""
DOWN_DAYS = (-8 + 0.545, -8 + 0.735)
"""When DOWN was down in the past: days from the last midnight."""
MOST_HISTORY_SECONDS = 90 * 86400.0
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
@click.option("--history", default=None, metavar="SPAN", help="Begin with a simulated past, such as 30d; 30 days take some minutes to make.")
@click.option("--config", default=None, metavar="PATH", help="TOML file with settings.")
@click.option("--log-level", default=None, metavar="TEXT", help="debug, info, warning or error  [error]")
def command(history: Optional[str], **flags: Any) -> None:
    """Show a hub with six simulated nodes on this machine; needs no GPU. Ctrl-C ends all."""
    flags = {"interval": "2", "log_level": "error", "no_access_log": True, **{name: value for name, value in flags.items() if value is not None}}
    settings = dataclasses.replace(
        load(HubSettings, "hub", flags), host="127.0.0.1", database="", title="Demo", idle_after=IDLE_AFTER_SECONDS, down_after=DOWN_AFTER_SECONDS,
    )  # fmt: skip
    logs.set_up(settings)
    with _with_past(settings, history) as (settings, nodes):
        simulated = {"source": "gpuwatch.sim.source:make", "interval": "2"}
        plans = [NodePlan(name, tags, {**simulated, "source_argument": argument}) for name, tags, argument in nodes]
        click.echo("starting six simulated nodes ...", err=True)
        with Together(plans) as together:
            # in a thread: page and Ctrl-C must work while the nodes come up
            serve(together.hub_settings(settings), lambda hub, url: threading.Thread(target=_ready, args=(together, hub, url), daemon=True).start())


@contextlib.contextmanager
def _with_past(settings: HubSettings, history: Optional[str]) -> Iterator[Tuple[HubSettings, Sequence[Tuple[str, str, str]]]]:
    """The settings, with a database that holds the past if one is wanted, and the nodes. The database ends with the demo."""
    if history is None:
        yield settings, NODES
        return
    from gpuwatch.cli.demo_history import Past, fill, midnight_before
    from gpuwatch.rules.moments import parse_range

    seconds, zone = parse_range(history, name="--history"), ZoneInfo(timezone_name(settings))
    if seconds > MOST_HISTORY_SECONDS:
        raise UsageError(f"--history {history[:40]} is too long.", f"At most {MOST_HISTORY_SECONDS / 86400:g} days are simulated.")
    midnight_at = midnight_before(time.time(), zone)
    nodes = [(name, tags, _living(argument, midnight_at)) for name, tags, argument in NODES]
    down = tuple(midnight_at + days * 86400 for days in DOWN_DAYS)
    with passing_folder() as folder:
        settings = dataclasses.replace(settings, database=f"sqlite:///{folder / 'gpuwatch.db'}")
        with _ended_by(signal.SIGTERM):
            fill(settings, zone, [Past(name, argument, [(down[0], down[1])] if name == DOWN else []) for name, _, argument in nodes], seconds)
        yield settings, nodes


def _living(argument: str, midnight_at: float) -> str:
    profile, scenario, seed = argument.split(":")
    return f"{profile}:{LIVES[scenario]}:{seed}:{midnight_at:.0f}"


@contextlib.contextmanager
def _ended_by(number: signal.Signals) -> Iterator[None]:
    """A signal ends what is done here as Ctrl-C does: nothing of it stays."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)


def _ready(together: Together, hub: Any, url: str) -> None:
    if not wait_until(lambda: all(node.status == "up" for node in hub.cluster().nodes), SEEN_SECONDS):
        click.echo("some simulated nodes do not answer; the page says why", err=True)
    with contextlib.suppress(BrokenPipeError):  # nobody reads it: the page goes on
        click.echo(_HELLO.format(url=url))
    together.end_node(DOWN)
