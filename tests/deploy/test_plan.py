"""What deploy would do on machines of all kinds, as data."""

import base64
import re
from pathlib import Path

import pytest

from gpuwatch.deploy.plan import LAUNCHERS, ROLES, Wish, paths_to_look_at, places, plan
from gpuwatch.deploy.runner import message_in
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import GpuwatchError

ROOT = Path(__file__).resolve().parents[2]
UNITS = {
    **{f"system-{role}": (ROOT / "systemd" / f"gpuwatch-{role}.service").read_text() for role in ROLES},
    **{f"user-{role}": (ROOT / "systemd" / "user" / f"gpuwatch-{role}.service").read_text() for role in ROLES},
}
TARGET = Target("gpu1", "gpu1", 7081)
WISH = Wish(sha256="new", version="0.2.0", secret="s3cret-word")


def facts(**changes):
    """A machine with systemd, seen by a user without sudo."""
    return {
        "uid": 1000, "user": "ops", "home": "/home/ops", "python": "/opt/py/bin/python3", "python_version": "3.11.2", "systemd": True, "sudo": False,
        "user_systemd": True, "lingers": True, "service_python": "3.11.2", "files": {}, "versions": {}, "running": {}, **changes,
    }  # fmt: skip


def jobs(made, name):
    return [step.job for step in made.steps if step.name == name]


def content(job):
    return base64.b64decode(job["content"]).decode()


@pytest.mark.parametrize(
    ("changes", "launcher", "as_root"),
    [
        ({"uid": 0, "sudo": True}, "system", False),
        ({"sudo": True}, "system", True),
        ({}, "user", False),
        ({"user_systemd": False}, "plain", False),
        ({"systemd": False, "user_systemd": False, "uid": 0, "sudo": True}, "plain", False),
        ({"sudo": True, "files": {"user.node.unit": {"sha256": "x", "mode": 0o644}}}, "user", False),  # what is in use stays in use
    ],
)
def test_the_best_launcher_that_the_machine_has(changes, launcher, as_root):
    made = plan(TARGET, WISH, facts(**changes), UNITS)
    assert (made.launcher, made.as_root) == (launcher, as_root)


def test_as_a_service_of_the_system():
    made = plan(TARGET, WISH, facts(uid=0, sudo=True), UNITS)
    assert [step.name for step in made.steps] == ["copy", "settings", "password", "unit", "unit", "unit", "start", "verify"]
    assert made.sends_file
    assert jobs(made, "copy") == [{"do": "write", "path": "/usr/local/bin/gpuwatch", "from_input": True, "mode": 0o755, "previous": False}]
    (settings,) = jobs(made, "settings")
    assert (settings["path"], settings["mode"]) == ("/etc/gpuwatch/gpuwatch.toml", 0o644)
    assert "[node]\nport = 7081\n" in content(settings)
    assert "s3cret" not in content(settings)
    (password,) = jobs(made, "password")
    assert (password["path"], password["mode"], content(password)) == ("/etc/gpuwatch/password", 0o600, "s3cret-word\n")
    unit = jobs(made, "unit")[0]
    assert (unit["path"], content(unit)) == ("/etc/systemd/system/gpuwatch-node.service", UNITS["system-node"])
    assert [job["argv"] for job in jobs(made, "unit")[1:]] == [["systemctl", "daemon-reload"], ["systemctl", "enable", "gpuwatch-node"]]
    assert jobs(made, "start")[0]["argv"] == ["systemctl", "restart", "gpuwatch-node"]
    assert jobs(made, "start")[0]["if_unchanged"] == ["systemctl", "start", "gpuwatch-node"]
    assert jobs(made, "verify")[0]["url"] == "http://127.0.0.1:7081/healthz"


def test_as_a_service_of_the_user():
    made = plan(TARGET, WISH, facts(lingers=False), UNITS)
    assert jobs(made, "settings")[0]["mode"] == 0o600
    unit = jobs(made, "unit")[0]
    assert unit["path"] == "~/.config/systemd/user/gpuwatch-node.service"
    assert "ExecStart=/opt/py/bin/python3 %h/.local/share/gpuwatch/gpuwatch.pyz node" in content(unit)
    assert jobs(made, "start")[0]["argv"] == ["systemctl", "--user", "restart", "gpuwatch-node"]
    assert jobs(made, "linger")[0]["argv"] == ["loginctl", "enable-linger", "ops"]
    assert "loginctl enable-linger ops" in made.notes[-1]


def test_units_start_what_is_copied():
    for launcher in ("system", "user"):
        for role in ROLES:
            line = re.search(r"^ExecStart=(.*)$", UNITS[f"{launcher}-{role}"], re.M).group(1).replace("%h", "~")
            there = places(launcher, role)
            assert {there.file, there.settings} <= set(line.split())
            assert there.password in line if launcher == "user" else "LoadCredential=password:" + there.password in UNITS[f"{launcher}-{role}"]


def test_a_hub():
    made = plan(TARGET, Wish(role="hub", sha256="new", secret="x", hosts="gpu1\n"), facts(user_systemd=False), UNITS)
    assert content(jobs(made, "hosts")[0]) == "gpu1\n"
    assert jobs(made, "verify")[0]["url"] == "http://127.0.0.1:7070/healthz"
    argv = jobs(made, "start")[0]["argv"]
    assert argv[1:4] == ["~/.local/share/gpuwatch/gpuwatch.pyz", "hub", "--config"]
    assert "--hosts" in argv
    assert "x" not in argv


