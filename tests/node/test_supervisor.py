"""The supervisor with real samplers that hang, crash, stop and talk nonsense."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuwatch import child as child_module
from gpuwatch.child import Child
from gpuwatch.config.settings import NodeSettings
from gpuwatch.node import supervisor as module
from gpuwatch.node.inventory import Inventory
from gpuwatch.node.newest import Newest
from gpuwatch.node.service import sampler_options
from gpuwatch.node.supervisor import Allowance, Supervisor, clock


def test_samples_come_and_nothing_is_wrong(rig):
    it = rig()
    it.wait_for_gpus()
    it.wait_for_newer()
    assert it.status == {"stale": False, "message": None, "since_at": None}
    assert it.snapshot.hostname == "node1"


def test_a_hang_shows_the_last_readings_and_since_when_and_recovers(rig):
    it = rig()
    it.wait_for_gpus()
    pid = it.pid
    it.hang()
    it.wait(lambda: it.status["stale"])
    assert it.message == f"driver hung since {clock(it.status['since_at'])}"
    assert len(it.snapshot.gpus) == 2
    assert it.snapshot.taken_at <= it.status["since_at"] <= time.time()
    assert it.pid == pid  # told to end, not killed
    mended_at = time.time()
    it.script.write_text("ok")
    it.wait(lambda: not it.status["stale"])
    assert it.snapshot.taken_at > mended_at - 0.001, "what was read when it hung is not told as new"
    assert it.message.startswith("driver hung since ")
    assert "works again since" in it.message
    it.wait_for_another(pid)
    it.wait_for_newer()


def test_a_hang_from_the_start_shows_the_host_and_the_reason(rig):
    it = rig("hang", sample_deadline=1.0)
    it.wait(lambda: it.snapshot is not None)
    assert it.snapshot.gpus == ()
    assert it.snapshot.hostname == "node1"
    assert it.snapshot.host.memory_total_bytes > 2**20
    assert it.status["stale"]
    assert it.status["message"].startswith("driver hung since ")
    assert it.snapshot.collectors[0].message == it.status["message"]
    it.wait_for_newer()
    it.script.write_text("ok")
    it.wait_for_gpus()
    it.wait(lambda: not it.status["stale"])


def test_a_hang_after_one_from_the_start_keeps_the_last_readings(rig):
    it = rig("hang")
    it.hang()
    it.wait(lambda: it.snapshot is not None)
    pid = it.pid
    it.script.write_text("ok")
    it.wait_for_another(pid)
    it.wait(lambda: it.snapshot.gpus and not it.status["stale"])
    it.hang()
    it.wait(lambda: it.status["stale"])
    time.sleep(0.3)  # three intervals
    assert len(it.snapshot.gpus) == 2


def test_after_the_grace_a_hanging_sampler_is_killed_and_another_started(rig):
    it = rig(grace_seconds=0.2)
    it.wait_for_gpus()
    pid = it.pid
    it.hang()
    it.wait_for_another(pid)
    assert not os.path.exists(f"/proc/{pid}")
    assert it.status["stale"]
    assert it.message.startswith("driver hung since ")


def test_a_crash_is_named_and_restarted(rig):
    it = rig()
    it.wait_for_gpus()
    pid = it.pid
    os.kill(pid, signal.SIGSEGV)
    it.wait(lambda: it.message)
    assert it.message.startswith("sampler crashed: signal 11 (SIGSEGV) in the driver's library; restart")
    it.wait(lambda: not it.status["stale"])
    assert it.pid != pid
    assert it.message.startswith("sampler crashed: signal 11 (SIGSEGV) in the driver's library; restarted (works again since ")
    assert len(it.snapshot.gpus) == 2


def test_a_crash_at_each_reading_backs_off_and_keeps_the_last_readings(rig):
    it = rig()
    it.wait_for_gpus()
    it.script.write_text("segfault")
    it.wait(lambda: it.status["stale"])
    it.wait(lambda: it.supervisor._keeper._back_off_seconds >= 2.0)
    assert len(it.snapshot.gpus) == 2
    assert it.status["message"] == "sampler crashed: signal 11 (SIGSEGV) in the driver's library; restarting"


def test_a_crash_at_the_first_reading_shows_the_host(rig):
    it = rig("segfault")
    it.wait(lambda: it.snapshot is not None)
    assert it.snapshot.gpus == ()
    assert it.snapshot.host.cpu_count >= 1
    assert "SIGSEGV" in it.status["message"]
    it.script.write_text("ok")
    it.wait_for_gpus()


def test_a_stopped_sampler_is_noticed_and_restarted(rig):
    it = rig()
    it.wait_for_gpus()
    pid = it.pid
    os.kill(pid, signal.SIGSTOP)
    it.wait(lambda: it.supervisor._keeper.child.state == "T")
    it.overdue()
    it.wait(lambda: it.message)
    assert it.message.startswith("the sampler was stopped (SIGSTOP) and reads nothing since ")
    it.wait(lambda: not it.status["stale"])
    it.wait_for_another(pid)


@pytest.mark.parametrize(("late", "due"), [(0.0, 1010.0), (30.0, 1040.0)])
@pytest.mark.parametrize(("expected_at", "wait"), [(900.0, 1.0), (1004.3, 4.3)])
def test_time_in_which_the_node_stands_still_itself_does_not_count(monkeypatch, late, due, expected_at, wait):
    """As on a virtual machine that is moved: sampler and node stand still together, and the node may be the first to go on."""

    class Silent:
        asked_to_end = False

        def read_line(self, seconds):
            at[0] += seconds + late

    it, at = Supervisor(NodeSettings(), Newest(), Inventory(None, ""), sampler_options(NodeSettings()), []), [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: at[0]))
    it._due, it._expected_at = 1010.0, expected_at
    it._listen(Silent())
    assert it._due == pytest.approx(due)
    assert at[0] == pytest.approx(1000.0 + wait + late)


def test_a_node_sleeps_between_samples(rig, monkeypatch):
    """One wait for each: a node is to cost the machine's users nothing."""
    waits, read_line = [], Child.read_line
    monkeypatch.setattr(Child, "read_line", lambda self, seconds: (waits.append(seconds), read_line(self, seconds))[1])
    it = rig(interval=3.0)
    it.wait_for_gpus()
    it.wait(lambda: 3.0 < max(waits) <= 3.3)
    assert max(waits) <= 3.3


