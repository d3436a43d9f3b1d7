"""The terminal twin of the page, ``view=rows``: one line a GPU with its state's mark, ASCII but for names. Pure.

``gpuwatch status`` prints it too. ``grep '^o[ 0-9]'`` finds the free GPUs, ``^=`` the idle ones, ``^x`` what is lost, down or in error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Optional

from gpuwatch.model.cluster import GpuState, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading, MigReading, Number, ProcessReading
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import AWAY
from gpuwatch.render.stencil import Hole, Piece
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_tally import by_label, cards
from gpuwatch.render.text_words import (
    UNKNOWN,
    lost_reason,
    memory_percent,
    node_reason,
    node_span,
    node_word,
    number,
    program,
    shown_since,
)

MARKS = {"free": "o", "idle": "=", "reserved": ">", "lost": "x", "down": "x", "stale": "~", "unknown": "?"}
STATE, USER, BAR, MEMORY = 8, 8, 10, 8
LINE = 76
"""Columns that a row needs; what is wider goes to the user and to the command."""
NOTE = 14
"""Where the text of a row without numbers begins."""
LEAST_COMMAND = 16

Names = tuple[Optional[str], ...]
GPU_VALUES = ("utilization", "memory", "temperature", "power")
_values_of = attrgetter("utilization_percent", "memory_used_bytes", "temperature_celsius", "power_watts")


class Rows:
    """Draws hosts as rows, in pieces."""

    def __init__(self, look: Look, zone: str, detail: bool = False) -> None:
        self.look, self.zone, self.detail = look, zone, detail
        spare = max(0, look.width - LINE)
        self.bar = BAR - max(0, (LINE + 1 - look.width) // 2)
        self.user = USER + min(8, max(0, look.width - 80) // 4 or min(3, spare))  # at 80 columns what is over is for "student7+2"
        self.command = spare - (self.user - USER) - 2

    def head(self) -> str:
        """The heads of the columns."""
        user = self.look.left("USER", self.user)
        bar = " " * self.bar
        command = "  COMMAND" if self._command_beside() else ""
        line = f" GPU STATE    {user}  SINCE UTIL {bar} {'MEMORY, GB':<{MEMORY + 1 + self.bar}} TEMP POWER"
        return self.look.paint(line + command, text_cells.BOLD)

    def host(self, node: NodeState, gpus: tuple[GpuView, ...], now: Any) -> Iterator[Piece]:
        """The line of a host and the rows of these of its GPUs, without a line end at the end."""
        yield self._host_line(node)
        word = node_word(node)
        if word:
            yield from self._sentence(node, word, now)
        elif node.error:
            yield from self._warning(words.clean(node.error))
        if node.status not in AWAY:
            for gpu in gpus:
                yield from self.gpu(gpu, now)

    def gpu(self, gpu: GpuView, now: Any) -> Iterator[Piece]:
        """The lines of one GPU, each behind a line end: its row, warnings, MIG slices, and its processes where details are asked for."""
        reading, state = gpu.reading, gpu.state
        if state.state == "lost":
            yield Hole(_lost, (now,), (self, str(reading.index), state.since_at, lost_reason(gpu)))
            return
        yield from self._row(gpu, now)
        if state.marks:
            yield from self._warning(", ".join(state.marks))
        rest = list(reading.processes)
        for part, part_state in zip(reading.mig, gpu.mig_states):
            held = [process for process in rest if part.holds(process)]
            rest = [process for process in rest if process not in held]
            yield from self._slice(reading, part, part_state, held, now)
        if self.detail:
            yield from self._processes(gpu, rest, now)

    def reason(self, mark: str, index: str, word: str, since: str, reason: str) -> list[str]:
        """A row that has a text in place of numbers."""
        filler = "x" * (len(since) + 1)
        first, *more = self.look.wrap(f"{filler} {reason}" if since else reason, self.look.width - NOTE)
        first = f"{since}  {first[len(filler) + 1 :]}" if since else first
        head = self.look.left(word, STATE)
        chip = self.look.paint(word, text_cells.CHIPS.get(word, "")) + head[len(word) :]
        lines = [f"{mark}{index:>3} {chip} {first}".rstrip(), *(" " * NOTE + line for line in more)]
        return [self.look.paint(line, text_cells.DIM) for line in lines] if mark == "~" else lines

    # ---- parts

    def _command_beside(self) -> bool:
        return not self.detail and self.command >= LEAST_COMMAND

    def _warning(self, text: str) -> list[str]:
        return _lines([self.look.paint(f"   ! {line}", text_cells.ALARM) for line in self.look.wrap(text, self.look.width - 5)])

    def _host_line(self, node: NodeState) -> Piece:
        """Name, GPUs, tags; load and memory of the machine at the right."""
        readings = [gpu.reading for gpu in node.gpus]
        facts = (self.look, node.name, tuple([one.name for one in readings]), " ".join(map(words.clean, node.target.tags)))
        totals = [one.memory_total_bytes for one in readings]
        if node.snapshot is None or node.status in ("down", "unseen"):
            return Hole(_host_line, (None, None, None, *totals), facts)
        host = node.snapshot.host
        return Hole(_host_line, (host.cpu_percent, host.memory_used_bytes, host.memory_total_bytes, *totals), facts)

    def _sentence(self, node: NodeState, word: str, now: Any) -> list[str]:
        marks = {"stale": "~", "unseen": "~", "no GPU": " "}
        told = {"no GPU data": "error"}.get(word, word)
        return _lines(self.reason(marks.get(word, "x"), "", told, node_span(node, now).replace(" ", ""), node_reason(node)))

    def _row(self, gpu: GpuView, now: Any) -> Iterator[Piece]:
        reading, state = gpu.reading, gpu.state
        mark = "!" if state.marks and state.state != "stale" else MARKS.get(state.state, " ")
        dim, dim_end = self.look.around(text_cells.DIM if mark == "~" else "")
        alarm, alarm_end = self.look.around(text_cells.ALARM if state.marks else "")
        yield f"\n{dim}"
        yield Hole(_mark, _values_of(reading), (bool(reading.mig),)) if mark == " " else mark
        yield f"{reading.index:>3} {self._chip(state.state)} {self._people(reading.processes)}"
        yield _since(shown_since(gpu), state, now)
        yield " "
        yield Hole(_load, (reading.utilization_percent,), (self.bar,))
        yield " "
        yield Hole(_memory, (reading.memory_used_bytes, reading.memory_total_bytes), (self.look.color, self.bar, state.state == "idle"))
        yield alarm
        yield Hole(_heat, (reading.temperature_celsius,))
        yield alarm_end
        yield Hole(_unit, (reading.power_watts,), (6, "W"))
        yield (self._command(reading.processes) if not reading.mig else "") + dim_end

    def _command(self, processes: Sequence[ProcessReading]) -> str:
        if not self._command_beside() or not processes:
            return ""
        return "  " + self.look.cut(program(processes[0]), self.command, "..")

    def _chip(self, state: str) -> str:
        word = {"mig": "MIG"}.get(state, state)
        return self.look.paint(word, text_cells.CHIPS.get(state, "")) + " " * (STATE - len(word))

    def _people(self, processes: Sequence[ProcessReading]) -> str:
        """Who runs the first process, and how many others run something."""
        if not processes:
            return " " * self.user
        users = dict.fromkeys([process.user for process in processes])
        first, *others = dict.fromkeys([words.clean(user) or UNKNOWN for user in users])
        more = f"+{len(others)}" if others else ""
        told = self.look.cut(first, self.user - len(more), "..") + more
        return told + " " * (self.user - text_cells.width(told))

    def _slice(self, reading: GpuReading, part: MigReading, state: GpuState, held: list[ProcessReading], now: Any) -> Iterator[Piece]:
        """A MIG slice, numbered 7.0, 7.1 ... with its own numbers; where the card's temperature and power would be, its profile."""
        mark = MARKS.get(state.state, " ")
        since = held[0].started_at if held and held[0].started_at is not None else state.since_at
        before = f"{mark}{f'{reading.index}.{part.index}':>3} {self._chip(state.state)} {self._people(held)}"
        after = f"  {self.look.left(part.profile, 9)}{self._command(held)}"
        sign = ">" if state.at_least and since == state.since_at else ""
        facts = (self.look, text_cells.DIM if mark == "~" else "", before, self.bar, state.state == "idle", after, since, sign)
        yield Hole(_slice_line, (part.sm_activity_percent, part.memory_used_bytes, part.memory_total_bytes, now), facts)
        if self.detail:
            yield from map(self._process, held)

    def _processes(self, gpu: GpuView, processes: Sequence[ProcessReading], now: Any) -> Iterator[Piece]:
        """The processes, in the first line what else is to be said of the GPU; where there is none, that alone."""
        reading, state = gpu.reading, gpu.state
        quiet_since = state.no_work_since_at if state.state == "idle" else None
        untold = words.clean(words.untold_processes(reading))
        why = "; ".join(filter(None, (words.clean(state.why) if state.state != "unknown" else "", untold and f"processes {untold}")))
        first = processes[0] if processes else None
        start, name = (self._start(first), program(first)) if first else ("", "")
        size = first.gpu_memory_bytes if first else None
        facts = (self.look, first is not None, start, name, bool(reading.mig), quiet_since, why)
        yield Hole(_first_process, (size, now, *_values_of(reading)), facts)
        yield from map(self._process, processes[1:])

    def _process(self, process: ProcessReading) -> Piece:
        return Hole(_process, (process.gpu_memory_bytes,), (self.look, self._start(process), program(process), ""))

    def _start(self, process: ProcessReading) -> str:
        user = self.look.cut(words.clean(process.user) or UNKNOWN, 16, "..")
        return f"     {process.pid} {user} "


