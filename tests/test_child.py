"""Child processes, with real ones: lines, limits, deadlines, endings, back-off, and the one that cannot be killed."""

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from gpuwatch import child as child_module
from gpuwatch.child import Child, ChildError, Done, Exit, Keeper, run


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]


@pytest.fixture
def started():
    """Makes children that are gone after the test."""
    children = []

    def start(code, **options):
        children.append(Child(python(code), **options))
        return children[-1]

    yield start
    for child in children:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait(60.0)
        child.close()


ECHO = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
SLEEP = "import time; time.sleep(600)"
IGNORE = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"


def test_lines_go_in_and_out(started):
    child = started(ECHO)
    child.write(b"one\ntwo\n")
    assert child.read_line(60.0) == b"ONE"
    assert child.read_line(60.0) == b"TWO"


def test_it_ends_when_its_input_ends(started):
    child = started(ECHO)
    child.write(b"", close=True)
    assert child.read_line(60.0) is None
    assert child.output_ended
    assert child.wait(60.0)
    assert child.returncode == 0


def test_reading_gives_up_after_the_timeout(started):
    child = started(SLEEP)
    began = time.monotonic()
    assert child.read_line(0.1) is None
    assert time.monotonic() - began < 60.0
    assert not child.output_ended


def test_another_thread_can_interrupt_a_read(started):
    child = started(SLEEP)
    threading.Timer(0.1, child.interrupt).start()
    began = time.monotonic()
    assert child.read_line(60.0) is None
    assert time.monotonic() - began < 30.0


def test_who_writes_errors_without_an_end_gets_no_more_time(started, monkeypatch):
    child = started("import os, time; os.write(2, b'x'); time.sleep(600)")
    monkeypatch.setattr(child, "take_in", lambda fd: None)  # so there is always more
    assert child.read_line(0.2) is None
    assert not child.output_ended


def test_what_came_while_this_process_stood_still_is_read_though_the_time_is_over(started):
    child = started("print('one', flush=True); import time; time.sleep(600)")
    select.select(child.outputs, [], [], 30.0)
    assert child.read_line(-1.0) == b"one"


def test_one_that_ended_while_this_process_stood_still_has_ended(started):
    child = started("print('one')")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    real, asked = type(child).returncode.fget, iter([True])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Child, "returncode", property(lambda self: None if next(asked, False) else real(self)))
        assert child.wait(0.0)


def test_an_interrupt_after_the_end_writes_into_nobody_s_file(started, tmp_path):
    child = started("print(1)")
    assert child.wait(30.0)
    child.close()
    others = [os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT) for number in range(8)]  # they get the numbers that are free now
    child.interrupt()
    for other in others:
        os.close(other)
    assert {(tmp_path / str(number)).read_bytes() for number in range(8)} == {b""}


def test_a_line_without_end_is_refused(started):
    child = started("import sys; sys.stdout.write('x' * 100000); sys.stdout.flush(); import time; time.sleep(600)", max_line_bytes=1000)
    with pytest.raises(ChildError, match="more than 1000 bytes"):
        child.read_line(60.0)


def test_stderr_goes_to_the_callback_without_control_characters(started):
    lines = []
    child = started("import sys; sys.stderr.write('\\x1b[31mred\\nlast words'); sys.exit(3)", on_stderr=lines.append)
    assert child.read_line(60.0) is None
    assert child.wait(60.0)
    child.close()
    assert lines[0] == "[31mred"


def test_how_it_ended(started):
    child = started("import sys; print('no driver', file=sys.stderr); sys.exit(3)")
    assert child.wait(60.0)
    end = child.exit()
    assert (end.returncode, end.last_words, end.asked) == (3, "no driver", False)


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (-11, "signal 11 (SIGSEGV)"), (-9, "signal 9 (SIGKILL)"), (-99, "signal 99")]
)
def test_words_for_return_codes(code, words):
    assert Exit(code, False, 1.0, "").words == words


