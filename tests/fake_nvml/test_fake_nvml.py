"""The fake driver, asked by the real nvidia-ml-py in processes of their own: each profile's figures, each fault, the counts.

Expected figures are literals from the recordings of the real cards, in NVML's units.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest
from tests.fake_nvml import CACHE, FAULTS, FIELDS, OLD_DRIVER_LACKS, PROFILES, FakeDriver, build

REPOSITORY = Path(__file__).resolve().parents[2]
MIB = 1 << 20
NONE = 2**32 - 1

# Reads one expression a line and answers its value, or the name of the NVML error that it raised.
ASKED = """
import ctypes, json, sys
import pynvml as n
def plain(x):
    if hasattr(x, "__dict__") and not isinstance(x, ctypes.Structure):
        return {k: plain(v) for k, v in vars(x).items()}
    if isinstance(x, ctypes.Structure):
        return {f[0]: plain(getattr(x, f[0])) for f in x._fields_}
    if isinstance(x, (list, tuple)):
        return [plain(y) for y in x]
    if isinstance(x, bytes):
        return x.decode("latin-1")
    return x if isinstance(x, (int, float, str, type(None))) else getattr(x, "value", None)
def field(h, i):
    v = n.nvmlDeviceGetFieldValues(h, [i])[0]
    if v.nvmlReturn:
        raise n.NVMLError(v.nvmlReturn)
    return {1: v.value.uiVal, 3: v.value.ullVal, 5: v.value.siVal}[v.valueType]
def gpm(take, ids):
    one, two, get = n.nvmlGpmSampleAlloc(), n.nvmlGpmSampleAlloc(), n.c_nvmlGpmMetricsGet_t()
    take(one); take(two)
    get.version, get.numMetrics, get.sample1, get.sample2 = n.NVML_GPM_METRICS_GET_VERSION, len(ids), one, two
    for i, m in enumerate(ids):
        get.metrics[i].metricId = m
    n.nvmlGpmMetricsGet(get)
    n.nvmlGpmSampleFree(one); n.nvmlGpmSampleFree(two)
    return [m.value if not m.nvmlReturn else None for m in get.metrics[:len(ids)]]
names = {"n": n, "field": field, "gpm": gpm, "h": [], "ctypes": ctypes}
for line in sys.stdin:
    try:
        answer = {"value": plain(eval(line, names))}
    except n.NVMLError as error:
        answer = {"error": type(error).__name__.replace("NVMLError_", "")}
    except Exception as error:
        answer = {"error": type(error).__name__}
    print(json.dumps(answer), flush=True)
