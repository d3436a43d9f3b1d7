"""Seed 004's detailed text, ``/?term=true&detail=true`` and ``/states/<host>/?term=true``: a box a GPU, its processes in it. Pure.

The frame is that of its README (80 columns, box characters), with the user beside each process as its later version prints it.
"""

from __future__ import annotations

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import MigReading, ProcessReading
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import AWAY, Selected, select
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_words import (
    UNKNOWN,
    Cache,
    available_bytes,
    cached,
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
COLUMNS = ("memory used", "memory available", "gpu volatile", "temperature"), (17, 18, 14, 13)
NARROW_COLUMNS = ("memory used", "available", "volatile", "temp."), (17, 13, 10, 8)


def detail(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None, date_style: str = "YMD") -> str:
    """All hosts with all that seed 004 tells of a GPU. ``date_style``: YMD, MDY or DMY, the hub's setting."""
    look = Look.of(options)
    rows = select(cluster, options)
    key = ("detail", look, options.audience, date_style, options.layout == "flat")
    drawer = _Drawer(look, cluster.taken_at, cluster.timezone, date_style)
    drawn = []
    for row in rows:
        if row[1] is row[0].gpus:
            drawn.append(cached(cache, row[0], key, lambda row=row: drawer.host(row)))  # type: ignore[misc]
        else:
            drawn.append(drawer.host(row))
    for note in notes(cluster, options, rows, times=True):
        drawn += [f"{line}\n" for line in look.wrap(note, look.width)]
    return look.final("".join(drawn))


class _Drawer:
    """Draws hosts. What is the same in each box is made once."""

    def __init__(self, look: Look, now: float, zone: str, date_style: str) -> None:
        self.look, self.now, self.zone, self.date_style = look, now, zone, date_style
        self.inner = look.width - 2 * INDENT - 2
        self.edge = " " * INDENT + "│"
        self.bottom = " " * INDENT + "└" + "─" * self.inner + "┘"
        self.empty = self._line("")
        heads, self.widths = COLUMNS if self.inner >= sum(COLUMNS[1]) else NARROW_COLUMNS
        self.heads = self._line(self._columns(heads))
        self.bar = self.inner - 13
        self.unknown_bar = text_cells.bar(None, self.bar)
        self.name_and_memory = min(max(NAME_AND_MEMORY, NAME_AND_MEMORY + look.width - 80), WIDEST_NAME)

    def host(self, row: Selected) -> str:
        """Title, time of the last update, and the boxes; ends with an empty line."""
        node, gpus = row
        stale = f" (stale {node_span(node, self.now)})" if node.status == "stale" else ""
        updated = "no entry received." if node.received_at is None else date(node.received_at, self.zone, self.date_style)
        lines = ["", self._title(node), f"  last update: {updated}{stale}", "-" * self.look.width]
        if node.status in AWAY or not gpus:
            lines += self._no_gpus(node)
        else:
            for gpu in gpus:
                lines += [*self._box(node, gpu), ""]
        return "\n".join([*lines, "_" * self.look.width, "", ""])

    def _title(self, node: NodeState) -> str:
        room = self.look.width - 12
        title = f"### {self.look.cut(node.name, room // 2)} :: {self.look.cut(node.target.host, room // 2)} "
        return self.look.paint(title + "#" * (self.look.width - text_cells.width(title)), text_cells.BOLD)

    def _line(self, text: str, ansi: str = "") -> str:
        """A line of a box. ``text`` is of ASCII and our own signs, each one column wide: no stranger's name is in it."""
        if len(text) > self.inner:
            text = self.look.cut(text, self.inner)
        return f"{self.edge}{self.look.paint(text.ljust(self.inner), ansi)}│"

    def _strangers_line(self, text: str, ansi: str = "") -> str:
        """A line of a box with names of any letters in it."""
        return f"{self.edge}{self.look.paint(self.look.left(text, self.inner), ansi)}│"

    def _columns(self, values: tuple[str, str, str, str]) -> str:
        return "".join([f"{value:>{width}}" for value, width in zip(values, self.widths)])

    def _no_gpus(self, node: NodeState) -> list[str]:
        word = node_word(node)
        status = f"  status: {word} {node_span(node, self.now)}".rstrip()
        reason = [self._strangers_line(f"  {line}") for line in self.look.wrap(node_reason(node), self.inner - 4) if line]
        top = " " * INDENT + "┌" + "─" * self.inner + "┐"
        chip = text_cells.ALARM if node.status in ("down", "error") else ""
        return [top, self.empty, self._line(status, chip), *reason, self.empty, self.bottom]

    def _box(self, node: NodeState, gpu: GpuView) -> list[str]:
        reading = gpu.reading
        read_at = reading.live_read_at
        if read_at is None and node.snapshot is not None:
            read_at = node.snapshot.taken_at
        moment = date(read_at, self.zone, milliseconds=True)
        name = self.look.cut(f"gpu:{reading.index} {words.clean(reading.name) or 'GPU'}", self.inner - len(moment) - 8)
        head = f"[ {name} {moment} ]"
        lines = [f"{' ' * INDENT}┌{head}{'─' * (self.inner - text_cells.width(head))}┐"]
        if gpu.state.state == "lost":
            reason = f"lost since {words.clock(gpu.state.since_at, self.now, self.zone) or UNKNOWN}. {lost_reason(gpu)}"
            lines += [self._strangers_line(f"  {line}", text_cells.ALARM) for line in self.look.wrap(reason, self.inner - 4)]
        else:
            lines += self._values(gpu)
        return [*lines, self.bottom]

    def _values(self, gpu: GpuView) -> list[str]:
        reading, marks = gpu.reading, gpu.state.marks
        used = f"{mib(reading.memory_used_bytes)} / {_unit(mib(reading.memory_total_bytes), 'MiB')}"
        available = _unit(mib(available_bytes(reading)), "MiB")
        load, heat = _unit(number(reading.utilization_percent), "%"), _unit(number(reading.temperature_celsius), "°C")
        lines = [
            self.heads,
            self._line(self._columns((used, available, load, heat)), text_cells.ALARM if marks else ""),
            *(self._strangers_line(f"  ! {words.clean(mark)}", text_cells.ALARM) for mark in marks),
            self.empty,
            self._line(self._memory(memory_percent(gpu))),
        ]
        lines += [self._strangers_line(_slice(part)) for part in reading.mig]
        last = len(reading.processes) - 1
        return lines + [self._process(process, place == last) for place, process in enumerate(reading.processes)]

    def _memory(self, percent: float | None) -> str:
        if percent is None:
            return f" mem [{self.unknown_bar}]{UNKNOWN:>5}"
        filled = min(self.bar, max(0, int(percent * self.bar / 100)))
        return f" mem [{('/' * filled).ljust(self.bar)}]{f'{int(percent)}%':>5}"

    def _process(self, process: ProcessReading, last: bool) -> str:
        held = _unit(mib(process.gpu_memory_bytes), "MiB")
        name, user = program(process), words.clean(process.user) or UNKNOWN
        text = f"  {'└──' if last else '├──'} {self.look.left(name, self.name_and_memory - len(held) - 1)} {held} {user}"
        return self._line(text) if name.isascii() and user.isascii() else self._strangers_line(text)


def _slice(part: MigReading) -> str:
    used = f"{mib(part.memory_used_bytes)} / {_unit(mib(part.memory_total_bytes), 'MiB')}"
    return f" mig {part.index} {words.clean(part.profile) or UNKNOWN:<12}{used:>20}"


def _unit(value: str, unit: str) -> str:
    return value if value == UNKNOWN else value + unit
