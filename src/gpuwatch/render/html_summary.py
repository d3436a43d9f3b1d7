"""The answers above the table: how many GPUs are in which state, what is free, who holds memory without work, what needs attention.

Pure. Always of the whole cluster, whatever filter the table below has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Iterable, Sequence

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.html_gpu_row import Moment
from gpuwatch.render.html_parts import e, gpu_id, gpu_url, host_id, host_url, icon, link, plain_link
from gpuwatch.render.html_tally import Held, HostTally, Pool, Trouble

SHOWN_HOSTS = 6
SHOWN_USERS = 8
SHOWN_TROUBLES = 10

COUNTS = (
    ("free", "free", "free", "go"), ("idle", "idle, held", "idle", "hold"), ("busy", "busy", "busy", ""), ("reserved", "reserved", "reserved", ""),
    ("unknown", "unknown", "unknown", ""), ("stale", "stale", "stale", ""), ("down", "down", "down", "bad"),
)  # fmt: skip
"""(state that the figure filters by, word, shape, colour), in order."""
_ONLY_IF_ANY = ("reserved", "unknown")


def page_title(counts: Counter[str]) -> str:
    """The tab's title carries the answer: ``8 of 47 GPUs free``."""
    total = sum(counts.values())
    return f"{counts['free']:,} of {total:,} GPUs free" if total else "No GPUs yet"


def counts_html(cluster: ClusterNow, options: ViewOptions, counts: Counter[str]) -> str:
    """The figures; each is a link that filters by its state and, pressed, one that shows all again."""
    chosen = "free" if options.free_only else options.state
    figures = []
    for state, word, shape, colour in COUNTS:
        if state in _ONLY_IF_ANY and not counts[state] and chosen != state:
            continue
        pressed = chosen == state
        address = link(options, state="" if pressed else state, free="")
        figures.append(
            f'<a class="count {colour}" role="button" href="{address}" data-state="{state}" aria-pressed="{str(pressed).lower()}">'
            f'<span class="n">{counts[state]:,}</span><span class="w">{icon(shape)}{word}</span></a>'
        )
    total = f"of {words.plural(sum(counts.values()), 'GPU')}<br>on {words.plural(len(cluster.nodes), 'host')}"
    return "".join(figures) + f'<span class="total small">{total}</span>'


def notices_html(cluster: ClusterNow) -> str:
    """What is wrong with the hub itself, and that a demo is one."""
    demo = '<p class="demo"><b>Demo: the GPUs are simulated.</b> Nothing here is a real machine.</p>' if cluster.simulated else ""
    css, shape = ("notice", "warn") if cluster.at is None else ("demo", "stale")  # of the past it is no trouble
    return demo + "".join(f'<p class="{css}">{icon(shape)}<span>{e(notice)}</span></p>' for notice in cluster.notices)


def answers_html(cluster: ClusterNow, tallies: Sequence[HostTally], moment: Moment, anchored: bool) -> str:
    """The three tables. ``anchored``: every host stands on this page, so that links may jump to its rows."""
    if not cluster.nodes or nothing_then(cluster):
        return ""
    return (
        section("a-free", "go", "free", f"Free {then(cluster)}", "host and GPU number", _free_table(tallies))
        + section("a-idle", "hold", "idle", "Idle, memory held", "no work for", _idle_table(cluster, tallies, moment))
        + section("a-bad", "bad", "warn", "Needs attention", "since", _trouble_table(tallies, moment, anchored))
    )


def then(cluster: ClusterNow) -> str:
    """``now``; of the past ``then``."""
    return "now" if cluster.at is None else "then"


def nothing_then(cluster: ClusterNow) -> bool:
    """Of that moment of the past there is no reading at all: there are no answers to give."""
    return cluster.at is not None and not any(node.snapshot for node in cluster.nodes)


def section(name: str, colour: str, shape: str, title: str, note: str, body: str) -> str:
    """One of the answers: a head with its shape and a body (HTML)."""
    head = f'<h2 id="{name}" class="{colour}">{icon(shape)}{title} <small>{note}</small></h2>'
    return f'<section aria-labelledby="{name}">{head}{body}</section>'


def table(rows: Iterable[str], after: str = "") -> str:
    """A plain table of these rows, and what stands under it (HTML)."""
    return f'<table class="list"><tbody>{"".join(rows)}</tbody></table>{after}'


# ---- free


@dataclass
class _Pool:
    """The GPUs of one model, or the slices of one profile, of all hosts."""

    query: str
    size: float = 0.0
    total: int = 0
    free: int = 0
    reserved: int = 0
    unknown: int = 0
    places: dict[str, Sequence[str]] = field(default_factory=dict)

    def add(self, host: str, pool: Pool) -> None:
        """Those of one more host."""
        self.size = max(self.size, pool.size)
        self.total += pool.total
        self.reserved += pool.reserved
        self.unknown += pool.unknown
        if pool.free:
            self.free += len(pool.free)
            self.places[host] = pool.free


def _pools(tallies: Sequence[HostTally]) -> dict[str, _Pool]:
    """GPUs by model and slices by profile, largest memory first."""
    found: dict[str, _Pool] = {}
    for one in tallies:
        for pool in one.pools:
            found.setdefault(pool.name, _Pool(pool.query)).add(one.host, pool)
    by_name = sorted(found.items(), key=lambda item: item[0], reverse=True)
    return dict(sorted(by_name, key=lambda item: -round(item[1].size / 2**30)))


