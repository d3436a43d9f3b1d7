"""The OpenAPI 3.1 description of ``/api/v1`` and the tables of ``docs/http-api.md``, made from the fields of ``model``. Pure.

Types come from the annotations, words from each field's help: nothing here repeats what a field says about itself.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator

import gpuwatch
from gpuwatch.model import cluster, snapshot
from gpuwatch.model.fields import describe
from gpuwatch.model.view import LAYOUTS, SORTS
from gpuwatch.render import openapi_gpustat, openapi_push
from gpuwatch.render.as_csv import FIXED, NUMBERS
from gpuwatch.render.csv_log import LOG_COLUMNS
from gpuwatch.render.csv_processes import NOW_COLUMNS
from gpuwatch.render.csv_series import PROCESS_COLUMNS
from gpuwatch.render.hubs import HUB_FIELDS
from gpuwatch.render.imports import IMPORT_COLUMNS
from gpuwatch.render.openapi_time import LOG_PARAMETERS, PROCESSES_PARAMETERS, SCHEMAS, SERIES_PARAMETERS, TEXT, USAGE_PARAMETERS

Schema = dict[str, Any]

READINGS: tuple[type, ...] = (
    snapshot.Snapshot,
    snapshot.HostReading,
    snapshot.GpuReading,
    snapshot.MigReading,
    snapshot.ProcessReading,
    snapshot.ContainerRef,
    snapshot.DiskReading,
    snapshot.NetworkReading,
    snapshot.LoginReading,
    snapshot.CollectorStatus,
    snapshot.XidEvent,
)

STATE_HELP = {
    "state": "what the GPU (or slice) is doing; the worst wins",
    "since_at": "since when the state holds",
    "at_least": "the state may hold for longer: the hub began to look at since_at",
    "why": "one sentence where the state needs one (lost, unknown)",
    "marks": "warnings on top of the state, such as hot",
    "no_work_since_at": "since when utilization is at most the idle threshold",
    "was": "the state at the last reading, where state is stale or down; empty otherwise",
}
NODE_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("name", {"type": "string"}, "the target's name in the hosts file"),
    ("status", {"type": "string", "enum": list(cluster.NODE_STATUSES)}, "how the node is doing"),
    ("status_since_at", {"type": ["number", "null"]}, "since when it has this status"),
    ("error", {"type": ["string", "null"]}, "why there are no fresh readings, with the next step"),
    ("tags", {"type": "array", "items": {"type": "string"}}, "tags of the target"),
    ("address", {"type": "string"}, "where the hub reads it: host:port, ssh://user@host, or push://host of one that sends"),
    ("received_at", {"type": ["number", "null"]}, "when the hub got the snapshot, by the hub's clock"),
    ("clock_skew_seconds", {"type": ["number", "null"]}, "the node's clock minus the hub's"),
    ("snapshot", {"anyOf": [{"$ref": "#/components/schemas/Snapshot"}, {"type": "null"}]}, "the newest snapshot, also when it is old"),
)
AT_FIELD: tuple[str, Schema, str] = ("at", {"type": ["number", "null"]}, "the past moment that was asked about with at=; null = now")
CLUSTER_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("taken_at", {"type": "number"}, "when the cluster looked like this"),
    AT_FIELD,
    ("title", {"type": "string"}, "name of the lab"),
    ("timezone", {"type": "string"}, "time zone of days on the pages; times here have none"),
    ("interval_seconds", {"type": "number"}, "time between two polls of a node"),
    ("simulated", {"type": "boolean"}, "some GPUs are simulated (demo)"),
    ("notices", {"type": "array", "items": {"type": "string"}}, "trouble of the hub itself"),
    ("nodes", {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}, "every target, in the order of the hosts file"),
)
GPU_ANSWER_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("taken_at", {"type": "number"}, "when the cluster looked like this"),
    AT_FIELD,
    ("host", {"type": "string"}, "name of the GPU's node"),
    ("status", {"type": "string", "enum": list(cluster.NODE_STATUSES)}, "how the node is doing"),
    ("error", {"type": ["string", "null"]}, "why there are no fresh readings"),
    ("received_at", {"type": ["number", "null"]}, "when the hub got the reading"),
    (
        "recent_utilization",
        {"type": "array", "items": {"type": ["number", "null"]}},
        "mean utilization of the last 6 hours in steps of 10 minutes, oldest first; null = no reading",
    ),
    ("gpu", {"$ref": "#/components/schemas/GpuReading"}, "the GPU"),
)
ERROR_FIELDS: tuple[tuple[str, Schema, str], ...] = (
    ("error", {"type": "string"}, "what is wrong, and which value"),
    ("next_step", {"type": "string"}, "what to do; may be empty"),
)

FILTERS: tuple[tuple[str, Schema, str], ...] = (
    ("q", TEXT, "words; all must be in the host's name, a tag, the model or a user's name"),
    ("host", TEXT, "name of one host"),
    ("user", TEXT, "GPUs with a process of this user"),
    ("tag", TEXT, "hosts with this tag"),
    ("model", TEXT, "GPUs whose product name contains this"),
    ("free", {"type": "boolean"}, "free GPUs only, and GPUs with a free MIG slice"),
    ("state", {"type": "string", "enum": list(cluster.GPU_STATES)}, "GPUs in this state only"),
    (
        "sort",
        {"type": "string", "enum": [*SORTS, *(f"-{sort}" for sort in SORTS)]},
        "order of the hosts (of the GPUs with view=flat); - = downwards",
    ),
    ("page", {"type": "integer", "minimum": 0}, "page of 60 hosts (480 GPUs with view=flat), from 1; 0 or absent = all"),
)
AT: tuple[str, Schema, str] = ("at", TEXT, "a past moment: everything as it was then; absent = now")
FORMAT: tuple[str, Schema, str] = (
    "format",
    {"type": "string", "enum": ["json", "gpustat", "nvidia-smi-csv"]},
    "json is what stands here; gpustat: its JSON; nvidia-smi-csv: as nvidia-smi --query-gpu prints it",
)
VIEW_PARAMETERS: tuple[tuple[str, Schema, str], ...] = (
    AT,
    ("term", {"type": "boolean"}, "text for a terminal; any value but 0, false, no, off"),
    ("format", {"type": "string", "enum": ["html", "text", "json", "csv"]}, "which twin; stronger than term"),
    ("detail", {"type": "boolean"}, "text with processes"),
    (
        "view",
        {"type": "string", "enum": [layout for layout in LAYOUTS if layout]},
        "rows, grid (page above 60 hosts), flat (one list of GPUs)",
    ),
    ("width", {"type": "integer", "minimum": 60, "maximum": 400}, "columns of text, 80 by default"),
    ("ascii", {"type": "boolean"}, "text without boxes, degree signs and other non-ASCII"),
    ("color", {"type": "boolean"}, "text with ANSI colours"),
)


def document(base_path: str = "") -> Schema:
    """The whole description, as a dict that JSON can hold. ``base_path``: before all of its paths."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpuwatch",
            "version": gpuwatch.__version__,
            "description": "GPUs of a cluster. Times are UTC epoch seconds, units stand in the names, null means not reported.",
        },
        "servers": [{"url": base_path or "/"}],
        "paths": {
            "/api/v1/cluster": _path("Every node with its newest snapshot", "Cluster", (AT, FORMAT, *FILTERS)),
            "/api/v1/hosts/{name}": _path("One node", "NodeAnswer", (AT, FORMAT), "name"),
            "/api/v1/gpus/{uuid}": _path("One GPU, by its UUID or that of one of its MIG slices", "GpuAnswer", (AT,), "uuid"),
            "/api/v1/series": _path("One metric over time, of a GPU, a host, all GPUs or a user", "Series", SERIES_PARAMETERS, missing=True),
            "/api/v1/processes": _path("Who was on which GPU when", "PastProcesses", PROCESSES_PARAMETERS, missing=True),
            "/api/v1/usage": _path("Who used what over whole days of the hub's zone", "Usage", USAGE_PARAMETERS),
            "/api/v1/log.csv": _path("What GPUs did on a day, in a week or month, a row a minute", "", LOG_PARAMETERS, missing=True),
            "/api/v1/hubs": _path("The hubs that share the database, and how many hosts each of them polls", "Hubs", ()),
            **openapi_push.paths(),
        },
        "components": {"schemas": dict(_schemas())},
    }


