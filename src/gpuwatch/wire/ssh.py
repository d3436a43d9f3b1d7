"""ssh as words: the command line of the system's ssh, what a node is started with there, and what ssh's errors mean. Pure.

The user's own configuration rules (keys, ProxyJump, ports). Host keys are checked as it says, and that is never switched off here; nobody is
asked for a password. Nothing secret may ever become a word of a command line.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Iterable, List, Optional, Sequence, Tuple

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import UsageError

MAGIC = b"gpuwatch frames 1 "
"""How the first line of a stream of frames begins; the version of gpuwatch follows. What comes before it is other people's greeting."""
CONNECT_SECONDS = 10
ALIVE_SECONDS, ALIVE_TIMES = 10, 3
"""ssh asks after this silence, and gives up when so many are not answered."""
DEFAULT_FILE = "~/.local/share/gpuwatch/gpuwatch.pyz"
_OPTIONS = (
    "BatchMode=yes",  # a question would wait for ever
    f"ConnectTimeout={CONNECT_SECONDS}",
    f"ServerAliveInterval={ALIVE_SECONDS}",
    f"ServerAliveCountMax={ALIVE_TIMES}",
    "LogLevel=INFO",  # its errors are read
    "ControlMaster=no",  # it may use a connection that is there, but keeps none open for others
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",  # ports that are meant for a person's sessions
    "ForwardAgent=no",
    "ForwardX11=no",
)


@dataclass(frozen=True)
class Way:
    """How ssh is called here, and what is run there: settings of the hub."""

    config: str = ""
    """A file for ssh to read instead of the user's own configuration; empty = the user's own."""
    python: str = "python3"
    file: str = DEFAULT_FILE
    """Where gpuwatch.pyz is on the other machine."""
    program: str = "ssh"


@dataclass(frozen=True)
class Trouble:
    """Why something over ssh did not work. ``kind``: login, setup, network or lost, which decides when to try again."""

    kind: str
    text: str
    """What is wrong, without the target's name."""
    hint: str
    """What to do, without "Next:"."""

    @property
    def words(self) -> str:
        """Both as sentences."""
        return f"{self.text} Next: {self.hint}"


def argv(target: Target, command: str, way: Way) -> List[str]:
    """The command line that runs ``command`` (for the login shell there) on a target."""
    words = [way.program, "-T"]
    if way.config:
        words += ["-F", way.config]
    for option in _OPTIONS:
        words += ["-o", option]
    if target.port:
        words += ["-p", str(target.port)]
    if target.user:
        words += ["-l", target.user]
    return [*words, "--", target.host, command]


def node_command(way: Way, interval_seconds: float) -> str:
    """What starts a node that writes its frames to stdout. ``exec``: no shell is left waiting for it."""
    return f"exec {remote_word(way.python)} {remote_word(way.file)} node --stdio --interval {interval_seconds:g}"


def version_command(way: Way) -> str:
    """What prints ``gpuwatch VERSION``."""
    return f"exec {remote_word(way.python)} {remote_word(way.file)} --version"


def is_missing(errors: Sequence[str]) -> bool:
    """Python said that the file is not there."""
    return any(re.search(_MISSING, line) for line in errors)


def hash_command(way: Way) -> str:
    """What prints the SHA-256 of the file there; nothing where there is none."""
    code = "import hashlib,os,sys;p=sys.argv[1];print(os.path.isfile(p)and hashlib.sha256(open(p,'rb').read()).hexdigest()or'none')"
    return python_command(way, code, remote_word(way.file))


def python_command(way: Way, code: str, *words: str, first: str = "") -> str:
    """What runs ``code`` in the Python there. On one line, since csh ends a quoted word at a line's end. ``words``: quoted already."""
    one_line = f"exec({code!r})" if "\n" in code else code
    return " ".join(["exec", *([first] if first else []), remote_word(way.python), "-I -S -c", shlex.quote(one_line), *words])


def copy_command(way: Way) -> str:
    """What writes its input to the file, whole or not at all, and prints its SHA-256."""
    code = (
        "import hashlib,os,sys;p=sys.argv[1];d=os.path.dirname(p)or'.';os.makedirs(d,0o755,True);n='%s.%d.new'%(p,os.getpid());"
        "b=sys.stdin.buffer.read()\n"
        "try:\n"
        "    with open(n,'wb') as f:f.write(b);f.flush();os.fsync(f.fileno());os.fchmod(f.fileno(),0o755)\n"
        "    os.replace(n,p)\n"
        "except OSError as e:\n"
        "    os.path.exists(n) and os.unlink(n);sys.exit('cannot write %s: %s'%(p,e.strerror))\n"
        "print(hashlib.sha256(b).hexdigest())"
    )
    return python_command(way, code, remote_word(way.file))


def remote_word(path: str) -> str:
    """A path as a word of any login shell; a leading ``~/`` stays outside of the quotes, so that it is the home there."""
    if not path or not path.isprintable() or path.startswith("-") or "!" in path:  # csh looks for ! in quotes too
        raise UsageError(f"{path[:60]!r} cannot be a path on another machine.", "Write one such as ~/.local/share/gpuwatch/gpuwatch.pyz.")
    home, rest = ("~/", path[2:]) if path.startswith("~/") else ("", path)
    return home + shlex.quote(rest)


