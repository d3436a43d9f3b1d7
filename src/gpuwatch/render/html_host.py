"""The rows of one host: its ``<tbody>`` in the one table, in every state of node and GPU. Pure; cached per host by the caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Optional

from gpuwatch.model.cluster import GpuView, NodeState
from gpuwatch.model.snapshot import HostReading, Number
from gpuwatch.render import words
from gpuwatch.render.html_gpu_row import Moment, gpu_pieces, gpu_rows, people
from gpuwatch.render.html_parts import anchor, e, host_id, host_url, icon, plain_link
from gpuwatch.render.stencil import Hole, Piece, written

AWAY = ("down", "error", "unseen")
"""Statuses of a node that is one row with a message instead of its GPUs."""


def host_body(node: NodeState, gpus: Sequence[GpuView], moment: Moment) -> Iterator[Piece]:
    """A host with these of its GPUs (the others were left out by a filter), or its message."""
    if node.status in AWAY or not gpus:
        yield from _message_pieces(node, moment, False)
        return
    mixed = len({words.model_name(view.reading.name) for view in node.gpus}) > 1
    rows = sum(1 + len(view.reading.mig) for view in gpus)
    yield _open_body(node, host_id(node.name), node.name)
    cell: Sequence[Piece] = tuple(_host_cell(node, rows, moment))
    for view in gpus:
        yield from gpu_pieces(view, moment, cell, mixed)
        cell = ()
    yield "</tbody>"


def flat_body(node: NodeState, view: Optional[GpuView], moment: Moment) -> str:
    """One GPU with its host, for the list of all GPUs; a host without GPUs to show as its message."""
    if view is None:
        return message_body(node, moment)
    rows = gpu_rows(view, moment, _short_host_cell(node, 1 + len(view.reading.mig)), True)
    key = flat_key(node, view)
    return _open_body(node, f"u-{anchor(key)}", key) + rows + "</tbody>"


def flat_key(node: NodeState, view: Optional[GpuView]) -> str:
    """What a part of the list of all GPUs is known by."""
    return node.name if view is None else f"{node.name}/{view.reading.uuid}"


def _open_body(node: NodeState, css_id: str, key: str) -> str:
    names = (node.name, node.snapshot.hostname if node.snapshot else "", *node.target.tags)
    return f'<tbody role="rowgroup" id="{css_id}" data-key="{e(key)}" data-q="{e(chr(10).join(names).lower())}">'


def models(gpus: Sequence[GpuView]) -> str:
    """``8 × A100 80GB``, ``3 × GTX 1080 Ti, 1 × RTX 3090``; empty without GPUs."""
    counted = Counter(words.model_name(view.reading.name) for view in gpus)
    return ", ".join(f"{count} × {name}" for name, count in counted.items())


def _machine(host: HostReading) -> Piece:
    """``CPU 41 %  RAM 612 / 1024 GB``; what is not reported says so."""
    return Hole(_machine_line, (host.cpu_percent, host.memory_used_bytes, host.memory_total_bytes))


def _machine_line(cpu_percent: Number, used_bytes: Number, total_bytes: Number) -> str:
    cpu = "not reported" if cpu_percent is None else f"{cpu_percent:.0f} %"
    used = "not reported" if used_bytes is None else words.gb_total(used_bytes)
    total = f" / {words.gb_total(total_bytes)} GB" if total_bytes else ""
    return f"CPU {cpu}\u2002RAM {used}{total}"


def _host_cell(node: NodeState, rows: int, moment: Moment) -> Iterator[Piece]:
    second = f'<span class="soft" title="{e(models(node.gpus))}">{e(models(node.gpus))}</span>'
    third: Piece = _machine(node.snapshot.host) if node.snapshot else ""
    if node.status == "stale":
        age = words.span_exact(moment.now - node.received_at) if node.received_at is not None else ""
        second = f'<span class="soft"><span class="chip">{icon("stale")}stale {age}</span></span>'
        third = e(f"{models(node.gpus)}, last {words.clock_seconds(node.received_at, moment.zone)}")
    yield f'<th role="rowheader" class="host" scope="rowgroup" rowspan="{rows}"><span class="name">{_name(node)}{tags(node)}</span>'
    yield f'{second}<span class="small">'
    yield third
    yield "</span></th>"


def _short_host_cell(node: NodeState, rows: int) -> str:
    return f'<th role="rowheader" class="host" scope="rowgroup" rowspan="{rows}"><span class="name">{_name(node)}{tags(node)}</span></th>'


def _name(node: NodeState) -> str:
    own = node.snapshot.hostname if node.snapshot else ""
    title = f' title="calls itself {e(own)}"' if own and own != node.name else ""
    return f'<a href="{host_url(node.name)}"{title}>{e(node.name)}</a>'


def tags(node: NodeState) -> str:
    """The node's tags as links that filter."""
    return "".join(f'<a class="tag" href="{plain_link(tag=tag)}">{e(tag)}</a>' for tag in node.target.tags)