def _free_table(tallies: Sequence[HostTally]) -> str:
    found = _pools(tallies)
    rows = [_free_row(name, pool) for name, pool in found.items() if pool.free]
    none = [f"{name} ({pool.total})" for name, pool in found.items() if not pool.free]
    if not rows:
        told = f"No GPU is free: {', '.join(none)}." if none else "No GPU has been seen yet."
        return f'<p class="note">{e(told)}</p>'
    return table(rows, f'<p class="note small">None free: {e(", ".join(none))}</p>' if none else "")


def _free_row(name: str, pool: _Pool) -> str:
    places = list(pool.places.items())
    shown = "; ".join(f'<a href="{host_url(host)}">{e(host)}</a> <b>{" ".join(numbers)}</b>' for host, numbers in places[:SHOWN_HOSTS])
    if len(places) > SHOWN_HOSTS:
        shown += f"; {words.plural(len(places) - SHOWN_HOSTS, 'more host')}"
    notes = [f"{count} {word}" for count, word in ((pool.reserved, "reserved"), (pool.unknown, "unknown")) if count]
    return (
        f'<tr><th scope="row"><a href="{plain_link(model=pool.query, state="free")}">{e(name)}</a></th>'
        f'<td class="num"><b class="go">{pool.free:,}</b> <span class="mute">of {pool.total:,}</span></td>'
        f'<td class="wide">{shown}</td><td class="num mute">{", ".join(notes)}</td></tr>'
    )


# ---- idle


def _idle_table(cluster: ClusterNow, tallies: Sequence[HostTally], moment: Moment) -> str:
    held: dict[str, list[Held]] = defaultdict(list)
    for one in tallies:
        for gpu in one.idle:
            held[gpu.user].append(gpu)
    if not held:
        return '<p class="note">Nobody holds memory without work.</p>'
    most_first = sorted(held.items(), key=lambda item: -sum(gpu.used_bytes or 0.0 for gpu in item[1]))
    rows = [_idle_row(user, gpus, moment) for user, gpus in most_first[:SHOWN_USERS]]
    left = len(most_first) - SHOWN_USERS
    after = f'<p class="note small">and {words.plural(left, "more user")}</p>' if left > 0 else ""
    rule = (
        f"Idle: at least {cluster.idle_memory_bytes / 1e9:.1f} GB held, and utilization at most {cluster.idle_utilization_percent:g} % "
        f"for {words.span(cluster.idle_after_seconds)}."
    )
    return table(rows, f'{after}<p class="note small">{rule}</p>')


def _idle_row(user: str, gpus: Sequence[Held], moment: Moment) -> str:
    by_host: dict[str, list[str]] = {}
    for gpu in gpus:
        by_host.setdefault(gpu.host, []).append(gpu.number)
    where = "; ".join(f'<a href="{host_url(host)}">{e(host)}</a> <b>{" ".join(numbers)}</b>' for host, numbers in list(by_host.items())[:3])
    if len(by_host) > 3:
        where += f"; {words.plural(len(by_host) - 3, 'more host')}"
    sizes = [gpu.used_bytes for gpu in gpus if gpu.used_bytes is not None]
    size = f"{words.gb(sum(sizes))} GB" if sizes else "not reported"
    quiet = [gpu.no_work_since_at for gpu in gpus if gpu.no_work_since_at is not None]
    who = f'<a href="{plain_link(user=user)}">{e(user)}</a>' if user else '<span class="mute">no visible user</span>'
    return (
        f'<tr><th scope="row"><b>{who}</b></th><td class="wide">{where}</td><td class="num">{size}</td>'
        f'<td class="num hold"><b>{moment.since(min(quiet)) if quiet else ""}</b></td></tr>'
    )


# ---- trouble


def troubles(tallies: Sequence[HostTally]) -> list[Trouble]:
    """What is wrong, worst first and newest first within a kind."""
    found = [trouble for one in tallies for trouble in one.troubles]
    return sorted(found, key=lambda trouble: (trouble.rank, -(trouble.since_at or 0.0)))


def _trouble_table(tallies: Sequence[HostTally], moment: Moment, anchored: bool) -> str:
    found = troubles(tallies)
    if not found:
        return '<p class="note">Nothing.</p>'
    left = len(found) - SHOWN_TROUBLES
    after = f'<p class="note small">and {left:,} more: <a href="/?state=down">down</a>, <a href="/?state=stale">stale</a></p>' if left > 0 else ""
    return table((_trouble_row(trouble, moment, anchored) for trouble in found[:SHOWN_TROUBLES]), after)


def _trouble_row(trouble: Trouble, moment: Moment, anchored: bool) -> str:
    number = "" if trouble.index is None else f" <b>{trouble.index}</b>"
    if anchored:
        target = host_id(trouble.host) if trouble.index is None else gpu_id(trouble.host, trouble.index)
        address = f"#{target}"
    else:
        address = gpu_url(trouble.uuid) if trouble.uuid else host_url(trouble.host)
    colour = "mute" if trouble.shape == "stale" else "bad"
    since = "" if trouble.since_at is None else words.span_long(moment.now - trouble.since_at)
    return (
        f'<tr><td class="{colour}">{icon(trouble.shape)}</td><th scope="row"><a href="{address}">{e(trouble.host)}{number}</a></th>'
        f'<td class="wide">{e(trouble.text)}</td><td class="num">{since}</td></tr>'
    )
