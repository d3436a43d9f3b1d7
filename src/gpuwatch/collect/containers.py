"""Which container and which Slurm job a process belongs to, from its /proc/PID/cgroup. Pure: text in, facts out; asks no runtime."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from gpuwatch.model.snapshot import ContainerRef


class Place(NamedTuple):
    """Container and Slurm job of a process, None where it has none."""

    container: Optional[ContainerRef]
    job: Optional[str]


_ID = r"([0-9a-f]{64})"
_RUNTIMES = (
    ("docker", re.compile(rf"[/:]docker[-/]{_ID}(?:\.scope)?")),
    ("podman", re.compile(rf"libpod-{_ID}(?:\.scope)?")),
    ("containerd", re.compile(rf"(?:cri-containerd-|nerdctl-|cri-containerd:|/default/){_ID}")),
    ("crio", re.compile(rf"crio-{_ID}")),
    ("lxc", re.compile(r"/lxc(?:\.payload)?[./]([^/\s]+)")),
)
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[/.])")
_POD_CONTAINER = re.compile(rf"/pod[0-9a-f_-]{{32,36}}(?:\.slice)?/{_ID}")
_SLURM = re.compile(r"slurm[^\n]*/job_(\d+)(?:/|$)", re.MULTILINE)


def place_of(cgroup: str) -> Place:
    """Container and job of the text of a /proc/PID/cgroup, of cgroups v1 or v2, with the systemd or the cgroupfs driver."""
    job = _SLURM.search(cgroup)
    return Place(_container(cgroup), job.group(1) if job else None)


def _container(cgroup: str) -> Optional[ContainerRef]:
    pod = _POD.search(cgroup)
    pod_uid = pod.group(1).replace("_", "-") if pod else None
    for runtime, pattern in _RUNTIMES:
        found = pattern.search(cgroup)
        if found:
            return ContainerRef(runtime=runtime, id=found.group(1), pod=pod_uid)
    bare = _POD_CONTAINER.search(cgroup)
    if bare:
        # The cgroupfs driver of Kubernetes does not name the runtime; since dockershim went it is containerd by far.
        return ContainerRef(runtime="containerd", id=bare.group(1), pod=pod_uid)
    return ContainerRef(runtime="", id="", pod=pod_uid) if pod_uid else None
