"""Usage and past processes as JSON: what ``/api/v1/usage`` and ``/api/v1/processes`` answer. Pure; None is null, never 0."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

from gpuwatch.model.series import PastProcess, UsageReport, UsageRow
from gpuwatch.render.as_json import dump

ROW_FIELDS = (
    ("key", "user, host, GPU (UUID), model or tag; empty = nobody, a host without tags, or the total"),
    ("name", "what people call it, where the key is a UUID; else empty"),
    ("held_hours", "GPU-hours that somebody held: busy, idle and unknown together"),
    ("busy_hours", "GPU-hours held and at work"),
    ("idle_hours", "GPU-hours held without work"),
    ("unknown_hours", "GPU-hours held while utilization was not reported"),
    ("unattributed_hours", "GPU-hours held while nobody's process was seen"),
    ("measured_hours", "GPU-hours of which it is known whether somebody held the GPU; 0 for users"),
    ("possible_hours", "GPU-hours that would have been measured without gaps; 0 for users and MIG slices"),
    ("coverage", "measured / possible, at most 1; null = not known"),
    ("memory_gib_hours", "GiB-hours of GPU memory held; of a user: of the user's own processes"),
    ("energy_joules", "energy in joules; the row of nobody has that of GPUs that nobody held, too"),
)
"""(field of a row, what it is), in the order of the answer."""

REPORT_FIELDS = (
    ("first_day", "first day, YYYY-MM-DD"),
    ("last_day", "last day, included"),
    ("by", "what the rows are by"),
    ("timezone", "time zone of the days"),
    ("kept_since_at", "before this time there is no usage; null = there is none yet"),
    ("counted_until_at", "readings of the period that came later may not be counted yet; null = all are"),
)

PROCESS_FIELDS = (
    ("host", "name of the target"),
    ("gpu_index", "NVML's number of the GPU; null = it is not there any more"),
    ("gpu_uuid", "UUID of the GPU or MIG slice"),
    ("user", "who ran it; null = not known"),
    ("pid", "process id on its host"),
    ("process_started_at", "when the process itself started; null = not known"),
    ("start_at", "first reading of it on this GPU"),
    ("end_at", "until when its last reading stands for it"),
    ("is_running", "it was there at the host's newest reading, and that is fresh"),
    ("peak_memory_bytes", "most GPU memory of any reading; null = never reported"),
    ("mean_memory_bytes", "mean GPU memory over the time in which it was reported"),
    ("name", "the kernel's short name of the process"),
    ("command", "command line, as far as the reader may see it"),
)
"""(field of a process, what it is), in the order of the answer."""


def usage_json(report: UsageReport) -> bytes:
    """A report: its days, the rows, and the same sums over all GPUs."""
    head = {name: getattr(report, name) for name, _ in REPORT_FIELDS}
    return dump({**head, "rows": list(map(row_doc, report.rows)), "total": row_doc(report.total)}) + b"\n"


def row_doc(row: UsageRow) -> Dict[str, Any]:
    """The fields of ROW_FIELDS, ready for a JSON encoder; hours to a millisecond, shares to a ten-thousandth."""
    return {name: _rounded(getattr(row, name)) for name, _ in ROW_FIELDS}


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def processes_json(found: Sequence[PastProcess], span: Tuple[float, float], limit: int) -> bytes:
    """The processes, newest start first. ``truncated``: there may be more than ``limit``."""
    start_at, end_at = span
    head = {"start_at": start_at, "end_at": end_at, "limit": limit, "truncated": len(found) >= limit}
    return dump({**head, "processes": list(map(process_doc, found))}) + b"\n"


def process_doc(process: PastProcess) -> Dict[str, Any]:
    """The fields of PROCESS_FIELDS, ready for a JSON encoder."""
    of_interval = process.interval
    return {name: getattr(process if hasattr(process, name) else of_interval, name) for name, _ in PROCESS_FIELDS}
