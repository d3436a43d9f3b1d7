"""A plan's shapes: strangers' readings have their commands cut, once per shape, and nothing else differs."""

import dataclasses

from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.query.plan import Plan
from gpuwatch.wire.flat import Flattener, Shape


def test_strangers_read_no_arguments_and_everything_else():
    processes = (
        ProcessReading(pid=1, name="python", command="python train.py --token hidden-word", gpu_memory_bytes=5),
        ProcessReading(pid=2, name="kernel"),
    )
    snapshot = Snapshot(taken_at=7.5, hostname="a", gpus=(GpuReading(uuid="GPU-1", processes=processes), GpuReading(uuid="GPU-2", index=1)))
    flat = Flattener().flatten(snapshot)
    plan = Plan(Shape.parse(flat.shape))
    seen = plan.shape_for("stranger").build(flat.values)
    assert plan.shape_for("admin").build(flat.values) == snapshot
    assert seen.gpus[0].processes[0].command == "train.py"
    assert "hidden-word" not in repr(seen)
    whole = dataclasses.replace(seen.gpus[0].processes[0], command=processes[0].command)
    assert dataclasses.replace(seen, gpus=(dataclasses.replace(seen.gpus[0], processes=(whole, processes[1])), seen.gpus[1])) == snapshot
    assert plan.shape_for("stranger") is plan.shape_for("stranger")
