"""Seed 004's detailed text, ``/?term=true&detail=true`` and ``/states/<host>/?term=true``: a box a GPU, its processes in it. Pure.

The frame is that of its README (80 columns, box characters), with the user beside each process as its later version prints it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading, Number, ProcessReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import AWAY, page_of, shown
from gpuwatch.render.stencil import Hole, Piece, host_text
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_words import (
    UNKNOWN,
    Cache,
    date,
    lost_reason,
    memory_percent,
    mib,
    node_reason,
    node_span,
    node_word,
    notes,
    number,
    program,
)

INDENT = 2
NAME_AND_MEMORY = 35
"""Columns of a process's name and memory together, at a width of 80."""
WIDEST_NAME = 100
USUAL_TIME = len("2018/12/03 23:16:59.140")
"""Letters of a time that is known."""
COLUMNS = ("memory used", "memory available", "gpu volatile", "temperature"), (17, 18, 14, 13)
NARROW_COLUMNS = ("memory used", "available", "volatile", "temp."), (17, 13, 10, 8)


def detail(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None, date_style: str = "YMD") -> str:
    """All hosts with all that seed 004 tells of a GPU. ``date_style``: YMD, MDY or DMY, the hub's setting."""
    look = Look.of(options)
    rows = page_of(shown(cluster, options), options)
    key = ("detail", look, options.audience, cluster.timezone, date_style)
    drawer = _Drawer(_box(look), cluster.timezone, date_style)
    drawn = [host_text(row, cluster.taken_at, cache, key, drawer.host) for row in rows]
    for note in notes(cluster, options, rows, times=True):
        drawn += [f"{line}\n" for line in look.wrap(note, look.width)]
    return look.final("".join(drawn))


class _Box:
    """The frame around a GPU. What is the same in each is made once."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.inner = look.width - 2 * INDENT - 2
        self.edge = " " * INDENT + "│"
        self.top = " " * INDENT + "┌" + "─" * self.inner + "┐\n"
        self.bottom = " " * INDENT + "└" + "─" * self.inner + "┘\n"
        self.empty = self.line("")
        heads, self.widths = COLUMNS if self.inner >= sum(COLUMNS[1]) else NARROW_COLUMNS
        self.heads = self.line("".join([f"{head:>{width}}" for head, width in zip(heads, self.widths)]))
        self.bar = self.inner - 13
        self.name_and_memory = min(max(NAME_AND_MEMORY, NAME_AND_MEMORY + look.width - 80), WIDEST_NAME)

    def line(self, text: str, ansi: str = "") -> str:
        """A line of a box. ``text`` is of ASCII and our own signs, each one column wide: no stranger's name is in it."""
        if len(text) > self.inner:
            text = self.look.cut(text, self.inner)
        text = text.ljust(self.inner)
        return f"{self.edge}{self.look.paint(text, ansi) if ansi else text}│\n"

    def strangers_line(self, text: str, ansi: str = "") -> str:
        """A line of a box with names of any letters in it."""
        return f"{self.edge}{self.look.paint(self.look.left(text, self.inner), ansi)}│\n"


_box = lru_cache(maxsize=64)(_Box)


class _Drawer:
    """Draws hosts."""

    def __init__(self, box: _Box, zone: str, date_style: str) -> None:
        self.box, self.look, self.zone, self.date_style = box, box.look, zone, date_style

    def host(self, node: NodeState, gpus: tuple[GpuView, ...], now: Any) -> Iterator[Piece]:
        """Title, time of the last update, and the boxes; ends with an empty line."""
        yield f"\n{self._title(node)}\n  last update: "
        yield Hole(_updated, (node.received_at,), (self.zone, self.date_style))
        yield f" (stale {node_span(node, now)})\n" if node.status == "stale" else "\n"
        yield "-" * self.look.width + "\n"
        if node.status in AWAY or not gpus:
            yield from self._no_gpus(node, now)
        else:
            for gpu in gpus:
                yield from self._gpu(node, gpu, now)
                yield "\n"
        yield "_" * self.look.width + "\n\n"

    def _title(self, node: NodeState) -> str:
        room = self.look.width - 12
        title = f"### {self.look.cut(node.name, room // 2)} :: {self.look.cut(node.target.host, room // 2)} "
        return self.look.paint(title + "#" * (self.look.width - text_cells.width(title)), text_cells.BOLD)

    def _no_gpus(self, node: NodeState, now: Any) -> list[str]:
        box = self.box
        status = f"  status: {node_word(node)} {node_span(node, now)}".rstrip()
        reason = [box.strangers_line(f"  {line}") for line in self.look.wrap(node_reason(node), box.inner - 4) if line]
        chip = text_cells.ALARM if node.status in ("down", "error") else ""
        return [box.top, box.empty, box.line(status, chip), *reason, box.empty, box.bottom]

    def _gpu(self, node: NodeState, gpu: GpuView, now: Any) -> Iterator[Piece]:
        box, reading = self.box, gpu.reading
        label = f"gpu:{reading.index} {words.clean(reading.name) or 'GPU'}"
        taken_at = None if node.snapshot is None else node.snapshot.taken_at
        yield Hole(_head, (reading.live_read_at, taken_at), (box, self.zone, label, *_around(box, label, USUAL_TIME)))
        if gpu.state.state == "lost":
            yield Hole(_lost, (now,), (box, self.zone, gpu.state.since_at, lost_reason(gpu)))
        else:
            yield from self._values(gpu)
        yield box.bottom

    def _values(self, gpu: GpuView) -> Iterator[Piece]:
        box, reading, marks = self.box, gpu.reading, gpu.state.marks
        yield box.heads
        yield Hole(_numbers, _of_line(reading), (box, text_cells.ALARM if marks else ""))
        yield from (box.strangers_line(f"  ! {words.clean(mark)}", text_cells.ALARM) for mark in marks)
        yield box.empty
        yield Hole(_memory, (reading.memory_used_bytes, reading.memory_total_bytes), (box,))
        for part in reading.mig:
            name = f" mig {part.index} {words.clean(part.profile) or UNKNOWN:<12}"
            yield Hole(_slice, (part.memory_used_bytes, part.memory_total_bytes), (box, name))
        if not reading.processes and "processes" in reading.missing:
            yield box.strangers_line(f"  └── processes: {UNKNOWN}")
        last = len(reading.processes) - 1
        for place, process in enumerate(reading.processes):
            yield from _process(box, process, place == last)


