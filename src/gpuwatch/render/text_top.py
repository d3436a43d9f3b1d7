"""What stands above the rows of ``view=rows``: the lab, the counts, and where GPUs are free. Pure."""

from __future__ import annotations

from datetime import datetime

from gpuwatch.model.cluster import ClusterNow, GpuView
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import text_cells, words
from gpuwatch.render.select import HOSTS_PER_PAGE
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_rows import model_labels

COUNTED = ("free", "idle", "busy", "reserved", "mig", "stale", "unknown", "lost", "down")
ALWAYS = ("free", "idle", "busy")
AT_LEAST = (8, 4, 2, 1)
FREE_MODELS = 12
"""More lines of free models than this tell nothing at a glance."""


def top(cluster: ClusterNow, options: ViewOptions, look: Look) -> list[str]:
    """Title and time, counts of all GPUs, then the free ones by model, and an empty line after each part."""
    gpus = [gpu for node in cluster.nodes for gpu in node.gpus]
    lines = [_title(cluster, options, look), *_counts(cluster, gpus, look), ""]
    free = _free(gpus, look, len(cluster.nodes) > HOSTS_PER_PAGE)
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


def _counts(cluster: ClusterNow, gpus: list[GpuView], look: Look) -> list[str]:
    states = [gpu.state.state for gpu in gpus]
    counts = {state: states.count(state) for state in COUNTED}
    shown = [(f"{counts[state]} {'MIG' if state == 'mig' else state}", state) for state in COUNTED if counts[state] or state in ALWAYS]
    right = f"of {words.plural(len(gpus), 'GPU')}, {words.plural(len(cluster.nodes), 'host')}"
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


def _free(gpus: list[GpuView], look: Look, many_hosts: bool) -> list[str]:
    """``FREE  A100 80GB 2 of 8  dgx-a 3 6``, two models a line where there is room."""
    models: dict[str, list[GpuView]] = {}
    for gpu, label in zip(gpus, model_labels([gpu.reading for gpu in gpus])):
        models.setdefault(label, []).append(gpu)
    cells = []
    for model, all_of_it in models.items():
        free = [gpu for gpu in all_of_it if gpu.state.state == "free"]
        if free:
            cells.append(f"{look.cut(model, 24, '..')} {len(free)} of {len(all_of_it)}  {_where(free, look, many_hosts)}")
    if not cells:
        return ["No GPU is free."] if gpus else []
    more = len(cells) - FREE_MODELS
    cells = cells[:FREE_MODELS] + ([f"and {words.plural(more, 'model')} more"] if more > 0 else [])
    column = (look.width - 6) // 2
    beside = max(map(text_cells.width, cells)) < column
    if beside:
        cells = [look.left(left, column) + right for left, right in zip(cells[::2], [*cells[1::2], ""])]
    lines = [f"      {look.cut(cell.rstrip(), look.width - 6, '..')}" for cell in cells]
    return [look.paint("FREE", text_cells.BOLD) + lines[0][4:], *lines[1:]]


def _where(free: list[GpuView], look: Look, many_hosts: bool) -> str:
    """``dgx-a 3 6  dgx-c 1``; in a large cluster how many hosts have at least so many free, and one that has the most."""
    hosts: dict[str, list[int]] = {}
    for gpu in free:
        hosts.setdefault(gpu.host, []).append(gpu.reading.index)
    if not many_hosts:
        return "  ".join(f"{look.cut(host, 24, '..')} {' '.join(map(str, numbers))}" for host, numbers in hosts.items())
    sizes = [len(numbers) for numbers in hosts.values()]
    counts = [(least, sum(size >= least for size in sizes)) for least in AT_LEAST]
    (most, first), *rest = [(least, count) for least, count in counts if count]
    told = ", ".join([f"{most} on {words.plural(first, 'host')}", *(f"{least} on {count}" for least, count in rest)])
    best = max(hosts, key=lambda host: len(hosts[host]))
    return f"{told}; most {look.cut(best, 24, '..')}"