def test_ending_is_term_first_and_kill_after_the_grace(started):
    child = started(IGNORE)
    assert child.read_line(60.0) == b"ready"
    assert child.end(0.2)
    assert child.returncode == -signal.SIGKILL
    polite = started(SLEEP)
    assert polite.end(30.0)
    assert polite.returncode == -signal.SIGTERM


def test_a_stopped_child_is_continued_so_that_it_can_end(started):
    child = started(SLEEP)
    os.kill(child.pid, signal.SIGSTOP)
    while child.state != "T":
        time.sleep(0.01)
    assert child.end(30.0)
    assert child.returncode == -signal.SIGTERM


def test_the_end_takes_grandchildren_with_it(started):
    child = started("import os, time\npid = os.fork()\nif pid: print(pid, flush=True)\ntime.sleep(600)")
    grandchild = int(child.read_line(60.0))
    assert child.end(30.0)
    until = time.monotonic() + 60
    while runs(grandchild):
        assert time.monotonic() < until
        time.sleep(0.01)


def runs(pid):
    """The process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_what_cannot_be_started_says_why(tmp_path):
    with pytest.raises(ChildError, match="/does/not/exist cannot be started: No such file or directory"):
        Child(["/does/not/exist"])
    with pytest.raises(ChildError, match="cannot be started"):
        Child(["a\0b"])
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(ChildError, match="Permission denied"):
        Child([str(plain)])


def pipes():
    """The pipes that this process has open; what other tests' threads close meanwhile is not asked."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return {link for link in found if link.startswith("pipe:")}


def test_no_descriptor_is_left_open():
    before = pipes()
    for _ in range(3):
        child = Child(python("print(1)"))
        assert child.read_line(60.0) == b"1"
        assert child.end(60.0)
        child.close()
        child.close()
    assert pipes() - before == set()


def test_too_much_input_is_refused(started):
    with pytest.raises(ChildError, match="the limit is 65536"):
        started(SLEEP).write(b"x" * 200000)


# keeping one alive


def keeper_of(code, **options):
    return Keeper(lambda: Child(python(code)), **options)


def tend_until(keeper, condition, seconds=60.0):
    until = time.monotonic() + seconds
    while True:
        end = keeper.tend(time.monotonic())
        if condition(end):
            return end
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


def test_keeper_starts_one_child_and_only_one():
    keeper = keeper_of(SLEEP)
    child = keeper.start(0.0)
    assert keeper.start(100.0) is child
    keeper.close(60.0)
    assert child.returncode == -signal.SIGTERM
    assert keeper.child is None


def test_keeper_backs_off_1_2_4_and_starts_at_once_after_work():
    keeper = keeper_of("raise SystemExit(1)")
    now, waits = 1000.0, []
    for _ in range(8):
        assert keeper.start(now) is not None
        assert tend_until(keeper, bool).returncode == 1
        waits.append(keeper.next_start_at - now)
        assert keeper.start(keeper.next_start_at - 0.01) is None or waits[-1] == 0
        keeper.close(60.0)
        now = max(now, keeper.next_start_at)
    assert waits[1:] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    keeper.worked()
    assert keeper.start(now) is not None
    keeper.close(60.0)


def test_keeper_counts_a_failed_start_as_an_end():
    keeper = Keeper(lambda: Child(["/does/not/exist"]))
    for now in (0.0, 0.0):
        with pytest.raises(ChildError):
            keeper.start(now)
    assert keeper.start(0.5) is None


def test_keeper_kills_what_does_not_obey():
    keeper = keeper_of(IGNORE, grace_seconds=0.1)
    child = keeper.start(time.monotonic())
    assert child.read_line(60.0) == b"ready"
    keeper.give_up(time.monotonic())
    end = tend_until(keeper, bool)
    assert (end.returncode, end.asked) == (-signal.SIGKILL, True)


