"""The commands for people, run from the file: status, pick, check, host, completion, errors of usage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Lab, Running, address, ask_node, eventually, free_port, get, nodes_of, until_status
from tests.fake_nvml import FakeDriver

from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store

GIB = 1024**3
COMMANDS = ("up", "node", "hub", "demo", "status", "pick", "report", "check", "cert", "enroll", "deploy", "worker", "host", "db", "completion")


@pytest.fixture
def fake(tmp_path: Path) -> FakeDriver:
    """Eight H100: a process of this test on 0, memory without work on 1, the rest is free."""
    made = FakeDriver(tmp_path, profile="h100x8")
    made.set_processes(0, [{"pid": os.getpid(), "used_memory_bytes": 3 * GIB, "sm_percent": 50}])
    for gpu in range(2, 8):
        made.set(gpu, memory_used_bytes=0, utilization_gpu_percent=0)
    return made


@pytest.fixture
def hub(lab: Lab) -> Iterator[Running]:
    """A hub with two simulated nodes, both up."""
    train, vision = lab.simulated("train-1", "2xh100:full:1"), lab.simulated("vision-1", "2xrtx4090:free:2")
    running = lab.hub(f"train-1={address(train)} tags=train\nvision-1={address(vision)} tags=vision\n")
    until_status(running, "train-1", "up")
    until_status(running, "vision-1", "up")
    return running


# ---- status


def test_status_of_this_machine(lab: Lab, fake: FakeDriver) -> None:
    done = lab.run("status", env=fake.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"(?m)^ +0 busy ", done.stdout)
    assert len(re.findall(r"(?m)^o? +\d free ", done.stdout)) >= 6
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    detail = lab.run("status", "--detail", "--ascii", env=fake.env)
    assert str(os.getpid()) in detail.stdout
    assert detail.stdout.isascii()
    assert "\x1b[" in lab.run("status", "--color", env=fake.env).stdout
    free = lab.run("status", "--free", env=fake.env).stdout
    assert not re.search(r"(?m)^ +0 busy ", free)


def test_status_as_json(lab: Lab, fake: FakeDriver) -> None:
    done = lab.run("status", "--json", env=fake.env)
    gpus = json.loads(done.stdout)["nodes"][0]["snapshot"]["gpus"]
    assert [gpu["uuid"] for gpu in gpus] == [fake.get(gpu, "uuid") for gpu in range(8)]
    assert gpus[0]["processes"][0]["pid"] == os.getpid()
    mine = Path("/proc/self/cmdline").read_bytes().decode().split("\0")
    assert len(mine) > 2
    assert gpus[0]["processes"][0]["command"] == " ".join(mine).strip()[:500], "who can run it on this machine can see arguments anyway"


def test_status_words_filter(lab: Lab, hub: Running) -> None:
    url = hub.url()
    both = lab.run("status", "--hub", url).stdout
    assert "train-1" in both
    assert "vision-1" in both
    for words, shown, hidden in (
        (["train"], "train-1  2 x", "vision-1  2 x"),
        (["RTX", "4090"], "vision-1  2 x", "train-1  2 x"),
        (["--free"], "vision-1  2 x", "train-1  2 x"),
    ):
        text = lab.run("status", "--hub", url, *words).stdout
        assert shown in text, words
        assert hidden not in text, words
    nothing = lab.run("status", "--hub", url, "nobody-has-this")
    assert nothing.returncode == 0
    assert "nobody-has-this" in nothing.stdout
    answer = json.loads(lab.run("status", "--hub", url, "--json", "vision").stdout)
    assert [node["name"] for node in answer["nodes"]] == ["vision-1"]
    assert lab.run("status", "--hub", url.removeprefix("http://")).returncode == 0
    dead = lab.run("status", "--hub", f"127.0.0.1:{free_port()}")
    assert "refused" in one_line_error(dead, 1)
    assert "--hub and --database" in one_line_error(lab.run("status", "--hub", url, "--database", "sqlite:///x"), 2)


def test_status_of_a_database(lab: Lab, hub: Running) -> None:
    done = eventually(lambda: (found := lab.run("status", "--database", lab.database())) and "train-1  2 x H100" in found.stdout and found)
    assert done, "its readings are in the database"
    assert (done.returncode, done.stderr) == (0, "")
    assert "stale" in done.stdout or "down" in done.stdout, "it is old, and says so"
    assert hub.stop() == 0
    answer = json.loads(lab.run("status", "--database", lab.database(), "--json").stdout)
    assert [node["name"] for node in answer["nodes"]] == ["train-1", "vision-1"]
    assert answer["nodes"][0]["snapshot"]["gpus"][0]["uuid"]
    assert "There is no database" in one_line_error(lab.run("status", "--database", f"sqlite:///{lab.folder}/nowhere.db"), 1)


def test_status_watch_prints_again_until_ctrl_c(lab: Lab, hub: Running) -> None:
    running = lab.start("watch", "status", "--hub", hub.url(), "--watch", "0.2")
    assert eventually(lambda: running.output.count("vision-1") >= 6)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) in (0, 130)
    assert "Traceback" not in running.output
    assert "0.01" in one_line_error(lab.run("status", "--watch", "0.01"), 2)


# ---- pick


def test_pick(lab: Lab, fake: FakeDriver) -> None:
    uuids = [fake.get(gpu, "uuid") for gpu in range(8)]
    one = lab.run("pick", env=fake.env)
    assert (one.returncode, one.stderr) == (0, "")
    assert one.stdout.strip() in uuids[1:]
    two = lab.run("pick", "-n", "2", env=fake.env).stdout.strip().split(",")
    assert len(set(two)) == 2
    assert set(two) <= set(uuids[1:])
    fake.set(5, memory_total_bytes=200 * GIB, memory_used_bytes=0)
    assert lab.run("pick", "--min-free", "100GiB", env=fake.env).stdout == f"{uuids[5]}\n"
    assert (
        lab.run("pick", "--model", "h100", "--export", "--min-free", "100GiB", env=fake.env).stdout
        == f"export CUDA_VISIBLE_DEVICES={uuids[5]}\n"
    )
    assert json.loads(lab.run("pick", "--json", "--min-free", "100GiB", env=fake.env).stdout)[0]["gpu"] == "5"
    said = one_line_error(lab.run("pick", "-n", "9", env=fake.env), 1)
    assert "9 wanted" in said
    assert "gpuwatch status" in said
    said = one_line_error(lab.run("pick", "--model", "A100", env=fake.env), 1)
    assert "A100" in said
    assert "NVIDIA H100 80GB HBM3" in said
    assert "1024 GiB free" in one_line_error(lab.run("pick", "--min-free", "1TiB", env=fake.env), 1)
    assert "much" in one_line_error(lab.run("pick", "--min-free", "much", env=fake.env), 2)
    assert "-n 0" in one_line_error(lab.run("pick", "-n", "0", env=fake.env), 2)
    assert "x" in one_line_error(lab.run("pick", "-n", "x", env=fake.env), 2)
    fake.fault("gpu_lost")
    assert lab.run("pick", env=fake.env).stdout == ""


def test_pick_of_a_shell(lab: Lab, fake: FakeDriver) -> None:
    script = f"CUDA_VISIBLE_DEVICES=$({lab.pyz} pick -n 2) {sys.executable} -c \"import os; print(os.environ['CUDA_VISIBLE_DEVICES'])\""
    done = subprocess.run(script, shell=True, env={**os.environ, **lab.env(), **fake.env}, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"GPU-[0-9a-f-]{36},GPU-[0-9a-f-]{36}\n", done.stdout), done.stderr


def test_pick_knows_mig_slices(lab: Lab, tmp_path: Path) -> None:
    fake = FakeDriver(tmp_path, profile="h100-mig")
    everything = json.loads(lab.run("status", "--json", env=fake.env).stdout)["nodes"][0]["snapshot"]["gpus"]
    slices = {part["uuid"]: part for gpu in everything for part in gpu["mig"]}
    whole = {gpu["uuid"] for gpu in everything if not gpu["mig"]}
    assert slices
    free = [uuid for uuid, part in slices.items() if part["state"] == "free"]
    found = lab.run("pick", "-n", str(len(free) + len(whole)), env=fake.env)
    assert set(found.stdout.strip().split(",")) <= set(slices) | whole
    assert any(uuid.startswith("MIG-") for uuid in found.stdout.strip().split(",")), found.stderr


def test_pick_without_a_gpu(lab: Lab) -> None:
    done = lab.run("pick")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_a_hanging_driver_hangs_nobody(lab: Lab, fake: FakeDriver, tmp_path: Path) -> None:
    fake.fault("hang_deaf", function="nvmlDeviceGetMemoryInfo_v2")
    config = lab.toml("quick", "node", {"sample_deadline": 1})
    for command in ("status", "pick", "node --debug --host 127.0.0.1"):
        began = time.monotonic()
        assert "does not answer" in one_line_error(lab.run(*command.split(), "--config", config, env=fake.env), 1)
        assert time.monotonic() - began < 30


# ---- node --debug


def test_node_debug_prints_one_status(lab: Lab, fake: FakeDriver) -> None:
    done = lab.run("node", "--debug", "--name", "me", env=fake.env)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["hostname"], len(answer["gpus"]), answer["snapshot"]["hostname"]) == ("me", 8, "me")


# ---- check


class Skewed(BaseHTTPRequestHandler):
    """Stands between: a node whose clock is an hour ahead."""

    upstream = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        import http.client

        host, port = self.upstream.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        given = {name: self.headers[name] for name in ("Content-Type", "Authorization")}
        connection.request("POST", "/get-status", body, given)
        answer = connection.getresponse()
        header, _, values = answer.read().partition(b"\n")
        told = json.loads(header)
        told["sent_at"] += 3600
        data = json.dumps(told).encode() + b"\n" + values
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def test_check(lab: Lab) -> None:
    good, other = lab.simulated("good"), lab.node("other", {"source": "gpuwatch.sim.source:make"}, password="different")
    assert eventually(lambda: ask_node(good.url())[0] == 200)  # it has a sample
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Skewed,), {"upstream": good.url()}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        hosts = lab.folder / "hosts.txt"
        skewed = f"skewed=127.0.0.1:{server.server_address[1]}\n"
        hosts.write_text(f"good={address(good)}\nlocked={address(other)}\ndead=127.0.0.1:{free_port()}\n{skewed}")
        env = {"GPUWATCH_PASSWORD": "x"}
        done = lab.run("check", "--hosts", hosts, env=env)
        assert done.returncode == 0, done.stdout
        assert "4 targets, 0 problems" in done.stdout
        done = lab.run("check", "--hosts", hosts, "--live", env=env)
        assert (done.returncode, done.stderr) == (1, "")
        for pattern in (
            r"ok +good +\S+ +version \d+\.\d+\.\d+, 2 GPUs", r"FAIL +locked .*wrong password: locked answered 403. Next:", r"FAIL +dead .*refused",
            r"FAIL +skewed .*clock differs by \+3[56]\d\d\.\d s. Next:", r"1 of 4 nodes answer well",
        ):  # fmt: skip
            assert re.search(pattern, done.stdout), f"{pattern} is not in {done.stdout}"
        answer = json.loads(lab.run("check", "--hosts", hosts, "--live", "--json", env=env).stdout)
        assert [node["ok"] for node in answer["nodes"]] == [True, False, False, False]
        hosts.write_text(f"good={address(good)}\n")
        assert lab.run("check", "-c", hosts, "--live", env=env).returncode == 0
        hosts.write_text(f"good={address(good)}\nbad line here\n")
        done = lab.run("check", "-c", hosts, env=env)
        assert done.returncode == 1
        assert "line 2" in done.stdout
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    assert "nowhere.txt" in one_line_error(lab.run("check", "--hosts", "nowhere.txt"), 2)


# ---- host, beside a running hub


def test_hosts_beside_a_running_hub(lab: Lab) -> None:
    one, two = lab.simulated("a", "2xh100:full:1"), lab.simulated("b", "2xh100:full:2")
    hub = lab.hub(f"alpha={address(one)}\nbeta={address(two)}\n")
    until_status(hub, "alpha", "up")
    until_status(hub, "beta", "up")
    database = ("host", "--database", lab.database())

    def listed() -> dict[str, str]:
        return {row["name"]: row["id"] for row in json.loads(lab.run(*database, "list", "--json").stdout)}

    def history(name: str) -> list[str]:
        uuids = []
        for entry in json.loads(get(f"{hub.url()}/states/{name}/?fetch_num=-1")[1])[name]["data"]:
            uuids += [gpu["uuid"] for gpu in entry["gpu_data"].values()]
        return uuids

    def taken_ms(name: str) -> list[int]:
        store = open_store(lab.database(), create=False, read_only=True)
        try:
            return [entry.taken_at_ms for entry in snapshots.read(store, machines.find(store, name).id)]
        finally:
            store.close()

    assert eventually(lambda: len(history("alpha")) > 4)
    before = listed()
    assert set(before) == {"alpha", "beta"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", machine_id) for machine_id in before.values())
    assert "127.0.0.1" in lab.run(*database, "list").stdout

    # rename: the history goes along
    done = lab.run(*database, "rename", "alpha", "gamma")
    assert done.returncode == 0, done.stderr
    assert "gamma=" in done.stdout
    lab.hosts_file().write_text(f"gamma={address(one)}\nbeta={address(two)}\n")
    until_status(hub, "gamma", "up")
    assert listed()["gamma"] == before["alpha"]
    count = len(history("gamma"))
    assert count > 4
    assert eventually(lambda: len(history("gamma")) > count), "it goes on under the new name"

    # merge: what the second one gathered belongs to the first
    lab.hosts_file().write_text(f"gamma={address(one)}\n")
    assert eventually(lambda: list(nodes_of(hub)) == ["gamma"])
    theirs = {gpu["uuid"] for gpu in json.loads(lab.run("status", "--hub", hub.url(), "--json").stdout)["nodes"][0]["snapshot"]["gpus"]}
    done = lab.run(*database, "merge", "beta", "gamma", "--yes")
    assert done.returncode == 0, done.stderr
    assert set(listed()) == {"gamma"}
    assert eventually(lambda: set(history("gamma")) > theirs), "UUIDs of both machines"

    # forget: a host in the hosts file begins anew, and the running hub notices
    forgotten_ms = time.time() * 1000
    done = lab.run(*database, "forget", "gamma", "--yes")
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: listed().get("gamma") not in (None, before["alpha"]))
    until_status(hub, "gamma", "up")
    assert eventually(lambda: taken_ms("gamma"))
    assert min(taken_ms("gamma")) > forgotten_ms - 1000, "nothing is left of the time before"
    assert eventually(lambda: history("gamma"))
    assert "Traceback" not in hub.output

    assert "nobody" in one_line_error(lab.run(*database, "forget", "nobody", "--yes"), 2)
    assert "nobody" in one_line_error(lab.run(*database, "rename", "nobody", "somebody"), 2)
    refused = lab.run(*database, "forget", "gamma")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (1, "gpuwatch: Nobody answered, nothing was changed. To do it without a question: --yes")
    assert "gamma" in listed()
    assert "There is no database" in one_line_error(lab.run("host", "--database", f"sqlite:///{lab.folder}/nowhere.db", "list"), 1)


# ---- completion, help, errors


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(lab: Lab, shell: str) -> None:
    done = lab.run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_GPUWATCH_COMPLETE" in done.stdout
    words = lab.run(
        env={"_GPUWATCH_COMPLETE": f"{shell}_complete", "COMP_WORDS": "gpuwatch st", "COMP_CWORD": "1" if shell != "fish" else "st"}
    )
    assert "status" in words.stdout


def test_completion_in_bash(lab: Lab) -> None:
    folder = lab.folder / "bin"
    folder.mkdir()
    (folder / "gpuwatch").symlink_to(lab.pyz)
    script = 'eval "$(gpuwatch completion bash)"; COMP_WORDS=(gpuwatch sta); COMP_CWORD=1; _gpuwatch_completion gpuwatch sta gpuwatch; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, **lab.env(), "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["status"], done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help(lab: Lab, command: str) -> None:
    done = lab.run(command, "--help", env={"LC_ALL": "C", "LANG": "C"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: gpuwatch {command}")
    assert len(done.stdout.splitlines()) >= 5
    assert lab.run(command, "-h").stdout.startswith("Usage:")


def test_help_lists_every_command(lab: Lab) -> None:
    text = lab.run("--help").stdout
    assert re.findall(r"(?m)^  (\w+)  ", text.partition("Commands:")[2]) == list(COMMANDS)
    assert "_sampler" not in text


def one_line_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What the command said: it failed with this code and one line on stderr; nothing of the inside."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("gpuwatch: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["nonsense"], "nonsense"),
        (["hub", "--nonsense"], "--nonsense"),
        (["hub", "--port", "abc"], "abc"),
        (["hub", "--port", "-1"], "-1"),
        (["hub", "--interval", "0"], "0"),
        (["hub", "--interval", "soon"], "soon"),
        (["hub", "--config", "/nowhere/x.toml"], "/nowhere/x.toml"),
        (["hub", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (["hub", "--database", "mysql://x"], "mysql"),
        (["hub", "--log-level", "loud"], "loud"),
        (["hub", "--log-file", "/nowhere/x.log"], "/nowhere/x.log"),
        (["node", "--host", "127.0.0.1", "--interval", "0.01"], "0.01"),
        (["node", "--host", "127.0.0.1", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (["node", "--password", "secret"], "--password"),
        (["status", "--watch", "never"], "never"),
        (["completion", "tcsh"], "tcsh"),
        (["host", "rename", "one"], "NEW_NAME"),
        (["up", "--interval", "abc"], "abc"),
        (["demo", "--port", "abc"], "abc"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_of_usage_are_one_line(lab: Lab, argv: list[str], word: str) -> None:
    assert word in one_line_error(lab.run(*argv), 2)


def test_a_hub_says_who_sees_what(lab: Lab) -> None:
    (lab.folder / "hosts.txt").write_text("")
    closed = lab.start("closed", "hub", "--port", "0", "--hosts", lab.folder / "hosts.txt")
    closed.wait_for(r"Only this machine can reach it. To open it to the network: --host 0\.0\.0\.0.*\n")
    assert "Strangers then see hosts, GPUs, states, users and names of programs without their arguments." in closed.output
    opened = lab.start("opened", "hub", "--host", "0.0.0.0", "--port", "0", "--hosts", lab.folder / "hosts.txt")
    opened.wait_for("Whoever reaches .* sees hosts, GPUs, states, users and names of programs without their arguments")
    assert "No nodes yet" in get(f"{closed.url()}/?term=true")[1]
    assert get(f"{closed.url()}/")[0] == 200


def test_failures_are_one_line(lab: Lab) -> None:
    (lab.folder / "hosts.txt").write_text("# none yet\n")
    said = one_line_error(lab.run("hub", "--host", "192.0.2.77", "--port", "0"), 1)
    assert "192.0.2.77" in said
    assert "--host" in said
    assert "no.such.name.invalid" in one_line_error(lab.run("node", "--host", "no.such.name.invalid", env={"GPUWATCH_PASSWORD": "x"}), 1)
    config = lab.folder / "x.toml"
    config.write_text('password = "x"\n')
    config.chmod(0o644)
    assert f"chmod 600 {config}" in one_line_error(lab.run("node", "--config", config), 2)
    config.chmod(0o600)
    config.write_text("[node]\nintervall = 3\n")
    assert "intervall" in one_line_error(lab.run("node", "--config", config), 2)
    config.write_text("[node\n")
    assert str(config) in one_line_error(lab.run("hub", "--config", config), 2)


def test_any_locale(lab: Lab, tmp_path: Path) -> None:
    """Names beyond ASCII never end a command, whatever the terminal can show."""
    fake = FakeDriver(tmp_path, profile="h100x8")
    fake.set(1, name="NVIDIA Gerät 数据 ☃")
    fake.fault("invalid_utf8")
    node = lab.node("n", env=fake.env)
    hub = lab.hub(f"höst-数据={address(node)} tags=größe\n")
    until_status(hub, "höst-数据", "up")
    for language in ("C", "xx_YY.nonsense"):
        env = {**fake.env, "LC_ALL": language, "LANG": language, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        for argv in (
            ["status"],
            ["status", "--hub", hub.url(), "--detail"],
            ["status", "--json"],
            ["node", "--debug"],
            ["pick"],
            ["--help"],
        ):
            done = lab.run(*argv, env=env)
            assert done.returncode == 0, (language, argv, done.stderr)
            assert "UnicodeEncodeError" not in done.stderr
        done = lab.run("status", "größe-数据", "--hub", f"127.0.0.1:{free_port()}", env=env)
        assert "refused" in one_line_error(done, 1)


def test_a_reader_that_goes_away(lab: Lab, hub: Running) -> None:
    """``gpuwatch status | head -1`` is no error."""
    env = {**os.environ, **lab.env()}
    done = subprocess.run(
        ["bash", "-c", f"{lab.pyz} status --hub {hub.url()} --watch 0.1 | head -1; exit ${{PIPESTATUS[0]}}"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr


def test_a_node_imports_no_database(lab: Lab) -> None:
    """What a command does not need costs it nothing: seen in the files that a running node and hub have read."""
    node = lab.simulated("n")
    hub = lab.hub(f"n={address(node)}\n")
    until_status(hub, "n", "up")
    assert "sqlite3" in Path(f"/proc/{hub.process.pid}/maps").read_text(), "the hub has SQLite loaded: the test sees what it looks for"
    for pid in [node.process.pid, *node.children()]:
        assert "sqlite3" not in Path(f"/proc/{pid}/maps").read_text()
    for argv, forbidden in (
        (["node", "--help"], ("peewee", "waitress", "bottle", "sqlite3", "asyncio")),
        (["node", "--host", "127.0.0.1", "--debug"], ("peewee", "sqlite3", "asyncio")),
        (["--help"], ("peewee", "waitress", "bottle", "pynvml", "psutil", "sqlite3")),
    ):
        done = lab.run(*argv, env={"PYTHONPROFILEIMPORTTIME": "1", "GPUWATCH_NODE_SOURCE": "gpuwatch.sim.source:make"})
        assert done.returncode == 0, done.stderr[-500:]
        names = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
        assert "click" in names
        assert not [name for name in forbidden if name in names], argv


def test_a_log_file_is_reopened(lab: Lab) -> None:
    log = lab.folder / "node.log"
    node = lab.start(
        "n", "node", "--host", "127.0.0.1", "--port", "0", "--log-file", log, env={"GPUWATCH_NODE_SOURCE": "gpuwatch.sim.source:make"}
    )
    url = node.url()
    get(f"{url}/healthz")
    assert eventually(lambda: "GET /healthz" in log.read_text())
    log.rename(lab.folder / "node.log.1")
    node.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: get(f"{url}/healthz") and log.exists() and "GET /healthz" in log.read_text())
    quiet = lab.start("q", "node", "--host", "127.0.0.1", "--port", "0", "--disable_log", "--node_port", "0")
    get(f"{quiet.url()}/healthz")
    time.sleep(0.2)
    assert "healthz" not in quiet.output
