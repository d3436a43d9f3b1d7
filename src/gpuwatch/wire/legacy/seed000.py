"""Seed 000 (AccessGrid): the JSON of its hub about one machine and about all, and its analysis of an uploaded CSV, made from our model. Pure.

Memory is in MiB, utilization and memory in whole numbers. What is unknown is null, never 0; it shows at least three GPUs, the missing ones
all null. Texts of errors are its own. Must never raise for what an upload holds, but ``Refused``.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from datetime import datetime, timezone, tzinfo
from itertools import accumulate
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from gpuwatch.model.cluster import ClusterNow, NodeState
from gpuwatch.model.errors import UsageError
from gpuwatch.model.series import ProcessInterval, Series
from gpuwatch.model.snapshot import GpuReading, Number, Snapshot
from gpuwatch.model.units import MIB
from gpuwatch.wire.csv_in import seed000_upload, sniff
from gpuwatch.wire.csv_in.clock import Clock
from gpuwatch.wire.csv_in.rows import ImportedRow, Report, Unreadable
from gpuwatch.wire.csv_in.text import split

ALIVE = ("up", "stale")
LEAST_GPUS = 3
LEAST_PERCENT, LEAST_MIB = 1, 100
"""An uploaded row with less work and less memory is left out."""
RANGES: Dict[str, Tuple[float, int]] = {"daily": (86400.0, 300), "weekly": (7 * 86400.0, 900), "monthly": (30 * 86400.0, 3600)}
"""Name: how far back, and seconds between two values; 300 is what its own logger has."""
UNKNOWN_RANGE = "Invalid time range"
NO_FILE, NO_NAME, NO_CSV = "No file uploaded", "No file selected", "File must be a CSV"
EMPTY, NO_DATA = "The CSV file is empty", "No valid GPU data found in the CSV file"

Document = Dict[str, Any]


class Refused(Exception):
    """What it answers with an error: the text is the one of its ``error``."""


def dump(doc: Any) -> bytes:
    """As its server writes JSON: keys sorted, no blanks, a line end."""
    return json.dumps(doc, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def error(text: str) -> bytes:
    """The body of an error."""
    return dump({"error": text})


# ---- now


def gpu_stats(snapshot: Snapshot) -> List[Document]:
    """``/api/gpu_stats``: the GPUs of one machine; a lost one has null numbers."""
    return [gpu_entry(gpu) for gpu in snapshot.gpus]


def cpu_live_info(snapshot: Snapshot) -> Document:
    """``/api/cpu_live_info``."""
    host = snapshot.host
    load = [host.load_1m, host.load_5m, host.load_15m]
    return {"cpu_percent": host.cpu_percent, "per_core": list(host.cores_percent), "load_avg": load, "model_name": host.cpu_model}


def user_gpu_usage(snapshot: Snapshot) -> List[Document]:
    """``/api/user_gpu_usage``: every user (it shows the last one only), most memory first; percent of all GPUs' memory (its own are of 25000 MiB).

    Raises Refused where the machine tells no processes: nobody would be made up.
    """
    if snapshot.gpus and all("processes" in gpu.missing and not gpu.processes for gpu in snapshot.gpus):
        raise Refused(f"processes are not reported: {snapshot.gpus[0].missing['processes'][:200]}")
    held: Dict[str, Number] = {}
    for gpu in snapshot.gpus:
        for process in gpu.processes:
            if process.user:
                memory, known = process.gpu_memory_bytes, held.get(process.user, 0.0)
                held[process.user] = None if memory is None or known is None else known + memory
    total = _total_memory(snapshot)
    found = [(user, _mib(memory), _percent(memory, total)) for user, memory in held.items()]
    found.sort(key=lambda one: (-(one[1] or 0), one[0]))
    return [{"username": user, "gpu_memory_mib": memory, "gpu_memory_percentage": percent} for user, memory, percent in found]


def all_gpu_status(cluster: ClusterNow) -> List[Document]:
    """``/api/all_gpu_status``: every target; green = answers, red = no values, grey = its host cannot be reached."""
    return [_server(node) for node in cluster.nodes]


def _server(node: NodeState) -> Document:
    if node.snapshot is None or node.status not in ALIVE:
        return {"name": node.name, "reachable": False, "gpus": [{"status": "grey", "gpu": None}] * LEAST_GPUS}
    gpus = [gpu_entry(gpu) for gpu in node.snapshot.gpus]
    gpus += [no_gpu(number) for number in range(len(gpus), LEAST_GPUS)]
    shown = [{"status": "red" if gpu["gpu_util"] is None and gpu["mem_used"] is None else "green", "gpu": gpu} for gpu in gpus]
    return {"name": node.name, "reachable": True, "gpus": shown}


def gpu_entry(gpu: GpuReading) -> Document:
    """One GPU as it writes it."""
    return {
        "index": gpu.index,
        "name": gpu.name,
        "gpu_util": _whole(gpu.utilization_percent),
        "mem_util": _whole(gpu.memory_utilization_percent),
        "mem_total": _mib(gpu.memory_total_bytes),
        "mem_used": _mib(gpu.memory_used_bytes),
        "mem_free": _mib(gpu.memory_free_bytes),
        "temperature": _whole(gpu.temperature_celsius),
    }


def no_gpu(index: int) -> Document:
    """The entry that stands for a GPU that is not there."""
    return {**gpu_entry(GpuReading()), "index": index}


def _total_memory(snapshot: Snapshot) -> Number:
    """None where one GPU's is not reported."""
    parts = [gpu.memory_total_bytes for gpu in snapshot.gpus]
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None


