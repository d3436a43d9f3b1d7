"""A simulated machine. The argument is ``PROFILE[:SCENARIO[:SEED]]``, e.g. ``8xh100:mixed:7``; the same argument gives the same machine.

Profiles: ``<count>x<card>`` (cards of ``profiles.CARDS``), ``mig`` (an H100 in slices), ``none`` (no GPU).
Scenarios: ``mixed``, ``full``, ``free``, ``idle``, ``lost`` (the last GPU fell off the bus), ``hot`` (GPU 1 is throttled), ``nodriver``.
Only the GPUs are simulated: the sampler fills in the real host.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from typing import Any, List, Optional, Tuple

from gpuwatch import __version__
from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, MigReading, ProcessReading, Snapshot, XidEvent
from gpuwatch.model.source import SourceOptions
from gpuwatch.sim.profiles import CARDS, PEOPLE, PROGRAMS, Card, Job

SCENARIOS = ("mixed", "full", "free", "idle", "lost", "hot", "nodriver")
_LOAD_NOISE = 6.0
_MIG_SLICES = (("3g.40gb", 40448, 1), ("2g.20gb", 20096, 5), ("1g.10gb", 9856, 13))


def make(options: SourceOptions) -> SimSource:
    """A simulated source. Raises UsageError for an argument that names no profile or scenario."""
    profile, _, rest = (options.source_argument or "8xh100").partition(":")
    scenario, _, seed = rest.partition(":")
    return SimSource(options, profile, scenario or "mixed", seed or options.name)


class SimSource:
    """Readings of a machine that does not exist, the same at the same time for the same seed."""

    def __init__(self, options: SourceOptions, profile: str, scenario: str, seed: str) -> None:
        if scenario not in SCENARIOS:
            raise UsageError(f"the scenario {scenario[:40]!r} is not one of {', '.join(SCENARIOS)}.")
        self._options = options
        self._cards, self._mig = parse_profile(profile)
        self._scenario = scenario
        self._seed = f"{seed}/{profile}"
        self._first_at: Optional[float] = None
        self._jobs: List[Tuple[Job, ...]] = [self._jobs_of(index) for index in range(len(self._cards))]

    def read(self, now: float) -> Snapshot:
        """A snapshot at ``now``; ``host`` is left to the caller."""
        if self._first_at is None:
            self._first_at = now
        gpus: Tuple[GpuReading, ...] = ()
        collector = CollectorStatus("nvml", duration_seconds=0.001)
        if self._scenario == "nodriver":
            message = "driver 550.90 loaded, library 550.107 installed: reboot, or unload and reload the nvidia modules when the GPUs are free"
            collector = CollectorStatus("nvml", ok=False, message=message, since_at=self._first_at)
        else:
            gpus = tuple(self._gpu(index, now) for index in range(len(self._cards)))
        return Snapshot(
            taken_at=round(now, 3), hostname=self._options.name, version=__version__, interval_seconds=self._options.interval,
            simulated=True, gpus=gpus, collectors=(collector,), xids=self._xids(),
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is held."""

    def _random(self, *words: Any) -> random.Random:
        return random.Random("/".join(map(str, (self._seed, *words))))

    def _lost(self, index: int) -> bool:
        return self._scenario == "lost" and index == len(self._cards) - 1

    def _xids(self) -> Tuple[XidEvent, ...]:
        if self._scenario != "lost" or self._first_at is None:
            return ()
        return (XidEvent(self._first_at, 79, _bus_id(len(self._cards) - 1), None, "GPU has fallen off the bus."),)

    def _jobs_of(self, index: int) -> Tuple[Job, ...]:
        dice = self._random("jobs", index)
        hot = self._scenario == "hot" and index == 1
        kind = {"full": "busy", "free": "free", "idle": "idle"}.get("full" if hot else self._scenario) or dice.choices(
            ("busy", "free", "idle", "shared"), (6, 2, 1, 1)
        )[0]
        if kind == "free" or self._lost(index):
            return ()
        card = self._cards[index]
        count = 3 if kind == "shared" else 1
        return tuple(self._job(dice, card, idle=kind == "idle", share=1 / count) for _ in range(count))

    def _job(self, dice: random.Random, card: Card, *, idle: bool, share: float) -> Job:
        command, memory_share = dice.choice(PROGRAMS)
        return Job(
            user=dice.choice(PEOPLE),
            command="jupyter kernel diffusion-ablation.ipynb" if idle else command,
            memory_bytes=int(card.memory_bytes * memory_share * share * 0.95),
            load=0.0 if idle else dice.uniform(60, 99) * share,
            age_seconds=dice.uniform(600, 3 * 86400),
        )

    def _gpu(self, index: int, now: float) -> GpuReading:
        card = self._cards[index]
        identity = GpuReading(
            uuid=_uuid(self._random("uuid", index)), index=index, name=card.name, minor_number=index, pci_bus_id=_bus_id(index),
            cuda_capability=card.capability,
        )  # fmt: skip
        if self._lost(index):
            return replace(identity, error="fallen off the bus (Xid 79)", error_since_at=self._first_at)
        reading = replace(identity, **self._numbers(index, card, now), **self._health(card))
        if self._mig and index == 0:
            reading = replace(reading, **self._slices(reading))
        unreported: dict[str, Any] = dict.fromkeys(card.missing)
        return replace(reading, missing=dict(card.missing), **unreported)

    def _numbers(self, index: int, card: Card, now: float) -> dict[str, Any]:
        jobs = self._jobs[index]
        tick = int(now / self._options.interval)
        noise = self._random("noise", index, tick).uniform(-_LOAD_NOISE, _LOAD_NOISE)
        wave = 4 * math.sin(now / 97 + index)
        load = max(0.0, min(100.0, sum(job.load for job in jobs) + (noise + wave if any(job.load for job in jobs) else 0)))
        hot = self._scenario == "hot" and index == 1
        held = sum(job.memory_bytes for job in jobs)
        watts = card.idle_watts + (card.power_limit_watts * 0.97 - card.idle_watts) * load / 100
        return {
            "memory_used_bytes": held, "memory_reserved_bytes": card.reserved_bytes, "memory_total_bytes": card.memory_bytes,
            "memory_free_bytes": max(0, card.memory_bytes - card.reserved_bytes - held),
            "utilization_percent": round(load), "memory_utilization_percent": round(load * 0.6),
            "encoder_percent": 0, "decoder_percent": 0,
            "temperature_celsius": card.slowdown_celsius + 2 if hot else round(30 + 0.42 * load + index % 4),
            "memory_temperature_celsius": round(34 + 0.45 * load), "temperature_slowdown_celsius": card.slowdown_celsius,
            "temperature_shutdown_celsius": card.slowdown_celsius + 5,
            "power_watts": round(watts, 1), "power_limit_watts": card.power_limit_watts,
            "energy_joules": round(now % 10**7 * (card.idle_watts + 0.5 * watts)),
            "sm_clock_mhz": round(card.sm_clock_max_mhz * (0.2 + 0.75 * min(1.0, load / 50))), "graphics_clock_mhz": round(card.sm_clock_max_mhz * 0.9),
            "memory_clock_mhz": card.memory_clock_max_mhz, "sm_clock_max_mhz": card.sm_clock_max_mhz,
            "memory_clock_max_mhz": card.memory_clock_max_mhz, "performance_state": 0 if jobs else 8,
            "throttle_mask": 0x40 if hot else 0x4 if load > 95 else 0x1 if not jobs else 0,
            "fan_percent": round(30 + load / 2) if card.fan else None,
            "live_read_at": round(now, 3), "status_read_at": round(now, 3), "health_read_at": round(now, 3), "identity_read_at": round(now, 3),
            "processes": self._processes(index, now),
        }  # fmt: skip

    def _health(self, card: Card) -> dict[str, Any]:
        ecc = "ecc_corrected_errors" not in card.missing
        return {
            "pcie_generation": 4, "pcie_generation_max": 5, "pcie_width": 16, "pcie_width_max": 16,
            "ecc_enabled": True if ecc else None, "ecc_corrected_errors": 0 if ecc else None, "ecc_uncorrected_errors": 0 if ecc else None,
            "remapped_rows_corrected": 0 if ecc else None, "remapped_rows_uncorrected": 0 if ecc else None,
            "nvlink_active": card.nvlinks or None, "nvlink_total": card.nvlinks or None,
            "compute_mode": "default", "persistence_enabled": True, "mig_enabled": self._mig if "H100" in card.name else None,
        }  # fmt: skip

    def _processes(self, index: int, now: float) -> Tuple[ProcessReading, ...]:
        assert self._first_at is not None
        found = []
        for number, job in enumerate(self._jobs[index]):
            dice = self._random("process", index, number)
            found.append(ProcessReading(
                pid=dice.randrange(1000, 4_000_000), started_at=round(self._first_at - job.age_seconds), user=job.user,
                name=job.command.split()[0], command=job.command, gpu_memory_bytes=job.memory_bytes, sm_percent=round(job.load),
                cpu_percent=round(job.load * 1.1), host_memory_bytes=dice.randrange(2**30, 2**34),
            ))  # fmt: skip
        return tuple(sorted(found, key=lambda process: -(process.gpu_memory_bytes or 0)))

    def _slices(self, reading: GpuReading) -> dict[str, Any]:
        """Three slices; a process runs in the first and the second."""
        made, processes = [], []
        for number, (name, mib, instance) in enumerate(_MIG_SLICES):
            total = mib * 1024**2
            used = 0 if number == len(_MIG_SLICES) - 1 else int(total * 0.6)
            uuid = "MIG" + _uuid(self._random("mig", number))[3:]
            made.append(MigReading(uuid, number, name, instance, 0, used, total))
            if used:
                who = PEOPLE[number]
                processes.append(ProcessReading(
                    pid=70000 + number, started_at=(self._first_at or 0) - 7500, user=who, name="python", command="python eval_all.py --split test",
                    gpu_instance=instance, compute_instance=0, gpu_memory_bytes=used,
                ))  # fmt: skip
        used = sum(int(one.memory_used_bytes or 0) for one in made)
        return {
            "mig": tuple(made), "processes": tuple(processes), "mig_enabled": True, "memory_used_bytes": used, "utilization_percent": None,
            "memory_free_bytes": (reading.memory_total_bytes or 0) - used,
            "missing": {**reading.missing, "utilization_percent": "not supported while MIG is on"},
        }  # fmt: skip


def parse_profile(text: str) -> tuple[tuple[Card, ...], bool]:
    """(cards, MIG on). Raises UsageError."""
    if text == "none":
        return (), False
    if text == "mig":
        return (CARDS["h100"],), True
    cards: List[Card] = []
    for part in text.split("+"):
        match = re.fullmatch(r"(\d{1,2})x(\w+)", part, re.ASCII)
        if match is None or match.group(2) not in CARDS:
            raise UsageError(f"the profile {text[:40]!r} is not none, mig or COUNTxCARD with a card of {', '.join(CARDS)}.")
        cards += [CARDS[match.group(2)]] * int(match.group(1))
    return tuple(cards), False


def _uuid(dice: random.Random) -> str:
    digits = f"{dice.getrandbits(128):032x}"
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _bus_id(index: int) -> str:
    return f"00000000:{0x1B + 8 * index:02X}:00.0"