def _schemas() -> Iterator[tuple[str, Schema]]:
    yield "Cluster", _object(CLUSTER_FIELDS)
    yield "Node", _object(NODE_FIELDS)
    yield "NodeAnswer", _object((*CLUSTER_FIELDS[:2], *NODE_FIELDS))
    yield "GpuAnswer", _object(GPU_ANSWER_FIELDS)
    yield "Error", _object(ERROR_FIELDS)
    yield "Hub", _object(HUB_FIELDS)
    yield "Hubs", _object((("hubs", {"type": "array", "items": {"$ref": "#/components/schemas/Hub"}}, "by name; those gone for a day are left out"),))
    for name, fields in {**SCHEMAS, **openapi_push.SCHEMAS}.items():
        yield name, _object(fields)
    for name, fields in openapi_gpustat.SCHEMAS.items():
        yield name, _object(fields, openapi_gpustat.OPTIONAL)
    for reading in READINGS:
        yield reading.__name__, _object(tuple(fields_of(reading)))


def fields_of(reading: type) -> Iterator[tuple[str, Schema, str]]:
    """(name, schema, help) of what an answer holds of a reading: its fields, for GPUs and slices also those of their state."""
    helps = {name: help for name, _, help, _ in describe(reading)}
    for field in dataclasses.fields(reading):
        yield field.name, schema_of(str(field.type)), helps[field.name]
    if reading in (snapshot.GpuReading, snapshot.MigReading):
        for field in dataclasses.fields(cluster.GpuState):
            words = {"type": "string", "enum": list(cluster.GPU_STATES)}
            yield field.name, words if field.name == "state" else schema_of(str(field.type)), STATE_HELP[field.name]
    if reading is snapshot.GpuReading:
        yield "throttle_reasons", schema_of("Tuple[str, ...]"), "the bits of throttle_mask in words"


