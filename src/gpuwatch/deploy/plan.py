"""What is to be done on one machine: facts and wishes in, steps out. Pure; the steps are data that ``agent`` carries out there.

A password travels as the content of a step, which goes through ssh's input: never a word of a command line, never in ``Step.words``.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from gpuwatch.model.cluster import SSH, Target
from gpuwatch.model.errors import GpuwatchError

LAUNCHERS = ("system", "user", "plain")
"""system: a unit of systemd as root makes it; user: a unit of the user's own systemd; plain: a process with a file that holds its pid."""
ROLES = ("node", "hub")
HUB_PORT = 7070
LEAST_BACK_SECONDS = 60.0
"""So long the former version gets to answer, however short the new one's time was."""
LEAST_PYTHON = (3, 9)
NODE_STATE = ("inventory.json", "push.json", "spool")
ENROLLED_CODE = "/run/credentials/gpuwatch-node.service/enroll_code"
"""What a node keeps in its state folder."""


@dataclass(frozen=True)
class Wish:
    """What the person asked for. ``secret``: the password of nodes and hub; empty: a node that pushes is asked by nobody."""

    role: str = "node"
    action: str = "install"
    """install, upgrade or remove."""
    sha256: str = ""
    """Of the file that is sent."""
    version: str = ""
    secret: str = field(default="", repr=False)
    settings: Optional[str] = field(default=None, repr=False)
    """The text of a settings file to write; None = one made here, and never in place of one that is there."""
    port: int = 0
    """The port that ``settings`` names; 0 = none: the node's is that of its line."""
    push: str = ""
    """The URL of the hub that the node pushes to; empty: it does not."""
    push_pin: str = ""
    """``sha256:...`` of that hub's certificate; empty: authorities vouch for it."""
    code: str = field(default="", repr=False)
    """With it the node gets its key for pushing; empty: it has one."""
    hosts: Optional[str] = None
    """The text of the hosts file for a hub."""
    launcher: str = ""
    """One of LAUNCHERS; empty = the best that the machine has."""
    ssh_file: str = "~/.local/share/gpuwatch/gpuwatch.pyz"
    answer_seconds: float = 60.0
    """So long a machine may take until it answers."""


@dataclass(frozen=True)
class Places:
    """Where the parts of one role are, for one launcher."""

    file: str
    settings: str
    password: str
    hosts: str
    unit: str
    state: str
    cache: str

    @property
    def code(self) -> str:
        """Where the code for enrolling waits. A system's service gets it as a credential, as the password."""
        return f"{_parent(self.password)}/enroll_code"

    @property
    def drop_in(self) -> str:
        """What is added to a system's unit so that it gets the code."""
        return f"{self.unit}.d/enroll.conf"

    @property
    def pid(self) -> str:
        """Where a plain process leaves its number; its log is beside it."""
        return f"{self.state}/{_role_of(self.unit)}.pid"

    @property
    def log(self) -> str:
        """What a plain process prints."""
        return f"{self.state}/{_role_of(self.unit)}.log"


def places(launcher: str, role: str, ssh_file: str = Wish.ssh_file) -> Places:
    """The places of a role; ``~`` is the home there."""
    if launcher == "system":
        unit = f"/etc/systemd/system/gpuwatch-{role}.service"
        etc = "/etc/gpuwatch"
        return Places(
            "/usr/local/bin/gpuwatch", f"{etc}/gpuwatch.toml", f"{etc}/password", f"{etc}/hosts.txt", unit, f"/var/lib/gpuwatch-{role}", f"/var/cache/gpuwatch-{role}"
        )
    etc = "~/.config/gpuwatch"
    unit = f"~/.config/systemd/user/gpuwatch-{role}.service"
    file = "~/.local/share/gpuwatch/gpuwatch.pyz"
    return Places(file, f"{etc}/gpuwatch.toml", f"{etc}/password", f"{etc}/hosts.txt", unit, "~/.local/state/gpuwatch", "~/.cache/gpuwatch")


@dataclass(frozen=True)
class Step:
    """One thing to do there. ``words``: as a person is told before; ``job``: as the agent gets it."""

    name: str
    words: str
    job: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """All that is to be done on one machine."""

    launcher: str
    steps: Tuple[Step, ...]
    undo: Optional[Tuple[Step, ...]] = None
    """What makes the former file run again, once it is back; None = nothing is put back."""
    as_root: bool = False
    sends_file: bool = False
    notes: Tuple[str, ...] = ()


