"""The GPUs of a view as CSV (RFC 4180): one line a GPU, one for a host that has none to show. Pure.

A value that is not reported is an empty field, never 0. Text that a spreadsheet would run as a formula is made harmless by a leading ``'``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from operator import attrgetter
from typing import Any

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import GpuReading, throttle_reasons
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.select import select, users
from gpuwatch.render.text_words import Cache

NUMBERS = tuple(name for name, kind, _, _ in describe(GpuReading) if kind in ("gauge", "counter"))
FIXED = (
    ("host", "name of the target"),
    ("node_status", "up, stale, down, error or unseen"),
    ("node_error", "why there are no fresh readings of the host"),
    ("tags", "tags of the target, separated by blanks"),
    ("received_at", "when the hub got the reading, epoch seconds"),
    ("index", "NVML's number of the GPU on its host"),
    ("uuid", "UUID of the GPU; empty in the line of a host without GPUs"),
    ("name", "product name"),
    ("state", "free, busy, idle, reserved, mig, lost, stale, down or unknown"),
    ("since_at", "since when the state holds, epoch seconds"),
    ("marks", "warnings on top of the state, separated by ';'"),
    ("throttle_reasons", "why clocks are held back, separated by ';'"),
    ("users", "who runs something on the GPU, most memory first, separated by blanks"),
    ("process_count", "how many processes"),
    ("error", "why the GPU does not answer (lost)"),
)
"""(column, what it holds) before the numbers of a GPU's reading."""

COLUMNS = tuple(name for name, _ in FIXED) + NUMBERS
_FORMULA = "=+-@＝＋－＠"
_numbers_of = attrgetter(*NUMBERS)

HEAD = ",".join(COLUMNS) + "\r\n"
"""The first line: the names of the columns."""
HOST_COLUMNS = 5
_LINE = ",".join(["%s"] * (len(COLUMNS) - HOST_COLUMNS + 1)) + "\r\n"
"""The columns of the host count as one here."""


def cluster_csv(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """All GPUs that the options leave, in their order; the first line holds the names of the columns."""
    parts = [HEAD]
    for node, gpus in select(cluster, options):
        if cache is None or gpus is not node.gpus:
            parts.append(_lines(node, gpus))
        else:
            key = ("csv", options.audience, node.name)
            parts.append(cache.get(key, node.version, lambda node=node: _lines(node, node.gpus)))  # type: ignore[misc]
    return "".join(parts)


def host_csv(cluster: ClusterNow, node: NodeState) -> str:
    """The GPUs of one host."""
    return HEAD + _lines(node, node.gpus)


def gpu_csv(cluster: ClusterNow, node: NodeState, gpu: GpuView) -> str:
    """One GPU."""
    return HEAD + _lines(node, (gpu,))


def harmless(text: str | None) -> str:
    """Text that neither a terminal nor a spreadsheet acts on: no control characters, no leading ``= + - @``."""
    shown = words.clean(text)
    if shown[:1].isalnum():
        return shown
    lead = shown.lstrip(' "')[:1]
    return f"'{shown}" if lead and lead in _FORMULA else shown


def _lines(node: NodeState, gpus: tuple[GpuView, ...]) -> str:
    host = ",".join(_host(node))
    if not gpus:
        return host + "," * (len(COLUMNS) - HOST_COLUMNS) + "\r\n"
    return "".join([_LINE % (host, *_gpu(gpu)) for gpu in gpus])


def _host(node: NodeState) -> list[str]:
    return [_cell(node.name), node.status, _cell(node.error), _cell(" ".join(node.target.tags)), _number(node.received_at)]


def _gpu(gpu: GpuView) -> tuple[Any, ...]:
    reading, state = gpu.reading, gpu.state
    return (
        reading.index,
        _cell(reading.uuid),
        _cell(reading.name),
        state.state,
        _number(state.since_at),
        _cell(";".join(state.marks)),
        _reasons(reading.throttle_mask),
        _cell(" ".join(users(gpu))),
        "" if reading.error else len(reading.processes),
        _cell(reading.error),
        *[value if type(value) is int else _number(value) for value in _numbers_of(reading)],
    )


@lru_cache(maxsize=16384)
def _cell(text: str | None) -> str:
    """Harmless text as a field: in quotation marks where it holds a comma or one of them. Line ends are spaces by now."""
    shown = harmless(text)
    return '"%s"' % shown.replace('"', '""') if "," in shown or '"' in shown else shown  # noqa: UP031


@lru_cache(maxsize=8192)
def _number(value: float | None) -> str:
    """As it is; whole numbers without a point; empty for None. Kept, since readings are rounded and come again and again."""
    if value is None or not math.isfinite(value):
        return ""
    return str(int(value) if value == int(value) else value)


@lru_cache(maxsize=512)
def _reasons(mask: float | None) -> str:
    return ";".join(throttle_reasons(mask))
