"""The program that deploy sends to machines, run as it is run there: by a bare Python, with its job as input."""

import base64
import json
import os
import subprocess
import sys

import pytest

from gpuwatch.child import run
from gpuwatch.deploy.agent import _end, _is_gone, _pid_in
from gpuwatch.deploy.runner import _command, _read, message_in
from gpuwatch.wire.ssh import Way

SYSTEMCTL = "#!/bin/sh\necho \"$XDG_RUNTIME_DIR $*\" >> {log}\ncase \"$*\" in *bad*) echo 'Unit bad.service not found.'; exit 5;; esac\n"


@pytest.fixture
def there(tmp_path):
    """A home and a systemctl; calling it sends a job and gives (messages, the last one)."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL.format(log=tmp_path / "calls"))
    (tmp_path / "bin" / "systemctl").chmod(0o755)

    def send(job, data=b"", **more):
        agent = _read("agent.py")
        head = json.dumps({"file_bytes": len(data), **job, **more}).encode() + b"\n"
        command = f"HOME={tmp_path} PATH={tmp_path}/bin:/usr/bin:/bin; export HOME PATH; {_command(Way(python=sys.executable), len(agent), False)}"
        done = run(["/bin/sh", "-c", command], agent + head + data, timeout_seconds=60.0)
        messages = [message for line in done.lines if (message := message_in(line)) is not None]
        assert messages, done
        return messages[:-1], messages[-1]

    return send


def write(path, text, **more):
    return {"do": "write", "name": "write", "path": path, "content": base64.b64encode(text.encode()).decode(), "mode": 0o600, **more}


def act(*steps, undo=None):
    return {"action": "act", "steps": list(steps), "undo": None if undo is None else list(undo)}


def systemctl(*words, **more):
    return {"do": "run", "name": "start", "argv": ["systemctl", *words], **more}


def test_it_tells_how_the_machine_is(there, tmp_path):
    (tmp_path / "a").write_text("x")
    _, end = there({"action": "look", "paths": {"one": "~/a", "two": "~/b"}, "programs": []})
    facts = end["facts"]
    assert (facts["home"], facts["uid"]) == (str(tmp_path), os.geteuid())
    assert list(facts["files"]) == ["one"]
    assert facts["files"]["one"]["sha256"].startswith("2d711642b726b044")
    assert facts["systemd"] == os.path.isdir("/run/systemd/system")


def test_what_is_so_already_stays(there, tmp_path):
    job = act(write("~/sub/dir/a", "one", folder_mode=0o700), systemctl("restart", "x", if_unchanged=["systemctl", "start", "x"]))
    told, end = there(job)
    assert [(one["step"], one["state"]) for one in told] == [("write", "begins"), ("write", "done"), ("start", "begins"), ("start", "done")]
    assert end == {"end": "done", "changed": True}
    assert (tmp_path / "sub/dir/a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "sub/dir").stat().st_mode & 0o777 == 0o700
    told, end = there(job)
    assert [one["state"] for one in told if one["state"] != "begins"] == ["same", "same"]
    assert end["changed"] is False
    assert [call.split()[-2:] for call in (tmp_path / "calls").read_text().splitlines()] == [["restart", "x"], ["start", "x"]]


def test_a_user_s_systemd_is_found_by_its_runtime_folder(there, tmp_path):
    there(act(systemctl("--user", "daemon-reload")))
    assert (tmp_path / "calls").read_text() == f"/run/user/{os.getuid()} --user daemon-reload\n"


def test_another_file_is_kept_where_the_step_says_so(there, tmp_path):
    (tmp_path / "a").write_text("mine")
    told, end = there(act(write("~/a", "other", only_new=True)))
    assert told[-1]["state"] == "kept"
    assert (tmp_path / "a").read_text() == "mine"
    assert end["changed"] is False


def test_what_was_made_up_is_as_good_as_what_is_there(there, tmp_path):
    (tmp_path / "a").write_text("mine")
    told, end = there(act(write("~/a", "other", only_new="made up")))
    assert (told[-1]["state"], (tmp_path / "a").read_text(), end["changed"]) == ("same", "mine", False)


def test_a_step_that_fails_puts_everything_back(there, tmp_path):
    (tmp_path / "a").write_text("before")
    (tmp_path / "a").chmod(0o640)
    steps = (write("~/a", "after", previous=True), write("~/new", "x"), systemctl("restart", "bad", hint="look there"))
    _, end = there(act(*steps, undo=[systemctl("restart", "good")]))
    assert (end["end"], end["step"], end["hint"], end["rolled_back"]) == ("failed", "start", "look there", True)
    assert end["said"] == "systemctl restart bad: Unit bad.service not found."
    assert (tmp_path / "a").read_text() == "before"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("restart good")
    _, end = there(act(*steps, undo=[systemctl("restart", "bad")]))
    assert end["rolled_back"] is False


def test_a_link_is_not_followed_to_write_a_secret(there, tmp_path):
    (tmp_path / "victim").write_text("safe")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    there(act(write("~/a", "secret")))
    assert (tmp_path / "victim").read_text() == "safe"
    assert not (tmp_path / "a").is_symlink()


def test_the_file_comes_whole_or_nothing_is_done(there, tmp_path):
    step = {"do": "write", "name": "copy", "path": "~/file", "from_input": True, "mode": 0o755}
    _, end = there(act(step), b"x" * 2_000_000)
    assert end["end"] == "done"
    assert (tmp_path / "file").stat().st_size == 2_000_000
    _, end = there(act(step), b"y" * 1000, file_bytes=2000)
    assert end == {"end": "failed", "said": "the file did not arrive whole", "hint": "look at the network; try again"}
    assert (tmp_path / "file").read_bytes()[:1] == b"x"


def test_what_is_to_go_goes_and_nothing_else(there, tmp_path):
    for name in ("gone/sub/file", "kept/file", "empty"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name == "empty" else path.write_text("x")
    (tmp_path / "gone" / "link").symlink_to(tmp_path / "kept")
    _, end = there(act({"do": "remove", "name": "files", "paths": ["~/gone", "~/never"], "empty_folders": ["~/empty", "~/kept"]}))
    assert end["end"] == "done"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "bin") == ["kept"]
    assert (tmp_path / "kept/file").exists()


def test_a_number_in_a_file_is_believed_only_if_the_process_is_ours(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "gpuwatch.pyz", "node"])
    try:
        path = tmp_path / "node.pid"
        path.write_text(f"{process.pid}\n")
        assert _pid_in(str(path), ["gpuwatch.pyz", "node"]) == process.pid
        assert _pid_in(str(path), ["gpuwatch.pyz", "hub"]) is None
        for text in ("", "x", "-1", "999999999"):
            path.write_text(text)
            assert _pid_in(str(path), ["gpuwatch.pyz"]) is None
        _end(process.pid)
        assert _is_gone(process.pid)
    finally:
        process.kill()
        process.wait(10)