def paths_to_look_at(wish: Wish) -> Dict[str, str]:
    """Names and paths that the plan needs to know of."""
    found = {"ssh.file": wish.ssh_file}
    for launcher in LAUNCHERS:
        for role in ROLES:
            there = places(launcher, role)
            found[f"{launcher}.{role}.unit"] = there.unit
            if launcher == "plain":
                found[f"plain.{role}.pid"] = there.pid
        there = places(launcher, wish.role)
        found.update({f"{launcher}.file": there.file, f"{launcher}.settings": there.settings, f"{launcher}.password": there.password})
    return found


def plan(target: Target, wish: Wish, facts: Mapping[str, Any], units: Mapping[str, str]) -> Plan:
    """The steps for one target. ``facts``: what ``agent.look`` told; ``units``: texts of units by ``launcher-role``. Raises GpuwatchError in words."""
    if target.scheme in SSH:
        return _file_alone(wish, facts)
    launcher = _launcher(wish, facts)
    if wish.action == "remove":
        return _removal(wish, facts)
    as_root = launcher == "system" and facts["uid"] != 0
    there = places(launcher, wish.role)
    port = wish.port or (HUB_PORT if wish.role == "hub" else target.port)
    unit = _unit(units[f"{'user' if launcher == 'plain' else launcher}-{wish.role}"], launcher, facts)
    copy, copies, notes = _copy(f"{launcher}.file", there.file, wish, facts)
    steps = [*copy, *_settings(there, launcher, wish, port, facts), *_enrolment(there, launcher, wish)]
    if launcher != "plain":
        steps.append(_write("unit", there.unit, unit, 0o644, f"write the unit {there.unit}"))
    start = _start(launcher, there, wish.role, facts)
    ask = _ask(target, there, launcher, port, wish)
    patient = _ask(target, there, launcher, port, replace(wish, answer_seconds=max(wish.answer_seconds, LEAST_BACK_SECONDS)))
    undo = (*_restart(launcher, there, wish.role, facts), patient) if wish.action == "upgrade" else None
    return Plan(launcher, (*steps, *start, ask), undo, as_root, copies, (*notes, *_notes(launcher, facts)))


def _launcher(wish: Wish, facts: Mapping[str, Any]) -> str:
    """The one asked for, else the one in use, else the best there is."""
    able = {"system": facts["systemd"] and facts["sudo"], "user": facts["user_systemd"], "plain": True}
    if wish.launcher:
        if not able[wish.launcher]:
            raise GpuwatchError(f"the launcher {wish.launcher} does not work there.", "Leave out --launcher, or log in as root or as a user with sudo.")
        return wish.launcher
    used = [launcher for launcher in LAUNCHERS if is_installed(launcher, wish.role, facts) and able[launcher]]
    return used[0] if used else next(launcher for launcher in LAUNCHERS if able[launcher])


def is_installed(launcher: str, role: str, facts: Mapping[str, Any]) -> bool:
    """The role is there by this launcher."""
    files = facts["files"]
    return f"plain.{role}.pid" in files if launcher == "plain" else f"{launcher}.{role}.unit" in files


def _file_alone(wish: Wish, facts: Mapping[str, Any]) -> Plan:
    """A target that is read through ssh needs the file and nothing else."""
    if wish.action == "remove":
        return Plan("ssh", (_removes("remove", [wish.ssh_file, f"{wish.ssh_file}.previous"]),))
    copy, copies, notes = _copy("ssh.file", wish.ssh_file, wish, facts)
    check = Step("verify", f"run {wish.ssh_file} --version", {"do": "run", "argv": [facts["python"], _home(wish.ssh_file, facts), "--version"], "state": "same"})
    return Plan("ssh", (*copy, check), (check,) if wish.action == "upgrade" else None, False, copies, notes)


def _copy(name: str, path: str, wish: Wish, facts: Mapping[str, Any]) -> Tuple[List[Step], bool, Tuple[str, ...]]:
    """(steps, whether the file must be sent, notes)"""
    old = facts["files"].get(name)
    if old is not None and old["sha256"] == wish.sha256:
        return [], False, (f"{path} is this file already",)
    version = facts["versions"].get(name) or "another file"
    if old is not None and wish.action != "upgrade":
        return [], False, (f"{path} is {version} and stays. Next: --upgrade puts {wish.version} in its place",)
    words = f"copy gpuwatch {wish.version} to {path}" + (f" (in place of {version}, which stays as {path}.previous)" if old is not None else "")
    job = {"do": "write", "path": path, "from_input": True, "mode": 0o755, "previous": old is not None}
    return [Step("copy", words, job)], True, ()


