"""One hub polls 1,000 simulated nodes (8 GPUs, 20 processes each) every 5 s beside a Prometheus that scrapes the same numbers.

Readers look at every view meanwhile. Prints CPU per poll, memory and bytes per node-sample as ratios against Prometheus in the same run,
the journal's peak, missed polls and lateness.  Usage: bench/hub_poll.py [nodes] [minutes] [interval]
Targets: CPU 0.6x, RSS 0.35x, packed bytes 0.4x, journal 128 MB, no poll missed, p99 lateness below one interval.
Needs `prometheus` and `promtool` (Debian: prometheus). All traffic is on loopback. The hub runs under the Python of `bench/interpreter.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "bench"))

import fleet  # noqa: E402
import interpreter  # noqa: E402

FLEET_PORT, HUB_PORT, PROMETHEUS_PORT = 19100, 19070, 19090
VIEWS = (
    "/", "/?view=rows", "/?term=true", "/?term=true&detail=true", "/?term=true&view=rows", "/states/", "/get-status", "/api/v1/cluster", "/?format=csv",
    "/hosts/n0000", "/gpus/GPU-00000000-0000-0000-0000-000000000000", "/gpu_table?term=true", "/api/v1/hosts/n0001",
)  # fmt: skip
LIVE_EVERY = 10.0
"""Seconds between two updates of an open page: the page's own rate above 60 hosts."""
VIEW_EVERY = 30.0
"""Seconds between two looks at each other view, by people and scripts."""
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / TICKS


def rss_mib(pid: int) -> float:
    """Resident memory."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def fetch(path: str, port: int, host: str = "127.0.0.1") -> bytes:
    """The body of a GET."""
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=60) as answer:
        body: bytes = answer.read()
        return body


class Viewers:
    """One open page, updated as the page does it, and a reader who looks at every other view in turn; counts and times the answers."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.times: Dict[str, List[float]] = {}
        self.errors: List[str] = []
        self._version = 0

    def start(self) -> None:
        """Begin to look."""
        for target in (self._page, self._views):
            threading.Thread(target=target, daemon=True).start()

    def _page(self) -> None:
        while not self.stop.wait(LIVE_EVERY):
            body = self._look("/live", f"/live?since={self._version}")
            if body:
                self._version = json.loads(body)["version"]

    def _views(self) -> None:
        while not self.stop.is_set():
            for path in VIEWS:
                self._look(path, path)
                if self.stop.wait(VIEW_EVERY / len(VIEWS)):
                    return

    def _look(self, name: str, path: str) -> bytes:
        began = time.monotonic()
        try:
            return fetch(path, HUB_PORT)
        except OSError as error:
            self.errors.append(f"{path}: {error}")
            return b""
        finally:
            self.times.setdefault(name, []).append(time.monotonic() - began)


def prometheus_config(folder: Path, nodes: int, interval: float) -> Path:
    """Scrape every node at the hub's interval."""
    targets = [f"{fleet.address(number)}:{FLEET_PORT}" for number in range(nodes)]
    text = json.dumps({
        "global": {"scrape_interval": f"{interval:g}s", "scrape_timeout": f"{min(interval, 4):g}s"},
        "scrape_configs": [{"job_name": "fleet", "static_configs": [{"targets": targets}]}],
    })  # fmt: skip
    path = folder / "prometheus.yml"
    path.write_text(text)
    return path


def journal_bytes(database: Path) -> int:
    """The journal's pages and the write-ahead log: all of the files but the blocks and the free pages."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        (blocks,) = connection.execute("SELECT TOTAL(LENGTH(data)) FROM block").fetchone()
        pages = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")}
    log = database.with_name(database.name + "-wal")
    used = (pages["page_count"] - pages["freelist_count"]) * pages["page_size"] - blocks
    return int(used) + (log.stat().st_size if log.exists() else 0)


def packed(database: Path) -> Dict[str, float]:
    """Bytes per node-sample in packed blocks, and how many."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        size, count, blocks = connection.execute("SELECT TOTAL(LENGTH(data)), TOTAL(count), COUNT(*) FROM block").fetchone()
    return {"bytes": size / count if count else 0.0, "samples": count, "blocks": blocks}


