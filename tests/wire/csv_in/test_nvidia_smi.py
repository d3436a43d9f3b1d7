"""Logs of nvidia-smi: real ones of three cards, and what people and disks do to such files."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import UsageError
from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in import nvidia_smi
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import Report

UTC = ZoneInfo("UTC")
SHORT = "timestamp, index, utilization.gpu [%], memory.used [MiB]"
REAL = Path(__file__).parent / "data"


def parse(lines, *, zone=UTC, fields=()):
    report = Report()
    found = list(nvidia_smi.rows(lines, report, Clock(zone), fields))
    assert report.rows == len(found)
    return found, report


def real(name):
    return (REAL / name).read_text().splitlines()


def test_a_real_log_of_all_fields_of_an_h100():
    (row,), report = parse(real("h100_all_fields.csv"))
    assert (row.gpu, row.name, row.at) == ("GPU-00000000-0000-0000-0000-000000000000", "NVIDIA H100 80GB HBM3", 1784016773.353)
    assert row.values["utilization_percent"] == 100
    assert row.values["memory_used_bytes"] == 19818 * MIB
    assert row.values["memory_total_bytes"] == 81559 * MIB
    assert row.values["power_watts"] == 631.95
    assert row.values["temperature_celsius"] == 59
    assert row.values["sm_clock_mhz"] == 1980
    assert row.values["performance_state"] == 0
    assert row.values["throttle_mask"] == 0
    assert "fan_percent" not in row.values  # [N/A]: an H100 has none
    assert not report.refused_count
    assert "driver_version" in report.notes[0]


def test_a_real_log_with_mig_reports_no_utilization_and_so_do_we():
    (row,), _ = parse(real("h100_mig.csv"))
    assert "utilization_percent" not in row.values
    assert row.values["memory_used_bytes"] == 11125 * MIB


def test_a_real_log_of_a_geforce():
    (row,), _ = parse(real("rtx_2080_super.csv"))
    assert row.values["throttle_mask"] == 4
    assert row.values["performance_state"] == 8
    assert "ecc_corrected_errors" not in row.values
    assert row.values["power_watts"] == 39.32


def test_a_real_log_of_processes():
    found, _ = parse(real("h100_processes.csv"))
    assert [(row.pid, row.process, row.values) for row in found] == [
        (11327, "/opt/tools/memhog", {"gpu_memory_bytes": 2566 * MIB}),
        (11328, "/opt/tools/memhog", {"gpu_memory_bytes": 1542 * MIB}),
        (11345, "./gpu_burn", {"gpu_memory_bytes": 15690 * MIB}),
    ]
    assert {row.name for row in found} == {"NVIDIA H100 80GB HBM3"}
    assert all(row.user is None for row in found)


def test_several_gpus_by_turns():
    lines = [SHORT, *(f"2026/11/20 03:00:0{second}.12{gpu}, {gpu}, {gpu * 10} %, {second} MiB" for second in range(3) for gpu in range(4))]
    found, _ = parse(lines)
    assert [row.gpu for row in found[:4]] == ["index 0", "index 1", "index 2", "index 3"]
    assert len({row.at for row in found}) == 12
    assert found[-1].values == {"utilization_percent": 30.0, "memory_used_bytes": 2.0 * MIB}


def test_nounits_says_the_same():
    with_units, _ = parse([SHORT, "2026/11/20 03:00:00.123, 0, 37 %, 2048 MiB"])
    without, _ = parse([SHORT, "2026/11/20 03:00:00.123, 0, 37, 2048"])
    assert with_units == without


def test_a_log_without_a_head_needs_the_names():
    line = "2026/11/20 03:00:00.123, 0, 37, 2048"
    (row,), _ = parse([line], fields=["timestamp", "index", "utilization.gpu", "memory.used"])
    assert row.values == {"utilization_percent": 37.0, "memory_used_bytes": 2048.0 * MIB}
    with pytest.raises(UsageError, match="--fields timestamp"):
        parse([line])


def test_fields_that_do_not_fit_refuse_the_lines():
    found, report = parse(["2026/11/20 03:00:00.123, 0, 37"], fields=["timestamp", "index"])
    assert not found
    assert report.refused == [(1, "has 3 columns, the head has 2: '2026/11/20 03:00:00.123'")]


@pytest.mark.parametrize("fields", [["index", "utilization.gpu"], ["gpu"]])
def test_no_timestamp_among_the_fields(fields):
    with pytest.raises(UsageError, match="nothing says when"):
        parse(["0, 37"], fields=fields)


@pytest.mark.parametrize(
    "cell", ["[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "[GPU requires reset]", "[Requested functionality has been deprecated]", ""]
)
def test_what_is_not_reported_is_absent(cell):
    (row,), report = parse([SHORT, f"2026/11/20 03:00:00.123, 0, {cell}, 5 MiB"])
    assert row.values == {"memory_used_bytes": 5.0 * MIB}
    assert not report.refused_count


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.", "has 1 columns, the head has 4"),
        ("2026/11/20 03:00:00.123, 0, many, 5 MiB", "utilization.gpu: 'many' is not a number"),
        ("2026/11/20 03:00:00.123, 0, 1_0 %, 5 MiB", "'1_0 %' is not a number"),
        ("2026/11/20 03:00:00.123, 0, ٣ %, 5 MiB", "is not a number"),
        ("2026/11/20 03:00:00.123, 0, nan %, 5 MiB", "is not a number"),
        ("2026/11/20 03:00:00.123, 0, 101 %, 5 MiB", "101 % is more than 100"),
        ("2026/11/20 03:00:00.123, 0, -1 %, 5 MiB", "-1 is less than 0"),
        ("2026/11/20 03:00:00.123, 0, 1 %, 99999999999999999999 MiB", "out of range"),
        ("2026/11/20 03:00:00.123, one, 1 %, 5 MiB", "'one' is not a number"),
        ("2026/11/20 03:00:00.123, 0, 1 %", "has 3 columns"),
        ("2026/13/20 03:00:00.123, 0, 1 %, 5 MiB", "is not a time such as"),
        ("2026/11/20 25:00:00.123, 0, 1 %, 5 MiB", "is not a time such as"),
        ("1970/01/01 00:00:10.000, 0, 1 %, 5 MiB", "the clock was not set"),
        ("2026/11/20 03:00:00.1\0\0\0, 0, 1 %, 5 MiB", "NUL"),
        ('2026/11/20 03:00:00.123, "0, 1 %, 5 MiB', "quotation mark"),
        ("2026/11/20 03:00:00.123, 0, 1 %, " + "9" * 70_000, "longer than 65536"),
        ("," * 5000, "more than 1000 columns"),
    ],
)
def test_a_line_that_is_none_is_refused_with_its_number_and_the_others_are_kept(line, why):
    found, report = parse([SHORT, "2026/11/20 03:00:00.123, 0, 1 %, 5 MiB", line, "2026/11/20 03:00:05.123, 0, 1 %, 5 MiB"])
    assert len(found) == 2
    ((number, said),) = report.refused
    assert number == 3
    assert why in said
    assert len(said) <= 300


def test_only_a_hundred_refused_lines_are_kept_and_all_are_counted():
    _, report = parse([SHORT, *["broken"] * 5000])
    assert (len(report.refused), report.refused_count, report.lines) == (100, 5000, 5001)


def test_a_log_that_was_appended_to_with_other_fields():
    found, report = parse([
        "Fri Nov 20 03:00:00 2026", SHORT, "2026/11/20 03:00:00.000, 0, 1 %, 5 MiB", "",
        SHORT, "2026/11/20 03:00:05.000, 0, 2 %, 5 MiB",
        "temperature.gpu, uuid, timestamp", "61, GPU-1, 2026/11/20 03:00:10.000",
    ])  # fmt: skip
    assert [row.values.get("utilization_percent") for row in found] == [1, 2, None]
    assert found[2].gpu == "GPU-1"
    assert found[2].values == {"temperature_celsius": 61}
    assert [line for line, _ in report.refused] == [1]


@pytest.mark.parametrize(
    ("head", "cells", "gpu"),
    [
        ("uuid, pci.bus_id, index", "GPU-1, 00000000:01:00.0, 3", "GPU-1"),
        ("index, gpu_uuid, pci.bus_id", "3, [N/A], 00000000:01:00.0", "00000000:01:00.0"),
        ("index", "3", "index 3"),
        ("name", "NVIDIA A100", "index 0"),
    ],
)
def test_what_a_gpu_is_known_by(head, cells, gpu):
    (row,), report = parse([f"timestamp, {head}", f"2026/11/20 03:00:00.000, {cells}"])
    assert row.gpu == gpu
    assert ("all lines count as one GPU" in "".join(report.notes)) is (head == "name")


def test_the_host_is_read_where_the_log_names_it():
    (row,), _ = parse(["timestamp, index, hostname", "2026/11/20 03:00:00.000, 0, gpu7"])
    assert row.machine == "gpu7"


def test_one_reason_alone_is_no_mask_and_all_that_alarm_are():
    alarms = ["hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"]
    head = ", ".join(f"clocks_throttle_reasons.{reason}" for reason in alarms)
    (row,), _ = parse([f"timestamp, index, {head}", "2026/11/20 03:00:00.000, 0, Not Active, Active, Not Active, Not Active"])
    assert row.values == {"throttle_mask": 0x20}
    (row,), _ = parse(["timestamp, index, clocks_throttle_reasons.hw_slowdown", "2026/11/20 03:00:00.000, 0, Not Active"])
    assert row.values == {}


def test_local_times_and_the_hour_that_is_there_twice():
    berlin = ZoneInfo("Europe/Berlin")  # on 2026-10-25 at 03:00 clocks go back to 02:00
    times = ["01:59:55", "02:00:00", "02:59:55", "02:00:00", "02:59:55", "03:00:00"]
    lines = [SHORT, *(f"2026/10/25 {time}.000, {gpu}, 1 %, 5 MiB" for time in times for gpu in (0, 1))]
    found, _ = parse(lines, zone=berlin)
    for gpu in ("index 0", "index 1"):
        at = [row.at - found[0].at for row in found if row.gpu == gpu]
        assert at == [0, 5, 3600, 3605, 7200, 7205]
    (row,), _ = parse([SHORT, "2026/07/01 12:00:00.000, 0, 1 %, 5 MiB"], zone=berlin)
    assert row.at == 1782900000


@given(st.lists(st.text(max_size=80), max_size=10))
def test_any_text(lines):
    report = Report()
    try:
        found = list(nvidia_smi.rows([SHORT, *lines], report, Clock(UTC)))
    except UsageError:
        return
    assert all(re.fullmatch(r"index \d+|.{1,120}", row.gpu) for row in found)
