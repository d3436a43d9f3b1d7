"""One row of the table: a GPU, or a slice of it, in each of its states. Pure; a value that is not reported is a dashed box, never a zero.

The rows have ``role``s because on a phone they are laid out as a grid, which takes a table's own roles away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional, Sequence

from gpuwatch.model.cluster import GpuState, GpuView
from gpuwatch.model.snapshot import GpuReading, MigReading, Number, ProcessReading
from gpuwatch.render import words
from gpuwatch.render.html_parts import e, gpu_id, gpu_url, icon, meter, not_reported, plain_link, sparkline
from gpuwatch.render.stencil import Hole, Piece, written


@dataclass(frozen=True)
class Moment:
    """When a page is made, and in which zone its times are. For pieces with holes, ``now`` may be the place of the time."""

    now: float
    zone: str

    def clock(self, at: Optional[float]) -> str:
        """The time of day as people read it."""
        return words.clock(at, self.now, self.zone)

    def since(self, at: Optional[float]) -> str:
        """How long ago; empty for None."""
        return "" if at is None else words.span(self.now - at)


_ICONS = {"free": "free", "idle": "idle", "reserved": "reserved", "lost": "down", "down": "down", "stale": "stale", "unknown": "unknown"}


def state_icon(state: str) -> str:
    """The shape of a state."""
    return icon(_ICONS.get(state, "busy"))


def state_words(state: GpuState, occupied: bool, moment: Moment) -> str:
    """``idle 9 h 20 m``, ``busy, stale``, ``MIG``: what the row says first."""
    if state.state == "idle" and state.no_work_since_at is not None:
        return f"idle {moment.since(state.no_work_since_at)}"
    if state.state == "stale":
        return f"{state.was or ('busy' if occupied else '')}, stale".removeprefix(", ")
    return "MIG" if state.state == "mig" else state.state


def people(processes: Sequence[ProcessReading]) -> list[str]:
    """Who runs something, most memory first, each once."""
    return list(dict.fromkeys(words.clean(process.user) for process in processes if process.user))


def gpu_rows(view: GpuView, moment: Moment, host_cell: str, show_model: bool) -> str:
    """The rows of one GPU: one, and one more for each MIG slice. ``host_cell`` stands in the first."""
    return written(gpu_pieces(view, moment, (host_cell,), show_model))


def gpu_pieces(view: GpuView, moment: Moment, host_cell: Sequence[Piece], show_model: bool) -> Iterator[Piece]:
    """``gpu_rows`` with its numbers in holes."""
    reading, state = view.reading, view.state
    if state.state == "lost":
        yield from _lost_row(view, moment, host_cell)
        return
    if state.state == "mig" or reading.mig:
        yield from _mig_rows(view, moment, host_cell)
        return
    model = f"<small>{e(words.model_name(reading.name))}</small>" if show_model else ""
    yield _open_row(view, state.state)
    yield from host_cell
    yield _state_cell(state, bool(reading.processes), moment)
    yield f'<td role="cell" class="dev"><a href="{gpu_url(reading.uuid)}">{reading.index}</a>{model}</td>'
    yield _user_cell(reading.processes)
    yield _since_cell(state, reading.processes, moment)
    yield from _gauges(view)
    yield f"{_process_cell(state, reading.processes, words.untold_processes(reading))}</tr>"


def _open_row(view: GpuView, states: str) -> str:
    """The row's start; ``states``: the first gives the look, all of them what a filter by state finds."""
    css = states.split()[0]
    about = "\n".join([view.reading.name or "", *people(view.reading.processes)]).lower()
    return (
        f'<tr role="row" id="{gpu_id(view.host, view.reading.index)}" class="gpu is-{css}" data-state="{states}" '
        f'data-q="{e(about)}">'
    )


def _state_cell(state: GpuState, occupied: bool, moment: Moment) -> Piece:
    if state.state == "idle" and state.no_work_since_at is not None:
        return Hole(_state_text, (moment.now,), (state, occupied, moment.zone))
    return _state_text(state, occupied, moment.zone, 0.0)


def _state_text(state: GpuState, occupied: bool, zone: str, now: float) -> str:
    told = e(state_words(state, occupied, Moment(now, zone)))
    title = f' title="{e(state.why)}"' if state.why else ""
    return f'<td role="cell" class="st"{title}><span class="w">{state_icon(state.state)}{told}</span></td>'


