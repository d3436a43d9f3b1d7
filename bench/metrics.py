"""``/metrics`` of a hub that polls 1,000 simulated nodes of 8 GPUs: how long an answer takes, and whether polls wait for it.

A Prometheus asks with gzip every 15 s; here it is done for the first time (labels are made), for numbers that are kept ready, then again and again
with new numbers: once the hub knows the rhythm, they are made just before. Prints wall time, the hub's processor time, bytes, and how late polls are without and with the scrapes.
The hub runs under the Python of `bench/interpreter.py`.
Usage: bench/metrics.py [nodes] [seconds] [interval]   Targets: an answer in 300 ms, no poll missed, p99 lateness not above twice that without.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "bench"))

import fleet  # noqa: E402
import interpreter  # noqa: E402
from hub_poll import cpu_seconds, fetch, lateness, rss_mib, wait_ready  # noqa: E402

SCRAPE_EVERY = 15.0
TARGET_SECONDS = 0.3


def free_port() -> int:
    """A port that is free on all addresses."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Scraper:
    """A keep-alive client as Prometheus is one."""

    def __init__(self, port: int, pid: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._pid = pid

    def scrape(self) -> Tuple[float, float, float, int]:
        """(seconds to the first byte, seconds in all, the hub's processor time meanwhile, bytes) of one answer."""
        before, began = cpu_seconds(self._pid), time.monotonic()
        self._connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip", "Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
        answer = self._connection.getresponse()
        first = time.monotonic() - began
        size = len(answer.read())
        assert answer.status == 200
        return first, time.monotonic() - began, cpu_seconds(self._pid) - before, size


def report(port: int, interval: float) -> Dict[str, float]:
    """Polls since the last report."""
    return lateness(json.loads(fetch("/report", port, fleet.address(0)))["asked"], interval)


def measure(hub_port: int, fleet_port: int, hub: int, seconds: float, interval: float) -> None:
    """Without scrapes, then with."""
    report(fleet_port, interval)
    cpu, began = cpu_seconds(hub), time.monotonic()
    time.sleep(seconds)
    alone = report(fleet_port, interval)
    rate = (cpu_seconds(hub) - cpu) / (time.monotonic() - began)
    scraper = Scraper(hub_port, hub)
    first = scraper.scrape()
    kept = scraper.scrape()
    rows: List[Tuple[float, float, float, int]] = []
    began = time.monotonic()
    for beat in range(1, 1 + max(5, round(seconds / SCRAPE_EVERY))):
        time.sleep(max(0.0, began + beat * SCRAPE_EVERY - time.monotonic()))
        rows.append(scraper.scrape())
    beside = report(fleet_port, interval)
    print(f"polls alone use {rate * 100:.0f} % of a core; load of this machine {os.getloadavg()[0]:.1f}; RSS {rss_mib(hub):.0f} MiB")
    show("first answer, labels made", [first], rate)
    show("kept answer, within 5 s", [kept], rate)
    show("with new numbers, the second 15 s after the first", rows[:1], rate)
    show("with new numbers, in the rhythm of Prometheus", rows[2:], rate)
    for word, late in (("without", alone), ("with", beside)):
        print(f"  polls {word} scrapes: {late['polls']}, missed {late['missed']}, late p50 {late['p50']:.3f} s, p99 {late['p99']:.3f} s, most {late['max']:.3f} s")


def show(what: str, rows: List[Tuple[float, float, float, int]], rate: float) -> None:
    """Median of some answers; processor time without what polls took meanwhile."""
    whole = sorted(row[1] for row in rows)
    middle = whole[len(whole) // 2]
    own = sorted(max(0.0, row[2] - rate * row[1]) for row in rows)[len(rows) // 2]
    verdict = "ok" if middle <= TARGET_SECONDS else "MISSED" if own > TARGET_SECONDS else "MISSED by the clock, ok by the processor"
    print(f"  {what}: {middle * 1000:.0f} ms, most {whole[-1] * 1000:.0f} ms; processor {own * 1000:.0f} ms; {rows[0][3] / 1e6:.2f} MB (target {TARGET_SECONDS * 1000:.0f} ms: {verdict})")


def main(nodes: int = 1000, seconds: float = 60.0, interval: float = 5.0) -> None:
    """Start fleet and hub, warm up, measure, end both."""
    python = interpreter.python()
    print(interpreter.words(python), flush=True)
    folder, fleet_port, hub_port = Path(tempfile.mkdtemp(prefix="gpuwatch-bench-")), free_port(), free_port()
    hosts = folder / "hosts.txt"
    hosts.write_text("".join(f"n{number:04d}={fleet.address(number)}:{fleet_port} tags=t{number // 100}\n" for number in range(nodes)))
    started: List[subprocess.Popen[Any]] = []
    env = {**os.environ, "GPUWATCH_PASSWORD": "x", "GPUWATCH_STATE_DIR": str(folder)}
    try:
        argv = [sys.executable, str(ROOT / "bench" / "fleet.py"), str(nodes), str(fleet_port)]
        started.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_ready("/report", fleet_port, fleet.address(0))
        with (folder / "hub.log").open("w") as log:
            hub = [python, str(ROOT / "dist" / "gpuwatch.pyz"), "hub", "--hosts", str(hosts), "--port", str(hub_port), "--interval", str(interval), "--no-access-log"]
            started.append(subprocess.Popen([*hub, "--database", f"sqlite:///{folder}/hub.db"], env=env, stdout=log, stderr=log))
        wait_ready("/healthz", hub_port)
        time.sleep(4 * interval)
        measure(hub_port, fleet_port, started[1].pid, seconds, interval)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*[kind(text) for kind, text in zip((int, float, float), sys.argv[1:])])
