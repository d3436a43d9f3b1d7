"""The spool: nothing is lost but what is counted, whatever is killed, torn, full or set back."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwatch.node import spool as module
from gpuwatch.node.spool import Lost, Spool

MIB = 1024**2


class Shape:
    """What the spool needs of one."""

    def __init__(self, name="s"):
        self.id, self.doc = name, {"facts": {"name": name}}


class Clock:
    """Stands still unless it is set."""

    def __init__(self, at=1_790_000_000.0):
        self.at = at

    def __call__(self):
        return self.at


def make(folder, most=64 * MIB, clock=None):
    return Spool(folder, most, clock or Clock())


def add(spool, count, size=100, shape=None, start=0):
    return [spool.add(float(start + number), shape or Shape(), None, b"[%s]" % (b"%d," % (start + number) * size)[:size]) for number in range(count)]


def taken(spool, after=0, most=10**6, most_bytes=10**9):
    return [one.record.taken_at for one in spool.after(after, most, most_bytes)]


def test_while_the_hub_answers_nothing_is_written(tmp_path):
    spool = make(tmp_path)
    sequences = add(spool, 5)
    assert sequences == sorted(set(sequences))
    assert taken(spool) == [0, 1, 2, 3, 4]
    spool.stored(sequences[2])
    assert taken(spool) == [3, 4]
    assert taken(spool, sequences[3]) == [4]
    assert len(spool) == 2
    assert not list(tmp_path.glob("*.segment"))


def test_what_waits_survives_a_restart_in_order_with_shapes_and_status(tmp_path):
    spool = make(tmp_path)
    add(spool, 3)
    spool.add(3.0, Shape("other"), {"stale": True, "message": "hung"}, b"[9]")
    spool.flush()
    last = add(spool, 2, start=4)[-1]
    assert taken(spool) == [0, 1, 2, 3, 4, 5]
    spool.close()
    again = make(tmp_path)
    waiting = again.after(0, 100, MIB)
    assert [one.record.taken_at for one in waiting] == [0, 1, 2, 3, 4, 5]
    assert (waiting[3].shape.doc, waiting[3].record.status, waiting[3].record.line) == ({"facts": {"name": "other"}}, {"stale": True, "message": "hung"}, b"[9]")
    assert add(again, 1)[0] > last
    again.stored(last)
    assert taken(again) == [0]
    assert not list(tmp_path.glob("*.segment"))


def test_files_are_for_the_owner_alone(tmp_path):
    spool = make(tmp_path / "new" / "spool")
    add(spool, 1)
    spool.flush()
    assert os.stat(tmp_path / "new" / "spool").st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "new" / "spool").glob("*.segment"))


def test_sequences_never_go_back_though_the_clock_does(tmp_path):
    clock = Clock()
    spool = make(tmp_path, clock=clock)
    first = add(spool, 2)[-1]
    clock.at -= 100_000
    assert add(spool, 1)[0] == first + 1
    spool.reserve()
    again = make(tmp_path, clock=clock)  # as after a kill: it was not closed
    assert add(again, 1)[0] > first + 1


def test_the_oldest_go_first_and_are_counted_till_the_hub_knows(tmp_path):
    spool = make(tmp_path, most=MIB)
    for start in range(0, 3000, 100):
        last = add(spool, 100, 1000, start=start)[-1]
        spool.flush()
    assert spool.disk_bytes <= MIB
    left = taken(spool)
    assert left == list(range(3000 - len(left), 3000))
    lost = spool.lost
    assert lost == Lost(3000 - len(left), 0.0, 3000.0 - len(left) - 1)
    spool.told(lost)
    assert spool.lost is None
    spool.stored(last)
    assert (len(spool), spool.disk_bytes) == (0, 0)


def test_what_the_hub_has_is_not_lost_when_it_goes(tmp_path):
    spool = make(tmp_path, most=MIB)
    sequences = add(spool, 100, 1000)
    spool.flush()
    spool.stored(sequences[60])
    for start in range(100, 1500, 100):
        add(spool, 100, 1000, start=start)
        spool.flush()
    assert spool.lost is not None
    assert spool.lost.snapshots + len(spool) >= 1500 - 61


@pytest.mark.parametrize("cut", [2, 7, 60, 140])
def test_a_torn_last_record_is_left_out(tmp_path, cut):
    spool = make(tmp_path)
    add(spool, 4)
    spool.flush()
    (path,) = tmp_path.glob("*.segment")
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    again = make(tmp_path)
    assert taken(again) == [0, 1, 2]
    add(again, 1, start=9)
    again.flush()
    assert taken(again) == [0, 1, 2, 9]


def test_damage_in_the_middle_ends_its_segment_alone(tmp_path):
    spool = make(tmp_path, most=MIB)
    for start in range(0, 400, 100):
        add(spool, 100, 1000, start=start)
        spool.flush()
    paths = sorted(tmp_path.glob("*.segment"))
    assert len(paths) > 2
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 2] ^= 0xFF
    paths[1].write_bytes(data)
    left = taken(make(tmp_path, most=MIB))
    assert left == sorted(left)
    assert 300 < len(left) < 400
    paths[0].write_bytes(b"rubbish")
    assert taken(make(tmp_path, most=MIB))[0] > 100
    assert not paths[0].exists()


def test_batches_are_bounded_by_count_and_bytes_but_go_on(tmp_path):
    spool = make(tmp_path)
    sequences = add(spool, 50, 1000)
    spool.flush()
    assert taken(spool, 0, 10) == list(range(10))
    assert taken(spool, sequences[9], 10) == list(range(10, 20))
    assert taken(spool, 0, 50, 5000) == list(range(4))
    assert taken(spool, 0, 50, 1) == [0]


def test_a_full_disk_leaves_it_in_memory_and_says_so(tmp_path, monkeypatch):
    spool = make(tmp_path)
    add(spool, 2)
    spool.flush()

    def full(fd, data):
        os.pwrite(fd, data[: len(data) // 2], os.fstat(fd).st_size)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.spool_files.os, "write", full)
        add(spool, 2, start=2)
        spool.flush()
        assert "No space left" in spool.trouble
        assert taken(spool) == [0, 1, 2, 3]
    spool.flush()
    assert "No space left" in spool.trouble  # it is not tried at once
    spool.close()
    assert spool.trouble is None
    assert taken(make(tmp_path)) == [0, 1, 2, 3]


def test_what_a_full_disk_did_not_take_at_all_is_not_passed_over(tmp_path, monkeypatch):
    """Its segment is there, without a record."""
    spool = make(tmp_path)
    add(spool, 2)

    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.spool_files.os, "write", full)
        spool.flush()
    assert len(list(tmp_path.glob("*.segment"))) == 1
    assert taken(spool) == [0, 1]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_written_while_it_is_read_comes_once_and_is_not_passed_over(tmp_path, monkeypatch, when):
    """Sampler, disk and hub have a thread each. ``when``: the disk took more just before, or just after, the reader had read the file."""
    spool = make(tmp_path)
    add(spool, 2)
    spool.flush()
    last = add(spool, 1, start=2)[-1]
    real, once = module.spool_files.read, iter([True])

    def read(path):
        meanwhile = next(once, False)
        if meanwhile and when == "before":
            spool.flush()
        yield from list(real(path))
        if meanwhile and when == "after":
            spool.flush()

    monkeypatch.setattr(module.spool_files, "read", read)
    assert taken(spool) == [0, 1, 2]
    add(spool, 1, start=3)
    assert taken(spool) == [0, 1, 2, 3]
    assert taken(spool, last) == [3]


def test_a_real_limit_of_the_file_system_in_a_process_of_its_own(tmp_path):
    """RLIMIT_FSIZE is what a full disk is to a file: write() says how much it took, or fails."""
    program = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
from tests.node.test_spool import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = make(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
add(spool, 20, 500)
spool.flush()
print(len(spool), bool(spool.trouble), taken(spool) == list(range(20)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.close()
print(len(make(Path({str(tmp_path)!r}))))
"""
    assert resource.RLIMIT_FSIZE
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["20", "True", "True", "20"], done.stderr