_Rule = Tuple[str, str, str, str]
_OF_SSH: Tuple[_Rule, ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed", "login",
        "its host key is not the one that is known: it was installed anew, or another machine answers in its place.",
        "ask who runs it; if that is right: `ssh-keygen -R {host}`, then log in by hand once, both as the user that gpuwatch runs as",
    ),
    (
        r"REVOKED HOST KEY|host key .* (is|was) revoked", "login", "its host key is marked as revoked here.",
        "ask who runs it, and correct known_hosts",
    ),
    (
        r"Host key verification failed|No \S+ host key is known", "login", "its host key is not known here, and nobody is asked.",
        "log in by hand once as the user that gpuwatch runs as, and compare the fingerprint: `ssh {login}`",
    ),
    (
        r"Permission denied \(|Too many authentication failures|No more authentication methods", "login",
        "ssh is not let in ({said}).",
        "put the public key of the user that gpuwatch runs as into ~/.ssh/authorized_keys there (`ssh-copy-id {login}`), or name the right user: ssh://USER@{host}",
    ),
    (r"Could not resolve hostname", "network", "the name {host} is not known.", "check the name, or write the address"),
    (r"Connection refused", "network", "connection refused by {host}.", "is sshd running there, and on this port?"),
    (r"timed out|No route to host|Network is unreachable|Host is down", "network", "no connection: {said}.", "is the machine on, and its ssh port open?"),
    (r"not responding", "lost", "the connection went silent and was given up.", "look at the network; it is tried again"),
    (
        r"Bad configuration option|Bad owner or permissions|terminating, \d+ bad|Can't open user config|no argument after keyword|Unsupported option", "setup",
        "ssh's configuration here is refused.", "`ssh -G {host}`, as the user that gpuwatch runs as, says where",  # no path: strangers read it
    ),
    (r"Exceeded MaxStartups|kex_exchange_identification|banner exchange", "network", "sshd closed the connection at once ({said}).", "look at sshd's log there: MaxStartups, or a ban of this address"),
    (r"Unable to negotiate", "setup", "ssh here and sshd there have no method in common: {said}.", "upgrade the older one"),
    (r"Connection (closed|reset)|Broken pipe|closed by remote host|Connection to .* closed", "lost", "the connection was closed ({said}).", "look at the machine and the network; it is tried again"),
)  # fmt: skip
_MISSING = r"can't open file .*No such file|can't find '__main__' module"
_OF_THERE: Tuple[_Rule, ...] = (
    (_MISSING, "setup", "there is no gpuwatch at {file}.", "write ssh+copy:// in place of ssh:// to have it copied, or run `gpuwatch deploy`"),
    (r"can't open file", "setup", "gpuwatch at {file} cannot be read: {said}.", "correct its mode there (chmod 755)"),
    (r"needs Python 3\.9 or newer", "setup", "Python there is too old: {said}.", "install a newer one there and name it: ssh_python"),
    (r"No such option:? '?--stdio|no such option", "setup", "gpuwatch there is older than this hub and knows no --stdio.", "write ssh+copy:// in place of ssh://, or run `gpuwatch deploy --upgrade`"),
    (r"No space left|Disk quota|File too large", "setup", "the disk there is full: {said}.", "make room there"),
    (r"Read-only file system", "setup", "the disk there is read-only: {said}.", "name another place: ssh_file"),
)  # fmt: skip
_NO_COMMAND = 127
_SSH_ITSELF = 255


def explain(target: Target, way: Way, returncode: Optional[int], errors: Sequence[str], noise: str = "") -> Trouble:
    """What went wrong with a run that ended so. ``errors``: lines of stderr; ``noise``: the last line of stdout that was no frame."""
    facts = {"host": target.host, "login": _login(target), "file": way.file}
    if returncode in (_SSH_ITSELF, None):
        found = _first(_OF_SSH, errors, facts)
        if found is not None:
            return found
    if returncode == _NO_COMMAND:
        return Trouble("setup", f"{way.python} is not on that machine ({_last(errors) or 'exit code 127'}).", "install Python 3.9 or newer there, or name it: ssh_python")
    found = _first(_OF_THERE, errors, facts)
    if found is not None:
        return found
    said = _last(errors) or noise
    if returncode is None:
        return Trouble("lost", f"it takes too long{_said(said)}.", "look at the machine's load")
    if returncode == _SSH_ITSELF:
        return Trouble("lost", f"the connection or the program there ended{_said(said)}.", "look at the machine; it is tried again")
    return Trouble("setup", f"the program there ended with exit code {returncode}{_said(said)}.", f"try it by hand: ssh {_login(target)} {way.python} {way.file} --version")


def _first(rules: Iterable[_Rule], errors: Sequence[str], facts: "dict[str, str]") -> Optional[Trouble]:
    for pattern, kind, text, hint in rules:
        for line in errors:
            if re.search(pattern, line, re.IGNORECASE):
                said = {**facts, "said": shown(line)}
                return Trouble(kind, text.format(**said), hint.format(**said))
    return None


def shown(line: str, most: int = 160) -> str:
    """A line of a stranger, printable and short, without its full stop."""
    return " ".join("".join(one if one.isprintable() else " " for one in line[: 4 * most]).split())[:most].rstrip(". ")


def _last(errors: Sequence[str]) -> str:
    lines = [line for line in errors if not line.startswith("Warning: Permanently added")]
    return shown(lines[-1]) if lines else ""


def _said(text: str) -> str:
    return f" ({shown(text)})" if text else ""


def _login(target: Target) -> str:
    port = f"-p {target.port} " if target.port else ""
    return f"{port}{f'{target.user}@' if target.user else ''}{target.host}"
