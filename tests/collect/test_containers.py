"""Where a process runs, from real lines of /proc/PID/cgroup."""

import pytest

from gpuwatch.collect.containers import place_of
from gpuwatch.model.snapshot import ContainerRef

ID = "8f4b1c" + "0123456789abcdef" * 3 + "0123456789"
POD = "0a1b2c3d-1111-2222-3333-444455556666"
UNDERSCORED = POD.replace("-", "_")


@pytest.mark.parametrize(
    ("cgroup", "container", "job"),
    [
        ("0::/user.slice/user-1001.slice/session-3.scope\n", None, None),
        ("0::/init.scope\n", None, None),
        ("", None, None),
        (f"0::/system.slice/docker-{ID}.scope\n", ContainerRef("docker", ID), None),
        (f"12:devices:/docker/{ID}\n11:memory:/docker/{ID}\n", ContainerRef("docker", ID), None),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container\n", ContainerRef("podman", ID), None),
        (f"0::/machine.slice/libpod-{ID}.scope\n", ContainerRef("podman", ID), None),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope\n",
            ContainerRef("containerd", ID, pod=POD), None,
        ),
        (f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{ID}.scope/container\n", ContainerRef("crio", ID, pod=POD), None),
        (f"1:name=systemd:/kubepods/besteffort/pod{POD}/{ID}\n", ContainerRef("containerd", ID, pod=POD), None),
        (f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/docker-{ID}.scope\n", ContainerRef("docker", ID, pod=POD), None),
        ("0::/lxc.payload.build-box/init.scope\n", ContainerRef("lxc", "build-box"), None),
        ("8:cpuset:/lxc/build-box\n", ContainerRef("lxc", "build-box"), None),
        ("0::/system.slice/slurmstepd.scope/job_1234/step_0/user/task_0\n", None, "1234"),
        ("4:memory:/slurm/uid_1000/job_77/step_batch/task_0\n", None, "77"),
        ("4:memory:/slurm_node1/uid_1000/job_77\n", None, "77"),
        (f"0::/system.slice/slurmstepd.scope/job_5/step_0/docker-{ID}.scope\n", ContainerRef("docker", ID), "5"),
        ("0::/user.slice/job_12/x\n", None, None),
        (f"0::/system.slice/docker-{ID[:63]}.scope\n", None, None),
    ],
)  # fmt: skip
def test_place(cgroup, container, job):
    assert place_of(cgroup) == (container, job)
