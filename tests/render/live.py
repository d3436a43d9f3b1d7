"""A hub's newest state over samples, and the same cluster made by hand: what a view shows of one it must show of the other."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any, Callable, Dict, Optional, Tuple

from tests.render import samples

from gpuwatch.model.cluster import ClusterNow, GpuView, NodeState
from gpuwatch.model.snapshot import GpuReading, Snapshot
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest
from gpuwatch.wire.flat import Flattener, Shape

GIB = 2**30
Change = Callable[[Snapshot], Snapshot]


class Live:
    """Polls the hosts of ``samples.lab()`` that have readings; ``numbers`` changes every number at each poll, and no fact."""

    def __init__(self, *more: NodeState) -> None:
        self.now = samples.NOW
        self.nodes = {node.name: node for node in (*samples.lab().nodes, *more) if node.snapshot is not None}
        self.latest = Latest()
        self.latest.set_targets([(node.target, node.machine_id) for node in self.nodes.values()], self.now)
        self.dice = random.Random(7)
        self._shapes: Dict[Tuple[str, str], Shape] = {}

    def poll(self, change: Optional[Change] = None, without: Tuple[str, ...] = ()) -> None:
        """A new reading of each host but of those, 5 s later."""
        self.now += 5
        for name, node in self.nodes.items():
            if name in without:
                continue
            assert node.snapshot is not None
            snapshot = replace(change(node.snapshot) if change else node.snapshot, taken_at=self.now)
            flat = Flattener().flatten(snapshot)
            assert flat.shape is not None
            shape = self._shapes.setdefault((name, flat.shape_id), Shape.parse(flat.shape))
            self.latest.accept(name, shape, flat.values, received_at=self.now)
        self.latest.tick(self.now)

    def cluster(self, audience: str = "stranger") -> ClusterNow:
        """What a view gets."""
        return cluster(self.latest, self.now, audience)

    def numbers(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with other numbers; some are not reported any more."""
        host = replace(snapshot.host, cpu_percent=self._one(3.3, 99.6, None), memory_used_bytes=self._one(7.0 * GIB, None))
        return replace(snapshot, host=host, gpus=tuple(map(self._gpu, snapshot.gpus)))

    def _gpu(self, gpu: GpuReading) -> GpuReading:
        if gpu.error is not None:
            return gpu
        held = [replace(process, gpu_memory_bytes=self._one(5.0 * GIB, 2**31 + 7, None)) for process in gpu.processes]
        return replace(
            gpu,
            utilization_percent=self._one(0, 1, 37, 99.5, None),
            memory_used_bytes=self._one(0, 0.2 * GIB, 11.3 * GIB, 140 * GIB, None),
            memory_free_bytes=self._one(3 * GIB, None),
            memory_total_bytes=self._one(80 * GIB, 24 * GIB, 141 * GIB, None),
            temperature_celsius=self._one(20, 60.4, 99, None),
            power_watts=self._one(33.3, 700, None),
            power_limit_watts=self._one(700, 350, None),
            throttle_mask=self._one(0, 4, 64, None),
            processes=tuple(held),
            mig=tuple(replace(part, memory_used_bytes=self._one(GIB, None), sm_activity_percent=self._one(5, None)) for part in gpu.mig),
        )

    def _one(self, *values: Any) -> Any:
        return self.dice.choice(values)


def by_hand(now: ClusterNow) -> ClusterNow:
    """The same cluster of plain NodeStates that nobody took apart."""
    return replace(now, nodes=tuple(map(_node, now.nodes)))


def _node(node: NodeState) -> NodeState:
    views = tuple(GpuView(*(getattr(view, one.name) for one in fields(GpuView))) for view in node.gpus)
    kept = {one.name: getattr(node, one.name) for one in fields(NodeState) if one.name not in ("gpus", "parts")}
    return NodeState(**kept, gpus=views)


def is_built(node: NodeState) -> bool:
    """Somebody had the readings of the node built."""
    return bool({"snapshot", "gpus"} & set(vars(node)))
