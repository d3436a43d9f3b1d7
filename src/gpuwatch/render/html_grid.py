"""The page of a large cluster: a grid with a cell per GPU, drawn by the script from one block of JSON, and a list of hosts which is its text twin.

Pure. Without the script the list is there in pages; with it, only the rows in sight are. A row of the data is made once per version of a node.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterable, List, Optional, Sequence

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.html_gpu_row import people
from gpuwatch.render.html_parts import e, host_url, icon, json_block, meter
from gpuwatch.render.select import Selected, matching

MINUTES_FROM = 29_000_000
"""Epoch minutes that the data's times count from, to keep them short."""

KINDS = (
    ("b", "busy", "busy", "busy, by utilization"), ("f", "free", "free", "free"), ("i", "idle", "idle", "idle, held"),
    ("r", "reserved", "reserved", "reserved"), ("t", "busy", "warn", "hot or throttled"), ("n", "unknown", "unknown", "not reported"),
    ("s", "stale", "stale", "stale"), ("d", "down", "down", "down or lost"), ("u", "unseen", "stale", "unseen"),
)  # fmt: skip
"""(letter in the data, state, shape, words in the legend). ``n`` is a busy GPU without utilization, or one of unknown state."""
_LETTER = {"free": "f", "idle": "i", "reserved": "r", "stale": "s", "down": "d", "lost": "d", "unknown": "n"}
_SHAPE = {letter: shape for letter, _, shape, _ in KINDS}
_BARE = {"down": "d", "error": "d", "unseen": "u", "stale": "s"}


def kind_letter(view: GpuView) -> str:
    """The letter of a GPU's cell."""
    letter = _LETTER.get(view.state.state)
    if letter:
        return letter
    if view.state.marks:
        return "t"
    return "n" if view.reading.utilization_percent is None and not view.reading.mig else "b"


def letters(node: NodeState) -> str:
    """The letters of a host's cells; one for a host whose GPUs nobody has seen, none for one without GPUs."""
    return "".join(map(kind_letter, node.gpus)) if node.gpus else _BARE.get(node.status, "")


def grid_cells(cluster: ClusterNow, options: ViewOptions, since: int, fragments: Fragments) -> dict[str, Any]:
    """What changed in the grid since a version (0: everything, in order): ``rows`` and the ``legend`` (HTML)."""
    nodes = _nodes(cluster, options)
    rows = [_cells(node, options.audience, fragments) for node in nodes if node.version > since]
    return {"now": int(cluster.taken_at), "rows": rows, "whole": since <= 0, "legend": _legend(nodes)}


def _nodes(cluster: ClusterNow, options: ViewOptions) -> List[NodeState]:
    return [node for node, _ in matching(cluster, options)]


def _cells(node: NodeState, audience: str, fragments: Fragments) -> List[Any]:
    return fragments.get(("cells", node.name, audience), node.version, lambda: _row(node))


def _row(node: NodeState) -> List[Any]:
    """[name, tag, models, card's GB, letters, utilization, memory GB, users, user of each GPU, since of each GPU, note]."""
    users: list[str] = []
    owners: list[Optional[int]] = []
    for view in node.gpus:
        names = people(view.reading.processes)[:1]
        users += [name for name in names if name not in users]
        owners.append(users.index(names[0]) if names else None)
    total = max((view.reading.memory_total_bytes or 0.0 for view in node.gpus), default=0.0)
    return [
        words.clean(node.name), words.clean(node.target.tags[0]) if node.target.tags else "",
        ", ".join(dict.fromkeys(words.model_name(view.reading.name) for view in node.gpus)), round(total / 2**30),
        letters(node), [_whole(view.reading.utilization_percent) for view in node.gpus],
        [_tenth(view.reading.memory_used_bytes) for view in node.gpus], users, owners,
        [_minute(view.state.since_at) for view in node.gpus], _note(node),
    ]  # fmt: skip


def _whole(value: Optional[float]) -> Optional[int]:
    return None if value is None else round(value)


def _tenth(size: Optional[float]) -> Optional[float]:
    return None if size is None else round(size / 2**30, 1) if size else 0


