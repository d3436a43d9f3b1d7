"""The encoding between node and hub against the node's plain readable JSON: bytes, decoding and validating, and the CPU of a whole hub.

Three ratios, each of one run: bytes of an answer to a poll (0.12x); reading an answer until its numbers are checked (0.3x); CPU per poll of a hub that
polls simulated nodes every 5 s, beside one that gets the JSON of as many (0.8x). A hub takes no readable JSON; what it would do stands here (``Plain``):
decode, check each field as the model says, and the same door as all foreign readings.  Usage: bench/wire.py [nodes] [minutes]
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "bench"))

import fleet  # noqa: E402
from hub_poll import cpu_seconds, fetch, show, wait_ready  # noqa: E402

from gpuwatch.hub.ingest import Ingest  # noqa: E402
from gpuwatch.model.errors import WireError  # noqa: E402
from gpuwatch.model.snapshot import Snapshot  # noqa: E402
from gpuwatch.node.newest import Newest, Sample  # noqa: E402
from gpuwatch.wire import frame  # noqa: E402
from gpuwatch.wire.changes import Reader, known_as  # noqa: E402
from gpuwatch.wire.flat import Shape  # noqa: E402
from gpuwatch.wire.layout import SNAPSHOT, Layout, read_fact  # noqa: E402

PORTS = {"frame": (19110, 19072), "plain": (19111, 19073)}
INTERVAL = 5.0


class Plain:
    """Readings from the readable JSON: what a hub would need to take it."""

    @classmethod
    def read(cls, body: bytes) -> Snapshot:
        """The snapshot of a node's answer, each field checked. Raises WireError."""
        doc = frame.loads(body)
        if not isinstance(doc, dict) or not isinstance(doc.get("snapshot"), dict):
            raise WireError("The answer has no snapshot.")
        snapshot: Snapshot = cls._reading(SNAPSHOT, doc["snapshot"])
        return snapshot

    @classmethod
    def _reading(cls, layout: Layout, doc: Any) -> Any:
        if not isinstance(doc, dict):
            raise WireError(f"{layout.name} is not an object.")
        fields = {name: read_fact(layout.name, name, annotation, doc[name]) for name, annotation, _ in layout.facts if name in doc}
        for name in layout.values:
            value = doc.get(name)
            if value is not None and (type(value) not in (int, float) or not -(2**63) < value < 2**63):
                raise WireError(f"{layout.name}.{name} is not a number.")
            fields[name] = value
        for nested in layout.nested:
            inner = doc.get(nested.name)
            if nested.layout is None:
                fields[nested.name] = tuple(inner or ())
            elif nested.kind == "one":
                fields[nested.name] = cls._reading(nested.layout, inner or {})
            else:
                fields[nested.name] = tuple([cls._reading(nested.layout, one) for one in inner or ()])
        return layout.cls(**fields)

    @staticmethod
    def patch() -> None:
        """This process's hub takes readable JSON."""

        def accept(self: Ingest, target: Any, machine_id: str, body: bytes, asked_at: float, answered_at: float) -> None:
            self.accept_snapshot(target, machine_id, Plain.read(body), answered_at)

        Ingest.accept = accept


@lru_cache(maxsize=None)
def restless(shape: Shape) -> Tuple[int, ...]:
    """Places of cores, processes and counters, which the fleet leaves as they are."""
    places = shape.places()
    found = [*places.host.cores_percent]
    for network in places.host.networks:
        found += [network.received_bytes, network.sent_bytes]
    for gpu in places.gpus:
        for process in gpu.processes:
            found += [process.gpu_memory_bytes, process.cpu_percent, process.host_memory_bytes]
    return tuple(place for place in found if place is not None)


def answers(nodes: int, polls: int, noisy: bool) -> Tuple[List[bytes], List[List[bytes]], List[Shape]]:
    """(readable answers, frames node by node, shapes): what real nodes' servers give to a hub that polls them. The first answers are left out."""
    plain, frames, shapes = [], [], []
    dice = random.Random(1)
    for number in range(nodes):
        node, newest, told = fleet.Node(number, 1_790_000_000.0), Newest(), []
        shape, known = Shape.parse(node.shape), ""
        for poll in range(polls + 1):
            now = 1_790_000_000.0 + (poll + 1) * INTERVAL
            node.advance(now)
            if noisy:
                for place in restless(shape):
                    node.values[place] = round((node.values[place] or 1) * dice.uniform(0.9, 1.1), 1)
            newest.accept(Sample(shape, frame.encode_values(node.values)))
            answer = newest.answer(now)
            assert answer is not None
            body = answer.flat(known, now)
            header, _ = frame.decode(body)
            known = known_as(header["shape_id"], header["sample"])
            told.append(body)
            if poll:
                plain.append(answer.json())
        frames.append(told)
        shapes.append(shape)
    return plain, frames, shapes


