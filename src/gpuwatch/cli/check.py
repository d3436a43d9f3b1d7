"""``gpuwatch check``: what is wrong with settings and hosts file; with ``--live``, with each node."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

import click

from gpuwatch.cli import check_settings
from gpuwatch.config.checks import Problem, check_hub
from gpuwatch.config.hosts import parse_hosts
from gpuwatch.config.load import load, read_secret
from gpuwatch.config.settings import DEFAULT_PASSWORD, HubSettings
from gpuwatch.model.cluster import SSH, Target
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.model.foreign import FOREIGN
from gpuwatch.render import words

MOST_SKEW_SECONDS = 5.0
DEADLINE_SECONDS = 5.0
SSH_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What one node answered."""

    name: str
    address: str
    ok: bool
    message: str
    version: Optional[str] = None
    gpus: Optional[int] = None
    skew_seconds: Optional[float] = None


@click.command("check")
@click.option("--hosts", "-c", metavar="PATH", help="Hosts file  [hosts.txt]")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
@click.option("--password-file", metavar="PATH", help="File that holds the password.")
@click.option("--live", is_flag=True, help="Ask each node: reachable, password, version, clock.")
@click.option("--env", metavar="PATH", help="Instead: read the .env of AccessGrid, gpu-monitoring-system or GPULocker and print our settings (TOML).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(hosts: Optional[str], config: Optional[str], password_file: Optional[str], live: bool, env: Optional[str], as_json: bool) -> None:
    """Check settings and hosts file of a hub; with --live, ask each node. Exit code 1 if something is wrong."""
    if env is not None:
        _translate(env, as_json)
        return
    settings = load(HubSettings, "hub", {"hosts": hosts, "config": config, "password_file": password_file})
    try:
        text = Path(settings.hosts).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"The hosts file {settings.hosts} cannot be read: {error.strerror}. Name it: --hosts FILE") from None
    targets, bad = parse_hosts(text, port=settings.node_port)
    problems = [Problem("hosts.line", str(line), "Mend this line; the others are used.") for line in bad]
    problems += check_hub(settings, targets, sends=not targets and _anyone_enrolled(settings))
    problems += check_settings.problems(settings)
    answers = _ask_all(targets, settings, quiet=as_json) if live else []
    if as_json:
        click.echo(json.dumps({"targets": len(targets), "problems": [asdict(p) for p in problems], "nodes": [asdict(a) for a in answers]}, indent=1))
    else:
        _print(targets, problems, answers)
    if problems or not all(answer.ok for answer in answers):
        sys.exit(1)


def _anyone_enrolled(settings: HubSettings) -> bool:
    """Some machine sends by itself. Of a database that is not there yet, or cannot be read, nobody is known."""
    from gpuwatch.cli.host import database_url
    from gpuwatch.store import enrolled
    from gpuwatch.store.database import open_store

    try:
        store = open_store(database_url(settings), create=False, read_only=True)
    except GpuwatchError:
        return False
    try:
        return bool(enrolled.list_all(store))
    except GpuwatchError:
        return False
    finally:
        store.close()


