"""A node that pushes and one that is polled, real processes, through two outages: the hub is killed (kill -9), then the network is cut. In the first one the pushing
node is killed too, and started again.

Prints for each: samples that the node took (noted by its source), samples in the hub's history, which are missing, which are there twice, and the longest gap of each.
Usage: scripts/trial_push.py [seconds of each outage, 300]   For the cut it needs network namespaces (root); without them the second outage is a stopped hub.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src")]
SAMPLE_SECONDS, POLL_SECONDS = 1.0, 0.4
"""Polls come more often than samples: else the hub skips some also while all is well."""
STEADY_SECONDS, RECOVERY_SECONDS = 20.0, 40.0
MATCH_SECONDS = 0.25
"""A sample's time may be corrected by the hub by a hair."""


class Net:
    """Two hosts beside the hub's, joined by cables; or none of it, and all on loopback."""

    def __init__(self) -> None:
        self.tag = f"gw{secrets.token_hex(3)}"
        self.names: List[str] = []
        self.works = self._build()

    def _build(self) -> bool:
        try:
            for name in ("hub", "push", "poll"):
                self.ip("netns", "add", f"{self.tag}-{name}")
                self.names.append(f"{self.tag}-{name}")
                self.ip("-n", f"{self.tag}-{name}", "link", "set", "lo", "up")
            hub = ("-n", f"{self.tag}-hub")
            self.ip(*hub, "link", "add", "bridge0", "type", "bridge")
            self.ip(*hub, "addr", "add", "10.78.0.1/24", "dev", "bridge0")
            self.ip(*hub, "link", "set", "bridge0", "up")
            for name, last in (("push", 11), ("poll", 12)):
                self.ip(*hub, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", f"{self.tag}-{name}")
                self.ip(*hub, "link", "set", f"to-{name}", "master", "bridge0", "up")
                self.ip("-n", f"{self.tag}-{name}", "addr", "add", f"10.78.0.{last}/24", "dev", "eth0")
                self.ip("-n", f"{self.tag}-{name}", "link", "set", "eth0", "up")
        except OSError as error:
            print(f"no network namespaces ({error}): the second outage is a stopped hub")
            self.close()
            return False
        return True

    @staticmethod
    def ip(*words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise OSError(done.stderr.strip())

    def words(self, name: str) -> List[str]:
        """What runs a program on this host."""
        return ["ip", "netns", "exec", f"{self.tag}-{name}"] if self.works else []

    def cables(self, state: str) -> None:
        """Up or down, both."""
        for name in ("push", "poll"):
            self.ip("-n", f"{self.tag}-hub", "link", "set", f"to-{name}", state)

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30)
        self.names = []


class Trial:
    """The processes."""

    def __init__(self, folder: Path, net: Net) -> None:
        self.folder, self.net = folder, net
        self.running: Dict[str, subprocess.Popen[bytes]] = {}
        self.code = ""
        (folder / "hosts.txt").write_text(f"polled={'10.78.0.12' if net.works else '127.0.0.1:17082'}\n")

    def start(self, name: str, host: str, *words: str, **environ: str) -> None:
        """A gpuwatch on a host; its log lies in the folder."""
        log = (self.folder / f"{name}.log").open("ab")
        state = self.folder / f"{name}-state"
        base = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'scripts'}", "GPUWATCH_PASSWORD": "trial", "STATE_DIRECTORY": str(state), **environ}
        state.mkdir(exist_ok=True)
        argv = [*self.net.words(host), sys.executable, "-m", "gpuwatch", *words]
        self.running[name] = subprocess.Popen(argv, env=base, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    def hub(self) -> None:
        host = "0.0.0.0" if self.net.works else "127.0.0.1"
        self.start("hub", "hub", "hub", "--hosts", "hosts.txt", "--host", host, "--port", "17070", "--interval", f"{POLL_SECONDS:g}", "--database", "sqlite:///hub.db")

    def node(self, name: str, host: str, port: int, **environ: str) -> None:
        address = "0.0.0.0" if self.net.works else "127.0.0.1"
        more = {"GPUWATCH_NAME": name, "GPUWATCH_NODE_SOURCE": "trial_source:make", "TRIAL_TAKEN": str(self.folder / f"{name}.taken"), **environ}
        self.start(name, host, "node", "--host", address, "--port", str(port), "--interval", f"{SAMPLE_SECONDS:g}", **more)

    def pusher(self) -> None:
        self.node("pushed", "push", 17081, GPUWATCH_PUSH=f"http://{'10.78.0.1' if self.net.works else '127.0.0.1'}:17070", GPUWATCH_ENROLL=self.code)

    def enrol(self) -> None:
        words = [sys.executable, "-m", "gpuwatch", "enroll", "--database", "sqlite:///hub.db", "create", "--json"]
        done = subprocess.run(words, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=60, check=True)
        self.code = json.loads(done.stdout)[0]["code"]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """With all below it."""
        process = self.running.pop(name)
        os.killpg(process.pid, number)
        process.wait(60)

    def status(self) -> Dict[str, str]:
        words = [*self.net.words("hub"), "curl", "-sS", "-m", "20", "http://127.0.0.1:17070/api/v1/cluster"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        return {one["name"]: one["status"] for one in json.loads(done.stdout)["nodes"]} if done.returncode == 0 else {}

    def until_up(self, seconds: float = 90.0) -> float:
        """How long it took until both are up."""
        began = time.monotonic()
        while self.status() != {"polled": "up", "pushed": "up"}:
            if time.monotonic() - began > seconds:
                raise SystemExit(f"not up after {seconds:g} s: {self.status()}; logs in {self.folder}")
            time.sleep(0.5)
        return time.monotonic() - began


def stored(folder: Path, name: str) -> List[float]:
    """Times of what the hub has of a host."""
    from gpuwatch.store import machines, snapshots
    from gpuwatch.store.database import open_store

    store = open_store(str(folder / "hub.db"), create=False, read_only=True)
    try:
        return [entry.taken_at_ms / 1000 for entry in snapshots.read(store, machines.find(store, name).id)]
    finally:
        store.close()


def compare(folder: Path, name: str, since: float, until: float) -> bool:
    """Print what of a node's samples is in the history; True when all is, once."""
    taken = [at for at in map(float, (folder / f"{name}.taken").read_text().split()) if since <= at <= until]
    kept = [at for at in stored(folder, name) if since - MATCH_SECONDS <= at <= until + MATCH_SECONDS]
    missing = [at for at in taken if not any(abs(at - other) < MATCH_SECONDS for other in _near(kept, at))]
    twice = [at for at, count in Counter(round(at, 3) for at in kept).items() if count > 1] + [b for a, b in zip(kept, kept[1:]) if b - a < MATCH_SECONDS]
    gaps = [max((b - a for a, b in zip(times, times[1:])), default=0.0) for times in (taken, kept)]
    print(f"{name}: {len(taken)} samples taken, {len(taken) - len(missing)} of them stored, {len(missing)} missing, {len(twice)} twice; "
          f"longest gap: taken {gaps[0]:.2f} s, stored {gaps[1]:.2f} s")  # fmt: skip
    if missing:
        print("  missing at", ", ".join(f"{at - since:.1f}" for at in missing[:20]), "s")
    return not missing and not twice


def _near(times: List[float], at: float) -> List[float]:
    from bisect import bisect_left

    place = bisect_left(times, at)
    return times[max(0, place - 1) : place + 2]


def main(outage_seconds: float) -> int:
    """Both outages."""
    net = Net()
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-trial-"))
    trial = Trial(folder, net)
    try:
        trial.hub()
        time.sleep(5)
        trial.enrol()
        trial.pusher()
        trial.node("polled", "poll", 7080 if net.works else 17082)
        print(f"both up after {trial.until_up():.1f} s")
        time.sleep(5)
        since = time.time()
        time.sleep(STEADY_SECONDS)
        print(f"kill -9 of the hub, for {outage_seconds:g} s; of the pushing node too, half-way")
        trial.kill("hub")
        time.sleep(outage_seconds / 2)
        trial.kill("pushed")
        trial.pusher()
        time.sleep(outage_seconds / 2)
        waiting = sum(path.stat().st_size for path in (folder / "pushed-state" / "spool").glob("*.segment"))
        trial.hub()
        print(f"  {waiting} bytes waited in the spool; both up {trial.until_up():.1f} s after the hub's start")
        time.sleep(RECOVERY_SECONDS)
        print(f"{'the network is cut' if net.works else 'the hub is stopped'} for {outage_seconds:g} s")
        net.cables("down") if net.works else os.killpg(trial.running["hub"].pid, signal.SIGSTOP)
        time.sleep(outage_seconds)
        net.cables("up") if net.works else os.killpg(trial.running["hub"].pid, signal.SIGCONT)
        print(f"  both up {trial.until_up():.1f} s after it")
        time.sleep(RECOVERY_SECONDS)
        until = time.time() - 5
        trial.kill("hub", signal.SIGTERM)
        good = [compare(folder, name, since, until) for name in ("pushed", "polled")]
        return 0 if all(good) else 1
    finally:
        for name in list(trial.running):
            trial.kill(name)
        net.close()


if __name__ == "__main__":
    given: Optional[Any] = sys.argv[1] if len(sys.argv) > 1 else None
    raise SystemExit(main(float(given or 300)))