def test_a_killed_sampler_is_restarted(rig):
    it = rig()
    it.wait_for_gpus()
    pid = it.pid
    os.kill(pid, signal.SIGKILL)
    it.wait(lambda: "SIGKILL" in it.message and not it.status["stale"])
    assert it.pid != pid


def test_an_exit_shows_the_last_words(rig):
    it = rig("leave 3")
    it.wait(lambda: it.message)
    assert it.message == "the sampler ended (exit code 3: the last words); restarting"


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("os.close(1); time.sleep(600)", "the sampler closed its output; restarting"),
        ("signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGSEGV)); os.close(1); time.sleep(600)", "sampler crashed: signal 11 (SIGSEGV)"),
    ],
)
def test_an_end_that_is_seen_long_after_that_of_the_output_is_told_as_what_it_was(rig, monkeypatch, then, words):
    """A driver may need seconds to let go of a process whose pipes are closed already."""
    monkeypatch.setattr(child_module, "SILENT_SECONDS", 0.1)
    it = rig(argv=[sys.executable, "-c", f"import os, signal, time\n{then}"])
    it.wait(lambda: it.message)
    assert it.message.startswith(words)


def test_nonsense_on_the_pipe_costs_the_sampler_not_the_node(rig):
    it = rig()
    it.wait_for_gpus()
    pid = it.pid
    it.script.write_text("garbage")
    it.wait(lambda: "talks nonsense" in it.message)
    it.script.write_text("ok")
    it.wait(lambda: not it.status["stale"])
    assert it.pid != pid


def test_any_program_as_sampler_does_no_harm(rig):
    for code in ("print('hello\\nworld\\n' * 1000)", "import os\nwhile True: os.write(1, b'x' * 65536)", "print('{}\\n{}')", "print('[]\\n[]')",
                 "print('{\"shape_id\":\"1\",\"shape\":{}}\\n[]')", "print('{\"shape_id\":\"1\"}\\n[1]')"):  # fmt: skip
        it = rig(argv=[sys.executable, "-c", code])
        it.wait(lambda it=it: it.snapshot is not None)
        assert it.status["stale"]
        assert it.snapshot.gpus == ()
        it.close()
        it.stop.clear()


