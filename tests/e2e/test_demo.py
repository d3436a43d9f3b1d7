"""``demo`` and ``up`` as a person runs them; nothing of them stays when they end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.processes import Lab, Running, eventually, free_port, get, get_json, nodes_of, until_status
from tests.fake_nvml import FakeDriver

from gpuwatch.cli import together


@pytest.fixture
def temporary(lab: Lab) -> Path:
    """Where the program makes its temporary folders."""
    folder = lab.folder / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def demo(lab: Lab, temporary: Path) -> Iterator[Running]:
    """A demo that has printed all it prints."""
    running = lab.start("demo", "demo", "--port", free_port(), env={"TMPDIR": str(temporary)})
    running.wait_for(r"Ctrl-C ends all\.\n")
    return running


def alive(pids: list[int]) -> list[int]:
    """Those that still run."""
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_demo(lab: Lab, demo: Running, temporary: Path) -> None:
    url = demo.url()
    lines = re.findall(r"(?m)^\s*(curl .*)$", demo.output)
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (line, done.stderr)
        assert "dgx-a" in done.stdout, line
        assert "gpu03" in done.stdout, line
    assert f"{url}/" in demo.output
    assert list(nodes_of(demo)) == ["dgx-a", "dgx-b", "gpu01", "vision-2", "gpu03", "old-1"]
    states = [gpu["state"] for node in nodes_of(demo).values() for gpu in node["snapshot"]["gpus"]]
    assert states.count("lost") == 1
    assert {"free", "busy", "mig"} <= set(states)
    assert get_json(f"{url}/api/v1/cluster")["simulated"] is True
    assert "demo" in get(f"{url}/")[1].lower()
    for path in ("/?term=true", "/?term=true&view=rows", "/?term=true&detail=true"):
        assert "demo" in get(url + path)[1].lower(), path
    assert len(demo.children()) >= 10, "each node is a real process with a sampler of its own"
    old = until_status(demo, "old-1", "down")
    assert "connection refused" in old["error"]
    assert "old-1" in get(f"{url}/")[1]
    assert eventually(lambda: "idle" in [gpu["state"] for node in nodes_of(demo).values() for gpu in node["snapshot"]["gpus"]])
    assert [node["status"] for node in nodes_of(demo).values()] == ["up"] * 5 + ["down"]
    assert "Traceback" not in demo.output

    # a second one beside it: one line, not a half demo
    port = url.rsplit(":", 1)[1]
    before = set(os.listdir(temporary))
    second = lab.run("demo", "--port", port, env={"TMPDIR": str(temporary)}, timeout=120)
    assert second.returncode == 1
    errors = [line for line in second.stderr.splitlines() if not line.startswith("starting")]
    assert len(errors) == 1
    assert "another program does already" in errors[0]
    assert "--port" in errors[0]
    assert set(os.listdir(temporary)) == before


@pytest.mark.parametrize(
    ("number", "group"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)], ids=["Ctrl-C", "SIGINT", "SIGTERM"]
)
def test_ending_a_demo_ends_all(demo: Running, temporary: Path, number: int, group: bool) -> None:
    below = demo.children()
    assert len(below) >= 10
    assert os.listdir(temporary)
    began = time.monotonic()
    if group:  # what a terminal does
        os.killpg(demo.process.pid, number)
    else:
        demo.process.send_signal(number)
    assert demo.process.wait(40) in (0, 130)
    assert time.monotonic() - began < 30
    assert eventually(lambda: not alive(below), 20), alive(below)
    assert os.listdir(temporary) == []
    assert "Traceback" not in demo.output


@pytest.mark.parametrize("arguments", [("demo",), ("demo", "--history", "30d"), ("up",)], ids=["demo", "while its past is made", "up"])
def test_killed_at_once_it_leaves_no_process_and_no_folder(lab: Lab, temporary: Path, arguments: tuple[str, ...]) -> None:
    running = lab.start("killed", *arguments, "--port", free_port(), env={"TMPDIR": str(temporary)})
    if "--history" in arguments:
        running.wait_for("simulating 30 days")
    elif arguments == ("up",):
        running.url()
    else:
        running.wait_for(r"Ctrl-C ends all\.\n")
    assert eventually(lambda: os.listdir(temporary))
    below = running.children()
    assert below
    running.process.kill()
    running.process.wait(20)
    assert eventually(lambda: not alive(below), 40), alive(below)
    assert os.listdir(temporary) == []


def test_ctrl_c_while_a_demo_starts(lab: Lab, temporary: Path) -> None:
    running = lab.start("demo", "demo", "--port", free_port(), env={"TMPDIR": str(temporary)})
    running.wait_for("starting six simulated nodes")
    assert eventually(lambda: len(running.children()) >= 3)
    below = running.children()
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.process.wait(40) in (0, 130), running.output
    assert eventually(lambda: not alive(below), 20)
    assert eventually(lambda: os.listdir(temporary) == [], 40)
    assert "Traceback" not in running.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_ending_a_demo_while_its_past_is_made(lab: Lab, temporary: Path, number: int) -> None:
    running = lab.start("demo", "demo", "--port", free_port(), "--history", "30d", env={"TMPDIR": str(temporary)})
    running.wait_for("simulating 30 days")
    assert eventually(lambda: any(Path(folder).joinpath("gpuwatch.db").exists() for folder in temporary.iterdir()))
    running.process.send_signal(number)
    assert running.process.wait(40) == 130, running.output
    assert os.listdir(temporary) == []
    assert "starting six" not in running.output
    assert "Traceback" not in running.output


def test_what_is_written_while_a_temporary_folder_goes_is_swept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a node that was just starting when all was ended."""
    monkeypatch.setattr(together.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(together.shutil, "rmtree", lambda *_, **__: None)  # as where it finds a folder that is filled again
    with together.passing_folder() as folder:
        (folder / "late").write_text("x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("span", ["soon", "2y"])
def test_a_past_that_cannot_be(lab: Lab, span: str) -> None:
    done = lab.run("demo", "--history", span, timeout=60)
    assert done.returncode == 2
    assert span in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_taken_port(lab: Lab, temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for command in ("demo", "up"):
            done = lab.run(command, "--port", taken.getsockname()[1], env={"TMPDIR": str(temporary)}, timeout=120)
            errors = [line for line in done.stderr.splitlines() if not line.startswith("starting")]
            assert (done.returncode, len(errors)) == (1, 1), done.stderr
            assert "Next:" in errors[0] or "--port" in errors[0]
            assert os.listdir(temporary) == []


def test_up_shows_this_machine(lab: Lab, temporary: Path) -> None:
    fake = FakeDriver(lab.folder, profile="rtx4080s")
    running = lab.start("up", "up", "--port", free_port(), "--interval", "0.5", env={**fake.env, "TMPDIR": str(temporary)})
    url = running.url()
    name = socket.gethostname()
    node = until_status(running, name, "up")
    assert [gpu["name"] for gpu in node["snapshot"]["gpus"]] == [fake.get(0, "name")]
    assert get_json(f"{url}/api/v1/cluster")["simulated"] is False
    text = get(f"{url}/?term=true&view=rows")[1]
    assert "RTX 4080 SUPER" in text
    assert "demo" not in text.lower()
    below = running.children()
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.process.wait(40) in (0, 130)
    assert eventually(lambda: not alive(below), 20)
    assert os.listdir(temporary) == []
    # what it learned stays for the next time
    running = lab.start("up", "up", "--port", free_port(), "--interval", "0.5", env={"TMPDIR": str(temporary)})
    assert eventually(lambda: nodes_of(running).get(name, {}).get("snapshot"))
