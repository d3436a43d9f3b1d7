"""Which GPU is meant by its number on a host."""

from __future__ import annotations

import pytest
from tests.query.lab import Lab

from gpuwatch.model.series import Bucket, Minute
from gpuwatch.model.snapshot import GpuReading, Snapshot
from gpuwatch.query.subjects import NoSuch, find
from gpuwatch.store import machines, rollups
from gpuwatch.store.chunks import of_minutes
from gpuwatch.wire.flat import Flattener, Shape

NOW = 1_790_000_000.0


def test_a_number_means_the_gpu_that_has_it_not_a_lost_one_that_had_it(tmp_path):
    lab = Lab(tmp_path / "lab.db", "a")
    gpus = (GpuReading("GPU-live", 0), GpuReading("GPU-lost", 0, error="lost: see dmesg"), GpuReading("GPU-other", 1))
    flat = Flattener().flatten(Snapshot(taken_at=NOW, hostname="a", gpus=gpus))
    lab.latest.accept("a", Shape.parse(flat.shape), flat.values, received_at=NOW)
    assert find(lab.store, lab.latest, "a", "0").gpu == "GPU-live"
    assert find(lab.store, lab.latest, "a", "1").gpu == "GPU-other"
    assert find(lab.store, lab.latest, "a", "GPU-lost").gpu == "GPU-lost"
    for number in ("gpu1", "GPU 1", "gpu:1"):
        assert find(lab.store, lab.latest, "a", number).gpu == "GPU-other"
    for unknown, named in (("2", "2"), ("gpu2", "2"), ("-1", "'-1'"), ("1.0", "'1.0'"), ("GPU-othe", "'GPU-othe'"), ("x", "'x'")):
        with pytest.raises(NoSuch, match=f"no GPU {named}"):
            find(lab.store, lab.latest, "a", unknown)


def test_gpus_of_an_import_are_told_by_the_names_of_its_log(tmp_path):
    lab = Lab(tmp_path / "lab.db", "a")
    machine = machines.ensure(lab.store, "import:log", "")
    with lab.store.writing():
        rollups.add_chunks(lab.store, machine, {"index 0": {60: of_minutes({int(NOW) // 60 * 60: Minute(int(NOW) // 60 * 60, 60.0, {"power_watts": Bucket(1, 7.0, 7.0, 7.0)})})}})
    assert find(lab.store, lab.latest, "import:log", "index 0").gpu == "index 0"
    with pytest.raises(NoSuch, match="It has 'index 0'") as caught:
        find(lab.store, lab.latest, "import:log", "0")
    assert "has no GPU 0" in str(caught.value)