def _user_cell(processes: Sequence[ProcessReading]) -> str:
    names = people(processes)
    if not names:
        return '<td role="cell" class="user"></td>'
    more = f" <small>+{len(names) - 1} more</small>" if len(names) > 1 else ""
    first = f'<a href="{plain_link(user=names[0])}">{e(names[0])}</a>'
    return f'<td role="cell" class="user" title="{e(", ".join(names))}"><span class="w">{first}{more}</span></td>'


def _since_cell(state: GpuState, processes: Sequence[ProcessReading], moment: Moment) -> Piece:
    """Since when the state holds (free), or since when the first user's oldest process runs (busy, idle, stale)."""
    at, at_least = state.since_at, state.at_least
    started = [p.started_at for p in processes if p.started_at is not None and p.user == processes[0].user]
    if started and state.state != "free":
        at, at_least = min(started), False
    elif state.state == "idle" and state.no_work_since_at is not None:
        at = state.no_work_since_at  # nobody is seen who began; "idle" itself came only after a while without work
    if at is None:
        return '<td role="cell" class="since"></td>'
    return Hole(_since, (moment.now,), (at, at_least, moment.zone))


def _since(at: float, at_least: bool, zone: str, now: float) -> str:
    title = f"{'at least ' if at_least else ''}since {words.clock(at, now, zone)}"
    return f'<td role="cell" class="since" title="{title}">{"≥ " if at_least else ""}{words.span(now - at)}</td>'


def _gauges(view: GpuView) -> Iterator[Piece]:
    """Utilization, memory, temperature, power and the last hours."""
    reading, marks, missing = view.reading, view.state.marks, view.reading.missing
    throttled = "; ".join([mark for mark in marks if mark.startswith("throttled")])
    memory = reading.memory_used_bytes, reading.memory_total_bytes
    yield Hole(_util, (reading.utilization_percent,), (missing.get("utilization_percent"),))
    yield Hole(_memory, memory, (missing.get("memory_used_bytes"),))
    yield Hole(_temperature, (reading.temperature_celsius, reading.temperature_slowdown_celsius), ("hot" in marks, missing.get("temperature_celsius")))
    yield Hole(_power, (reading.power_watts, reading.power_limit_watts), (throttled, missing.get("power_watts")))
    yield '<td role="cell" class="six">'
    yield Hole(sparkline, (view.recent_utilization,))
    yield "</td>"


@lru_cache(maxsize=2048)
def _util(reason: Optional[str], percent: Number) -> str:
    if percent is None:
        return f'<td role="cell" class="util">{not_reported(reason)}</td>'
    bar = meter(percent, 100)
    return f'<td role="cell" class="util"><div class="bar-n">{bar}<span>{percent:.0f} %</span></div></td>'


@lru_cache(maxsize=4096)
def _memory(reason: Optional[str], used: Number, total: Number) -> str:
    of_total = f' <span class="mute">/ {words.gb_total(total)}</span>' if total else ""
    if used is None:
        return f'<td role="cell" class="mem"><div class="nr-n">{not_reported(reason)}{of_total}</div></td>'
    bar = meter(used / 2**30, total / 2**30, "m") if total else "<span></span>"
    return f'<td role="cell" class="mem"><div class="bar-n">{bar}<span>{words.gb(used)}{of_total}</span></div></td>'


@lru_cache(maxsize=1024)
def _temperature(hot: bool, reason: Optional[str], celsius: Number, slow: Number) -> str:
    if celsius is None:
        return f'<td role="cell" class="num temp">{not_reported(reason, short=True)}</td>'
    if not hot:
        return f'<td role="cell" class="num temp">{celsius:.0f}</td>'
    title = "hot" if slow is None else f"hot: the card slows down at {slow:.0f} °C"
    return f'<td role="cell" class="num temp bad" title="{title}"><span class="chip">{icon("warn")}{celsius:.0f}</span></td>'


def _power(throttled: str, reason: Optional[str], watts: Number, limit: Number) -> str:
    return _whole_power(throttled, reason, None if watts is None else round(watts), limit)


@lru_cache(maxsize=4096)
def _whole_power(throttled: str, reason: Optional[str], watts: Optional[int], limit: Number) -> str:
    if throttled:
        told = "" if watts is None else f"{watts} "
        return f'<td role="cell" class="num pow bad" title="{e(throttled)}"><span class="chip">{told}throttled</span></td>'
    if watts is None:
        return f'<td role="cell" class="num pow">{not_reported(reason)}</td>'
    of_limit = f' <span class="mute">/ {limit:.0f}</span>' if limit else ""
    return f'<td role="cell" class="num pow">{watts}{of_limit}</td>'


