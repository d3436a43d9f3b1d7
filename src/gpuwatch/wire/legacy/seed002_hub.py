"""Seed 002's hub, ``GET /get-status``: its ``{"Nodes": [...]}`` as bytes, put together from the pieces of hosts that did not change. Pure."""

from __future__ import annotations

import json
from datetime import tzinfo

from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.render import words
from gpuwatch.render.text_words import Cache
from gpuwatch.wire.legacy import seed002

_COMPACT = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def nodes_json(cluster: ClusterNow, cache: Cache | None = None) -> bytes:
    """One entry a target, in the order of the hosts file, named as there; times naive, in the hub's zone."""
    zone = words.zone_of(cluster.timezone)
    parts = []
    for node in cluster.nodes:
        if cache is None:
            parts.append(_entry(node, zone))
        else:
            key = ("002", cluster.audience, node.name)
            parts.append(cache.get(key, node.version, lambda node=node: _entry(node, zone)))  # type: ignore[misc]
    return b'{"Nodes":[%s]}\n' % b",".join(parts)


def _entry(node: NodeState, zone: tzinfo) -> bytes:
    return _COMPACT.encode(seed002.hub_entry(node, zone)).encode("ascii")