def _settings(there: Places, launcher: str, wish: Wish, port: int, facts: Mapping[str, Any]) -> List[Step]:
    """Settings, password, hosts file. In /etc the settings are readable: a service's own user reads them, and they hold no secret."""
    mode = 0o644 if launcher == "system" else 0o600
    text = wish.settings if wish.settings is not None else _toml(wish, port, ENROLLED_CODE if launcher == "system" else _home(there.code, facts))
    mine = {"only_new": True} if wish.settings is None else {}
    steps = [_write("settings", there.settings, text, mode, f"write the settings {there.settings}", **mine, folder_mode=0o755 if launcher == "system" else 0o700)]
    # who pushes and has no password is asked by nobody: its own is made up, and nobody needs to know it
    secret, made_up = (wish.secret, {}) if wish.secret else (secrets.token_hex(16), {"only_new": "made up"})
    steps.append(_write("password", there.password, secret + "\n", 0o600, f"write the password to {there.password} (mode 600)", **made_up))
    if wish.role == "hub":
        hosts = {"only_new": True} if wish.hosts is None else {}
        steps.append(_write("hosts", there.hosts, wish.hosts or "# One name or address a line.\n", mode, f"write the hosts file {there.hosts}", **hosts))
    return steps


def _toml(wish: Wish, port: int, code: str) -> str:
    lines = ["# Written by gpuwatch deploy; it stays as you change it.", f"[{wish.role}]", f"port = {port}"]
    if wish.push:
        lines += [f"push = {json.dumps(wish.push)}", f"enroll_file = {json.dumps(code)}", *([] if wish.secret else ['host = "127.0.0.1"'])]
        lines += [f"push_pin = {json.dumps(wish.push_pin)}"] if wish.push_pin else []
    return "\n".join(lines) + "\n"


def _enrolment(there: Places, launcher: str, wish: Wish) -> List[Step]:
    if not wish.code:
        return []
    steps = [_write("enrol", there.code, wish.code + "\n", 0o600, f"write a one-time code to {there.code} (mode 600)")]
    if launcher == "system":
        drop_in = f"[Service]\nLoadCredential=enroll_code:{there.code}\n"
        steps.append(_write("enrol", there.drop_in, drop_in, 0o644, f"add {there.drop_in}"))
    return steps


def _unit(text: str, launcher: str, facts: Mapping[str, Any]) -> str:
    """The unit as it is in ``systemd/``; a user's names the Python that was found, since a user's systemd has another PATH."""
    return text if launcher == "system" else text.replace("/usr/bin/env python3", facts["python"])


def _start(launcher: str, there: Places, role: str, facts: Mapping[str, Any]) -> Tuple[Step, ...]:
    name = f"gpuwatch-{role}"
    if launcher == "plain":
        return _restart(launcher, there, role, facts)
    if launcher == "system":
        _require_service_python(facts)
    ctl = _ctl(launcher)
    steps = [
        _run("unit", [*ctl, "daemon-reload"], "systemctl daemon-reload", state="same"),
        _run("unit", [*ctl, "enable", name], f"systemctl enable {name}", state="same"),
        _run("start", [*ctl, "restart", name], f"systemctl restart {name} (start, if nothing changed)", if_unchanged=[*ctl, "start", name]),
    ]
    if launcher == "user" and not facts["lingers"]:
        steps.append(_run("linger", ["loginctl", "enable-linger", facts["user"]], "let it run without a login (loginctl enable-linger)", may_fail=True, state="same"))
    return tuple(steps)


def _restart(launcher: str, there: Places, role: str, facts: Mapping[str, Any]) -> Tuple[Step, ...]:
    if launcher != "plain":
        ctl = _ctl(launcher)
        return (_run("unit", [*ctl, "daemon-reload"], "systemctl daemon-reload"), _run("start", [*ctl, "restart", f"gpuwatch-{role}"], "restart"))
    hosts = ["--hosts", there.hosts] if role == "hub" else []
    argv = [facts["python"], there.file, role, "--config", there.settings, *hosts, "--password-file", there.password]
    job = {"do": "start", "argv": argv, "pid": there.pid, "log": there.log, "marks": [there.file, role]}
    return (Step("start", f"start {there.file} {role} (no systemd there)", job),)


def _ask(target: Target, there: Places, launcher: str, port: int, wish: Wish) -> Step:
    role = wish.role
    scheme = "https" if target.scheme == "https" and role == "node" else "http"
    job: Dict[str, Any] = {"do": "ask", "url": f"{scheme}://127.0.0.1:{port}/healthz", "seconds": wish.answer_seconds}
    if launcher == "plain":
        job.update({"pid": there.pid, "marks": [there.file, role], "log": there.log, "hint": f"look at {there.log} there"})
    else:
        job["hint"] = f"journalctl {'--user ' if launcher == 'user' else ''}-u gpuwatch-{role} there says more"
    return Step("verify", f"ask {job['url']} there", job)


