"""The programs that are not gpuwatch and that a hub can ask, or that send to it: which scheme of the hosts file names which, and where it listens. Pure data."""

from __future__ import annotations

from typing import Mapping, NamedTuple


class Foreign(NamedTuple):
    """One kind of target that is no gpuwatch node."""

    program: str
    """What should listen there, for sentences and pages."""
    port: int
    """Where it listens unless it is told otherwise."""
    takes_password: bool = False
    """It wants the plain password in the body of the request."""
    takes_user: bool = False
    """Where the line names a user and a password file, both go as basic auth. All others are asked without a password."""


FOREIGN: Mapping[str, Foreign] = {
    "node_info+http": Foreign("node_info.py", 7080, takes_password=True),
    "accessgrid+http": Foreign("AccessGrid", 5000),
    "dcgm+http": Foreign("dcgm-exporter", 9400),
    "nvitop+http": Foreign("nvitop-exporter", 8000),
    "node+http": Foreign("node_exporter", 9100),
    "dcgm+https": Foreign("dcgm-exporter", 9400, takes_user=True),
    "nvitop+https": Foreign("nvitop-exporter", 8000, takes_user=True),
    "node+https": Foreign("node_exporter", 9100, takes_user=True),
}
"""By scheme of the hosts file. Ports: ``protocols`` of seeds 002 and 000; the exporters' own defaults."""

SENDERS: Mapping[str, str] = {"vesta": "vesta's sender", "worker": "seed 001's worker"}
"""Programs that send to a hub by themselves, by scheme of their target (``model.cluster.SENDING``)."""

NOT_TOLD = "not told by "
"""So begins the reason for a field that a program never tells, in ``missing``; what follows is the program."""


def program_of(scheme: str) -> str:
    """What should listen on a target of this scheme."""
    foreign = FOREIGN.get(scheme)
    return foreign.program if foreign else SENDERS.get(scheme, "gpuwatch node")
