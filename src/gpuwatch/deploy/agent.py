"""The program that does the work on the other machine: sent there as text over ssh, run by its Python, gone afterwards.

It imports nothing but the standard library, since gpuwatch may not be there yet. It takes one line of JSON (the job) and then the bytes of the file
from its input, and tells each step in a line of its output. It never decides: ``look`` tells how the machine is, ``act`` carries out steps one by one
and, when one fails, puts back what was there before if the job says so. It never prints a secret, and starts no shell.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pwd
import signal
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, List, Optional, Tuple

MARK = "gpuwatch deploy "
"""How each line for the asker begins; all else is other people's greeting."""
RUN_SECONDS = 60.0
STOP_SECONDS = 15.0
LOOK_SECONDS = 20.0


class StepError(Exception):
    """A step failed; (what is wrong, what to do)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def main(stdin: Any = None) -> None:
    """The whole program: job in, lines out."""
    source = stdin or sys.stdin.buffer
    job = json.loads(source.readline())
    data = source.read(job.get("file_bytes", 0))
    if len(data) != job.get("file_bytes", 0):
        tell({"end": "failed", "said": "the file did not arrive whole", "hint": "look at the network; try again"})
    elif job["action"] == "look":
        tell({"end": "done", "facts": look(job)})
    else:
        act(job, data)


def tell(message: Dict[str, Any]) -> None:
    """One line for the asker."""
    sys.stdout.write(MARK + json.dumps(message) + "\n")
    sys.stdout.flush()


# ---- how the machine is


def look(job: Dict[str, Any]) -> Dict[str, Any]:
    """Facts for the plan. Changes nothing."""
    user = _user_name()
    paths = {name: os.path.expanduser(path) for name, path in job["paths"].items()}
    return {
        "uid": os.geteuid(),
        "user": user,
        "home": os.path.expanduser("~"),
        "python": sys.executable,
        "python_version": sys.version.split()[0],
        "systemd": os.path.isdir("/run/systemd/system"),
        "sudo": os.geteuid() == 0 or _said_by(["sudo", "-n", "true"]) is not None,
        "user_systemd": os.path.isdir("/run/systemd/system") and _said_by(_user_systemctl("show-environment")) is not None,
        "lingers": os.path.exists("/var/lib/systemd/linger/" + user),
        "service_python": _service_python(),
        "files": {name: _file_facts(path) for name, path in paths.items() if os.path.lexists(path)},
        "versions": {name: (_said_by([sys.executable, path, "--version"]) or "")[-40:].rpartition(" ")[2] for name, path in paths.items() if name in job["programs"] and os.path.isfile(path)},
        "running": {name: _pid_in(path, None) is not None for name, path in paths.items() if name.endswith("pid")},
    }


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _said_by(argv: List[str]) -> Optional[str]:
    """What a program prints; None where it fails."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LOOK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _user_systemctl(*words: str) -> List[str]:
    uid = str(os.getuid())
    runtime = ["env", "XDG_RUNTIME_DIR=/run/user/" + uid, "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/" + uid + "/bus"]
    return runtime + ["systemctl", "--user", *words]


def _service_python() -> str:
    """The version of the Python that a system service finds; empty for none."""
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    return _said_by(["env", "-i", path, "python3", "-I", "-S", "-c", "import sys;print(sys.version.split()[0])"]) or ""


def _file_facts(path: str) -> Dict[str, Any]:
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return {"mode": stat.S_IMODE(mode), "sha256": None}
        with open(path, "rb") as file:
            return {"mode": stat.S_IMODE(mode), "sha256": hashlib.sha256(file.read()).hexdigest()}
    except OSError:
        return {"mode": None, "sha256": None}


# ---- what is done


def act(job: Dict[str, Any], data: bytes) -> None:
    """Carry out the steps; at the first that fails put back what was there, if the job says so."""
    worker = Worker(data)
    error = worker.through(job["steps"])
    if error is None:
        tell({"end": "done", "changed": worker.changed})
        return
    step, reason = error
    report = {"end": "failed", "step": step, "said": str(reason), "hint": reason.hint, "rolled_back": None, "changed": worker.changed}
    if job.get("undo") is not None and worker.replaced:
        report["rolled_back"] = worker.put_back() and worker.through(job["undo"]) is None
    tell(report)