# ---- hosts that are one message


def message_body(node: NodeState, moment: Moment, own_page: bool = False) -> str:
    """A host that is one message; ``own_page``: the last snapshot stands below, so that no link leads to it."""
    return written(_message_pieces(node, moment, own_page))


def _message_pieces(node: NodeState, moment: Moment, own_page: bool) -> Iterator[Piece]:
    css, shape, word, message, following = _message(node, moment, own_page)
    host = node.snapshot.host if node.snapshot else None
    second = models(node.gpus) or ("no GPU" if css == "none" else "")
    after = f'<span class="next">{following}</span>' if following else ""
    state = {"error": "down", "none": "up"}.get(css, css)
    yield (
        f"{_open_body(node, host_id(node.name), node.name)}"
        f'<tr role="row" class="msg is-{css}" data-state="{state}" data-q="">'
        f'<th role="rowheader" class="host" scope="rowgroup" rowspan="1"><span class="name">{_name(node)}{tags(node)}</span>'
        f'<span class="soft">{e(second)}</span><span class="small">'
    )
    yield _machine(host) if host and node.status in ("up", "error") else ""
    yield (
        f'</span></th><td role="cell" class="st" colspan="2"><span class="w">{icon(shape) if shape else ""}{e(word)}</span></td>'
        '<td role="cell" class="why" colspan="8">'
    )
    yield message
    yield f"{after}</td></tr></tbody>"


def _message(node: NodeState, moment: Moment, own_page: bool) -> tuple[str, str, str, Piece, str]:
    """(look, shape, word, what is wrong, what next) of a host that is one row; the last two are HTML."""
    if node.status == "up":
        return "none", "", "no GPU", _no_gpu(node), ""
    what, step = split_next(node.error)
    what = words.sentence(what, node.name)
    since = moment.clock(node.status_since_at)
    if node.status == "unseen":
        return "unseen", "stale", unseen_word(node), e(f"Expected since {since}. {what}" if since else what), e(step)
    if node.status == "error":
        return "error", "warn", "no GPU data", e(f"Since {since}: {what}" if since else what), _last_seen(node, own_page) + e(step)
    if node.status == "down":
        word = f"down {words.span_long(moment.now - node.status_since_at)}" if node.status_since_at is not None else "down"
        return "down", "down", word, e(f"Unreachable since {since}: {what}" if since else what), _last_seen(node, own_page) + e(step)
    return "unseen", "stale", "stale", e(what), e(step)


def unseen_word(node: NodeState) -> str:
    """``unseen``; of the past ``no reading``: there nothing is expected since a time."""
    return "unseen" if node.status_since_at is not None else "no reading"


def split_next(error: Optional[str]) -> tuple[str, str]:
    """What is wrong, and the sentence from ``Next:`` on."""
    what, found, step = words.clean(error).partition("Next:")
    return what.strip(), f"Next:{step}" if found else ""


def _last_seen(node: NodeState, own_page: bool) -> str:
    """Whose work was seen last on a host that is away, with the way to its last snapshot. HTML."""
    if node.snapshot is None:
        return ""
    show = "" if own_page else f'<a href="{host_url(node.name)}">Show the last snapshot</a>. '
    if not node.gpus:
        return show
    owners = Counter(name for view in node.gpus for name in people(view.reading.processes)[:1])
    count = sum(owners.values())
    who = ", ".join(f"{name} ×{number}" if number > 1 else name for name, number in owners.most_common(6))
    return f"Last seen with {words.plural(count, 'busy GPU')}{e(f': {who}') if who else ''}. {show}"


def _no_gpu(node: NodeState) -> Piece:
    host = node.snapshot.host if node.snapshot else HostReading()
    cores = f"{host.cpu_count} cores" if host.cpu_count else "cores not reported"
    told = [words.sentence(part.message) for part in (node.snapshot.collectors if node.snapshot else ()) if part.name == "nvml" and part.message]
    if node.snapshot is not None and not node.snapshot.version:
        told.append(f"It is read {words.source_of(node.snapshot)}.")
    return Hole(_load, (host.load_1m,), (cores, " ".join(told)))


def _load(cores: str, told: str, load: Number) -> str:
    return e(f"{cores}, {'load not reported' if load is None else f'load {load:.1f}'}. {told}")
