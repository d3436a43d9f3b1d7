"""Each view of a hub that polls 100 and 1,000 simulated nodes: requests/s, p99, and the ratio to serving the same bytes from memory.

The floor is a process with the same HTTP server that hands out the very bytes the view gave, asked by the same client in the same way,
right before the view. Both run under the Python of `bench/interpreter.py`.  Usage: bench/pages.py [hosts ...]   Target: a view costs at most 2x of its floor.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "bench"))

import fleet  # noqa: E402
import interpreter  # noqa: E402
from hub_poll import FLEET_PORT, HUB_PORT, VIEWS, fetch, wait_ready  # noqa: E402

FLOOR_PORT = 19071
SECONDS = 1.0
CLIENTS = 4
ROUNDS = 7
WARM_SECONDS = 45.0
"""A hub's first minute makes what later ones have: first blocks, forms of views and of metrics."""


def floor(folder: str, port: int) -> None:
    """Serve the files of a folder from memory: the floor. Runs as a process of its own."""
    from gpuwatch.serve.http import Server

    bodies: Dict[str, Tuple[bytes, str, bool]] = {}

    def app(environ: Dict[str, Any], start_response: Any) -> List[bytes]:
        number = environ["PATH_INFO"].strip("/")
        if number not in bodies:
            data = Path(folder, number).read_bytes()
            kind, packed = json.loads(Path(folder, number + ".kind").read_text())
            bodies[number] = data, kind, packed
        data, kind, packed = bodies[number]
        headers = [("Content-Type", kind), ("Content-Length", str(len(data)))] + ([("Content-Encoding", "gzip")] if packed else [])
        start_response("200 OK", headers)
        return [data]

    Server(app, "127.0.0.1", port, 8, access_log=False).run()


class Client(threading.Thread):
    """Asks for one path over one keep-alive connection until told to stop; notes how long each answer took."""

    def __init__(self, port: int, path: str, until: float) -> None:
        super().__init__(daemon=True)
        self.port, self.until, self.times, self.body, self.head = port, until, [], b"", b""
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n".encode()
        self.error = ""

    def run(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                while time.monotonic() < self.until:
                    began = time.monotonic()
                    connection.sendall(self.request)
                    if not self.receive(connection):
                        return
                    self.times.append(time.monotonic() - began)
        except OSError as error:
            self.error = str(error)

    def receive(self, connection: socket.socket) -> bool:
        """One answer with a Content-Length; False if the server will close (a stream)."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(262144)
            if not more:
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        self.head = head
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            self.error = head.split(b"\r\n")[0].decode()
            return False
        parts, got = [body], len(body)
        while got < length:
            more = connection.recv(262144)
            parts.append(more)
            got += len(more)
        self.body = b"".join(parts)
        return True


def load(port: int, path: str) -> Tuple[float, float, Client]:
    """(requests/s, p99 in ms, one of the clients)."""
    began = time.monotonic()
    clients = [Client(port, path, began + SECONDS) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    times = sorted(at for client in clients for at in client.times)
    if not times:
        return 0.0, 0.0, clients[0]
    return len(times) / (time.monotonic() - began), times[int(len(times) * 0.99)] * 1000, clients[0]


def measure(hosts: int) -> None:
    """Start fleet, hub and floor; print a line a view."""
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-bench-"))
    (folder / "hosts.txt").write_text("".join(f"n{n:04d}={fleet.address(n)}:{FLEET_PORT} tags=t{n // 100}\n" for n in range(hosts)))
    quiet: Dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "GPUWATCH_PASSWORD": "x", "GPUWATCH_STATE_DIR": str(folder)}
    python = interpreter.python()
    hub = [python, str(ROOT / "dist" / "gpuwatch.pyz"), "hub", "--hosts", str(folder / "hosts.txt"), "--port", str(HUB_PORT), "--no-access-log"]
    started = []
    try:
        started.append(subprocess.Popen([sys.executable, str(ROOT / "bench" / "fleet.py"), str(hosts), str(FLEET_PORT)], **quiet))
        wait_ready("/report", FLEET_PORT, fleet.address(0))
        started.append(subprocess.Popen(hub, env=env, **quiet))
        packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
        floor_env = {**os.environ, "PYTHONPATH": packages}  # waitress: pure Python, for every interpreter
        started.append(subprocess.Popen([python, __file__, "--floor", str(folder), str(FLOOR_PORT)], env=floor_env, **quiet))
        wait_ready("/healthz", HUB_PORT)
        time.sleep(WARM_SECONDS)
        print(f"{hosts} hosts polled every 5 s, {CLIENTS} connections")
        print(f"  {'view':52s} {'bytes':>8s} {'req/s':>8s} {'p99 ms':>8s} {'floor req/s':>12s}  ratio")
        views = [View(folder, number, path) for number, path in enumerate((*VIEWS, "/live?since=0"))]
        for _ in range(ROUNDS):
            for view in views:
                view.measure()
        for view in views:
            print(view.line())
        fetch("/report", FLEET_PORT, fleet.address(0))
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


class View:
    """Floor and view in turn, once a round; the medians. A round goes through all views: what else the machine does for some seconds meets each of them once."""

    def __init__(self, folder: Path, number: int, path: str) -> None:
        self.number, self.path = number, path
        self.floors: List[float] = []
        self.views: List[float] = []
        self.slow: List[float] = []
        _, _, sample = load(HUB_PORT, path)
        self.error = sample.error or ("" if sample.body else "no answer")
        self.bytes = len(sample.body)
        if not self.error:
            (folder / str(number)).write_bytes(sample.body)
            kind = next(text[14:].decode() for text in sample.head.split(b"\r\n") if text.lower().startswith(b"content-type:"))
            (folder / f"{number}.kind").write_text(json.dumps([kind, b"gzip" in sample.head.lower()]))

    def measure(self) -> None:
        if self.error:
            return
        floor_rate, _, client = load(FLOOR_PORT, f"/{self.number}")
        if not floor_rate:
            self.error = f"the floor gives no answer: {client.error}"
            return
        self.floors.append(floor_rate)
        rate, p99, _ = load(HUB_PORT, self.path)
        self.views.append(rate)
        self.slow.append(p99)

    def line(self) -> str:
        if self.error:
            return f"  {self.path:52s} {self.error}"
        ratio = statistics.median(low / high if high else float("inf") for low, high in zip(self.floors, self.views))
        verdict = "ok" if ratio <= 2 else "MISSED"
        return (
            f"  {self.path[:52]:52s} {self.bytes:8d} {statistics.median(self.views):8.0f} {statistics.median(self.slow):8.1f} "
            f"{statistics.median(self.floors):12.0f}  {ratio:5.2f}x {verdict}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--floor"]:
        floor(sys.argv[2], int(sys.argv[3]))
    else:
        print(interpreter.words(interpreter.python()))
        for count in [int(text) for text in sys.argv[1:]] or [100, 1000]:
            measure(count)
