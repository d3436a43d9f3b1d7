"""Our own typed JSON: the field names of ``model``, units in the names, times as epoch seconds, null for what is not reported. Pure.

Never NaN or infinity, never a value that is not in the readings. How a dataclass is written is made once, from its fields (``json_parts``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from functools import lru_cache, partial
from itertools import starmap
from typing import Any

from gpuwatch.model import snapshot as model
from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.filling import Pool
from gpuwatch.render.gaps import MEMBERS, Gaps, Template, Write, WriteAll, facts_of, in_places, template, texts_of
from gpuwatch.render.json_parts import Column, Many, Maybe, Reading, Texts, encoded, marked, number
from gpuwatch.render.select import page_of, shown
from gpuwatch.render.text_words import Cache

OPEN = ord("[")


def cluster_json(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> bytes:
    """``/api/v1/cluster``: every node that the options leave, each with its snapshot; UTF-8."""
    head = {
        "taken_at": cluster.taken_at,
        "at": cluster.at,
        "title": cluster.title,
        "timezone": cluster.timezone,
        "interval_seconds": cluster.interval_seconds,
        "simulated": cluster.simulated,
        "notices": cluster.notices,
    }
    body = bytearray(dump(head)[:-1] + b',"nodes":[')  # one growing buffer: the parts of 1,000 hosts are 20 MB
    by_host = dataclasses.replace(options, layout="")  # view=flat sorts GPUs; here a node stands once
    for node, gpus in page_of(shown(cluster, by_host), by_host):
        if body[-1] != OPEN:
            body += b","
        body += _piece(node, gpus, options.audience, cache)
    body += b"]}\n"
    return bytes(body)


def _piece(node: NodeState, gpus: tuple[GpuView, ...] | None, audience: str, cache: Cache | None) -> bytes:
    if cache is None or gpus is not None:
        return _bytes(_node_text(node, node.gpus if gpus is None else gpus))
    return _bytes(_live_text(node, audience, cache))  # not kept: filling in is quick, and it is 20 kB a host


def host_json(cluster: ClusterNow, node: NodeState, options: ViewOptions | None = None) -> bytes:
    """``/api/v1/hosts/<name>``: one node, as in the list of the cluster, and when it was looked at."""
    return _bytes(f'{{"taken_at":{encoded(cluster.taken_at)},"at":{encoded(cluster.at)},{_node_text(node, node.gpus)[1:]}\n')


def gpu_json(cluster: ClusterNow, node: NodeState, gpu: GpuView, options: ViewOptions | None = None) -> bytes:
    """``/api/v1/gpus/<uuid>``: one GPU with its state, its host's status, and its utilization of the last 6 hours."""
    head = {
        "taken_at": cluster.taken_at,
        "at": cluster.at,
        "host": node.name,
        "status": node.status,
        "error": node.error,
        "received_at": node.received_at,
        "recent_utilization": gpu.recent_utilization,
    }
    return _bytes(f'{encoded(head)[:-1]},"gpu":{_view_text(gpu)}}}\n')


def error_json(message: str, next_step: str = "") -> bytes:
    """The body of every answer of ``/api/v1`` that is not 200."""
    return dump({"error": message, "next_step": next_step}) + b"\n"


def snapshot_json(snapshot: model.Snapshot) -> bytes:
    """A snapshot alone, without what the hub adds: what a node answers beside seed 002's keys."""
    gpus = ",".join([f'{_GPU.text(gpu)[:-1]},"mig":[{",".join(map(_MIG.text, gpu.mig))}]}}' for gpu in snapshot.gpus])
    return _bytes(f'{_SNAPSHOT.text(snapshot)[:-1]},"gpus":[{gpus}]}}')


def dump(value: Any) -> bytes:
    """Compact UTF-8 JSON. Numbers that JSON does not have become null, broken text gets replacement characters."""
    return _bytes(encoded(value))


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode("utf-8")


# ---- what stands in the JSON of a node, in this order


_MIG = Reading(model.MigReading)
_PROCESS = Reading(model.ProcessReading, container=Maybe(Reading(model.ContainerRef)))
_GPU = Reading(model.GpuReading, skip=("mig",), missing=Texts(), processes=Many(_PROCESS))
_HOST = Reading(
    model.HostReading,
    missing=Texts(),
    cores_percent=Column(),
    disks=Many(Reading(model.DiskReading)),
    networks=Many(Reading(model.NetworkReading)),
    logins=Many(Reading(model.LoginReading)),
)
_SNAPSHOT = Reading(
    model.Snapshot,
    skip=("gpus",),
    host=_HOST,
    collectors=Many(Reading(model.CollectorStatus)),
    xids=Many(Reading(model.XidEvent)),
)


def _view(view: GpuView, gaps: Gaps) -> dict[str, Any]:
    """A GPU: its reading, its state, the words for its throttle bits, and its MIG slices."""
    told = _GPU.document(view.reading, gaps)
    told[MEMBERS] = gaps.untold(_state, view.state)
    told["throttle_reasons"] = gaps.untold(_reasons, view.reading.throttle_mask)
    told["mig"] = [{**_MIG.document(part, gaps), MEMBERS: gaps.untold(_state, state)} for part, state in zip(view.reading.mig, view.mig_states)]
    return told


def _state(state: GpuState) -> str:
    """The members of a state."""
    return encoded(vars(state))[1:-1]


@lru_cache(maxsize=512)
def _reasons(mask: float | None) -> str:
    return encoded(model.throttle_reasons(mask))


@lru_cache(maxsize=512)
def _reasons_of(text: str) -> str:
    return _reasons(json.loads(text))


def _view_text(view: GpuView) -> str:
    gaps = Gaps()
    return gaps.filled(marked(_view(view, gaps)))


def _node(node: NodeState, gpus: Iterable[GpuView], gaps: Gaps) -> dict[str, Any]:
    """A node as the list of the cluster has it, with these of its GPUs."""
    told: dict[str, Any] = {
        "name": node.name,
        "status": node.status,
        "status_since_at": gaps.untold(number, node.status_since_at),
        "error": node.error,
        "tags": node.target.tags,
        "address": node.target.address,
        "received_at": gaps.untold(number, node.received_at),
        "clock_skew_seconds": gaps.untold(number, node.clock_skew_seconds),
        "snapshot": None,
    }
    if node.snapshot is not None:
        told["snapshot"] = {**_SNAPSHOT.document(node.snapshot, gaps), "gpus": [_view(view, gaps) for view in gpus]}
    return told


def _node_text(node: NodeState, gpus: Iterable[GpuView]) -> str:
    gaps = Gaps()
    return gaps.filled(marked(_node(node, gpus, gaps)))


def _live_text(node: NodeState, audience: str, cache: Cache) -> str:
    """A whole node. Of a live one, the numbers go from the node's answer into ours as they are."""
    texts = texts_of(node)
    if texts is None:
        return _node_text(node, node.gpus)
    form = cache.get(("json form", audience, node.name), facts_of(node), lambda: _template(node))
    more = "null", number(node.received_at), number(node.clock_skew_seconds), number(node.status_since_at), *form.states(node, _state)
    return form.fill(Pool(texts, more))


_FROM_TEXTS: dict[Write, WriteAll | None] = {number: None, _state: None, _reasons: partial(starmap, _reasons_of)}


def _template(node: NodeState) -> Template:
    gaps, placed = Gaps(), in_places(node)
    return template(marked(_node(placed, placed.gpus, gaps)), gaps, node, _FROM_TEXTS)