def test_a_node_that_pushes():
    wish = Wish(sha256="new", push="https://hub:7070", push_pin="sha256:ab", code="ONE-TIME")
    made = plan(TARGET, wish, facts(uid=0, sudo=True), UNITS)
    assert content(jobs(made, "settings")[0]).splitlines()[1:] == [
        "[node]", "port = 7081", 'push = "https://hub:7070"', 'enroll_file = "/run/credentials/gpuwatch-node.service/enroll_code"', 'host = "127.0.0.1"',
        'push_pin = "sha256:ab"',
    ]  # fmt: skip
    code, drop_in = jobs(made, "enrol")
    assert (code["path"], code["mode"], content(code)) == ("/etc/gpuwatch/enroll_code", 0o600, "ONE-TIME\n")
    assert drop_in["path"] == "/etc/systemd/system/gpuwatch-node.service.d/enroll.conf"
    assert content(drop_in) == "[Service]\nLoadCredential=enroll_code:/etc/gpuwatch/enroll_code\n"
    assert jobs(made, "password")[0]["only_new"] == "made up"
    home = plan(TARGET, wish, facts(), UNITS)
    assert 'enroll_file = "/home/ops/.config/gpuwatch/enroll_code"' in content(jobs(home, "settings")[0])
    assert "ONE-TIME" not in repr(wish) + repr(home)


def test_another_version_stays_until_it_is_to_be_replaced():
    there = facts(files={"user.file": {"sha256": "old", "mode": 0o755}}, versions={"user.file": "0.1.0"})
    kept = plan(TARGET, WISH, there, UNITS)
    assert not kept.sends_file
    assert kept.undo is None
    assert kept.notes[0] == "~/.local/share/gpuwatch/gpuwatch.pyz is 0.1.0 and stays. Next: --upgrade puts 0.2.0 in its place"
    upgrade = plan(TARGET, Wish(action="upgrade", sha256="new", version="0.2.0", secret="x"), there, UNITS)
    assert jobs(upgrade, "copy")[0]["previous"]
    assert [step.name for step in upgrade.undo] == ["unit", "start", "verify"]
    hasty = plan(TARGET, Wish(action="upgrade", sha256="new", secret="x", answer_seconds=2.0), there, UNITS)
    assert (hasty.steps[-1].job["seconds"], hasty.undo[-1].job["seconds"]) == (2.0, 60.0)


def test_removal_takes_what_is_there_and_leaves_what_others_need():
    unit = {"sha256": "x", "mode": 0o644}
    made = plan(TARGET, Wish(action="remove"), facts(uid=0, sudo=True, files={"system.node.unit": unit}), UNITS)
    deleted = [path for step in made.steps if step.job["do"] == "remove" for path in step.job["paths"]]
    for path in ("/etc/systemd/system/gpuwatch-node.service", "/usr/local/bin/gpuwatch", "/etc/gpuwatch/password", "/var/lib/gpuwatch-node"):
        assert path in deleted
    beside = plan(TARGET, Wish(action="remove"), facts(uid=0, sudo=True, files={"system.node.unit": unit, "system.hub.unit": unit}), UNITS)
    assert [path for step in beside.steps if step.job["do"] == "remove" for path in step.job["paths"]] == ["/etc/systemd/system/gpuwatch-node.service"]
    hub = plan(TARGET, Wish(role="hub", action="remove"), facts(uid=0, sudo=True, files={"system.hub.unit": unit}), UNITS)
    assert not [step for step in hub.steps if "/var/lib/gpuwatch-hub" in step.job.get("paths", ())]
    assert "the database stays in /var/lib/gpuwatch-hub" in hub.notes[0]
    home = plan(TARGET, Wish(action="remove"), facts(files={"user.node.unit": unit}), UNITS)
    assert "~/.local/state/gpuwatch" not in [path for step in home.steps for path in step.job.get("paths", ())]  # a hub's database may be in it
    assert plan(TARGET, Wish(action="remove"), facts(), UNITS).steps == ()
    with pytest.raises(GpuwatchError, match="installed by root"):
        plan(TARGET, Wish(action="remove"), facts(files={"system.node.unit": unit}), UNITS)


@pytest.mark.parametrize(
    ("wish", "changes", "words"),
    [
        (Wish(launcher="system"), {}, "the launcher system does not work there"),
        (WISH, {"uid": 0, "sudo": True, "service_python": "3.6.8"}, "a service there finds Python 3.6.8"),
        (WISH, {"uid": 0, "sudo": True, "service_python": ""}, "a service there finds no python3"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(wish, changes, words):
    with pytest.raises(GpuwatchError) as error:
        plan(TARGET, wish, facts(**changes), UNITS)
    assert words in error.value.message
    assert error.value.next_step


def test_no_secret_stands_where_people_look():
    made = plan(TARGET, WISH, facts(), UNITS)
    assert "s3cret" not in repr(made) + repr(WISH) + "".join(step.words for step in made.steps)
    assert not [step for step in made.steps if "s3cret" in str(step.job.get("argv"))]


def test_what_is_looked_at():
    paths = paths_to_look_at(WISH)
    assert {f"{launcher}.file" for launcher in LAUNCHERS} <= set(paths)
    assert paths["system.node.unit"] == "/etc/systemd/system/gpuwatch-node.service"
    assert paths["plain.hub.pid"] == "~/.local/state/gpuwatch/hub.pid"


@pytest.mark.parametrize("line", [b"Welcome!", b"", b"gpuwatch deploy ", b"gpuwatch deploy [1]", b'gpuwatch deploy {"end":', b"\xff\xfe", b"gpuwatch deploy " + b"[" * 99999])
def test_lines_of_others_are_passed_over(line):
    assert message_in(line) is None


def test_a_line_of_the_agent():
    assert message_in(b'gpuwatch deploy {"step": "copy"}') == {"step": "copy"}
