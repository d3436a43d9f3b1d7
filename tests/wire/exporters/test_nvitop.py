"""nvitop-exporter's page, recorded from version 1.7.2 on the tests' own driver, as readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.units import MIB
from gpuwatch.wire.exporters import nvitop
from gpuwatch.wire.flat import Flattener, Shape

PAGE = (Path(__file__).parent / "pages" / "nvitop.txt").read_bytes()
TARGET = Target("dgx-a", "10.0.0.1", 8000, "nvitop+http")


def read(body=PAGE, now=1000.0, memory=None):
    return nvitop.read(body, TARGET, now, memory)


def test_gpus_processes_and_machine():
    snapshot = read().snapshot
    assert snapshot.hostname == "dgx-a"
    first, second = snapshot.gpus
    assert (first.uuid, first.index, first.name) == ("GPU-6f1c0e30-52a7-4c1b-9d00-8e3b7a50c000", 0, "NVIDIA H100 80GB HBM3")
    assert (first.memory_used_bytes, first.memory_total_bytes) == (round(19817.75 * MIB), 81559 * MIB)
    assert (first.power_watts, first.power_limit_watts, first.temperature_celsius, first.utilization_percent) == (629.45, 700, 59, 100)
    assert first.pcie_sent_bytes_per_second == round(3.01953125 * MIB)
    assert first.nvlink_bytes_per_second is None
    assert first.fan_percent is None, "NaN is not reported"
    (process,) = first.processes
    assert (process.user, process.command, process.gpu_memory_bytes, process.sm_percent, process.started_at) == ("root", "sleep 60", 3 << 30, 50, 996)
    assert second.processes == ()
    assert "processes" not in second.missing, "nvitop-exporter does tell processes"
    host = snapshot.host
    assert (host.driver_version, host.cuda_version, host.cpu_percent, host.load_1m) == ("590.48.01", "13.1", 100, 3.401)
    assert (host.memory_total_bytes, host.swap_total_bytes) == (25276510208, 0)
    assert [(disk.mount, disk.total_bytes) for disk in host.disks] == [("/", 270553174016)]
    assert [network.name for network in host.networks] == ["eth0"]


def test_the_shape_stays_though_running_times_are_a_little_late():
    flattener = Flattener()
    first = read()
    flat = flattener.flatten(first.snapshot)
    Shape.parse(flat.shape).check(flat.values)
    later = PAGE.replace(b"} 3.978937", b"} 8.1")
    second = read(later, 1005.0, first.memory)
    assert flattener.flatten(second.snapshot).shape is None
    third = read(later, 1105.0, second.memory)
    assert third.snapshot.gpus[0].processes[0].started_at == 1097, "another process under the same number"


def test_words_for_what_it_could_not_read():
    body = PAGE.replace(b'username="root"', b'username="N/A"').replace(b'pid="11810"', b'pid="0x1"', 1)
    snapshot = read(body).snapshot
    assert all(process.user is None for gpu in snapshot.gpus for process in gpu.processes)


@pytest.mark.parametrize("body", [b"", b"host_load_average_1m_Percentage 1\n", b"DCGM_FI_DEV_GPU_TEMP 1\n"])
def test_another_program_is_said_so(body):
    with pytest.raises(WireError, match="is it nvitop-exporter"):
        read(body)