def _mib(value: Number) -> Optional[int]:
    return None if value is None else int(value // MIB)


def _whole(value: Number) -> Optional[int]:
    return None if value is None else round(value)


def _percent(part: Number, whole: Number) -> Optional[float]:
    return None if part is None or not whole else round(100.0 * part / whole, 2)


# ---- then


def gpu_history(index: int, name: Optional[str], utilization: Series, memory: Series, zone: tzinfo) -> Document:
    """One GPU of ``/api/historical_gpu_stats``, from two series of the same steps: those in which anything was measured."""
    kept = [place for place in range(len(utilization.times)) if utilization.count[place] or memory.count[place]]
    return {
        "index": index,
        "name": name,
        "timestamps": [_time(utilization.times[place], zone) for place in kept],
        "utilization": [_tenths(utilization.mean[place]) for place in kept],
        "memory": [_mib(memory.mean[place]) for place in kept],
    }


def user_histories(
    intervals: Iterable[ProcessInterval], start_at: float, end_at: float, step_seconds: int, total_bytes: Number, zone: tzinfo
) -> List[Document]:
    """``/api/historical_user_gpu_usage``: what each user's processes held at each step in which there was one; percent of all GPUs' memory."""
    first = int(-(-start_at // step_seconds)) * step_seconds
    times = range(first, int(end_at) + 1, step_seconds)
    by_user: Dict[str, List[ProcessInterval]] = {}
    for one in intervals:
        if one.user:
            by_user.setdefault(one.user, []).append(one)
    return [_user(user, own, times, total_bytes, zone) for user, own in sorted(by_user.items())]


def _user(user: str, intervals: Sequence[ProcessInterval], times: Sequence[int], total_bytes: Number, zone: tzinfo) -> Document:
    """Processes come and go: what changes is summed up once, not for each step and process."""
    present, unknown, memory = ([0.0] * (len(times) + 1) for _ in range(3))
    for one in intervals:
        begin, end = bisect_left(times, one.start_at), bisect_left(times, one.end_at)
        mean = one.mean_memory_bytes
        for changes, amount in ((present, 1.0), (unknown, 1.0 if mean is None else 0.0), (memory, mean or 0.0)):
            changes[begin] += amount
            changes[end] -= amount
    rows = list(zip(times, accumulate(present), accumulate(unknown), accumulate(memory)))
    shown = [(at, None if round(blind) else held) for at, there, blind, held in rows if round(there)]
    return {
        "username": user,
        "timestamps": [_time(at, zone) for at, _ in shown],
        "gpu_memory_mib": [None if held is None else round(held / MIB) for _, held in shown],
        "gpu_memory_percentage": [_percent(held, total_bytes) for _, held in shown],
    }


def _time(at: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")


def _tenths(value: Number) -> Optional[float]:
    return None if value is None else round(value, 1)


# ---- uploads


def analyze(name: Optional[str], lines: Sequence[str]) -> List[Document]:
    """``POST /api/analyze_csv``: the GPUs of an upload called ``name`` (None = there was none), rows that show work or memory alone.

    Takes its own format, and whatever else of ``csv_in.sniff`` says which GPU did what when. Raises Refused with its own texts.
    """
    if name is None:
        raise Refused(NO_FILE)
    if not name:
        raise Refused(NO_NAME)
    if not name.lower().endswith(".csv"):
        raise Refused(NO_CSV)
    found = _gpus_of(_rows(lines))
    if not found:
        raise Refused(NO_DATA)
    return found


def _rows(lines: Sequence[str]) -> List[ImportedRow]:
    head = next((line for line in lines if line.strip()), None)
    if head is None:
        raise Refused(EMPTY)
    format = sniff.sniff(lines[: sniff.FIRST_LINES]).format or "accessgrid-upload"
    try:
        if format != "accessgrid-processes":
            return list(sniff.parse(format, lines, Report(), Clock(timezone.utc)))  # times are told as they were written
    except UsageError:
        pass
    try:
        there = split(head)
    except Unreadable:
        raise Refused(NO_DATA) from None
    missing = [column for column in seed000_upload.COLUMNS if column not in there]
    raise Refused(f"Missing required columns: {', '.join(missing)}" if missing else NO_DATA)


def _gpus_of(rows: Iterable[ImportedRow]) -> List[Document]:
    gpus: Dict[str, Document] = {}
    for row in rows:
        utilization, memory = row.values.get("utilization_percent"), _mib(row.values.get("memory_used_bytes"))
        if row.pid is not None or row.user is not None or ((utilization or 0) < LEAST_PERCENT and (memory or 0) < LEAST_MIB):
            continue
        gpu = gpus.get(row.gpu)
        if gpu is None:
            number = row.gpu.rpartition("index ")[2]
            index = int(number) if number.isdigit() else len(gpus)
            gpu = gpus[row.gpu] = {"index": index, "name": row.name, "timestamps": [], "utilization": [], "memory": []}
        gpu["timestamps"].append(_time(row.at, timezone.utc))
        gpu["utilization"].append(int(utilization) if utilization is not None and utilization == int(utilization) else utilization)
        gpu["memory"].append(memory)
    return sorted(gpus.values(), key=lambda gpu: int(gpu["index"]))