# ---- what numbers fill in


def _updated(zone: str, style: str, received_at: Number) -> str:
    return "no entry received." if received_at is None else date(received_at, zone, style)


def _head(box: _Box, zone: str, label: str, before: str, after: str, read_at: Number, taken_at: Number) -> str:
    moment = _time(taken_at if read_at is None else read_at, zone)
    if len(moment) != USUAL_TIME:
        before, after = _around(box, label, len(moment))
    return f"{before}{moment}{after}"


@lru_cache(maxsize=1024)
def _time(at: Number, zone: str) -> str:
    """Kept, since all GPUs of a host are mostly read at once."""
    return date(at, zone, milliseconds=True)


@lru_cache(maxsize=1024)
def _around(box: _Box, label: str, moment: int) -> tuple[str, str]:
    """What stands before and after a time of so many letters in the upper edge."""
    name = box.look.cut(label, box.inner - moment - 8)
    return f"{' ' * INDENT}┌[ {name} ", f" ]{'─' * (box.inner - text_cells.width(name) - moment - 5)}┐\n"


def _lost(box: _Box, zone: str, since_at: Number, reason: str, now: float) -> str:
    told = f"lost since {words.clock(since_at, now, zone) or UNKNOWN}. {reason}"
    return "".join([box.strangers_line(f"  {line}", text_cells.ALARM) for line in box.look.wrap(told, box.inner - 4)])


def _of_line(reading: GpuReading) -> tuple[Number, ...]:
    return (
        reading.memory_used_bytes, reading.memory_total_bytes, reading.memory_free_bytes, reading.memory_reserved_bytes,
        reading.utilization_percent, reading.temperature_celsius,
    )  # fmt: skip


def _numbers(box: _Box, ansi: str, used: Number, total: Number, free: Number, reserved: Number, load: Number, heat: Number) -> str:
    widths = box.widths
    memory = _used(widths[0], used, total) + _available(widths[1], used, total, free, reserved)
    return box.line(f"{memory}{_small(widths[2], load, '%')}{_small(widths[3], heat, '°C')}", ansi)


@lru_cache(maxsize=16384)
def _used(columns: int, used: Number, total: Number) -> str:
    return f"{f'{mib(used)} / {_unit(mib(total))}':>{columns}}"


@lru_cache(maxsize=16384)
def _available(columns: int, used: Number, total: Number, free: Number, reserved: Number) -> str:
    """Memory that can be allocated: as reported, else what used and reserved leave of the total; n/r if unknown."""
    if free is None and used is not None and total is not None:
        free = max(0.0, total - used - (reserved or 0.0))
    return f"{_unit(mib(free)):>{columns}}"


@lru_cache(maxsize=1024)
def _small(columns: int, value: Number, unit: str) -> str:
    return f"{_unit(number(value), unit):>{columns}}"


@lru_cache(maxsize=16384)
def _memory(box: _Box, used: Number, total: Number) -> str:
    percent = memory_percent(used, total)
    if percent is None:
        return box.line(f" mem [{text_cells.bar(None, box.bar)}]{UNKNOWN:>5}")
    filled = min(box.bar, max(0, int(percent * box.bar / 100)))
    return box.line(f" mem [{('/' * filled).ljust(box.bar)}]{f'{int(percent)}%':>5}")


def _slice(box: _Box, name: str, used: Number, total: Number) -> str:
    return box.strangers_line(f"{name}{_used(20, used, total)}")


def _process(box: _Box, process: ProcessReading, last: bool) -> tuple[Piece, ...]:
    name, user, branch = program(process), words.clean(process.user) or UNKNOWN, "└──" if last else "├──"
    size = process.gpu_memory_bytes
    if not (name.isascii() and user.isascii()):
        return (Hole(_strangers_process, (size,), (box, branch, name, user)),)
    end = box.look.left(f" {user}", box.inner - box.name_and_memory - 6)
    return f"{box.edge}  {branch} ", Hole(_plain_process, (size,), (name, box.name_and_memory - 1, box.look.ellipsis)), f"{end}│\n"


def _plain_process(name: str, room: int, ellipsis: str, size: Number) -> str:
    """Name and memory as in ``_strangers_process``, for names whose letters are one column each: there are twenty of these lines on a host."""
    held = UNKNOWN if size is None else f"{mib(size)}MiB"
    room -= len(held)
    shown = name.ljust(room) if len(name) <= room else name[: room - len(ellipsis)] + ellipsis
    return f"{shown} {held}"


def _strangers_process(box: _Box, branch: str, name: str, user: str, size: Number) -> str:
    held = _unit(mib(size))
    return box.strangers_line(f"  {branch} {box.look.left(name, box.name_and_memory - len(held) - 1)} {held} {user}")


def _unit(value: str, unit: str = "MiB") -> str:
    return value if value == UNKNOWN else value + unit
