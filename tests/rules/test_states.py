"""The states of ui.md's table, one row each, and what must never be said on missing data."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Optional

import pytest

from gpuwatch.model.cluster import GpuState
from gpuwatch.model.snapshot import GpuReading, MigReading, ProcessReading
from gpuwatch.rules import states
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.rows import rows

LIMITS = Limits()
MB = 10**6
FREE: Dict[str, Any] = {"lost": False, "mig": False, "processes": 0, "memory_used_bytes": 0, "utilization_percent": 0, "unified": False}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "free"),
        ({"memory_used_bytes": 99 * MB}, "free"),
        ({"memory_used_bytes": 100 * MB}, "busy"),
        ({"processes": 1}, "busy"),
        ({"utilization_percent": 1}, "free"),
        ({"utilization_percent": 1.5}, "busy"),
        ({"utilization_percent": None}, "free"),
        ({"memory_used_bytes": None}, "unknown"),
        ({"processes": None}, "unknown"),
        ({"memory_used_bytes": None, "processes": None, "utilization_percent": None}, "unknown"),
        ({"memory_used_bytes": None, "processes": 2}, "busy"),
        ({"memory_used_bytes": None, "utilization_percent": 50}, "busy"),
        ({"processes": None, "memory_used_bytes": 200 * MB}, "busy"),
        ({"unified": True, "memory_used_bytes": 90_000 * MB}, "free"),
        ({"unified": True, "processes": None}, "unknown"),
        ({"unified": True, "processes": 1}, "busy"),
        ({"mig": True, "processes": 3}, "mig"),
        ({"lost": True, "mig": True, "processes": 3}, "lost"),
    ],
)
def test_base_state(changes: Dict[str, Any], state: str) -> None:
    assert states.base_state(**{**FREE, **changes}, limits=LIMITS) == state


@pytest.mark.parametrize(
    ("base", "memory", "unified", "no_work_since", "idle"),
    [
        ("busy", 100 * MB, False, 0.0, True),
        ("busy", 99 * MB, False, 0.0, False),
        ("busy", None, False, 0.0, False),
        ("busy", None, True, 0.0, True),
        ("busy", 500 * MB, False, 0.1, False),
        ("busy", 500 * MB, False, None, False),
        ("free", 500 * MB, False, 0.0, False),
        ("unknown", 500 * MB, False, 0.0, False),
        ("lost", 500 * MB, False, 0.0, False),
    ],
)
def test_idle(base: str, memory: Optional[float], unified: bool, no_work_since: Optional[float], idle: bool) -> None:
    holds = states.holds_memory(memory, unified, LIMITS)
    assert states.is_idle(base, holds, no_work_since, 1800.0, LIMITS) is idle


@pytest.mark.parametrize(
    ("kinds", "missing", "count"),
    [("", None, 0), ("C", None, 1), ("G", None, 0), ("GGC", None, 1), ("", "not supported", None), ("G", "no right", None), ("C", "partly", 1)],
)
def test_takers(kinds: str, missing: Optional[str], count: Optional[int]) -> None:
    processes = [ProcessReading(pid=i, kind=kind) for i, kind in enumerate(kinds)]
    assert states.takers(processes, missing) == count


def test_c_plus_g_and_mps_take_a_gpu() -> None:
    assert states.takers([ProcessReading(kind="C+G"), ProcessReading(kind="M")], None) == 2


@pytest.mark.parametrize(
    ("fields", "marks"),
    [
        ({}, ()),
        ({"temperature_celsius": 89}, ()),
        ({"temperature_celsius": 90}, ("hot",)),
        ({"temperature_celsius": 84, "temperature_slowdown_celsius": 90}, ()),
        ({"temperature_celsius": 85, "temperature_slowdown_celsius": 90}, ("hot",)),
        ({"temperature_celsius": 91, "temperature_slowdown_celsius": 100}, ()),
        ({"temperature_celsius": 91, "temperature_slowdown_celsius": 0}, ("hot",)),
        ({"throttle_mask": 0x1 | 0x2 | 0x4}, ()),
        ({"throttle_mask": 0x40}, ("throttled: thermal (hardware)",)),
        ({"throttle_mask": 0x20 | 0x4, "temperature_celsius": 95}, ("hot", "throttled: thermal (software)")),
    ],
)
def test_marks(fields: Dict[str, Any], marks: Any) -> None:
    assert states.marks(GpuReading(**fields), LIMITS) == marks


HOT = GpuReading(uuid="GPU-1", temperature_celsius=95, memory_used_bytes=1)
BUSY = GpuState("busy", 10.0)


@pytest.mark.parametrize(
    ("settled", "node", "state", "was"),
    [
        ("busy", "up", "busy", ""),
        ("idle", "up", "idle", ""),
        ("free", "up", "free", ""),
        ("unknown", "up", "unknown", ""),
        ("mig", "up", "mig", ""),
        ("lost", "up", "lost", ""),
        ("busy", "stale", "stale", "busy"),
        ("idle", "error", "stale", "idle"),
        ("lost", "stale", "lost", ""),
        ("free", "down", "down", "free"),
        ("lost", "down", "down", "lost"),
    ],
)
def test_the_worst_of_node_and_gpu_wins(settled: str, node: str, state: str, was: str) -> None:
    shown = states.shown_state(GpuState(settled, 10.0, True, no_work_since_at=5.0), HOT, node, 77.0, LIMITS)
    assert (shown.state, shown.was) == (state, was)
    assert shown.since_at == (77.0 if was else 10.0)
    assert shown.at_least is not bool(was)
    assert bool(shown.marks) is (not was and state != "lost")


def test_lost_says_what_to_do() -> None:
    reading = dataclasses.replace(HOT, error="GPU is lost (fallen off the bus)")
    shown = states.shown_state(GpuState("lost", 1.0), reading, "up", None, LIMITS)
    assert shown.why.startswith("GPU is lost (fallen off the bus). Next: ")


def test_a_next_step_of_the_node_is_kept() -> None:
    assert states.why_lost("GPU requires reset. Next: nvidia-smi -r") == "GPU requires reset. Next: nvidia-smi -r."


def test_unknown_says_which_value_is_missing() -> None:
    reading = GpuReading(missing={"processes": "not supported"})
    assert states.why_unknown(reading) == "The list of processes is not reported: not supported"
    assert states.why_unknown(GpuReading()) == "The memory in use is not reported."
    assert states.why_unknown(MigReading()) == "The memory in use is not reported."


@pytest.mark.parametrize(("mode", "free"), [(None, True), ("default", True), ("exclusive-process", True), ("prohibited", False)])
def test_a_gpu_that_takes_no_program_is_not_free(mode: Optional[str], free: bool) -> None:
    reading = GpuReading(memory_used_bytes=0, compute_mode=mode)
    assert (states.unusable(reading) is None) is free
    assert ("compute mode is prohibited" in states.why_unknown(reading)) is not free
    assert states.takers((), states.unusable(reading)) == (0 if free else None)


@pytest.mark.parametrize(
    ("reason", "memory", "state"),
    [("not told by dcgm-exporter", 5 * MB, "free"), ("not told by dcgm-exporter", 500 * MB, "busy"), ("not told by dcgm-exporter", None, "unknown"),
     ("permission denied", 5 * MB, "unknown")],
)  # fmt: skip
def test_a_program_that_never_tells_processes_leaves_it_to_the_memory(reason: str, memory: Optional[int], state: str) -> None:
    """A list that should be there and is not leaves the state unknown; an exporter has none."""
    reading = GpuReading(missing={"processes": reason})
    count = states.takers((), states.unlisted(reading))
    assert states.base_state(False, False, count, memory, 0.0, False, LIMITS) == state


def test_a_slice_has_no_marks() -> None:
    assert states.shown_state(BUSY, MigReading(), "up", None, LIMITS).marks == ()


@pytest.mark.parametrize(("told", "state"), [({}, "busy"), ({"numa_node": 1}, "free"), ({"unified_memory": True}, "free")])
def test_memory_that_the_system_manages_makes_no_gpu_busy(told: Dict[str, Any], state: str) -> None:
    row = rows(GpuReading(uuid="GPU-1", utilization_percent=0, memory_used_bytes=1, mig_enabled=False, **told))[0]
    assert states.base_state(row.lost, row.mig, row.processes, 90_000 * MB, 0, row.unified, LIMITS) == state
