"""The table of processes on the pages of a host and of a GPU. Pure; commands were cut to what the audience may see before they came here."""

from __future__ import annotations

from typing import Optional, Sequence

from gpuwatch.model.cluster import GpuView
from gpuwatch.model.snapshot import ProcessReading
from gpuwatch.render import words
from gpuwatch.render.html_gpu_row import Moment
from gpuwatch.render.html_parts import e, gpu_url, not_reported, plain_link

_HEADS = (
    ("GPU", ""), ("User", ""), ("PID", "num"), ("Since", ""), ("GPU GB", "num"), ("SM", "num"), ("CPU", "num"), ("RAM, GB", "num"),
    ("Container, job", ""), ("Command", ""),
)  # fmt: skip


def process_table(views: Sequence[GpuView], moment: Moment, with_gpu: bool = True) -> str:
    """All processes of these GPUs, GPU by GPU, most memory first."""
    found = [(view, process) for view in views for process in view.reading.processes]
    if not found:
        untold = next(filter(None, (words.untold_processes(view.reading) for view in views)), "")
        if untold:
            return f'<p class="note">Processes are {e(untold)}.</p>'
        return '<p class="note">No process is visible on the GPU.</p>' if not with_gpu else '<p class="note">No process is visible on the GPUs.</p>'
    heads = "".join(f'<th scope="col" class="{css}">{word}</th>' for word, css in (_HEADS if with_gpu else _HEADS[1:]))
    rows = "".join(_row(view, process, moment, with_gpu) for view, process in found)
    return f'<div class="scroll"><table class="list procs"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def csv_link(page: str, is_read: bool = True) -> str:
    """The table of the page at this address as a file, for its head."""
    return f' <small><a href="{page}?format=csv&amp;table=processes" download>CSV</a></small>' if is_read else ""


def _row(view: GpuView, process: ProcessReading, moment: Moment, with_gpu: bool) -> str:
    user = f'<b><a href="{plain_link(user=process.user)}">{e(process.user)}</a></b>' if process.user else '<span class="mute">unknown</span>'
    since = f'<span title="since {e(moment.clock(process.started_at))}">{moment.since(process.started_at)}</span>' if process.started_at else ""
    slice_ = _slice(view, process)
    cells = (
        f'<td data-of="GPU"><a href="{gpu_url(view.reading.uuid)}">{view.reading.index}{slice_}</a></td>' if with_gpu else "",
        f"<td>{user}</td>",
        f'<td class="num" data-of="PID">{_kind(process)}{process.pid}</td>',
        f'<td data-of="since">{since or not_reported()}</td>',
        _number("GPU GB", words.gb(process.gpu_memory_bytes) or None),
        _number("SM", None if process.sm_percent is None else f"{process.sm_percent:.0f} %"),
        _number("CPU", None if process.cpu_percent is None else f"{process.cpu_percent:.0f} %"),
        _number("RAM, GB", words.gb(process.host_memory_bytes) or None),
        f"<td>{_where(process)}</td>",
        f'<td class="wide cmd">{e(process.command or process.name) or not_reported()}</td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def _kind(process: ProcessReading) -> str:
    """What a process is that does not only compute."""
    word = words.KINDS.get(process.kind, "")
    return f'<small>{word}</small> ' if word else ""


def _slice(view: GpuView, process: ProcessReading) -> str:
    found = [one for one in view.reading.mig if one.gpu_instance is not None and one.gpu_instance == process.gpu_instance]
    return f".{found[0].index}" if found else ""


def _number(head: str, text: Optional[str]) -> str:
    return f'<td class="num" data-of="{head}">{not_reported(short=True) if text is None else text}</td>'


def _where(process: ProcessReading) -> str:
    return e(", ".join(words.places(process)))
