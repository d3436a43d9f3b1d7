"""The list of imports, and what a file would bring, as JSON, CSV and text; and the addresses of their charts. Pure."""

from __future__ import annotations

import json
import shlex
from typing import Any, Dict, List, Mapping, Sequence
from urllib.parse import urlencode

from gpuwatch.model.imports import ImportedGpu, ImportedMachine
from gpuwatch.render import words
from gpuwatch.render.csv_series import cell
from gpuwatch.render.listing import listing
from gpuwatch.render.text_import import told_text

IMPORT_COLUMNS = (
    ("name", "what the import is called: host= of /history"),
    ("gpu", "GPU as its log names it: gpu= of /history; a line each"),
    ("model", "product name; empty = the log has none"),
    ("first_at", "first reading, to the hour, epoch seconds"),
    ("last_at", "last reading, epoch seconds; of readings whose minutes are gone to the hour"),
    ("file", "file that it comes from"),
    ("file_rows", "rows of the file that are stored"),
    ("imported_at", "when the import began, epoch seconds"),
    ("finished", "1 = all of the file is stored, 0 = it was broken off or goes on"),
)
"""(column, what it holds)."""


def imports_json(found: Sequence[ImportedMachine]) -> bytes:
    """``{"imports": [...]}``."""
    return (json.dumps({"imports": [{**one._asdict(), "gpus": [gpu._asdict() for gpu in one.gpus]} for one in found]}) + "\n").encode()


def imports_csv(found: Sequence[ImportedMachine]) -> bytes:
    """A line a GPU."""
    lines = [",".join(name for name, _ in IMPORT_COLUMNS)]
    for one in found:
        for gpu in one.gpus or (None,):
            about: List[Any] = [gpu.gpu, gpu.model, gpu.first_at, gpu.last_at] if gpu else [None] * 4
            lines.append(",".join(map(cell, [one.name, *about, one.file, one.rows, one.imported_at, int(one.finished)])))
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def imports_text(found: Sequence[ImportedMachine], timezone: str) -> str:
    """The same for a terminal."""
    if not found:
        return "Nothing is imported. On the hub: gpuwatch db import FILE\n"
    rows = [
        (one.name, len(one.gpus), *([words.date_time(at, timezone) for at in one.span] if one.span else ["", ""]), one.rows, one.file, "" if one.finished else "not finished")
        for one in found
    ]
    zone = words.zone_label(found[0].span[1] if found[0].span else 0.0, timezone)
    return f"{listing(('import', 'GPUs', 'from', 'to', 'rows', 'file', ''), rows)}\ntimes: {zone}\n"


def history_of(one: ImportedMachine, gpu: ImportedGpu | None = None) -> str:
    """Path and query of its charts, over all its time."""
    span = (gpu.first_at, gpu.last_at) if gpu else one.span
    pairs = {"host": one.name, **({"gpu": gpu.gpu} if gpu else {}), **({"from": int(span[0]), "to": int(span[1])} if span else {})}
    return "/history?" + urlencode(pairs)


# ---- what a file would bring


def steps(doc: Mapping[str, Any]) -> List[str]:
    """The lines to type on the hub: the import, and giving it to a host."""
    options = "".join(f"--{name} {shlex.quote(doc[name])} " for name in ("zone", "host", "fields") if doc.get(name))
    return [f"gpuwatch db import {options}{shlex.quote(words.clean(doc['file']))}", f"gpuwatch db assign {shlex.quote(doc['imports'][0])} HOST"]


def dry_run_json(doc: Mapping[str, Any]) -> bytes:
    """As it is, with the lines to type."""
    told: Dict[str, Any] = {**doc, "next": steps(doc)}
    return (json.dumps(told) + "\n").encode()


def dry_run_text(doc: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    return f"{told_text(doc)}Nothing was stored. Next, on the hub:\n  " + "\n  ".join(steps(doc)) + "\n"
