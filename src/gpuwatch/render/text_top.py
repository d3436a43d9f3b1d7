"""What stands above the rows of ``view=rows``: the lab, the counts, and where GPUs are free. Pure."""

from __future__ import annotations

from datetime import datetime

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import HOSTS_PER_PAGE
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_tally import Tally, by_label, tally
from gpuwatch.render.text_words import Cache

COUNTED = ("free", "idle", "busy", "reserved", "mig", "stale", "unknown", "lost", "down")
ALWAYS = ("free", "idle", "busy")
AT_LEAST = (8, 4, 2, 1)
FREE_MODELS = 12
"""More lines of free models than this tell nothing at a glance."""


def top(cluster: ClusterNow, options: ViewOptions, look: Look, cache: Cache | None = None) -> list[str]:
    """Title and time, counts of all GPUs, then the free ones by model, and an empty line after each part."""
    tallies = [tally(node, cache, cluster.audience) for node in cluster.nodes]
    lines = [_title(cluster, options, look), *_counts(tallies, look), ""]
    free = _free(tallies, look)
    return [*lines, *free, ""] if free else lines


def looked_at(cluster: ClusterNow, options: ViewOptions) -> str:
    """``live, Wed 18 Nov 14:32:10 CET``; says so where it is a demo, or the past."""
    then = datetime.fromtimestamp(cluster.taken_at, words.zone_of(cluster.timezone))
    day = f"{words.DAYS[then.weekday()]} {then.day} {words.MONTHS[then.month - 1]}"
    kind = "live, " if options.at is None else "as it was on "
    year = f" {then.year}" if options.at is not None else ""
    return f"{'demo, ' if cluster.simulated else ''}{kind}{day}{year} {then:%H:%M:%S} {then.tzname() or 'UTC'}"


def _title(cluster: ClusterNow, options: ViewOptions, look: Look) -> str:
    right = looked_at(cluster, options)
    name = look.left(f"gpuwatch  {words.clean(cluster.title)}".rstrip(), look.width - len(right) - 1)
    return f"{look.paint(name[:8], text_cells.BOLD)}{name[8:]} {right}"


def _counts(tallies: list[Tally], look: Look) -> list[str]:
    counts = dict.fromkeys(COUNTED, 0)
    for one in tallies:
        for state, count in one.states.items():
            counts[state] = counts.get(state, 0) + count
    shown = [(f"{counts[state]} {'MIG' if state == 'mig' else state}", state) for state in COUNTED if counts[state] or state in ALWAYS]
    right = f"of {words.plural(sum(counts.values()), 'GPU')}, {words.plural(len(tallies), 'host')}"
    lines, columns = [""], 0
    for text, state in [*shown, (right, "")]:
        gap = 2 if columns else 0
        if columns + gap + len(text) > look.width:
            lines.append("")
            columns = gap = 0
        if text is right:
            gap = look.width - columns - len(text)
        lines[-1] += " " * gap + look.paint(text, text_cells.CHIPS.get(state, ""))
        columns += gap + len(text)
    return lines


def _free(tallies: list[Tally], look: Look) -> list[str]:
    """``FREE  A100 80GB 2 of 8  dgx-a 3 6``, two models a line where there is room."""
    cells = []
    many_hosts = len(tallies) > HOSTS_PER_PAGE
    kinds = by_label(cards for one in tallies for cards in one.cards)
    for label, cards in kinds.items():
        hosts: dict[str, list[str]] = {}
        for one in cards:
            if one.free:
                hosts.setdefault(one.host, []).extend(one.free)
        if hosts:
            free, all_of_it = sum(map(len, hosts.values())), sum(one.total for one in cards)
            cells.append(f"{look.cut(label, 24, '..')} {free} of {all_of_it}  {_where(hosts, look, many_hosts)}")
    if not cells:
        return ["No GPU is free."] if kinds else []
    more = len(cells) - FREE_MODELS
    cells = cells[:FREE_MODELS] + ([f"and {words.plural(more, 'model')} more"] if more > 0 else [])
    column = (look.width - 6) // 2
    beside = max(map(text_cells.width, cells)) < column
    if beside:
        cells = [look.left(left, column) + right for left, right in zip(cells[::2], [*cells[1::2], ""])]
    lines = [f"      {look.cut(cell.rstrip(), look.width - 6, '..')}" for cell in cells]
    return [look.paint("FREE", text_cells.BOLD) + lines[0][4:], *lines[1:]]


def _where(hosts: dict[str, list[str]], look: Look, many_hosts: bool) -> str:
    """``dgx-a 3 6  dgx-c 1``; in a large cluster how many hosts have at least so many free, and one that has the most."""
    if not many_hosts:
        return "  ".join(f"{look.cut(host, 24, '..')} {' '.join(numbers)}" for host, numbers in hosts.items())
    sizes = [len(numbers) for numbers in hosts.values()]
    counts = [(least, sum(size >= least for size in sizes)) for least in AT_LEAST]
    (most, first), *rest = [(least, count) for least, count in counts if count]
    told = ", ".join([f"{most} on {words.plural(first, 'host')}", *(f"{least} on {count}" for least, count in rest)])
    best = max(hosts, key=lambda host: len(hosts[host]))
    return f"{told}; most {look.cut(best, 24, '..')}"
