"""Questions about 30 days of 100 hosts x 8 GPUs, while a hub polls 300 simulated nodes: how long each answer takes, and what a node-day takes.

The past is written straight into the tables: rollups of every tier (of samples that went through the digest), usage and process intervals, and the
last hour of all hosts as raw blocks at 5 s. Then a real hub opens it and polls (bench/fleet.py). Each line: the median of warm answers, the target,
ok or MISSED.  Usage: bench/history.py [days] [hosts] [nodes]
All traffic is on loopback. Under the Python of `bench/interpreter.py`. With promtool (Debian: prometheus) the size is compared with Prometheus' too.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "bench"))

import fleet  # noqa: E402
import history_past  # noqa: E402
import interpreter  # noqa: E402
from hub_poll import storage  # noqa: E402

from gpuwatch.config.load import load  # noqa: E402
from gpuwatch.config.settings import HubSettings  # noqa: E402
from gpuwatch.hub.restore import latest_from_store  # noqa: E402
from gpuwatch.query import past, processes, series, usage  # noqa: E402
from gpuwatch.query.tail import Tails  # noqa: E402
from gpuwatch.store.database import open_store  # noqa: E402

FLEET_PORT, HUB_PORT = 19110, 19080
DAY = 86400
ROUNDS = 15
PAGES = ("/", "/?view=rows", "/?term=true", "/hosts/n0007", "/live", "/history?host=n0007&gpu=3", "/reports", "/healthz")
MISSED: List[str] = []


def fetch(path: str, port: int = HUB_PORT, host: str = "127.0.0.1") -> bytes:
    """The body of a GET."""
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=120) as answer:
        body: bytes = answer.read()
        return body


def timed(ask: Callable[[int], Any], rounds: int = ROUNDS, warm: int = 3) -> float:
    """Median in ms; ``ask`` gets the number of the round, so that it can ask about another GPU or span each time."""
    for number in range(warm):
        ask(number)
    found = []
    for number in range(rounds):
        began = time.perf_counter()
        ask(number)
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def of_cpu(ask: Callable[[int], Any]) -> str:
    """What of it is work of this process: on a machine that others use too, the rest is waiting for a processor."""
    began = time.process_time()
    for number in range(5):
        ask(number)
    return f"CPU {(time.process_time() - began) / 5 * 1000:.0f} ms"


def line(what: str, ms: float, target_ms: float = 0.0, note: str = "") -> None:
    """One figure, with its verdict where there is a target."""
    verdict = "" if not target_ms else f"target {target_ms:6.0f} ms  {'ok' if ms <= target_ms else 'MISSED'}"
    if "MISSED" in verdict:
        MISSED.append(what)
    print(f"{what:58} {ms:8.1f} ms  {verdict}  {note}".rstrip(), flush=True)


def start(folder: Path, nodes: int, started: List[Any]) -> None:
    """Fleet and hub."""
    hosts = folder / "hosts.txt"
    hosts.write_text("".join(f"n{number:04d}={fleet.address(number)}:{FLEET_PORT}\n" for number in range(nodes)))
    quiet: Dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started.append(subprocess.Popen([sys.executable, str(ROOT / "bench" / "fleet.py"), str(nodes), str(FLEET_PORT)], **quiet))
    env = {**os.environ, "GPUWATCH_PASSWORD": "x", "GPUWATCH_STATE_DIR": str(folder), "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "gpuwatch", "hub", "--hosts", str(hosts), "--port", str(HUB_PORT), "--interval", "5", "--no-access-log"]
    log = (folder / "hub.log").open("w")
    started.append(subprocess.Popen([*command, "--database", f"sqlite:///{folder}/hub.db"], env=env, stdout=log, stderr=log))
    until = time.monotonic() + 120
    while True:
        try:
            now = json.loads(fetch("/api/v1/cluster"))
            if sum(node["status"] == "up" for node in now["nodes"]) == nodes:
                return
        except OSError:
            pass
        if time.monotonic() > until:
            raise SystemExit(f"the hub does not see all nodes: {(folder / 'hub.log').read_text()[-500:]}")
        time.sleep(0.5)


def questions(folder: Path, hosts: int, days: int) -> None:
    """Asked of the hub over HTTP, and of the store in this process: another GPU or moment at each round."""
    settings = load(HubSettings, "hub", {"database": f"sqlite:///{folder}/hub.db", "interval": "5"})
    store = open_store(settings.database, create=False, read_only=True)
    now = time.time()
    latest, tails = latest_from_store(store, settings, "UTC", now), Tails()
    first, last = time.strftime("%Y-%m-%d", time.gmtime(now - (days - 1) * DAY)), time.strftime("%Y-%m-%d", time.gmtime(now))

    def gpu(number: int) -> Tuple[str, str]:
        return f"n{number % 3 * 7 % hosts:04d}", str(number % fleet.GPUS)

    def one(step: int) -> Callable[[int], Any]:
        return lambda number: series.series(
            store, latest, metric="power_watts", host=gpu(number)[0], gpu=gpu(number)[1], start_at=now - days * DAY, end_at=now, step=step,
            points=days * 1440 + 2, now=now, tails=tails,
        )  # fmt: skip

    span = f"from={now - days * DAY:.0f}"
    line(f"one GPU's {days} days at 1 minute, {len(one(60)(0).times)} points: query", timed(one(60)), 50, of_cpu(one(60)))
    line(f"one GPU's {days} days at 15 minutes, {len(one(900)(0).times)} points: query", timed(one(900)), 50, of_cpu(one(900)))
    asked = f"/api/v1/series?metric=power_watts&{span}&step=900"
    line("  the same over HTTP, as JSON", timed(lambda number: fetch(f"{asked}&to={now - number:.0f}&host={gpu(number)[0]}&gpu={gpu(number)[1]}")), 50)
    line("fleet's mean utilization over HTTP", timed(lambda number: fetch(f"/api/v1/series?metric=utilization_percent&{span}&to={now - number:.0f}")), 100)

    def by_user(number: int) -> Any:
        return usage.report(store, latest, first_day=first, last_day=last, now=now)

    line("GPU-hours by user: query", timed(by_user), 100, of_cpu(by_user))
    line("GPU-hours by user over HTTP", timed(lambda number: fetch(f"/api/v1/usage?by=user&from={first}&to={last}&round={number}")), 100)
    for by in ("host", "gpu", "model", "tag"):
        asked = f"/api/v1/usage?by={by}&from={first}&to={last}&round="
        line(f"  by {by} over HTTP", timed(lambda number, asked=asked: fetch(f"{asked}{number}"), 7))
    at = now - 1800
    line("one host as it was", timed(lambda number: fetch(f"/api/v1/hosts/{gpu(number)[0]}?at={at + number:.0f}")), 50)
    firsts: List[float] = []
    seconds: List[float] = []
    for number in range(5):
        path = f"/api/v1/cluster?at={at - 200 + 37 * number:.0f}"
        for times in (firsts, seconds):
            began = time.perf_counter()
            assert json.loads(fetch(path))["nodes"]
            times.append((time.perf_counter() - began) * 1000)
    line("the whole cluster as it was, the first time", statistics.median(firsts), 1000, f"most {max(firsts):.0f} ms")
    line("  asked again", statistics.median(seconds), 50)
    month = f"/api/v1/processes?{span}&limit=10000"
    count = len(processes.processes(store, latest, host="n0003", gpu="3", start_at=now - days * DAY, end_at=now, limit=10_000))
    line(f"one GPU's process intervals of {days} days ({count})", timed(lambda number: fetch(f"{month}&host={gpu(number)[0]}&gpu={gpu(number)[1]}")), 50)
    starts = [time.strftime("%Y-%m-%d", time.gmtime(now - (days - 1 - number) * DAY)) for number in range(4)]
    line("the page of reports, the first time", timed(lambda number: fetch(f"/reports?from={starts[number]}&to={last}"), 4, 0))
    line("  at= of the whole cluster in this process: query", timed(lambda number: past.cluster_at(store, latest, at + number, now), 3, 1))
    store.close()


def pages_meanwhile(seconds: float) -> None:
    """p99 of the pages, alone and while somebody asks for the whole cluster at ever new moments; the hub packs meanwhile as it always does."""
    stop = threading.Event()
    lookers = [0]

    def look() -> None:
        while not stop.is_set():
            try:
                fetch(f"/api/v1/cluster?at={time.time() - 300 - lookers[0] * 11 % 3000:.0f}")
            except OSError:
                if not stop.is_set():  # else the bench has ended its hub
                    raise
            lookers[0] += 1

    for meanwhile in (False, True):
        if meanwhile:
            threading.Thread(target=look, daemon=True).start()
        times: Dict[str, List[float]] = {}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for path in PAGES:
                began = time.perf_counter()
                fetch(path)
                times.setdefault(path, []).append((time.perf_counter() - began) * 1000)
                time.sleep(0.05)
        everything = sorted(value for row in times.values() for value in row)
        p99 = everything[int(len(everything) * 0.99)]
        what = f"pages while {lookers[0]} whole clusters of the past were asked for" if meanwhile else "pages, nobody else asks"
        line(f"{what}, p99", p99, 0, f"p50 {statistics.median(everything):.1f} ms, {len(everything)} answers")
        for path, row in sorted(times.items(), key=lambda item: -max(item[1])):
            print(f"    {path:40} p50 {statistics.median(row):8.1f} ms, most {max(row):8.1f} ms")
    stop.set()


def sizes(folder: Path, past_sizes: Dict[str, float], node_days: int) -> None:
    """Bytes a node-day, raw and tiers with what pages and indexes waste, beside Prometheus' for the same numbers."""
    with sqlite3.connect(f"file:{folder}/hub.db?mode=ro", uri=True) as connection:
        ((blocks,),) = connection.execute("SELECT sum(length(data)) FROM block")
    rows = sum(size for name, size in past_sizes.items() if not name.startswith("raw"))
    past_sizes["pages, indexes"] = max(0.0, (os.path.getsize(folder / "hub.db") - blocks) / node_days - rows)
    for name, size in past_sizes.items():
        print(f"{name:58} {size / 1e3:8.0f} kB a node-day")
    total = sum(past_sizes.values())
    print(f"{'all':58} {total / 1e3:8.0f} kB a node-day")
    if shutil.which("promtool"):
        found = storage(folder)
        theirs = found["prometheus"] * DAY / 5
        ratio = total / theirs
        if ratio > 0.4:
            MISSED.append("store size")
        print(f"{'Prometheus, the same numbers':58} {theirs / 1e3:8.0f} kB a node-day: {ratio:.2f}x (target 0.4x) {'ok' if ratio <= 0.4 else 'MISSED'}")


def main(days: int = 30, hosts: int = 100, nodes: int = 300) -> None:
    """Write the past, start fleet and hub, ask."""
    kept = os.environ.get("HISTORY_FOLDER")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="gpuwatch-history-"))
    folder.mkdir(exist_ok=True)
    started: List[Any] = []
    try:
        began = time.monotonic()
        found = history_past.write(str(folder / "hub.db"), hosts, days)
        print(f"{hosts} hosts x {fleet.GPUS} GPUs x {days} days, {os.path.getsize(folder / 'hub.db') / 1e6:.0f} MB, written in {time.monotonic() - began:.0f} s")
        sizes(folder, found, hosts * days)
        start(folder, nodes, started)
        print(f"a hub polls {nodes} nodes every 5 s; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        time.sleep(20)
        questions(folder, hosts, days)
        pages_meanwhile(30.0)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"MISSED: {', '.join(MISSED)}" if MISSED else "all targets met")


if __name__ == "__main__":
    interpreter.run_under()
    print(interpreter.words(sys.executable).replace("hub under", "all under"))
    main(*map(int, sys.argv[1:]))