def _removal(wish: Wish, facts: Mapping[str, Any]) -> Plan:
    """Everything of the role, by whichever launcher it is there; what the other role needs stays."""
    role, other = wish.role, "hub" if wish.role == "node" else "node"
    steps: List[Step] = []
    notes: List[str] = []
    used = [launcher for launcher in LAUNCHERS if is_installed(launcher, role, facts)]
    if "system" in used and not (facts["uid"] == 0 or facts["sudo"]):
        raise GpuwatchError("it was installed by root there.", "Log in as root, or as a user with sudo: --user USER.")
    if "system" in used and facts["uid"] != 0 and used != ["system"]:
        used = ["system"]
        notes.append("the user's own installation stays. Next: the same command once more")
    for launcher in used:
        there = places(launcher, role)
        shared = any(is_installed(one, other, facts) for one in LAUNCHERS if (one == "system") == (launcher == "system"))
        if launcher == "plain":
            steps.append(Step("stop", f"end {role}", {"do": "stop", "pid": there.pid, "marks": [there.file, role]}))
        else:
            steps.append(_run("stop", [*_ctl(launcher), "disable", "--now", f"gpuwatch-{role}"], f"systemctl disable --now gpuwatch-{role}", may_fail=True))
        steps.append(_removes("unit", [there.unit] if launcher != "plain" else [there.pid, there.log]))
        if launcher != "plain":
            steps.append(_run("unit", [*_ctl(launcher), "daemon-reload"], "systemctl daemon-reload", may_fail=True, state="same"))
        if shared:
            notes.append(f"file, settings and password stay: gpuwatch {other} is there too")
        else:
            steps.append(_removes("files", _files(there, launcher, role), [_parent(there.file), _parent(there.settings), there.state] if launcher != "system" else ["/etc/gpuwatch"]))
        if role == "hub":
            notes.append(f"the database stays in {there.state}. Next: delete it by hand if nobody needs it")
    if not used:
        notes.append(f"no gpuwatch {role} there")
    return Plan(used[0] if used else "", tuple(steps), None, "system" in used and facts["uid"] != 0, False, tuple(notes))


def _files(there: Places, launcher: str, role: str) -> List[str]:
    found = [there.file, f"{there.file}.previous", there.settings, there.password, there.cache, there.code, *([there.hosts] if role == "hub" else [])]
    if launcher == "system":
        found += [f"/var/cache/private/gpuwatch-{role}", f"{there.unit}.d"]
    if role == "node":
        # in a home the folder is shared with whatever else that person runs, a hub's database perhaps
        found += [there.state, "/var/lib/private/gpuwatch-node"] if launcher == "system" else [f"{there.state}/{name}" for name in NODE_STATE]
    return found


def _notes(launcher: str, facts: Mapping[str, Any]) -> Tuple[str, ...]:
    if launcher == "user" and not facts["lingers"]:
        return (f"it ends with the last login of {facts['user']} unless that user lingers. Next, as root there: loginctl enable-linger {facts['user']}",)
    if launcher == "plain":
        return ("without systemd nothing starts it again after a reboot. Next: run deploy again then, or start it with cron's @reboot",)
    return ()


def _require_service_python(facts: Mapping[str, Any]) -> None:
    version = facts["service_python"]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < LEAST_PYTHON:
        raise GpuwatchError(
            f"a service there finds {f'Python {version}' if version else 'no python3'} in /usr/bin and /usr/local/bin, and needs 3.9 or newer.",
            "Install one there, or use --launcher user.",
        )


def _ctl(launcher: str) -> List[str]:
    return ["systemctl", "--user"] if launcher == "user" else ["systemctl"]


def _run(name: str, argv: Sequence[str], words: str, **more: Any) -> Step:
    return Step(name, words, {"do": "run", "argv": list(argv), **more})


def _write(name: str, path: str, text: str, mode: int, words: str, **more: Any) -> Step:
    content = base64.b64encode(text.encode()).decode()
    return Step(name, words, {"do": "write", "path": path, "content": content, "mode": mode, **more})


def _removes(name: str, paths: Sequence[str], empty_folders: Sequence[str] = ()) -> Step:
    return Step(name, f"delete {' '.join(paths)}", {"do": "remove", "paths": list(paths), "empty_folders": list(empty_folders)})


def _home(path: str, facts: Mapping[str, Any]) -> str:
    return f"{facts['home']}/{path[2:]}" if path.startswith("~/") else path


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _role_of(unit: str) -> str:
    return unit.rpartition("gpuwatch-")[2].partition(".")[0]
