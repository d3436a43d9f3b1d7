"""What of the OpenAPI description is about time: parameters and answers of ``/api/v1/series``, ``processes`` and ``usage``. Pure data."""

from __future__ import annotations

from typing import Any, Mapping, Tuple

from gpuwatch.model.series import FLEET_METRICS, GPU_METRICS, HOST_METRICS, USER_METRICS
from gpuwatch.render.json_series import SERIES_FIELDS
from gpuwatch.render.json_usage import PROCESS_FIELDS, REPORT_FIELDS, ROW_FIELDS

Schema = Any
Fields = Tuple[Tuple[str, Schema, str], ...]

TEXT: Schema = {"type": "string", "maxLength": 200}
_NUMBER: Schema = {"type": "number"}
_MAYBE: Schema = {"type": ["number", "null"]}
_WORD: Schema = {"type": "string"}
_MAYBE_WORD: Schema = {"type": ["string", "null"]}
_WHOLE: Schema = {"type": "integer"}
_VALUES: Schema = {"type": "array", "items": _MAYBE}
_KINDS: Mapping[str, Schema] = {
    "metric": _WORD, "unit": _WORD, "host": _WORD, "gpu": _WORD, "user": _WORD, "step_seconds": _WHOLE, "tier_seconds": _WHOLE,
    "kept_since_at": _MAYBE, "counted_until_at": _MAYBE, "times": {"type": "array", "items": _WHOLE}, "minimum": _VALUES, "mean": _VALUES, "maximum": _VALUES,
    "count": {"type": "array", "items": _WHOLE}, "coverage": {"type": "array", "items": _NUMBER},
}  # fmt: skip
_ROW_KINDS: Mapping[str, Schema] = {"key": _WORD, "name": _WORD, "coverage": _MAYBE}
_PROCESS_KINDS: Mapping[str, Schema] = {
    "host": _WORD, "gpu_index": {"type": ["integer", "null"]}, "gpu_uuid": _WORD, "user": _MAYBE_WORD, "pid": _WHOLE, "process_started_at": _MAYBE,
    "is_running": {"type": "boolean"}, "peak_memory_bytes": _MAYBE, "mean_memory_bytes": _MAYBE, "name": _MAYBE_WORD, "command": _MAYBE_WORD,
}  # fmt: skip


def _typed(fields: Tuple[Tuple[str, str], ...], kinds: Mapping[str, Schema], usual: Schema = _NUMBER) -> Fields:
    return tuple((name, kinds.get(name, usual), help) for name, help in fields)


def _list_of(name: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


SCHEMAS: Mapping[str, Fields] = {
    "Series": _typed(SERIES_FIELDS, _KINDS),
    "PastProcess": _typed(PROCESS_FIELDS, _PROCESS_KINDS),
    "PastProcesses": (
        ("start_at", _NUMBER, "begin of the span that was asked for"),
        ("end_at", _NUMBER, "its end"),
        ("limit", _WHOLE, "at most so many processes are told"),
        ("truncated", {"type": "boolean"}, "there may be more: ask for a shorter span or a higher limit"),
        ("processes", _list_of("PastProcess"), "processes on a GPU at any moment of the span, newest start first"),
    ),
    "UsageRow": _typed(ROW_FIELDS, _ROW_KINDS),
    "Usage": (
        *_typed(REPORT_FIELDS, {"kept_since_at": _MAYBE, "counted_until_at": _MAYBE}, _WORD),
        ("rows", _list_of("UsageRow"), "most held first; they add up to the total, but by tag a host counts in each of its tags"),
        ("total", {"$ref": "#/components/schemas/UsageRow"}, "the same sums over all GPUs"),
    ),
}
"""Answers by name."""

_FROM: Fields = (
    ("from", TEXT, "begin: epoch seconds, ISO 8601, 2026-11-20 03:00, yesterday 15:00, -2h ... in the hub's zone unless it says one"),
    ("to", TEXT, "end, in the same forms; absent = now"),
)
_SUBJECT: Fields = (
    ("host", TEXT, "name of one host"),
    ("gpu", TEXT, "one GPU or MIG slice: its UUID, or with host= its number"),
    ("user", TEXT, "one user"),
)
_FORMAT: Fields = (("format", {"type": "string", "enum": ["json", "csv"]}, "csv: the same as CSV, a file to save"),)
_RANGE: Schema = {"type": "string", "pattern": "^[0-9.]+ ?[smhdwy]$"}

SERIES_PARAMETERS: Fields = (
    (
        "metric",
        {"type": "string", "enum": list(dict.fromkeys((*FLEET_METRICS, *HOST_METRICS, *USER_METRICS)))},
        f"of a GPU: {', '.join(GPU_METRICS)} (of a MIG slice the first two); of a host: {', '.join(HOST_METRICS)}, and those of its GPUs "
        f"together; of all GPUs: those of a GPU, and held_percent; of a user: {', '.join(USER_METRICS)}",
    ),
    *_SUBJECT,
    *_FROM,
    ("range", _RANGE, "span before to= (or now), or after from=, such as 1h, 7d, 1y; 24h by default"),
    ("step", TEXT, "seconds of a step, or a span such as 15m; absent = as fine as points= allows; a user's steps are days"),
    ("points", {"type": "integer", "minimum": 1, "maximum": 4000}, "at most so many steps; steps become longer until it holds; 1000 by default, 4000 with step="),
    *_FORMAT,
)
PROCESSES_PARAMETERS: Fields = (
    *_SUBJECT,
    *_FROM,
    ("range", _RANGE, "span before to= (or now), or after from=, such as 1h, 7d, 1y; 24h by default"),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 10000}, "at most so many processes, the newest; 1000 by default"),
    *_FORMAT,
)
USAGE_PARAMETERS: Fields = (
    ("by", {"type": "string", "enum": ["user", "host", "gpu", "model", "tag"]}, "what a row is about; user by default"),
    ("from", TEXT, "first day: any moment of it, such as 2026-11-01"),
    ("to", TEXT, "last day, included; absent = today"),
    ("range", _RANGE, "so many days until the last one, such as 1d, 7d, 30d; 30d by default"),
    *_FORMAT,
)
LOG_PARAMETERS: Fields = (
    ("day", TEXT, "a day of the hub's zone, such as 2026-11-20, today, yesterday, -3d; today by default"),
    ("week", TEXT, "instead: a calendar week, Monday to Sunday, such as 2026-W47, or any day in it"),
    ("month", TEXT, "instead: a calendar month such as 2026-11, or any day in it"),
    ("host", TEXT, "this host alone; what was imported is told by its name alone: import:NAME"),
    ("gpu", TEXT, "this GPU or MIG slice alone: its UUID, or with host= its number"),
)
