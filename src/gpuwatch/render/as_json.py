"""Our own typed JSON: the field names of ``model``, units in the names, times as epoch seconds, null for what is not reported. Pure.

Never NaN or infinity, never a value that is not in the readings. One encoder a dataclass is made once, from its fields.
"""

from __future__ import annotations

import dataclasses
import json
import math
from operator import attrgetter
from typing import Any, Callable, Iterable, Mapping

from gpuwatch.model import snapshot as model
from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState
from gpuwatch.model.fields import describe
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.select import select
from gpuwatch.render.text_words import Cache

_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)


def cluster_json(cluster: ClusterNow, options: ViewOptions, cache: Cache | None = None) -> bytes:
    """``/api/v1/cluster``: every node that the options leave, each with its snapshot; UTF-8."""
    nodes = []
    by_host = dataclasses.replace(options, layout="")  # view=flat sorts GPUs; here a node stands once
    for node, gpus in select(cluster, by_host):
        if cache is None or gpus is not node.gpus:
            nodes.append(_bytes(_node_text(node, gpus)))
        else:
            key = ("json", options.audience, node.name)
            nodes.append(cache.get(key, node.version, lambda node=node: _bytes(_node_text(node, node.gpus))))  # type: ignore[misc]
    head = {
        "taken_at": cluster.taken_at,
        "title": cluster.title,
        "timezone": cluster.timezone,
        "interval_seconds": cluster.interval_seconds,
        "simulated": cluster.simulated,
        "notices": cluster.notices,
    }
    return b'%s,"nodes":[%s]}\n' % (dump(head)[:-1], b",".join(nodes))


def host_json(cluster: ClusterNow, node: NodeState, options: ViewOptions | None = None) -> bytes:
    """``/api/v1/hosts/<name>``: one node, as in the list of the cluster, and when it was looked at."""
    return _bytes(f'{{"taken_at":{_text(cluster.taken_at)},{_node_text(node, node.gpus)[1:]}\n')


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
    return _bytes(f'{_text(head)[:-1]},"gpu":{_gpu_text(gpu)}}}\n')


def error_json(message: str, next_step: str = "") -> bytes:
    """The body of every answer of ``/api/v1`` that is not 200."""
    return dump({"error": message, "next_step": next_step}) + b"\n"


def snapshot_json(snapshot: model.Snapshot) -> bytes:
    """A snapshot alone, without what the hub adds: what a node answers beside seed 002's keys."""
    gpus = (f'{_gpu(gpu)[:-1]},"mig":{_each(_mig)(gpu.mig)}}}' for gpu in snapshot.gpus)
    return _bytes(_snapshot_text(snapshot, gpus))


def dump(value: Any) -> bytes:
    """Compact UTF-8 JSON. Numbers that JSON does not have become null, broken text gets replacement characters."""
    return _bytes(_text(value))


def _text(value: Any) -> str:
    try:
        return _COMPACT.encode(value)
    except ValueError:
        return _COMPACT.encode(_finite(value))


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


# ---- one encoder a dataclass: its keys are written once, into a template; numbers are encoded in one go

Encoder = Callable[[Any], str]
_quote = json.encoder.encode_basestring


def _encoder(kind: type, skip: tuple[str, ...] = (), **nested: Encoder) -> Encoder:
    """A function from an instance to JSON text, without the fields in ``skip``; ``nested`` encodes those that are not plain."""
    numbers = [name for name, what, _, _ in describe(kind) if what in ("gauge", "counter")]
    facts = [field.name for field in dataclasses.fields(kind) if field.name not in (*skip, *numbers, *nested)]
    template = "{%s}" % ",".join(f'"{name}":%s' for name in (*facts, *numbers, *nested))  # noqa: UP031
    facts_of, numbers_of = _values_of(facts), _values_of(numbers)
    parts = tuple(nested.items())

    def encode(instance: Any) -> str:
        values = [*map(_plain, facts_of(instance)), *_numbers(numbers_of(instance))]
        values += [make(getattr(instance, name)) for name, make in parts]
        return template % tuple(values)

    return encode


def _values_of(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


def _numbers(values: tuple[Any, ...]) -> list[str]:
    if not math.isfinite(sum(value for value in values if value is not None)):
        values = tuple(_finite(list(values)))
    return ["null" if value is None else repr(value) for value in values]


def _plain(value: Any) -> str:
    """A fact as JSON: by hand what is frequent, since a call of the encoder costs more than all of it."""
    if type(value) is str:
        return _quote(value)
    if value is None:
        return "null"
    if type(value) in (int, float):
        return repr(value) if math.isfinite(value) else "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if value or not isinstance(value, tuple) else "[]"


def _each(encode: Encoder) -> Encoder:
    return lambda instances: f"[{','.join(map(encode, instances))}]"


def _maybe(encode: Encoder) -> Encoder:
    return lambda instance: "null" if instance is None else encode(instance)


def _mapping(values: Mapping[str, str]) -> str:
    return "{%s}" % ",".join([f"{_quote(key)}:{_quote(value)}" for key, value in values.items()])  # noqa: UP031


_state = _encoder(GpuState)
_process = _encoder(model.ProcessReading, container=_maybe(_encoder(model.ContainerRef)))
_mig = _encoder(model.MigReading)
_gpu = _encoder(model.GpuReading, skip=("mig",), missing=_mapping, processes=_each(_process))
_snapshot = _encoder(
    model.Snapshot,
    skip=("gpus",),
    host=_encoder(
        model.HostReading,
        missing=_mapping,
        cores_percent=lambda cores: f"[{','.join(_numbers(cores))}]",
        disks=_each(_encoder(model.DiskReading)),
        networks=_each(_encoder(model.NetworkReading)),
        logins=_each(_encoder(model.LoginReading)),
    ),
    collectors=_each(_encoder(model.CollectorStatus)),
    xids=_each(_encoder(model.XidEvent)),
)


def _gpu_text(gpu: GpuView) -> str:
    """A GPU's reading, its state, the words for its throttle bits, and its MIG slices, each with its state."""
    reasons = _plain(model.throttle_reasons(gpu.reading.throttle_mask))
    slices = ",".join(f"{_mig(part)[:-1]},{_state(state)[1:]}" for part, state in zip(gpu.reading.mig, gpu.mig_states))
    return f'{_gpu(gpu.reading)[:-1]},{_state(gpu.state)[1:-1]},"throttle_reasons":{reasons},"mig":[{slices}]}}'


def _snapshot_text(snapshot: model.Snapshot, gpus: Iterable[str]) -> str:
    return f'{_snapshot(snapshot)[:-1]},"gpus":[{",".join(gpus)}]}}'


def _node_text(node: NodeState, gpus: tuple[GpuView, ...]) -> str:
    """A node as the list of the cluster has it, with these of its GPUs."""
    head = {
        "name": node.name,
        "status": node.status,
        "status_since_at": node.status_since_at,
        "error": node.error,
        "tags": node.target.tags,
        "address": node.target.address,
        "received_at": node.received_at,
        "clock_skew_seconds": node.clock_skew_seconds,
    }
    inside = "null" if node.snapshot is None else _snapshot_text(node.snapshot, map(_gpu_text, gpus))
    return f'{_text(head)[:-1]},"snapshot":{inside}}}'
