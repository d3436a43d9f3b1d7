"""What Prometheus gets: names and labels of dcgm-exporter, nothing for what is not reported, nothing old, texts that cannot break out."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from tests.render import samples
from tests.render.live import Live, by_hand, is_built

from gpuwatch.model.cluster import ClusterNow, Target
from gpuwatch.model.snapshot import CollectorStatus, DiskReading, GpuReading, HostReading, ProcessReading, Snapshot, XidEvent
from gpuwatch.render import as_prometheus, prometheus_families
from gpuwatch.render.fragments import Fragments
from gpuwatch.render.prometheus_families import ALL, DCGM, DCGM_LABELS, DCGM_NOT, Family, mebibytes, scaled, thousandfold

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINE = re.compile(r'([A-Za-z_]\w*)\{((?:[A-Za-z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\S+)')
LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')

# dcgm-exporter's etc/default-counters.csv, the lines that are no comments
DEFAULT_COUNTERS = {
    "DCGM_FI_DEV_SM_CLOCK": "gauge", "DCGM_FI_DEV_MEM_CLOCK": "gauge", "DCGM_FI_DEV_MEMORY_TEMP": "gauge", "DCGM_FI_DEV_GPU_TEMP": "gauge",
    "DCGM_FI_DEV_POWER_USAGE": "gauge", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "counter", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "counter",
    "DCGM_FI_DEV_GPU_UTIL": "gauge", "DCGM_FI_DEV_MEM_COPY_UTIL": "gauge", "DCGM_FI_DEV_ENC_UTIL": "gauge", "DCGM_FI_DEV_DEC_UTIL": "gauge",
    "DCGM_FI_DEV_XID_ERRORS": "gauge", "DCGM_FI_DEV_FB_FREE": "gauge", "DCGM_FI_DEV_FB_USED": "gauge", "DCGM_FI_DEV_FB_RESERVED": "gauge",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": "counter", "DCGM_FI_DEV_VGPU_LICENSE_STATUS": "gauge",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": "counter", "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": "counter", "DCGM_FI_DEV_ROW_REMAP_FAILURE": "gauge",
    "DCGM_FI_DRIVER_VERSION": "label", "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "gauge", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "gauge",
    "DCGM_FI_PROF_DRAM_ACTIVE": "gauge", "DCGM_FI_PROF_PCIE_TX_BYTES": "gauge", "DCGM_FI_PROF_PCIE_RX_BYTES": "gauge",
}  # fmt: skip

Sample = tuple[str, dict[str, str], float]


def parse(text: str) -> list[Sample]:
    """(name, labels, value) of each line. Each metric has one HELP and one TYPE, and its lines stand together; no series is there twice."""
    found: list[Sample] = []
    open_name, seen, series = "", set(), set()
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# EOF"):
            continue
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert rest
            if word == "HELP":
                assert name not in seen
                seen.add(open_name := name)
            assert name == open_name
            continue
        match = LINE.fullmatch(line)
        assert match, line
        assert match[1] in (open_name, f"{open_name}_total")
        assert match.group(1, 2) not in series
        series.add(match.group(1, 2))
        found.append((match[1], dict(LABEL.findall(match[2])), float(match[3])))
    return found


def text_of(cluster: ClusterNow, **options: Any) -> str:
    return "".join(as_prometheus.cluster_metrics(cluster, **options))


def value(found: list[Sample], name: str, **labels: str) -> Any:
    """The value of the one series with these labels; None = there is none."""
    values = [number for one, own, number in found if one == name and labels.items() <= own.items()]
    assert len(values) < 2, f"{name} {labels}: {values}"
    return values[0] if values else None


def promtool(text: str) -> list[str]:
    """What promtool remarks; it must be able to read it all."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, timeout=60)
    assert done.returncode in (0, 3), done.stderr.decode()
    return (done.stdout + done.stderr).decode().splitlines()


LAB = samples.lab()
FOUND = parse(text_of(LAB, processes=True))


# ---- dcgm-exporter's names


def test_every_default_counter_is_mapped_or_has_a_reason():
    ours = {family.name: family.kind for family in DCGM} | dict.fromkeys(DCGM_LABELS, "label")
    assert {name: kind for name, kind in DEFAULT_COUNTERS.items() if name not in DCGM_NOT} == ours
    assert set(DCGM_NOT) <= set(DEFAULT_COUNTERS)
    assert all(DCGM_NOT.values())