class Worker:
    """Does steps, and remembers what it replaced."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.changed = False
        self.replaced: List[Tuple[str, Optional[bytes], int]] = []
        """Path, former content (None: there was none), former mode; in the order of the writes. On a full disk one of them may not have happened."""

    def through(self, steps: List[Dict[str, Any]]) -> Optional[Tuple[str, StepError]]:
        """Do them all; the name of the one that failed, and why."""
        for step in steps:
            tell({"step": step["name"], "state": "begins"})
            try:
                state, said = VERBS[step["do"]](self, step)
            except StepError as error:
                tell({"step": step["name"], "state": "failed", "said": str(error)})
                return step["name"], error
            except OSError as error:
                reason = StepError(f"{error.filename or step['do']}: {error.strerror or error}", _hint_of(error))
                tell({"step": step["name"], "state": "failed", "said": str(reason)})
                return step["name"], reason
            self.changed = self.changed or state == "done"
            tell({"step": step["name"], "state": state, "said": said})
        return None

    def put_back(self) -> bool:
        """What was there before, as far as it can be done."""
        whole = True
        for path, content, mode in reversed(self.replaced):
            try:
                if content is None:
                    os.unlink(path)
                elif _read(path)[0] != content:
                    _write(path, content, mode)
            except FileNotFoundError:
                pass
            except OSError:
                whole = False
        return whole

    def write(self, step: Dict[str, Any]) -> Tuple[str, str]:
        """A file with content and mode; the one before is kept beside it where the step says so."""
        path = os.path.expanduser(step["path"])
        content = self.data if step.get("from_input") else base64.b64decode(step["content"])
        before, mode = _read(path)
        if before == content and mode == step["mode"]:
            return "same", path
        if before is not None and step.get("only_new"):  # made up: whatever is there is as good
            return ("same", path) if step["only_new"] == "made up" else ("kept", f"{path} is there already and differs")
        _make_folder(os.path.dirname(path), step.get("folder_mode", 0o755))
        if before is not None and step.get("previous"):
            _keep(path, path + ".previous", before, mode)
        self.replaced.append((path, before, mode))
        _write(path, content, step["mode"])
        return "done", path

    def run(self, step: Dict[str, Any]) -> Tuple[str, str]:
        """A program of the system."""
        as_it_was = not self.changed and "if_unchanged" in step
        argv = step["if_unchanged"] if as_it_was else step["argv"]
        if argv[:2] == ["systemctl", "--user"]:
            argv = _user_systemctl(*argv[2:])
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise StepError(f"{' '.join(step['argv'])} takes longer than {RUN_SECONDS:g} s", "look at the machine") from None
        said = done.stdout.decode("utf-8", "replace").strip()[-300:]
        if done.returncode and not step.get("may_fail"):
            raise StepError(f"{' '.join(step['argv'])}: {said or f'exit code {done.returncode}'}", step.get("hint", ""))
        return ("kept" if done.returncode else "same" if as_it_was else step.get("state", "done")), said if done.returncode else ""

    def start(self, step: Dict[str, Any]) -> Tuple[str, str]:
        """A process of its own, with its pid in a file, unless it runs and nothing changed."""
        pid_path, log_path = os.path.expanduser(step["pid"]), os.path.expanduser(step["log"])
        argv = [os.path.expanduser(word) for word in step["argv"]]
        pid = _pid_in(pid_path, step["marks"])
        if pid is not None and not self.changed:
            return "same", f"process {pid}"
        if pid is not None:
            _end(pid)
        _make_folder(os.path.dirname(pid_path), 0o700)
        with open(log_path, "ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True)
        _write(pid_path, b"%d\n" % process.pid, 0o644)
        return "done", f"process {process.pid}"

    def stop(self, step: Dict[str, Any]) -> Tuple[str, str]:
        """The process whose pid stands in a file."""
        pid = _pid_in(os.path.expanduser(step["pid"]), step["marks"])
        if pid is None:
            return "same", "not running"
        _end(pid)
        return "done", f"process {pid}"

    def ask(self, step: Dict[str, Any]) -> Tuple[str, str]:
        """Until the program answers on loopback."""
        until, late = time.monotonic() + step["seconds"], False
        while True:
            status, said = _get(step["url"])
            if status == 200 and self._lives(step):
                return "same", said
            if late or (step.get("pid") and not self._lives(step)):
                break
            time.sleep(0.25)
            late = time.monotonic() >= until  # told when it was asked once more: this machine may have stood still
        raise StepError(f"no good answer of {step['url']} within {step['seconds']:g} s: {_last_line(step, said)}", step.get("hint", ""))

    def _lives(self, step: Dict[str, Any]) -> bool:
        return not step.get("pid") or _pid_in(os.path.expanduser(step["pid"]), step["marks"]) is not None

    def remove(self, step: Dict[str, Any]) -> Tuple[str, str]:
        """Files, and folders with what is in them; empty folders alone where the step says so."""
        gone = []
        for path in map(os.path.expanduser, step["paths"]):
            if os.path.lexists(path):
                _remove(path)
                gone.append(path)
        for path in map(os.path.expanduser, step.get("empty_folders", [])):
            try:
                os.rmdir(path)
            except OSError:  # not there, or others use it
                pass
        return ("done" if gone else "same"), " ".join(gone)


VERBS: Dict[str, Callable[[Worker, Dict[str, Any]], Tuple[str, str]]] = {
    "write": Worker.write,
    "run": Worker.run,
    "start": Worker.start,
    "stop": Worker.stop,
    "ask": Worker.ask,
    "remove": Worker.remove,
}


def _read(path: str) -> Tuple[Optional[bytes], int]:
    try:
        with open(path, "rb") as file:
            return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        return None, 0


def _write(path: str, content: bytes, mode: int) -> None:
    """Whole or not at all; a secret is never readable by others, not even for a moment."""
    draft = f"{path}.{os.getpid()}.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        os.replace(draft, path)
    except OSError as error:
        os.unlink(draft)
        raise OSError(error.errno, error.strerror, path) from None


def _keep(path: str, other: str, content: bytes, mode: int) -> None:
    """The same file under another name too: costs no room on a disk that may be full."""
    draft = f"{other}.{os.getpid()}.new"
    try:
        os.link(path, draft)
        os.rename(draft, other)
    except OSError:  # a file system without links
        _write(other, content, mode)


def _make_folder(path: str, mode: int) -> None:
    if path and not os.path.isdir(path):
        _make_folder(os.path.dirname(path), mode if mode != 0o700 else 0o755)
        os.mkdir(path, mode)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            _remove(os.path.join(path, name))
        os.rmdir(path)
    else:
        os.unlink(path)


def _pid_in(path: str, marks: Optional[List[str]]) -> Optional[int]:
    """The process whose pid stands there, if it lives and its command line has all of ``marks``."""
    try:
        with open(path, "rb") as file:
            pid = int(file.read(20))
        words = _command_line(pid)
    except (OSError, ValueError):
        return None
    wanted = ["gpuwatch.pyz"] if marks is None else [os.path.expanduser(mark) for mark in marks]
    return pid if words and all(any(mark.encode() in word for word in words) for mark in wanted) else None


def _command_line(pid: int) -> List[bytes]:
    """Empty for one that has ended. One that was started a moment ago has none yet: worth a second."""
    for _ in range(20):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
        if words or _is_gone(pid):
            return words.split(b"\0") if words else []
        time.sleep(0.05)
    return []


def _end(pid: int) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 3.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if _is_gone(pid):
                return
            time.sleep(0.05)


def _is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:
        return True


def _get(url: str) -> Tuple[int, str]:
    """(status, first words of the answer); 0 where there is none. A certificate on loopback need not be anybody's."""
    trust = ssl._create_unverified_context() if url.startswith("https:") else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(url, timeout=5.0) as answer:
            return int(answer.status), answer.read(200).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read(200).decode("utf-8", "replace").strip()
    except (OSError, ValueError) as error:
        return 0, str(getattr(error, "reason", error))


def _last_line(step: Dict[str, Any], said: str) -> str:
    """What the log says at its end is worth more than a refused connection."""
    try:
        with open(os.path.expanduser(step["log"]), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except (OSError, KeyError):
        lines = []
    return f"{said}; its log ends with: {lines[-1].strip()[:300]}" if lines else said


def _hint_of(error: OSError) -> str:
    hints = {28: "make room on that disk", 122: "make room in the user's quota", 27: "a limit on the size of files stands in the way (ulimit -f)",
             13: "log in as another user (--user), or let this one use sudo without a password", 30: "that disk is read-only"}  # fmt: skip
    return hints.get(error.errno or 0, "")
