"""``gpuwatch deploy``: bring gpuwatch to the machines of a hosts file over ssh, upgrade it, take it away again."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import click

from gpuwatch import __version__
from gpuwatch.boot import archive
from gpuwatch.config.hosts import parse_hosts
from gpuwatch.config.load import load, read_toml
from gpuwatch.config.settings import HubSettings
from gpuwatch.deploy.plan import LAUNCHERS, ROLES, Wish
from gpuwatch.deploy.runner import Report, Runner
from gpuwatch.model.cluster import SSH, Target
from gpuwatch.model.errors import UsageError
from gpuwatch.model.units import parse_seconds
from gpuwatch.wire.ssh import Way

if TYPE_CHECKING:
    from gpuwatch.deploy.enrolling import Enrolling

MOST_PARALLEL = 64
FILE_BYTES = 256 * 1024**2
OURS = ("http", "https", *SSH)
"""Schemes of lines that stand for a machine with gpuwatch."""


@click.command("deploy")
@click.argument("hosts", required=False)
@click.option("--role", type=click.Choice(ROLES), default="node", help="What to run there  [node]")
@click.option("--user", metavar="USER", help="Who to log in as, where the line names nobody.")
@click.option("--dry-run", is_flag=True, help="Only look, and say what would be done.")
@click.option("--upgrade", is_flag=True, help="Replace a file of another version; put it back where the new one does not answer.")
@click.option("--remove", is_flag=True, help="Take away unit, files, settings and key.")
@click.option("--only", metavar="NAME,...", help="Only these lines of the hosts file.")
@click.option("--push", metavar="URL", help="Let the nodes push to the hub at this URL: a code for each, from the hub's database.")
@click.option("--push-pin", metavar="sha256:...", help="The certificate that this hub shows, where it vouches for itself: gpuwatch cert --show.")
@click.option("--database", metavar="URL", help="The hub's database, for --push, and for --remove to end keys: sqlite:///FILE or postgresql://USER@HOST/DATABASE.")
@click.option("--parallel", default=16, type=click.IntRange(1, MOST_PARALLEL), metavar="N", help="Machines at the same time  [16]")
@click.option("--file", "file", metavar="PATH", help="The gpuwatch.pyz to copy  [this one]")
@click.option("--settings", "settings_file", metavar="PATH", help="A settings file to write there; else a small one is made, never over one that is there.")
@click.option("--hub-hosts", metavar="PATH", help="With --role hub: the hosts file to write there.")
@click.option("--launcher", type=click.Choice(LAUNCHERS), help="How it is started there  [the best that the machine has]")
@click.option("--wait", default="60s", metavar="SPAN", help="How long a machine may take until it answers  [60s]")
@click.option("--config", metavar="PATH", help="TOML file with settings of the hub: password, ssh_config, ssh_file.")
@click.option("--password-file", metavar="PATH", help="File that holds the password of hub and nodes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(hosts: Optional[str], config: Optional[str], password_file: Optional[str], database: Optional[str], **asked: Any) -> None:
    """Bring gpuwatch to each machine of a hosts file over ssh: file, settings, password, unit; start it, and see that it answers.

    \b
    gpuwatch deploy hosts.txt --password-file FILE --dry-run     look, and say what would be done
    gpuwatch deploy hosts.txt --password-file FILE               do it; once more changes nothing
    gpuwatch deploy hosts.txt --password-file FILE --upgrade     a new version, or the old one back
    gpuwatch deploy hosts.txt --remove

    Exit code 1 if any machine failed.
    """
    settings = load(HubSettings, "hub", {"hosts": hosts, "config": config, "password_file": password_file})
    if asked["upgrade"] and asked["remove"]:
        raise UsageError("--upgrade and --remove exclude each other.")
    targets = _targets(settings, asked["only"])
    file = b"" if asked["remove"] else _file(asked["file"])
    wish = _wish(asked, settings, file)
    if wish.action != "remove" and not wish.secret and not wish.push and any(target.scheme not in SSH for target in targets):
        raise UsageError("There is no password for the machines.", "Name a file that holds it: --password-file FILE")
    way = Way(settings.ssh_config, settings.ssh_python, settings.ssh_file)
    show = Quiet() if asked["as_json"] else Table(targets) if sys.stderr.isatty() else Lines()
    enrolling = _enrolling(asked, settings, database, config)
    runner = Runner(wish, file, way, user=asked["user"], dry=asked["dry_run"], enrolling=enrolling, progress=show)
    reports = runner.run(targets, asked["parallel"])
    show.end()
    if asked["as_json"]:
        click.echo(json.dumps({"hosts": [_told(report) for report in reports], "failed": sum(not report.ok for report in reports)}, indent=1))
    else:
        _print(reports, asked["dry_run"])
    if not all(report.ok for report in reports):
        sys.exit(1)


def _targets(settings: HubSettings, only: Optional[str]) -> List[Target]:
    try:
        text = Path(settings.hosts).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"The hosts file {settings.hosts} cannot be read: {error.strerror}. Name it: gpuwatch deploy FILE") from None
    targets, bad = parse_hosts(text, port=settings.node_port)
    if bad:
        raise UsageError(f"{settings.hosts}: {bad[0]}. Mend it first.")
    ours = [target for target in targets if target.scheme in OURS]
    names = [name for name in (only or "").split(",") if name]
    unknown = [name for name in names if name not in {target.name for target in ours}]
    if unknown:
        raise UsageError(f"--only: {settings.hosts} has no machine {unknown[0][:60]!r} to deploy to.")
    chosen = [target for target in ours if not names or target.name in names]
    if not chosen:
        raise UsageError(f"{settings.hosts} names no machine to deploy to.", "Lines such as dcgm+http:// name programs that are not gpuwatch." if targets else "")
    others = [target.name for target in targets if target.scheme not in OURS]
    if others and not names:
        click.echo(f"left out, since other programs than gpuwatch answer there: {', '.join(others[:5])}{f' and {len(others) - 5} more' if len(others) > 5 else ''}", err=True)
    return chosen


def _file(given: Optional[str]) -> bytes:
    path = given or archive()
    if path is None:
        raise UsageError("This gpuwatch does not run from gpuwatch.pyz. Name the file to copy: --file dist/gpuwatch.pyz")
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if not data.startswith(b"#!") or len(data) > FILE_BYTES:
        raise UsageError(f"{path} is not a gpuwatch.pyz.")
    return data


def _wish(asked: Dict[str, Any], settings: HubSettings, file: bytes) -> Wish:
    action = "remove" if asked["remove"] else "upgrade" if asked["upgrade"] else "install"
    push = asked["push"] or ""
    if push and (asked["role"] != "node" or not re.fullmatch(r"https?://[!-~]{1,500}", push)):
        raise UsageError(f"--push {push[:80]!r}: it is for nodes, and wants the hub's address such as https://hub:7070.")
    text = _text(asked["settings_file"])
    port = 0 if text is None else _port(asked["settings_file"], asked["role"])
    return Wish(
        asked["role"], action, hashlib.sha256(file).hexdigest(), _version(file), settings.password, text, port, push, _pin(asked["push_pin"]), "", _text(asked["hub_hosts"]),
        asked["launcher"] or "", settings.ssh_file, parse_seconds(asked["wait"]),
    )  # fmt: skip


def _pin(text: Optional[str]) -> str:
    if text and not re.fullmatch(r"(?i)sha256:([0-9a-f]{2}:?){31}[0-9a-f]{2}", text):
        raise UsageError(f"--push-pin: {text[:80]!r} is not sha256: and 64 hex digits.")
    return text or ""


def _enrolling(asked: Dict[str, Any], settings: HubSettings, database: Optional[str], config: Optional[str]) -> Optional[Enrolling]:
    """The hub's database, where it is needed. Opened once here, so that trouble is said before anything is done."""
    named = database or settings.database
    if not asked["push"] and not (asked["remove"] and named):
        return None
    from gpuwatch.cli.host import open_database
    from gpuwatch.deploy.enrolling import Enrolling

    open_database(database, config).close()
    return Enrolling(lambda: open_database(database, config))


