"""Three hubs, one PostgreSQL, many simulated nodes, all real processes: one hub is killed, another one cut off from the database for a minute.

Prints what the store has of it: the longest gap of any node, snapshots stored twice, how long each part took, and what it cost. Everything on
loopback, in a temporary folder.  Usage: scripts/trial_hubs.py [nodes] [interval]   Needs PostgreSQL's programs (make prepare).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "bench"), str(ROOT)]

FLEET_PORT, FIRST_PORT = 19150, 19170
SAMPLES_AN_INTERVAL = 1.25
"""A node samples in its own rhythm, as real ones do (each 4 s of 5): who asks twice meanwhile gets the same sample."""
STEADY_SECONDS, AFTER_KILL_SECONDS, CUT_SECONDS, AFTER_CUT_SECONDS = 60.0, 50.0, 60.0, 50.0
TICKS = os.sysconf("SC_CLK_TCK")


def fleet(count: int, port: int, sample_seconds: float) -> None:
    """Child: the nodes."""
    import fleet as bench

    class Sampled(bench.Node):
        def advance(self, now: float) -> None:
            at = now - (now + self.dice_phase) % sample_seconds
            if at > self._taken:
                super().advance(at)

    class Sampling(bench.Fleet):
        def __init__(self, count: int, plain: bool = False) -> None:
            super().__init__(0, plain)
            now = time.time()
            for number in range(count):
                node = self.nodes[bench.address(number)] = Sampled(number, round(now, 3))
                node.dice_phase = (number * 0.618) % sample_seconds
                node._taken = 0.0

    bench.Fleet = Sampling
    asyncio.run(bench.main(count, port))


async def proxy(folder: str, target: str) -> None:
    """Child: what the second hub reaches the database through. When it is stopped, its system still takes what is sent, and nothing answers."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        below = await asyncio.open_unix_connection(target)
        await asyncio.gather(pump(reader, below[1]), pump(below[0], writer))

    await asyncio.start_unix_server(serve, f"{folder}/.s.PGSQL.5432")
    print("ready", flush=True)
    await asyncio.Event().wait()


