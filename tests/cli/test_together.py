"""Nodes started together live no longer than the program that started them, however that ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.e2e.processes import eventually

from gpuwatch.cli.together import Together

SRC = Path(__file__).resolve().parents[2] / "src"
PROGRAM = f"""
import signal, sys, threading
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs these tests under nohup ignores it
sys.path.insert(0, {str(SRC)!r})
from gpuwatch.cli.together import NodePlan, Together
simulated = {{"source": "gpuwatch.sim.source:make", "source_argument": "1xh100:mixed:1", "interval": "0.2"}}
with Together([NodePlan("a", "", simulated), NodePlan("b", "", simulated)]) as together:
    print(*(child.pid for child in together._children.values()), flush=True)
    threading.Event().wait()
"""


def below(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread, or a short program, that ended meanwhile
            found += [int(child) for child in task.read_text().split()]
    return found + [one for child in found for one in below(child)]


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_nodes_end_with_the_program_that_started_them(tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": str(SRC), "TMPDIR": str(tmp_path), "GPUWATCH_TLS_CERT": "/nonexistent.pem"}
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        nodes = [int(word) for word in program.stdout.readline().split()]
        assert eventually(lambda: all(below(node) for node in nodes)), "each node has a sampler"
        all_below = below(program.pid)
        assert set(nodes) < set(all_below)
        program.send_signal(number)
        program.communicate(timeout=60)
        assert eventually(lambda: not any(map(runs, all_below))), "nodes were left running"
    finally:
        program.kill()
        program.communicate()


def test_a_node_that_is_ended_while_all_end_is_closed_behind_it():
    """Ctrl-C in the moment in which the demo ends one of its nodes: its pipes must not be closed under the thread that reads them."""
    order, inside, asked = [], threading.Event(), threading.Event()

    class Node:
        def ask_to_end(self):
            order.append("asked")
            asked.set()

        def end(self, seconds):
            inside.set()
            assert asked.wait(60)
            order.append("ended")

        def wait(self, seconds):
            return True

        def close(self):
            order.append("closed")

    together = Together([])
    together._children["a"] = Node()
    thread = threading.Thread(target=together.end_node, args=("a",))
    thread.start()
    assert inside.wait(60)
    together.__exit__()
    thread.join(60)
    assert order == ["asked", "ended", "closed"]
