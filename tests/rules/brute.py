"""The count that a digest must equal, second by second and without any cleverness; and the sum of two digests. For tests."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from gpuwatch.model.series import Bucket, Digest, GpuDay, Minute, ProcessInterval, UserDay
from gpuwatch.model.snapshot import THROTTLE_ALARMS
from gpuwatch.rules.states import base_state, takers


def seconds_of(samples, ends_at):
    """How long each sample stands for."""
    found = []
    for number, sample in enumerate(samples):
        interval = sample.places.interval_seconds
        until = samples[number + 1].at if number + 1 < len(samples) else ends_at
        spent = interval if until is None else until - sample.at
        found.append(interval if spent > 3 * interval else spent)
    return found


def count(samples, snapshots, ends_at, limits, zone):
    """``samples`` have whole seconds; ``snapshots`` are theirs, built."""
    found = Digest()
    lengths = seconds_of(samples, ends_at)
    for number, (sample, snapshot, length) in enumerate(zip(samples, snapshots, lengths)):
        following = snapshots[number + 1] if number + 1 < len(samples) and sample.at + length == samples[number + 1].at else None
        seconds = [int(sample.at) + second for second in range(int(length))]
        _minutes(found.minutes.setdefault("", {}), sample.at, seconds, host_metrics(snapshot.host))
        for gpu in snapshot.gpus:
            if gpu.error is not None:
                for at in seconds:
                    found.gpu_days.setdefault((_day(at, zone), gpu.uuid), GpuDay())
                continue
            _card(found, gpu, sample.at, seconds, following, limits, zone)
    return found


def intervals(samples, snapshots, ends_at):
    """Every process of every GPU that answers, sample by sample."""
    found = []
    for sample, snapshot, length in zip(samples, snapshots, seconds_of(samples, ends_at)):
        for gpu in snapshot.gpus:
            for one in gpu.processes:
                parts = [part.uuid for part in gpu.mig if part.holds(one)]
                _see(found, parts[0] if parts else gpu.uuid, one, sample.at, length, 3 * snapshot.interval_seconds)
    return found


def _see(found, uuid, process, at, length, patience):
    key = (uuid, process.pid, process.started_at)
    known = [one for one in found if (one.gpu_uuid, one.pid, one.process_started_at) == key and at - one.end_at <= patience]
    if not known:
        known = [ProcessInterval(*key, process.user, process.name, process.command, at, at)]
        found += known
    known[-1].end_at = at + length
    known[-1].user = known[-1].user or process.user
    if process.gpu_memory_bytes is not None:
        known[-1].peak_memory_bytes = max(known[-1].peak_memory_bytes or 0, process.gpu_memory_bytes)
        known[-1].memory_byte_seconds += process.gpu_memory_bytes * length
        known[-1].memory_seconds += length


def _day(at, zone):
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d")


def host_metrics(host):
    shares = [100 * disk.used_bytes / disk.total_bytes for disk in host.disks if disk.used_bytes is not None and disk.total_bytes]
    return {
        "cpu_percent": host.cpu_percent, "memory_used_bytes": host.memory_used_bytes, "load_1m": host.load_1m,
        "disk_used_percent": max(shares, default=None),
    }  # fmt: skip


def _card(found, gpu, at, seconds, following, limits, zone):
    metrics = {name: getattr(gpu, name) for name in ("utilization_percent", "memory_used_bytes", "power_watts", "temperature_celsius", "sm_clock_mhz")}
    metrics["throttled_percent"] = None if gpu.throttle_mask is None else 100 * bool(int(gpu.throttle_mask) & THROTTLE_ALARMS)
    _minutes(found.minutes.setdefault(gpu.uuid, {}), at, seconds, metrics)
    joules = _joules(gpu, seconds, following)
    states = []
    weights = _weights(gpu) if gpu.mig_enabled else []
    if gpu.mig_enabled:
        for part, weight in zip(gpu.mig, weights):
            inside = [process for process in gpu.processes if part.holds(process)]
            states.append(_use(found, part.uuid, gpu, part.memory_used_bytes, part.sm_activity_percent, inside, seconds, weight, joules * weight, limits, zone))
            _minutes(found.minutes.setdefault(part.uuid, {}), at, seconds, {"utilization_percent": part.sm_activity_percent, "memory_used_bytes": part.memory_used_bytes})
        for second in seconds:
            found.gpu_days.setdefault((_day(second, zone), gpu.uuid), GpuDay()).energy_joules += joules * (1 - sum(weights)) / len(seconds)
    else:
        states.append(_use(found, gpu.uuid, gpu, gpu.memory_used_bytes, gpu.utilization_percent, gpu.processes, seconds, 1.0, joules, limits, zone))
    held = 100 if "busy" in states else None if "unknown" in states or not states else 0
    _minutes(found.fleet, at, seconds, {**metrics, "held_percent": held})


def _joules(gpu, seconds, following):
    later = next((one.energy_joules for one in following.gpus if one.uuid == gpu.uuid), None) if following is not None else None
    if gpu.energy_joules is not None and later is not None and later >= gpu.energy_joules:
        return later - gpu.energy_joules
    return (gpu.power_watts or 0) * len(seconds)


def _weights(gpu):
    weights = [
        part.memory_total_bytes / gpu.memory_total_bytes if part.memory_total_bytes is not None and gpu.memory_total_bytes else 1 / len(gpu.mig)
        for part in gpu.mig
    ]
    return [weight / max(1, sum(weights)) for weight in weights]


def _use(found, uuid, gpu, memory, work, processes, seconds, weight, joules, limits, zone):
    state = base_state(False, False, takers(processes, gpu.missing.get("processes")), memory, work, gpu.unified_memory, limits)
    users = {one.user for one in processes if one.user and one.kind != "G"} or {one.user for one in processes if one.user}
    for second in seconds:
        day = found.gpu_days.setdefault((_day(second, zone), uuid), GpuDay())
        day.energy_joules += joules / len(seconds)
        if state in ("busy", "free"):
            day.measured_seconds += weight
        if state != "busy":
            continue
        kind = "unknown_seconds" if work is None else "busy_seconds" if work > limits.idle_utilization else "idle_seconds"
        _raise(day, {"held_seconds": weight, kind: weight, "unattributed_seconds": 0 if users else weight, "memory_gib_hours": (memory or 0) / 2**30 / 3600})
        for user in users:
            own = sum(one.gpu_memory_bytes or 0 for one in processes if one.user == user)
            one = found.user_days.setdefault((_day(second, zone), uuid, user), UserDay())
            share = 1 / len(users)
            _raise(one, {"held_seconds": weight * share, kind: weight * share, "memory_gib_hours": own / 2**30 / 3600, "energy_joules": joules * share / len(seconds)})
    return state


def _raise(day, sums):
    for name, value in sums.items():
        setattr(day, name, getattr(day, name) + value)


def _minutes(kept, at, seconds, metrics):
    covered = {}
    for second in seconds:
        covered[second // 60 * 60] = covered.get(second // 60 * 60, 0) + 1
    for start_at, length in covered.items():
        kept.setdefault(start_at, Minute(start_at)).covered_seconds += length
    for start_at in {int(at) // 60 * 60, *(start for start, length in covered.items() if length == 60)}:
        minute = kept.setdefault(start_at, Minute(start_at))
        for name, value in metrics.items():
            if value is not None:
                minute.metrics.setdefault(name, Bucket()).merge(Bucket(1, value, value, value))


def add(one, other, patience):
    """The digest of two adjoining stretches from their digests; ``patience``: seconds after which a process has a new interval."""
    sums = Digest()
    for part in (one, other):
        for uuid, minutes in part.minutes.items():
            _add_minutes(sums.minutes.setdefault(uuid, {}), minutes)
        _add_minutes(sums.fleet, part.fleet)
        for days, kept, kind in ((part.gpu_days, sums.gpu_days, GpuDay), (part.user_days, sums.user_days, UserDay)):
            for key, day in days.items():
                _raise(kept.setdefault(key, kind()), vars(day))
    intervals = [dataclasses.replace(interval) for interval in one.intervals]
    for later in other.intervals:
        known = [
            interval for interval in intervals
            if (interval.gpu_uuid, interval.pid, interval.process_started_at) == (later.gpu_uuid, later.pid, later.process_started_at)
        ]  # fmt: skip
        if known and later.start_at - known[-1].end_at <= patience:
            peaks = [peak for peak in (known[-1].peak_memory_bytes, later.peak_memory_bytes) if peak is not None]
            known[-1].end_at = later.end_at
            known[-1].peak_memory_bytes = max(peaks, default=None)
            known[-1].memory_byte_seconds += later.memory_byte_seconds
            known[-1].memory_seconds += later.memory_seconds
        else:
            intervals.append(dataclasses.replace(later))
    sums.intervals = tuple(intervals)
    return sums


def _add_minutes(kept, minutes):
    for start_at, minute in minutes.items():
        known = kept.setdefault(start_at, Minute(start_at))
        known.covered_seconds += minute.covered_seconds
        for name, bucket in minute.metrics.items():
            known.metrics.setdefault(name, Bucket()).merge(bucket)
