"""/proc: hostile names, pids used again, facts read once, owners that no name service knows."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest

from gpuwatch.collect.proc import ProcessTable, parse_stat
from gpuwatch.collect.users import Users

TICKS = os.sysconf("SC_CLK_TCK")
BOOT = 1789000000


def stat_line(pid=7, name="python3", cpu=0, start=500, pages=100):
    fields = ["S", *["1"] * 10, str(cpu), "0", *["0"] * 6, str(start), "123456", str(pages), *["0"] * 20]
    return f"{pid} ({name}) {' '.join(fields)}\n"


class Tree:
    def __init__(self, root):
        self.root = root
        (root / "proc").mkdir()
        (root / "etc").mkdir()
        (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nali:x:1001:100:Ali:/home/ali:/bin/sh\n")
        (root / "proc/stat").write_text(f"cpu 1 2 3 4\nbtime {BOOT}\n")

    def process(self, pid, uid=1001, command=b"python3\0train.py\0", cgroup="0::/\n", environ=b"", **stat):
        folder = self.root / "proc" / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_text(stat_line(pid, **stat), errors="surrogateescape")
        (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t0\t0\t0\n")
        (folder / "cmdline").write_bytes(command)
        (folder / "cgroup").write_text(cgroup)
        (folder / "environ").write_bytes(environ)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def look(table, pid, now):
    table.begin(now)
    found = table.look(pid)
    table.end()
    return None if found is None else SimpleNamespace(**{name: getattr(found, name) for name in ("facts", "cpu_percent", "host_memory_bytes")})


def test_facts_and_shares(tree):
    tree.process(7, cpu=1000, start=50 * TICKS)
    table = ProcessTable(str(tree.root))
    first = look(table, 7, 100.0)
    assert (first.facts["user"], first.facts["name"], first.facts["command"], first.facts["started_at"]) == ("ali", "python3", "python3 train.py", BOOT + 50)
    assert first.cpu_percent is None
    assert first.host_memory_bytes == 100 * os.sysconf("SC_PAGE_SIZE")
    tree.process(7, cpu=1000 + 2 * TICKS, start=50 * TICKS)
    assert look(table, 7, 104.0).cpu_percent == 50.0


def test_facts_are_read_once_per_process(tree):
    tree.process(7)
    table = ProcessTable(str(tree.root))
    look(table, 7, 1.0)
    tree.process(7, command=b"changed\0", uid=0)
    assert look(table, 7, 2.0).facts["command"] == "python3 train.py"


def test_a_pid_that_is_used_again_is_another_process(tree):
    tree.process(7, cpu=5000, start=500)
    table = ProcessTable(str(tree.root))
    look(table, 7, 1.0)
    tree.process(7, cpu=10, start=900, uid=0, command=b"other\0")
    second = look(table, 7, 5.0)
    assert (second.facts["user"], second.facts["command"], second.cpu_percent) == ("root", "other", None)


def test_a_process_that_becomes_another_program_is_read_anew(tree):
    tree.process(7, name="bash", command=b"bash\0")
    table = ProcessTable(str(tree.root))
    look(table, 7, 1.0)
    tree.process(7, name="python3", command=b"python3\0-m\0train\0")
    assert look(table, 7, 2.0).facts["command"] == "python3 -m train"


def test_a_process_that_is_gone_is_forgotten(tree):
    tree.process(7)
    table = ProcessTable(str(tree.root))
    look(table, 7, 1.0)
    (tree.root / "proc/7/stat").write_text("")  # as an open file of a process that ended reads
    assert look(table, 7, 2.0) is None
    tree.process(7, command=b"fresh\0")
    assert look(table, 7, 3.0).facts["command"] == "fresh"


def test_a_process_that_ends_while_it_is_looked_at_is_none(tree, monkeypatch):
    """Its environment is gone with it, not hidden."""
    tree.process(7)
    table = ProcessTable(str(tree.root))
    real = ProcessTable._stat

    def stat(self, pid):
        found = real(self, pid)
        shutil.rmtree(tree.root / "proc" / str(pid), ignore_errors=True)
        return found

    monkeypatch.setattr(ProcessTable, "_stat", stat)
    assert look(table, 7, 1.0) is None


def test_a_clock_that_goes_back_gives_no_share(tree):
    tree.process(7, cpu=100)
    table = ProcessTable(str(tree.root))
    look(table, 7, 10.0)
    tree.process(7, cpu=200)
    assert look(table, 7, 5.0).cpu_percent is None


@pytest.mark.parametrize("name", ["a b", "x) S 1 2 (y", "((", "))", "tmux: server"])
def test_names_with_brackets_and_blanks(name):
    stat = parse_stat(stat_line(name=name, cpu=5, start=77, pages=9).encode())
    assert stat == (name.encode(), 5, 77, 9)


@pytest.mark.parametrize("data", [b"", b"7", b"7 (x", b"7 (x)", b"7 (x) S 1 2 3", b"7 (x) " + b"a " * 40, b"\xff" * 200])
def test_broken_stat_is_no_process(data):
    assert parse_stat(data) is None


def test_bytes_that_are_no_text(tree):
    tree.process(7, name="py\udcff", command=b"py\xff\xfe\0x\0" + b"y" * 5000)
    facts = look(ProcessTable(str(tree.root)), 7, 1.0).facts
    assert facts["name"] == "py\ufffd"
    assert facts["command"].startswith("py\ufffd\ufffd x y")
    assert len(facts["command"]) == 500


def test_a_process_without_a_command_line(tree):
    tree.process(7, command=b"")
    assert look(ProcessTable(str(tree.root)), 7, 1.0).facts["command"] is None


def test_owner_of_the_folder_where_status_is_hidden(tree):
    tree.process(7)
    (tree.root / "proc/7/status").unlink()
    (tree.root / "etc/passwd").write_text(f"me:x:{os.getuid()}:0::/:/bin/sh\n")
    assert look(ProcessTable(str(tree.root)), 7, 1.0).facts["user"] == "me"


def test_an_unknown_uid_is_its_number_and_asked_again_after_a_minute(tree):
    users = Users(str(tree.root))
    assert users.name(4242, 0.0) == "4242"
    (tree.root / "etc/passwd").write_text("late:x:4242:1::/:/bin/sh\n")
    assert users.name(4242, 59.0) == "4242"
    assert users.name(4242, 61.0) == "late"


def test_the_real_name_service():
    assert Users("/").name(0, 0.0) == "root"


def test_slurm_job_from_the_cgroup_else_from_the_environment(tree):
    tree.process(7, cgroup="0::/system.slice/slurmstepd.scope/job_88/step_0/user/task_0\n", environ=b"SLURM_JOB_ID=99\0")
    tree.process(8, environ=b"A=1\0SLURM_JOB_ID=99\0SECRET=x\0")
    tree.process(9, environ=b"X_SLURM_JOB_ID=99\0")
    table = ProcessTable(str(tree.root))
    assert [look(table, pid, 1.0).facts["job"] for pid in (7, 8, 9)] == ["88", "99", None]


def test_a_job_that_may_not_be_read_is_told_from_none(tree):
    tree.process(7, cgroup="0::/system.slice/slurmstepd.scope/job_88/step_0/user/task_0\n")
    tree.process(8)
    tree.process(9)
    for pid in (7, 9):
        (tree.root / f"proc/{pid}/environ").unlink()  # as one that belongs to somebody else
    table = ProcessTable(str(tree.root))
    table.begin(1.0)
    assert [table.look(pid).has_hidden_job for pid in (7, 8, 9)] == [False, False, True]