def test_without_a_folder_it_waits_in_memory_bounded(monkeypatch):
    monkeypatch.setattr(module, "MEMORY_BYTES", 5000)
    spool = make(None)
    add(spool, 20, 1000)
    spool.flush()
    assert taken(spool) == [16, 17, 18, 19]
    assert spool.lost == Lost(16, 0.0, 15.0)


def test_a_folder_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    spool = make(tmp_path / "file")
    assert "cannot be used" in spool.trouble
    add(spool, 3)
    spool.flush()
    assert taken(spool) == [0, 1, 2]


def test_who_is_killed_while_writing_loses_nothing_that_was_written(tmp_path):
    program = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from tests.node.test_spool import *
spool = make(Path({str(tmp_path)!r}))
for start in range(0, 10_000, 10):
    add(spool, 10, start=start)
    spool.flush()
    os.write(1, b"%d\\n" % (start + 10))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    told = 0
    for line in process.stdout:
        told = int(line)
        if told >= 500:
            process.kill()
            break
    process.stdout.close()
    process.wait()
    left = taken(make(tmp_path))
    assert left == list(range(len(left)))
    assert len(left) >= told


def test_a_record_that_the_hub_refuses_goes_and_is_counted(tmp_path):
    spool = make(tmp_path)
    first = add(spool, 3)[0]
    spool.skip(first)
    assert taken(spool) == [1, 2]
    assert spool.lost.snapshots == 1


def test_the_reserved_sequence_is_text(tmp_path):
    spool = make(tmp_path)
    spool.reserve()
    assert json.loads((tmp_path / "sequence").read_text()) > 1_790_000_000_000
    (tmp_path / "sequence").write_text("rubbish")
    assert add(make(tmp_path), 1)[0] >= 1_790_000_000_000
    assert isinstance(Path(tmp_path), Path)
