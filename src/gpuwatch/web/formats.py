"""``/api/v1/cluster`` and ``/api/v1/hosts/<name>``: our JSON, and the formats of other programs, ``format=gpustat`` and ``nvidia-smi-csv``."""

from __future__ import annotations

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.render import as_gpustat, as_nvidia_smi
from gpuwatch.web import views
from gpuwatch.web.context import Context
from gpuwatch.web.replies import CSV, JSON, Reply

FORMATS = ("json", "gpustat", "nvidia-smi-csv")


def cluster(ctx: Context) -> Reply:
    """The GPUs that the filters leave: of gpustat a list with an object a host, of nvidia-smi all hosts in one CSV."""
    format, options = ctx.params.choice("format", FORMATS), ctx.options()
    if format == "gpustat":
        return ctx.kept(("cluster", format, options), JSON, lambda now: as_gpustat.cluster_gpustat(now, options))
    if format == "nvidia-smi-csv":
        return ctx.kept(("cluster", format, options), CSV, lambda now: _utf8(as_nvidia_smi.cluster_nvidia_smi(now, options)))
    return views.api_cluster(ctx)


def host(ctx: Context) -> Reply:
    """One host, as the program would print it there."""
    format, name = ctx.params.choice("format", FORMATS), ctx.path["name"]
    if format == "json":
        return views.api_host(ctx)

    def render(now: ClusterNow) -> bytes:
        node = views.find_host(now, name)
        return as_gpustat.host_gpustat(now, node) if format == "gpustat" else _utf8(as_nvidia_smi.host_nvidia_smi(now, node))

    return ctx.kept(("host", name, format), JSON if format == "gpustat" else CSV, render, host=name)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