def test_units_and_labels_of_dcgm_exporter():
    gpu = GpuReading(
        "GPU-1", 3, "NVIDIA H100", 3, "0000:1b:00.0", memory_used_bytes=3 << 20, memory_free_bytes=(1 << 20) + (1 << 19), energy_joules=1234.5,
        utilization_percent=37, sm_clock_mhz=1980, graphics_activity_percent=12.5, tensor_activity_percent=7, memory_activity_percent=0,
        nvlink_bytes_per_second=2500000, pcie_sent_bytes_per_second=7, power_watts=61.5, remapped_rows_failure=False, pcie_replays=2,
    )  # fmt: skip
    snapshot = Snapshot(1.0, hostname="n1", host=HostReading(driver_version="550.1"), gpus=(gpu,), xids=(XidEvent(1, 31, "0000:1b:00.0"), XidEvent(2, 79, "0000:1b:00")))  # fmt: skip
    text = as_prometheus.node_metrics(snapshot, "n1")
    labels = '{gpu="3",UUID="GPU-1",pci_bus_id="00000000:1B:00.0",device="nvidia3",modelName="NVIDIA H100",Hostname="n1",DCGM_FI_DRIVER_VERSION="550.1"}'
    assert f"\nDCGM_FI_DEV_GPU_UTIL{labels} 37\n" in text
    found = {name: number for name, _, number in parse(text)}
    assert found["DCGM_FI_DEV_FB_USED"] == 3
    assert found["DCGM_FI_DEV_FB_FREE"] == 1
    assert found["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 1234500
    assert found["DCGM_FI_DEV_SM_CLOCK"] == 1980
    assert found["DCGM_FI_PROF_GR_ENGINE_ACTIVE"] == 0.125
    assert found["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"] == 0.07
    assert found["DCGM_FI_PROF_DRAM_ACTIVE"] == 0
    assert found["DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"] == 2.5
    assert found["DCGM_FI_PROF_PCIE_TX_BYTES"] == 7
    assert found["DCGM_FI_DEV_ROW_REMAP_FAILURE"] == 0
    assert found["DCGM_FI_DEV_PCIE_REPLAY_COUNTER"] == 2
    assert not {"DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_PROF_PCIE_RX_BYTES", "gpuwatch_gpu_state"} & set(found)


def test_xid_is_0_only_where_the_log_was_read():
    gpus = (GpuReading("GPU-1", 0, pci_bus_id="0000:1b:00.0"), GpuReading("GPU-2", 1, pci_bus_id="0000:2b:00.0"), GpuReading("GPU-3", 2))
    snapshot = Snapshot(1.0, gpus=gpus, xids=(XidEvent(1, 13, "0000:1b:00.0"), XidEvent(2, 31, "0000:1b:00.0"), XidEvent(3, 94, None)))
    for ok, others in ((True, 0.0), (False, None)):
        found = parse(as_prometheus.node_metrics(replace(snapshot, collectors=(CollectorStatus("xid", ok),)), "n1"))
        assert value(found, "DCGM_FI_DEV_XID_ERRORS", gpu="0") == 31
        assert value(found, "DCGM_FI_DEV_XID_ERRORS", gpu="1") == value(found, "DCGM_FI_DEV_XID_ERRORS", gpu="2") == others


# ---- honest


def test_what_is_not_reported_has_no_line_and_0_is_0():
    lost = LAB.nodes[4].gpus[2].reading
    assert lost.error
    own = {(name, number) for name, labels, number in FOUND if labels.get("UUID") == lost.uuid}
    assert own == {("gpuwatch_gpu_up", 0), ("gpuwatch_gpu_info", 1), ("gpuwatch_gpu_state", 1)}
    assert value(FOUND, "DCGM_FI_DEV_GPU_UTIL", Hostname="gpu03", gpu="1") == 0
    assert value(FOUND, "DCGM_FI_DEV_GPU_UTIL", Hostname="dgx-b", gpu="7") is None
    assert value(FOUND, "gpuwatch_gpu_state", Hostname="dgx-b", gpu="7", state="mig") == 1
    assert value(FOUND, "gpuwatch_gpu_memory_total_bytes", Hostname="spark") is None


def test_nodes_without_fresh_readings_are_down_and_give_no_number():
    away = {node.name: node for node in LAB.nodes if node.status != "up"}
    assert {node.status for node in away.values()} == {"stale", "down", "error", "unseen"}
    assert any(node.snapshot is not None for node in away.values())
    for node in LAB.nodes:
        assert value(FOUND, "gpuwatch_node_up", Hostname=node.name) == (node.status == "up")
    assert {name for name, labels, _ in FOUND if labels.get("Hostname") in away} == {"gpuwatch_node_up"}


def test_a_node_without_a_fresh_sample():
    assert [(name, labels.get("Hostname"), number) for name, labels, number in parse(as_prometheus.node_metrics(None, "n1"))] == [
        ("gpuwatch_build_info", None, 1), ("gpuwatch_node_up", "n1", 0),
    ]  # fmt: skip


def test_processes_only_on_request_and_never_their_arguments():
    assert "gpuwatch_process" not in text_of(LAB)
    text = text_of(LAB, processes=True)
    assert 'pid="6007",user="i.petrov",name="preprocess.py",job="8841",container="preprocess",Hostname="gpu01"} 3006477107.2\n' in text
    assert "--workers" not in text


def test_base_units():
    assert value(FOUND, "gpuwatch_host_cpu_ratio", Hostname="dgx-a") == 0.41
    assert value(FOUND, "gpuwatch_gpu_sm_clock_max_hertz", Hostname="dgx-a", gpu="0") == 1.41e9
    assert value(FOUND, "gpuwatch_gpu_power_limit_watts", Hostname="dgx-a", gpu="0") == 400
    assert value(FOUND, "gpuwatch_network_received_bytes_total", Hostname="dgx-a", interface="eno1") == 8.1e12
    assert value(FOUND, "gpuwatch_mig_sm_activity_ratio", Hostname="dgx-b", GPU_I_ID="3") == 0.35
    for family in ALL:
        if family.name.startswith("gpuwatch_"):
            assert not re.search(r"percent|mhz|celsius_.|_at$", family.name)
            assert family.name.endswith("_total") is (family.kind == "counter")
        assert family.help
        assert "\n" not in family.help


def test_every_yes_or_no_of_a_gpu_is_a_metric():
    flags = [field.name for field in fields(GpuReading) if str(field.type).startswith("bool")]
    assert {"ecc_pending", "mig_pending"} <= set(flags) <= {family.field for family in ALL}
    gpu = GpuReading(uuid="GPU-1", ecc_enabled=True, ecc_pending=False, mig_enabled=False, mig_pending=True, remapped_rows_pending=None, persistence_enabled=False, unified_memory=True)
    found = parse(as_prometheus.node_metrics(Snapshot(taken_at=1.0, gpus=(gpu,)), "n1"))
    told = {name: value(found, f"gpuwatch_gpu_{name}") for name in flags if name != "remapped_rows_failure"}
    assert told == {"ecc_enabled": 1, "ecc_pending": 0, "mig_enabled": 0, "mig_pending": 1, "remapped_rows_pending": None, "persistence_enabled": 0, "unified_memory": 1}


@pytest.mark.parametrize(("factor", "text", "wanted"), [
    (0.01, "7", "0.07"), (0.01, "null", "null"), (1000.0, "1e+20", "1" + "0" * 23), (1e6, "1410", "1410000000"), (0.01, "33.3", "0.333"),
])  # fmt: skip
def test_scaled(factor, text, wanted):
    assert float(scaled(factor)(text)) == float(wanted) if wanted != "null" else scaled(factor)(text) == wanted


def test_numbers_of_dcgm_exporters_units():
    assert [thousandfold(text) for text in ("0", "0.0", "12", "1234.5", "1e+3", "null")] == ["0", "0", "12000", "1234500", "1000000", "null"]
    assert [mebibytes(text) for text in ("0", "1048575", "1572864", "3145728.0", "1e+20", "null")] == ["0", "0", "1", "3", str(10**20 >> 20), "null"]


# ---- the format


def test_promtool_reads_it_and_remarks_nothing_about_ours():
    cluster = samples.lab()
    for text in (text_of(cluster, processes=True), as_prometheus.node_metrics(LAB.nodes[0].snapshot, "n1", processes=True), text_of(samples.hostile())):
        remarks = promtool(text)
        assert [one for one in remarks if not one.startswith("DCGM_")] == []
        kinds = {re.sub(r"^\S+ ", "", one) for one in remarks}
        assert kinds <= {'counter metrics should have "_total" suffix', "label names should be written in 'snake_case' not 'camelCase'"}


def test_hostile_texts_stay_in_their_labels():
    text = text_of(samples.hostile(), processes=True)
    assert len(parse(text)) > 20
    assert not set("\0\x1b\r\u202e") & set(text)


def test_a_text_with_everything_that_must_be_escaped():
    name = 'a"} 1\nb\\{x="y",\ud800 é'
    gpu = GpuReading(name, 0, name, processes=(ProcessReading(1, user=name, name=name, gpu_memory_bytes=1.0),))
    text = as_prometheus.node_metrics(Snapshot(1.0, gpus=(gpu,)), name, processes=True)
    found = parse(text)
    assert value(found, "gpuwatch_process_gpu_memory_bytes") == 1
    label = next(labels for one, labels, _ in found if one == "gpuwatch_node_up")["Hostname"]
    assert label == 'a\\"} 1 b\\\\{x=\\"y\\",\ufffd é'
    promtool(text)


def test_no_series_twice():
    disks = (DiskReading("/a", used_bytes=1.0), DiskReading("/a", used_bytes=2.0), DiskReading("/b", used_bytes=3.0))
    snapshot = Snapshot(1.0, host=HostReading(disks=disks), collectors=(CollectorStatus("x"), CollectorStatus("x", False)))
    found = parse(as_prometheus.node_metrics(snapshot, "n1"))
    assert [number for name, _, number in found if name == "gpuwatch_disk_used_bytes"] == [1, 3]


def test_openmetrics():
    text = text_of(LAB, processes=True, openmetrics=True)
    assert text.endswith("\n# EOF\n")
    assert parse(text) == FOUND
    assert "# TYPE gpuwatch_network_received_bytes counter\n" in text
    assert "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION unknown\n" in Family("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "x", "").head(True)
    assert as_prometheus.wants_openmetrics("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert not as_prometheus.wants_openmetrics("*/*")


# ---- live nodes, from their flat values


def test_live_nodes_give_what_their_readings_give_without_building_them():
    live, cache = Live(), Fragments()
    for poll in range(6):
        live.poll(live.numbers if poll else None, without=("dgx-a",) if poll > 2 else ())
        now = live.cluster()
        fast = [text_of(now, processes=processes, cache=cache) for processes in (False, True)]
        assert any(not is_built(node) for node in now.nodes if node.status == "up")
        assert fast == [text_of(by_hand(now), processes=processes) for processes in (False, True)]
    assert value(parse(fast[0]), "gpuwatch_node_up", Hostname="dgx-a") == 0


def test_a_target_that_changes_its_tags():
    live, cache = Live(), Fragments()
    live.poll()
    text_of(live.cluster(), cache=cache)
    node = next(iter(live.nodes.values()))
    live.latest.set_targets([(Target(node.name, "h", 1, tags=("new",)), node.machine_id)], live.now)
    assert 'tags="new"' in text_of(live.cluster(), cache=cache)


# ---- docs/prometheus.md, docs/grafana


def test_the_tables_in_the_docs():
    path = DOCS / "prometheus.md"
    text = path.read_text(encoding="utf-8")
    wanted = text
    for name, table in prometheus_families.docs_tables().items():
        assert f"<!-- table: {name} -->" in text
        wanted = re.sub(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", lambda match, table=table: f"{match[1]}{table}\n{match[2]}", wanted, flags=re.DOTALL)
    if os.environ.get("GOLDEN_UPDATE") == "1":
        path.write_text(wanted, encoding="utf-8")
        return
    assert text == wanted, "GOLDEN_UPDATE=1 writes the tables anew"


def test_the_dashboard_asks_for_metrics_and_labels_that_exist():
    board = json.loads((DOCS / "grafana" / "gpuwatch.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    queries += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    assert len(queries) > 12
    known = {family.name for family in ALL}
    labels = {label for _, own, _ in FOUND for label in own} | {"instance", "job"}
    for query in queries:
        names = set(re.findall(r"\b(?:DCGM|gpuwatch)_\w+", query)) - set(DCGM_LABELS)
        assert names, query
        assert names <= known, query
        asked = re.findall(r"(\w+)=~?\"", query) + re.findall(r"(?:by|on|group_left) ?\(([\w, ]+)\)", query)
        assert {name.strip() for one in asked for name in one.split(",")} <= labels, query
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
