"""Text for terminals: the twins of each page for ``curl`` and ``gpuwatch status``. Pure.

No line is wider than ``options.width``, and nothing of what strangers chose (hosts, users, commands) can steer the terminal.
"""

from __future__ import annotations

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.select import Selected, select
from gpuwatch.render.text_cells import Look
from gpuwatch.render.text_detail import detail
from gpuwatch.render.text_rows import Rows
from gpuwatch.render.text_table import gpu_table, table
from gpuwatch.render.text_top import top
from gpuwatch.render.text_words import Cache, cached, notes

__all__ = ["detail", "gpu_table", "rows", "table"]


def cluster_text(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None, date_style: str = "YMD") -> str:
    """What ``/?term=true`` answers: seed 004's table, its details (``detail=true``), or our rows (``view=rows``)."""
    if options.layout == "rows":
        return rows(cluster, options, cache)
    return detail(cluster, options, cache, date_style) if options.detail else table(cluster, options, cache)


def rows(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> str:
    """``view=rows``: counts, free GPUs, then one line a GPU. ``detail``: its processes below it."""
    look = Look.of(options)
    found = select(cluster, options)
    drawer = Rows(look, cluster.taken_at, cluster.timezone, options.detail)
    lines = top(cluster, options, look)
    if found:
        lines.append(drawer.head())
    key = ("rows", look, options.audience, options.detail)
    for row in found:
        lines.append(_host(drawer, row, key, cache))
    for note in notes(cluster, options, found, times=False):
        lines += look.wrap(note, look.width)
    return look.final("\n".join(lines) + "\n")


def _host(drawer: Rows, row: Selected, key: tuple[object, ...], cache: Cache | None) -> str:
    if row[1] is row[0].gpus:
        return cached(cache, row[0], key, lambda: drawer.host(row))
    return drawer.host(row)
