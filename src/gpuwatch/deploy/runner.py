"""Carries out ``gpuwatch deploy`` on many machines side by side: asks how each is, plans, has the steps done, reports. One bad machine costs only itself.

A machine is reached by the system's ssh, as ``wire.ssh`` says; what runs there is ``agent``, sent with its job through ssh's input. Blocks: for a command.
"""

from __future__ import annotations

import json
import pkgutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from gpuwatch.child import Child, ChildError, Done, run
from gpuwatch.deploy.agent import MARK
from gpuwatch.deploy.plan import LAUNCHERS, ROLES, Plan, Step, Wish, paths_to_look_at, plan
from gpuwatch.model.cluster import SSH, Target
from gpuwatch.model.errors import GpuwatchError
from gpuwatch.wire import ssh
from gpuwatch.wire.ssh import Trouble, Way

if TYPE_CHECKING:
    from gpuwatch.deploy.enrolling import Enrolling

LOOK_SECONDS = 90.0
ACT_SECONDS = 600.0
_BOOT = (
    'import sys\nif sys.version_info<(3,9):sys.exit("gpuwatch: needs Python 3.9 or newer, this is "+sys.version.split()[0])\n'
    'exec(compile(sys.stdin.buffer.read(int(sys.argv[1])),"gpuwatch-deploy","exec"));main()'
)


@dataclass(frozen=True)
class Told:
    """One step as it went."""

    name: str
    state: str
    """done, same (it was so already), kept, failed, or planned in a dry run."""
    said: str = ""


@dataclass(frozen=True)
class Report:
    """What became of one machine."""

    target: Target
    ok: bool
    launcher: str = ""
    changed: bool = False
    steps: Tuple[Told, ...] = ()
    notes: Tuple[str, ...] = ()
    failed_step: str = ""
    error: str = ""
    hint: str = ""
    rolled_back: Optional[bool] = None
    """Whether the former file runs again; None = nothing was put back."""


class Stopped(GpuwatchError):
    """The person wants no more."""


class Runner:
    """One call of ``gpuwatch deploy``."""

    def __init__(
        self, wish: Wish, file: bytes, way: Way, *, user: Optional[str] = None, dry: bool = False, enrolling: Optional[Enrolling] = None,
        progress: Callable[[Target, str, str], object] = lambda target, step, state: None,
    ) -> None:  # fmt: skip
        """``file``: what is copied; ``enrolling``: the hub's database, for nodes that push; ``progress``: gets (target, step, state), from any thread."""
        self._wish = wish
        self._enrolling = enrolling
        self._file = file
        self._way = way
        self._user = user
        self._dry = dry
        self._progress = progress
        self._lock = threading.Lock()
        self._running: Set[Child] = set()
        self._stopped = False
        self._agent = _read("agent.py")
        self._units = {f"{kind}-{role}": _read(f"units/{kind}-{role}.service").decode() for kind in LAUNCHERS[:2] for role in ROLES}

    def run(self, targets: Sequence[Target], parallel: int) -> List[Report]:
        """The reports, in the order of the targets. A Ctrl-C ends all that is under way and is raised again."""
        with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
            futures = [pool.submit(self._one, target) for target in targets]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stop()
                raise

    def _one(self, target: Target) -> Report:
        told: List[Told] = []
        try:
            report = self._deploy(target, told)
        except GpuwatchError as error:
            failed = told[-1].name if told and told[-1].state == "failed" else "plan"
            report = Report(target, False, steps=tuple(told), failed_step=failed, error=error.message, hint=error.next_step.replace("Next: ", ""))
        self._progress(target, "", "done" if report.ok else "failed")
        return report

    def _deploy(self, target: Target, told: List[Told]) -> Report:
        self._progress(target, "connect", "begins")
        wish = self._wish
        found = self._ask(target, {"action": "look", "paths": paths_to_look_at(wish), "programs": _programs()}, b"", LOOK_SECONDS, told)
        if isinstance(found, Report):
            return replace(found, failed_step=found.failed_step or "connect")
        todo = plan(target, self._with_code(target), found["facts"], self._units)
        if self._dry:
            return Report(target, True, todo.launcher, False, tuple(Told(step.name, "planned", step.words) for step in todo.steps), todo.notes)
        if not todo.steps:
            return self._at_the_hub(Report(target, True, todo.launcher, notes=todo.notes))
        job = {"action": "act", "steps": _jobs(todo.steps), "undo": None if todo.undo is None else _jobs(todo.undo)}
        end = self._ask(target, job, self._file if todo.sends_file else b"", ACT_SECONDS, told, todo)
        if isinstance(end, Report):
            return replace(end, launcher=todo.launcher, notes=todo.notes)
        return self._at_the_hub(_report(target, todo, end, told))

    def _with_code(self, target: Target) -> Wish:
        """The wish with a code for this machine, if it is to push and is not enrolled. A dry run makes none."""
        wish = self._wish
        if not wish.push or self._enrolling is None or wish.action == "remove" or target.scheme in SSH:
            return wish
        if self._dry:
            return wish if self._enrolling.is_known(target) else replace(wish, code="(one that works once)")
        return replace(wish, code=self._enrolling.code(target))

    def _at_the_hub(self, report: Report) -> Report:
        """What the hub's database says of a node that pushes: that it is enrolled now, or no more."""
        if self._enrolling is None or not report.ok:
            return report
        if self._wish.action == "remove":
            done = self._enrolling.forget(report.target)
            return replace(report, notes=(*report.notes, done)) if done else report
        if not self._wish.push or report.target.scheme in SSH:
            return report
        until, late = time.monotonic() + self._wish.answer_seconds, False
        while not self._enrolling.is_known(report.target):
            if late:
                hint = f"can it reach {self._wish.push}? Its log says more; a settings file that was there already needs push and enroll_file"
                return replace(report, ok=False, failed_step="enrol", error="it did not come to the hub for its key", hint=hint)
            time.sleep(0.5)
            late = time.monotonic() > until  # told when it was looked at once more: this process may have stood still
        return report

    def _ask(
        self, target: Target, job: Dict[str, Any], data: bytes, seconds: float, told: List[Told], todo: Optional[Plan] = None
    ) -> "Dict[str, Any] | Report":
        """The agent's last message; a Report when it said none."""
        ends: List[Dict[str, Any]] = []

        def hear(line: bytes) -> None:
            message = message_in(line)
            if message is None:
                return
            if "end" in message:
                ends.append(message)
            elif message.get("state") == "begins":
                self._progress(target, str(message.get("step")), "begins")
            else:
                told.append(Told(ssh.shown(str(message.get("step")), 40), ssh.shown(str(message.get("state")), 20), ssh.shown(str(message.get("said")), 400)))

        head = json.dumps({**job, "file_bytes": len(data)}).encode() + b"\n"
        command = _command(self._way, len(self._agent), todo is not None and todo.as_root)
        done = self._call(target, command, self._agent + head + data, seconds, hear)
        if ends:
            return ends[-1]
        trouble = ssh.explain(_login(target, self._user), self._way, done.returncode, done.errors, _last(done))
        return Report(target, False, steps=tuple(told), failed_step=_where(trouble, done), error=trouble.text, hint=trouble.hint)

    def _call(self, target: Target, command: str, data: bytes, seconds: float, hear: Callable[[bytes], None]) -> Done:
        mine: List[Child] = []

        def began(child: Child) -> None:
            mine.append(child)
            with self._lock:
                self._running.add(child)
                if self._stopped:
                    child.ask_to_end()

        if self._stopped:
            raise Stopped("it was broken off.")
        try:
            return run(ssh.argv(_login(target, self._user), command, self._way), data, timeout_seconds=seconds, on_line=hear, on_start=began)
        except ChildError as error:
            raise GpuwatchError(f"ssh failed here: {error.message}", "Is OpenSSH's client installed?") from None
        finally:
            with self._lock:
                self._running.difference_update(mine)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.ask_to_end()


