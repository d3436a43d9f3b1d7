"""What may be wrong with settings, each with a stable id and what to do. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Sequence

from gpuwatch.config.settings import DEFAULT_PASSWORD, CompatSettings, HubSettings
from gpuwatch.model.cluster import SSH, Target
from gpuwatch.model.foreign import FOREIGN

KNOWN_VESTA_TOKEN = "0000"
"""The default of seed 004's programs."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    id: str
    message: str
    hint: str


def is_loopback(host: str) -> bool:
    """The address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_hub(settings: HubSettings, targets: Sequence[Target], sends: bool = False) -> list[Problem]:
    """Problems of a hub's settings with these targets. ``sends``: some machine is enrolled, which stands in no file."""
    found = []
    if not targets and not sends and settings.compat == CompatSettings():  # old systems' senders stand in no file either
        found.append(Problem(
            "hosts.empty", f"{settings.hosts} names no host, and no enrolled node is known.",
            "Write one name or address a line; or let nodes push: gpuwatch enroll create, and on each node gpuwatch node --push URL --enroll CODE.",
        ))  # fmt: skip
    asked = [target for target in targets if target.scheme not in FOREIGN and target.scheme not in SSH]
    remote = [target for target in asked if not is_loopback(target.host) and not target.password_file]
    if remote and settings.password in ("", DEFAULT_PASSWORD):
        found.append(Problem(
            "password.default", f"{len(remote)} {'host is' if len(remote) == 1 else 'hosts are'} asked with the default password, which everybody knows.",
            "Give hub and nodes a --password-file.",
        ))  # fmt: skip
    if settings.compat.vesta_token == KNOWN_VESTA_TOKEN and not is_loopback(settings.host):
        found.append(Problem(
            "compat.vesta_token", "hub.compat.vesta_token is the one that comes with vesta, which everybody knows.",
            "Give senders and hub another one: --token, and vesta_token.",
        ))  # fmt: skip
    if settings.poll_deadline > settings.interval * settings.stale_intervals:
        found.append(Problem(
            "poll.deadline", f"A poll may take {settings.poll_deadline:g} s, longer than until a node counts as stale.",
            "Make poll_deadline shorter than stale_intervals times interval.",
        ))  # fmt: skip
    return found