class Trial:
    """The processes, and what is asked of them."""

    def __init__(self, folder: Path, nodes: int, interval: float) -> None:
        from tests.store.postgres import PASSWORD, USER, Server

        self.folder, self.nodes, self.interval = folder, nodes, interval
        self.server = Server()
        self.server.start()
        socket = str(self.server.folder)
        (folder / "proxy").mkdir()
        self.urls = [f"postgresql://{USER}:{PASSWORD}@/postgres?host={path}" for path in (socket, folder / "proxy", socket)]
        self.proxy = self._child("--proxy", folder / "proxy", f"{socket}/.s.PGSQL.5432")
        self.fleet = self._child("--fleet", nodes, FLEET_PORT, interval / SAMPLES_AN_INTERVAL)
        self.hubs: List[subprocess.Popen[bytes]] = []

    def _child(self, *words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        return process

    def start_hubs(self) -> None:
        """Three of them; ``hubN.log`` is what they say."""
        import fleet as bench

        hosts = self.folder / "hosts.txt"
        hosts.write_text("".join(f"n{number:04d}={bench.address(number)}:{FLEET_PORT}\n" for number in range(self.nodes)))
        for number, url in enumerate(self.urls):
            config = self.folder / f"hub{number}.toml"
            values = {"port": FIRST_PORT + number, "interval": self.interval, "hosts": str(hosts), "database": url, "pack_snapshots": 20}
            config.touch(0o600)  # it holds the database's password
            config.write_text("[hub]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
            env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "STATE_DIRECTORY": str(self.folder), "GPUWATCH_PASSWORD": "x"}
            with (self.folder / f"hub{number}.log").open("wb") as log:
                argv = [sys.executable, "-m", "gpuwatch", "hub", "--config", str(config), "--no-access-log"]
                self.hubs.append(subprocess.Popen(argv, env=env, stdout=log, stderr=log))
            if not number:
                self.until(lambda: self.up(0) >= 0)

    def up(self, number: int) -> int:
        """How many nodes are up on that hub's pages; -1 = it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{FIRST_PORT + number}/states/", timeout=20) as answer:
                answer.read()
            with urllib.request.urlopen(f"http://127.0.0.1:{FIRST_PORT + number}/api/v1/cluster", timeout=20) as answer:
                return sum(node["status"] == "up" for node in json.load(answer)["nodes"])
        except OSError:
            return -1

    def until(self, condition: Any, seconds: float = 120.0) -> None:
        """Wait for it."""
        ends_at = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > ends_at:
                raise SystemExit("did not happen in time; logs: " + str(self.folder))
            time.sleep(0.5)

    def watch(self, seconds: float, hubs: Tuple[int, ...]) -> Dict[int, int]:
        """The fewest nodes that were up on each hub's pages meanwhile."""
        least = dict.fromkeys(hubs, self.nodes)
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            for number in hubs:
                least[number] = min(least[number], self.up(number))
            time.sleep(2.0)
        return least

    def shares(self) -> List[int]:
        """How many nodes each hub says last that it polls."""
        logs = [(self.folder / f"hub{number}.log").read_text() for number in range(3)]
        return [int((re.findall(r"polls (\d+) of", log) or ["0"])[-1]) for log in logs]

    def cpu_seconds(self) -> Tuple[float, float]:
        """Of the hubs, of the database server."""
        first = self.server._process.pid
        below = [int(pid) for task in Path(f"/proc/{first}/task").glob("*/children") for pid in task.read_text().split()]
        return sum(map(_cpu, [hub.pid for hub in self.hubs])), sum(map(_cpu, [first, *below]))

    def close(self) -> None:
        """End everything."""
        self.proxy.send_signal(signal.SIGCONT)
        for process in (*self.hubs, self.proxy, self.fleet):
            if process.poll() is None:
                process.kill()
            process.wait()
        self.server.close()
        (ROOT / "build").mkdir(exist_ok=True)
        for log in self.folder.glob("hub*.log"):
            (ROOT / "build" / f"trial-{log.name}").write_bytes(log.read_bytes())


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def stored(url: str) -> Dict[str, List[Tuple[float, float]]]:
    """By node: (time stored, node's own time) of each snapshot, oldest first."""
    from gpuwatch.store import machines, snapshots
    from gpuwatch.store.database import open_store

    store = open_store(url)
    found = {one.name: [(entry.taken_at_ms / 1000, entry.values[0]) for entry in snapshots.read(store, one.id)] for one in machines.list_all(store)}
    print("in blocks:", store.rows("SELECT coalesce(sum(count), 0) FROM block")[0][0], "snapshots; damaged:", _damaged(store))
    store.close()
    return found


def _damaged(store: Any) -> int:
    from gpuwatch.store import upkeep

    return len(upkeep.check(store, thorough=True))


def longest(found: Dict[str, List[Tuple[float, float]]], start: float, end: float) -> float:
    """The longest gap of any node, from start to end; a node that stops before the end has one to the end."""
    gaps = [0.0]
    for times in found.values():
        inside = [at for at, _ in times if start <= at <= end]
        gaps += [later - earlier for earlier, later in zip([start, *inside], [*inside, end])]
    return max(gaps)


def main(nodes: int, interval: float) -> None:
    """The trial."""
    with tempfile.TemporaryDirectory(prefix="gpuwatch-trial-") as folder:
        trial = Trial(Path(folder), nodes, interval)
        try:
            run(trial)
        finally:
            trial.close()


def run(trial: Trial) -> None:
    """All parts, and what came of them."""
    trial.start_hubs()
    trial.until(lambda: sum(trial.shares()) == trial.nodes and all(trial.shares()) and all(trial.up(number) == trial.nodes for number in range(3)))
    print(f"{trial.nodes} nodes, interval {trial.interval:g} s; shares of the hubs: {trial.shares()}")
    began, cpu = time.time(), trial.cpu_seconds()
    time.sleep(STEADY_SECONDS)
    passed = time.time() - began
    hubs, server = (after - before for after, before in zip(trial.cpu_seconds(), cpu))
    polls = passed / trial.interval * trial.nodes
    print(f"steady for {passed:.0f} s: CPU a poll {1000 * hubs / polls:.2f} ms in the hubs, {1000 * server / polls:.2f} ms in PostgreSQL")

    killed = time.time()
    trial.hubs[0].kill()
    trial.until(lambda: sum(trial.shares()[1:]) == trial.nodes, 60)
    print(f"kill -9 of hub 0: its nodes were the others' after {time.time() - killed:.1f} s (looked at each 0.5 s); shares {trial.shares()[1:]}")
    least = trial.watch(AFTER_KILL_SECONDS, (1, 2))
    print(f"fewest nodes up on the others' pages since: {least}")

    cut = time.time()
    trial.proxy.send_signal(signal.SIGSTOP)
    least = trial.watch(CUT_SECONDS, (1, 2))
    print(f"hub 1 cut off for {time.time() - cut:.0f} s; hub 2 polls {trial.shares()[2]}; fewest nodes up on the pages meanwhile: {least}")
    back = time.time()
    trial.proxy.send_signal(signal.SIGCONT)
    trial.until(lambda: sum(trial.shares()[1:]) == trial.nodes and all(trial.shares()[1:]), 90)
    print(f"back: shares {trial.shares()[1:]} after {time.time() - back:.1f} s")
    trial.watch(AFTER_CUT_SECONDS, (1, 2))
    ended = time.time()
    for hub in trial.hubs[1:]:
        hub.send_signal(signal.SIGTERM)
    codes = [hub.wait(60) for hub in trial.hubs[1:]]
    size = trial.server.folder / "data"
    print(f"the database takes {sum(file.stat().st_size for file in size.rglob('*') if file.is_file() and 'pg_wal' not in file.parts) / 1e6:.0f} MB")

    found = stored(trial.urls[0])
    total = sum(map(len, found.values()))
    twice = sum(count - 1 for times in found.values() for count in Counter(own for _, own in times).values())
    limit = 3 * trial.interval
    print(f"the hubs ended with {codes}; {total} snapshots of {len(found)} nodes are stored, {twice} of them twice")
    for what, start, end in (("steady", began, killed), ("kill -9", killed - limit, cut - limit), ("cut-off and return", cut - limit, ended - limit)):
        print(f"longest gap of any node, {what}: {longest(found, start, end):.1f} s (at most {limit:g})")
    text = "".join((trial.folder / f"hub{number}.log").read_text() for number in range(3))
    errors = [line for line in text.splitlines() if "Traceback" in line or "damaged" in line or "cannot be kept" in line]
    print("tracebacks and damage in the logs:", len(errors), *errors[:5], sep="\n" if errors else " ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fleet"]:
        fleet(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    elif sys.argv[1:2] == ["--proxy"]:
        asyncio.run(proxy(sys.argv[2], sys.argv[3]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 300, float(sys.argv[2]) if sys.argv[2:] else 5.0)
