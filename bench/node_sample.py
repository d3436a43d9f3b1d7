"""CPU of a whole node (server and sampler) per sample, beside nvitop's snapshots and gpustat's queries, all in one run.

Three sides run at the same time, at the same interval, each over its own fake driver with 8 GPUs and 20 processes; the fake library
counts their samples. Targets: at most 0.20x of nvitop, 0.125x of gpustat, 14 NVML calls per GPU and sample, 45 MiB of memory (PSS).

    .venv/bin/python bench/node_sample.py [--interval 4] [--seconds 120]

nvitop and gpustat are installed into build/bench/peers, a virtual environment of their own (nvidia-ml-py only, never the old pynvml).
Figures of GPUs and processes change all the time, as they do on real machines. That makes the fake library read its control file anew, once per
sample inside each side's process: a fourth process measures what this costs by itself, and it is taken off all sides alike. The targets are held while the node samples, as the peers do;
what serving costs is shown beside it: the same node while a hub polls it once per interval (the poller is not counted).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.fake_nvml import FakeDriver  # noqa: E402

PEERS = REPOSITORY / "build/bench/peers"
PACKAGES = ("nvitop==1.7.2", "gpustat==1.1.1", "nvidia-ml-py==13.615.71")
GPUS, PROCESSES = 8, 20
ONCE_PER_SAMPLE = "nvmlDeviceGetUtilizationRates"  # each side asks it once per GPU and sample
TARGET_NVITOP, TARGET_GPUSTAT, TARGET_CALLS, TARGET_PSS = 0.20, 0.125, 14.0, 45.0

PACED = """
import sys, time
{setup}
due = time.monotonic()
while True:
    {sample}
    due = max(due + {interval}, time.monotonic())
    time.sleep(max(0.0, due - time.monotonic()))
"""
RIG = """
import ctypes, time
library, count = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_uint()
library.nvmlInit_v2()
while True:
    time.sleep({interval})
    times = [time.thread_time()]
    for _ in range(2):
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        times.append(time.thread_time())
    print((times[1] - times[0]) - (times[2] - times[1]), flush=True)
"""
SIDES = {
    "nvitop": ("from nvitop import Device, take_snapshots\ndevices = Device.all()", "take_snapshots(devices)"),
    "gpustat": ("import gpustat", "gpustat.new_query().jsonify()"),
}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, to the nanosecond (clock_getcpuclockid(3): ~pid << 3 | 2)."""
    return time.clock_gettime((~pid << 3) | 2)