def _lines(lines: Sequence[str]) -> list[str]:
    return [f"\n{line}" for line in lines]


# ---- what numbers fill in


def _host_line(look: Look, name: str, names: Names, tags: str, cpu: Number, used: Number, total: Number, *totals: Number) -> str:
    right = _machine(cpu, used, total)
    return _host_left(look, name, names, totals, tags, len(right)) + right


@lru_cache(maxsize=8192)
def _host_left(look: Look, name: str, names: Names, totals: tuple[Number, ...], tags: str, right: int) -> str:
    """What stands before so many letters at the right."""
    room = look.width - right - 2
    name = look.cut(name, min(40, room), "..")
    rest = "  ".join(filter(None, (_models(names, totals), tags)))
    rest = look.cut(f"  {rest}" if rest else "", room - text_cells.width(name), "..")
    gap = " " * (look.width - text_cells.width(name + rest) - right) if right else ""
    return f"{look.paint(name, text_cells.BOLD)}{rest}{gap}"


def _machine(cpu: Number, used: Number, total: Number) -> str:
    parts = []
    if cpu is not None:
        parts.append(f"CPU {number(cpu)}%")
    if total is not None:
        parts.append(f"RAM {UNKNOWN if used is None else f'{used / 2**30:.0f}'}/{words.gb_total(total)}")
    return "  ".join(parts)


