"""A simulated machine. The argument is ``PROFILE[:SCENARIO[:SEED[:MIDNIGHT]]]``, e.g. ``8xh100:mixed:7``; the same argument gives the same machine.

Profiles: ``<count>x<card>`` (cards of ``profiles.CARDS``), ``mig`` (an H100 in slices), ``none`` (no GPU).
Scenarios: ``mixed``, ``full``, ``free``, ``idle``, ``lost`` (the last GPU fell off the bus), ``hot`` (GPU 1 is throttled), ``nodriver``.
``life``: jobs that come and go over weeks (``life``), ``life-lost`` and ``life-hot`` with faults around MIDNIGHT, a midnight of the lab in epoch
seconds (``trouble``): the past of such a machine is what it would have shown then. Else only the GPUs are simulated: the sampler fills in the real host.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from typing import Any, List, Optional, Tuple

from gpuwatch import __version__
from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, MigReading, ProcessReading, Snapshot, XidEvent
from gpuwatch.model.source import SourceOptions
from gpuwatch.model.units import MIB
from gpuwatch.sim.life import DAY, Faults, Life, since
from gpuwatch.sim.machine import DRIVER, host_reading, noise
from gpuwatch.sim.profiles import ACTIVITY, CARDS, PEOPLE, PROGRAMS, Card, Job

SCENARIOS = ("mixed", "full", "free", "idle", "lost", "hot", "nodriver", "life", "life-lost", "life-hot")
_LOAD_NOISE = 6.0
_MIG_SLICES = (("3g.40gb", 40448, 1), ("2g.20gb", 20096, 5), ("1g.10gb", 9856, 13))


def make(options: SourceOptions) -> SimSource:
    """A simulated source. Raises UsageError for an argument that names no profile or scenario."""
    profile, _, rest = (options.source_argument or "8xh100").partition(":")
    scenario, _, rest = rest.partition(":")
    seed, _, midnight = rest.partition(":")
    try:
        return SimSource(options, profile, scenario or "mixed", seed or options.name, float(midnight or 0))
    except ValueError:
        raise UsageError(f"the midnight {midnight[:40]!r} is not a time in epoch seconds.") from None


def trouble(scenario: str, midnight_at: float) -> Faults:
    """What goes wrong in a scenario of life: from three days before ``midnight_at`` a GPU is lost, from the day before one is hot."""
    if scenario == "life-lost":
        return Faults(lost=((midnight_at - 2.4 * DAY, math.inf),))
    if scenario == "life-hot":
        days = tuple((midnight_at + (day + 0.46) * DAY, midnight_at + (day + 0.8) * DAY) for day in (-12, -11, -10))
        return Faults(hot=(*days, (midnight_at - 0.55 * DAY, math.inf)))
    return Faults()


class SimSource:
    """Readings of a machine that does not exist, the same at the same time for the same seed."""

    def __init__(self, options: SourceOptions, profile: str, scenario: str, seed: str, midnight_at: float = 0.0) -> None:
        if scenario not in SCENARIOS:
            raise UsageError(f"the scenario {scenario[:40]!r} is not one of {', '.join(SCENARIOS)}.")
        self._options = options
        self._cards, self._mig = parse_profile(profile)
        self._scenario = scenario
        self._seed = f"{seed}/{profile}"
        self._first_at: Optional[float] = None
        self._midnight_at = midnight_at
        self._faults = trouble(scenario, midnight_at)
        self._life = self._make_life() if scenario.startswith("life") else None
        self._jobs: List[Tuple[Job, ...]] = [] if self._life else [self._jobs_of(index) for index in range(len(self._cards))]
        self._facts = [self._facts_of(index, card) for index, card in enumerate(self._cards)]

    def read(self, now: float) -> Snapshot:
        """A snapshot at ``now``; ``host`` is left to the caller but for its driver, unless it is one of a life."""
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
            simulated=True, gpus=gpus, collectors=(collector,), xids=self._xids(now), host=self._host(now),
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is held."""

    def _random(self, *words: Any) -> random.Random:
        return random.Random("/".join(map(str, (self._seed, *words))))

    def _make_life(self) -> Life:
        slices = [replace(self._cards[0], memory_bytes=mib * MIB) for _, mib, _ in _MIG_SLICES] if self._mig else []
        return Life(self._seed, [*self._cards, *slices], self._midnight_at, 1 if self._faults.hot else -1)

    def _host(self, now: float) -> HostReading:
        if self._life is None:
            return HostReading(**DRIVER) if self._cards and self._scenario != "nodriver" else HostReading()
        loads = [job.load_at(now) for index in range(len(self._cards)) for job in self._jobs_at(index, now)]
        return host_reading(self._seed, now, self._midnight_at, loads)

    def _jobs_at(self, index: int, now: float) -> Tuple[Job, ...]:
        if self._life is None:
            return self._jobs[index]
        if self._mig:
            return tuple(job for number in range(len(_MIG_SLICES)) for job in self._life.jobs(1 + number, now)[:1])
        return () if self._lost_at(index, now) else self._life.jobs(index, now)

    def _lost_at(self, index: int, now: float) -> float:
        """Since when a GPU is lost; 0 = it is not."""
        if index != len(self._cards) - 1:
            return 0.0
        return (self._first_at or now) if self._scenario == "lost" else since(self._faults.lost, now)

    def _hot(self, index: int, now: float) -> bool:
        return index == 1 and (self._scenario == "hot" or since(self._faults.hot, now) > 0)

    def _xids(self, now: float) -> Tuple[XidEvent, ...]:
        last = len(self._cards) - 1
        lost_at = self._lost_at(last, now)
        return (XidEvent(lost_at, 79, _bus_id(last), None, "GPU has fallen off the bus."),) if lost_at else ()

    def _jobs_of(self, index: int) -> Tuple[Job, ...]:
        dice = self._random("jobs", index)
        hot = self._scenario == "hot" and index == 1
        kind = {"full": "busy", "free": "free", "idle": "idle"}.get("full" if hot else self._scenario) or dice.choices(
            ("busy", "free", "idle", "shared"), (6, 2, 1, 1)
        )[0]
        if kind == "free" or (self._scenario == "lost" and index == len(self._cards) - 1):
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

    def _facts_of(self, index: int, card: Card) -> Tuple[dict[str, Any], dict[str, Any]]:
        """What never changes: identity, and health."""
        identity = {
            "uuid": _uuid(self._random("uuid", index)), "index": index, "name": card.name, "minor_number": index, "pci_bus_id": _bus_id(index),
            "cuda_capability": card.capability, "vbios_version": card.vbios_version,
            "serial": None if "serial" in card.missing else f"1{self._random('serial', index).randrange(10**12):012}",
        }  # fmt: skip
        return identity, {**self._health(card), "missing": {"numa_node": "not supported", **card.missing}}

    def _gpu(self, index: int, now: float) -> GpuReading:
        card, (identity, health) = self._cards[index], self._facts[index]
        lost_at = self._lost_at(index, now)
        if lost_at:
            return GpuReading(**identity, error="fallen off the bus (Xid 79)", error_since_at=lost_at)
        numbers = {**self._numbers(index, card, now), **health}
        numbers.update(dict.fromkeys(card.missing))
        reading = GpuReading(**{**identity, **numbers})
        return replace(reading, **self._slices(reading, now)) if self._mig and index == 0 else reading

    def _numbers(self, index: int, card: Card, now: float) -> dict[str, Any]:
        jobs = self._jobs_at(index, now)
        nominal = min(100.0, sum(job.load_at(now) for job in jobs))
        fluke = (2 * noise(f"{self._seed}/noise/{index}/{int(now / self._options.interval)}") - 1) * _LOAD_NOISE
        load = max(0.0, min(100.0, nominal + fluke + 4 * math.sin(now / 97 + index))) if nominal else 0.0
        hot = nominal > 0 and self._hot(index, now)
        held = sum(job.memory_bytes for job in jobs)
        watts = card.idle_watts + (card.power_limit_watts * 0.97 - card.idle_watts) * load / 100
        return {
            "memory_used_bytes": held, "memory_reserved_bytes": card.reserved_bytes, "memory_total_bytes": card.memory_bytes,
            "memory_free_bytes": max(0, card.memory_bytes - card.reserved_bytes - held),
            "utilization_percent": round(load), "memory_utilization_percent": round(load * 0.6),
            "encoder_percent": 0, "decoder_percent": 0, **_activity(card, load),
            "temperature_celsius": card.slowdown_celsius + 2 if hot else round(30 + 0.42 * load + index % 4),
            "memory_temperature_celsius": round(34 + 0.45 * load), "temperature_slowdown_celsius": card.slowdown_celsius,
            "temperature_shutdown_celsius": card.slowdown_celsius + 5,
            "power_watts": round(watts, 1), "power_limit_watts": card.power_limit_watts,
            "energy_joules": self._energy(index, card, now, nominal),
            "sm_clock_mhz": round(card.sm_clock_max_mhz * (0.2 + 0.75 * min(1.0, load / 50))), "graphics_clock_mhz": round(card.sm_clock_max_mhz * 0.9),
            "memory_clock_mhz": card.memory_clock_max_mhz, "sm_clock_max_mhz": card.sm_clock_max_mhz,
            "memory_clock_max_mhz": card.memory_clock_max_mhz, "performance_state": 0 if jobs else 8,
            "throttle_mask": 0x40 if hot else 0x4 if load > 95 else 0x1 if not jobs else 0,
            "fan_percent": round(30 + load / 2) if card.fan else None,
            "live_read_at": round(now, 3), "status_read_at": round(now, 3), "health_read_at": round(now, 3), "identity_read_at": round(now, 3),
            "processes": self._processes(index, now),
        }  # fmt: skip

    def _in_slice(self, number: int, total_bytes: int, now: float) -> Optional[ProcessReading]:
        if self._life is None:
            return None if number == len(_MIG_SLICES) - 1 else self._process(_slice_job(number, total_bytes), now, 0, number)
        jobs = self._life.jobs(1 + number, now)
        return self._process(jobs[0], now, 0, number) if jobs else None

    def _health(self, card: Card) -> dict[str, Any]:
        """Of a card without a flaw; what it does not tell is taken away by the caller."""
        generation = {"9": 5, "8": 4}.get(card.capability[0], 3)
        return {
            "pcie_generation": generation, "pcie_generation_max": generation, "pcie_width": 16, "pcie_width_max": 16, "pcie_replays": 0,
            "ecc_enabled": True, "ecc_pending": True, "ecc_corrected_errors": 0, "ecc_uncorrected_errors": 0,
            "remapped_rows_corrected": 0, "remapped_rows_uncorrected": 0, "remapped_rows_pending": False, "remapped_rows_failure": False,
            "nvlink_active": card.nvlinks, "nvlink_total": card.nvlinks,
            "compute_mode": "default", "persistence_enabled": True, "mig_enabled": self._mig, "mig_pending": self._mig,
        }  # fmt: skip

    def _energy(self, index: int, card: Card, now: float, nominal: float) -> int:
        """A counter: it only grows, but where a life's week begins anew."""
        seconds, work = now % 10**7, nominal * (now % 10**7)
        if self._life is not None:
            seconds, work = self._life.work(index, now)
        return round(card.idle_watts * seconds + (card.power_limit_watts * 0.97 - card.idle_watts) / 100 * work)

    def _processes(self, index: int, now: float) -> Tuple[ProcessReading, ...]:
        found = [self._process(job, now, index, number) for number, job in enumerate(self._jobs_at(index, now))]
        return tuple(sorted(found, key=lambda process: -(process.gpu_memory_bytes or 0)))

    def _process(self, job: Job, now: float, *place: int) -> ProcessReading:
        assert self._first_at is not None
        started_at = round(self._first_at - job.age_seconds) if job.started_at is None else round(job.started_at)
        key = f"{self._seed}/process/{place}/{job.started_at}"
        load = job.load_at(now)
        return ProcessReading(
            pid=1000 + int(noise(key) * 4e6), started_at=started_at, user=job.user, name=job.command.split()[0], command=job.command,
            gpu_memory_bytes=job.memory_bytes, sm_percent=round(load), cpu_percent=round(load * 1.1), host_memory_bytes=2**30 + int(noise(key + "m") * 2**34),
        )  # fmt: skip

    def _slices(self, reading: GpuReading, now: float) -> dict[str, Any]:
        """Three slices; but in a life a process runs in the first and the second."""
        made, processes = [], []
        for number, (name, mib, instance) in enumerate(_MIG_SLICES):
            uuid = "MIG" + _uuid(self._random("mig", number))[3:]
            process = self._in_slice(number, mib * MIB, now)
            used = process.gpu_memory_bytes if process is not None else 0
            sm_percent = 0.0 if process is None else round(0.8 * (process.sm_percent or 0), 1)
            made.append(MigReading(uuid, number, name, instance, 0, used, mib * MIB, sm_percent))
            if process is not None:
                processes.append(replace(process, gpu_instance=instance, compute_instance=0))
        used = sum(int(one.memory_used_bytes or 0) for one in made)
        hidden = ("utilization_percent", *ACTIVITY)
        return {
            "mig": tuple(made), "processes": tuple(processes), "memory_used_bytes": used, "memory_free_bytes": (reading.memory_total_bytes or 0) - used,
            **dict.fromkeys(hidden), "missing": {**reading.missing, **dict.fromkeys(hidden, "not supported while MIG is on")},
        }  # fmt: skip


def _activity(card: Card, load: float) -> dict[str, float]:
    """What GPM tells of a GPU at work: SMs, memory and tensor cores are busy for a part of the time with a kernel; links carry data and gradients."""
    shares = (round(load * share, 1) for share in (0.81, 0.36, 1.0, 0.47))
    rates = (round(MIB * (0.3 + rate * load)) for rate in (0.9, 2.6))
    return dict(zip(ACTIVITY, (*shares, *rates, round(MIB * 410 * load) if card.nvlinks else 0)))


def _slice_job(number: int, total_bytes: int) -> Job:
    return Job(PEOPLE[number], "python eval_all.py --split test", int(total_bytes * 0.6), 40.0, 7500.0)


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
    return f"0000:{0x1B + 8 * index:02x}:00.0"
