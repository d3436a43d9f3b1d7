"""Where the hub looks in the values of a shape: who is in a MIG slice, and when that is not known."""

import dataclasses

from tests.hub.readings import flat, gpu, process, snapshot

from gpuwatch.model.cluster import Target
from gpuwatch.model.snapshot import GpuReading, MigReading, ProcessReading, Snapshot
from gpuwatch.query.cluster import cluster
from gpuwatch.query.latest import Latest, Report
from gpuwatch.query.plan import Plan
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.states import marks, why_unknown
from gpuwatch.wire.flat import Flattener, Shape


def takers_of_slices(slices, processes):
    reading = gpu(mig_enabled=True, mig=slices, processes=processes)
    return [row.processes for row in Plan(flat(snapshot(1_000.0, reading))[0]).rows[1:]]


SLICES = (MigReading("MIG-1", 0, "3g.40gb", 1, 0), MigReading("MIG-2", 1, "3g.40gb", 2, 0))


def test_processes_count_in_their_slice():
    inside = process(1, gpu_instance=1, compute_instance=0)
    assert takers_of_slices(SLICES, (inside,)) == [1, 0]
    assert takers_of_slices(SLICES, ()) == [0, 0]


def test_a_process_of_an_unknown_slice_leaves_no_slice_free():
    assert takers_of_slices(SLICES, (process(1),)) == [None, None]


def test_a_slice_of_an_unknown_instance_is_not_free():
    slices = (MigReading("MIG-1", 0, "3g.40gb"), SLICES[1])
    inside = process(1, gpu_instance=2, compute_instance=0)
    assert takers_of_slices(slices, (inside,)) == [None, 1]


def test_a_gpu_whose_compute_mode_is_prohibited_is_not_free():
    latest = Latest()
    target = Target("a", "127.0.0.1", 1)
    latest.set_targets([(target, "a" * 32)], 1_000.0)
    gpus = (GpuReading(uuid="GPU-1", memory_used_bytes=0, compute_mode="prohibited"), GpuReading(uuid="GPU-2", memory_used_bytes=0, index=1))
    flat = Flattener().flatten(Snapshot(taken_at=1_000.0, hostname="a", gpus=gpus))
    shape = Shape.parse(flat.shape)
    latest.accept("a", shape, flat.values, received_at=1_000.0, clock_skew_seconds=0.0, report=Report())
    closed, free = cluster(latest, 1_000.5, "admin").nodes[0].gpus
    assert (closed.state.state, free.state.state) == ("unknown", "free")
    assert "compute mode is prohibited" in closed.state.why


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


def test_a_gpu_that_may_be_cut_into_slices_is_not_free():
    reading = gpu(mig_enabled=None, missing={"mig_enabled": "error: Unknown Error"})
    assert Plan(flat(snapshot(1_000.0, reading))[0]).rows[0].processes is None
    assert why_unknown(reading) == "Whether MIG is on is not reported: error: Unknown Error"
    card = gpu(mig_enabled=None, missing={"mig_enabled": "not supported"})
    assert Plan(flat(snapshot(1_000.0, card))[0]).rows[0].processes == 0


def test_where_nothing_is_hot_or_held_back_no_gpu_is_looked_at():
    limits = Limits()
    cool = [gpu(number, temperature_celsius=50 + number, temperature_slowdown_celsius=87, throttle_mask=0) for number in range(3)]
    for changes in (
        {}, {"throttle_mask": None}, {"throttle_mask": 0x8}, {"throttle_mask": 0x1}, {"temperature_celsius": 86}, {"temperature_celsius": None},
        {"temperature_slowdown_celsius": None, "temperature_celsius": 99}, {"temperature_slowdown_celsius": 3, "temperature_celsius": 99},
    ):  # fmt: skip
        shape, values = flat(snapshot(1_000.0, *cool[:2], dataclasses.replace(cool[2], **changes)))
        marked = any(marks(one, limits) for one in shape.build(values).gpus)
        assert not (marked and Plan(shape).is_calm(values, limits)), changes
        assert Plan(shape).is_calm(values, limits) == (not changes or changes == {"throttle_mask": None}), changes