def _models(names: Names, totals: tuple[Number, ...]) -> str:
    """``3 x GTX 1080 Ti 11GB, 1 x RTX 3090 24GB``."""
    kinds = by_label(cards("", names, totals, (None,) * len(names)))
    return ", ".join(f"{sum(one.total for one in found)} x {label}" for label, found in kinds.items())


def _lost(rows: Rows, index: str, since_at: float | None, reason: str, now: float) -> str:
    since = words.clock(since_at, now, rows.zone)
    return "".join(_lines(rows.reason("x", index, "lost", f"since {since}" if since else "", reason)))


def _mark(mig: bool, *values: Number) -> str:
    return "?" if _silent(mig, values) else " "


def _silent(mig: bool, values: Sequence[Number]) -> list[str]:
    """Which of a row's values the GPU does not report."""
    if None not in values:
        return []
    names = [name for name, value in zip(GPU_VALUES, values) if value is None]
    return [name for name in names if name != "utilization" or not mig]


def _since(since: float | None, state: GpuState, now: Any) -> Piece:
    if since is None:
        return " " * 7
    return Hole(_age, (now,), (since, ">" if state.at_least and since == state.since_at else ""))


def _age(since: float, sign: str, now: float) -> str:
    passed = int(now - since)
    return _whole_age(passed if passed < 60 else passed - passed % 60, sign)


