"""What the OpenAPI description says of ``format=gpustat``: the keys of ``gpustat --json``, whose names and whole numbers are not ours. Pure."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": ["integer", "null"]}


def _list(schema: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}


HOST_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("hostname", _TEXT, "the target's name in the hosts file; of `gpuwatch status` the machine's own"),
    ("driver_version", {"type": ["string", "null"]}, "version of the NVIDIA driver"),
    ("query_time", _TEXT, "when the readings began: local time of the hub's zone, ISO 8601 without a zone, as gpustat has it"),
    ("gpus", _list("GpustatGpu"), "its GPUs; empty where there are no fresh readings"),
    ("error", _TEXT, "why there are no fresh readings; only then"),
)
OPTIONAL = ("error",)
GPU_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("index", {"type": "integer"}, "NVML's number of the GPU on its host"),
    ("uuid", _TEXT, "UUID of the GPU"),
    ("name", {"type": ["string", "null"]}, "product name"),
    ("temperature.gpu", _NUMBER, "degrees Celsius"),
    ("fan.speed", _NUMBER, "percent"),
    ("utilization.gpu", _NUMBER, "percent"),
    ("utilization.enc", _NUMBER, "percent"),
    ("utilization.dec", _NUMBER, "percent"),
    ("power.draw", _NUMBER, "watts"),
    ("enforced.power.limit", _NUMBER, "watts"),
    ("memory.used", _NUMBER, "MiB"),
    ("memory.total", _NUMBER, "MiB"),
    ("processes", {"anyOf": [_list("GpustatProcess"), {"type": "null"}]}, "null where they are not known"),
)
PROCESS_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("username", _TEXT, "owner; ? where not known"),
    ("command", _TEXT, "name of the program; ? where not known"),
    ("full_command", {"type": "array", "items": _TEXT}, "words of the command line; who may not see them gets the program alone"),
    ("gpu_memory_usage", _NUMBER, "MiB"),
    ("cpu_percent", {"type": ["number", "null"]}, "100 = one core"),
    ("cpu_memory_usage", _NUMBER, "bytes"),
    ("pid", {"type": "integer"}, "process id on the host"),
)
SCHEMAS: dict[str, tuple[tuple[str, Schema, str], ...]] = {"GpustatHost": HOST_FIELDS, "GpustatGpu": GPU_FIELDS, "GpustatProcess": PROCESS_FIELDS}


def beside(ours: Schema, *, many: bool) -> Schema:
    """The schema of an answer that is ours or, with ``format=gpustat``, gpustat's: of the cluster a list of hosts."""
    return {"anyOf": [ours, _list("GpustatHost") if many else {"$ref": "#/components/schemas/GpustatHost"}]}
