"""The page of a large cluster: a grid with a cell per GPU, drawn by the script from one block of JSON, and a list of hosts which is its text twin.

Pure. Without the script the list is there in pages; with it, only the rows in sight are. A row of the data is made once per version of a node.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, List, NamedTuple, Optional, Sequence

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import Number
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.html_gpu_row import people
from gpuwatch.render.html_host import unseen_word
from gpuwatch.render.html_parts import e, host_url, icon, json_block, meter
from gpuwatch.render.select import Shown, shown
from gpuwatch.render.stencil import Numbers, seen

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


class _Facts(NamedTuple):
    """What of a host's cells no number changes, and where its numbers stand."""

    names: tuple[str, str, str]
    """Of the host, its first tag, its models."""
    letters: str
    """One a GPU, ``_ASK`` where its utilization decides; one for a host whose GPUs nobody has seen, none for one without GPUs."""
    users: list[str]
    owners: list[Optional[int]]
    since: list[Optional[int]]
    note: str
    utilization: tuple[Number, ...]
    used: tuple[Number, ...]
    totals: tuple[Number, ...]


class Cells(NamedTuple):
    """The cells of a host."""

    row: list[Any]
    """[name, tag, models, card's GB, letters, utilization, memory GB, users, user of each GPU, since of each GPU, note]."""
    mean_utilization: Optional[float]

    @property
    def letters(self) -> str:
        """See ``KINDS``."""
        return str(self.row[4])

    @property
    def note(self) -> str:
        """The host's status, where it is not up."""
        return str(self.row[-1])

    @property
    def is_seen(self) -> bool:
        """There is a cell for each GPU; otherwise one for all of them."""
        return bool(self.row[5])


_ASK = "?"


def cells(node: NodeState, audience: str, fragments: Fragments) -> Cells:
    """The cells of a host, made once per version."""
    key = ("cells", audience)
    return fragments.get((*key, node.name), node.version, lambda: _cells(*seen(node, 0.0, fragments, key, _facts)))


def _facts(node: NodeState, _: object) -> _Facts:
    users: list[str] = []
    owners: list[Optional[int]] = []
    readings = [view.reading for view in node.gpus]
    for reading in readings:
        names = people(reading.processes)[:1]
        users += [name for name in names if name not in users]
        owners.append(users.index(names[0]) if names else None)
    tag = words.clean(node.target.tags[0]) if node.target.tags else ""
    models = ", ".join(dict.fromkeys([words.model_name(reading.name) for reading in readings]))
    return _Facts(
        (words.clean(node.name), tag, models), "".join(map(_letter, node.gpus)) if node.gpus else _BARE.get(node.status, ""), users, owners,
        [_minute(view.state.since_at) for view in node.gpus], {"up": "", "unseen": unseen_word(node)}.get(node.status, node.status),
        tuple([one.utilization_percent for one in readings]), tuple([one.memory_used_bytes for one in readings]),
        tuple([one.memory_total_bytes for one in readings]),
    )  # fmt: skip


def _letter(view: GpuView) -> str:
    letter = _LETTER.get(view.state.state)
    if letter:
        return letter
    return "t" if view.state.marks else "b" if view.reading.mig else _ASK


def _cells(facts: _Facts, numbers: Numbers) -> Cells:
    utilization = numbers(facts.utilization)
    letters = facts.letters.replace(_ASK, "b")
    if None in utilization:
        told = zip(facts.letters, letters, utilization)
        letters = "".join(["n" if letter == _ASK and load is None else usual for letter, usual, load in told])
    known = [load for load in utilization if load is not None]
    total = max([size or 0.0 for size in numbers(facts.totals)], default=0.0)
    return Cells(
        [
            *facts.names, round(total / 2**30), letters, [None if load is None else round(load) for load in utilization],
            list(map(_tenth, numbers(facts.used))), facts.users, facts.owners, facts.since, facts.note,
        ],
        sum(known) / len(known) if known else None,
    )  # fmt: skip


@lru_cache(maxsize=16384)
def _tenth(size: Number) -> Number:
    return None if size is None else round(size / 2**30, 1) if size else 0


