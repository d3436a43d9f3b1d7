"""Seed 002's hub, ``GET /get-status``: its ``{"Nodes": [...]}`` as bytes, put together from the pieces of hosts that did not change. Pure."""

from __future__ import annotations

import dataclasses
import json

from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.render import words
from gpuwatch.render.text_words import Cache
from gpuwatch.wire.legacy import seed002


def nodes_json(cluster: ClusterNow, cache: Cache | None = None) -> bytes:
    """One entry a target, in the order of the hosts file, named as there; times naive, in the hub's zone."""
    parts = []
    for node in cluster.nodes:
        if cache is None:
            parts.append(_node(cluster, node))
        else:
            key = ("002", cluster.audience, node.name)
            parts.append(cache.get(key, node.version, lambda node=node: _node(cluster, node)))  # type: ignore[misc]
    return b'{"Nodes":[%s]}\n' % b",".join(parts)


def _node(cluster: ClusterNow, node: NodeState) -> bytes:
    body = seed002.hub_body(dataclasses.replace(cluster, nodes=(node,)), words.zone_of(cluster.timezone))
    return json.dumps(body["Nodes"][0], separators=(",", ":")).encode("ascii")