def test_a_sampler_that_cannot_be_started_is_said(rig):
    it = rig(argv=["/does/not/exist"])
    it.wait(lambda: it.snapshot is not None)
    assert it.status["message"] == "the sampler cannot be started: /does/not/exist cannot be started: No such file or directory."
    assert it.snapshot.host.cpu_count >= 1


def test_a_lost_driver_is_told_by_the_snapshots_and_retried_with_patience(rig):
    it = rig()
    it.wait_for_gpus()
    it.script.write_text("lost driver gone")
    it.wait(lambda: it.snapshot.gpus == ())
    assert it.snapshot.collectors[0].message == "driver gone"
    assert it.message == ""
    it.wait(lambda: it.supervisor._retry_seconds >= 0.8)
    assert it.message == ""
    it.script.write_text("ok")
    it.wait_for_gpus()


def test_a_gpu_that_is_gone_stays_in_the_list_of_the_next_sampler(rig):
    it = rig("ok 3")
    it.wait_for_gpus(3)
    it.script.write_text("ok 2")
    os.kill(it.pid, signal.SIGKILL)
    it.wait(lambda: [gpu.error for gpu in it.snapshot.gpus] == [None, None, "GPU is lost"])
    lost = it.snapshot.gpus[2]
    assert (lost.uuid, lost.utilization_percent) == ("GPU-2", None)
    it.wait(lambda: it.inventory.gpus[2].error_since_at is not None)
    since = it.inventory.gpus[2].error_since_at
    os.kill(it.pid, signal.SIGKILL)
    it.wait_for_newer()
    it.wait_for_newer()
    assert it.snapshot.gpus[2].error_since_at == since


def test_one_that_cannot_be_killed_is_said_and_none_is_started_beside_it(rig, monkeypatch):
    monkeypatch.setattr(child_module, "KILL_WAIT_SECONDS", 0.1)
    real = os.killpg
    it = rig(grace_seconds=0.1)
    it.wait_for_gpus()
    monkeypatch.setattr(os, "killpg", lambda pid, number: None)
    pid = it.pid
    it.hang()
    it.wait(lambda: "cannot be killed" in it.message)
    assert it.message.startswith("driver hung since ")
    assert f"process {pid} cannot be killed; no other is started until it is gone" in it.message
    time.sleep(0.5)
    assert it.supervisor._keeper.child is None
    assert len(it.snapshot.gpus) == 2
    assert it.status["stale"]
    monkeypatch.setattr(os, "killpg", real)
    os.kill(pid, signal.SIGKILL)
    it.script.write_text("ok")
    it.wait(lambda: not it.status["stale"])


def test_no_processes_pile_up(rig):
    it = rig("hang", grace_seconds=0.1, sample_deadline=0.5)
    seen = set()
    for _ in range(3):
        seen.add(it.wait_for_another(*seen))
    alive = [pid for pid in seen if os.path.exists(f"/proc/{pid}")]
    assert len(alive) <= 1


def test_the_end_leaves_no_process(rig):
    it = rig()
    it.wait_for_gpus()
    pid = it.pid
    it.close()
    assert not os.path.exists(f"/proc/{pid}")
    it.stop.clear()


def test_the_password_is_in_no_argv_and_on_no_line(rig, monkeypatch):
    written = []
    real = Child.write
    monkeypatch.setattr(Child, "write", lambda self, data, close=False: (written.append(data), real(self, data, close)))
    it = rig(password="topsecret")
    it.wait_for_gpus()
    assert "topsecret" not in b"".join(written).decode()
    assert b"topsecret" not in Path(f"/proc/{it.pid}/cmdline").read_bytes()
    assert json.loads(written[0])["name"] == "node1"


def test_so_many_lines_a_minute_and_no_more(caplog):
    allowance = Allowance(3)
    assert [allowance.take(float(second)) for second in range(6)] == [True, True, True, False, False, False]
    assert caplog.text.count("more than 3 lines") == 1
    assert allowance.take(60.0)
