"""CPU a poll with TLS against plain HTTP, hub's side and node's side, in one run: kept-alive connections, signed requests, real Server, real Poller.

Nodes: one process with a plain and a TLS server over the same changing sample (8 GPUs, 20 processes). Hub: this process, the poller with the real
door (decode, validate, newest state). Plain and TLS take turns. Also what a new connection costs with a full handshake and with a session taken up.
Usage: bench/tls.py [rounds] [seconds a round]. Target: TLS at most 1.5x CPU a poll on both sides. All traffic is on loopback.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "bench"))

TARGETS, INTERVAL = 40, 0.2
TICKS = os.sysconf("SC_CLK_TCK")


def serve(cert: str, key: str) -> None:
    """The nodes' process: prints both ports, ends with its standard input."""
    import fleet

    from gpuwatch.node.app import MAX_BODY_BYTES, NodeApp
    from gpuwatch.node.newest import Newest, Sample
    from gpuwatch.serve.http import CertificateFiles, Server

    newest = Newest()
    newest.accept(Sample.of(fleet.snapshot(1, time.time())))
    servers = [
        Server(NodeApp(newest, "bench"), "127.0.0.1", 0, 4, False, MAX_BODY_BYTES, tls=tls) for tls in (None, CertificateFiles(cert, key))
    ]
    for server in servers:
        threading.Thread(target=server.run, daemon=True).start()
    print(json.dumps([server.port for server in servers]), flush=True)
    sys.stdin.read()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, to the nanosecond (clock_getcpuclockid(3): ~pid << 3 | 2)."""
    return time.clock_gettime((~pid << 3) | 2)


def polls(scheme: str, port: int, pin: str, seconds: float, node: int) -> Tuple[float, float, int]:
    """(hub's microseconds a poll, node's, polls) of one turn, after the connections stand."""
    from gpuwatch.hub.ingest import Ingest
    from gpuwatch.hub.journal import ArrivalQueue
    from gpuwatch.hub.poller import Poller
    from gpuwatch.loops import AsyncLoop
    from gpuwatch.model.cluster import Target
    from gpuwatch.query.latest import Latest

    latest = Latest()
    pairs = [(Target(f"n{n}", "127.0.0.1", port, scheme, pin=pin if scheme == "https" else ""), f"{n:032x}") for n in range(TARGETS)]
    latest.set_targets(pairs, time.time())
    ingest = Ingest(latest, ArrivalQueue())
    poller = Poller(ingest, lambda target: "bench", interval_seconds=INTERVAL, deadline_seconds=5.0)
    poller.set_targets(pairs)
    loop = AsyncLoop("poller").start(poller.run)
    time.sleep(1.5)
    good, mine, theirs = poller.stats.good, time.process_time(), cpu_seconds(node)
    time.sleep(seconds)
    count = poller.stats.good - good
    spent, node_spent = time.process_time() - mine, cpu_seconds(node) - theirs
    failed = poller.stats.failed
    loop.stop(10)
    if failed or not count:
        raise SystemExit(f"{failed} polls failed, {count} were good")
    return spent / count * 1e6, node_spent / count * 1e6, count


def handshakes(port: int, count: int = 200) -> Dict[str, float]:
    """Microseconds of this process for a connection and its handshake: full, and with the session of the last one."""
    from gpuwatch.wire.http import Trust
    from gpuwatch.wire.tls import context_of

    context = context_of(Trust(pin="any"))
    found: Dict[str, float] = {}
    for name in ("full", "resumed"):
        session, resumed, began = None, 0, time.process_time()
        for _ in range(count):
            with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1", session=session) as secure:
                secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                secure.recv(4096)
                resumed += bool(secure.session_reused)
                session = secure.session if name == "resumed" else None
        found[name] = (time.process_time() - began) / count * 1e6
        if name == "resumed" and resumed < count - 1:
            raise SystemExit(f"only {resumed} of {count} sessions were taken up")
    return found


def main() -> int:
    rounds, seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 4, float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    from gpuwatch.cli.cert import make
    from gpuwatch.wire.tls import fingerprint

    with tempfile.TemporaryDirectory() as folder:
        cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        make(cert, key, ["127.0.0.1"], 2)
        pin = fingerprint(ssl.PEM_cert_to_DER_cert(cert.read_text()))
        node = subprocess.Popen([sys.executable, __file__, "serve", str(cert), str(key)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert node.stdout is not None
        plain_port, tls_port = json.loads(node.stdout.readline())
        try:
            sides: Dict[str, List[Tuple[float, float, int]]] = {"http": [], "https": []}
            for _ in range(rounds):
                sides["http"].append(polls("http", plain_port, pin, seconds, node.pid))
                sides["https"].append(polls("https", tls_port, pin, seconds, node.pid))
            costs = handshakes(tls_port)
        finally:
            node.communicate(b"", 10)
    hub = {name: statistics.median(one[0] for one in turns) for name, turns in sides.items()}
    own = {name: statistics.median(one[1] for one in turns) for name, turns in sides.items()}
    total = sum(one[2] for turns in sides.values() for one in turns)
    print(f"{total} polls of {TARGETS} kept connections, {rounds} turns each")
    print(f"hub   http {hub['http']:6.0f} us a poll   https {hub['https']:6.0f} us   ratio {hub['https'] / hub['http']:.2f}")
    print(f"node  http {own['http']:6.0f} us a poll   https {own['https']:6.0f} us   ratio {own['https'] / own['http']:.2f}")
    print(f"a new connection, client's side: full handshake {costs['full']:.0f} us, session taken up {costs['resumed']:.0f} us")
    return 0 if max(hub["https"] / hub["http"], own["https"] / own["http"]) <= 1.5 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:4])
    else:
        sys.exit(main())
