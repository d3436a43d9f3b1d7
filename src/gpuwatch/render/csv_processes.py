"""The processes of a view of now, or of a moment, as CSV (RFC 4180): one line a process and GPU. Pure; what is not reported is empty, never 0."""

from __future__ import annotations

from typing import Sequence

from gpuwatch.model.cluster import GpuView, NodeState
from gpuwatch.render.csv_series import cell

NOW_COLUMNS = (
    ("host", "name of the target"),
    ("received_at", "when the hub got the reading, epoch seconds"),
    ("index", "NVML's number of the GPU"),
    ("gpu", "UUID of the GPU"),
    ("gpu_instance", "instance of the MIG slice it runs in"),
    ("user", "who runs it"),
    ("pid", "process id on its host"),
    ("started_at", "when it started, epoch seconds"),
    ("gpu_memory_bytes", "GPU memory that it holds"),
    ("sm_percent", "share of the GPU's SMs used"),
    ("cpu_percent", "host CPU, 100 = one core"),
    ("host_memory_bytes", "resident host memory"),
    ("container", "container it runs in"),
    ("job", "Slurm job id"),
    ("name", "name of the program"),
    ("command", "command line as far as the reader may see it"),
)
"""(column, what it holds)."""


def processes_now_csv(node: NodeState, gpus: Sequence[GpuView]) -> str:
    """The processes of these GPUs of a node, GPU by GPU."""
    lines = [",".join(name for name, _ in NOW_COLUMNS)]
    for view in gpus:
        gpu = view.reading
        for one in gpu.processes:
            box = one.container
            about = (node.name, node.received_at, gpu.index, gpu.uuid, one.gpu_instance, one.user, one.pid, one.started_at, one.gpu_memory_bytes)
            more = (one.sm_percent, one.cpu_percent, one.host_memory_bytes, (box.name or box.id) if box else None, one.job, one.name, one.command)
            lines.append(",".join(map(cell, (*about, *more))))
    return "\r\n".join(lines) + "\r\n"
