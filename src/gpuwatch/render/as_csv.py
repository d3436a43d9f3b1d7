"""The GPUs of a view as CSV (RFC 4180): one line a GPU, one for a host that has none to show. Pure.

A value that is not reported is an empty field, never 0. Text that a spreadsheet would run as a formula is made harmless by a leading ``'``.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache, partial
from itertools import starmap
from operator import attrgetter

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState
from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import GpuReading, throttle_reasons
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.filling import Pool
from gpuwatch.render.gaps import Gaps, Template, Write, WriteAll, facts_of, in_places, template, texts_of
from gpuwatch.render.select import page_of, shown, users
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
_values_of = attrgetter(*NUMBERS)

HEAD = ",".join(COLUMNS) + "\r\n"
"""The first line: the names of the columns."""
HOST_COLUMNS = 5


def cluster_csv(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """All GPUs that the options leave, in their order; the first line holds the names of the columns."""
    rows = page_of(shown(cluster, options), options)
    return HEAD + "".join([_piece(node, gpus, options.audience, cache) for node, gpus in rows])


def _piece(node: NodeState, gpus: tuple[GpuView, ...] | None, audience: str, cache: Cache | None) -> str:
    if cache is None or gpus is not None:
        return _lines(node, node.gpus if gpus is None else gpus)
    return cache.get(("csv", audience, node.name), node.version, lambda: _live_lines(node, audience, cache))


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
    gaps = Gaps()
    return gaps.filled(_marked(node, gpus, gaps))


def _live_lines(node: NodeState, audience: str, cache: Cache) -> str:
    """All lines of a node; those of a live one from its flat values."""
    texts = texts_of(node)
    if texts is None:
        return _lines(node, node.gpus)
    form = cache.get(("csv form", audience, node.name), facts_of(node), lambda: _template(node))
    return form.fill(Pool(texts, ("null", _number(node.received_at), "", "", *form.states(node, _state))))


def _template(node: NodeState) -> Template:
    gaps, placed = Gaps(), in_places(node)
    return template(_marked(placed, placed.gpus, gaps), gaps, node, _FROM_TEXTS)


def _marked(node: NodeState, gpus: tuple[GpuView, ...], gaps: Gaps) -> str:
    """The lines with marks in place of numbers and states."""
    own = [_cell(node.name), node.status, _cell(node.error), _cell(" ".join(node.target.tags))]
    if not gpus:
        return ",".join([*own, gaps.leave(_number, node.received_at)]) + "," * (len(COLUMNS) - HOST_COLUMNS) + "\r\n"
    return "".join([",".join([*own, gaps.leave(_number, node.received_at), *_gpu(gpu, gaps)]) + "\r\n" for gpu in gpus])


def _gpu(gpu: GpuView, gaps: Gaps) -> list[str]:
    reading = gpu.reading
    return [
        str(reading.index),
        _cell(reading.uuid),
        _cell(reading.name),
        gaps.leave(_state, gpu.state),
        gaps.leave(_reasons, reading.throttle_mask),
        _cell(" ".join(users(gpu))),
        "" if reading.error or "processes" in reading.missing else str(len(reading.processes)),
        _cell(reading.error),
        gaps.leave(_numbers, *_values_of(reading)),
    ]


def _state(state: GpuState) -> str:
    """The columns state, since_at and marks."""
    return ",".join((state.state, _number(state.since_at), _cell(";".join(state.marks))))


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


def _numbers(*numbers: float | None) -> str:
    """The columns of a GPU's numbers."""
    return ",".join([str(value) if type(value) is int else _number(value) for value in numbers])


def _numbers_of_texts(texts: tuple[str, ...]) -> str:
    """The same of numbers as JSON writes them: without a sign or an exponent they look alike, and making each anew costs three times as much."""
    line = ",".join(texts)
    if "-" in line or "e" in line or "E" in line:
        return _numbers(*map(json.loads, texts))
    return (line.replace("null", "") + ",").replace(".0,", ",")[:-1]


@lru_cache(maxsize=512)
def _reasons(mask: float | None) -> str:
    return ";".join(throttle_reasons(mask))


@lru_cache(maxsize=512)
def _reasons_of_text(text: str) -> str:
    return _reasons(json.loads(text))


_FROM_TEXTS: dict[Write, WriteAll | None] = {
    _state: None,
    _number: None,
    _reasons: partial(starmap, _reasons_of_text),
    _numbers: partial(map, _numbers_of_texts),
}
