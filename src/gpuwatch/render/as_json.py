"""Our own typed JSON: the field names of ``model``, units in the names, times as epoch seconds, null for what is not reported. Pure.

Never NaN or infinity, never a value that is not in the readings. How a dataclass is written is made once, from its fields (``json_parts``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Callable

from gpuwatch.model import snapshot as model
from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.json_parts import NUMBER, Column, Facts, Many, Numbers, Reading, encoded, mapping, plain, template, written
from gpuwatch.render.select import select
from gpuwatch.render.text_words import Cache


def cluster_json(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> bytes:
    """``/api/v1/cluster``: every node that the options leave, each with its snapshot; UTF-8."""
    head = {
        "taken_at": cluster.taken_at,
        "title": cluster.title,
        "timezone": cluster.timezone,
        "interval_seconds": cluster.interval_seconds,
        "simulated": cluster.simulated,
        "notices": cluster.notices,
    }
    pieces = [dump(head)[:-1], b',"nodes":[']
    by_host = dataclasses.replace(options, layout="")  # view=flat sorts GPUs; here a node stands once
    for node, gpus in select(cluster, by_host):
        pieces += (_node(node, gpus, options.audience, cache), b",")
    if len(pieces) > 2:
        pieces.pop()
    pieces.append(b"]}\n")
    return b"".join(pieces)


def _node(node: NodeState, gpus: tuple[GpuView, ...], audience: str, cache: Cache | None) -> bytes:
    if cache is None or gpus is not node.gpus:
        return _bytes(_node_text(node, gpus))
    facts = ("json facts", audience, node.name)
    return cache.get(("json", audience, node.name), node.version, lambda: _bytes(_node_text(node, gpus, facts, cache)))


def host_json(cluster: ClusterNow, node: NodeState, options: ViewOptions | None = None) -> bytes:
    """``/api/v1/hosts/<name>``: one node, as in the list of the cluster, and when it was looked at."""
    return _bytes(f'{{"taken_at":{encoded(cluster.taken_at)},{_node_text(node, node.gpus)[1:]}\n')


def gpu_json(cluster: ClusterNow, node: NodeState, gpu: GpuView, options: ViewOptions | None = None) -> bytes:
    """``/api/v1/gpus/<uuid>``: one GPU with its state, its host's status, and its utilization of the last 6 hours."""
    head = {
        "taken_at": cluster.taken_at,
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


def _list(reading: Reading) -> Callable[[Iterable[Any]], str]:
    return lambda instances: f"[{','.join(map(reading.text, instances))}]"


def _maybe(reading: Reading) -> Callable[[Any], str]:
    return lambda instance: "null" if instance is None else reading.text(instance)


_STATE = Reading(GpuState)
_MIG = Reading(model.MigReading)
_PROCESS = Reading(model.ProcessReading, written={"container": _maybe(Reading(model.ContainerRef))})
_GPU = Reading(model.GpuReading, skip=("mig",), written={"missing": mapping}, processes=Many(_PROCESS))
_HOST = Reading(
    model.HostReading,
    written={"missing": mapping},
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


_NODE = ("name", "status", "status_since_at", "error", "tags", "address")
_node_of = attrgetter("name", "status", "status_since_at", "error", "target.tags", "target.address")


def _view(view: GpuView, numbers: Numbers) -> Facts:
    """A GPU taken apart: its reading, its state, and its MIG slices. The words for its throttle bits count as a number."""
    of_gpu: Numbers = []
    reading = _GPU.apart(view.reading, of_gpu)
    numbers += written(of_gpu)
    numbers.append(_reasons(view.reading.throttle_mask))
    state, mig = _STATE.apart(view.state, []), view.reading.mig
    return (reading, state, _slices(view, numbers)) if mig else (reading, state, ())


def _slices(view: GpuView, numbers: Numbers) -> Facts:
    of_slices: Numbers = []
    slices = [(_MIG.apart(part, of_slices), _STATE.apart(state, [])) for part, state in zip(view.reading.mig, view.mig_states)]
    numbers += written(of_slices)
    return tuple(slices)


def _marked_view(facts: Facts) -> str:
    reading, state, slices = facts
    mig = ",".join([f"{_MIG.marked(part)[:-1]},{_STATE.marked(of_part)[1:]}" for part, of_part in slices])
    return f'{_GPU.marked(reading)[:-1]},{_STATE.marked(state)[1:-1]},"throttle_reasons":{NUMBER},"mig":[{mig}]}}'


@lru_cache(maxsize=512)
def _reasons(mask: float | None) -> str:
    return plain(model.throttle_reasons(mask))


def _view_text(view: GpuView) -> str:
    numbers: Numbers = []
    return template(_marked_view(_view(view, numbers))) % tuple(numbers)


def _node_text(node: NodeState, gpus: tuple[GpuView, ...], key: tuple[object, ...] = (), cache: Cache | None = None) -> str:
    """A node as the list of the cluster has it, with these of its GPUs. Its facts become a template, which is kept under ``key``."""
    numbers: Numbers = [node.received_at, node.clock_skew_seconds]
    snapshot = _SNAPSHOT.apart(node.snapshot, numbers) if node.snapshot else None
    numbers = written(numbers)
    views = tuple([_view(view, numbers) for view in gpus]) if node.snapshot else ()
    facts = (_node_of(node), snapshot, views)
    form = _node_template(facts) if cache is None else cache.get(key, facts, lambda: _node_template(facts))
    return form % tuple(numbers)


def _node_template(facts: Facts) -> str:
    own, snapshot, views = facts
    head = ",".join([f'"{name}":{plain(value)}' for name, value in zip(_NODE, own)])
    inside = "null"
    if snapshot is not None:
        inside = f'{_SNAPSHOT.marked(snapshot)[:-1]},"gpus":[{",".join(map(_marked_view, views))}]}}'
    return template(f'{{{head},"received_at":{NUMBER},"clock_skew_seconds":{NUMBER},"snapshot":{inside}}}')
