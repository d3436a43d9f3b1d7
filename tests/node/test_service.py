"""The whole node: password rule, start, answers, signals, end."""

import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.node.sources import ARGV, ROOT

from gpuwatch.config.checks import is_loopback
from gpuwatch.config.settings import NodeSettings
from gpuwatch.loops import Stop
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.node.service import check_password, run, sampler_options


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_on_loopback_the_documented_default_is_enough(host):
    assert is_loopback(host)
    assert check_password(NodeSettings(host=host)) == "8888"


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.0.2.1", "127.evil.example", "127.0.0.1.example", "localhost.example", "127.0.0.1\n"]
)
def test_elsewhere_it_does_not_start_without_a_password_and_says_the_line(host):
    assert not is_loopback(host)
    with pytest.raises(UsageError) as error:
        check_password(NodeSettings(host=host))
    assert 'password = "..."' in str(error.value)
    assert "GPUWATCH_PASSWORD" in str(error.value)
    assert "--host 127.0.0.1" in str(error.value)
    assert "8888" not in str(error.value)


def test_a_configured_8888_starts_with_a_warning(caplog):
    assert check_password(NodeSettings(host="0.0.0.0", password="8888")) == "8888"
    assert "everybody knows" in caplog.text
    caplog.clear()
    assert check_password(NodeSettings(host="0.0.0.0", password="other")) == "other"
    assert caplog.text == ""


def test_the_sampler_is_told_no_secret():
    options = sampler_options(NodeSettings(password="topsecret", password_file="/etc/secret", name=""))
    assert options.name == socket.gethostname()
    assert "topsecret" not in repr(options)


@pytest.fixture
def deadline():
    """Of a sample: long, where nothing hangs but a busy machine."""
    return 60.0


@pytest.fixture
def settings(tmp_path, deadline):
    script = tmp_path / "script"
    script.write_text("ok")
    return NodeSettings(
        host="127.0.0.1", port=0, interval=0.1, sample_deadline=deadline, state_dir=str(tmp_path / "state"), name="node1", password="pw",
        source="tests.node.sources:make", source_argument=str(script),
    )  # fmt: skip


def ask(port, body, path="/get-status"):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request("POST" if body else "GET", path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = client.getresponse()
    text = answer.read()
    client.close()
    return answer.status, text


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def port_in(line):
    return int(line.split("/get-status")[0].rsplit(":", 1)[1])


@pytest.mark.parametrize("event", [Stop, threading.Event])
def test_it_serves_until_the_stop_event(settings, event):
    stop, lines = event(), []
    thread = threading.Thread(target=run, args=(settings, stop, ARGV, lines.append))
    thread.start()
    wait_for(lambda: lines)
    port = port_in(lines[0])
    assert lines[0].startswith("gpuwatch node node1 answers on http://127.0.0.1:")
    wait_for(lambda: ask(port, {"passwd": "pw"})[0] == 200)
    body = json.loads(ask(port, {"passwd": "pw"})[1])
    assert [gpu["name"] for gpu in body["gpus"]] == ["NVIDIA H100"] * 2
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert {"GPU-0", "GPU-1"} == {gpu["uuid"] for gpu in json.loads(Path(settings.state_dir, "inventory.json").read_text())["gpus"]}


def test_what_is_wrong_with_the_start_is_said_before_anything_starts(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(GpuwatchError, match="another program does already"):
            run(dataclasses.replace(settings, port=taken.getsockname()[1]), None, ARGV)
    with pytest.raises(UsageError, match="No password"):
        run(dataclasses.replace(settings, host="0.0.0.0", password=""), None, ARGV)
    with pytest.raises(UsageError, match="not a time zone"):
        run(dataclasses.replace(settings, timezone="Mars/Base"), None, ARGV)
    assert not os.path.exists(settings.state_dir)


def test_a_state_folder_that_cannot_be_used_costs_only_the_memory(settings, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    stop, lines = Stop(), []
    broken = dataclasses.replace(settings, state_dir=str(tmp_path / "file" / "state"))
    thread = threading.Thread(target=run, args=(broken, stop, ARGV, lines.append))
    thread.start()
    wait_for(lambda: lines)
    wait_for(lambda: ask(port_in(lines[0]), {"passwd": "pw"})[0] == 200)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert "cannot be used" in caplog.text


@pytest.fixture
def node(settings):
    """A node as a process of its own."""
    code = f"""
import sys; sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT)!r}]
from gpuwatch.config.settings import NodeSettings
from gpuwatch.node import service
service.END_SECONDS = 1.0
service.run({settings!r}, None, {ARGV!r}, lambda line: print(line, flush=True))
print("clean end")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.port = port_in(process.stdout.readline())
    wait_for(lambda: ask(process.port, {"passwd": "pw"})[0] == 200)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def children_of(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # a thread that ended meanwhile
            continue
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(node, number):
    samplers = children_of(node.pid)
    assert len(samplers) == 1
    node.send_signal(number)
    out, err = node.communicate(timeout=60)
    assert (node.returncode, out) == (0, "clean end\n")
    assert "Traceback" not in err
    assert not os.path.exists(f"/proc/{samplers[0]}")


def test_when_the_node_is_killed_its_sampler_ends_by_itself(node):
    wait_for(lambda: children_of(node.pid))
    samplers = children_of(node.pid)
    assert samplers, "without a sampler this would prove nothing"
    node.kill()
    node.wait()
    wait_for(lambda: not any(map(is_running, samplers)))
    assert not any(map(is_running, samplers))


@pytest.mark.parametrize("deadline", [1.0])
def test_a_hanging_driver_delays_no_answer_and_no_end(node, settings):
    wait_for(lambda: len(json.loads(ask(node.port, {"passwd": "pw"})[1])["gpus"]) == 2)
    with open(settings.source_argument, "w") as script:
        script.write("hang")
    wait_for(lambda: json.loads(ask(node.port, {"passwd": "pw"})[1])["status"]["stale"])
    for _ in range(20):  # it hangs until the end: an answer that waited for it would never come
        assert ask(node.port, {"passwd": "pw"})[0] == 200
    body = json.loads(ask(node.port, {"passwd": "pw"})[1])
    assert body["status"]["message"].startswith("driver hung since ")
    assert len(body["gpus"]) == 2
    node.send_signal(signal.SIGTERM)
    assert node.wait(60) == 0


def test_server_and_sampler_import_what_they_need_and_no_more(node):
    code = f"import sys; sys.path[:0] = [{str(ROOT / 'src')!r}, {str(ROOT)!r}]; import gpuwatch.node.service; print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("peewee", "click", "asyncio", "psutil", "pynvml", "tabulate", "gpuwatch.store", "gpuwatch.collect", "gpuwatch.hub"):
        assert f"'{name}'" not in modules


@pytest.mark.parametrize("ends_with_stdin", [True, False])
def test_it_ends_with_its_input_only_where_told_so(settings, ends_with_stdin):
    told = dataclasses.replace(settings, ends_with_stdin=ends_with_stdin)
    code = f"""
import sys; sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT)!r}]
from gpuwatch.config.settings import NodeSettings
from gpuwatch.node import service
service.run({told!r}, None, {ARGV!r}, lambda line: print(line, flush=True))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        port = port_in(process.stdout.readline().decode())
        wait_for(lambda: ask(port, {"passwd": "pw"})[0] == 200)
        process.stdin.close()
        if ends_with_stdin:
            assert process.wait(60) == 0
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
