"""Which format a file is in, told from its first lines, with the reason. Pure; never guesses silently."""

from __future__ import annotations

import re
from typing import Dict, Iterable, Iterator, NamedTuple, Optional, Sequence

from gpuwatch.model.errors import UsageError
from gpuwatch.wire.csv_in import gpuwatch_export, nvidia_fields, nvidia_smi, seed000_log, seed000_processes, seed000_upload
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.columns import key_of
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable
from gpuwatch.wire.csv_in.text import shown, split

FIRST_LINES = 50
"""How many lines ``sniff`` should be given."""
FORMATS: Dict[str, str] = {
    "nvidia-smi": "log of nvidia-smi --query-gpu or --query-compute-apps, --format=csv",
    "gpuwatch": "this program's own export: /?format=csv, or gpuwatch db export --what snapshots",
    "accessgrid-upload": "upload of AccessGrid: GPU Index, GPU Name, Timestamp, Utilization %, Memory Used (MiB)",
    "accessgrid-processes": "log of AccessGrid's gpu_logger.sh: timestamp,user,pid,process_name,used_gpu_memory",
    "accessgrid-log": "log of AccessGrid's logger.sh: timestamp,type,gpu_id,...",
}
"""Formats of text, and what a person knows them by."""
_HEADS = (  # the one with the most columns first: a head may hold all columns of another
    ("accessgrid-log", seed000_log.COLUMNS),
    ("accessgrid-upload", seed000_upload.COLUMNS),
    ("accessgrid-processes", seed000_processes.COLUMNS),
    ("gpuwatch", (*gpuwatch_export.COLUMNS, "node_status")),
    ("gpuwatch", (*gpuwatch_export.COLUMNS, gpuwatch_export.TAKEN_AT)),
)
_STAMP = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


class Sniffed(NamedTuple):
    """``format`` is one of FORMATS, or empty; ``why`` is a sentence for a person either way."""

    format: str
    why: str
    needs_fields: bool = False
    """It is a log of nvidia-smi without a head: the user has to name its columns."""


def sniff(first_lines: Sequence[str]) -> Sniffed:
    """The format of a file that begins with these lines."""
    first: Optional[str] = None
    for number, line in enumerate(first_lines, 1):
        try:
            cells = split(line.lstrip("\ufeff"))
        except Unreadable:
            continue
        if not any(cells):
            continue
        first = line if first is None else first
        found = _of_head([key_of(cell) for cell in cells[:1000]], number) or _of_data(cells, number)
        if found is not None:
            return found
    if first is None:
        return Sniffed("", "The file is empty, or nothing in its first lines is text.")
    return Sniffed("", f"No line at its beginning names columns of a known format; it begins with {shown(first)}.")


def _of_head(names: Sequence[str], line: int) -> Optional[Sniffed]:
    for format, columns in _HEADS:
        if all(key_of(column) in names for column in columns):
            return Sniffed(format, f"Line {line} has the columns of the {FORMATS[format]}.")
    fields = [nvidia_smi.field_of(name) for name in names]
    count = sum(field in nvidia_fields.KNOWN or field in nvidia_fields.ALSO for field in fields)
    if count >= 2 and count * 4 >= len(fields):
        if nvidia_fields.TIMESTAMP not in fields:
            return Sniffed("", f"Line {line} names fields of nvidia-smi, but no timestamp: nothing says when a line was read.")
        return Sniffed("nvidia-smi", f"Line {line} names {count} fields of nvidia-smi that are known.")
    return None


def _of_data(cells: Sequence[str], line: int) -> Optional[Sniffed]:
    if len(cells) > 1 and any(_STAMP.match(cell) for cell in cells):
        why = f"Line {line} has a time as nvidia-smi writes it, and no line names the columns (noheader): name them with --fields."
        return Sniffed("nvidia-smi", why, needs_fields=True)
    return None


def parse(format: str, lines: Iterable[str], report: Report, clock: Clock, fields: Sequence[str] = ()) -> Iterator[ImportedRow]:
    """The rows of a file in ``format``. Raises UsageError for an unknown format, and where the file as a whole is not in it."""
    if format == "nvidia-smi":
        return nvidia_smi.rows(lines, report, clock, fields)
    parsers = {
        "gpuwatch": gpuwatch_export.rows,
        "accessgrid-upload": seed000_upload.rows,
        "accessgrid-processes": seed000_processes.rows,
        "accessgrid-log": seed000_log.rows,
    }
    if format not in parsers:
        raise UsageError(f"There is no format {format[:40]!r}.", f"Use one of {', '.join(FORMATS)}.")
    return parsers[format](lines, report, clock)