def _minute(at: Optional[float]) -> Optional[int]:
    return None if at is None else int(at // 60) - MINUTES_FROM


def grid_cells(cluster: ClusterNow, options: ViewOptions, since: int, fragments: Fragments) -> dict[str, Any]:
    """What changed in the grid since a version (0: everything, in order): ``rows`` and the ``legend`` (HTML)."""
    nodes = _nodes(cluster, options)
    found = [cells(node, options.audience, fragments) for node in nodes]
    rows = [one.row for one, node in zip(found, nodes) if since <= 0 or node.version > since]
    return {"now": int(cluster.taken_at), "rows": rows, "whole": since <= 0, "legend": _legend(found)}


def _nodes(cluster: ClusterNow, options: ViewOptions) -> List[NodeState]:
    return [node for node, _ in shown(cluster, options)]


def grid_main(cluster: ClusterNow, options: ViewOptions, rows: Sequence[Shown], fragments: Fragments) -> str:
    """The part below the answers. ``rows``: what the whole filter leaves, for the list without script."""
    plain = ViewOptions(audience=options.audience, host=options.host, user=options.user, tag=options.tag, model=options.model, layout="grid")
    found = [cells(node, options.audience, fragments) for node in _nodes(cluster, plain)]
    block = json_block({"from": MINUTES_FROM, "now": int(cluster.taken_at), "rows": [one.row for one in found]})
    return (
        '<section id="grid-part" class="js-block" aria-labelledby="g-all"><div class="ranges">'
        '<h2 id="g-all">All GPUs <small>one column is one host, one cell one GPU</small></h2><span class="gap"></span>'
        '<label class="soft" for="group">group by <select id="group"><option value="tag">tag</option><option value="model">model</option></select></label>'
        '<span class="seg shade" role="group" aria-label="Shade busy GPUs by"><button type="button" data-shade="util" aria-pressed="true">Utilization</button>'
        '<button type="button" data-shade="mem" aria-pressed="false">Memory</button></span></div>'
        f'<ul id="legend">{_legend(found)}</ul><p id="say" role="status">Point at a cell, or use the arrow keys.</p>'
        '<div id="grid" tabindex="0" role="group" aria-label="Grid of all GPUs. Arrow keys move from host to host and from GPU to GPU, Enter opens the '
        'host. The list below says the same in words."></div></section>'
        f'<div class="two">{_list(rows, options, fragments)}<section id="one" aria-label="Chosen host" aria-live="polite"></section></div>'
        f'<script type="application/json" id="cells">{block}</script>'
    )


def _legend(found: Sequence[Cells]) -> str:
    """How many GPUs are of each kind, as the figures at the top count them; and hosts whose GPUs nobody has seen."""
    gpus = Counter("".join([one.letters for one in found if one.is_seen]))
    hosts = Counter("".join([one.letters for one in found if not one.is_seen]))
    words_of = {"u": ", ".join(sorted({one.note for one in found if one.letters == "u" and not one.is_seen}))}  # of the past: no reading
    return "".join(
        f"<li>{_swatch(letter)}{words_of.get(letter) or told} {_count(gpus[letter], hosts[letter])}</li>"
        for letter, _, _, told in KINDS
        if gpus[letter] or hosts[letter] or letter in "bfid"
    )


def _count(gpus: int, hosts: int) -> str:
    seen_ones = f"<b>{gpus:,}</b>"
    unseen_ones = f"<b>{words.plural(hosts, 'host')}</b>"
    return f"{seen_ones} and {unseen_ones}" if gpus and hosts else unseen_ones if hosts else seen_ones


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


def _list(rows: Sequence[Shown], options: ViewOptions, fragments: Fragments) -> str:
    size = 60
    first = max(0, options.page - 1) * size
    body = "".join(_list_row(node, cells(node, options.audience, fragments)) for node, _ in rows[first : first + size])
    heads = '<th>Host</th><th>Model</th><th>GPUs</th><th class="num">Free</th><th>Utilization</th><th>Who</th>'
    return (
        f'<section id="list" aria-labelledby="l-hosts"><h2 class="sec" id="l-hosts">Hosts <small id="n">{len(rows):,}</small><span class="gap"></span>'
        '<label class="js small" for="sort">order <select id="sort"><option value="">as in the hosts file</option><option value="name">name</option>'
        '<option value="free">most free first</option></select></label></h2>'
        f'<div id="box" tabindex="0" role="region" aria-label="List of hosts"><table class="list vlist"><thead><tr>{heads}</tr></thead>'
        f'<tbody id="rows">{body}</tbody></table></div></section>'
    )


def _list_row(node: NodeState, host: Cells) -> str:
    _, _, names, _, letters, _, _, users, owners, _, note = host.row
    mean = host.mean_utilization
    util = "" if mean is None else f'<div class="bar-n">{meter(mean, 100)}<span>{mean:.0f} %</span></div>'
    who = Counter([users[owner] for owner in owners if owner is not None])
    told = ", ".join([f"{name} ×{count}" if count > 1 else name for name, count in who.most_common()]) or note
    spoken = ", ".join([f"{place} {_WORDS[letter]}" for place, letter in enumerate(letters)]) if host.is_seen else note
    shapes = "".join([f'<i class="k k-{letter}">{icon(_SHAPE[letter])}</i>' for letter in letters])
    free = letters.count("f")
    return (
        f'<tr><th scope="row"><a href="{host_url(node.name)}">{e(node.name)}</a></th><td class="soft">{e(names)}</td>'
        f'<td><span class="shapes" role="img" aria-label="{spoken}">{shapes}</span></td><td class="num{" go" if free else ""}"><b>{free}</b></td>'
        f'<td>{util}</td><td class="soft">{e(told)}</td></tr>'
    )


_WORDS = {letter: told.partition(",")[0] for letter, _, _, told in KINDS}
