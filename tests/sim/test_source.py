"""The simulation: the same machine for the same argument, honest about what cards do not report, every scenario whole."""

import pytest

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.errors import UsageError
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
