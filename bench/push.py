"""What a pushing node costs a hub, against a polled one: 1,000 simulated nodes (8 GPUs, 20 processes each) every 5 s, one way and then the other, in turns.

Prints CPU of the whole hub per snapshot of each way and their ratio.  Usage: bench/push.py [nodes] [seconds a turn] [turns]
Target: 1.3x. All traffic is on loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "bench"))

import fleet  # noqa: E402

from gpuwatch.wire import frame  # noqa: E402
from gpuwatch.wire.changes import told_since  # noqa: E402
from gpuwatch.wire.push import HOP, PUSH_PATH, Push, Record, decode_reply, encode_push  # noqa: E402
from gpuwatch.wire.signing import Signer  # noqa: E402

FLEET_PORT, HUB_PORT = 19101, 19071
INTERVAL_SECONDS = 5.0
SETTLE_SECONDS = 20.0
"""The first blocks are packed."""
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[place]) for place in (11, 12)) / TICKS


class Pusher:
    """One simulated node that pushes as ``node.push`` does: a signed record, told by what changed since the one before."""

    def __init__(self, number: int, signer: Signer) -> None:
        self.node = fleet.Node(number, time.time())
        self.signer = signer
        self.after: int | None = None
        self.base = (0, b"")
        self.known = ""
        self.pushed = 0

    async def run(self, delay: float) -> None:
        """Push for ever, each interval."""
        await asyncio.sleep(delay)
        due = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", HUB_PORT)
        while True:
            await self.push(reader, writer)
            due += INTERVAL_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def push(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One push and its reply."""
        now = time.time()
        self.node.advance(now)
        line, sequence = frame.encode_values(self.node.values), round(now * 1000)
        told = told_since(self.base[1], line) if self.base[0] else None
        record = Record(sequence, self.node.shape_id, None, line if told is None else told, 0 if told is None else self.base[0])
        shapes = {} if self.known == self.node.shape_id else {self.node.shape_id: self.node.shape}
        body = encode_push(Push("0.1.0", now, self.after, [record], None, shapes))
        head = f"POST {PUSH_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-gpuwatch-push\r\nConnection: {HOP}\r\n"
        head += f"Authorization: {self.signer.header('POST', PUSH_PATH, body, now)}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        said = await reader.readexactly(length)
        assert answer.startswith(b"HTTP/1.1 200"), said
        reply = decode_reply(said)
        assert reply.have == sequence, reply
        self.after, self.known, self.base = reply.have, reply.shape, (sequence, line) if reply.sample == sequence else (0, b"")
        self.pushed += 1


async def push_all(keys: List[List[str]]) -> None:
    """All pushing nodes, until killed; a line a second with how many pushes were answered."""
    pushers = [Pusher(number, Signer(id, bytes.fromhex(key))) for number, (id, key) in enumerate(keys)]
    tasks = [asyncio.create_task(one.run(number / len(pushers) * INTERVAL_SECONDS)) for number, one in enumerate(pushers)]
    while True:
        await asyncio.sleep(1)
        for task in tasks:
            if task.done():
                task.result()
        print(sum(one.pushed for one in pushers), flush=True)


def enrol(database: Path, nodes: int) -> List[List[str]]:
    """Keys for all nodes, written as the hub would."""
    from gpuwatch.store import enrolled
    from gpuwatch.store.database import open_store

    store = open_store(str(database))
    made = []
    with store.writing():
        for number in range(nodes):
            row = enrolled.add(store, kind="push", name=f"n{number:04d}", address="127.0.0.1", now=time.time(), secret=os.urandom(32).hex())
            made.append([row.id, row.secret])
    store.close()
    return made


def turn(way: str, nodes: int, seconds: float) -> Dict[str, float]:
    """One hub, one way: CPU per snapshot in ms, and how many there were."""
    with tempfile.TemporaryDirectory(prefix="gpuwatch-bench-") as name:
        folder = Path(name)
        hosts, database = folder / "hosts.txt", folder / "hub.db"
        lines = [f"n{number:04d}={fleet.address(number)}:{FLEET_PORT}\n" for number in range(nodes)]
        hosts.write_text("".join(lines) if way == "polled" else "")
        keys = enrol(database, nodes) if way == "pushed" else []
        (folder / "keys.json").write_text(json.dumps(keys))
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "GPUWATCH_PASSWORD": "bench"}
        command = ["hub", "--hosts", str(hosts), "--port", str(HUB_PORT), "--database", f"sqlite:///{database}", "--interval", f"{INTERVAL_SECONDS:g}"]
        hub = subprocess.Popen([sys.executable, "-m", "gpuwatch", *command, "--no-access-log", "--log-level", "warning"], env=environ, stdout=subprocess.DEVNULL, cwd=folder)
        if way == "polled":
            others = subprocess.Popen([sys.executable, str(ROOT / "bench" / "fleet.py"), str(nodes), str(FLEET_PORT)], stdout=subprocess.DEVNULL)
        else:
            time.sleep(4)
            others = subprocess.Popen([sys.executable, __file__, "--push", str(folder / "keys.json")], stdout=subprocess.DEVNULL)
        try:
            while stored(database) < 2 * nodes:  # all are there, and shapes are known
                if hub.poll() is not None or others.poll() is not None:
                    raise SystemExit("a process ended")
                time.sleep(1)
            time.sleep(SETTLE_SECONDS)
            before = cpu_seconds(hub.pid), stored(database)
            time.sleep(seconds)
            after = cpu_seconds(hub.pid), stored(database)
        finally:
            for process in (others, hub):
                process.terminate()
                process.wait(30)
    count = after[1] - before[1]
    return {"ms": 1000 * (after[0] - before[0]) / max(1, count), "count": count}


def stored(database: Path) -> int:
    """Snapshots in the store."""
    import sqlite3

    if not database.exists():
        return 0
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'block'").fetchone():
            return 0
        (waiting,), (packed,) = connection.execute("SELECT COUNT(*) FROM snapshot_journal").fetchone(), connection.execute("SELECT TOTAL(count) FROM block").fetchone()
    return int(waiting + packed)


def main(nodes: int, seconds: float, turns: int) -> None:
    """Both ways in turns."""
    found: Dict[str, List[float]] = {"polled": [], "pushed": []}
    for _ in range(turns):
        for way, values in found.items():
            result = turn(way, nodes, seconds)
            values.append(result["ms"])
            wanted = nodes * seconds / INTERVAL_SECONDS
            print(f"{way}: {result['ms']:.3f} ms of CPU a snapshot ({result['count']:.0f} snapshots of {wanted:.0f})", flush=True)
    polled, pushed = (sorted(values)[len(values) // 2] for values in found.values())
    print(f"pushed / polled: {pushed / polled:.2f}x (target 1.3x)")


if __name__ == "__main__":
    arguments: List[Any] = sys.argv[1:]
    if arguments[:1] == ["--push"]:
        asyncio.run(push_all(json.loads(Path(arguments[1]).read_text())))
    else:
        given = [float(word) for word in arguments]
        main(int(given[0]) if given else 1000, given[1] if len(given) > 1 else 60.0, int(given[2]) if len(given) > 2 else 2)
