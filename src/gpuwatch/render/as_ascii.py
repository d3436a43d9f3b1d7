"""Text for terminals: the twins of each page for ``curl`` and ``gpuwatch status``. Pure.

No line is wider than ``options.width``, and nothing of what strangers chose (hosts, users, commands) can steer the terminal.
"""

from __future__ import annotations

from typing import Sequence

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import text_cells, text_facts, words
from gpuwatch.render.select import page_of, shown
from gpuwatch.render.stencil import host_text, written
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_detail import detail
from gpuwatch.render.text_rows import Rows
from gpuwatch.render.text_table import gpu_table, table
from gpuwatch.render.text_top import looked_at, top
from gpuwatch.render.text_words import Cache, node_reason, node_span, node_word, notes

__all__ = ["cluster_text", "detail", "gpu_detail", "gpu_table", "host_detail", "rows", "table"]


def cluster_text(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None, date_style: str = "YMD") -> str:
    """What ``/?term=true`` answers: seed 004's table, its details (``detail=true``), or our rows (``view=rows``)."""
    if options.layout == "rows":
        return rows(cluster, options, cache)
    return detail(cluster, options, cache, date_style) if options.detail else table(cluster, options, cache)


def rows(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """``view=rows``: counts, free GPUs, then one line a GPU. ``detail``: its processes below it."""
    look = Look.of(options)
    found = page_of(shown(cluster, options), options)
    drawer = Rows(look, cluster.timezone, options.detail)
    lines = top(cluster, options, look, cache)
    if found:
        lines.append(drawer.head())
    key = ("rows", look, options.audience, cluster.timezone, options.detail)
    lines += [host_text(row, cluster.taken_at, cache, key, drawer.host) for row in found]
    for note in notes(cluster, options, found, titled=True):
        lines += look.wrap(note, look.width)
    return look.final("\n".join(lines) + "\n")


def host_detail(cluster: ClusterNow, node: NodeState, options: ViewOptions, date_style: str = "YMD") -> str:
    """The twin of a host's page: its GPUs with their processes, then the machine, its cores, disks, networks, logins and troubles.

    ``date_style`` is that of seed 004's tables and changes nothing here: times are those of the page.
    """
    look, now, zone = Look.of(options), cluster.taken_at, cluster.timezone
    lines = [*_title(cluster, options, look, node.name), *_standing(node, look, now), ""]
    drawer = Rows(look, zone, detail=True)
    if node.gpus:
        lines.append(drawer.head())
    lines += [written(drawer.host(node, node.gpus, now)), ""]
    machine = ("MACHINE", "" if node.status == "up" else f"as of {words.clock(node.received_at, now, zone)}")
    lines += _block(look, machine, text_facts.host_facts(node, now, zone))
    if node.snapshot is not None:
        host = node.snapshot.host
        lines += _block(look, ("CORE", "LOAD OF EACH: 0 below 10 %, 9 from 90 %"), text_facts.cores(host), right=(0,))
        lines += _block(look, ("DISK", "FROM", "TYPE", "USED, GB", "OF"), text_facts.disks(host), right=(3, 4))
        lines += _block(look, ("NETWORK", "ADDRESS", "IN, GB", "OUT, GB"), text_facts.networks(host), right=(2, 3))
        lines += _block(look, ("LOGGED IN", "TERMINAL", "FROM", "SINCE"), text_facts.logins(host, now, zone))
    lines += _block(look, ("TROUBLE", "WHAT", "MESSAGE"), text_facts.troubles(node, now, zone))
    return _ended(cluster, options, look, lines)


def gpu_detail(cluster: ClusterNow, node: NodeState, gpu: GpuView, options: ViewOptions) -> str:
    """The twin of a GPU's page: its row with its processes, what else is known of them, then every value, with the reason where one is not reported."""
    look, now, zone = Look.of(options), cluster.taken_at, cluster.timezone
    name = f"{node.name} {gpu.reading.index}  {words.clean(gpu.reading.name)}"
    drawer = Rows(look, zone, detail=True)
    lines = [*_title(cluster, options, look, name), *_standing(node, look, now), "", drawer.head() + written(drawer.gpu(gpu, now)), ""]
    lines += _block(look, text_facts.PROCESS_HEAD, text_facts.processes(gpu, now, zone), right=(0, 4, 5, 6))
    lines += _fields(look, text_facts.gpu_facts(gpu, now, zone))
    return _ended(cluster, options, look, lines)


def _title(cluster: ClusterNow, options: ViewOptions, look: Look, name: str) -> list[str]:
    right = looked_at(cluster, options)
    left = look.left(name, look.width - len(right) - 1)
    return [f"{look.paint(left, text_cells.BOLD)} {right}"]


def _standing(node: NodeState, look: Look, now: float) -> list[str]:
    """Status of the node, for how long, and where the hub asks it."""
    word = "up" if node.status == "up" else node_word(node)
    since = node_span(node, now) or ("" if node.status_since_at is None else words.span(now - node.status_since_at))
    read = "" if node.received_at is None else f"last reading {words.span_exact(now - node.received_at)} ago"
    parts = (f"{word} {since}".strip(), read, words.clean(node.target.address), " ".join(map(words.clean, node.target.tags)))
    text = ", ".join(filter(None, parts))
    reason = node_reason(node) if node.status == "up" else ""
    return [*look.wrap(text, look.width), *(look.wrap(reason, look.width) if reason and node.gpus else [])]


LEAST_VALUE, LEAST_NOTE = 12, 16


def _fields(look: Look, rows: Sequence[Sequence[str]]) -> list[str]:
    """(label, value, note) under each other and an empty line. Notes go on in further lines; they are aligned beside values that have one."""
    labels = max(text_cells.width(label) for label, _, _ in rows) + 2
    values = max((text_cells.width(text_cells.plain(value, look.ascii_only)) for _, value, note in rows if note), default=0)
    values = max(values, LEAST_VALUE) + 2
    before = min(labels + values, look.width - LEAST_NOTE)
    lines = [look.paint(f"{look.left('FIELD', labels)}{look.left('VALUE', before - labels)}NOTE", text_cells.BOLD)]
    for label, value, note in rows:
        if not note:
            lines.append(look.left(label, labels) + look.cut(value, look.width - labels))
            continue
        first, *more = look.wrap(note, look.width - before)
        lines.append(f"{look.left(label, labels)}{look.left(value, before - labels - 1)} {first}")
        lines += [" " * before + line for line in more]
    return [*(line.rstrip() for line in lines), ""]


def _block(look: Look, head: Sequence[str], rows: Sequence[Sequence[str]], right: tuple[int, ...] = ()) -> list[str]:
    """A small table and an empty line; nothing without rows. Where it is too wide, the widest column is cut."""
    if not rows:
        return []
    cells = [[text_cells.plain(cell, look.ascii_only) for cell in row] for row in (head, *rows)]
    widths = [max(map(text_cells.width, column)) for column in zip(*cells)]
    while sum(widths) + 2 * len(widths) - 2 > look.width:
        _, widest = max((columns, -place) for place, columns in enumerate(widths))
        widths[-widest] -= 1
    sides = [look.right if place in right else look.left for place in range(len(widths))]
    lines = ["  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths)).rstrip() for row in cells]
    return [look.paint(lines[0], text_cells.BOLD), *lines[1:], ""]


def _ended(cluster: ClusterNow, options: ViewOptions, look: Look, lines: list[str]) -> str:
    while lines and not lines[-1]:
        lines.pop()
    for note in notes(cluster, options, (1,), titled=True):
        lines += look.wrap(note, look.width)
    return look.final("\n".join(lines) + "\n")
