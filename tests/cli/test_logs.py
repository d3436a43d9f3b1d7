"""The log: one line a message, whatever strangers call themselves; a trace cannot pass for other lines."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

from gpuwatch.cli.logs import FORMAT, _OneLine


def line_of(message, error=None):
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, message, (), (type(error), error, None) if error else None)
    return _OneLine(FORMAT).format(record)


def test_control_characters_of_a_message_are_shown_not_obeyed():
    assert line_of("user \x1b[2J\nERROR forged \u202e").endswith(r"user \x1b[2J\nERROR forged \u202e")


def test_the_lines_of_a_trace_are_told_from_others():
    first, *trace = line_of("error 1", ValueError("a\n2026-01-01 00:00:00 INFO forged\x1b[31m")).split("\n")
    assert first.endswith("ERROR error 1")
    assert trace
    assert all(line.startswith("  | ") for line in trace)
    assert "\x1b" not in "".join(trace)


PROGRAM = f"""
import signal, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parents[2] / "src")!r})
from gpuwatch.cli import logs
from gpuwatch.config.settings import CommonSettings
signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended in order"))
logs.set_up(CommonSettings(log_file=sys.argv[1]))
print("ready", flush=True)
time.sleep(2 if sys.argv[2:] else 60)
"""


def hang_up(*arguments, ignored=False):
    before = signal.SIG_IGN if ignored else signal.SIG_DFL
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, before),
    )  # fmt: skip
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    return process.communicate(timeout=60)[1], process.returncode


def test_a_closed_terminal_ends_the_program_like_sigterm():
    assert hang_up("") == ("ended in order\n", 1)


def test_nohup_and_a_log_file_let_it_go_on(tmp_path):
    assert hang_up("", "short", ignored=True) == ("", 0)
    assert hang_up(str(tmp_path / "log"), "short") == ("", 0)


MOVED = f"""
import logging, os, signal, sys, threading
sys.path.insert(0, {str(Path(__file__).resolve().parents[2] / "src")!r})
from gpuwatch.cli import logs
from gpuwatch.config.settings import CommonSettings
sys.setswitchinterval(1e-6)
logs.set_up(CommonSettings(log_file=sys.argv[1], log_level="info"))
writers = [threading.Thread(target=lambda: [logging.info("line") for _ in range(2000)]) for _ in range(2)]
for writer in writers:
    writer.start()
for number in range(1000000):
    if not any(writer.is_alive() for writer in writers):
        break
    os.rename(sys.argv[1], f"{{sys.argv[1]}}.{{number}}")
    os.kill(os.getpid(), signal.SIGHUP)
    while not os.path.exists(sys.argv[1]):
        pass
"""


def test_no_line_is_lost_while_the_log_is_opened_anew(tmp_path):
    done = subprocess.run([sys.executable, "-c", MOVED, str(tmp_path / "log")], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(len(part.read_text().splitlines()) for part in tmp_path.iterdir()) == 4000
