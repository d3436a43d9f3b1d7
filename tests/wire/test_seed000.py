"""Seed 000's bodies, compared byte for byte with what its own program answered."""

from datetime import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.cluster import ClusterNow, NodeState, Target
from gpuwatch.model.series import ProcessInterval, Series
from gpuwatch.model.snapshot import GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.model.units import GIB, MIB
from gpuwatch.wire.legacy import seed000

CARD = "NVIDIA GeForce RTX 3090"
FIRST = GpuReading(
    uuid="GPU-0", index=0, name=CARD, utilization_percent=37.2, memory_utilization_percent=12.0, memory_total_bytes=24576 * MIB,
    memory_used_bytes=2048 * MIB, memory_free_bytes=22528 * MIB, temperature_celsius=41.0,
)  # fmt: skip
SECOND = GpuReading(
    uuid="GPU-1", index=1, name=CARD, utilization_percent=0.0, memory_utilization_percent=0.0, memory_total_bytes=24576 * MIB,
    memory_used_bytes=1 * MIB, memory_free_bytes=24575 * MIB, temperature_celsius=33.0,
)  # fmt: skip
MACHINE = Snapshot(taken_at=1.0, gpus=(FIRST, SECOND))
GPUS = (
    '{"gpu_util":37,"index":0,"mem_free":22528,"mem_total":24576,"mem_used":2048,"mem_util":12,"name":"NVIDIA GeForce RTX 3090","temperature":41}',
    '{"gpu_util":0,"index":1,"mem_free":24575,"mem_total":24576,"mem_used":1,"mem_util":0,"name":"NVIDIA GeForce RTX 3090","temperature":33}',
    '{"gpu_util":null,"index":2,"mem_free":null,"mem_total":null,"mem_used":null,"mem_util":null,"name":null,"temperature":null}',
)
UPLOAD = "GPU Index,GPU Name,Timestamp,Utilization %,Memory Used (MiB)"


def node(name, status, snapshot=None):
    return NodeState(Target(name, name, 7080), name, status, None, snapshot=snapshot)


def test_gpu_stats():
    assert seed000.dump(seed000.gpu_stats(MACHINE)).decode() == f"[{GPUS[0]},{GPUS[1]}]\n"


def test_a_lost_gpu_has_null_numbers():
    (gpu,) = seed000.gpu_stats(Snapshot(taken_at=1.0, gpus=(GpuReading(uuid="GPU-0", index=4, name=CARD, error="lost"),)))
    assert (gpu["index"], gpu["name"], gpu["gpu_util"], gpu["mem_used"]) == (4, CARD, None, None)


def test_cpu_live_info():
    host = HostReading(cpu_model="Intel(R) Xeon(R) Processor", cpu_percent=2.0, load_1m=1.1201171875, load_5m=1.26953125, load_15m=0.8232421875, cores_percent=(0.0, 2.0))
    body = seed000.dump(seed000.cpu_live_info(Snapshot(taken_at=1.0, host=host)))
    assert body == (
        b'{"cpu_percent":2.0,"load_avg":[1.1201171875,1.26953125,0.8232421875],"model_name":"Intel(R) Xeon(R) Processor","per_core":[0.0,2.0]}\n'
    )


def test_all_gpu_status():
    body = seed000.dump(seed000.all_gpu_status(ClusterNow(1.0, (node("CS-1", "up", MACHINE), node("CS-2", "down", MACHINE)))))
    grey = '{"gpu":null,"status":"grey"}'
    assert body.decode() == (
        f'[{{"gpus":[{{"gpu":{GPUS[0]},"status":"green"}},{{"gpu":{GPUS[1]},"status":"green"}},{{"gpu":{GPUS[2]},"status":"red"}}],'
        f'"name":"CS-1","reachable":true}},{{"gpus":[{grey},{grey},{grey}],"name":"CS-2","reachable":false}}]\n'
    )


def test_machines_with_more_than_three_gpus_show_all_and_lost_ones_are_red():
    gpus = tuple(GpuReading(uuid=f"GPU-{number}", index=number, utilization_percent=None if number == 3 else 1.0) for number in range(5))
    (server,) = seed000.all_gpu_status(ClusterNow(1.0, (node("a", "stale", Snapshot(taken_at=1.0, gpus=gpus)),)))
    assert [gpu["status"] for gpu in server["gpus"]] == ["green", "green", "green", "red", "green"]


