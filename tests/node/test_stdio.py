"""A node without a port: frames on its stdout, and an end whenever the other side is gone."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.node.sources import ARGV, ROOT

from gpuwatch import __version__
from gpuwatch.child import Child
from gpuwatch.wire.flat import Shape
from gpuwatch.wire.frame import loads
from gpuwatch.wire.ssh import MAGIC

SETTINGS = {"name": "node1", "interval": 0.2, "sample_deadline": 1.0, "source": "tests.node.sources:make"}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script"
    path.write_text("ok 2")
    return path


@pytest.fixture
def node(script, tmp_path):
    """A node's process as a Child, its first line read."""
    settings = {**SETTINGS, "source_argument": str(script), "state_dir": str(tmp_path / "state")}
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'src')!r}, {str(ROOT)!r}]\n"
        "import os, threading, time\nfrom gpuwatch.config.settings import NodeSettings\nfrom gpuwatch.node.stdio import run\n"
        f"def talk():\n    while not time.sleep(0.05): os.path.exists({str(tmp_path / 'noise')!r}) and os.write(1, b'noise of the node\\n')\n"
        "threading.Thread(target=talk, daemon=True).start()\n"
        f"run(NodeSettings(**{settings!r}), {ARGV!r})"
    )
    child = Child([sys.executable, "-c", code])
    try:
        assert child.read_line(30.0) == MAGIC + __version__.encode()
        yield child
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait(10.0)
        child.close()


def frame(node, seconds=30.0):
    header, values = node.read_line(seconds), node.read_line(seconds)
    assert header is not None, node.last_words
    assert values is not None
    head = json.loads(header)
    if "base" not in head:
        node.values = loads(values)
    else:
        assert head["base"] == node.sample
        texts = node.read_line(seconds)
        for place, value in zip(loads(values), loads(texts)):
            node.values[place] = value
    node.sample = head["sample"]
    return head, list(node.values)


def until(node, check):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        header, values = frame(node)
        if check(header):
            return header, values
    raise AssertionError(header)


def samplers_of(node):
    return [pid for task in Path(f"/proc/{node.pid}/task").glob("*/children") for pid in task.read_text().split()]


def test_frames_come_and_the_shape_once(node):
    header, values = frame(node)
    shape = Shape.parse(header["shape"])
    snapshot = shape.build(shape.check(values))
    assert [gpu.uuid for gpu in snapshot.gpus] == ["GPU-0", "GPU-1"]
    assert header["version"] == __version__
    assert abs(header["sent_at"] - time.time()) < 10
    again, values = frame(node)
    assert "shape" not in again
    assert again["base"] == header["sample"]
    assert again["shape_id"] == shape.id
    assert shape.build(shape.check(values)).taken_at > snapshot.taken_at


def test_a_driver_that_hangs_is_told_and_the_node_goes_on_talking(node, script):
    frame(node)
    script.write_text("hang")
    header, _ = until(node, lambda header: header["status"]["stale"])
    assert "driver hung since" in header["status"]["message"]
    said_again, _ = frame(node)
    assert said_again["status"] == header["status"]


@pytest.mark.parametrize("how", ["input", "term", "output"])
def test_it_ends_with_whoever_listens(node, how):
    frame(node)
    samplers = samplers_of(node)
    assert len(samplers) == 1
    if how == "input":
        node.write(b"", close=True)
    elif how == "term":
        os.kill(node.pid, signal.SIGTERM)
    else:
        node._process.stdout.close()
        node._open.clear()
    assert node.wait(20.0)
    assert node.returncode == 0, node.last_words
    stat = Path(f"/proc/{samplers[0]}/stat")
    assert not stat.exists() or stat.read_text().rpartition(") ")[2][0] == "Z"


def test_nothing_else_reaches_the_pipe(node, script, tmp_path):
    """``frame`` takes nothing but JSON: a line of either process that strays into the pipe is no frame."""
    script.write_text("print noise")
    (tmp_path / "noise").touch()
    until(node, lambda _: node.last_words == "noise of the node")
    for _ in range(3):
        frame(node)

