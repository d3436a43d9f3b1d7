"""The other text formats: AccessGrid's upload and logs, and our own export."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState, Target
from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import GpuReading, ProcessReading
from gpuwatch.model.units import MIB
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.as_csv import cluster_csv
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import Report
from gpuwatch.wire.csv_in.sniff import FIRST_LINES, FORMATS, parse, sniff

DATA = Path(__file__).parent / "data"
UTC = ZoneInfo("UTC")
UPLOAD = "GPU Index,GPU Name,Timestamp,Utilization %,Memory Used (MiB)"


def read(format, lines, fields=()):
    report = Report()
    return list(parse(format, lines, report, Clock(UTC), fields)), report


def data(name):
    return (DATA / name).read_text().splitlines()


def test_accessgrid_s_upload():
    (row,), _ = read("accessgrid-upload", [UPLOAD, "0,RTX,2025-04-29 14:18:23,2,413"])
    assert row == (1745936303.0, "", "index 0", "RTX", {"utilization_percent": 2.0, "memory_used_bytes": 413.0 * MIB}, None, None, None)


@pytest.mark.parametrize(
    "line", ["x,RTX,2025-04-29 14:18:23,2,413", ",RTX,2025-04-29 14:18:23,2,413", "0,RTX,yesterday,2,413", "0,RTX,2025-04-29 14:18:23,2"]
)
def test_a_line_of_an_upload_that_is_none(line):
    found, report = read("accessgrid-upload", [UPLOAD, line, "0,RTX,2025-04-29 14:18:23,2,413"])
    assert (len(found), report.refused[0].line) == (1, 2)


def test_accessgrid_s_log_of_processes():
    (row,), _ = read("accessgrid-processes", data("accessgrid_processes.csv"))
    assert row == (1795303726.0, "", "", None, {"gpu_memory_bytes": 1024.0 * MIB}, "root", 19949, "python")


def test_accessgrid_s_log_of_both():
    found, report = read("accessgrid-log", data("accessgrid_log.csv"))
    assert [(row.gpu, row.user, row.pid) for row in found] == [("index 0", None, None), ("index 1", None, None), ("", "root", 19949)]
    assert found[0].values == {
        "utilization_percent": 37.0, "memory_utilization_percent": 12.0, "memory_total_bytes": 24576.0 * MIB,
        "memory_used_bytes": 2048.0 * MIB, "memory_free_bytes": 22528.0 * MIB, "temperature_celsius": 41.0,
    }  # fmt: skip
    assert found[2].values == {"gpu_memory_bytes": 1024.0 * MIB}
    assert not report.refused_count


def test_our_own_export_comes_back():
    process = ProcessReading(pid=7, user="ann"), ProcessReading(pid=8, user="=bob")
    reading = GpuReading(
        uuid="GPU-1", name="=HYPER, Inc", utilization_percent=37.5, memory_used_bytes=2 * MIB, power_watts=None, fan_percent=0, processes=process
    )
    view = GpuView("gpu,1", reading, GpuState("busy", None))
    node = NodeState(Target("gpu,1", "gpu1", 7080), "1", "up", None, received_at=1795000000.25, gpus=(view,))
    empty = NodeState(Target("empty", "e", 1), "2", "down", None)
    text = cluster_csv(ClusterNow(1795000001.0, (node, empty)), ViewOptions())
    lines = text.splitlines()
    assert sniff(lines).format == "gpuwatch"
    found, report = read("gpuwatch", lines)
    assert not report.refused_count
    assert found[0][:4] == (1795000000.25, "gpu,1", "GPU-1", "=HYPER, Inc")
    assert found[0].values == {"utilization_percent": 37.5, "memory_used_bytes": 2.0 * MIB, "fan_percent": 0.0}
    assert [(row.user, row.values) for row in found[1:]] == [("ann", {}), ("=bob", {})]


def test_an_export_of_milliseconds_is_refused():
    found, report = read("gpuwatch", ["host,node_status,received_at,uuid", "a,up,1795000000250,GPU-1", "a,up,,GPU-1"])
    assert not found
    assert "2000 and 2100" in report.refused[0].why
    assert report.refused[1].why == "received_at is not there"


def test_a_head_that_lacks_a_column_is_named():
    with pytest.raises(UsageError, match=r"no column Memory Used \(MiB\)"):
        read("accessgrid-upload", ["GPU Index,GPU Name,Timestamp,Utilization %", "0,RTX,2025-04-29 14:18:23,2"])


@pytest.mark.parametrize(
    ("lines", "format"),
    [
        (data("h100_all_fields.csv"), "nvidia-smi"),
        (data("h100_processes.csv"), "nvidia-smi"),
        (["", "NVIDIA-SMI has failed", "timestamp, utilization.gpu [%]"], "nvidia-smi"),
        ([UPLOAD], "accessgrid-upload"),
        (["\ufeff" + UPLOAD.lower()], "accessgrid-upload"),
        (data("accessgrid_processes.csv"), "accessgrid-processes"),
        (data("accessgrid_log.csv"), "accessgrid-log"),
        (["a,b,c", "1,2,3"], ""),
        ([], ""),
        (["\0" * 100], ""),
        (["index, utilization.gpu [%]", "0, 1 %"], ""),
    ],
)
def test_the_format_is_told_from_the_first_lines(lines, format):
    found = sniff(lines[:FIRST_LINES])
    assert found.format == format
    assert found.why.endswith(".")
    assert not found.needs_fields
    assert not format or format in FORMATS


def test_a_log_without_a_head_asks_for_its_fields():
    found = sniff(["2026/11/20 03:00:00.123, 0, 37 %"])
    assert (found.format, found.needs_fields) == ("nvidia-smi", True)
    assert "--fields" in found.why


def test_fields_of_nvidia_smi_without_a_time():
    assert "no timestamp" in sniff(["index, utilization.gpu [%]"]).why


def test_an_unknown_format_is_refused_by_name():
    with pytest.raises(UsageError, match=r"'xls'.*nvidia-smi"):
        read("xls", [])
