"""A machine with the fake driver: the real source in a process of its own, asked for one snapshot after the other."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

from tests.fake_nvml import FakeDriver

REPOSITORY = Path(__file__).resolve().parents[2]
NOW = 1790000000.0

CHILD = """
import dataclasses, json, sys
from gpuwatch.collect.source import make
from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.model.source import SourceLost
given = json.loads(sys.argv[1])
given["known_gpus"] = tuple(GpuReading(**known) for known in given.pop("known_gpus", ()))
source = make(SamplerOptions(**{"name": "", "interval": 4.0, "status_age": 10.0, "health_age": 60.0, "identity_age": 600.0, "source": "", **given}))
for line in sys.stdin:
    try:
        answer = {"snapshot": dataclasses.asdict(source.read(float(line)))}
    except SourceLost as error:
        answer = {"lost": str(error)}
    print(json.dumps(answer), flush=True)
source.close()
"""


class Lost(Exception):
    """The source raised SourceLost."""


class Machine:
    """The source under a fake driver. Use as a context; ``read(now)`` gives the snapshot as nested dicts with attribute access."""

    def __init__(self, driver: FakeDriver | None, **options) -> None:
        self.driver = driver
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), **(driver.env if driver else {})}
        environment.update(options.pop("environment", {}))
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        try:
            assert self.process.wait(60) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    def read(self, now: float = NOW) -> Node:
        self.process.stdin.write(b"%r\n" % now)
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], 60)[0], "the source does not answer"
        answer = json.loads(self.process.stdout.readline())
        if "lost" in answer:
            raise Lost(answer["lost"])
        return plain(answer["snapshot"])


class Node(dict):
    """A dict whose keys are attributes."""

    __getattr__ = dict.__getitem__

    def collector(self, name: str) -> Node:
        return next(status for status in self["collectors"] if status["name"] == name)


def plain(value):
    if isinstance(value, dict):
        return Node({key: plain(item) for key, item in value.items()})
    return [plain(item) for item in value] if isinstance(value, list) else value


def identity(gpu) -> dict:
    """What a node remembers of a GPU for the next process."""
    return {name: gpu[name] for name in ("uuid", "index", "name", "minor_number", "pci_bus_id", "serial", "vbios_version", "cuda_capability")}


def numbers_of(reading: type) -> list:
    return [field.name for field in reading.__dataclass_fields__.values() if field.metadata["kind"] in ("gauge", "counter")]


def with_proc(driver: FakeDriver, *pids: int) -> Path:
    """The fake driver's folder as a root: its own /proc/driver and /sys, the real rest of /proc that a host's reading needs."""
    proc = driver.root / "proc"
    for name in ("stat", "meminfo", "loadavg", "uptime", "cpuinfo", "sys", "self", *map(str, pids)):
        (proc / name).symlink_to(Path("/proc") / name)
    drivers = driver.root / "sys/bus/pci/drivers/nvidia"
    drivers.mkdir(parents=True)
    for device in (driver.root / "sys/bus/pci/devices").iterdir():
        (device / "driver").symlink_to(drivers)
    return driver.root

