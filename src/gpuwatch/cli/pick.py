"""``gpuwatch pick``: free GPUs of this machine, for CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import json
from typing import Iterator, NamedTuple, Optional

import click

from gpuwatch.cli import here
from gpuwatch.config.load import load
from gpuwatch.config.settings import NodeSettings
from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.model.units import GIB, parse_bytes


class Candidate(NamedTuple):
    """A GPU or MIG slice that nobody uses."""

    uuid: str
    gpu: str
    """Its number; ``0.1`` is slice 1 of GPU 0."""
    name: str
    free_bytes: Optional[int]
    """None = not reported: last in order, and never enough for ``--min-free``."""


@click.command("pick")
@click.option("-n", "--count", default=1, show_default=True, metavar="N", help="How many GPUs.")
@click.option("--min-free", metavar="SIZE", help="At least so much free memory on each, such as 20GiB.")
@click.option("--model", default="", metavar="TEXT", help="Part of the product name, such as H100.")
@click.option("--export", "as_export", is_flag=True, help='Print a line for eval: export CUDA_VISIBLE_DEVICES=...')
@click.option("--json", "as_json", is_flag=True, help="Print the GPUs as JSON.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
def command(count: int, min_free: Optional[str], model: str, as_export: bool, as_json: bool, config: Optional[str]) -> None:
    """Print the UUIDs of free GPUs of this machine, most free memory first.

    \b
    CUDA_VISIBLE_DEVICES=$(gpuwatch pick -n 2) python train.py

    Nothing is reserved. Exit code 1 if there are not so many.
    """
    if count < 1:
        raise UsageError(f"-n {count} is less than 1.")
    least = parse_bytes(min_free) if min_free else 0
    cluster = here.this_machine(load(NodeSettings, "node", {"config": config}))
    found = [one for one in candidates(cluster) if (not least or (one.free_bytes or 0) >= least) and model.casefold() in one.name.casefold()]
    found.sort(key=lambda one: -(one.free_bytes or 0))
    if len(found) < count:
        raise _too_few(cluster, len(found), count, least, model)
    chosen = found[:count]
    uuids = ",".join(one.uuid for one in chosen)
    if as_json:
        click.echo(json.dumps([one._asdict() for one in chosen]))
    else:
        click.echo(f"export CUDA_VISIBLE_DEVICES={uuids}" if as_export else uuids)


def candidates(cluster: ClusterNow) -> Iterator[Candidate]:
    """Free GPUs and free MIG slices. A GPU in an unknown state is not free."""
    for view in (gpu for node in cluster.nodes for gpu in node.gpus):
        reading = view.reading
        for one, state in zip(reading.mig, view.mig_states):
            if state.state == "free":
                total, used = one.memory_total_bytes, one.memory_used_bytes
                free = None if total is None or used is None else int(total - used)
                yield Candidate(one.uuid, f"{reading.index}.{one.index}", f"{reading.name or ''} {one.profile or ''}".strip(), free)
        if view.state.state == "free" and not reading.mig:
            yield Candidate(reading.uuid, str(reading.index), reading.name or "", _whole(reading.memory_free_bytes))


def _whole(number: Optional[float]) -> Optional[int]:
    return None if number is None else int(number)


def _too_few(cluster: ClusterNow, found: int, count: int, least: int, model: str) -> GpuwatchError:
    """Why there are not so many, and what to do."""
    errors = [node.error for node in cluster.nodes if node.error and node.status != "up"]  # of one that is up it is a mere warning
    if errors:
        return GpuwatchError(errors[0])
    readings = [gpu.reading for node in cluster.nodes for gpu in node.gpus]
    if not readings:
        return GpuwatchError("This machine has no NVIDIA GPU.", "`gpuwatch status --hub URL` shows which are free elsewhere.")
    names = {f"{one.name or ''} {part}".strip() for one in readings for part in ("", *(slice_.profile or "" for slice_ in one.mig))}
    if not any(model.casefold() in name.casefold() for name in names):
        return GpuwatchError(f"No GPU of this machine is called {model!r}.", f"--model takes a part of: {', '.join(sorted(names))}.")
    total = f"{len(readings)} GPU{'' if len(readings) == 1 else 's'}"
    more = f"{f' and called {model!r}' if model else ''}{f' with {least / GIB:g} GiB free' if least else ''}"
    return GpuwatchError(f"{found} of {total} {'is' if found == 1 else 'are'} free{more}, {count} wanted.", "`gpuwatch status` shows who is on the others.")
