"""Seed 002's hub, ``GET /get-status``: its ``{"Nodes": [...]}`` as bytes, put together from the pieces of hosts that did not change. Pure."""

from __future__ import annotations

import json
from datetime import tzinfo
from functools import partial
from itertools import starmap

from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.render import words
from gpuwatch.render.gaps import Gap, Gaps, Rows, Template, Write, facts_of, in_places, numbers_of, template
from gpuwatch.render.text_words import Cache
from gpuwatch.wire.legacy import seed002

_COMPACT = json.JSONEncoder(separators=(",", ":"), check_circular=False)


class _NoTimeError(Exception):
    """The node says no time of this calendar: its entry has a key less than its template."""


def nodes_json(cluster: ClusterNow, cache: Cache | None = None) -> bytes:
    """One entry a target, in the order of the hosts file, named as there; times naive, in the hub's zone."""
    zone = words.zone_of(cluster.timezone)
    parts = []
    for node in cluster.nodes:
        if cache is None:
            parts.append(_entry(node, zone))
        else:
            key = ("002", cluster.audience, node.name)
            parts.append(_live_entry(node, zone, key, cache))
    return b'{"Nodes":[%s]}\n' % b",".join(parts)


def _entry(node: NodeState, zone: tzinfo) -> bytes:
    return _COMPACT.encode(seed002.hub_entry(node, zone)).encode("ascii")


def _live_entry(node: NodeState, zone: tzinfo, key: tuple[str, ...], cache: Cache) -> bytes:
    """An entry; that of a live node from its flat values."""
    if node.parts is None:
        return _entry(node, zone)
    form = cache.get(("form", *key), (facts_of(node), zone), lambda: _template(node, zone))
    try:
        return form.fill(numbers_of(node)).encode("ascii")
    except _NoTimeError:
        return _entry(node, zone)


def _template(node: NodeState, zone: tzinfo) -> Template:
    gaps, hub_time = Gaps(), seed002.hub_time(zone)
    marked = gaps.encode(_COMPACT, seed002.hub_entry(in_places(node), zone, Gap.of))
    instead = {function: partial(_whole_numbers, function) for function in (seed002.mebibytes, seed002.whole)}
    return template(marked, gaps, node, {**instead, hub_time: partial(_times, hub_time)})


def _whole_numbers(function: Write, rows: Rows) -> list[str]:
    return ["null" if value is None else str(value) for value in starmap(function, rows)]


def _times(function: Write, rows: Rows) -> list[str]:
    times = list(starmap(function, rows))
    if None in times:
        raise _NoTimeError
    return [f'"{time}"' for time in times]
