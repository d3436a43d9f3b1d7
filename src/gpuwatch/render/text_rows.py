"""The terminal twin of the page, ``view=rows``: one line a GPU with its state's mark, ASCII but for names. Pure.

``gpuwatch status`` prints it too. ``grep '^o[ 0-9]'`` finds the free GPUs, ``^=`` the idle ones, ``^x`` what is lost, down or in error.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from gpuwatch.model.cluster import GpuState, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading, MigReading, ProcessReading
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import AWAY, Selected
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_tally import Tally, by_label, tally
from gpuwatch.render.text_words import (
    UNKNOWN,
    Cache,
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

GPU_VALUES = ("utilization", "memory", "temperature", "power")
_values_of = attrgetter("utilization_percent", "memory_used_bytes", "temperature_celsius", "power_watts")


class Rows:
    """Draws hosts as rows."""

    def __init__(self, look: Look, now: float, zone: str, detail: bool = False, cache: Cache | None = None) -> None:
        self.look, self.now, self.zone, self.detail, self.cache = look, now, zone, detail, cache
        spare = max(0, look.width - LINE)
        self.bar = BAR - max(0, (LINE + 1 - look.width) // 2)
        self.user = USER + min(8, max(0, look.width - 80) // 4)
        self.command = spare - (self.user - USER) - 2

    def head(self) -> str:
        """The heads of the columns."""
        user = self.look.left("USER", self.user)
        bar = " " * self.bar
        command = "  COMMAND" if self._command_beside() else ""
        line = f" GPU STATE    {user}  SINCE UTIL {bar} {'MEMORY, GB':<{MEMORY + 1 + self.bar}} TEMP POWER"
        return self.look.paint(line + command, text_cells.BOLD)

    def host(self, row: Selected) -> str:
        """The line of a host and the rows of its GPUs, without a line end at the end."""
        node, gpus = row
        lines = [self._host_line(node)]
        word = node_word(node)
        if word:
            lines += self._sentence(node, word)
        elif node.error:
            lines += [self.look.paint(f"   ! {line}", text_cells.ALARM) for line in self._wrapped(words.clean(node.error), 5)]
        if node.status not in AWAY:
            for gpu in gpus:
                lines += self.gpu(gpu)
        return "\n".join(lines)

    def gpu(self, gpu: GpuView) -> list[str]:
        """The lines of one GPU: its row, warnings, MIG slices, and its processes where details are asked for."""
        reading, state = gpu.reading, gpu.state
        if state.state == "lost":
            since = words.clock(state.since_at, self.now, self.zone)
            return self._reason("x", str(reading.index), "lost", f"since {since}" if since else "", lost_reason(gpu))
        mark = "!" if state.marks and state.state != "stale" else MARKS.get(state.state, " ")
        silent = _silent(reading)
        if mark == " " and silent:
            mark = "?"
        lines = [self._row(mark, gpu)]
        if state.marks:
            lines += [self.look.paint(f"   ! {line}", text_cells.ALARM) for line in self._wrapped(", ".join(state.marks), 5)]
        rest = list(reading.processes)
        for part, part_state in zip(reading.mig, gpu.mig_states):
            held = [process for process in rest if part.holds(process)]
            rest = [process for process in rest if process not in held]
            lines += self._slice(reading, part, part_state, held)
        return lines + (self._processes(gpu, silent, rest) if self.detail else [])

    # ---- parts

    def _command_beside(self) -> bool:
        return not self.detail and self.command >= LEAST_COMMAND

    def _wrapped(self, text: str, indent: int) -> list[str]:
        return self.look.wrap(text, self.look.width - indent)

    def _host_line(self, node: NodeState) -> str:
        """Name, GPUs, tags; load and memory of the machine at the right."""
        right = self._machine(node)
        room = self.look.width - len(right) - 2
        name = self.look.cut(node.name, min(40, room), "..")
        rest = "  ".join(filter(None, (_models(tally(node, self.cache)), " ".join(map(words.clean, node.target.tags)))))
        rest = self.look.cut(f"  {rest}" if rest else "", room - text_cells.width(name), "..")
        gap = " " * (self.look.width - text_cells.width(name + rest) - len(right)) if right else ""
        return f"{self.look.paint(name, text_cells.BOLD)}{rest}{gap}{right}"

    def _machine(self, node: NodeState) -> str:
        if node.snapshot is None or node.status in ("down", "unseen"):
            return ""
        host = node.snapshot.host
        parts = []
        if host.cpu_percent is not None:
            parts.append(f"CPU {number(host.cpu_percent)}%")
        if host.memory_total_bytes is not None:
            used = UNKNOWN if host.memory_used_bytes is None else f"{host.memory_used_bytes / 2**30:.0f}"
            parts.append(f"RAM {used}/{words.gb_total(host.memory_total_bytes)}")
        return "  ".join(parts)

    def _sentence(self, node: NodeState, word: str) -> list[str]:
        marks = {"stale": "~", "unseen": "~", "no GPU": " "}
        shown = {"no GPU data": "error"}.get(word, word)
        return self._reason(marks.get(word, "x"), "", shown, node_span(node, self.now).replace(" ", ""), node_reason(node))

    def _reason(self, mark: str, index: str, word: str, since: str, reason: str) -> list[str]:
        """A row that has a text in place of numbers."""
        filler = "x" * (len(since) + 1)
        first, *more = self._wrapped(f"{filler} {reason}" if since else reason, NOTE)
        first = f"{since}  {first[len(filler) + 1 :]}" if since else first
        head = self.look.left(word, STATE)
        chip = self.look.paint(word, text_cells.CHIPS.get(word, "")) + head[len(word) :]
        lines = [f"{mark}{index:>3} {chip} {first}".rstrip(), *(" " * NOTE + line for line in more)]
        return [self.look.paint(line, text_cells.DIM) for line in lines] if mark == "~" else lines

    def _row(self, mark: str, gpu: GpuView) -> str:
        reading, state = gpu.reading, gpu.state
        heat = f"{_unit(reading.temperature_celsius, 'C'):>5}"
        if state.marks:
            heat = self.look.paint(heat, text_cells.ALARM)
        line = (
            f"{mark}{reading.index:>3} {self._chip(state.state)} {self._people(reading.processes)}{self._since(gpu):>7} "
            f"{self._load(reading.utilization_percent)} {self._memory(gpu)}{heat}{_unit(reading.power_watts, 'W'):>6}"
        )
        if self._command_beside() and reading.processes and not reading.mig:
            line += "  " + self.look.cut(program(reading.processes[0]), self.command, "..")
        return self.look.paint(line, text_cells.DIM) if mark == "~" else line

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
        shown = self.look.cut(first, self.user - len(more), "..") + more
        return shown + " " * (self.user - text_cells.width(shown))

    def _since(self, gpu: GpuView) -> str:
        since = shown_since(gpu)
        if since is None:
            return ""
        text = words.span_compact(self.now - since)
        return f">{text}" if gpu.state.at_least and since == gpu.state.since_at else text

    def _load(self, percent: float | None) -> str:
        return f"{_unit(percent, '%'):>4} {text_cells.bar(percent, self.bar)}"

    def _memory(self, gpu: GpuView) -> str:
        reading = gpu.reading
        text = _sizes(reading.memory_used_bytes, reading.memory_total_bytes)
        return f"{text.rjust(MEMORY)} {self._memory_bar(memory_percent(gpu), gpu.state.state)}"

    def _memory_bar(self, percent: float | None, state: str) -> str:
        if state != "idle":
            return text_cells.bar(percent, self.bar)
        return self.look.paint(text_cells.bar(percent, self.bar, "="), text_cells.HELD)

    def _slice(self, reading: GpuReading, part: MigReading, state: GpuState, held: list[ProcessReading]) -> list[str]:
        """A MIG slice, numbered 7.0, 7.1 ... with its own numbers; where the card's temperature and power would be, its profile."""
        mark = MARKS.get(state.state, " ")
        used, total = part.memory_used_bytes, part.memory_total_bytes
        percent = None if used is None or not total else 100.0 * used / total
        since = held[0].started_at if held and held[0].started_at is not None else state.since_at
        age = "" if since is None else words.span_compact(self.now - since)
        line = (
            f"{mark}{f'{reading.index}.{part.index}':>3} {self._chip(state.state)} {self._people(held)}{age:>7} "
            f"{self._load(part.sm_activity_percent)} {_sizes(used, total):>{MEMORY}} {self._memory_bar(percent, state.state)}"
            f"  {self.look.left(part.profile, 9)}"
        )
        if self._command_beside() and held:
            line += "  " + self.look.cut(program(held[0]), self.command, "..")
        lines = [self.look.paint(line.rstrip(), text_cells.DIM) if mark == "~" else line.rstrip()]
        if self.detail:
            lines += [self.look.paint(self._process(process, []), text_cells.DIM) for process in held]
        return lines

    def _processes(self, gpu: GpuView, silent: list[str], processes: list[ProcessReading]) -> list[str]:
        state = gpu.state
        notes = []
        if state.state == "idle" and state.no_work_since_at is not None:
            notes.append(f"no work {words.span_compact(self.now - state.no_work_since_at)}")
        if silent:
            notes.append(f"{', '.join(silent)}: not reported")
        if state.why and state.state != "unknown":
            notes.append(words.clean(state.why))
        lines = [self._process(process, notes if place == 0 else []) for place, process in enumerate(processes)]
        if notes and not lines:
            lines = [f"     {line}" for line in self._wrapped("; ".join(notes), 5)]
        return [self.look.paint(line, text_cells.DIM) for line in lines]

    def _process(self, process: ProcessReading, notes: list[str]) -> str:
        held = UNKNOWN if process.gpu_memory_bytes is None else words.gb(process.gpu_memory_bytes)
        user = self.look.cut(words.clean(process.user) or UNKNOWN, 16, "..")
        head = f"     {process.pid} {user} {held} "
        tail = "".join(f"; {note}" for note in notes)
        tail = self.look.cut(tail, self.look.width - text_cells.width(head) - LEAST_COMMAND, "..")
        room = self.look.width - text_cells.width(head) - text_cells.width(tail)
        return head + self.look.cut(program(process), room, " ..") + tail


def _silent(reading: GpuReading) -> list[str]:
    """Which of a row's values the GPU does not report."""
    values = _values_of(reading)
    if None not in values:
        return []
    names = [name for name, value in zip(GPU_VALUES, values) if value is None]
    return [name for name in names if name != "utilization" or not reading.mig]


def _unit(value: float | None, unit: str) -> str:
    return UNKNOWN if value is None else f"{number(value)}{unit}"


def _sizes(used: float | None, total: float | None) -> str:
    """``71.4/80``; without the tenth where the card holds 100 GB or more."""
    if used is None:
        return f"{UNKNOWN}/{words.gb_total(total)}" if total else UNKNOWN
    whole = total is not None and total >= 100 * 2**30
    return f"{used / 2**30:.0f}/{words.gb_total(total)}" if whole else f"{words.gb(used)}/{words.gb_total(total) or UNKNOWN}"


def _models(counts: Tally) -> str:
    """``3 x GTX 1080 Ti 11GB, 1 x RTX 3090 24GB``."""
    kinds = by_label(counts.cards)
    return ", ".join(f"{sum(one.total for one in cards)} x {label}" for label, cards in kinds.items())
