"""dcgm-exporter's pages as readings: every default counter, slices, what it does not tell, and our own page as a test of the units."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, MigReading, Snapshot, XidEvent
from gpuwatch.model.units import MIB
from gpuwatch.render.as_prometheus import node_metrics
from gpuwatch.render.prometheus_families import DCGM, DCGM_LABELS, DCGM_NOT
from gpuwatch.wire.exporters import dcgm
from gpuwatch.wire.flat import Flattener, Shape

PAGE = (Path(__file__).parent / "pages" / "dcgm.txt").read_bytes()
TARGET = Target("dgx-a", "10.0.0.1", 9400, "dcgm+http")


def read(body=PAGE, now=1000.0, memory=None):
    return dcgm.read(body, TARGET, now, memory)


def test_how_it_is_asked():
    assert dcgm.request(TARGET, "secret") == ("GET", "/metrics", None, {"Accept": "text/plain;version=0.0.4"})


def test_the_numbers_in_our_units():
    snapshot = read().snapshot
    assert (snapshot.taken_at, snapshot.hostname, snapshot.version, snapshot.collectors) == (1000.0, "dgx-a", "", (CollectorStatus("dcgm-exporter"),))
    assert snapshot.host.driver_version == "550.90.07"
    busy, quiet = snapshot.gpus
    assert (busy.uuid, busy.index, busy.name, busy.pci_bus_id) == ("GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52", 0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0")
    assert (busy.memory_used_bytes, busy.memory_free_bytes, busy.memory_reserved_bytes) == (62008 * MIB, 19000 * MIB, 551 * MIB)
    assert busy.memory_total_bytes == 81559 * MIB
    assert (busy.utilization_percent, busy.memory_utilization_percent, busy.graphics_activity_percent) == (97, 41, 97)
    assert (busy.tensor_activity_percent, busy.memory_activity_percent) == (41.25, 30.5)
    assert (busy.power_watts, busy.energy_joules) == (629.45, 1234567890.123)
    assert (busy.pcie_replays, busy.pcie_sent_bytes_per_second, busy.pcie_received_bytes_per_second) == (2, 33011804, 97863601)
    assert busy.nvlink_bytes_per_second == 1.2e9
    assert (quiet.remapped_rows_corrected, quiet.remapped_rows_uncorrected, quiet.remapped_rows_failure) == (3, 1, False)


def test_what_it_does_not_tell_is_none_with_a_reason():
    gpu = read().snapshot.gpus[0]
    assert gpu.missing == {"processes": "not told by dcgm-exporter", "mig_enabled": "not told by dcgm-exporter"}
    assert (gpu.fan_percent, gpu.power_limit_watts, gpu.throttle_mask, gpu.ecc_uncorrected_errors, gpu.serial, gpu.mig_enabled) == (None,) * 6
    assert read().snapshot.host.cpu_percent is None
    (bare,) = read(b'DCGM_FI_DEV_GPU_TEMP{gpu="3"} 50\n').snapshot.gpus
    assert (bare.uuid, bare.index, bare.memory_total_bytes, bare.memory_used_bytes) == ("no-uuid:dgx-a:3", 3, None, None)
    (half,) = read(b'DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1"} 50\nDCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1"} 50\n').snapshot.gpus
    assert half.memory_total_bytes is None


@pytest.mark.parametrize("blank", ["2147483632", "2147483634", "140737488355328.000000", "9223372036854775792", "9223372036854775794"])
def test_dcgm_s_blanks_are_no_numbers(blank):
    body = f'DCGM_FI_DEV_FB_USED{{gpu="0",UUID="GPU-1"}} {blank}\nDCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="GPU-1"}} {blank}\nDCGM_FI_DEV_GPU_TEMP{{gpu="0",UUID="GPU-1"}} 40\n'.encode()
    (gpu,) = read(body).snapshot.gpus
    assert (gpu.memory_used_bytes, gpu.power_watts) == (None, None)


def test_the_shape_stays_while_numbers_change():
    flattener = Flattener()
    first = read()
    flat = flattener.flatten(first.snapshot)
    Shape.parse(flat.shape).check(flat.values)
    again = read(PAGE.replace(b"} 97\n", b"} 12\n"), 1005.0, first.memory)
    assert flattener.flatten(again.snapshot).shape is None
    assert again.snapshot.gpus[0].utilization_percent == 12


def test_every_default_counter_is_read_or_has_a_reason():
    names = set(re.findall(rb"^(DCGM_\w+)\{", PAGE, re.MULTILINE))
    assert len(names) == 25
    for name in (name.decode() for name in names):
        assert (name in dcgm.FIELDS) + (name in dcgm.FLAGS) + (name in dcgm.XIDS) + (name in dcgm.NOT_READ) == 1, name
    for name, (field, _) in dcgm.FIELDS.items():
        assert field in GpuReading.__dataclass_fields__, name


def test_the_page_of_a_card_in_slices():
    labels = 'gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA A100-SXM4-80GB"'
    lines = [f"DCGM_FI_DEV_GPU_TEMP{{{labels}}} 41", f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{labels}}} 0.5"]
    for instance, profile, used in ((13, "1g.10gb", 9000), (1, "3g.40gb", 10)):
        part = f'{labels},GPU_I_PROFILE="{profile}",GPU_I_ID="{instance}"'
        lines += [f"DCGM_FI_DEV_FB_USED{{{part}}} {used}", f"DCGM_FI_DEV_FB_FREE{{{part}}} 500", f"DCGM_FI_DEV_FB_RESERVED{{{part}}} 0",
                  f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{part}}} 0.25", f"DCGM_FI_DEV_GPU_TEMP{{{part}}} 41"]  # fmt: skip
    (card,) = read("\n".join(lines).encode()).snapshot.gpus
    assert (card.mig_enabled, card.temperature_celsius, card.graphics_activity_percent) == (True, 41, 50)
    assert (card.memory_used_bytes, card.memory_total_bytes) == (None, None), "a slice's memory is not the card's"
    assert card.mig == (
        MigReading("GPU-1:1", 0, "3g.40gb", 1, None, 10 * MIB, 510 * MIB, 25),
        MigReading("GPU-1:13", 1, "1g.10gb", 13, None, 9000 * MIB, 9500 * MIB, 25),
    )
    flat = Flattener().flatten(read("\n".join(lines).encode()).snapshot)
    Shape.parse(flat.shape).check(flat.values)


def test_an_xid_is_an_event_when_it_changes_and_not_when_it_stands_there():
    first = read()
    assert first.snapshot.xids == (), "nobody knows when the 43 of GPU 1 came"
    fell = PAGE.replace(b"XID_ERRORS{gpu=\"0\"", b"XID_ERRORS{gpu=\"0\"").replace(_xid_line(0), _xid_line(0)[:-1] + b"79")
    second = read(fell, 1005.0, first.memory)
    assert second.snapshot.xids == (XidEvent(1005.0, 79, "00000000:1B:00.0", None, "told by dcgm-exporter, GPU 0"),)
    third = read(fell, 1010.0, second.memory)
    assert third.snapshot.xids == second.snapshot.xids


def _xid_line(gpu):
    return re.search(rb'DCGM_FI_DEV_XID_ERRORS\{gpu="%d"[^\n]*' % gpu, PAGE).group()


def test_lines_of_single_links_are_no_sum():
    body = b'DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL{gpu="0",UUID="GPU-1",link="0"} 12\nDCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1"} 40\n'
    assert read(body).snapshot.gpus[0].nvlink_bytes_per_second is None


@pytest.mark.parametrize("body", [b"", b"node_load1 1\n", b"<html>DCGM_</html>"])
def test_another_program_is_said_so(body):
    with pytest.raises(WireError, match="is it dcgm-exporter that listens there"):
        read(body)
    assert read(b"DCGM_EXP_XID_ERRORS_COUNT 0\n").snapshot.gpus == (), "its page without GPUs"


def test_our_own_page_is_read_back():
    """What we answer in dcgm-exporter's place, and how we read dcgm-exporter, agree about every unit."""
    numbers = {one.field: 40.0 for one in DCGM if one.field not in ("xids", "remapped_rows_failure")}
    memory = {"memory_used_bytes": 5 * MIB, "memory_free_bytes": 7 * MIB, "memory_reserved_bytes": MIB, "memory_total_bytes": 13 * MIB}
    gpu = GpuReading(uuid="GPU-1", index=2, name="H100", pci_bus_id="00000000:1B:00.0", remapped_rows_failure=True, **{**numbers, **memory})
    page = node_metrics(Snapshot(taken_at=1.0, hostname="dgx-a", host=HostReading(driver_version="550"), gpus=(gpu,)), "dgx-a")
    (back,) = read(page.encode()).snapshot.gpus
    for name in (*numbers, *memory, "remapped_rows_failure", "uuid", "index", "name", "pci_bus_id"):
        assert getattr(back, name) == getattr(gpu, name), name


def test_all_that_we_answer_in_its_place_are_its_default_counters():
    rows = re.findall(rb"^# TYPE (DCGM_\w+) (\w+)$", PAGE, re.MULTILINE)
    kinds = {name.decode(): kind.decode() for name, kind in rows}
    assert {one.name: one.kind for one in DCGM} == {name: kind for name, kind in kinds.items() if name not in DCGM_NOT}
    assert set(DCGM_NOT) == set(dcgm.NOT_READ)
    assert set(DCGM_LABELS) == {"DCGM_FI_DRIVER_VERSION"}