def test_keeper_starts_nothing_beside_one_that_cannot_be_killed(monkeypatch):
    monkeypatch.setattr(child_module, "KILL_WAIT_SECONDS", 0.1)
    real = os.killpg
    monkeypatch.setattr(os, "killpg", lambda pid, number: None)
    keeper = keeper_of(SLEEP, grace_seconds=0.1)
    child = keeper.start(time.monotonic())
    keeper.give_up(time.monotonic())
    tend_until(keeper, lambda _: keeper.stuck is not None)
    assert keeper.stuck is child
    assert keeper.start(time.monotonic() + 3600) is None
    monkeypatch.setattr(os, "killpg", real)
    os.killpg(child.pid, signal.SIGKILL)
    tend_until(keeper, lambda _: keeper.stuck is None)
    assert keeper.start(time.monotonic() + 3600) not in (None, child)
    keeper.close(60.0)


def test_keeper_ends_a_child_that_closed_its_output(monkeypatch):
    monkeypatch.setattr(child_module, "SILENT_SECONDS", 0.1)
    keeper = keeper_of("import os, time; os.close(1); time.sleep(600)")
    child = keeper.start(time.monotonic())
    child.read_line(60.0)
    end = tend_until(keeper, bool)
    assert (end.returncode, end.asked, end.silent) == (-signal.SIGTERM, False, True)


def test_keeper_tells_how_a_child_ended_whose_end_is_seen_long_after_that_of_its_output(monkeypatch):
    """A driver may need seconds to let go of a process whose pipes are closed already."""
    monkeypatch.setattr(child_module, "SILENT_SECONDS", 0.1)
    code = "import os, signal, time; signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGSEGV)); os.close(1); time.sleep(600)"
    keeper = keeper_of(code)
    child = keeper.start(time.monotonic())
    child.read_line(60.0)
    end = tend_until(keeper, bool)
    assert (end.returncode, end.asked) == (-signal.SIGSEGV, False)
    assert keeper.start(time.monotonic() + 3600) not in (None, child)
    keeper.give_up(time.monotonic())
    end = tend_until(keeper, bool)
    assert (end.asked, end.silent) == (True, False)


def test_run_gives_input_of_any_size_and_takes_the_output_as_it_comes():
    seen = []
    code = "import sys; data = sys.stdin.buffer.read(); print(len(data), flush=True); print('trouble', file=sys.stderr); print('end'); sys.exit(3)"
    done = run(python(code), b"x" * 3_000_000, timeout_seconds=30.0, on_line=seen.append)
    assert done == Done(3, (b"3000000", b"end"), ("trouble",))
    assert seen == [b"3000000", b"end"]


def test_run_does_not_mind_a_child_that_wants_no_input():
    assert run(python("print('no')"), b"x" * 3_000_000, timeout_seconds=30.0) == Done(0, (b"no",), ())


def test_run_ends_what_takes_too_long():
    def spoken(child):
        for fd in child.outputs:
            select.select([fd], [], [], 60.0)

    began = time.monotonic()
    code = "import sys, time; print('a', flush=True); print('b', file=sys.stderr); time.sleep(600)"
    done = run(python(code), timeout_seconds=1.0, on_start=spoken)
    assert done == Done(None, (b"a",), ("b",))
    assert time.monotonic() - began < 60


def test_run_refuses_endless_output():
    with pytest.raises(ChildError, match="more than 5 lines"):
        run(python("while True: print('x')"), timeout_seconds=30.0, most_lines=5)


def test_an_event_loop_can_read_it(started):
    child = started("import sys; print('one'); print('two'); print('err', file=sys.stderr)")
    until = time.monotonic() + 60
    while child.outputs and time.monotonic() < until:
        for fd in select.select(child.outputs, [], [], 1.0)[0]:
            child.take_in(fd)
    assert [child.next_line(), child.next_line(), child.next_line()] == [b"one", b"two", None]
    assert child.last_words == "err"