def _version(file: bytes) -> str:
    """As the file's own first lines say."""
    found = re.search(rb'^VERSION = "([^"\n]{1,40})"', file, re.MULTILINE)
    return found[1].decode("ascii", "replace") if found else __version__


def _text(path: Optional[str]) -> Optional[str]:
    try:
        return None if path is None else Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None


def _port(path: str, role: str) -> int:
    """The port in a settings file, 0 for none. It goes to many machines: it must be TOML, and hold no password, which has a file of its own there."""
    found = read_toml(path)
    if "password" in found or any(isinstance(table, dict) and "password" in table for table in found.values()):
        raise UsageError(f"{path} holds a password, which does not belong there: it has a file of its own.", "Take it out; use --password-file.")
    if role not in found:
        raise UsageError(f"{path} has no [{role}] table.")
    port = found[role].get("port", 0) if isinstance(found[role], dict) else None
    if not isinstance(port, int) or not 0 <= port < 65536:
        raise UsageError(f"{path}: port = {port!r} is not a port.")
    return port


# ---- what a person sees


class Quiet:
    """Shows nothing."""

    def __call__(self, target: Target, step: str, state: str) -> None:
        """A step begins, or (step empty) a machine is done or failed."""

    def end(self) -> None:
        """All is over."""


class Lines(Quiet):
    """A line for each machine as it ends; for logs."""

    def __call__(self, target: Target, step: str, state: str) -> None:
        """See Quiet."""
        if not step:
            click.echo(f"{target.name}: {state}", err=True)


