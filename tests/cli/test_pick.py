"""What ``gpuwatch pick`` chooses from: free GPUs and slices; memory that is not reported is not 0."""

import time

from gpuwatch.cli.pick import _too_few, candidates
from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState, Target
from gpuwatch.model.snapshot import GpuReading, MigReading


def cluster_of(*views):
    node = NodeState(Target("here", "127.0.0.1", 0), "0" * 32, "up", 1.0, gpus=views)
    return ClusterNow(time.time(), (node,))


def view(state, slices=(), **reading):
    states = tuple(GpuState(one, 1.0) for one in slices)
    return GpuView("here", GpuReading(**reading), GpuState(state, 1.0), states)


def test_only_free_gpus_are_candidates():
    cluster = cluster_of(
        view("free", uuid="GPU-1", index=0, name="H100", memory_free_bytes=80.0), view("busy", uuid="GPU-2", index=1),
        view("unknown", uuid="GPU-3", index=2),
    )  # fmt: skip
    assert [(one.uuid, one.free_bytes) for one in candidates(cluster)] == [("GPU-1", 80)]


def test_memory_that_is_not_reported_is_not_made_up():
    slices = (MigReading("MIG-1", 0, "1g.10gb", memory_used_bytes=5), MigReading("MIG-2", 1, memory_used_bytes=5, memory_total_bytes=15))
    cluster = cluster_of(view("mig", ("free", "free"), uuid="GPU-1", mig=slices), view("free", uuid="GPU-2", index=1))
    assert [(one.uuid, one.free_bytes) for one in candidates(cluster)] == [("MIG-1", None), ("MIG-2", 10), ("GPU-2", None)]


def test_a_warning_does_not_stand_for_the_number_of_free_gpus():
    def said(status):
        node = NodeState(Target("here", "127.0.0.1", 0), "0" * 32, status, 1.0, "The driver was upgraded.", gpus=(view("busy", uuid="GPU-1", index=0),))
        return str(_too_few(ClusterNow(time.time(), (node,)), 0, 1, 0, ""))

    assert said("up") == "0 of 1 GPU are free, 1 wanted. `gpuwatch status` shows who is on the others."
    assert said("error") == "The driver was upgraded."


def test_too_few_are_said_as_they_were_asked_for():
    slices = (MigReading("MIG-1", 0, "1g.10gb"),)
    cluster = cluster_of(view("busy", uuid="GPU-1", index=0, name="NVIDIA H100"), view("mig", ("busy",), uuid="GPU-2", index=1, name="NVIDIA H100", mig=slices))

    def said(*asked):
        return str(_too_few(cluster, *asked))

    assert said(1, 2, 20 * 2**30, "h100").startswith("1 of 2 GPUs is free and called 'h100' with 20 GiB free, 2 wanted.")
    assert said(0, 1, 0, "1g.10gb").startswith("0 of 2 GPUs are free and called '1g.10gb', 1 wanted.")
    assert said(0, 1, 0, "A100") == "No GPU of this machine is called 'A100'. --model takes a part of: NVIDIA H100, NVIDIA H100 1g.10gb."
    assert "gpuwatch status --hub" in str(_too_few(cluster_of(), 0, 1, 0, ""))