def storage(folder: Path, hours: float = 2.0, nodes: int = 2, interval: float = 5.0) -> Dict[str, float]:
    """The same numbers in a compacted block of Prometheus and in our blocks: bytes per node-sample of each."""
    from gpuwatch.store import blocks

    at = 1_790_000_000.0
    steps = int(hours * 3600 / interval)
    lines, ours = [], 0
    for number in range(nodes):
        node = fleet.Node(number, at)
        entries = []
        series: List[List[str]] = [[] for _ in node._labels]
        for step in range(steps):
            now = at + step * interval
            node.advance(now)
            entries.append(blocks.Entry(round(now * 1000), round(now * 1000) + 7, node.shape_id, list(node.values)))
            for rows, (place, name) in zip(series, node._labels):
                rows.append(f"{name} {node.values[place]} {now}\n")
        for start in range(0, len(entries), 120):
            ours += len(blocks.pack(entries[start : start + 120]))
        for rows in series:
            lines.append("".join(row.replace("{", f'{{node="{number}",') for row in rows))
    # OpenMetrics wants the samples of one metric together
    lines.sort(key=lambda text: text.partition("{")[0])
    source, target = folder / "samples.om", folder / "blocks"
    source.write_text("".join(lines) + "# EOF\n")
    subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(target)], check=True, stdout=subprocess.DEVNULL)
    theirs = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return {"prometheus": theirs / (steps * nodes), "gpuwatch": ours / (steps * nodes)}


def lateness(asked: Dict[str, List[float]], interval: float) -> Dict[str, float]:
    """Polls, missed ones (a gap of more than 1.5 intervals), and how late a poll came after the beat that its neighbours keep."""
    late, missed, polls = [], 0, 0
    for times in asked.values():
        polls += len(times)
        base = times[0] if times else 0.0
        # the beat is the line through the polls: its phase is that of the earliest
        offsets = [(at - base) - round((at - base) / interval) * interval for at in times]
        phase = min(offsets, default=0.0)
        late += [offset - phase for offset in offsets]
        missed += sum(round((after - before) / interval) - 1 for before, after in zip(times, times[1:]) if after - before > 1.5 * interval)
    late.sort()
    return {"polls": polls, "missed": missed, "p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)], "max": late[-1]}


def measure(hub: int, prometheus: int, nodes: int, seconds: float, interval: float, folder: Path) -> None:
    """Count over ``seconds`` and print; a minute without readers comes first, to tell what they cost."""
    fetch("/report", FLEET_PORT, fleet.address(0))
    began_cpu = cpu_seconds(hub)
    time.sleep(min(60.0, seconds / 2))
    alone_cpu, alone = cpu_seconds(hub) - began_cpu, json.loads(fetch("/report", FLEET_PORT, fleet.address(0)))
    polls_alone = sum(map(len, alone["asked"].values()))
    viewers = Viewers()
    viewers.start()
    began, hub_before, prometheus_before = time.monotonic(), cpu_seconds(hub), cpu_seconds(prometheus)
    peak = 0
    while time.monotonic() - began < seconds:
        time.sleep(5)
        peak = max(peak, journal_bytes(folder / "hub.db"))
        print(f"\r{time.monotonic() - began:5.0f} s of {seconds:.0f}", end="", file=sys.stderr, flush=True)
    hub_cpu, prometheus_cpu = cpu_seconds(hub) - hub_before, cpu_seconds(prometheus) - prometheus_before
    report = json.loads(fetch("/report", FLEET_PORT, fleet.address(0)))
    viewers.stop.set()
    late = lateness(report["asked"], interval)
    stored, memory = packed(folder / "hub.db"), (rss_mib(hub), rss_mib(prometheus))
    print(f"\n{nodes} nodes, every {interval:g} s, {seconds:.0f} s, {report['samples_per_page']} numbers a node")
    ours, theirs = hub_cpu / late["polls"] * 1000, prometheus_cpu / report["scrapes"] * 1000
    show("CPU per poll, ms", ours, theirs, 0.6)
    print(f"  without readers, in the minute before: {alone_cpu / polls_alone * 1000:.3f} ms")
    show("RSS, MiB", *memory, 0.35)
    disk = storage(folder)
    show("bytes per node-sample, packed", disk["gpuwatch"], disk["prometheus"], 0.4)
    print(f"  in the hub's own blocks: {stored['bytes']:.0f} B over {stored['samples']:.0f} samples in {stored['blocks']:.0f} blocks")
    print(f"  journal at most {peak / 1e6:.1f} MB (target 128)")
    print(f"  polls {late['polls']}, missed {late['missed']}, lateness p50 {late['p50']:.3f} s, p99 {late['p99']:.3f} s, most {late['max']:.3f} s")
    print(f"  readers: an open page every {LIVE_EVERY:g} s, each of {len(VIEWS)} other views every {VIEW_EVERY:g} s")
    print(f"  readers: {sum(map(len, viewers.times.values()))} answers, {len(viewers.errors)} errors {viewers.errors[:3]}")
    for path, times in sorted(viewers.times.items(), key=lambda item: -max(item[1])):
        print(f"    {path:60s} p50 {sorted(times)[len(times) // 2] * 1000:7.1f} ms, most {max(times) * 1000:7.1f} ms")


def show(what: str, ours: float, theirs: float, target: float, us: str = "gpuwatch", them: str = "Prometheus") -> None:
    """One line with its ratio."""
    ratio = ours / theirs if theirs else float("nan")
    print(f"  {what}: {us} {ours:.3f}, {them} {theirs:.3f}: {ratio:.2f}x (target {target}x) {'ok' if ratio <= target else 'MISSED'}")


def wait_ready(path: str, port: int, host: str = "127.0.0.1") -> None:
    """Until the server answers."""
    for _ in range(300):
        try:
            fetch(path, port, host)
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"nothing answers on {host}:{port}")