class Table(Quiet):
    """A line a machine, drawn over and over on the terminal; above 40 machines one line for all."""

    MOST_ROWS = 40

    def __init__(self, targets: Sequence[Target]) -> None:
        self._rows = {target.name: "waits" for target in targets}
        self._drawn = 0
        self._lock = threading.Lock()

    def __call__(self, target: Target, step: str, state: str) -> None:
        """See Quiet."""
        with self._lock:
            self._rows[target.name] = f"{step} ..." if step else state
            self._draw()

    def _draw(self) -> None:
        width = max(map(len, self._rows))
        if len(self._rows) > self.MOST_ROWS:
            ended = sum(state in ("done", "failed") for state in self._rows.values())
            lines = [f"{ended} of {len(self._rows)} machines, {sum(state == 'failed' for state in self._rows.values())} failed"]
        else:
            lines = [f"{name:<{width}}  {state}" for name, state in self._rows.items()]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        click.echo(up + "".join(f"\x1b[2K{line[:200]}\n" for line in lines), nl=False, err=True, color=True)
        self._drawn = len(lines)

    def end(self) -> None:
        """Take the table away: the report follows."""
        if self._drawn:
            click.echo(f"\x1b[{self._drawn}F\x1b[J", nl=False, err=True, color=True)


def _print(reports: Sequence[Report], dry: bool) -> None:
    from gpuwatch.render.listing import listing

    if dry:
        for report in reports:
            _print_plan(report)
    else:
        click.echo(listing(("", "machine", "what"), [("ok" if report.ok else "FAIL", report.target.name, _outcome(report)) for report in reports]), nl=False)
    for report in reports:
        for note in report.notes if not dry else ():
            click.echo(f"{report.target.name}: {note}")
    failed = sum(not report.ok for report in reports)
    would = "can be deployed to" if dry else "are as they should be"
    click.echo(f"{len(reports) - failed} of {len(reports)} machines {would}")


def _print_plan(report: Report) -> None:
    click.echo(f"{report.target.name}: {f'by {report.launcher}' if report.ok and report.launcher else ''}{'' if report.ok else _outcome(report)}")
    for step in report.steps:
        click.echo(f"  {step.name:<9} {step.said}")
    for note in report.notes:
        click.echo(f"  note      {note}")


def _outcome(report: Report) -> str:
    if report.ok:
        done = [step.name for step in report.steps if step.state == "done"]
        kept = [f"{step.name} kept ({step.said})" for step in report.steps if step.state == "kept"]
        return "; ".join([", ".join(dict.fromkeys(done)) if report.changed else "nothing to do", *kept]) + (f" [{report.launcher}]" if report.launcher else "")
    back = {True: " The former version runs again.", False: " The former version could not be put back.", None: ""}[report.rolled_back]
    hint = f" Next: {report.hint}" if report.hint else ""
    return f"{report.failed_step}: {report.error.rstrip('.')}.{back}{hint}"


def _told(report: Report) -> Dict[str, Any]:
    steps: List[Dict[str, str]] = [{"name": step.name, "state": step.state, "said": step.said} for step in report.steps]
    return {
        "name": report.target.name, "address": report.target.address, "ok": report.ok, "changed": report.changed, "launcher": report.launcher or None,
        "steps": steps, "notes": list(report.notes), "failed_step": report.failed_step or None, "error": report.error or None,
        "next": report.hint or None, "rolled_back": report.rolled_back,
    }  # fmt: skip
