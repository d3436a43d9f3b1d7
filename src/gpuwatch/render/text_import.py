"""What an import would read, or has read, as text. Pure; a stranger's names are made harmless."""

from __future__ import annotations

from datetime import datetime
from typing import Any, List, Mapping
from zoneinfo import ZoneInfo

from gpuwatch.render.listing import listing
from gpuwatch.render.words import clean

MOST_SHOWN = 20
"""Refused lines and GPUs that are shown of a file, unless all are asked for."""
HEADS = ("host", "GPU", "name", "rows", "from", "to")


def told_text(doc: Mapping[str, Any], most: int = MOST_SHOWN) -> str:
    """``doc``: as ``store.import_source.told`` makes it; at most so many GPUs and refused lines."""
    gpus, refused, refused_count = doc["gpus"], doc["refused"], doc["refused_count"]
    lines = [
        f"{clean(doc['file'])}: {doc['format']}. {clean(doc['why'])}",
        f"  {doc['rows']} rows, {refused_count} lines not understood, {doc['users']} users, times in {doc['zone']}",
    ]
    if gpus:
        lines += ["  " + line for line in listing(HEADS, gpu_rows(doc, most)).rstrip("\n").split("\n")]
    if len(gpus) > most:
        lines.append(f"  ... and {len(gpus) - most} more: --all")
    lines += [f"  line {one['line']}: {clean(one['why'])}" for one in refused[:most]]
    if refused_count > min(most, len(refused)):
        lines.append(f"  ... and {refused_count - min(most, len(refused))} more lines that are not understood")
    lines += [f"  Note: {clean(note)}" for note in doc["notes"]]
    return "\n".join(lines) + "\n"


def gpu_rows(doc: Mapping[str, Any], most: int) -> List[List[Any]]:
    """The GPUs of the file, under HEADS."""
    return [
        [one["host"] or "-", one["gpu"] or "(not named)", one["name"], one["rows"], _time(one["first_at"], doc), _time(one["last_at"], doc)]
        for one in doc["gpus"][:most]
    ]


def _time(at: float, doc: Mapping[str, Any]) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(doc["zone"])).strftime("%Y-%m-%d %H:%M:%S")
