"""Seed 004's two tables, ``/?term=true`` and ``/gpu_table?term=true``: its frame, its columns, its words. Pure.

What that system did not know (a host that is down, a lost GPU) is said in a row of the same frame whose GPU column does not begin with
``N:``, or whose numbers are ``n/r``, so that a program that reads the old table goes on reading ours.
"""

from __future__ import annotations

from typing import Callable

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import Selected, select
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_words import (
    UNKNOWN,
    Cache,
    cached,
    lost_reason,
    mib,
    node_reason,
    node_span,
    node_word,
    notes,
    number,
    program,
    shown_since,
)

HOST, MEMORY, LOAD, HEAT = 18, 17, 8, 7
"""Columns of seed 004's table inside its frame; the GPU's take what is left: 24 of 80."""

NARROW = 24
"""A GPU column below this gets the short names of cards and spans."""
ROOMY = 64
"""A GPU column this wide also tells state, since and user."""

Row = Callable[[NodeState, GpuView, float], "list[str]"]


def table(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """``/?term=true``: host, GPU, memory in MiB, utilization, temperature."""
    look = Look.of(options)
    widths = _widths(look.width, (MEMORY, LOAD, HEAT))
    heads = (" host", " gpu", " memory usage", " volat.", " temp.")
    frame = _Frame(look, widths, lambda node, gpu, now: _cells(look, widths, gpu, now))
    return frame.draw("table", heads, cluster, options, cache)


def gpu_table(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """``/gpu_table?term=true``: host, GPU, memory in MiB."""
    look = Look.of(options)
    widths = _gpu_table_widths(look.width)
    heads = (" host name", " gpu name", " memory usage (MiB)")
    frame = _Frame(look, widths, lambda node, gpu, now: _cells(look, widths, gpu, now))
    return frame.draw("gpu_table", heads, cluster, options, cache)


def _widths(width: int, fixed: tuple[int, ...]) -> tuple[int, ...]:
    rest = width - sum(fixed) - len(fixed) - 3
    host = min(HOST, rest * 3 // 7 if rest >= HOST + NARROW else rest * 3 // 8)
    return (host, rest - host, *fixed)


def _gpu_table_widths(width: int) -> tuple[int, ...]:
    rest = width - 19 - 4
    host = min(30, rest * 30 // 57)
    return (host, rest - host, 19)


class _Frame:
    """A table's frame and the rows of one host in it."""

    def __init__(self, look: Look, widths: tuple[int, ...], cells: Row) -> None:
        self.look, self.widths, self.cells = look, widths, cells
        self.rule = "+" + "+".join("-" * columns for columns in widths) + "+"

    def draw(self, kind: str, heads: tuple[str, ...], cluster: ClusterNow, options: ViewOptions, cache: Cache | None) -> str:
        """The whole table, then its notes."""
        rows = select(cluster, options)
        key = (kind, self.look, options.audience, options.layout == "flat")
        lines = [self.rule, self.line(heads), self.rule]
        lines += [self._host(row, cluster.taken_at, key, cache) for row in rows]
        for note in notes(cluster, options, rows):
            lines += self.look.wrap(note, self.look.width)
        return self.look.final("\n".join(lines) + "\n")

    def line(self, cells: tuple[str, ...] | list[str]) -> str:
        """One row; cells that are too short are filled up."""
        return "|" + "|".join(map(self.look.left, cells, self.widths)) + "|"

    def _host(self, row: Selected, now: float, key: tuple[object, ...], cache: Cache | None) -> str:
        node, gpus = row
        if gpus is node.gpus:
            return cached(cache, node, key, lambda: self._host_lines(node, gpus, now))
        return self._host_lines(node, gpus, now)

    def _host_lines(self, node: NodeState, gpus: tuple[GpuView, ...], now: float) -> str:
        lines: list[str] = []
        word = node_word(node)
        if word:
            lines.append(self._status(node, word, now))
        if not word or word == "stale":
            lines += [self._gpu(node, gpu, now) for gpu in gpus]
        name = self.look.left(words.clean(node.name), self.widths[0])
        blank = " " * self.widths[0]
        ansi = text_cells.DIM if node.status == "stale" else ""
        painted = [self.look.paint(f"|{name if first == 0 else blank}|{line}", ansi) for first, line in enumerate(lines)]
        return "\n".join([*painted, self.rule])

    def _status(self, node: NodeState, word: str, now: float) -> str:
        """Columns after the host's: what is wrong with it."""
        span = node_span(node, now)
        told = f"{word} {span.replace(' ', '') if self.widths[1] < NARROW else span}".strip()
        reason = node_reason(node)
        roomy = reason and self.widths[1] >= ROOMY
        text = self.look.left(f" {told}: {reason}" if roomy else f" {told}", self.widths[1])
        chip = text_cells.BROKEN if node.status in ("down", "error") else ""
        if chip and self.look.color:
            text = f" {self.look.paint(text[1 : 1 + len(word)], chip)}{text[1 + len(word) :]}"
        return "|".join([text, *(" " * columns for columns in self.widths[2:])]) + "|"

    def _gpu(self, node: NodeState, gpu: GpuView, now: float) -> str:
        return "|".join(self.cells(node, gpu, now)) + "|"


def _cells(look: Look, widths: tuple[int, ...], gpu: GpuView, now: float) -> list[str]:
    """Columns of one GPU after the host's: name, memory, and the two numbers where the table has them."""
    reading = gpu.reading
    cells = [_named(look, gpu, widths[1], now), _memory(reading, widths[2])]
    if len(widths) > 3:
        load, heat = reading.utilization_percent, reading.temperature_celsius
        cells.append(UNKNOWN.rjust(LOAD) if load is None else f"{number(load):>6} %")
        cells.append(UNKNOWN.rjust(HEAT) if heat is None else f"{number(heat):>4} °C")
    return _painted(look, cells, gpu.state) if look.color else cells


def _memory(reading: GpuReading, columns: int) -> str:
    digits = 6 if columns == MEMORY else 7
    return f" {mib(reading.memory_used_bytes).rjust(digits)} / {mib(reading.memory_total_bytes).rjust(digits)} "


def _named(look: Look, gpu: GpuView, columns: int, now: float) -> str:
    """`` 0:GeForce GTX 1080 Ti ``; the maker's name goes where the column is too narrow for it."""
    reading = gpu.reading
    name = words.clean(reading.name) or "GPU"
    if columns < NARROW:
        name = words.model_name(reading.name)
    elif columns < ROOMY and name.startswith("NVIDIA "):
        name = name[7:]
    if gpu.state.state == "lost":
        reason = lost_reason(gpu)
        return look.left(f" {reading.index}:lost {name}" + (f": {reason}" if columns >= ROOMY and reason else ""), columns)
    if columns < ROOMY:
        return look.left(f" {reading.index}:{name}", columns)
    runs = "; ".join(f"{words.clean(process.user) or UNKNOWN} {program(process)}" for process in reading.processes)
    since = shown_since(gpu)
    told = f"{gpu.state.state:<9}{'' if since is None else words.span_compact(now - since):>6}  {runs}"
    return look.left(f"{look.left(f' {reading.index}:{name}', 30)} {told}", columns)


def _painted(look: Look, cells: list[str], state: GpuState) -> list[str]:
    name, memory, *numbers = cells
    if state.state == "free":
        name = f" {look.paint(name[1:].rstrip(), text_cells.FREE)}{' ' * (len(name) - len(name.rstrip()))}"
    elif state.state == "lost":
        name = name.replace(":lost", f":{look.paint('lost', text_cells.BROKEN)}", 1)
    elif state.state == "idle":
        memory = look.paint(memory, text_cells.HELD)
    if state.marks and numbers:
        numbers[-1] = look.paint(numbers[-1], text_cells.ALARM)
    return [name, memory, *numbers]
