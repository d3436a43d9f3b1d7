"""One snapshot for the command line, from real samplers that start slowly, hang, or end."""

import subprocess
import sys

import pytest
from tests.node.sources import ARGV

from gpuwatch.config.settings import NodeSettings
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.node import once
from gpuwatch.node.inventory import write_options
from gpuwatch.node.service import sampler_options


@pytest.fixture
def read(tmp_path):
    """``read_once`` with a source that obeys a word."""
    script = tmp_path / "script"

    def run(word="ok", argv=ARGV, deadline=60.0):
        script.write_text(word)
        settings = NodeSettings(sample_deadline=deadline, source="tests.node.sources:make", source_argument=str(script))
        return once.read_once(settings, 0.1, argv)

    return run


@pytest.fixture
def said(tmp_path):
    """A file of what a sampler says: that it is ready, and its first two samples."""
    script = tmp_path / "another script"
    script.write_text("ok")
    options = sampler_options(NodeSettings(interval=0.1, source="tests.node.sources:make", source_argument=str(script)))
    with subprocess.Popen(ARGV, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sampler:
        sampler.stdin.write(write_options(options))
        sampler.stdin.flush()
        (tmp_path / "said").write_bytes(b"".join(sampler.stdout.readline() for _ in range(6)))
        sampler.stdin.close()
        sampler.kill()
    return tmp_path / "said"


def test_a_snapshot(read):
    assert [gpu.uuid for gpu in read().gpus] == ["GPU-0", "GPU-1"]


def test_a_slow_start_is_no_hanging_driver(read, said):
    """The deadline is that of a sample: Python itself may take longer on a slow machine. All is said at once then, so that only the start is slow."""
    slow = [sys.executable, "-c", f"import os, sys, time; time.sleep(1.5); os.write(1, open({str(said)!r}, 'rb').read()); sys.stdin.read()"]
    assert len(read(argv=slow, deadline=0.7).gpus) == 2


def test_a_driver_that_hangs(read):
    with pytest.raises(GpuwatchError, match="The NVIDIA driver does not answer"):
        read("hang", deadline=0.7)


def test_a_sampler_that_does_not_start(read, monkeypatch):
    monkeypatch.setattr(once, "START_SECONDS", 0.5)
    with pytest.raises(GpuwatchError, match=r"did not start within 0\.5 s"):
        read(argv=[sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_sampler_that_ends(read):
    with pytest.raises(GpuwatchError, match="the sampler ended with exit code 3"):
        read(argv=[sys.executable, "-c", "raise SystemExit(3)"])


def test_a_sampler_whose_output_ends_before_it(read):
    """As each does, if only for a moment."""
    with pytest.raises(GpuwatchError, match="the sampler ended with exit code 3"):
        read(argv=[sys.executable, "-c", "import os, time; os.close(1); time.sleep(0.5); raise SystemExit(3)"])


def test_a_sampler_whose_output_ends_and_that_lives_on(read, monkeypatch):
    monkeypatch.setattr(once, "SILENT_SECONDS", 0.1)
    with pytest.raises(GpuwatchError, match="the sampler closed its output and does not end"):
        read(argv=[sys.executable, "-c", "import os, time; os.close(1); time.sleep(600)"])