@lru_cache(maxsize=8192)
def _whole_age(seconds: int, sign: str) -> str:
    return f"{sign + words.span_compact(seconds):>7}"


@lru_cache(maxsize=1024)
def _load(bar: int, percent: Number) -> str:
    return f"{_unit(4, '%', percent)} {text_cells.bar(percent, bar)}"


@lru_cache(maxsize=16384)
def _memory(color: bool, bar: int, idle: bool, used: Number, total: Number) -> str:
    shape = text_cells.bar(memory_percent(used, total), bar, "=" if idle else "#")
    return f"{_sizes(used, total).rjust(MEMORY)} {Look(color=color).paint(shape, text_cells.HELD if idle else '')}"


@lru_cache(maxsize=1024)
def _heat(celsius: Number) -> str:
    return _unit(5, "C", celsius)


def _unit(columns: int, unit: str, value: Number) -> str:
    return _whole(columns, unit, None if value is None else round(value))


@lru_cache(maxsize=4096)
def _whole(columns: int, unit: str, value: int | None) -> str:
    return f"{UNKNOWN if value is None else f'{value}{unit}':>{columns}}"


def _sizes(used: Number, total: Number) -> str:
    """``71.4/80``; without the tenth where the card holds 100 GB or more."""
    if used is None:
        return f"{UNKNOWN}/{words.gb_total(total)}" if total else UNKNOWN
    whole = total is not None and total >= 100 * 2**30
    return f"{used / 2**30:.0f}/{words.gb_total(total)}" if whole else f"{words.gb(used)}/{words.gb_total(total) or UNKNOWN}"


def _slice_line(
    look: Look, ansi: str, before: str, bar: int, idle: bool, after: str, since: Number, sign: str, load: Number, used: Number, total: Number, now: float
) -> str:
    age = "" if since is None else sign + words.span_compact(now - since)
    line = f"{before}{age:>7} {_load(bar, load)} {_memory(look.color, bar, idle, used, total)}{after}"
    return "\n" + look.paint(line.rstrip(), ansi)


def _process(look: Look, start: str, name: str, tail: str, size: Number) -> str:
    head = f"{start}{UNKNOWN if size is None else words.gb(size)} "
    if not (tail or look.color) and name.isascii() and head.isascii():  # as below, without the steps that such names do not need
        line = head + name
        return f"\n{line}" if len(line) <= look.width else f"\n{line[: look.width - 3]} .."
    tail = look.cut(tail, look.width - text_cells.width(head) - LEAST_COMMAND, "..")
    room = look.width - text_cells.width(head) - text_cells.width(tail)
    return "\n" + look.paint(head + look.cut(name, room, " ..") + tail, text_cells.DIM)


def _first_process(
    look: Look, is_one: bool, start: str, name: str, mig: bool, quiet_since: Number, why: str, size: Number, now: float, *values: Number
) -> str:
    notes = [] if quiet_since is None else [f"no work {words.span_compact(now - quiet_since)}"]
    silent = _silent(mig, values)
    if silent:
        notes.append(f"{', '.join(silent)}: not reported")
    if why:
        notes.append(why)
    if is_one:
        return _process(look, start, name, "".join(f"; {note}" for note in notes), size)
    lines = [f"     {line}" for line in look.wrap("; ".join(notes), look.width - 5)] if notes else []
    return "".join(_lines([look.paint(line, text_cells.DIM) for line in lines]))
