"""Seed 004's two tables, ``/?term=true`` and ``/gpu_table?term=true``: its frame, its columns, its words. Pure.

What that system did not know (a host that is down, a lost GPU) is said in a row of the same frame whose GPU column does not begin with
``N:``, or whose numbers are ``n/r``, so that a program that reads the old table goes on reading ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import page_of, shown
from gpuwatch.render.stencil import Hole, Piece, host_text
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_words import (
    UNKNOWN,
    Cache,
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


def table(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """``/?term=true``: host, GPU, memory in MiB, utilization, temperature."""
    look = Look.of(options)
    widths = _widths(look.width, (MEMORY, LOAD, HEAT))
    heads = (" host", " gpu", " memory usage", " volat.", " temp.")
    return _Frame(look, widths).draw("table", heads, cluster, options, cache)


def gpu_table(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """``/gpu_table?term=true``: host, GPU, memory in MiB."""
    look = Look.of(options)
    widths = _gpu_table_widths(look.width)
    heads = (" host name", " gpu name", " memory usage (MiB)")
    return _Frame(look, widths).draw("gpu_table", heads, cluster, options, cache)


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

    def __init__(self, look: Look, widths: tuple[int, ...]) -> None:
        self.look, self.widths = look, widths
        self.rule = "+" + "+".join("-" * columns for columns in widths) + "+"

    def draw(self, kind: str, heads: tuple[str, ...], cluster: ClusterNow, options: ViewOptions, cache: Cache | None) -> str:
        """The whole table, then its notes."""
        rows = page_of(shown(cluster, options), options)
        key = (kind, self.look, options.audience)
        lines = [self.rule, self._line(heads), self.rule]
        lines += [host_text(row, cluster.taken_at, cache, key, self._host) for row in rows]
        for note in notes(cluster, options, rows):
            lines += self.look.wrap(note, self.look.width)
        return self.look.final("\n".join(lines) + "\n")

    def _line(self, cells: tuple[str, ...]) -> str:
        """One row; cells that are too short are filled up."""
        return "|" + "|".join(map(self.look.left, cells, self.widths)) + "|"

    def _host(self, node: NodeState, gpus: tuple[GpuView, ...], now: Any) -> Iterator[Piece]:
        """The lines of a host and the rule below it."""
        word = node_word(node)
        rows: list[list[Piece]] = [[self._status(node, word, now)]] if word else []
        if not word or word == "stale":
            rows += [_cells(self.look, self.widths, gpu, now) for gpu in gpus]
        name = self.look.left(words.clean(node.name), self.widths[0])
        before, after = self.look.around(text_cells.DIM if node.status == "stale" else "")
        for cells in rows:
            yield f"{before}|{name}|"
            yield from cells
            yield f"|{after}\n"
            name = " " * self.widths[0]
        yield self.rule

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
        return "|".join([text, *(" " * columns for columns in self.widths[2:])])


def _cells(look: Look, widths: tuple[int, ...], gpu: GpuView, now: Any) -> list[Piece]:
    """Columns of one GPU after the host's: name, memory, and the two numbers where the table has them."""
    reading, state = gpu.reading, gpu.state
    held, held_end = look.around(text_cells.HELD if state.state == "idle" else "")
    memory = Hole(_memory, (reading.memory_used_bytes, reading.memory_total_bytes), (6 if widths[2] == MEMORY else 7,))
    cells: list[Piece] = [_name_cell(look, gpu, widths[1], now), f"|{held}", memory, held_end]
    if len(widths) > 3:
        alarm, alarm_end = look.around(text_cells.ALARM if state.marks else "")
        heat = Hole(_heat, (reading.temperature_celsius,))
        cells += ["|", Hole(_load, (reading.utilization_percent,)), f"|{alarm}", heat, alarm_end]
    return cells


@lru_cache(maxsize=16384)
def _memory(digits: int, used: float | None, total: float | None) -> str:
    return f" {mib(used).rjust(digits)} / {mib(total).rjust(digits)} "


@lru_cache(maxsize=1024)
def _load(percent: float | None) -> str:
    return UNKNOWN.rjust(LOAD) if percent is None else f"{number(percent):>6} %"


@lru_cache(maxsize=1024)
def _heat(celsius: float | None) -> str:
    return UNKNOWN.rjust(HEAT) if celsius is None else f"{number(celsius):>4} °C"


def _name_cell(look: Look, gpu: GpuView, columns: int, now: Any) -> Piece:
    """`` 0:GeForce GTX 1080 Ti ``; where there is room, also state, since and what runs."""
    head = f" {gpu.reading.index}:{_model(gpu.reading, columns)}"
    if gpu.state.state == "lost":
        return _painted(look, look.left(_lost(gpu, columns), columns), gpu.state)
    if columns < ROOMY:
        return _painted(look, look.left(head, columns), gpu.state)
    runs = "; ".join(f"{words.clean(process.user) or UNKNOWN} {program(process)}" for process in gpu.reading.processes)
    return Hole(_roomy_cell, (now,), (look, columns, look.left(head, 30), gpu.state, shown_since(gpu), runs))


def _roomy_cell(look: Look, columns: int, head: str, state: GpuState, since: float | None, runs: str, now: float) -> str:
    told = f"{state.state:<9}{'' if since is None else words.span_compact(now - since):>6}  {runs}"
    return _painted(look, look.left(f"{head} {told}", columns), state)


def _model(reading: GpuReading, columns: int) -> str:
    """The card's name; the maker's goes where the column is too narrow for it."""
    if columns < NARROW:
        return words.model_name(reading.name)
    name = words.clean(reading.name) or "GPU"
    return name[7:] if columns < ROOMY and name.startswith("NVIDIA ") else name


def _lost(gpu: GpuView, columns: int) -> str:
    reason = lost_reason(gpu) if columns >= ROOMY else ""
    return f" {gpu.reading.index}:lost {_model(gpu.reading, columns)}" + (f": {reason}" if reason else "")


def _painted(look: Look, name: str, state: GpuState) -> str:
    if not look.color:
        return name
    if state.state == "free":
        return f" {look.paint(name[1:].rstrip(), text_cells.FREE)}{' ' * (len(name) - len(name.rstrip()))}"
    return name.replace(":lost", f":{look.paint('lost', text_cells.BROKEN)}", 1) if state.state == "lost" else name