class Side:
    """One program under its own fake driver."""

    def __init__(self, name: str, folder: Path, command: list[str], children: list[subprocess.Popen[bytes]]) -> None:
        self.name = name
        self.driver = FakeDriver(folder, "h100x8")
        for gpu in range(GPUS):
            rows = [{"pid": child.pid, "used_memory_bytes": 1 << 30, "sm_percent": 5} for child in children[gpu::GPUS]]
            self.driver.set_processes(gpu, rows)
        environment = {**os.environ, **self.driver.env, "GPUWATCH_PASSWORD": "bench", "PYTHONPATH": str(REPOSITORY / "src")}
        if name != "gpuwatch":
            del environment["PYTHONPATH"]
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)

    def change(self, step: int) -> None:
        """Other figures on every GPU."""
        for gpu in range(GPUS):
            self.driver.set(
                gpu, utilization_gpu_percent=(step * 7 + gpu) % 101, utilization_memory_percent=step % 90, temperature_celsius=40 + (step + gpu) % 40,
                power_milliwatts=300000 + step * 777 % 300000, memory_used_bytes=(20 << 30) + (step * 8191 << 12), clock_sm_mhz=1200 + step % 700,
                energy_millijoules=123456789 + 2000000 * step,
            )  # fmt: skip

    def pids(self) -> list[int]:
        """The process and all below it."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, task.read_text().split())
        return found

    def cpu_seconds(self) -> list[float]:
        """CPU time of each of its processes, the first one first."""
        return [cpu_seconds(pid) for pid in self.pids()]

    def pss_mebibytes(self) -> float:
        texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids())
        return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")) / 1024

    def calls(self) -> dict[str, int]:
        return self.driver.calls()

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def install_peers() -> Path:
    python = PEERS / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    probe = subprocess.run([str(python), "-c", "import nvitop, gpustat"], check=False, capture_output=True)
    if probe.returncode:
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Poller:
    """A hub's question, once per interval, on one keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.shape_id = ""

    def poll(self) -> int:
        body = json.dumps({"passwd": "bench", "flat": self.shape_id})
        self.connection.request("POST", "/get-status", body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the node answers {answer.status}: {data[:200]!r}")
        self.shape_id = json.loads(data.split(b"\n", 1)[0])["shape_id"]
        return len(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interval", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to measure, after the warm-up")
    parser.add_argument("--warm-up", type=float, default=12.0)
    parser.add_argument("--pyz", type=Path, help="start the node from this file, not from src")
    options = parser.parse_args()
    if options.interval < 1.0:
        parser.error("gpustat waits 0.1 s per GPU: the interval must be at least 1 s")
    peers = install_peers()
    port = free_port()
    start = [str(options.pyz)] if options.pyz else ["-m", "gpuwatch"]
    node = [sys.executable, *start, "node", "--host", "127.0.0.1", "--port", str(port), "--interval", str(options.interval)]
    node += ["--no-access-log"]
    children = [subprocess.Popen(["sh", "-c", "while :; do sleep 1; done"]) for _ in range(PROCESSES)]
    sides: list[Side] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            commands = {"gpuwatch": [*node, "--state-dir", f"{folder}/state"]}
            for name, (setup, sample) in SIDES.items():
                commands[name] = [str(peers), "-c", PACED.format(setup=setup, sample=sample, interval=options.interval)]
            for name, command in commands.items():
                place = Path(folder) / name
                place.mkdir()
                sides.append(Side(name, place, command, children))
            rig_place = Path(folder) / "rig"
            rig_place.mkdir()
            time.sleep(options.warm_up)
            rig = Side("rig", rig_place, [sys.executable, "-c", RIG.format(interval=options.interval)], children)
            try:
                alone = measure([*sides, rig], None, options)
            finally:
                rig.end()
            polled = measure(sides[:1], Poller(port), options)
            return report(sides, alone, polled["gpuwatch"][0])
    finally:
        for side in sides:
            side.end()
        for child in children:
            child.kill()
            child.wait()


def measure(sides: list[Side], poller: Poller | None, options: argparse.Namespace) -> dict[str, tuple[float, float, float]]:
    """Per side: CPU ms per sample, NVML calls per GPU and sample, samples."""
    before = {side.name: (side.cpu_seconds(), side.calls()) for side in sides}
    due = time.monotonic()
    end = due + options.seconds / (1 if poller is None else 2)
    for step in range(1_000_000):
        due += options.interval
        if due > end:
            break
        time.sleep(max(0.0, due - time.monotonic()))
        for side in sides:
            side.change(step)
        if poller is not None:
            poller.poll()
    found = {}
    if poller is None:
        options.reread = reread_seconds(sides.pop())
    for side in sides:
        parts = [now - then for now, then in zip(side.cpu_seconds(), before[side.name][0])]
        calls = side.calls()
        samples = (calls[ONCE_PER_SAMPLE] - before[side.name][1][ONCE_PER_SAMPLE]) / GPUS
        cpu = sum(parts) - options.reread * samples
        if side.process.poll() is not None or samples < 1:
            raise SystemExit(f"{side.name} took no samples:\n{(side.driver.root / 'log').read_text()[-2000:]}")
        all_calls = sum(calls.values()) - sum(before[side.name][1].values())
        if len(parts) > 1:
            print(f"{side.name}: {parts[0] / samples * 1000:.2f} ms server, {sum(parts[1:]) / samples * 1000:.2f} ms sampler per sample, all in all")
        found[side.name] = (cpu / samples * 1000, all_calls / samples / GPUS, samples)
    return found


def reread_seconds(rig: Side) -> float:
    """CPU time in which the fake library reads its control file, per sample."""
    costs = [float(line) for line in (rig.driver.root / "log").read_text().split()]
    mean = sum(costs) / len(costs)
    print(f"the fake library's own reading of its file: {mean * 1000:.2f} ms per sample, taken off every side")
    return mean


def report(sides: list[Side], found: dict[str, tuple[float, float, float]], polled: float) -> int:
    pss = {side.name: side.pss_mebibytes() for side in sides}
    print(f"{GPUS} GPUs, {PROCESSES} processes, all sides at once")
    for side in sides:
        cpu, calls, samples = found[side.name]
        count = len(side.pids())
        print(f"{side.name:<10}{cpu:8.2f} ms CPU/sample {calls:7.2f} calls/GPU/sample {samples:6.1f} samples {pss[side.name]:6.1f} MiB PSS ({count})")
    print(f"gpuwatch{polled:10.2f} ms CPU/sample while a hub polls it once per sample")
    results = [
        ("CPU / nvitop.take_snapshots", found["gpuwatch"][0] / found["nvitop"][0], TARGET_NVITOP),
        ("CPU / gpustat", found["gpuwatch"][0] / found["gpustat"][0], TARGET_GPUSTAT),
        ("NVML calls per GPU and sample", found["gpuwatch"][1], TARGET_CALLS),
        ("PSS of all node processes, MiB", pss["gpuwatch"], TARGET_PSS),
    ]
    for name, value, target in results:
        print(f"node_sample: {name} = {value:.3f} (target: at most {target}) {'ok' if value <= target else 'MISSED'}")
    return 0 if all(value <= target for _, value, target in results) else 1


if __name__ == "__main__":
    sys.exit(main())
