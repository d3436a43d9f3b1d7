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

SETTINGS = {"name": "node1", "interval": 0.2, "source": "tests.node.sources:make"}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script"
    path.write_text("ok 2")
    return path


@pytest.fixture
def deadline():
    """Of a sample: long, where nothing hangs but a busy machine."""
    return 60.0


@pytest.fixture
def node(script, tmp_path, deadline):
    """A node's process as a Child, its first line read."""
    settings = {**SETTINGS, "sample_deadline": deadline, "source_argument": str(script), "state_dir": str(tmp_path / "state")}
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'src')!r}, {str(ROOT)!r}]\n"
        "import os, threading, time\nfrom gpuwatch.config.settings import NodeSettings\nfrom gpuwatch.node.stdio import run\n"
        f"def talk():\n    while not time.sleep(0.05): os.path.exists({str(tmp_path / 'noise')!r}) and os.write(1, b'noise of the node\\n')\n"
        "threading.Thread(target=talk, daemon=True).start()\n"
        f"run(NodeSettings(**{settings!r}), {ARGV!r})"
    )
    child = Child([sys.executable, "-c", code])
    try:
        assert child.read_line(60.0) == MAGIC + __version__.encode()
        yield child
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait(60.0)
        child.close()


def frame(node, seconds=60.0):
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
    end = time.monotonic() + 60
    while time.monotonic() < end:
        header, values = frame(node)
        if check(header):
            return header, values
    raise AssertionError(header)


def samplers_of(node):
    return [pid for task in Path(f"/proc/{node.pid}/task").glob("*/children") for pid in text_of(task).split()]


def text_of(path):
    """Of a file of /proc; empty where its process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def test_frames_come_and_the_shape_once(node):
    header, values = frame(node)
    shape = Shape.parse(header["shape"])
    snapshot = shape.build(shape.check(values))
    assert [gpu.uuid for gpu in snapshot.gpus] == ["GPU-0", "GPU-1"]
    assert header["version"] == __version__
    assert abs(header["sent_at"] - time.time()) < 60
    while header["sample"] == (again := frame(node))[0]["sample"]:  # one is said again where the next is late
        assert "shape" not in again[0]
    assert "shape" not in again[0]
    assert again[0]["base"] == header["sample"]
    assert again[0]["shape_id"] == shape.id
    assert shape.build(shape.check(again[1])).taken_at > snapshot.taken_at


@pytest.mark.parametrize("deadline", [1.0])
def test_a_driver_that_hangs_is_told_and_the_node_goes_on_talking(node, script):
    frame(node)
    script.write_text("hang")
    until(node, lambda _: script.with_suffix(".hanging").exists())
    said = [{}]

    def is_said_again(header):
        said.append(header)
        return header["status"]["stale"] and (header["sample"], header["status"]) == (said[-2].get("sample"), said[-2].get("status"))

    header, _ = until(node, is_said_again)
    assert "driver hung since" in header["status"]["message"]


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
    assert node.wait(60.0)
    assert node.returncode == 0, node.last_words
    assert text_of(Path(f"/proc/{samplers[0]}/stat")).rpartition(") ")[2][:1] in ("", "Z")


def test_nothing_else_reaches_the_pipe(node, script, tmp_path):
    """``frame`` takes nothing but JSON: a line of either process that strays into the pipe is no frame."""
    script.write_text("print noise")
    (tmp_path / "noise").touch()
    until(node, lambda _: node.last_words == "noise of the node")
    lengths = {len(frame(node)[1]) for _ in range(3)}
    assert lengths == {len(node.values)}, "whole frames"

