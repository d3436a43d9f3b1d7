"""Sources for the sampler's tests. The source's argument is a file; its word says at each reading what happens.

Beside it lie files that tell what happened: ``.hanging`` (a reading does not return), ``.closed``.
"""

import os
import signal
import sys
import time
from pathlib import Path

from gpuwatch import __version__
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, ProcessReading, Snapshot
from gpuwatch.model.source import SourceLost

ROOT = Path(__file__).resolve().parents[2]
ARGV = [
    sys.executable,
    "-c",
    f"import sys; sys.path[:0] = [{str(ROOT / 'src')!r}, {str(ROOT)!r}]; from gpuwatch.node.sampler import main; main()",
]

BUSY = ProcessReading(pid=4242, started_at=1.0, user="ada", name="python", command="python train.py --lr 0.1", gpu_memory_bytes=2**30)


def gpu(index, **more):
    return GpuReading(
        uuid=f"GPU-{index}", index=index, name="NVIDIA H100", memory_used_bytes=2**30, memory_total_bytes=80 * 2**30,
        utilization_percent=50.0, temperature_celsius=40.0, processes=(BUSY,), **more,
    )  # fmt: skip


def make(options):
    return Scripted(options)


def make_broken(options):
    raise RuntimeError("nvmlInit went wrong")


class Scripted:
    def __init__(self, options):
        self.options = options
        self.script = Path(options.source_argument)
        self.count = 0
        self.lost_at = {}

    def word(self):
        """Of the script; one that is being written is empty for a moment."""
        while not (text := self.script.read_text().strip()):
            time.sleep(0.001)
        return text

    def read(self, now):
        self.count += 1
        word, _, rest = self.word().partition(" ")
        return getattr(self, "do_" + word)(now, rest)

    def close(self):
        self.script.with_suffix(".closed").touch()

    def do_ok(self, now, rest):
        gpus = tuple(gpu(index) for index in range(int(rest or 2)))
        lost = tuple(
            GpuReading(
                uuid=known.uuid, index=known.index, name=known.name, error="GPU is lost",
                error_since_at=self.lost_at.setdefault(known.uuid, known.error_since_at or now),
            )
            for known in self.options.known_gpus
            if known.uuid not in {one.uuid for one in gpus}
        )
        return Snapshot(
            taken_at=now, hostname=self.options.name, version=__version__, interval_seconds=self.options.interval,
            host=HostReading(os="Debian", load_1m=0.5, ips=(("eth0", "192.0.2.2"),)), gpus=gpus + lost, collectors=(CollectorStatus("nvml"),),
        )  # fmt: skip

    def do_hang(self, now, rest):
        hanging = self.script.with_suffix(".hanging")
        hanging.touch()
        while self.word().startswith("hang"):  # deaf to SIGTERM: Python's handler only takes a note
            time.sleep(0.02)
        hanging.unlink(missing_ok=True)
        return self.do_ok(now, "")

    def do_segfault(self, now, rest):
        print("NVRM: about to crash", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)

    def do_crash_after(self, now, rest):
        if self.count > int(rest):
            os.kill(os.getpid(), signal.SIGSEGV)
        return self.do_ok(now, "")

    def do_lost(self, now, rest):
        raise SourceLost(rest)

    def do_raise(self, now, rest):
        raise RuntimeError(rest)

    def do_print(self, now, rest):
        print("a driver prints to stdout", flush=True)
        os.write(1, b"and its library too\n")
        return self.do_ok(now, "")

    def do_nan(self, now, rest):
        snapshot = self.do_ok(now, "1")
        return Snapshot(taken_at=now, hostname="h", gpus=snapshot.gpus, host=HostReading(load_1m=float("nan"), load_5m=float("inf")))

    def do_leave(self, now, rest):
        print("the last words", file=sys.stderr, flush=True)
        os._exit(int(rest))

    def do_garbage(self, now, rest):
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                if fd > 2 and os.readlink(f"/proc/self/fd/{fd}") == os.readlink(f"/proc/{os.getppid()}/fd/{0}"):
                    continue
                if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                    os.set_blocking(fd, False)
                    os.write(fd, b"\xff\x00 not a frame\n\n\n")
            except OSError:
                pass
        return self.do_ok(now, "")

    def do_nohost(self, now, rest):
        return Snapshot(taken_at=now, hostname="sim", gpus=(gpu(0),), simulated=True, host=HostReading(driver_version=rest or None))
