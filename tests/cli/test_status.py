"""``gpuwatch status --watch`` goes on after a look that failed."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.hub.programs import Program, reply

from gpuwatch.cli import status
from gpuwatch.cli.here import ask_hub
from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.sim.source import make
from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.flat import Flattener
from gpuwatch.wire.numbers import texts_of


class Enough(Exception):
    """Ends the watch."""


def watch(monkeypatch, answers, *arguments):
    left = list(answers)

    def text(*_):
        if not left:
            raise Enough
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(status, "_text", text)
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    return CliRunner().invoke(status.command, ["--hub", "http://127.0.0.1:1", *arguments])


def test_a_failed_look_is_shown_and_the_next_one_comes(monkeypatch):
    result = watch(monkeypatch, ["one\n", GpuwatchError("The hub is gone.", "Start it."), "two\n"], "--watch", "1")
    assert result.stdout == "one\ngpuwatch: The hub is gone. Start it.\ntwo\n"
    assert isinstance(result.exception, Enough)


def test_without_watch_it_ends(monkeypatch):
    assert isinstance(watch(monkeypatch, [GpuwatchError("The hub is gone.")]).exception, GpuwatchError)


def test_what_was_asked_for_wrongly_ends_it(monkeypatch):
    assert isinstance(watch(monkeypatch, [UsageError("no such zone")], "--watch", "1").exception, UsageError)


def test_on_a_screen_it_is_written_over_itself_and_cut_where_the_screen_ends():
    assert status.on_screen("one\ntwo\n", 24) == "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J"
    cut = status.on_screen("".join(f"line {number}\n" for number in range(100)), 24).split("\n")
    assert len(cut) == 24  # the last one is empty: nothing scrolls
    assert "line 21" in cut[21]
    assert "78 more lines" in cut[22]


def test_in_a_terminal_it_is_watched_without_touching_the_scrollback(tmp_path):
    leader, follower = pty.openpty()
    script = (
        "import time\nfrom gpuwatch.cli import status\nlooks = iter(['one\\n', 'two\\n'])\nstatus._text = lambda *_: next(looks)\n"
        "status.command(['--hub', 'x', '--watch', '0.1'], standalone_mode=False)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"), "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", script], stdout=follower, stderr=subprocess.DEVNULL, env=environment, timeout=60, check=False)
    os.close(follower)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(leader, 4096):
            seen += piece
    os.close(leader)
    assert done.returncode == 1  # no third look was prepared
    assert seen.count(b"\x1b[2J") == 1
    assert seen.count(b"\x1b[H") == 2
    assert b"\x1b[3J" not in seen
    assert seen.index(b"one") < seen.index(b"two")


@pytest.mark.parametrize("url", ["ftp://hub", "http://", "http://h:99999", "http://lisa:word@hub"])
def test_what_is_no_address_of_a_hub_is_wrong_usage_and_tells_no_password(url):
    with pytest.raises(UsageError) as caught:
        ask_hub(url, "/")
    assert str(caught.value).startswith("--hub: ")
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(("answer", "words"), [
    (reply(b"<h1>Welcome to nginx!</h1>", kind="text/html"), "answered 200 with a web page: no gpuwatch hub. Give --hub the address of the hub's front page"),
    (reply(b"<h1>Not found</h1>", "404 Not Found", "text/html; charset=utf-8"), "answered 404 with a web page: no gpuwatch hub."),
    (b"HTTP/1.1 301 Moved\r\nLocation: https://hub.lab/g\x1b[2J\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>", "answered 301, a redirect to https://hub.lab/g[2J; redirects are not followed."),
    (reply(b"Not now.\n", "503 Service Unavailable", "text/plain"), "answered 503: Not now."),
])  # fmt: skip
def test_another_web_server_is_no_hub(answer, words):
    program = Program(answer)
    try:
        with pytest.raises(GpuwatchError) as caught:
            ask_hub(f"http://{program.address}", "/?term=true")
    finally:
        program.close()
    assert words in str(caught.value)
    assert "<h1>" not in str(caught.value)


def test_a_database_is_not_told_as_somebody_who_does_not_answer(tmp_path):
    store = open_store(str(tmp_path / "hub.db"))
    for name in ("kept", "empty"):
        machine_id = machines.ensure(store, name, "10.0.0.1")
        if name == "kept":
            flat = Flattener().flatten(make(SamplerOptions("x", 4.0, 10.0, 60.0, 600.0, "", "1xh100:full:1")).read(time.time()))
            entry = JournalEntry(machine_id, round(time.time() * 1000), 0, flat.shape_id, texts_of(json.dumps(flat.values).encode()))
            snapshots.append(store, [entry], {(machine_id, flat.shape_id): flat.shape})
    store.close()
    done = CliRunner().invoke(status.command, ["--database", f"sqlite:///{tmp_path}/hub.db"], catch_exceptions=False)
    assert "10.0.0.1" not in done.stdout
    words = " ".join(done.stdout.split())
    assert "no reading The database holds no reading of it." in words
    assert "This is the last reading in the database; nobody was asked." in words
    assert "1 x H100 80GB" in words
