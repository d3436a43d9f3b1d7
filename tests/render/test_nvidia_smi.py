"""nvidia-smi's CSV: the reader of its real logs reads ours, and finds the same numbers."""

from __future__ import annotations

import csv
import io
import re
from zoneinfo import ZoneInfo

from tests.render import samples

from gpuwatch.model.view import ViewOptions
from gpuwatch.render import as_nvidia_smi
from gpuwatch.wire.csv_in import nvidia_fields, nvidia_smi
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import Report

LAB = samples.lab()
TEXT = as_nvidia_smi.cluster_nvidia_smi(LAB, ViewOptions())


def cells(text):
    return list(csv.DictReader(io.StringIO(text), skipinitialspace=True))


def test_it_looks_like_nvidia_smis():
    first = cells(TEXT)[0]
    assert first["timestamp"] == "2026/11/18 14:32:08.000"
    assert first["name"] == "NVIDIA A100-SXM4-80GB"
    assert (first["pci.bus_id"], first["pstate"], first["clocks_event_reasons.active"]) == ("00000000:10:00.0", "P0", "0x0000000000000000")
    assert (first["memory.used [MiB]"], first["power.draw [W]"], first["utilization.gpu [%]"]) == ("75878 MiB", "388.00 W", "99 %")
    assert (first["temperature.gpu"], first["fan.speed [%]"], first["serial"], first["hostname"]) == ("67", "[N/A]", "[N/A]", "dgx-a")
    assert re.fullmatch(r"timestamp, driver_version, index, .*, hostname", TEXT.partition("\n")[0])


def test_every_field_is_one_that_nvidia_smi_has():
    heads = {nvidia_smi.field_of(cell) for cell in as_nvidia_smi.HEAD.split(", ")}
    assert heads <= nvidia_fields.KNOWN | nvidia_fields.ALSO


def test_its_reader_finds_the_same_numbers():
    report = Report()
    rows = list(nvidia_smi.rows(TEXT.splitlines(keepends=True), report, Clock(ZoneInfo("Europe/Berlin"))))
    views = [view for node in LAB.nodes if node.status == "up" for view in node.gpus]
    assert report.refused_count == 0
    assert len(rows) == len(views) == report.rows
    for row, view in zip(rows, views):
        assert (row.gpu, row.machine, row.name) == (view.reading.uuid, view.host, view.reading.name)
        assert row.at == (view.reading.live_read_at or samples.NOW - 2)
        told = {field: getattr(view.reading, field) for field in set(row.values) | {field for _, _, field, _ in as_nvidia_smi.NUMBERS}}
        assert set(row.values) == {field for field, value in told.items() if value is not None}
        assert all(abs(value - told[field]) <= (2**19 if field.endswith("bytes") else 0.5) for field, value in row.values.items())


def test_old_readings_have_no_line():
    away = {node.name for node in LAB.nodes if node.status != "up"}
    assert away
    assert not away & {row["hostname"] for row in cells(TEXT)}
    assert as_nvidia_smi.host_nvidia_smi(LAB, next(node for node in LAB.nodes if node.status == "stale")) == as_nvidia_smi.HEAD


def test_a_lost_gpu_has_no_numbers():
    (lost,) = [row for row in cells(TEXT) if row["hostname"] == "gpu03" and row["index"] == "2"]
    assert {value for key, value in lost.items() if nvidia_smi.field_of(key) in nvidia_fields.NUMBERS} == {"[N/A]"}


def test_hostile_texts_stay_in_their_cells():
    hostile = samples.hostile()
    lines = as_nvidia_smi.cluster_nvidia_smi(hostile, ViewOptions()).splitlines()
    assert {line.count(",") for line in lines} == {lines[0].count(",")}
    assert len(lines) == 1 + sum(len(node.gpus) for node in hostile.nodes if node.status == "up")