_SIMPLE = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def schema_of(annotation: str) -> Schema:
    """The schema of a field's type, as it is written in ``model``: ``Number``, ``str | None``, ``Tuple[GpuReading, ...]`` ..."""
    annotation = annotation.strip()
    if annotation == "Number":
        return {"type": ["number", "null"]}
    if annotation.startswith("Optional["):
        return _nullable(schema_of(annotation[9:-1]))
    if annotation.endswith("| None"):
        return _nullable(schema_of(annotation[:-6]))
    if annotation in _SIMPLE:
        return {"type": _SIMPLE[annotation]}
    if annotation.startswith("Mapping["):
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if annotation.startswith("Tuple["):
        inside = annotation[6:-1]
        if inside.endswith(", ..."):
            return {"type": "array", "items": schema_of(inside[:-5])}
        parts = [schema_of(part) for part in inside.split(",")]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    return {"$ref": f"#/components/schemas/{annotation}"}


def _nullable(schema: Schema) -> Schema:
    return {"type": [schema["type"], "null"]} if "type" in schema else {"anyOf": [schema, {"type": "null"}]}


def _object(fields: tuple[tuple[str, Schema, str], ...], optional: tuple[str, ...] = ()) -> Schema:
    """Every field is always there, null where it is not reported; but for ``optional`` ones."""
    return {
        "type": "object",
        "properties": {name: {**schema, "description": help} for name, schema, help in fields},
        "required": [name for name, _, _ in fields if name not in optional],
        "additionalProperties": False,
    }


