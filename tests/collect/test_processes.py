"""Processes on a GPU: merged lists, scrambled lists, real pids of our own children, facts read once."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
import time

import pytest
from tests.collect.machine import NOW, Machine, with_proc
from tests.fake_nvml import FakeDriver

from gpuwatch.collect.processes import Attribution

GIB = 1 << 30


@contextlib.contextmanager
def children(count, *argv, **options):
    started = [subprocess.Popen(list(argv) or ["sleep", "600"], **options) for _ in range(count)]
    try:
        yield started
    finally:
        for child in started:
            child.kill()
            child.wait()


def row(child, gib=1, **more):
    return {"pid": child.pid, "used_memory_bytes": gib * GIB, **more}


def test_a_process_has_its_owner_command_and_share(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    with children(1, "sleep", "61") as (child,):
        driver.set_processes(0, [row(child, 3, sm_percent=40)])
        driver.set_processes(1, [row(child, 5, sm_percent=10)])
        with Machine(driver) as machine:
            before = time.time()
            one, other = (gpu.processes for gpu in machine.read(before).gpus[:2])
            assert abs(one[0].started_at - before) < 60
    assert (one[0].pid, one[0].user, one[0].name, one[0].command) == (child.pid, pwd.getpwuid(os.getuid()).pw_name, "sleep", "sleep 61")
    assert (one[0].gpu_memory_bytes, one[0].sm_percent, one[0].kind) == (3 * GIB, 40, "C")
    assert (other[0].pid, other[0].gpu_memory_bytes, other[0].sm_percent) == (child.pid, 5 * GIB, 10)
    assert one[0].host_memory_bytes > 0
    assert one[0].cpu_percent is None  # the first sample has nothing to compare with


def test_cpu_percent_is_the_difference_of_two_samples(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with children(2, sys.executable, "-c", "while True: pass") as spinning, children(1) as (idle,):
        driver.set_processes(0, [row(spinning[0], 2), row(idle, 1)])
        clock = (~spinning[0].pid << 3) | 2  # of its CPU time, clock_getcpuclockid(3)
        with Machine(driver) as machine:
            first, started = time.clock_gettime(clock), time.time()
            machine.read(started)
            before = time.clock_gettime(clock)
            while time.time() < started + 0.5 or (time.clock_gettime(clock) < before + 0.1 and time.time() < started + 40):
                time.sleep(0.05)  # on a busy machine it gets little
            used, ended = time.clock_gettime(clock) - before, time.time()
            busy, quiet = machine.read(ended).gpus[0].processes
            most = time.clock_gettime(clock) - first
    assert 0.1 <= used <= busy.cpu_percent / 100 * (ended - started) + 0.01
    assert busy.cpu_percent / 100 * (ended - started) <= most + 0.01
    assert quiet.cpu_percent == 0


def test_host_memory_is_read_with_the_status_group_and_when_the_list_changes(tmp_path):
    driver = FakeDriver(tmp_path, "h100x8")
    grow = "import sys\nfor line in sys.stdin: block = bytearray(int(line) << 20); print('grown', flush=True)"
    with children(1, sys.executable, "-c", grow, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as (child,):

        def grown(mebibytes):
            child.stdin.write(b"%d\n" % mebibytes)
            child.stdin.flush()
            assert child.stdout.readline() == b"grown\n"

        def held(snapshot):
            """In MiB, on both GPUs: the later one may be read more closely in the same sample."""
            found = [gpu.processes[0] for gpu in snapshot.gpus[:2]]
            assert all(process.cpu_percent is not None for process in found)
            return found[0].host_memory_bytes >> 20

        for gpu in (0, 1):
            driver.set_processes(gpu, [row(child)])
        with Machine(driver, interval=4.0, status_age=12.0) as machine:
            machine.read(NOW)
            before = held(machine.read(NOW + 1))
            grown(100)
            seen = [held(machine.read(NOW + 1 + 4 * sample)) for sample in range(1, 4)]
            assert max(seen) >= before + 90, "it is seen within the age of the status group"
            driver.set_processes(0, [row(child, 2)])
            grown(200)
            assert held(machine.read(NOW + 17)) >= before + 190, "another list: it is looked at at once"


def test_lists_are_merged_by_pid_most_memory_first(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with children(4) as (both, graphics, mps, compute):
        driver.set_processes(0, [row(compute, 1), row(graphics, 2, type="G"), row(both, 3, type="C+G"), row(mps, 4, type="M")])
        with Machine(driver) as machine:
            found = machine.read().gpus[0].processes
            assert [(process.pid, process.kind) for process in found] == [
                (mps.pid, "M"), (both.pid, "C+G"), (graphics.pid, "G"), (compute.pid, "C"),
            ]  # fmt: skip
            driver.set_processes(0, [row(mps, 5, type="M")])
            assert machine.read(NOW + 4).gpus[0].processes[0].gpu_memory_bytes == 5 * GIB


@pytest.mark.parametrize("kind", ["M", "G"])
def test_lists_that_were_empty_are_asked_for_with_the_status_group(tmp_path, kind):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with children(1) as (child,), Machine(driver) as machine:
        machine.read(NOW)
        driver.set_processes(0, [row(child, type=kind)])
        machine.read(NOW + 4)
        assert [process.kind for process in machine.read(NOW + 8).gpus[0].processes] == [kind]
        driver.set_processes(0, [])
        assert machine.read(NOW + 12).gpus[0].processes == []


def test_mig_processes_name_their_slice(tmp_path):
    driver = FakeDriver(tmp_path, "h100-mig")
    with children(1) as (child,):
        driver.set_processes(0, [row(child, gi=2, ci=0)])
        with Machine(driver) as machine:
            process = machine.read().gpus[0].processes[0]
    assert (process.gpu_instance, process.compute_instance) == (2, 0)


def test_memory_that_is_not_available_is_none(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.fault("used_memory_unavailable")
    with children(1) as (child,):
        driver.set_processes(0, [row(child)])
        with Machine(driver) as machine:
            gpu = machine.read().gpus[0]
    assert gpu.processes[0].gpu_memory_bytes is None
    assert gpu.missing["processes.gpu_memory_bytes"] == "not available"


@pytest.mark.parametrize("count", [1, 2, 5, 80])
def test_a_scrambled_list_is_read_in_the_layout_that_makes_sense(tmp_path, count):
    driver = FakeDriver(tmp_path, "h100x8")
    driver.fault("scrambled_processes")
    with children(count) as started:
        driver.set_processes(0, [row(child) for child in started])
        driver.set_processes(1, [row(child) for child in started[:2]])
        with Machine(driver) as machine:
            for step in range(2):
                gpus = machine.read(NOW + 4 * step).gpus
                assert [process.pid for process in gpus[0].processes] == sorted(child.pid for child in started)
                assert {process.gpu_memory_bytes for process in gpus[0].processes} == {GIB}
                assert len(gpus[1].processes) == min(2, count)
                assert "processes" not in gpus[0].missing
            driver.fault("scrambled_processes", on=False)
            found = machine.read(NOW + 8).gpus[0].processes
    assert [process.pid for process in found] == sorted(child.pid for child in started)


def test_rows_that_cannot_be_are_left_out_and_counted(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with children(1) as (child,):
        driver.set_processes(0, [row(child), {"pid": 4294967295, "used_memory_bytes": GIB}, {"pid": child.pid, "used_memory_bytes": 1 << 60}])
        with Machine(driver) as machine:
            gpu = machine.read().gpus[0]
    assert [process.pid for process in gpu.processes] == [child.pid]
    assert gpu.missing["processes"] == "2 of 3 rows left out: the driver returned a scrambled process list"


def test_a_process_that_ended_is_not_listed(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with children(2) as (stays, ends):
        driver.set_processes(0, [row(stays), row(ends)])
        with Machine(driver) as machine:
            assert len(machine.read(NOW).gpus[0].processes) == 2
            ends.kill()
            ends.wait()
            machine_now = machine.read(NOW + 4)
    if machine_now.collector("processes").ok:
        assert [process.pid for process in machine_now.gpus[0].processes] == [stays.pid]
    else:  # a container hides processes: then a row without an owner is all that can be said
        assert machine_now.gpus[0].missing["processes.user"]


def test_a_hidden_process_keeps_its_memory(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    root = with_proc(driver)
    (root / "proc/self").unlink()
    (root / "proc/self").mkdir()
    (root / "proc/self/mounts").write_text("proc /proc proc rw,nosuid,hidepid=2,gid=4 0 0\n")
    driver.set_processes(0, [{"pid": 12345, "used_memory_bytes": GIB}])
    with Machine(driver, root=str(root)) as machine:
        snapshot = machine.read()
    gpu = snapshot.gpus[0]
    assert [(process.pid, process.user, process.gpu_memory_bytes) for process in gpu.processes] == [(12345, None, GIB)]
    assert "hidepid" in gpu.missing["processes.user"]
    assert not snapshot.collector("processes").ok


def test_a_job_that_may_not_be_read_says_which_right_it_needs(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    root = with_proc(driver)
    with children(2) as (ours, other):
        for child, hidden in ((ours, False), (other, True)):
            folder = root / "proc" / str(child.pid)
            folder.mkdir()
            for name in ("stat", "statm", "status", "cmdline", "cgroup", "environ"):
                if name != "environ" or not hidden:
                    (folder / name).symlink_to(f"/proc/{child.pid}/{name}")
        with Machine(driver, root=str(root)) as machine:
            driver.set_processes(0, [row(ours)])
            assert "processes.job" not in machine.read(NOW).gpus[0].missing
            driver.set_processes(0, [row(ours), row(other)])
            gpu = machine.read(NOW + 4).gpus[0]
    assert [process.pid for process in gpu.processes] == sorted((ours.pid, other.pid))
    assert "CAP_SYS_PTRACE" in gpu.missing["processes.job"]


def test_process_utilization_above_100_percent_is_no_reading(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with children(2) as (sane, insane):
        driver.set_processes(0, [row(sane, 2, sm_percent=100), row(insane, 1, sm_percent=4000000)])
        with Machine(driver) as machine:
            now = time.time()
            assert [process.sm_percent for process in machine.read(now).gpus[0].processes] == [100, None]


def test_nobody_active_is_no_utilization(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    with children(1) as (child,):
        driver.set_processes(0, [row(child, sm_percent=30)])
        with Machine(driver) as machine:
            assert machine.read(time.time()).gpus[0].processes[0].sm_percent == 30
            driver.set_processes(0, [row(child)])
            gpu = machine.read(time.time()).gpus[0]
    assert gpu.processes[0].sm_percent is None
    assert "processes.sm_percent" not in gpu.missing


def test_utilization_that_the_card_does_not_tell_is_asked_again_after_ten_minutes(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.set(0, process_utilization=None)
    with children(1) as (child,):
        driver.set_processes(0, [row(child)])
        with Machine(driver) as machine:
            for step in range(5):
                assert machine.read(NOW + 4 * step).gpus[0].missing["processes.sm_percent"] == "not supported"
            assert driver.calls()["nvmlDeviceGetProcessUtilization"] == 1


def test_lists_that_are_refused_say_so(tmp_path):
    driver = FakeDriver(tmp_path, "rtx4080s")
    driver.fault("not_supported", function="nvmlDeviceGetComputeRunningProcesses_v3")
    with Machine(driver) as machine:
        gpu = machine.read().gpus[0]
    assert gpu.processes == []
    assert gpu.missing["processes"] == "not supported"
    assert gpu.error is None


def test_the_first_name_space_and_a_plain_proc_show_everyone():
    shared = Attribution("/")
    assert shared.all_visible == (os.readlink("/proc/self/ns/pid") == "pid:[4026531836]")
    assert shared.table.pid_max >= 32768