def _translate(path: str, as_json: bool) -> None:
    """An old system's ``.env`` as TOML; secrets in it are named, not shown."""
    from gpuwatch.config.seed_env import MOST_BYTES, parse_env, translate

    try:
        with open(path, "rb") as file:
            found = translate(parse_env(file.read(MOST_BYTES).decode("utf-8", "replace")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Name the old system's .env: --env FILE") from None
    if as_json:
        click.echo(json.dumps({"system": found.system, "toml": found.toml, "settings": [line._asdict() for line in found.lines]}, indent=1))
    else:
        click.echo(found.toml, nl=False)


def _print(targets: Sequence[Target], problems: Sequence[Problem], answers: Sequence[Answer]) -> None:
    from gpuwatch.render.listing import listing

    click.echo(f"{_counted(len(targets), 'target')}, {_counted(len(problems), 'problem')}")
    if problems:
        click.echo(listing(("problem", "what", "next"), [(one.id, one.message, one.hint) for one in problems]), nl=False)
    if answers:
        rows = [("ok" if one.ok else "FAIL", one.name, one.address, one.message) for one in answers]
        click.echo(listing(("", "node", "address", "answer"), rows), nl=False)
        click.echo(f"{sum(answer.ok for answer in answers)} of {len(answers)} nodes answer well")


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _ask_all(targets: Sequence[Target], settings: HubSettings, quiet: bool) -> list[Answer]:
    with ThreadPoolExecutor(max_workers=64) as pool:
        futures = [pool.submit(ask, target, settings) for target in targets]
        if quiet or not sys.stderr.isatty():
            return [future.result() for future in futures]
        with click.progressbar(futures, label="asking", file=sys.stderr) as shown:
            return [future.result() for future in shown]


def ask(target: Target, settings: HubSettings) -> Answer:
    """One node: reachable, password, version, skew."""
    if target.scheme in SSH:
        return ask_over_ssh(target, settings)
    from gpuwatch.hub.answers import broken
    from gpuwatch.wire import asking, frame
    from gpuwatch.wire.flat import Shape
    from gpuwatch.wire.http import Trust, fetch

    if target.scheme in FOREIGN:
        return _ask_foreign(target, settings)
    try:
        password = read_secret(target.password_file) if target.password_file else settings.password or DEFAULT_PASSWORD
        body, signer = asking.body_for(""), asking.signer_of(password)
        began = time.time()
        headers = {**asking.HEADERS, "Authorization": signer.header("POST", asking.PATH, body, began)}
        reply = fetch(
            f"{target.scheme}://{target.address}{asking.PATH}", method="POST", body=body, headers=headers, deadline_seconds=DEADLINE_SECONDS,
            max_bytes=settings.poll_max_bytes, program="gpuwatch node", trust=Trust(target.pin, target.ca_file),
        )  # fmt: skip
        middle = (began + time.time()) / 2
        if reply.status != 200:
            return Answer(target.name, target.address, False, _refusal(target, reply))
    except GpuwatchError as error:
        return Answer(target.name, target.address, False, str(error))
    try:
        header, _ = frame.decode(reply.body)
        shape = Shape.parse(header.get("shape"))
    except GpuwatchError as error:
        return Answer(target.name, target.address, False, broken(target, error).text)
    return _judge(target, header, shape, middle)


def _ask_foreign(target: Target, settings: HubSettings) -> Answer:
    from gpuwatch.cli.check_foreign import told_by

    try:
        message, gpus = told_by(target, DEADLINE_SECONDS, settings.poll_max_bytes)
    except GpuwatchError as error:
        return Answer(target.name, target.address, False, str(error))
    return Answer(target.name, target.address, True, message, None, gpus)


def ask_over_ssh(target: Target, settings: HubSettings) -> Answer:
    """A target that is read through ssh: let in, Python, file and its version."""
    from gpuwatch.child import run
    from gpuwatch.wire import ssh

    way = ssh.Way(settings.ssh_config, settings.ssh_python, settings.ssh_file)
    try:
        done = run(ssh.argv(target, ssh.version_command(way), way), timeout_seconds=SSH_SECONDS)
    except GpuwatchError as error:
        return Answer(target.name, target.address, False, str(error))
    said = done.lines[-1].decode("utf-8", "replace") if done.lines else ""
    if done.returncode == 0:
        version = ssh.shown(said.rpartition(" ")[2], 20)
        return Answer(target.name, target.address, True, f"version {version}", version)
    trouble = ssh.explain(target, way, done.returncode, done.errors, said)
    if target.scheme == "ssh+copy" and trouble.kind == "setup" and ssh.is_missing(done.errors):
        return Answer(target.name, target.address, True, "ssh and Python are there; the hub will copy gpuwatch")
    return Answer(target.name, target.address, False, trouble.words)


def _judge(target: Target, header: dict[str, Any], shape: Any, middle: float) -> Answer:
    sent_at = header.get("sent_at")
    skew = round(sent_at - middle, 1) if isinstance(sent_at, (int, float)) else None
    version = str(header.get("version"))[:20]
    status = header.get("status")
    trouble = status.get("message") if isinstance(status, dict) else None
    message = f"version {version}, {words.plural(len(shape.gpu_facts()), 'GPU')}"
    ok = not trouble
    if trouble:
        message += f"; {str(trouble)[:200]}"
    if skew is not None and abs(skew) > MOST_SKEW_SECONDS:
        ok, message = False, message + f"; its clock differs by {skew:+.1f} s. Next: run chrony or ntpd there"
    return Answer(target.name, target.address, ok, message, version, len(shape.gpu_facts()), skew)


def _refusal(target: Target, reply: Any) -> str:
    """As the hub says it."""
    from gpuwatch.hub.answers import refused

    return refused(target, reply).text