def _path(summary: str, answer: str, parameters: tuple[tuple[str, Schema, str], ...], variable: str = "", missing: bool = False) -> Schema:
    named: list[Schema] = [{"name": name, "in": "query", "schema": schema, "description": help} for name, schema, help in parameters]
    if variable:
        named.append({"name": variable, "in": "path", "required": True, "schema": {"type": "string"}})
    told: Schema = _response("The answer", answer) if answer else {"description": "A file", "content": {}}
    formats = [format for name, schema, _ in parameters if name == "format" for format in schema["enum"]]
    if not answer or any(format.endswith("csv") for format in formats):
        told["content"]["text/csv"] = {"schema": {"type": "string"}}
    if "gpustat" in formats:
        json_body = told["content"]["application/json"]
        json_body["schema"] = openapi_gpustat.beside(json_body["schema"], many=not variable)
    responses = {"200": told, "400": _response("A parameter that cannot be", "Error")}
    if variable or missing:
        responses["404"] = _response("There is none of that name", "Error")
    responses["503"] = _response("Not now: the database is away, or too many ask at once", "Error")
    return {"get": {"summary": summary, "parameters": named, "responses": responses}}


def _response(description: str, schema: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


# ---- tables for docs/http-api.md


def docs_tables() -> dict[str, str]:
    """Markdown tables by name, as they stand in ``docs/http-api.md`` between ``<!-- table: name -->`` and ``<!-- end -->``."""
    tables = {
        "filters": _parameters_table(FILTERS),
        "view": _parameters_table(VIEW_PARAMETERS),
        "csv": _table(
            ("column", "what it holds"), [*((f"`{n}`", h) for n, h in FIXED), (_numbers(), "as in GpuReading; empty = not reported")]
        ),
        "Cluster": _fields_table(CLUSTER_FIELDS),
        "Node": _fields_table(NODE_FIELDS),
        "GpuAnswer": _fields_table(GPU_ANSWER_FIELDS),
        "Error": _fields_table(ERROR_FIELDS),
        "Hub": _fields_table(HUB_FIELDS),
        "series": _parameters_table(SERIES_PARAMETERS),
        "processes": _parameters_table(PROCESSES_PARAMETERS),
        "usage": _parameters_table(USAGE_PARAMETERS),
        "log": _parameters_table(LOG_PARAMETERS),
        "log_columns": _table(("column", "what it holds"), [(f"`{name}`", help) for name, help in LOG_COLUMNS]),
        "import_columns": _table(("column", "what it holds"), [(f"`{name}`", help) for name, help in IMPORT_COLUMNS]),
        "processes_now": _table(("column", "what it holds"), [(f"`{name}`", help) for name, help in NOW_COLUMNS]),
        "process_columns": _table(("column", "what it holds"), [(f"`{name}`", help) for name, help in PROCESS_COLUMNS]),
    }
    tables.update((name, _fields_table(fields)) for name, fields in {**SCHEMAS, **openapi_push.SCHEMAS, **openapi_gpustat.SCHEMAS}.items())
    tables.update({reading.__name__: _fields_table(tuple(fields_of(reading))) for reading in READINGS})
    return tables


def _numbers() -> str:
    return ", ".join(f"`{name}`" for name in NUMBERS)


def _parameters_table(parameters: tuple[tuple[str, Schema, str], ...]) -> str:
    return _table(("parameter", "values", "what it does"), [(f"`{name}`", _values(schema), help) for name, schema, help in parameters])


def _fields_table(fields: tuple[tuple[str, Schema, str], ...]) -> str:
    return _table(("field", "type", "what it is"), [(f"`{name}`", _type(schema), help) for name, schema, help in fields])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', ' or ') for cell in line)} |" for line in lines)


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else f"[{', '.join(map(_type, schema['prefixItems']))}]"
    kinds = schema["type"]
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _values(schema: Schema) -> str:
    if "maximum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    if "enum" in schema:
        return ", ".join(word for word in schema["enum"] if not word.startswith("-"))
    return "text" if schema is TEXT else "a span" if "pattern" in schema else _type(schema)