"""


class Asked:
    """A process with nvidia-ml-py under a fake driver; `h` there are the handles by index."""

    def __init__(self, fake: FakeDriver, start: bool = True) -> None:
        environment = {**os.environ, **fake.env}
        command = [sys.executable, "-c", ASKED]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        if start:
            self("n.nvmlInit()")
            self("h.extend(n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount()))")

    def send(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression.encode() + b"\n")
        self.process.stdin.flush()

    def receive(self, seconds: float = 60) -> Any:
        """The answer: a value, "!Error", or "..." when none came in time."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return "..."
        line = self.process.stdout.readline()
        if not line:
            return "(dead)"
        answer = json.loads(line)
        return answer["value"] if "value" in answer else "!" + answer["error"]

    def is_deaf(self) -> bool:
        """It hears no SIGTERM now."""
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            blocked = next(line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk:"))
            if not int(blocked.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return False
        return True

    def __call__(self, expression: str) -> Any:
        self.send(expression)
        return self.receive()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Asked]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes under a fake driver, and ends them with the test."""
    started: List[Asked] = []

    def begin(fake: FakeDriver, start: bool = True) -> Asked:
        started.append(Asked(fake, start))
        return started[-1]

    yield begin
    for asked in started:
        asked.end()


# ---- what the cards are ----


def test_h100_figures_are_those_of_the_loaded_card(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path))
    assert ask("n.nvmlDeviceGetCount()") == 8
    assert ask("n.nvmlSystemGetDriverVersion()") == "590.48.01"
    assert ask("n.nvmlSystemGetCudaDriverVersion_v2()") == 13010
    assert ask("n.nvmlDeviceGetName(h[0])") == "NVIDIA H100 80GB HBM3"
    assert ask("n.nvmlDeviceGetVbiosVersion(h[0])") == "96.00.A5.00.01"
    assert ask("n.nvmlDeviceGetBoardPartNumber(h[0])") == "692-2G520-0200-000"
    assert ask("[n.nvmlDeviceGetBrand(h[0]), n.nvmlDeviceGetArchitecture(h[0])]") == [14, 9]
    assert ask("n.nvmlDeviceGetCudaComputeCapability(h[0])") == [9, 0]
    memory = ask("n.nvmlDeviceGetMemoryInfo(h[0], n.nvmlMemory_v2)")
    assert memory["total"] == 81559 * MIB == memory["used"] + memory["free"] + memory["reserved"]
    assert [-(-memory[key] // MIB) for key in ("reserved", "used", "free")] == [479, 19818, 61263]
    assert ask("n.nvmlDeviceGetUtilizationRates(h[0])") == {"gpu": 100, "memory": 11}
    assert ask("n.nvmlDeviceGetEncoderUtilization(h[0])[0]") == 0
    assert ask("n.nvmlDeviceGetTemperature(h[0], 0)") == 59 == ask("n.nvmlDeviceGetTemperatureV(h[0], 0)")
    assert ask("n.nvmlDeviceGetMarginTemperature(h[0])") == 26
    assert ask("field(h[0], n.NVML_FI_DEV_MEMORY_TEMP)") == 55
    assert ask("[field(h[0], i) for i in (193, 194, 195, 196)]") == [-8, -2, 0, 0]
    assert ask("n.nvmlDeviceGetTemperatureThreshold(h[0], 0)") == "!NotSupported"
    assert ask("n.nvmlDeviceGetPowerUsage(h[0])") == 629450
    assert ask("[field(h[0], n.NVML_FI_DEV_POWER_AVERAGE), field(h[0], n.NVML_FI_DEV_POWER_INSTANT)]") == [629450, 588390]
    assert ask("field(h[0], (n.NVML_FI_DEV_POWER_AVERAGE, 2))") == 85830
    assert ask("field(h[0], (n.NVML_FI_DEV_POWER_AVERAGE, 1))") == "!NotSupported"
    assert ask("n.nvmlDeviceGetEnforcedPowerLimit(h[0])") == 700000
    assert ask("n.nvmlDeviceGetPowerManagementLimitConstraints(h[0])") == [200000, 700000]
    assert ask("[n.nvmlDeviceGetClockInfo(h[0], i) for i in range(4)]") == [1980, 1980, 2619, 1545]
    assert ask("n.nvmlDeviceGetFanSpeed(h[0])") == "!NotSupported"
    assert ask("n.nvmlDeviceGetNumFans(h[0])") == "!NotSupported"
    assert ask("n.nvmlDeviceGetCurrentClocksEventReasons(h[0])") == 0
    assert ask("n.nvmlDeviceGetSupportedClocksThrottleReasons(h[0])") == 0x1FF
    assert ask("[n.nvmlDeviceGetPcieThroughput(h[0], 0), n.nvmlDeviceGetPcieThroughput(h[0], 1)]") == [3092, 6346]
    assert ask("[n.nvmlDeviceGetCurrPcieLinkGeneration(h[0]), n.nvmlDeviceGetMaxPcieLinkWidth(h[0])]") == [5, 16]
    assert ask("n.nvmlDeviceGetPcieReplayCounter(h[0])") == 9
    assert ask("n.nvmlDeviceGetEccMode(h[0])") == [1, 1]
    assert ask("n.nvmlDeviceGetTotalEccErrors(h[0], 1, 1)") == 0
    assert ask("n.nvmlDeviceGetMemoryErrorCounter(h[0], 0, 0, n.NVML_MEMORY_LOCATION_SRAM)") == 0
    assert ask("n.nvmlDeviceGetMemoryErrorCounter(h[0], 0, 0, n.NVML_MEMORY_LOCATION_L2_CACHE)") == "!NotSupported"
    assert ask("n.nvmlDeviceGetRemappedRows(h[0])") == [0, 0, 0, 0]
    assert ask("n.nvmlDeviceGetRowRemapperHistogram(h[0])")["max"] == 2560
    assert ask("n.nvmlDeviceGetRetiredPages(h[0], 0)") == "!NotSupported"
    assert ask("n.nvmlDeviceGetMigMode(h[0])") == [0, 0]
    assert ask("n.nvmlDeviceGetMaxMigDeviceCount(h[0])") == 0
    assert ask("n.nvmlDeviceGetPersistenceMode(h[0])") == 1
    assert ask("sum(n.nvmlDeviceGetNvLinkState(h[0], i) for i in range(18))") == 18
    assert ask("n.nvmlDeviceGetNvLinkState(h[0], 18)") == "!InvalidArgument"


def test_h100_figures_are_those_of_the_idle_card(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path))
    assert ask("n.nvmlDeviceGetUtilizationRates(h[7])") == {"gpu": 0, "memory": 0}
    assert ask("n.nvmlDeviceGetMemoryInfo(h[7], n.nvmlMemory_v2)")["used"] == 0
    assert ask("n.nvmlDeviceGetMemoryInfo(h[7])")["used"] == 501743616  # version 1 counts the driver's reserve
    assert ask("n.nvmlDeviceGetPowerUsage(h[7])") == 69850
    assert ask("[n.nvmlDeviceGetTemperature(h[7], 0), field(h[7], 82)]") == [41, 48]
    assert ask("n.nvmlDeviceGetCurrentClocksThrottleReasons(h[7])") == 1
    assert ask("n.nvmlDeviceGetComputeRunningProcesses(h[7])") == []
    assert ask("n.nvmlDeviceGetProcessUtilization(h[7], 0)") == "!NotFound"


def test_the_eight_cards_are_distinct_and_found_by_each_identity(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path))
    for function in ("UUID", "Serial", "MinorNumber"):
        assert len(set(ask(f"[n.nvmlDeviceGet{function}(x) for x in h]"))) == 8
    assert ask("[n.nvmlDeviceGetIndex(x) for x in h]") == list(range(8))
    assert ask("[n.nvmlDeviceGetMinorNumber(x) for x in h]") != list(range(8))
    pci = ask("n.nvmlDeviceGetPciInfo(h[3])")
    assert (pci["busId"], pci["busIdLegacy"], pci["bus"]) == ("00000000:61:00.0", "0000:61:00.0", 0x61)
    assert (pci["pciDeviceId"], pci["pciSubSystemId"]) == (0x233010DE, 0x16C110DE)
    assert ask("n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId('0000:61:00.0'))") == 3
    assert ask("n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h[5])))") == 5
    assert ask("n.nvmlDeviceGetHandleByUUID('GPU-0')") == "!NotFound"
    assert ask("n.nvmlDeviceGetHandleByIndex(8)") == "!InvalidArgument"


def test_processes_in_each_layout(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path))
    expected = [(11327, 2566 * MIB), (11328, 1542 * MIB), (11345, 15690 * MIB)]
    for version in ("", "_v2", "_v3"):
        rows = ask(f"n.nvmlDeviceGetComputeRunningProcesses{version}(h[0])")
        assert [(row["pid"], row["usedGpuMemory"]) for row in rows] == expected
        assert {row["gpuInstanceId"] for row in rows} == {NONE}
    oldest = ask("(a := (ctypes.c_ulonglong * 8)(), c := ctypes.c_uint(4), n.nvmlLib.nvmlDeviceGetComputeRunningProcesses"
                 "(h[0], ctypes.byref(c), a), c.value, list(a))[2:]")  # fmt: skip
    assert oldest[:2] == [0, 3]
    assert [(oldest[2][i] % 2**32, oldest[2][i + 1]) for i in (0, 2, 4)] == expected
    detail = ask("n.nvmlDeviceGetRunningProcessDetailList(h[0], n.nvmlProcessDetailList_v1, 0)")
    assert [(row["pid"], row["usedGpuMemory"]) for row in detail] == expected
    assert ask("n.nvmlDeviceGetGraphicsRunningProcesses(h[0])") == []
    assert ask("n.nvmlSystemGetProcessName(11345)") == "./gpu_burn"
    assert ask("n.nvmlSystemGetProcessName(4194305)") == "!NotFound"


def test_process_utilization_knows_what_was_seen(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path))
    [row] = ask("n.nvmlDeviceGetProcessUtilization(h[0], 0)")
    assert (row["pid"], row["smUtil"], row["memUtil"], row["encUtil"]) == (11345, 99, 10, 0)
    assert row["timeStamp"] > 1_600_000_000_000_000
    assert ask(f"n.nvmlDeviceGetProcessUtilization(h[0], {row['timeStamp'] + 60_000_000})") == "!NotFound"
    assert ask("n.nvmlDeviceGetProcessesUtilizationInfo(h[0], 0)")[0]["smUtil"] == 99
    size = "(c := ctypes.c_uint(0), n.nvmlLib.nvmlDeviceGetProcessUtilization(h[{}], None, ctypes.byref(c), ctypes.c_ulonglong(0)), c.value)[1:]"
    assert ask(size.format(0)) == [7, 100] == ask(size.format(7))
    kind, samples = ask("n.nvmlDeviceGetSamples(h[0], n.NVML_GPU_UTILIZATION_SAMPLES, 0)")
    assert kind == 1
    assert len(samples) == 20
    assert ask(f"n.nvmlDeviceGetSamples(h[0], 1, {samples[-1]['timeStamp'] + 60_000_000})") == "!NotFound"


def test_mig_slices_are_as_recorded(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path, profile="h100-mig"))
    ask("[m.append(n.nvmlDeviceGetMigDeviceHandleByIndex(h[0], i)) for m in [globals().setdefault('m', [])] for i in range(4)]")
    assert ask("n.nvmlDeviceGetMigMode(h[0])") == [1, 1]
    assert ask("n.nvmlDeviceGetMaxMigDeviceCount(h[0])") == 7
    assert ask("n.nvmlDeviceGetMigDeviceHandleByIndex(h[0], 4)") == "!NotFound"
    assert ask("n.nvmlDeviceGetUtilizationRates(h[0])") == "!NotSupported"
    assert ask("n.nvmlDeviceGetDecoderUtilization(h[0])") == "!NotSupported"
    assert ask("n.nvmlDeviceGetRemappedRows(h[0])") == "!NotSupported"
    assert ask("n.nvmlDeviceGetProcessUtilization(h[0], 0)") == "!NotSupported"
    assert ask("n.nvmlDeviceGetPowerUsage(h[0])") == 432210
    assert ask("n.nvmlDeviceGetName(m[0])") == "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    assert ask("[n.nvmlDeviceGetGpuInstanceId(x) for x in m]") == [2, 3, 9, 10]
    assert ask("[n.nvmlDeviceGetComputeInstanceId(x) for x in m]") == [0, 0, 0, 0]
    memory = ask("[n.nvmlDeviceGetMemoryInfo(x, n.nvmlMemory_v2) for x in m]")
    assert [part["total"] // MIB for part in memory] == [40448, 20096, 9984, 9984]
    assert [-(-part["used"] // MIB) for part in memory] == [11091, 17, 9, 9]
    assert [-(-part["free"] // MIB) for part in memory] == [29357, 20080, 9976, 9976]
    attributes = ask("[n.nvmlDeviceGetAttributes_v2(x) for x in m]")
    assert [part["multiprocessorCount"] for part in attributes] == [60, 32, 16, 16]
    assert [part["gpuInstanceSliceCount"] for part in attributes] == [3, 2, 1, 1]
    assert attributes[0]["memorySizeMB"] == 40448
    assert ask("n.nvmlDeviceGetTemperature(m[0], 0)") == "!NotSupported"
    assert ask("[n.nvmlDeviceIsMigDeviceHandle(x).value for x in (m[0], h[0])]") == [1, 0]
    assert ask("n.nvmlDeviceGetIndex(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m[3]))") == 0
    assert ask("n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(m[2])))") == 2
    rows = ask("n.nvmlDeviceGetComputeRunningProcesses(h[0])")
    assert [(row["pid"], row["usedGpuMemory"] // MIB, row["gpuInstanceId"], row["computeInstanceId"]) for row in rows] == [
        (21180, 2296, 2, 0), (21181, 1272, 2, 0), (21198, 7484, 2, 0)]  # fmt: skip
    assert ask("n.nvmlDeviceGetComputeRunningProcesses(m[0])") == rows
    assert ask("n.nvmlDeviceGetComputeRunningProcesses(m[1])") == []
    assert ask("gpm(lambda s: n.nvmlGpmMigSampleGet(h[0], 2, s), [2, 5, 14])") == [97.0, 60.0, None]
    assert ask("gpm(lambda s: n.nvmlGpmMigSampleGet(h[0], 7, s), [2])") == "!InvalidArgument"


def test_slices_come_and_go(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path, profile="h100-mig")
    ask = start(fake)
    fake.remove_mig(0, 0)
    assert ask("n.nvmlDeviceGetGpuInstanceId(n.nvmlDeviceGetMigDeviceHandleByIndex(h[0], 0))") == 3
    fake.set_mig(0, 3, uuid="MIG-new", gpu_instance_id=1, compute_instance_id=0)
    assert ask("n.nvmlDeviceGetUUID(n.nvmlDeviceGetMigDeviceHandleByIndex(h[0], 3))") == "MIG-new"


def test_rtx_4080_super(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path, profile="rtx4080s"))
    assert ask("n.nvmlDeviceGetName(h[0])") == "NVIDIA GeForce RTX 4080 SUPER"
    assert ask("[n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetCudaDriverVersion()]") == ["595.71.05", 13020]
    memory = ask("n.nvmlDeviceGetMemoryInfo(h[0], n.nvmlMemory_v2)")
    assert [-(-memory[key] // MIB) for key in ("total", "reserved", "used", "free")] == [16376, 434, 1474, 14470]
    assert ask("n.nvmlDeviceGetUtilizationRates(h[0])") == {"gpu": 7, "memory": 2}
    assert ask("n.nvmlDeviceGetEncoderUtilization(h[0])[0]") == 72
    assert ask("n.nvmlDeviceGetEncoderStats(h[0])") == [2, 184, 62844]
    assert ask("[n.nvmlDeviceGetTemperatureThreshold(h[0], i) for i in (0, 1, 3, 5)]") == [101, 96, 90, 84]
    assert ask("n.nvmlDeviceGetTemperatureThreshold(h[0], 2)") == "!NotSupported"
    assert ask("[n.nvmlDeviceGetPowerUsage(h[0]), field(h[0], 186)]") == [84030, 86410]
    assert ask("[n.nvmlDeviceGetFanSpeed_v2(h[0], i) for i in range(n.nvmlDeviceGetNumFans(h[0]))]") == [0, 0]
    assert ask("n.nvmlDeviceGetPerformanceState(h[0])") == 2
    for call in ("Serial(h[0])", "BoardPartNumber(h[0])", "EccMode(h[0])", "MigMode(h[0])", "RemappedRows(h[0])",
                 "NvLinkState(h[0], 0)", "TotalEccErrors(h[0], 0, 0)"):  # fmt: skip
        assert ask(f"n.nvmlDeviceGet{call}") == "!NotSupported"
    assert ask("field(h[0], n.NVML_FI_DEV_MEMORY_TEMP)") == "!NotSupported"
    assert ask("n.nvmlGpmQueryDeviceSupport(h[0]).isSupportedDevice") == 0
    compute = [row["pid"] for row in ask("n.nvmlDeviceGetComputeRunningProcesses(h[0])")]
    graphics = [row["pid"] for row in ask("n.nvmlDeviceGetGraphicsRunningProcesses(h[0])")]
    assert (compute, graphics) == ([2165, 5021, 5022], [2165, 2496, 2620, 2954, 3527])  # 2165 is C+G
    assert [(row["pid"], row["encUtil"]) for row in ask("n.nvmlDeviceGetProcessUtilization(h[0], 0)")] == [(5021, 15), (5022, 54)]


def test_rtx_2080_super(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path, profile="rtx2080s"))
    assert ask("n.nvmlDeviceGetName(h[0])") == "NVIDIA GeForce RTX 2080 SUPER"
    memory = ask("n.nvmlDeviceGetMemoryInfo(h[0], n.nvmlMemory_v2)")
    assert [-(-memory[key] // MIB) for key in ("total", "reserved", "used", "free")] == [8192, 408, 819, 6967]
    assert ask("n.nvmlDeviceGetPowerUsage(h[0])") == 98550
    assert ask("field(h[0], n.NVML_FI_DEV_POWER_AVERAGE)") == "!NotSupported"
    assert ask("n.nvmlDeviceGetFanSpeed(h[0])") == 38
    assert ask("n.nvmlDeviceGetViolationStatus(h[0], n.NVML_PERF_POLICY_POWER)")["violationTime"] == 221310321000
    assert ask("n.nvmlDeviceGetViolationStatus(h[0], n.NVML_PERF_POLICY_THERMAL)") == "!NotSupported"
    assert ask("[n.nvmlDeviceGetCurrPcieLinkGeneration(h[0]), n.nvmlDeviceGetPciInfo(h[0]).bus]") == [3, 0x0C]
    assert ask("n.nvmlDeviceGetEncoderUtilization(h[0])[0]") == 100
    assert ask("n.nvmlDeviceGetNvLinkState(h[0], 0)") == 0


def test_a_driver_without_gpus_and_no_driver(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path / "a", profile="none"), start=False)
    assert ask("n.nvmlInit()") is None
    assert ask("n.nvmlDeviceGetCount()") == 0
    fake = FakeDriver(tmp_path / "b", profile="no-driver")
    assert start(fake, start=False)("n.nvmlInit()") == "!DriverNotLoaded"
    assert not (fake.root / "proc/driver/nvidia/version").exists()


def test_gpm_needs_samples_of_one_gpu_and_perhaps_rights(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    assert ask("n.nvmlGpmQueryDeviceSupport(h[0]).isSupportedDevice") == 1
    assert ask("gpm(lambda s: n.nvmlGpmSampleGet(h[0], s), [2, 10, 33])") == [97.5, 10.4, None]
    assert ask("gpm(lambda s: None, [2])") == "!InvalidArgument"
    fake.set(0, gpm_supported="!NO_PERMISSION", gpm_sm_activity_percent=12.5)
    assert ask("gpm(lambda s: n.nvmlGpmSampleGet(h[0], s), [2])") == "!NoPermission"
    fake.set(0, gpm_supported=1)
    assert ask("gpm(lambda s: n.nvmlGpmSampleGet(h[0], s), [2])") == [12.5]


def test_version_words_are_checked(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path))
    wrong = "(m := n.c_nvmlMemory_v2_t(), n.nvmlLib.nvmlDeviceGetMemoryInfo_v2(h[0], ctypes.byref(m)))[1]"
    assert ask(wrong) == 25
    assert ask("n.nvmlLib.nvmlDeviceGetMemoryInfo(ctypes.c_void_p(12345), ctypes.byref(n.c_nvmlMemory_t()))") == 2


def test_an_old_driver_lacks_the_new_functions(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path / "old", old_driver=True))
    for name in ("MemoryInfo(h[0], n.nvmlMemory_v2)", "ComputeRunningProcesses_v3(h[0])", "CurrentClocksEventReasons(h[0])"):
        assert ask(f"n.nvmlDeviceGet{name}") == "!FunctionNotFound"
    assert ask("n.nvmlGpmQueryDeviceSupport(h[0])") == "!FunctionNotFound"
    assert ask("n.nvmlDeviceGetMemoryInfo(h[7])")["used"] == 501743616
    assert len(ask("n.nvmlDeviceGetComputeRunningProcesses_v2(h[0])")) == 3
    assert ask("n.nvmlDeviceGetCurrentClocksThrottleReasons(h[7])") == 1
    older = start(FakeDriver(tmp_path / "older", without=[*OLD_DRIVER_LACKS, "nvmlDeviceGetComputeRunningProcesses_v2"]))
    assert older("n.nvmlDeviceGetComputeRunningProcesses_v2(h[0])") == "!FunctionNotFound"


# ---- what changes while a process runs ----


def test_fields_change_under_a_running_process(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.set(2, temperature_celsius=77, power_milliwatts=None, energy_millijoules=2**63 + 5, nvlink_states=[1, 0, 1])
    assert ask("n.nvmlDeviceGetTemperature(h[2], 0)") == 77
    assert ask("n.nvmlDeviceGetTemperature(h[1], 0)") == 41
    assert ask("n.nvmlDeviceGetPowerUsage(h[2])") == "!NotSupported"
    assert ask("n.nvmlDeviceGetTotalEnergyConsumption(h[2])") == 2**63 + 5
    assert ask("[n.nvmlDeviceGetNvLinkState(h[2], i) for i in range(3)]") == [1, 0, 1]
    fake.set(2, power_milliwatts="!RESET_REQUIRED")
    assert ask("n.nvmlDeviceGetPowerUsage(h[2])") == "!ResetRequired"
    with pytest.raises(ValueError, match="temprature"):
        fake.set(0, temprature=1)
    with pytest.raises(ValueError, match="line break"):
        fake.set(0, name="a\nb")


def test_every_field_of_every_profile_is_known(tmp_path: Path) -> None:
    assert set(PROFILES) == {"h100x8", "h100-mig", "rtx4080s", "rtx2080s", "none", "no-driver"}
    for profile in PROFILES:
        fake = FakeDriver(tmp_path / profile, profile=profile)
        done = subprocess.run([sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"], env={**os.environ, **fake.env},
                              stderr=subprocess.PIPE, check=False)  # fmt: skip
        assert b"fake_nvml" not in done.stderr
        for gpu in range(fake.gpu_count):
            assert {name for name in FIELDS if fake.get(gpu, name)} >= {"name", "uuid", "pci_bus_id", "memory_total_bytes"}


def test_processes_change_and_may_have_no_memory(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    pid = ask.process.pid
    fake.set_processes(1, [{"pid": pid, "used_memory_bytes": None}, {"pid": 2, "used_memory_bytes": 7, "type": "M", "name": b"\xffx y"}])
    [row] = ask("n.nvmlDeviceGetComputeRunningProcesses(h[1])")
    assert (row["pid"], row["usedGpuMemory"]) == (pid, None)
    assert ask("n.nvmlDeviceGetMPSComputeRunningProcesses(h[1])")[0]["usedGpuMemory"] == 7
    assert ask(f"n.nvmlSystemGetProcessName({pid})") == sys.executable  # without a name: from /proc
    assert ask("n.nvmlSystemGetProcessName(2)") == "!UnicodeDecodeError"
    fake.set_processes(1, [{"pid": 7, "used_memory_bytes": 1} for _ in range(100)])
    assert len(ask("n.nvmlDeviceGetComputeRunningProcesses(h[1])")) == 100
    with pytest.raises(ValueError, match="memory_mib"):
        fake.set_processes(1, [{"pid": 1, "memory_mib": 5}])


def test_xid_events_reach_who_registered_before(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.xid(0, 13)
    assert ask("globals().update(s=n.nvmlEventSetCreate())") is None
    assert ask("[n.nvmlDeviceRegisterEvents(x, n.nvmlEventTypeXidCriticalError, s) for x in h[:4]]") == [None] * 4
    assert ask("n.nvmlEventSetWait_v2(s, 10)") == "!Timeout"
    ask.send("(e := n.nvmlEventSetWait_v2(s, 30000), n.nvmlDeviceGetIndex(e.device), e.eventType, e.eventData)[1:]")
    assert ask.receive(0.2) == "..."
    fake.xid(6, 43)  # not registered
    fake.xid(3, 79)
    assert ask.receive() == [3, 8, 79]
    fake.event(1, 16, 0)
    fake.xid(1, 31)
    fake.xid(1, 31)
    assert ask("[n.nvmlEventSetWait_v2(s, 20000).eventData for _ in range(2)]") == [31, 31]
    assert ask("n.nvmlEventSetFree(s)") is None
    fake.set(0, event_types_supported=None)
    assert ask("n.nvmlDeviceGetSupportedEventTypes(h[0])") == "!NotSupported"


# ---- faults ----


@pytest.mark.parametrize("name", ["hang", "hang_deaf"])
def test_hang_until_cleared(tmp_path: Path, start: Start, name: str) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.fault(name, gpu=2, function="nvmlDeviceGetTemperature")
    assert ask("n.nvmlDeviceGetTemperature(h[1], 0)") == 41
    assert ask("n.nvmlDeviceGetPowerUsage(h[2])") == 69850
    ask.send("n.nvmlDeviceGetTemperature(h[2], 0)")
    assert ask.receive(0.3) == "..."
    fake.clear()
    assert ask.receive() == 41
    fake.fault(name)
    ask.send("n.nvmlDeviceGetCount()")
    assert ask.receive(0.3) == "..."


def test_a_deaf_hang_outlives_sigterm_but_not_sigkill(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    for name, died in (("hang_deaf", False), ("hang", True)):
        ask = start(fake)
        fake.fault(name)
        ask.send("n.nvmlDeviceGetCount()")
        assert ask.receive(0.3) == "..."
        until = time.monotonic() + 60
        while not died and not ask.is_deaf():
            assert time.monotonic() < until
            time.sleep(0.01)
        ask.process.terminate()
        try:
            code: Optional[int] = ask.process.wait(60 if died else 0.5)
        except subprocess.TimeoutExpired:
            code = None
        assert code == (-signal.SIGTERM if died else None)
        ask.process.kill()
        ask.process.wait(60)
        fake.clear()


def test_segfault(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.fault("segfault", function="nvmlDeviceGetPowerUsage")
    assert ask("n.nvmlDeviceGetTemperature(h[0], 0)") == 59
    assert ask("n.nvmlDeviceGetPowerUsage(h[0])") == "(dead)"
    assert ask.process.wait(60) == -signal.SIGSEGV


def test_a_lost_gpu_costs_only_itself(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.fault("gpu_lost", gpu=3)
    for call in ("UUID(h[3])", "MemoryInfo(h[3])", "Temperature(h[3], 0)", "ComputeRunningProcesses(h[3])", "FieldValues(h[3], [82])"):
        assert ask(f"n.nvmlDeviceGet{call}") == "!GpuIsLost"
    assert ask("n.nvmlDeviceGetCount()") == 8
    assert ask("n.nvmlDeviceGetTemperature(h[4], 0)") == 41
    fake.fault("gpu_lost", gpu=3, on=False)
    assert ask("n.nvmlDeviceGetTemperature(h[3], 0)") == 41


def test_a_gpu_that_is_gone_or_dropped(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    uuid = ask("[n.nvmlDeviceGetUUID(x) for x in h]")
    fake.fault("gpu_gone", gpu=2)
    assert ask("n.nvmlDeviceGetCount()") == 8
    assert ask("n.nvmlDeviceGetHandleByIndex(2)") == "!Unknown"
    assert ask("n.nvmlDeviceGetTemperature(h[2], 0)") == "!GpuIsLost"
    fake.clear()
    fake.fault("gpu_dropped", gpu=2)
    assert ask("n.nvmlDeviceGetCount()") == 7
    assert ask("n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(2))") == uuid[3]
    assert ask("n.nvmlDeviceGetIndex(h[3])") == 2
    assert ask(f"n.nvmlDeviceGetHandleByUUID('{uuid[2]}')") == "!NotFound"
    assert ask("n.nvmlDeviceGetHandleByIndex(7)") == "!InvalidArgument"


def test_version_mismatch(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask, later = start(fake), start(fake, start=False)
    fake.driver(version="550.90.07", library_version="12.550.107.02")
    fake.fault("mismatch_init")
    assert later("n.nvmlInit()") == "!LibRmVersionMismatch"
    assert later("n.nvmlSystemGetNVMLVersion()") == "12.550.107.02"
    assert later("n.nvmlDeviceGetCount()") == "!Uninitialized"
    assert ask("n.nvmlDeviceGetCount()") == 8  # a library that was loaded before goes on
    fake.fault("mismatch")
    assert ask("n.nvmlDeviceGetTemperature(h[0], 0)") == "!LibRmVersionMismatch"
    assert "Kernel Module  550.90.07  " in (fake.root / "proc/driver/nvidia/version").read_text()
    fake.driver(open_module=True)
    assert "Open Kernel Module for x86_64  550.90.07  Release Build" in (fake.root / "proc/driver/nvidia/version").read_text()


@pytest.mark.parametrize("by_driver", [True, False])
def test_driver_gone_and_back(tmp_path: Path, start: Start, by_driver: bool) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    version = fake.root / "proc/driver/nvidia/version"
    assert version.read_text().startswith("NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.48.01  ")
    fake.driver(gone=True) if by_driver else fake.fault("driver_gone")
    assert not version.exists()
    assert ask("n.nvmlDeviceGetTemperature(h[0], 0)") == "!Uninitialized"
    assert ask("n.nvmlInit()") == "!DriverNotLoaded"
    fake.driver(gone=False) if by_driver else fake.clear()
    assert version.exists()
    assert ask("n.nvmlDeviceGetTemperature(h[0], 0)") == "!Uninitialized"
    assert ask("n.nvmlInit()") is None
    assert ask("n.nvmlDeviceGetTemperature(h[0], 0)") == 59


def test_init_and_shutdown_are_counted(tmp_path: Path, start: Start) -> None:
    ask = start(FakeDriver(tmp_path), start=False)
    ask("n._LoadNvmlLibrary()")
    assert ask("n.nvmlDeviceGetCount()") == "!Uninitialized"
    assert ask("n.nvmlShutdown()") == "!Uninitialized"
    assert [ask("n.nvmlInit()"), ask("n.nvmlInit()"), ask("n.nvmlShutdown()")] == [None, None, None]
    assert ask("n.nvmlDeviceGetCount()") == 8
    assert ask("n.nvmlShutdown()") is None
    assert ask("n.nvmlDeviceGetCount()") == "!Uninitialized"


def test_errors_of_single_functions(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.fault("not_supported", function="nvmlDeviceGetPowerUsage")
    fake.fault("error", gpu=1, function="nvmlDeviceGetTemperature", value=4)
    assert ask("n.nvmlDeviceGetPowerUsage(h[0])") == "!NotSupported"
    assert ask("n.nvmlDeviceGetTemperature(h[1], 0)") == "!NoPermission"
    assert ask("n.nvmlDeviceGetTemperature(h[0], 0)") == 59
    with pytest.raises(ValueError, match="explode"):
        fake.fault("explode")


def test_scrambled_process_list_has_the_rows_of_early_535(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.fault("scrambled_processes")
    rows = ask("n.nvmlDeviceGetComputeRunningProcesses_v3(h[0])")
    assert (rows[0]["pid"], rows[0]["usedGpuMemory"]) == (11327, 2566 * MIB)  # only the first is right
    assert [row["pid"] for row in rows[1:]] == [0, NONE]
    assert [row["usedGpuMemory"] for row in rows[1:]] == [11328, 0]
    right = ask("(t := type('R', (ctypes.Structure,), {'_fields_': [('pid', ctypes.c_uint), ('used', ctypes.c_ulonglong), ('gi', ctypes.c_uint),"
                " ('ci', ctypes.c_uint), ('protected', ctypes.c_ulonglong)]}), a := (t * 16)(), c := ctypes.c_uint(16),"
                " n.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3(h[0], ctypes.byref(c), a), [(a[i].pid, a[i].used) for i in range(c.value)])[4]")  # fmt: skip
    assert right == [[11327, 2566 * MIB], [11328, 1542 * MIB], [11345, 15690 * MIB]]
    assert [row["pid"] for row in ask("n.nvmlDeviceGetComputeRunningProcesses_v2(h[0])")] == [11327, 11328, 11345]


def test_bad_names_and_figures(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.fault("invalid_utf8", gpu=0)
    assert ask("n.nvmlDeviceGetName(h[0])") == "!UnicodeDecodeError"
    assert ask("n.nvmlDeviceGetName(h[1])") == "NVIDIA H100 80GB HBM3"
    fake.fault("invalid_utf8")
    assert ask("n.nvmlSystemGetProcessName(11345)") == "!UnicodeDecodeError"
    fake.fault("used_memory_unavailable")
    assert {row["usedGpuMemory"] for row in ask("n.nvmlDeviceGetComputeRunningProcesses(h[0])")} == {None}
    fake.fault("temperature_sentinel", gpu=1)
    assert ask("[n.nvmlDeviceGetTemperature(h[1], 0), field(h[1], 82), n.nvmlDeviceGetTemperature(h[2], 0)]") == [65261, 65261, 41]


def test_slow_calls(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    fake.fault("slow", value=60)
    assert ask("(t := __import__('time'), a := t.monotonic(), n.nvmlDeviceGetCount(), t.monotonic() - a)[3]") >= 0.06


def test_every_fault_is_written_as_the_library_reads_it(tmp_path: Path) -> None:
    fake = FakeDriver(tmp_path)
    for name in FAULTS:
        fake.fault(name, gpu=5, function="nvmlDeviceGetBoardId")
    fake.fault("driver_gone", gpu=5, function="nvmlDeviceGetBoardId", on=False)
    done = subprocess.run([sys.executable, "-c", "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"],
                          env={**os.environ, **fake.env}, capture_output=True, check=True)  # fmt: skip
    assert (done.stdout, done.stderr) == (b"8\n", b"")


# ---- the rest ----


def test_calls_of_all_processes_are_counted(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    assert fake.calls() == {}
    one, two = start(fake), start(fake)
    for ask in (one, two):
        ask("[n.nvmlDeviceGetTemperature(h[0], 0) for _ in range(1000)]")
        ask("n.nvmlDeviceGetTopologyCommonAncestor(h[0], h[1])")  # a function without an answer of its own counts too
    calls = fake.calls()
    assert calls["nvmlDeviceGetTemperature"] == 2000
    assert calls["nvmlInitWithFlags"] == 2
    assert calls["nvmlDeviceGetHandleByIndex_v2"] == 16
    assert calls["nvmlDeviceGetTopologyCommonAncestor"] == 2
    assert "nvmlDeviceGetPowerUsage" not in calls


def test_threads_may_call_while_the_world_changes(tmp_path: Path, start: Start) -> None:
    fake = FakeDriver(tmp_path)
    ask = start(fake)
    ask.send("(t := __import__('threading'), bad := [], [x.start() or x for x in [t.Thread(target=lambda: [bad.append(1) for _ in range(3000)"
             " if n.nvmlDeviceGetTemperature(h[0], 0) not in range(50, 60)]) for _ in range(4)]], [x.join() for x in t.enumerate()[1:]], len(bad))[4]")  # fmt: skip
    for i in range(100):
        fake.set(0, temperature_celsius=50 + i % 10)
    assert ask.receive() == 0


def test_the_root_has_the_driver_version_and_the_pci_devices(tmp_path: Path) -> None:
    fake = FakeDriver(tmp_path)
    devices = fake.root / "sys/bus/pci/devices"
    assert len(list(devices.iterdir())) == 8
    assert (devices / "0000:1b:00.0/vendor").read_text() == "0x10de\n"
    assert (devices / "0000:1b:00.0/class").read_text() == "0x030200\n"
    assert (devices / "0000:1b:00.0/device").read_text() == "0x2330\n"
    fake.pci(0, present=False)
    assert not (devices / "0000:1b:00.0").exists()


def test_a_seed_makes_another_host(tmp_path: Path, start: Start) -> None:
    hosts = [start(FakeDriver(tmp_path / str(seed), seed=seed)) for seed in (0, 1, 2)]
    for function in ("UUID", "Serial"):
        found = [ask(f"[n.nvmlDeviceGet{function}(x) for x in h]") for ask in hosts]
        assert len({text for texts in found for text in texts}) == 24


def test_by_hand_the_library_alone_is_enough() -> None:
    environment = {key: text for key, text in os.environ.items() if not key.startswith("FAKE_NVML")}
    shown = subprocess.run([sys.executable, "-m", "tests.fake_nvml"], cwd=str(REPOSITORY), stdout=subprocess.PIPE, check=True)
    environment["LD_LIBRARY_PATH"] = shown.stdout.decode().strip()
    code = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"8\n"
    profile = str(REPOSITORY / "tests/fake_nvml/profiles/rtx4080s.profile")
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "FAKE_NVML_CONTROL": profile}, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == b"1\n"


def test_twelve_builds_at_once_compile_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\necho run >> '{log}'\nexec {os.environ.get('CC', 'cc')} -O0 \"$@\"\n")
    compiler.chmod(0o755)
    code = f"import pathlib, tests.fake_nvml as f; f.CACHE = pathlib.Path({str(tmp_path / 'cache')!r}); print(f.build())"
    builds = [
        subprocess.Popen([sys.executable, "-c", code], cwd=str(REPOSITORY), env={**os.environ, "CC": str(compiler)}, stdout=subprocess.PIPE)
        for _ in range(12)
    ]
    shown = {build.communicate(timeout=60)[0] for build in builds}
    assert [build.returncode for build in builds] == [0] * 12
    assert len(shown) == 1
    assert Path(shown.pop().decode().strip()).stat().st_size > 10000
    assert log.read_text() == "run\n"


def test_a_compiler_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(RuntimeError, match="no such luck"):
        build(without=["nvmlDeviceGetBoardId"])
    assert CACHE.is_dir()
