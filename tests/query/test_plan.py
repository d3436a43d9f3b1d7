"""Where the hub looks in the values of a shape: who is in a MIG slice, and when that is not known."""

from tests.hub.readings import flat, gpu, process, snapshot

from gpuwatch.model.snapshot import MigReading
from gpuwatch.query.plan import Plan


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
