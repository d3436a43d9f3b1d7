"""The sampler as a process: its frames, its end, what it never lets through."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.node.sources import ARGV

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.node.inventory import write_options
from gpuwatch.wire.flat import Shape


class Frames:
    """Reads frames as the node does."""

    def __init__(self, process):
        self.process = process
        self.shape = None

    def next(self):
        line = self.process.stdout.readline()
        if not line:
            return None
        header, values = json.loads(line), json.loads(self.process.stdout.readline())
        if "shape" in header:
            self.shape = Shape.parse(header["shape"])
            assert self.shape.id == header["shape_id"]
        return header, (self.shape.build(self.shape.check(values)) if "shape_id" in header else None)

    def snapshot(self):
        return self.next()[1]


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script"
    path.write_text("ok")
    return path


@pytest.fixture
def start(script):
    processes = []

    def start_sampler(line=None, argv=ARGV, **options):
        defaults = {
            "name": "node1", "interval": 0.05, "status_age": 1.0, "health_age": 1.0, "identity_age": 1.0, "source": "tests.node.sources:make",
            "source_argument": str(script), "sampler_retry": 0.3,
        }  # fmt: skip
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        processes.append(process)
        process.stdin.write(line if line is not None else write_options(SamplerOptions(**{**defaults, **options})))
        process.stdin.flush()
        return process

    yield start_sampler
    for process in processes:
        process.kill()
        process.communicate()


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def started(process):
    frames = Frames(process)
    assert frames.next()[0] == {"ready": 1}
    return frames


def test_frames_come_at_the_interval_and_the_shape_only_once(start):
    frames = started(start())
    first, snapshot = frames.next()
    assert [gpu.uuid for gpu in snapshot.gpus] == ["GPU-0", "GPU-1"]
    assert snapshot.hostname == "node1"
    assert snapshot.host.load_1m == 0.5
    assert snapshot.gpus[0].processes[0].user == "ada"
    second, later = frames.next()
    assert "shape" in first
    assert "shape" not in second
    assert 0 < later.taken_at - snapshot.taken_at < 30


def test_it_ends_when_its_stdin_ends(start, script):
    process = start()
    started(process)
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdin = None
    assert script.with_suffix(".closed").exists()


def test_it_ends_on_sigterm_and_ignores_the_terminals_ctrl_c(start, script):
    process = start()
    frames = started(process)
    process.send_signal(signal.SIGINT)
    assert frames.next()
    assert frames.next()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert script.with_suffix(".closed").exists()


def test_sigterm_in_a_long_interval_is_obeyed_at_once(start):
    process = start(interval=3600.0)
    started(process).next()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_hanging_reading_is_not_interrupted_by_sigterm_but_ended_after(start, script):
    script.write_text("hang")
    process = start()
    frames = started(process)
    until(script.with_suffix(".hanging").exists)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    script.write_text("ok")
    assert frames.next() is not None
    assert process.wait(60) == 0


def test_an_orphan_that_hangs_ends_itself(start, script):
    script.write_text("hang")
    patience = "; import gpuwatch.node.sampler as sampler; sampler.ORPHAN_SECONDS = 0.2; main()"
    process = start(argv=[*ARGV[:2], ARGV[2].replace("; main()", patience)])
    started(process)
    until(script.with_suffix(".hanging").exists)
    process.stdin.close()
    process.stdin = None
    assert process.wait(60) == 0
    assert script.read_text() == "hang"


def test_it_ends_when_nobody_reads(start):
    process = start(interval=0.02)
    started(process)
    process.stdout.close()
    assert process.wait(60) == 0
    assert b"Traceback" not in process.stderr.read()
    process.stdout = None


def test_what_drivers_print_never_reaches_the_pipe(start, script):
    script.write_text("print")
    process = start()
    frames = started(process)
    for _ in range(5):
        assert len(frames.snapshot().gpus) == 2
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert b"a driver prints to stdout" in errors
    assert b"and its library too" in errors


def test_after_source_lost_the_host_goes_on(start, script):
    frames = started(start(sampler_retry=3600.0))
    assert len(frames.snapshot().gpus) == 2
    script.write_text("lost driver 550.90 loaded, library 550.107 installed: reboot")
    while (first := frames.snapshot()).gpus:
        pass
    last = frames.snapshot()
    assert last.taken_at > first.taken_at
    assert last.gpus == ()
    assert last.host.load_1m is not None
    assert last.host.memory_total_bytes > 2**20
    assert (last.collectors[0].name, last.collectors[0].ok) == ("nvml", False)
    assert last.collectors[0].message == "driver 550.90 loaded, library 550.107 installed: reboot"
    assert first.collectors[0].since_at == last.collectors[0].since_at <= last.taken_at
    assert script.with_suffix(".closed").exists()


def test_after_source_lost_it_exits_with_75(start, script):
    process = start(sampler_retry=0.3)
    frames = started(process)
    assert len(frames.snapshot().gpus) == 2
    script.write_text("lost it")
    while frame := frames.next():
        last = frame[1]
    assert process.wait(60) == 75
    assert (last.gpus, last.collectors[0].message) == ((), "it")


def test_a_source_that_cannot_be_made_gives_host_readings_and_the_reason(start):
    process = start(source="tests.node.sources:make_broken")
    frames = started(process)
    snapshot = frames.snapshot()
    assert snapshot.gpus == ()
    assert "nvmlInit went wrong" in snapshot.collectors[0].message
    while frames.next():
        pass
    assert process.wait(60) == 75
    assert b"nvmlInit went wrong" in process.stderr.read()


def test_a_source_that_raises_is_lost_too(start, script):
    script.write_text("raise unheard of")
    process = start()
    assert "RuntimeError: unheard of" in started(process).snapshot().collectors[0].message


@pytest.mark.parametrize("source", ["tests.node.nothing:make", "tests.node.sources:nothing", "nonsense"])
def test_a_source_that_does_not_exist_is_one_line(start, source):
    process = start(source=source)
    started(process)
    assert process.wait(60) == 1
    errors = process.stderr.read().decode()
    assert "There is no source" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("line", [b"\n", b"nonsense\n", b"[1]\n", b'{"name": "x"}\n', b"\xff\n", b"", b'{"known_gpus": 7}\n'])
def test_broken_options_are_one_line(start, line):
    process = start(line=line)
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 1


def test_a_reading_that_is_no_number_is_null(start, script):
    script.write_text("nan")
    snapshot = started(start()).snapshot()
    assert snapshot.host.load_1m is None
    assert snapshot.host.load_5m is None
    assert snapshot.gpus[0].utilization_percent == 50.0


def test_the_host_is_filled_in_where_the_source_has_none(start, script):
    script.write_text("nohost")
    snapshot = started(start()).snapshot()
    assert snapshot.simulated
    assert snapshot.host.cpu_count >= 1
    assert snapshot.host.driver_version is None
    assert len(snapshot.gpus) == 1


def test_a_source_may_tell_the_driver_and_leave_the_rest_of_the_host(start, script):
    script.write_text("nohost 550.90")
    host = started(start()).snapshot().host
    assert (host.driver_version, "driver_version" in host.missing) == ("550.90", False)
    assert host.cpu_count >= 1


def test_known_gpus_reach_the_source(start):
    known = GpuReading(uuid="GPU-9", index=9, name="NVIDIA H100", error_since_at=77.0)
    snapshot = started(start(known_gpus=(known,))).snapshot()
    assert [(gpu.uuid, gpu.error, gpu.error_since_at) for gpu in snapshot.gpus][-1] == ("GPU-9", "GPU is lost", 77.0)


def test_it_imports_neither_http_nor_database_nor_click(start):
    process = start()
    started(process).next()
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "_ssl" not in maps
    code = "import sys; sys.path[:0] = %r; import gpuwatch.node.sampler; print(sorted(sys.modules))"
    modules = subprocess.run([ARGV[0], "-c", code % ARGV[2].split("[:0] = ")[1].split("]")[0].strip("[").replace("'", "").split(", ")],
                             capture_output=True, text=True, check=True).stdout  # fmt: skip
    for name in ("bottle", "waitress", "peewee", "click", "asyncio", "http", "psutil", "socket"):
        assert f"'{name}'" not in modules
    assert os.path.exists(f"/proc/{process.pid}")