def _minute(at: Optional[float]) -> Optional[int]:
    return None if at is None else int(at // 60) - MINUTES_FROM


def _note(node: NodeState) -> str:
    return "" if node.status == "up" else node.status


def grid_main(cluster: ClusterNow, options: ViewOptions, rows: Sequence[Selected], fragments: Fragments) -> str:
    """The part below the answers. ``rows``: what the whole filter leaves, for the list without script."""
    plain = ViewOptions(audience=options.audience, host=options.host, user=options.user, tag=options.tag, model=options.model, layout="grid")
    nodes = _nodes(cluster, plain)
    block = json_block({"from": MINUTES_FROM, "now": int(cluster.taken_at), "rows": [_cells(node, options.audience, fragments) for node in nodes]})
    return (
        '<section id="grid-part" class="js-block" aria-labelledby="g-all"><div class="ranges">'
        '<h2 id="g-all">All GPUs <small>one column is one host, one cell one GPU</small></h2><span class="gap"></span>'
        '<label class="soft" for="group">group by <select id="group"><option value="tag">tag</option><option value="model">model</option></select></label>'
        '<span class="seg shade" role="group" aria-label="Shade busy GPUs by"><button type="button" data-shade="util" aria-pressed="true">Utilization</button>'
        '<button type="button" data-shade="mem" aria-pressed="false">Memory</button></span></div>'
        f'<ul id="legend">{_legend(nodes)}</ul><p id="say" role="status">Point at a cell, or use the arrow keys.</p>'
        '<div id="grid" tabindex="0" role="group" aria-label="Grid of all GPUs. Arrow keys move from host to host and from GPU to GPU, Enter opens the '
        'host. The list below says the same in words."></div></section>'
        f'<div class="two">{_list(rows, options)}<section id="one" aria-label="Chosen host" aria-live="polite"></section></div>'
        f'<script type="application/json" id="cells">{block}</script>'
    )


def _legend(nodes: Iterable[NodeState]) -> str:
    counts = Counter("".join(map(letters, nodes)))
    return "".join(
        f'<li>{_swatch(letter)}{told} <b>{counts[letter]:,}</b></li>' for letter, _, _, told in KINDS if counts[letter] or letter in "bfid"
    )  # fmt: skip


_DOTS = {
    "n": ((0, 0), (1, 0), (4, 0), (5, 0), (2, 2), (3, 2), (2, 3), (3, 3), (0, 5), (1, 5), (4, 5), (5, 5)),
    "s": ((0, 0), (2, 0), (4, 0), (0, 2), (5, 2), (0, 4), (5, 4), (1, 5), (3, 5)),
}
_DRAWN = {
    "f": '<rect class="s-go" width="6" height="6"/>',
    "i": '<rect class="s-tint" width="6" height="6"/><path class="s-hold" d="M0 0h2v6H0zM4 0h2v6H4z"/>',
    "r": '<path class="s-open" d="M.5.5h5v5h-5z"/>',
    "t": '<rect class="s-busy" width="6" height="6"/><path class="s-page" d="M6 0v6H0z"/><path class="s-bad" d="M6 1.4V6H1.4z"/>',
    "d": '<path class="s-cross" d="m.5.5 5 5m0-5-5 5"/>',
} | {letter: f'<path class="s-dots" d="{"".join(f"M{x} {y}h1v1h-1z" for x, y in dots)}"/>' for letter, dots in _DOTS.items()}
"""Each kind of cell as the script draws it."""


def _swatch(letter: str) -> str:
    """What the legend shows: the same drawing as in the grid."""
    if letter == "b":
        return '<span class="ramp" aria-hidden="true"><i></i><i></i><i></i><i></i><i></i></span>'
    return f'<svg class="swatch" viewBox="0 0 6 6" aria-hidden="true">{_DRAWN.get(letter, _DRAWN["s"])}</svg>'


def _list(rows: Sequence[Selected], options: ViewOptions) -> str:
    size = 60
    first = max(0, options.page - 1) * size
    body = "".join(_list_row(node) for node, _ in rows[first : first + size])
    heads = '<th>Host</th><th>Model</th><th>GPUs</th><th class="num">Free</th><th>Utilization</th><th>Who</th>'
    return (
        f'<section id="list" aria-labelledby="l-hosts"><h2 class="sec" id="l-hosts">Hosts <small id="n">{len(rows):,}</small><span class="gap"></span>'
        '<label class="js small" for="sort">order <select id="sort"><option value="">as in the hosts file</option><option value="name">name</option>'
        '<option value="free">most free first</option></select></label></h2>'
        f'<div id="box" tabindex="0" role="region" aria-label="List of hosts"><table class="list vlist"><thead><tr>{heads}</tr></thead>'
        f'<tbody id="rows">{body}</tbody></table></div></section>'
    )


def _list_row(node: NodeState) -> str:
    names = ", ".join(dict.fromkeys(words.model_name(view.reading.name) for view in node.gpus))
    cells = letters(node)
    known = [view.reading.utilization_percent for view in node.gpus if view.reading.utilization_percent is not None]
    mean = sum(known) / len(known) if known else None
    util = "" if mean is None else f'<div class="bar-n">{meter(mean, 100)}<span>{mean:.0f} %</span></div>'
    who = Counter(name for view in node.gpus for name in people(view.reading.processes)[:1])
    told = ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in who.most_common()) or _note(node)
    spoken = ", ".join(f"{place} {_word(letter)}" for place, letter in enumerate(cells))
    shapes = "".join(f'<i class="k k-{letter}">{icon(_SHAPE[letter])}</i>' for letter in cells)
    free = cells.count("f")
    return (
        f'<tr><th scope="row"><a href="{host_url(node.name)}">{e(node.name)}</a></th><td class="soft">{e(names)}</td>'
        f'<td><span class="shapes" role="img" aria-label="{spoken}">{shapes}</span></td><td class="num{" go" if free else ""}"><b>{free}</b></td>'
        f'<td>{util}</td><td class="soft">{e(told)}</td></tr>'
    )


def _word(letter: str) -> str:
    return next(told for kind, _, _, told in KINDS if kind == letter).partition(",")[0]
