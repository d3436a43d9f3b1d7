"""``gpuwatch status``: one line a GPU, of this machine or of a hub."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Optional
from urllib.parse import urlencode

import click

from gpuwatch.cli import here
from gpuwatch.config.load import color_wanted, load
from gpuwatch.config.settings import HubSettings, NodeSettings
from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.model.units import parse_seconds
from gpuwatch.model.view import ViewOptions

FORMATS = ("text", "json", "gpustat", "nvidia-smi-csv")
CLEAR, HOME, END_OF_LINE, BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


@click.command("status")
@click.argument("query", nargs=-1)
@click.option("--hub", metavar="URL", help="Ask this hub instead of reading this machine.")
@click.option("--database", metavar="URL", help="Read a hub's database (sqlite:///FILE) instead.")
@click.option("--json", "as_json", is_flag=True, help="Typed JSON as /api/v1/cluster gives it.")
@click.option("--format", type=click.Choice(FORMATS), default="text", help="json is --json; gpustat: JSON with gpustat's keys; nvidia-smi-csv: as nvidia-smi --query-gpu.")
@click.option("--free", is_flag=True, help="Free GPUs only.")
@click.option("--detail", is_flag=True, help="Each GPU's processes below it.")
@click.option("--watch", is_flag=False, flag_value="2s", default=None, metavar="[SECONDS]", help="Print again every 2 s (or SECONDS) until Ctrl-C.")
@click.option("--color/--no-color", default=None, help="Colour; by itself on a terminal unless NO_COLOR is set.")
@click.option("--ascii", "ascii_only", is_flag=True, help="No characters beyond ASCII.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
def command(
    query: tuple[str, ...], hub: Optional[str], database: Optional[str], as_json: bool, format: str, free: bool, detail: bool, watch: Optional[str],
    color: Optional[bool], ascii_only: bool, config: Optional[str],
) -> None:  # fmt: skip
    """Print the GPUs of this machine, or of a hub: state, who, since when, memory, heat, power.

    QUERY: words that host, tag, model or user must match.
    """
    if hub and database:
        raise UsageError("--hub and --database exclude each other. Choose one.")
    if as_json and format not in ("text", "json"):
        raise UsageError(f"--json and --format {format} exclude each other. Choose one.")
    format = "json" if as_json else format
    seconds = parse_seconds(watch) if watch else 0.0
    if watch and seconds < 0.1:
        raise UsageError(f"--watch {watch} is shorter than 0.1 s.")
    options = ViewOptions(
        audience="admin", query=_as_utf8(" ".join(query)), free_only=free, detail=detail, layout="rows", width=_width(), ascii_only=ascii_only,
        color=(sys.stdout.isatty() and color_wanted()) if color is None else color,
    )  # fmt: skip
    if watch and sys.stdout.isatty():
        sys.stdout.write(CLEAR)
    while True:
        try:
            text = _text(options, hub, database, format, config)
        except UsageError:
            raise
        except GpuwatchError as error:  # a hub may restart, a driver may hang: the next look may do
            if not watch:
                raise
            text = f"gpuwatch: {error}\n"
        sys.stdout.write(on_screen(text, shutil.get_terminal_size((80, 24)).lines) if watch and sys.stdout.isatty() else text)
        sys.stdout.flush()
        if not watch:
            return
        time.sleep(seconds)


def on_screen(text: str, rows: int) -> str:
    """The text over what a screen of so many rows shows, from its top: what is too long is cut and said, so that nothing scrolls away.

    What was in the terminal before stays in its scrollback.
    """
    lines = text.rstrip("\n").split("\n")
    if len(lines) >= rows > 2:
        lines = [*lines[: rows - 2], f"... {len(lines) - rows + 2} more lines: enlarge the window, or name hosts, users or models"]
    return HOME + "".join(f"{line}{END_OF_LINE}\n" for line in lines) + BELOW


def _as_utf8(argument: str) -> str:
    """Words of the command line as they were typed: under LANG=C Python hands over what is not ASCII as single bytes."""
    return os.fsencode(argument).decode("utf-8", "replace")


def _width() -> int:
    return min(400, max(60, shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80))


def _text(options: ViewOptions, hub: Optional[str], database: Optional[str], format: str, config: Optional[str]) -> str:
    if hub:
        return here.ask_hub(hub, _path(options, format)).decode("utf-8", "replace")
    return _render(_cluster(database, config), options, format, one_host=not database)


def _cluster(database: Optional[str], config: Optional[str]) -> ClusterNow:
    if database:
        return here.from_database(load(HubSettings, "hub", {"database": database, "config": config}))
    return here.this_machine(load(NodeSettings, "node", {"config": config}))


def _render(cluster: ClusterNow, options: ViewOptions, format: str, one_host: bool = False) -> str:
    """``one_host``: gpustat prints the object of its own machine, not a list."""
    if format == "json":
        from gpuwatch.render.as_json import cluster_json

        return cluster_json(cluster, options).decode()
    if format == "gpustat":
        from gpuwatch.render.as_gpustat import cluster_gpustat

        return (cluster_gpustat(cluster, options, one_host=one_host)).decode()
    if format == "nvidia-smi-csv":
        from gpuwatch.render.as_nvidia_smi import cluster_nvidia_smi

        return cluster_nvidia_smi(cluster, options)
    from gpuwatch.render import as_ascii

    return as_ascii.rows(cluster, options)


def _path(options: ViewOptions, format: str) -> str:
    wanted = {"q": options.query, "free": "true" if options.free_only else ""}
    if format != "text":
        wanted["format"] = "" if format == "json" else format
        return "/api/v1/cluster?" + urlencode({name: value for name, value in wanted.items() if value})
    wanted.update(term="true", view="rows", width=str(options.width), detail="true" if options.detail else "")
    wanted.update(color="true" if options.color else "", ascii="true" if options.ascii_only else "")
    return "/?" + urlencode({name: value for name, value in wanted.items() if value})