def _process_cell(state: GpuState, processes: Sequence[ProcessReading], untold: str = "") -> str:
    if state.state in ("reserved", "unknown"):
        return f'<td role="cell" class="proc why">{e(state.why)}</td>'
    if untold and not processes:
        return f'<td role="cell" class="proc"><span class="nr" title="{e(untold)}">not reported</span></td>'
    if not processes:
        told = "no visible process" if state.state in ("busy", "idle") else ""
        return f'<td role="cell" class="proc">{told}</td>'
    whole = "; ".join(f"{process.user or '?'}: {process.command or process.name or process.pid}" for process in processes[:8])
    first = processes[0]
    short = words.short_command(first.command or first.name) or f"pid {first.pid}"
    return f'<td role="cell" class="proc" title="{e(whole)}"><span class="cmd">{e(short[:200])}</span></td>'


def _lost_row(view: GpuView, moment: Moment, host_cell: Sequence[Piece]) -> Iterator[Piece]:
    reading, state = view.reading, view.state
    since_at = reading.error_since_at if reading.error_since_at is not None else state.since_at
    yield _open_row(view, "lost")
    yield from host_cell
    yield (
        f'<td role="cell" class="st"><span class="w">{icon("down")}lost</span></td>'
        f'<td role="cell" class="dev"><a href="{gpu_url(reading.uuid)}">{reading.index}</a></td>'
        '<td role="cell" class="user"></td>'
    )
    yield Hole(_lost_since, (moment.now,), (since_at, moment.zone))
    yield f'<td role="cell" class="why" colspan="6">{e(words.sentence(state.why or reading.error or "The GPU does not answer."))}</td></tr>'


def _lost_since(at: Optional[float], zone: str, now: float) -> str:
    return '<td role="cell" class="since"></td>' if at is None else _since(at, False, zone, now)


def _mig_rows(view: GpuView, moment: Moment, host_cell: Sequence[Piece]) -> Iterator[Piece]:
    reading, state = view.reading, view.state
    states = _slice_states(view)
    used = sum(1 for slice_ in states if slice_.state not in ("free", "unknown"))
    found = " ".join(dict.fromkeys([state.state, *(slice_.state for slice_ in states)]))
    told = f"{used} of {len(states)} used" if states else ""
    yield _open_row(view, found)
    yield from host_cell
    yield _state_cell(state, bool(reading.processes), moment)
    yield (
        f'<td role="cell" class="dev"><a href="{gpu_url(reading.uuid)}">{reading.index}</a></td>'
        f'<td role="cell" class="user"></td><td role="cell" class="since">{told}</td>'
    )
    yield from _gauges(view)
    yield f'<td role="cell" class="proc">MIG on: {words.plural(len(states), "instance")}</td></tr>'
    for one, slice_ in zip(reading.mig, states):
        yield from _slice_row(view, one, slice_, moment)


def _slice_states(view: GpuView) -> list[GpuState]:
    given = list(view.mig_states[: len(view.reading.mig)])
    return given + [GpuState("unknown", None)] * (len(view.reading.mig) - len(given))


def slice_processes(reading: GpuReading, one: MigReading) -> tuple[ProcessReading, ...]:
    """The processes of a slice, where the driver tells the instance."""
    return tuple(filter(one.holds, reading.processes))


def _slice_row(view: GpuView, one: MigReading, state: GpuState, moment: Moment) -> Iterator[Piece]:
    inside = slice_processes(view.reading, one)
    index = view.reading.index
    yield f'<tr role="row" class="slice is-{state.state}">'
    yield _state_cell(state, bool(inside), moment)
    yield (
        f'<td role="cell" class="dev"><a href="{gpu_url(view.reading.uuid)}">{index}.{one.index}</a><small>{e(one.profile)}</small></td>'
        f"{_user_cell(inside)}"
    )
    yield _since_cell(state, inside, moment)
    yield Hole(_util, (one.sm_activity_percent,), ("no utilization of a slice without GPM",))
    yield Hole(_memory, (one.memory_used_bytes, one.memory_total_bytes), (None,))
    yield (
        '<td role="cell" class="num temp"></td><td role="cell" class="num pow"></td><td role="cell" class="six"></td>'
        f"{_process_cell(state, inside)}</tr>"
    )
