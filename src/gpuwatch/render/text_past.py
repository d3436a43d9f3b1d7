"""The line that marks a text view of the past. Pure."""

from __future__ import annotations

from datetime import datetime

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.model.view import ViewOptions
from gpuwatch.render import words
from gpuwatch.render.text_cells import Look

REVERSED = "7"
"""ANSI that reads on dark and light terminals."""


def marked(cluster: ClusterNow, options: ViewOptions, text: str) -> str:
    """A text view; of the past under a first line that says so, with the time in the hub's zone and how long ago it was."""
    if cluster.at is None:
        return text
    look, zone = Look.of(options), words.zone_of(cluster.timezone)
    ago = words.span_long((cluster.asked_at or cluster.at) - cluster.at)
    name = datetime.fromtimestamp(cluster.at, zone).tzname() or "UTC"
    line = f"PAST  as it was on {words.date_time(cluster.at, cluster.timezone)} {name}, {ago} ago"
    return look.final(f"{look.paint(look.cut(line, look.width), REVERSED)}\n") + text
