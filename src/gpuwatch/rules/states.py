"""The state of one GPU or MIG slice, from facts. Never says free or idle when a value that decides is missing.

Two steps. ``base_state`` looks at one reading and costs well under a microsecond, for it runs for each GPU at each poll.
``settled_state`` adds what only time tells (idle), and ``shown_state`` what only the node tells (stale, down); the worst wins.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple, Union

from gpuwatch.model.cluster import GpuState
from gpuwatch.model.foreign import NOT_TOLD
from gpuwatch.model.snapshot import THROTTLE_ALARMS, GpuReading, MigReading, Number, ProcessReading, throttle_reasons
from gpuwatch.rules.limits import Limits

PROHIBITED = "prohibited"
GRAPHICS = "G"
"""Processes of this kind alone (a desktop, Xorg on each card of a server) do not take a GPU; the memory they hold may."""


def base_state(
    lost: bool, mig: bool, processes: Optional[int], memory_used_bytes: Number, utilization_percent: Number, unified: bool, limits: Limits
) -> str:
    """``lost``, ``mig``, ``busy``, ``free`` or ``unknown``, from one reading.

    ``processes``: how many take the GPU (see ``takers``); None = the list is not reported. Where the system manages the memory (``unified``:
    one with the host's, or a NUMA node) the memory in use is not the programs' alone, so only processes and work count. Utilization alone can make a GPU busy, never free.
    """
    if lost:
        return "lost"
    if mig:
        return "mig"
    if processes or (utilization_percent is not None and utilization_percent > limits.idle_utilization):
        return "busy"
    if unified:
        return "unknown" if processes is None else "free"
    if memory_used_bytes is None:
        return "unknown"
    if memory_used_bytes >= limits.idle_memory:
        return "busy"
    return "unknown" if processes is None else "free"


def takers(processes: Sequence[ProcessReading], missing_reason: Optional[str]) -> Optional[int]:
    """How many processes take a GPU: those that compute. None when nothing is in it but, for ``missing_reason``, the GPU cannot be called free."""
    count = sum(1 for process in processes if process.kind != GRAPHICS)
    return None if missing_reason is not None and not count else count


def unlisted(reading: GpuReading) -> Optional[str]:
    """Why the list of processes is missing where one should be. A program that never tells any (an exporter) leaves it to the memory in use,
    which a program on the GPU cannot do without: a GPU with less than ``idle_memory`` in use is free there."""
    reason = reading.missing.get("processes")
    return None if reason is None or reason.startswith(NOT_TOLD) else reason


def unusable(reading: GpuReading) -> Optional[str]:
    """Why the GPU takes nobody although nobody is on it; None where it takes programs. A mode that is not reported forbids nothing."""
    if reading.compute_mode == PROHIBITED:
        return "Its compute mode is prohibited: no program can use it. Next: nvidia-smi -c DEFAULT as root on the node."
    return None


def mig_trouble(reading: Union[GpuReading, MigReading]) -> Optional[str]:
    """Why it is not known whether the GPU is cut into slices; None where it is, or where the card knows no slices."""
    reason = getattr(reading, "missing", {}).get("mig_enabled", "")
    return reason if reason.startswith("error") else None


def holds_memory(memory_used_bytes: Number, unified: bool, limits: Limits) -> bool:
    """The GPU's memory is held, as the idle rule asks. Missing data holds nothing: nobody is called idle for it."""
    return unified or (memory_used_bytes is not None and memory_used_bytes >= limits.idle_memory)


def is_idle(base: str, holds: bool, no_work_since_at: Optional[float], now: float, limits: Limits) -> bool:
    """Memory is held and there was no work for ``idle_after`` seconds."""
    return base == "busy" and holds and no_work_since_at is not None and now - no_work_since_at >= limits.idle_after


def why_unknown(reading: Union[GpuReading, MigReading]) -> str:
    """One sentence: which value is missing, so that the state cannot be told, or why a GPU that looks free is not."""
    missing = getattr(reading, "missing", {})
    for name, word in (("processes", "The list of processes"), ("memory_used_bytes", "The memory in use")):
        if name in missing:
            return f"{word} is not reported: {missing[name]}"
    if mig_trouble(reading):
        return f"Whether MIG is on is not reported: {mig_trouble(reading)}"
    if reading.memory_used_bytes is None:
        return "The memory in use is not reported."
    refused = unusable(reading) if isinstance(reading, GpuReading) else None
    if refused:
        return refused
    return "The values that decide are not reported."


def why_lost(error: Optional[str]) -> str:
    """One sentence with the next step for a GPU that does not answer."""
    said = (error or "the GPU does not answer").strip().rstrip(".")
    if "next:" in said.lower():
        return f"{said}."
    return f"{said}. Next: look for Xid lines in dmesg on the node; reset the GPU or reboot the node."


def marks(reading: GpuReading, limits: Limits) -> Tuple[str, ...]:
    """Warnings on top of a state: ``hot`` and ``throttled: <reasons>``. Missing values warn of nothing."""
    found = []
    if is_hot(reading.temperature_celsius, reading.temperature_slowdown_celsius, limits):
        found.append("hot")
    alarms = int(reading.throttle_mask or 0) & THROTTLE_ALARMS
    if alarms:
        found.append("throttled: " + ", ".join(throttle_reasons(alarms)))
    return tuple(found)


def is_hot(temperature_celsius: Number, slowdown_celsius: Number, limits: Limits) -> bool:
    """At or above the card's own slowdown temperature minus a margin; without one, at or above ``hot_celsius``."""
    if temperature_celsius is None:
        return False
    if slowdown_celsius is None or slowdown_celsius <= limits.hot_margin_celsius:
        return temperature_celsius >= limits.hot_celsius
    return temperature_celsius >= slowdown_celsius - limits.hot_margin_celsius


def shown_state(
    settled: GpuState,
    reading: Union[GpuReading, MigReading],
    node_status: str,
    node_since_at: Optional[float],
    limits: Limits,
) -> GpuState:
    """What a view shows for a GPU or a MIG slice, the worst of node and GPU: down, lost, stale, then what its readings settled.

    ``settled``: state and times from the readings alone. A node that answers without readings (error) leaves its GPUs stale:
    what they do is not known, and the cause stands at the node.
    """
    if node_status in ("down", "unseen"):
        return _hidden("down", settled, node_since_at)
    if settled.state == "lost":
        return GpuState("lost", settled.since_at, settled.at_least, why_lost(getattr(reading, "error", None)))
    if node_status != "up":
        return _hidden("stale", settled, node_since_at)
    why = why_unknown(reading) if settled.state == "unknown" else ""
    warnings = marks(reading, limits) if isinstance(reading, GpuReading) else ()
    return GpuState(settled.state, settled.since_at, settled.at_least, why, warnings, settled.no_work_since_at)


def _hidden(state: str, settled: GpuState, since_at: Optional[float]) -> GpuState:
    return GpuState(state, since_at, False, f"{settled.state} at the last reading", (), settled.no_work_since_at, was=settled.state)