def cpu_us(work: Callable[[], object], count: int) -> float:
    """CPU time of the fastest of 5 rounds, for each of ``count``."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / count * 1e6


def read_frames(frames: List[List[bytes]], shapes: List[Shape]) -> int:
    """As the hub reads them, from the second of each node on; how many."""
    reader, read = Reader(), 0
    for told, shape in zip(frames, shapes):
        base = first_of(told[0], shape)
        for body in told[1:]:
            header, lines = frame.decode(body)
            base = reader.changed(header, base, lines) if "base" in header else reader.whole(header, shape.id, lines)
            shape.sized(base.values)
            read += 1
    return read


@lru_cache(maxsize=None)
def first_of(body: bytes, shape: Shape) -> Any:
    """The first answer of a node, read: not part of the measurement."""
    header, line = frame.decode(body)
    return Reader().whole(header, shape.id, line)


def bytes_and_reading(noisy: bool) -> None:
    """The first two ratios."""
    plain, frames, shapes = answers(40, 12, noisy)
    told = [body for one in frames for body in one[1:]]
    print(f"{'noisy nodes: cores, processes and networks move too' if noisy else 'the nodes of bench/fleet.py'}: {len(told)} answers")
    size = sum(map(len, plain)) / len(plain)
    show("bytes of an answer", sum(map(len, told)) / len(told), size, 0.12, "frame", "JSON")
    whole = [one[0] for one in frames]
    print(f"  for comparison: zlib of the JSON {sum(len(zlib.compress(body)) for body in plain) / len(plain) / size:.3f}x", end="")
    print(f", all numbers in a frame {len(values_of(whole[0])) / size:.3f}x")
    read_frames(frames, shapes)  # the first answers are read before
    ours, theirs = cpu_us(lambda: read_frames(frames, shapes), len(told)), cpu_us(lambda: list(map(Plain.read, plain)), len(plain))
    show("reading an answer, us of CPU", ours, theirs, 0.3, "frame", "JSON")
    print(f"  for comparison: decoding the JSON alone {cpu_us(lambda: list(map(json.loads, plain)), len(plain)):.1f} us")


def values_of(body: bytes) -> bytes:
    """The values line of a whole answer."""
    return frame.decode(body)[1]


def whole_hubs(nodes: int, minutes: float) -> None:
    """The third: two hubs side by side, each with a fleet of its own."""
    folder = Path(tempfile.mkdtemp(prefix="gpuwatch-bench-"))
    quiet: Dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started: List[subprocess.Popen[Any]] = []
    hubs = {}
    try:
        for kind, (port, hub_port) in PORTS.items():
            own = folder / kind
            own.mkdir()
            (own / "hosts.txt").write_text("".join(f"n{n:04d}={fleet.address(n)}:{port}\n" for n in range(nodes)))
            more = ["plain"] if kind == "plain" else []
            started.append(subprocess.Popen([sys.executable, str(ROOT / "bench" / "fleet.py"), str(nodes), str(port), *more], **quiet))
            wait_ready("/report", port, fleet.address(0))
            hub = [sys.executable, __file__, "--hub", kind, "hub", "--hosts", str(own / "hosts.txt"), "--port", str(hub_port), "--no-access-log"]
            hub += ["--interval", str(INTERVAL), "--database", f"sqlite:///{own}/hub.db"]
            env = {**os.environ, "GPUWATCH_PASSWORD": "x", "GPUWATCH_STATE_DIR": str(own)}
            hubs[kind] = subprocess.Popen(hub, env=env, **quiet)
            started.append(hubs[kind])
            wait_ready("/healthz", hub_port)
        time.sleep(30)
        before = {}
        for kind, (port, _) in PORTS.items():
            fetch("/report", port, fleet.address(0))
            before[kind] = cpu_seconds(hubs[kind].pid)
        time.sleep(minutes * 60)
        spent, polls = {}, {}
        for kind, (port, _) in PORTS.items():
            spent[kind] = cpu_seconds(hubs[kind].pid) - before[kind]
            polls[kind] = sum(map(len, json.loads(fetch("/report", port, fleet.address(0)))["asked"].values()))
        print(f"two hubs, {nodes} nodes each, every {INTERVAL:g} s, {minutes:g} min, {polls['frame']} and {polls['plain']} polls")
        show("CPU of a hub per poll, ms", *(spent[kind] / polls[kind] * 1000 for kind in PORTS), 0.8, "frame", "JSON")
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def hub(kind: str, arguments: List[str]) -> None:
    """Run a hub in this process."""
    from gpuwatch.cli.main import main

    if kind == "plain":
        Plain.patch()
    sys.argv = ["gpuwatch", *arguments]
    main()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hub"]:
        hub(sys.argv[2], sys.argv[3:])
    else:
        bytes_and_reading(noisy=False)
        bytes_and_reading(noisy=True)
        whole_hubs(*[kind(text) for kind, text in zip((int, float), sys.argv[1:] or ("500", "2"))])