def main(nodes: int = 1000, minutes: float = 6.0, interval: float = 5.0) -> None:
    """Start all, warm up for a minute, measure, end all."""
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        raise SystemExit("The bench compares with Prometheus. Next: sudo apt-get install prometheus")
    python = interpreter.python()
    print(interpreter.words(python), flush=True)
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-bench-"))
    hosts = folder / "hosts.txt"
    hosts.write_text("".join(f"n{number:04d}={fleet.address(number)}:{FLEET_PORT} tags=t{number // 100}\n" for number in range(nodes)))
    started: List[subprocess.Popen[Any]] = []
    quiet: Dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        started.append(subprocess.Popen([sys.executable, str(ROOT / "bench" / "fleet.py"), str(nodes), str(FLEET_PORT)], **quiet))
        wait_ready("/report", FLEET_PORT, fleet.address(0))
        hub = [str(ROOT / "dist" / "gpuwatch.pyz"), "hub", "--hosts", str(hosts), "--port", str(HUB_PORT), "--interval", str(interval), "--no-access-log"]
        log = (folder / "hub.log").open("w")
        env = {**os.environ, "GPUWATCH_PASSWORD": "x", "GPUWATCH_STATE_DIR": str(folder)}
        started.append(subprocess.Popen([python, *hub, "--database", f"sqlite:///{folder}/hub.db"], env=env, stdout=log, stderr=log))
        configuration = str(prometheus_config(folder, nodes, interval))
        started.append(subprocess.Popen(
            ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}"],
            **quiet,
        ))  # fmt: skip
        wait_ready("/healthz", HUB_PORT)
        wait_ready("/-/ready", PROMETHEUS_PORT)
        time.sleep(min(60.0, minutes * 30))
        measure(started[1].pid, started[2].pid, nodes, minutes * 60, interval, folder)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
        if "KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*[kind(text) for kind, text in zip((int, float, float), sys.argv[1:])])
