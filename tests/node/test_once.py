"""One snapshot for the command line, from real samplers that start slowly, hang, or end."""

import sys

import pytest
from tests.node.sources import ARGV

from gpuwatch.config.settings import NodeSettings
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.node import once


@pytest.fixture
def read(tmp_path):
    """``read_once`` with a source that obeys a word."""
    script = tmp_path / "script"
    settings = NodeSettings(sample_deadline=0.7, source="tests.node.sources:make", source_argument=str(script))

    def run(word="ok", argv=ARGV):
        script.write_text(word)
        return once.read_once(settings, 0.1, argv)

    return run


def test_a_snapshot(read):
    assert [gpu.uuid for gpu in read().gpus] == ["GPU-0", "GPU-1"]


def test_a_slow_start_is_no_hanging_driver(read):
    """The deadline is that of a sample: Python itself may take longer on a slow machine."""
    slow = [sys.executable, "-c", "import time; time.sleep(1.5); " + ARGV[2]]
    assert len(read(argv=slow).gpus) == 2


def test_a_driver_that_hangs(read):
    with pytest.raises(GpuwatchError, match="The NVIDIA driver does not answer"):
        read("hang")


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
