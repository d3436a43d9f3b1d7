"""The whole source over the fake driver: every profile, every fault, every group's age."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.collect.machine import NOW, Lost, Machine, identity, numbers_of, with_proc
from tests.fake_nvml import PROFILES, FakeDriver

from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import GpuReading

EXTRA_FACTS = ("ecc_enabled", "ecc_pending", "mig_enabled", "mig_pending", "compute_mode", "persistence_enabled", "serial", "name", "vbios_version")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_value_is_a_number_or_none_with_a_reason(tmp_path, profile):
    with Machine(FakeDriver(tmp_path, profile)) as machine:
        machine.read(NOW)
        snapshot = machine.read(NOW + 4)
    assert snapshot.collector("nvml").ok
    for gpu in snapshot.gpus:
        for name in (*numbers_of(GpuReading), *EXTRA_FACTS):
            assert (gpu[name] is None) == (name in gpu.missing), f"{name}: {gpu[name]!r}, {gpu.missing.get(name)!r}"
        assert gpu.error is None


def test_the_figures_of_an_h100(tmp_path):
    with Machine(FakeDriver(tmp_path, "h100x8")) as machine:
        first = machine.read(NOW)
        snapshot = machine.read(NOW + 10)
    gpu = snapshot.gpus[0]
    assert len(snapshot.gpus) == 8
    assert len({gpu.uuid for gpu in snapshot.gpus}) == 8
    assert (gpu.name, gpu.cuda_capability, gpu.mig_enabled, gpu.ecc_enabled) == ("NVIDIA H100 80GB HBM3", "9.0", False, True)
    assert gpu.memory_total_bytes == 81559 << 20
    assert gpu.memory_used_bytes + gpu.memory_reserved_bytes + gpu.memory_free_bytes == gpu.memory_total_bytes
    assert (gpu.power_watts, gpu.power_limit_watts) == (629.5, 700.0)
    assert (gpu.nvlink_active, gpu.nvlink_total) == (18, 18)
    assert gpu.missing == {
        "temperature_shutdown_celsius": "not supported", "temperature_slowdown_celsius": "not supported", "fan_percent": "not supported",
        "numa_node": "not supported",
    }  # fmt: skip
    assert first.gpus[0].missing["sm_activity_percent"].startswith("not yet")
    assert snapshot.host.driver_version == "590.48.01"
    assert snapshot.host.cuda_version == "13.1"


def test_a_snapshot_travels(tmp_path):
    """What the source makes is what the wire takes."""
    driver = FakeDriver(tmp_path, "h100-mig")
    code = (
        "import json\nfrom gpuwatch.collect.source import make\nfrom gpuwatch.config.settings import SamplerOptions\n"
        "from gpuwatch.wire.flat import Flattener, Shape\n"
        "snapshot = make(SamplerOptions('', 4.0, 10.0, 60.0, 600.0, '')).read(1790000000.0)\n"
        "flat = Flattener().flatten(snapshot)\nshape = Shape.parse(json.loads(json.dumps(flat.shape)))\n"
        "assert shape.build(shape.check(json.loads(json.dumps(flat.values)))) == snapshot\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "src", **driver.env}, check=True, timeout=60)


def test_mig_slices_have_their_own_memory_and_activity(tmp_path):
    driver = FakeDriver(tmp_path, "h100-mig")
    with Machine(driver, status_age=4.0) as machine:
        machine.read(NOW)
        gpu = machine.read(NOW + 4).gpus[0]
        assert [part.profile for part in gpu.mig] == ["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"]
        assert [part.gpu_instance for part in gpu.mig] == [2, 3, 9, 10]
        assert gpu.mig[0].memory_total_bytes == 40448 << 20
        assert all(part.sm_activity_percent is not None for part in gpu.mig)
        assert gpu.utilization_percent is None
        driver.remove_mig(0, 3)
        driver.set_mig(0, 0, uuid="MIG-made-anew", gpu_instance_id=7)
        gpu = machine.read(NOW + 8).gpus[0]
        assert [part.gpu_instance for part in gpu.mig] == [7, 3, 9]
        assert gpu.mig[0].uuid == "MIG-made-anew"
        assert gpu.mig[0].sm_activity_percent is None  # nothing to compare with yet


# field of the fake (empty: it follows from the others), value, field of the reading, value, its group
CHANGES = [
    ("utilization_gpu_percent", 42, "utilization_percent", 42, "live"),
    ("utilization_memory_percent", 43, "memory_utilization_percent", 43, "live"),
    ("temperature_celsius", 71, "temperature_celsius", 71, "live"),
    ("power_milliwatts", 123456, "power_watts", 123.5, "live"),
    ("clocks_event_reasons", 0x48, "throttle_mask", 0x48, "live"),
    ("memory_total_bytes", 90 << 30, "memory_total_bytes", 90 << 30, "live"),
    ("memory_used_bytes", 10 << 30, "memory_used_bytes", 10 << 30, "live"),
    ("memory_reserved_bytes", 1 << 30, "memory_reserved_bytes", 1 << 30, "live"),
    ("", None, "memory_free_bytes", 79 << 30, "live"),
    ("utilization_encoder_percent", 44, "encoder_percent", 44, "status"),
    ("utilization_decoder_percent", 45, "decoder_percent", 45, "status"),
    ("temperature_memory_celsius", 77, "memory_temperature_celsius", 77, "status"),
    ("energy_millijoules", 5_000_000, "energy_joules", 5000.0, "status"),
    ("clock_graphics_mhz", 1001, "graphics_clock_mhz", 1001, "status"),
    ("clock_sm_mhz", 1002, "sm_clock_mhz", 1002, "status"),
    ("clock_memory_mhz", 1003, "memory_clock_mhz", 1003, "status"),
    ("performance_state", 8, "performance_state", 8, "status"),
    ("gpm_sm_activity_percent", 33.25, "sm_activity_percent", 33.2, "status"),
    ("gpm_memory_bandwidth_percent", 22.0, "memory_activity_percent", 22.0, "status"),
    ("gpm_graphics_percent", 34.0, "graphics_activity_percent", 34.0, "status"),
    ("gpm_tensor_percent", 35.0, "tensor_activity_percent", 35.0, "status"),
    ("gpm_pcie_tx_mebibytes_per_second", 1.5, "pcie_sent_bytes_per_second", 3 << 19, "status"),
    ("gpm_pcie_rx_mebibytes_per_second", 2.0, "pcie_received_bytes_per_second", 2 << 20, "status"),
    ("gpm_nvlink_rx_mebibytes_per_second", 7.0, "nvlink_bytes_per_second", 7 << 20, "status"),
    ("pcie_replay_count", 11, "pcie_replays", 11, "health"),
    ("power_enforced_limit_milliwatts", 500000, "power_limit_watts", 500.0, "health"),
    ("pcie_generation", 3, "pcie_generation", 3, "health"),
    ("pcie_width", 8, "pcie_width", 8, "health"),
    ("ecc_mode_current", 0, "ecc_enabled", False, "health"),
    ("ecc_mode_pending", 0, "ecc_pending", False, "health"),
    ("mig_mode_pending", 1, "mig_pending", True, "health"),
    ("ecc_corrected_aggregate_dram", 12, "ecc_corrected_errors", 12, "health"),
    ("ecc_uncorrected_aggregate_dram", 3, "ecc_uncorrected_errors", 3, "health"),
    ("remapped_rows_correctable", 4, "remapped_rows_corrected", 4, "health"),
    ("remapped_rows_uncorrectable", 5, "remapped_rows_uncorrected", 5, "health"),
    ("remapped_rows_pending", 1, "remapped_rows_pending", True, "health"),
    ("remapped_rows_failure", 1, "remapped_rows_failure", True, "health"),
    ("nvlink_states", [1, 0, 1, 1], "nvlink_active", 3, "health"),
    ("", None, "nvlink_total", 4, "health"),
    ("compute_mode", 3, "compute_mode", "exclusive-process", "health"),
    ("persistence_mode", 0, "persistence_enabled", False, "health"),
    ("name", "Another name", "name", "Another name", "identity"),
    ("serial", "42", "serial", "42", "identity"),
    ("vbios_version", "1.2.3", "vbios_version", "1.2.3", "identity"),
    ("minor_number", 5, "minor_number", 5, "identity"),
    ("numa_node", 4, "numa_node", 4, "identity"),
    ("pci_bus_id", "00000000:F1:00.0", "pci_bus_id", "0000:f1:00.0", "identity"),
    ("compute_capability_major", 12, "cuda_capability", "12.0", "identity"),
    ("temperature_slowdown_celsius", 90, "temperature_slowdown_celsius", 90, "identity"),
    ("temperature_shutdown_celsius", 95, "temperature_shutdown_celsius", 95, "identity"),
    ("clock_sm_max_mhz", 2001, "sm_clock_max_mhz", 2001, "identity"),
    ("clock_memory_max_mhz", 2002, "memory_clock_max_mhz", 2002, "identity"),
    ("pcie_generation_max", 6, "pcie_generation_max", 6, "identity"),
    ("pcie_width_max", 32, "pcie_width_max", 32, "identity"),
]
AGES = {"live": 0.0, "status": 10.0, "health": 60.0, "identity": 600.0}
ELSEWHERE = {
    "uuid": "who the GPU is", "index": "a_gpu_without_a_handle", "error": "one_lost_gpu", "error_since_at": "one_lost_gpu",
    "missing": "what_is_not_supported", "unified_memory": "unified_memory", "fan_percent": "fans_and_mig", "mig_enabled": "fans_and_mig",
    "mig": "mig_slices", "processes": "test_processes.py", **{f"{group}_read_at": "in each step" for group in AGES},
}  # fmt: skip
"""Field of a GpuReading: the test that changes it, where it is not the one below."""


def test_every_field_of_a_gpu_is_changed_by_a_test():
    changed = [name for _, _, name, _, _ in CHANGES]
    assert sorted([*changed, *ELSEWHERE]) == sorted(name for name, *_ in describe(GpuReading))
    groups = {name: group for name, _, _, group in describe(GpuReading)}
    assert {name: groups[name] for _, _, name, _, _ in CHANGES} == {name: group for _, _, name, _, group in CHANGES}


def test_every_change_is_seen_within_its_groups_age_on_every_gpu(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        machine.read(NOW)
        at = machine.read(NOW + 4) and NOW + 4
        for gpu in range(8):
            driver.set(gpu, **{field: value for field, value, *_ in CHANGES if field})
        pending = {(gpu, name): (value, AGES[group]) for gpu in range(8) for _, _, name, value, group in CHANGES}
        changed = at
        while pending:
            at += 4
            snapshot = machine.read(at)
            for gpu in snapshot.gpus:
                for group in ("live", "status", "health", "identity"):
                    assert at - gpu[f"{group}_read_at"] <= AGES[group]
            for (index, name), (value, age) in list(pending.items()):
                if snapshot.gpus[index][name] == value:
                    del pending[index, name]
                else:
                    assert at - changed < (age or 4), f"{name} of GPU {index}"


def test_fans_and_mig_are_seen_within_their_groups_age(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.set(0, fan_speeds_percent=[30, 31])
    with Machine(driver) as machine:
        before = machine.read(NOW).gpus[0]
        driver.set(0, fan_speeds_percent=[40, 44], mig_mode_current=1)
        seen = [machine.read(NOW + 4 * step).gpus[0] for step in range(1, 16)]
    assert (before.fan_percent, before.mig_enabled) == (31, False)
    assert [gpu.fan_percent for gpu in seen if gpu.live_read_at - NOW >= AGES["status"] - 4] == [44] * 14
    assert seen[-1].mig_enabled is True


def test_slow_groups_of_different_gpus_are_spread_over_time(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        machine.read(NOW)
        reads = {}
        for step in range(1, 31):
            for gpu in machine.read(NOW + 4 * step).gpus:
                if gpu.health_read_at == NOW + 4 * step:
                    reads.setdefault(step, []).append(gpu.index)
    assert max(len(gpus) for gpus in reads.values()) == 1


def test_fewer_than_14_calls_per_gpu_and_sample(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    for gpu in range(8):
        driver.set_processes(gpu, [{"pid": os.getpid(), "used_memory_bytes": 1 << 30, "sm_percent": 9}])
    with Machine(driver) as machine:
        machine.read(NOW)
        before = sum(driver.calls().values())
        for step in range(1, 151):  # ten minutes: each group comes round
            machine.read(NOW + 4 * step)
        calls = (sum(driver.calls().values()) - before) / 150 / 8
    assert calls <= 14.0


def test_what_is_not_supported_is_asked_again_after_ten_minutes_only(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.set(0, power_milliwatts=None)
    with Machine(driver) as machine:
        for step in range(10):
            assert machine.read(NOW + 4 * step).gpus[0].missing["power_watts"] == "not supported"
        assert driver.calls()["nvmlDeviceGetPowerUsage"] == 1
        driver.set(0, power_milliwatts=100000)
        assert machine.read(NOW + 599).gpus[0].power_watts is None
        gpu = machine.read(NOW + 601).gpus[0]
        assert gpu.power_watts == 100.0
        assert "power_watts" not in gpu.missing


@pytest.mark.parametrize(
    ("code", "words"), [(4, "no permission"), (999, "error: Unknown Error"), (17, "error: The operating system has blocked the request.")]
)
def test_an_error_of_one_field_is_its_reason(tmp_path, code, words):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.fault("error", gpu=0, function="nvmlDeviceGetUtilizationRates", value=code)
    with Machine(driver) as machine:
        gpu = machine.read().gpus[0]
    assert gpu.utilization_percent is None
    assert gpu.missing["utilization_percent"] == gpu.missing["memory_utilization_percent"] == words
    assert gpu.temperature_celsius is not None


def test_sentinels_are_not_readings(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.fault("temperature_sentinel", gpu=1)
    driver.set(2, utilization_gpu_percent=4294967295, performance_state=32, power_milliwatts=4294967295)
    with Machine(driver) as machine:
        gpus = machine.read().gpus
    assert gpus[1].temperature_celsius is gpus[1].memory_temperature_celsius is None
    assert "65261" in gpus[1].missing["temperature_celsius"]
    assert gpus[2].utilization_percent is gpus[2].performance_state is gpus[2].power_watts is None
    assert gpus[0].temperature_celsius == 59


def test_an_old_driver_has_older_calls(tmp_path):
    driver = FakeDriver(tmp_path, "rtx2080s", old_driver=True)
    driver.set_processes(0, [{"pid": os.getpid(), "used_memory_bytes": 1 << 30}])
    with Machine(driver) as machine:
        gpu = machine.read().gpus[0]
    assert gpu.memory_reserved_bytes is None
    assert "used holds what it reserves" in gpu.missing["memory_reserved_bytes"]
    assert gpu.memory_used_bytes + gpu.memory_free_bytes == gpu.memory_total_bytes
    assert gpu.throttle_mask is not None
    assert gpu.fan_percent is not None
    assert [(process.pid, process.gpu_memory_bytes) for process in gpu.processes] == [(os.getpid(), 1 << 30)]
    assert gpu.missing["sm_activity_percent"].startswith("not in this driver")


def test_the_oldest_lists_have_16_byte_rows(tmp_path):
    lists = [f"nvmlDeviceGet{kind}RunningProcesses_v{version}" for kind in ("Compute", "Graphics", "MPSCompute") for version in (2, 3)]
    driver = FakeDriver(tmp_path, "rtx2080s", without=lists)
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
    try:
        driver.set_processes(0, [{"pid": child.pid, "used_memory_bytes": 1 << 20} for child in children])
        with Machine(driver) as machine:
            gpu = machine.read().gpus[0]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [process.pid for process in gpu.processes] == sorted(child.pid for child in children)
    assert {process.gpu_instance for process in gpu.processes} == {None}


def test_names_that_are_no_utf8_do_not_stop_anything(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.fault("invalid_utf8")
    with Machine(driver) as machine:
        name = machine.read().gpus[0].name
    assert "�" in name


def test_unified_memory_is_the_hosts(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.set(0, name="NVIDIA GB10", memory_total_bytes=None, memory_used_bytes=None, memory_reserved_bytes=None)
    driver.set_processes(0, [{"pid": os.getpid(), "used_memory_bytes": 5 << 20}])
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    with Machine(driver) as machine:
        for step in range(3):
            gpu = machine.read(NOW + 4 * step).gpus[0]
            assert gpu.unified_memory
            assert (gpu.memory_total_bytes, gpu.memory_used_bytes) == (total, 5 << 20)
            assert 0 < gpu.memory_free_bytes < total
            assert gpu.memory_reserved_bytes is None
            assert "one memory with the host" in gpu.missing["memory_reserved_bytes"]
        driver.fault("used_memory_unavailable")
        gpu = machine.read(NOW + 20).gpus[0]
        assert gpu.memory_used_bytes is None
        assert "does not tell its share" in gpu.missing["memory_used_bytes"]


def test_memory_that_is_a_numa_node_is_named(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.set(0, name="NVIDIA GH200 480GB", numa_node=1, memory_used_bytes=9 << 30)
    with Machine(driver) as machine:
        gpu = machine.read(NOW).gpus[0]
        assert (gpu.numa_node, gpu.unified_memory, gpu.memory_used_bytes >> 30) == (1, False, 9)
        driver.set(0, numa_node=None)
        gpu = machine.read(NOW + 600).gpus[0]
        assert (gpu.numa_node, gpu.missing["numa_node"]) == (None, "not supported")
        driver.set(0, numa_node=2**32 - 1)
        gpu = machine.read(NOW + 1200).gpus[0]
        assert (gpu.numa_node, gpu.missing["numa_node"]) == (None, "not reported: the driver says none")


def jetson(root: Path, load: str = "374\n", zone: str = "GPU-therm", device: str = "sys/devices/platform/17000000.gpu") -> None:
    files = {"proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0", "sys/class/thermal/thermal_zone0/type": "CPU-therm\n",
             "sys/class/thermal/thermal_zone0/temp": "99000\n", "sys/class/thermal/thermal_zone1/type": f"{zone}\n",
             "sys/class/thermal/thermal_zone1/temp": "43250\n", f"{device}/load": load, "sys/devices/platform/host1x/load": "1\n"}  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("device", ["sys/devices/gpu.0", "sys/devices/17000000.ga10b", "sys/devices/platform/17000000.gpu", "sys/devices/platform/bus@0/17000000.gpu"])
def test_a_jetson_tells_work_and_heat_in_sys(tmp_path, device):
    root = tmp_path / "root"
    jetson(root, device=device)
    (driver_folder := tmp_path / "driver").mkdir()
    driver = FakeDriver(driver_folder, "rtx4080s")
    driver.set(0, name="Orin", memory_total_bytes=None, memory_used_bytes=None, memory_reserved_bytes=None, utilization_gpu_percent=None, temperature_celsius=None)
    with Machine(driver, root=str(root)) as machine:
        gpu = machine.read(NOW).gpus[0]
        assert (gpu.utilization_percent, gpu.temperature_celsius) == (37.4, 43.25)
        assert not {"utilization_percent", "temperature_celsius"} & set(gpu.missing)
        assert gpu.unified_memory
        (root / device / "load").write_text("garbage")
        (root / "sys/class/thermal/thermal_zone1/temp").write_text("-1\n")
        gpu = machine.read(NOW + 4).gpus[0]
        assert (gpu.utilization_percent, gpu.temperature_celsius) == (None, None)
        assert "garbage" in gpu.missing["utilization_percent"]


def test_a_jetson_without_these_files_says_so(tmp_path):
    root = tmp_path / "root"
    jetson(root, device="sys/devices/platform/elsewhere", zone="tj-thermal")
    (driver_folder := tmp_path / "driver").mkdir()
    with Machine(FakeDriver(driver_folder, "rtx4080s"), root=str(root)) as machine:
        gpu = machine.read(NOW).gpus[0]
        assert (gpu.utilization_percent, gpu.temperature_celsius) == (None, None)
        assert "no load file" in gpu.missing["utilization_percent"]
        assert "no thermal zone" in gpu.missing["temperature_celsius"]


def test_one_lost_gpu_costs_only_its_own_row(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        before = machine.read(NOW)
        driver.fault("gpu_lost", gpu=3)
        snapshot = machine.read(NOW + 4)
        assert snapshot.collector("nvml").ok
        lost = snapshot.gpus[3]
        assert identity(lost) == identity(before.gpus[3])
        assert lost.error == "lost: NVML says GPU is lost. See dmesg; reboot"
        assert lost.error_since_at == NOW + 4
        assert all(lost[name] is None for name in numbers_of(GpuReading))
        assert [gpu.error is None for gpu in snapshot.gpus] == [True] * 3 + [False] + [True] * 4
        for step in range(2, 6):
            snapshot = machine.read(NOW + 4 * step)
            assert snapshot.gpus[3].error_since_at == NOW + 4
            assert [gpu.utilization_percent is None for gpu in snapshot.gpus].count(True) == 1
        driver.fault("gpu_lost", gpu=3, on=False)
        machine.read(NOW + 24)
        back = machine.read(NOW + 28).gpus[3]
        assert back.error is back.error_since_at is None
        assert back.utilization_percent is not None


@pytest.mark.parametrize("fault", ["gpu_gone", "gpu_dropped"])
def test_a_gpu_without_a_handle_stays_in_the_list(tmp_path, fault):
    """Gone: no handle for its index. Dropped: NVML counts one less, and the indexes behind it shift."""
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        before = machine.read(NOW)
        driver.fault(fault, gpu=2)
        for step in range(1, 4):
            snapshot = machine.read(NOW + 4 * step)
        assert {gpu.uuid for gpu in snapshot.gpus} == {gpu.uuid for gpu in before.gpus}
        lost = [gpu for gpu in snapshot.gpus if gpu.error]
        assert [identity(gpu) for gpu in lost] == [identity(before.gpus[2])]
        good = [gpu for gpu in snapshot.gpus if not gpu.error]
        assert [gpu.uuid for gpu in good] == [gpu.uuid for gpu in before.gpus if gpu.uuid != lost[0].uuid]
        assert [gpu.index for gpu in good] == (list(range(7)) if fault == "gpu_dropped" else [0, 1, 3, 4, 5, 6, 7])


@pytest.mark.parametrize("fault", ["gpu_lost", "gpu_gone", "gpu_dropped"])
def test_a_gpu_that_an_earlier_process_knew_is_lost_not_forgotten(tmp_path, fault):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        known = [identity(gpu) for gpu in machine.read(NOW).gpus]
    driver.fault(fault, gpu=5)
    with Machine(driver, known_gpus=known) as machine:
        snapshot = machine.read(NOW)
        lost = [gpu for gpu in snapshot.gpus if gpu.error]
        assert [identity(gpu) for gpu in lost] == [known[5]]
        assert len(snapshot.gpus) == 8
        driver.clear()
        for step in range(1, 4):
            snapshot = machine.read(NOW + 4 * step)
        assert [gpu.error for gpu in snapshot.gpus] == [None] * 8


def test_a_gpu_that_was_lost_before_anyone_knew_it(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.fault("gpu_gone", gpu=1)
    with Machine(driver) as machine:
        snapshot = machine.read(NOW)
        assert [gpu.uuid for gpu in snapshot.gpus if gpu.error] == ["unknown-index-1"]
        driver.clear()
        for step in range(1, 4):
            snapshot = machine.read(NOW + 4 * step)
        assert [gpu.error for gpu in snapshot.gpus] == [None] * 8


def test_a_gpu_on_the_pci_bus_that_nvml_does_not_list_is_lost(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.fault("gpu_dropped", gpu=4)
    with Machine(driver, root=str(with_proc(driver))) as machine:
        snapshot = machine.read(NOW)
    lost = [gpu for gpu in snapshot.gpus if gpu.error]
    address = driver.get(4, "pci_bus_id").lower()[-12:]
    assert [(gpu.uuid, gpu.pci_bus_id) for gpu in lost] == [(f"unknown-pci-{address}", address)]


def test_a_gpu_given_to_a_virtual_machine_is_not_lost(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.fault("gpu_dropped", gpu=4)
    root = with_proc(driver)
    link = root / "sys/bus/pci/devices" / driver.get(4, "pci_bus_id").lower()[-12:] / "driver"
    link.unlink()
    link.symlink_to(root / "sys/bus/pci/drivers/vfio-pci")
    with Machine(driver, root=str(root)) as machine:
        assert len(machine.read(NOW).gpus) == 7


def test_a_driver_that_goes_and_comes_back_needs_a_fresh_process(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        known = [identity(gpu) for gpu in machine.read(NOW).gpus]
        driver.driver(gone=True)
        snapshot = machine.read(NOW + 4)
        assert snapshot.gpus == []
        assert not snapshot.collector("nvml").ok
        assert "does not answer" in snapshot.collector("nvml").message or "not loaded" in snapshot.collector("nvml").message
        assert snapshot.host.memory_total_bytes > 0
        with pytest.raises(Lost, match="driver"):
            machine.read(NOW + 8)
    with Machine(driver, known_gpus=known) as machine:
        status = machine.read(NOW + 12).collector("nvml")
        assert not status.ok
        assert "not loaded: modprobe nvidia" in status.message
        with pytest.raises(Lost):
            machine.read(NOW + 16)
    driver.driver(gone=False)
    with Machine(driver, known_gpus=known) as machine:
        assert [identity(gpu) for gpu in machine.read(NOW + 20).gpus] == known


def test_two_versions_are_named_with_the_next_step(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.driver(version="550.90", library_version="550.107")
    root = with_proc(driver)
    driver.fault("mismatch")
    with Machine(driver, root=str(root)) as machine:
        status = machine.read(NOW).collector("nvml")
        assert status.message == "driver 550.90 loaded, library 550.107 installed: reboot or reload the nvidia modules"
        assert not status.ok
        with pytest.raises(Lost, match=r"550\.107"):
            machine.read(NOW + 4)


def test_an_upgrade_below_a_running_node_is_said_and_sampling_goes_on(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.driver(version="550.90", library_version="550.107", open_module=True)
    root = with_proc(driver)
    with Machine(driver, root=str(root)) as machine:
        snapshot = machine.read(NOW)
    assert len(snapshot.gpus) == 8
    status = snapshot.collector("driver")
    assert (status.ok, status.message) == (
        False, "driver 550.90 loaded, library 550.107 installed: reboot or reload the nvidia modules",
    )  # fmt: skip


def test_a_mismatch_that_strikes_all_calls_later(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with Machine(driver) as machine:
        machine.read(NOW)
        driver.fault("mismatch")
        status = machine.read(NOW + 4).collector("nvml")
        assert not status.ok
        assert "different versions: reboot or reload the nvidia modules" in status.message
        with pytest.raises(Lost):
            machine.read(NOW + 8)


@pytest.mark.parametrize("profile", ["none", "no-driver"])
def test_a_machine_without_a_gpu_is_a_valid_node(tmp_path, profile):
    with Machine(FakeDriver(tmp_path, profile)) as machine:
        for step in range(3):
            snapshot = machine.read(NOW + 4 * step)
            assert snapshot.gpus == []
            assert snapshot.collector("nvml").ok
            assert "no" in snapshot.collector("nvml").message
            assert snapshot.host.cpu_count > 0


def test_a_machine_without_the_library_is_a_valid_node():
    with Machine(None) as machine:
        machine.read(NOW)
        status = machine.read(NOW + 4).collector("nvml")
    assert status.ok
    assert status.message.startswith("no NVIDIA driver on this machine (libnvidia-ml.so.1 is not installed)")


def test_a_gpu_without_a_driver_is_said(tmp_path):
    device = tmp_path / "sys/bus/pci/devices/0000:65:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    with Machine(None, root=str(tmp_path)) as machine:
        for step in range(2):
            status = machine.read(NOW + 4 * step).collector("nvml")
            assert not status.ok
            assert status.message.startswith("NVIDIA GPU at 0000:65:00.0 found, but libnvidia-ml.so.1 is not installed: install the NVIDIA")


def test_a_stub_library_is_refused(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    stubs = tmp_path / "cuda/lib64/stubs"
    stubs.mkdir(parents=True)
    (stubs / "libnvidia-ml.so.1").write_bytes(driver.library_path.read_bytes())
    with Machine(driver, environment={"LD_LIBRARY_PATH": str(stubs)}) as machine:
        status = machine.read().collector("nvml")
    assert not status.ok
    assert "is a stub for building" in status.message
    assert driver.calls() == {}


def test_a_foreign_pynvml_is_refused(tmp_path):
    (tmp_path / "pynvml.py").write_text("__version__ = '11.4.1'\n")
    path = os.pathsep.join([str(tmp_path), "src"])
    with Machine(FakeDriver(tmp_path / "driver", "h100x8"), environment={"PYTHONPATH": path}) as machine:
        status = machine.read().collector("nvml")
    assert not status.ok
    assert "is not nvidia-ml-py: remove it and install nvidia-ml-py" in status.message


def test_xids_come_from_nvml_where_the_kernels_log_cannot_be_read(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver, root=str(with_proc(driver))) as machine:
        first = machine.read(NOW)
        assert "/dev/kmsg cannot be read" in first.collector("xid").message
        assert "CAP_SYSLOG" in first.collector("xid").message
        driver.xid(2, 31)
        driver.event(3, 16, 0)
        driver.event(4, 8, 0)
        xids = machine.read(NOW + 4).xids
    assert [(xid.code, xid.pci_bus_id) for xid in xids] == [(31, first.gpus[2].pci_bus_id)]


def test_a_gpu_that_fell_off_the_bus_says_so(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    root = with_proc(driver)
    (root / "dev").mkdir()
    (root / "dev/kmsg").write_text("")
    with Machine(driver, root=str(root)) as machine:
        gpu = machine.read(NOW).gpus[6]
        with (root / "dev/kmsg").open("a") as log:
            address = gpu.pci_bus_id[:-2]
            log.write(f"3,1,{int(time.monotonic() * 1e6)},-;NVRM: Xid (PCI:{address}): 79, pid='<unknown>', GPU has fallen off the bus.\n")
        driver.fault("gpu_lost", gpu=6)
        snapshot = machine.read(NOW + 4)
    assert snapshot.xids[0].code == 79
    assert snapshot.gpus[6].error.startswith("lost: GPU has fallen off the bus (Xid 79). Reboot")


@pytest.mark.parametrize(("code", "words"), [(999, "lost: NVML says Unknown Error"), (16, "needs a reset: stop its programs and run nvidia-smi")])
def test_a_gpu_whose_every_call_fails_is_lost_for_that_reason(tmp_path, code, words):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        machine.read(NOW)
        driver.fault("error", gpu=2, value=code)
        snapshot = machine.read(NOW + 4)
        assert [gpu.error is None for gpu in snapshot.gpus].count(False) == 1
        assert snapshot.gpus[2].error.startswith(words)
        assert snapshot.collector("nvml").ok


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (999, "the NVIDIA driver does not answer (NVML: Unknown Error)"), (4, "no permission to use the NVIDIA driver"),
        (18, "different versions: reboot or reload the nvidia modules"), (9, "the NVIDIA driver is not loaded: modprobe nvidia"),
    ],
)  # fmt: skip
def test_a_driver_that_does_not_start_is_explained_and_tried_again_by_a_fresh_process(tmp_path, code, words):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.fault("error", function="nvmlInit_v2", value=code)
    root = with_proc(driver)
    with Machine(driver, root=str(root), environment={}) as machine:
        snapshot = machine.read(NOW)
        status = snapshot.collector("nvml")
        assert (snapshot.gpus, status.ok) == ([], False)
        assert words in status.message
        assert status.since_at == NOW
        assert snapshot.host.driver_version == "590.48.01"
        with pytest.raises(Lost, match="driver|versions"):
            machine.read(NOW + 4)


def test_when_all_gpus_fail_alike_the_driver_is_gone(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        machine.read(NOW)
        driver.fault("error", value=999)
        snapshot = machine.read(NOW + 4)
        assert snapshot.gpus == []
        assert "does not answer (NVML: Unknown Error)" in snapshot.collector("nvml").message
        with pytest.raises(Lost):
            machine.read(NOW + 8)


def test_all_gpus_lost_are_all_shown(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        machine.read(NOW)
        driver.fault("gpu_lost")
        for step in range(1, 4):
            snapshot = machine.read(NOW + 4 * step)
            assert [gpu.error is not None for gpu in snapshot.gpus] == [True] * 8


def test_known_gpus_of_a_driver_that_lists_none_are_lost(tmp_path):
    driver = FakeDriver(tmp_path / "eight", "h100x8")
    with Machine(driver) as machine:
        known = [identity(gpu) for gpu in machine.read(NOW).gpus]
    with Machine(FakeDriver(tmp_path / "none", "none"), known_gpus=known) as machine:
        snapshot = machine.read(NOW)
    assert [gpu.uuid for gpu in snapshot.gpus] == [gpu["uuid"] for gpu in known]
    assert all("does not list the GPU any more" in gpu.error for gpu in snapshot.gpus)


def test_a_clock_that_goes_back_stops_nothing(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with Machine(driver) as machine:
        for now in (NOW, NOW + 4, NOW - 7200, NOW - 7196):
            for gpu in machine.read(now).gpus:
                assert gpu.live_read_at == now
                assert 0 <= now - gpu.status_read_at <= 10
                assert 0 <= now - gpu.health_read_at <= 60


def test_a_part_that_breaks_reports_itself_and_leaves_the_others_alone(tmp_path):
    code = (
        "from gpuwatch.collect import source\nfrom gpuwatch.collect.host import Host\nfrom gpuwatch.config.settings import SamplerOptions\n"
        "def broken(self, now, driver): raise ValueError('a bug\\nin two lines')\nHost.read = broken\n"
        "snapshot = source.make(SamplerOptions('', 4.0, 10.0, 60.0, 600.0, '')).read(1790000000.0)\n"
        "status = snapshot.collectors[0]\n"
        "assert (status.name, status.ok, status.message) == ('host', False, 'host failed: ValueError: a bug in two lines'), status\n"
        "assert len(snapshot.gpus) == 8\n"
    )
    environment = {**os.environ, "PYTHONPATH": "src", **FakeDriver(tmp_path, "h100x8").env}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
