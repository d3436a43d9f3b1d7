"""The simulation: the same machine for the same argument, honest about what cards do not report, every scenario whole."""

import dataclasses

import pytest

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import HostReading
from gpuwatch.sim.profiles import CARDS
from gpuwatch.sim.source import SCENARIOS, make
from gpuwatch.wire.flat import Flattener, Shape

NOW = 1790000000.0


def options(argument):
    return SamplerOptions("sim-1", 4.0, 10.0, 60.0, 600.0, "gpuwatch.sim.source:make", argument)


def read(argument, now=NOW):
    return make(options(argument)).read(now)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("profile", [*(f"2x{card}" for card in CARDS), "mig", "none", "1xrtx4090+2xgtx1080ti"])
def test_every_profile_in_every_scenario_travels(profile, scenario):
    snapshot = read(f"{profile}:{scenario}:1")
    flat = Flattener().flatten(snapshot)
    shape = Shape.parse(flat.shape)
    assert shape.build(shape.check(flat.values)) == snapshot
    assert snapshot.simulated


def test_the_same_argument_gives_the_same_machine():
    assert read("8xh100:mixed:7") == read("8xh100:mixed:7")
    assert {gpu.uuid for gpu in read("8xh100:mixed:7").gpus}.isdisjoint(gpu.uuid for gpu in read("8xh100:mixed:8").gpus)


def test_a_lost_gpu_stays_in_the_list_without_numbers():
    lost = read("4xa100:lost").gpus[-1]
    assert "Xid 79" in lost.error
    assert lost.utilization_percent is lost.memory_used_bytes is None
    assert lost.name == "NVIDIA A100-SXM4-80GB"


def test_what_a_card_does_not_report_is_none_with_a_reason():
    gpu = read("1xgtx1080ti:full").gpus[0]
    assert gpu.utilization_percent is None
    assert gpu.missing["utilization_percent"] == "not supported"


def test_memory_adds_up():
    for gpu in read("8xa100:mixed:3").gpus:
        assert gpu.memory_used_bytes == sum(process.gpu_memory_bytes for process in gpu.processes)
        assert gpu.memory_used_bytes + gpu.memory_reserved_bytes + gpu.memory_free_bytes == gpu.memory_total_bytes


def test_idle_holds_memory_without_work_and_free_holds_none():
    assert all(gpu.utilization_percent == 0 and gpu.memory_used_bytes > 0 for gpu in read("2xl40s:idle").gpus)
    assert all(gpu.utilization_percent == 0 and gpu.memory_used_bytes == 0 for gpu in read("2xl40s:free").gpus)


@pytest.mark.parametrize(("argument", "words"), [("9y", "profile '9y'"), ("8xh100:party", "scenario 'party'"), ("999xh100", "profile")])
def test_a_wrong_argument_is_named(argument, words):
    with pytest.raises(UsageError, match=words):
        make(options(argument))


def unexplained(reading):
    names = {field.name for field in dataclasses.fields(reading)} - {"error", "error_since_at"}
    return {name for name in names if getattr(reading, name) is None} - set(reading.missing)


@pytest.mark.parametrize("profile", [*(f"1x{card}" for card in CARDS), "mig"])
@pytest.mark.parametrize("scenario", ["full", "free", "life"])
def test_each_field_has_a_value_or_a_reason(profile, scenario):
    assert unexplained(read(f"{profile}:{scenario}:1").gpus[0]) == set()


def test_an_h100_at_work_tells_what_only_gpm_knows_and_an_idle_one_that_nothing_happens():
    busy, free = read("1xh100:full:1").gpus[0], read("1xh100:free:1").gpus[0]
    assert set(busy.missing) == {"fan_percent", "numa_node"}
    assert busy.utilization_percent > busy.sm_activity_percent > busy.tensor_activity_percent > busy.memory_activity_percent > 0
    assert busy.nvlink_bytes_per_second > busy.pcie_received_bytes_per_second > busy.pcie_sent_bytes_per_second > 2**20
    assert (free.sm_activity_percent, free.tensor_activity_percent, free.nvlink_bytes_per_second) == (0, 0, 0)
    assert (busy.vbios_version, busy.pcie_replays, len(busy.serial)) == ("96.00.A5.00.01", 0, 13)


def test_older_cards_know_no_gpm_and_slices_their_own():
    a100, sliced = read("1xa100:full:1").gpus[0], read("mig:full:1").gpus[0]
    assert (a100.sm_activity_percent, a100.missing["sm_activity_percent"], a100.mig_enabled) == (None, "not supported", False)
    assert (sliced.sm_activity_percent, sliced.missing["sm_activity_percent"]) == (None, "not supported while MIG is on")
    assert all(part.sm_activity_percent >= 0 for part in sliced.mig)
    assert sliced.mig[0].sm_activity_percent > 0


def test_the_driver_is_simulated_with_its_gpus_and_the_host_left_alone():
    host = read("1xh100:full:1").host
    assert dataclasses.replace(host, driver_version=None, library_version=None, cuda_version=None) == HostReading()
    assert (host.driver_version, host.cuda_version) == ("550.90.07", "12.4")
    assert read("1xh100:nodriver:1").host == read("none").host == HostReading()