def test_every_user_s_memory():
    first = GpuReading(uuid="GPU-0", memory_total_bytes=8 * GIB, processes=(
        ProcessReading(pid=1, user="ann", gpu_memory_bytes=1 * GIB), ProcessReading(pid=2, user="bob", gpu_memory_bytes=None),
    ))  # fmt: skip
    second = GpuReading(uuid="GPU-1", memory_total_bytes=8 * GIB, processes=(
        ProcessReading(pid=3, user="ann", gpu_memory_bytes=3 * GIB), ProcessReading(pid=4, user=None), ProcessReading(pid=5, user="bob", gpu_memory_bytes=5),
    ))  # fmt: skip
    assert seed000.user_gpu_usage(Snapshot(taken_at=1.0, gpus=(first, second))) == [
        {"username": "ann", "gpu_memory_mib": 4096, "gpu_memory_percentage": 25.0},
        {"username": "bob", "gpu_memory_mib": None, "gpu_memory_percentage": None},
    ]


def series(metric, *means):
    times = tuple(range(0, 300 * len(means), 300))
    nothing = tuple(0 if mean is None else 1 for mean in means)
    return Series(metric, "", 0, times[-1] + 300, 300, 60, times, means, means, means, nothing, nothing)


def test_history_of_a_gpu_has_no_gaps_and_no_zeros_for_them():
    found = seed000.gpu_history(1, "RTX", series("u", 2.04, None, 3.0), series("m", 1.0 * GIB, None, None), timezone.utc)
    assert found == {
        "index": 1, "name": "RTX", "timestamps": ["1970-01-01 00:00:00", "1970-01-01 00:10:00"], "utilization": [2.0, 3.0], "memory": [1024, None],
    }  # fmt: skip


def interval(user, start_at, end_at, gib):
    seconds = end_at - start_at
    return ProcessInterval("GPU-0", 1, None, user, None, None, start_at, end_at, None, (gib or 0.0) * GIB * seconds, 0.0 if gib is None else seconds)


def test_history_of_users():
    intervals = [interval("ann", 100, 700, 1.0), interval("ann", 500, 900, 2.0), interval("bob", 0, 301, None), interval(None, 0, 900, 1.0)]
    found = seed000.user_histories(intervals, 0, 1200, 300, 8 * GIB, timezone.utc)
    assert found == [
        {
            "username": "ann", "timestamps": ["1970-01-01 00:05:00", "1970-01-01 00:10:00"], "gpu_memory_mib": [1024, 3072],
            "gpu_memory_percentage": [12.5, 37.5],
        },
        {
            "username": "bob", "timestamps": ["1970-01-01 00:00:00", "1970-01-01 00:05:00"], "gpu_memory_mib": [None, None],
            "gpu_memory_percentage": [None, None],
        },
    ]  # fmt: skip


def test_the_upload_of_its_readme():
    body = seed000.dump(seed000.analyze("a.csv", [UPLOAD, "0,RTX,2025-04-29 14:18:23,2,413", "0,RTX,2025-04-29 14:18:28,0,99"]))
    assert body == b'[{"index":0,"memory":[413],"name":"RTX","timestamps":["2025-04-29 14:18:23"],"utilization":[2]}]\n'


@pytest.mark.parametrize(
    ("name", "lines", "text"),
    [
        (None, [], "No file uploaded"),
        ("", [], "No file selected"),
        ("a.txt", [UPLOAD], "File must be a CSV"),
        ("e.csv", [], "The CSV file is empty"),
        ("e.csv", ["", "  "], "The CSV file is empty"),
        (
            "b.csv",
            ["timestamp,user,pid,process_name,used_gpu_memory", "2026-11-21 23:28:46,root,19949, python, 1024MiB"],
            "Missing required columns: GPU Index, GPU Name, Timestamp, Utilization %, Memory Used (MiB)",
        ),
        ("c.csv", ["GPU Index,GPU Name,Timestamp,Memory Used (MiB)", "0,RTX,2025-04-29 14:18:23,2"], "Missing required columns: Utilization %"),
        ("d.csv", [UPLOAD], "No valid GPU data found in the CSV file"),
        ("d.csv", [UPLOAD, "0,RTX,2025-04-29 14:18:23,0,99", "x,y,z,1,2"], "No valid GPU data found in the CSV file"),
        ("d.csv", ['"' + UPLOAD], "No valid GPU data found in the CSV file"),
    ],
)
def test_errors_of_uploads(name, lines, text):
    with pytest.raises(seed000.Refused) as error:
        seed000.analyze(name, lines)
    assert str(error.value) == text


def test_logs_that_its_own_program_cannot_read():
    log = ["timestamp, index, name, utilization.gpu [%], memory.used [MiB]", "2026/11/20 03:00:00.000, 1, RTX, 37 %, 500 MiB", "2026/11/20 03:00:00.000, 0, RTX, 0 %, 0 MiB"]
    assert seed000.analyze("a.CSV", log) == [{"index": 1, "name": "RTX", "timestamps": ["2026-11-20 03:00:00"], "utilization": [37], "memory": [500]}]


@given(st.lists(st.text(max_size=60), max_size=6))
def test_any_upload(lines):
    try:
        assert seed000.analyze("a.csv", lines)
    except seed000.Refused:
        pass