def message_in(line: bytes) -> Optional[Dict[str, Any]]:
    """What the agent told; None for a line of somebody else."""
    text = line.decode("utf-8", "replace")
    if not text.startswith(MARK):
        return None
    try:
        message = json.loads(text[len(MARK) :])
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _command(way: Way, agent_bytes: int, as_root: bool) -> str:
    return ssh.python_command(way, _BOOT, str(agent_bytes), first="sudo -n" if as_root else "")


def _login(target: Target, user: Optional[str]) -> Target:
    """Where ssh goes: the port of an ordinary line is that of the node, not of sshd."""
    if target.scheme in SSH:
        return replace(target, user=target.user or user)
    return replace(target, scheme="ssh", port=0, user=user)


def _report(target: Target, todo: Plan, end: Mapping[str, Any], told: Sequence[Told]) -> Report:
    ok = end["end"] == "done"
    back = end.get("rolled_back")
    return Report(
        target, ok, todo.launcher, bool(end.get("changed")) and not back, tuple(told), todo.notes,
        failed_step="" if ok else ssh.shown(str(end.get("step", "")), 40),
        error="" if ok else ssh.shown(str(end.get("said", "")), 500),
        hint="" if ok else ssh.shown(str(end.get("hint", "")), 200),
        rolled_back=back if isinstance(back, bool) else None,
    )  # fmt: skip


def _jobs(steps: Sequence[Step]) -> List[Dict[str, Any]]:
    return [{**step.job, "name": step.name} for step in steps]


def _programs() -> List[str]:
    return ["ssh.file", *(f"{launcher}.file" for launcher in LAUNCHERS)]


def _where(trouble: Trouble, done: Done) -> str:
    """The step that failed before the agent could say one."""
    return "connect" if done.returncode in (255, None) else "python"


def _last(done: Done) -> str:
    return done.lines[-1].decode("utf-8", "replace") if done.lines else ""


def _read(name: str) -> bytes:
    data = pkgutil.get_data("gpuwatch.deploy", name)
    if data is None:
        raise GpuwatchError(f"{name} is missing in this gpuwatch.", "Build or copy gpuwatch.pyz anew.")
    return data
