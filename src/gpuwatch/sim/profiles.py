"""What simulated machines are made of: cards, people, programs. Figures of the cards are those of real ones (nvidia-smi -q)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from gpuwatch.model.units import GIB, MIB


@dataclass(frozen=True)
class Card:
    """A GPU model. ``missing``: fields that it does not report, with the reason."""

    name: str
    memory_bytes: int
    reserved_bytes: int
    power_limit_watts: float
    idle_watts: float
    capability: str
    sm_clock_max_mhz: int
    memory_clock_max_mhz: int
    slowdown_celsius: int
    fan: bool = False
    nvlinks: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)


_GEFORCE = {
    "memory_temperature_celsius": "not supported",
    "ecc_corrected_errors": "not supported",
    "ecc_uncorrected_errors": "not supported",
    "sm_activity_percent": "not supported",
    "memory_activity_percent": "not supported",
}
CARDS: Mapping[str, Card] = {
    "h100": Card("NVIDIA H100 80GB HBM3", 81559 * MIB, 551 * MIB, 700.0, 69.0, "9.0", 1980, 2619, 87, nvlinks=18, missing={"fan_percent": "not supported"}),
    "a100": Card("NVIDIA A100-SXM4-80GB", 81920 * MIB, 596 * MIB, 400.0, 52.0, "8.0", 1410, 1593, 89, nvlinks=12, missing={"fan_percent": "not supported"}),
    "l40s": Card("NVIDIA L40S", 46068 * MIB, 521 * MIB, 350.0, 34.0, "8.9", 2520, 9001, 92, missing={"fan_percent": "not supported"}),
    "rtx4090": Card("NVIDIA GeForce RTX 4090", 24564 * MIB, 350 * MIB, 450.0, 18.0, "8.9", 3105, 10501, 90, fan=True, missing=_GEFORCE),
    "rtx4080s": Card("NVIDIA GeForce RTX 4080 SUPER", 16376 * MIB, 330 * MIB, 320.0, 12.0, "8.9", 3105, 11501, 90, fan=True, missing=_GEFORCE),
    "rtx2080s": Card("NVIDIA GeForce RTX 2080 SUPER", 8192 * MIB, 220 * MIB, 250.0, 9.0, "7.5", 2100, 7751, 93, fan=True, missing=_GEFORCE),
    "gtx1080ti": Card(
        "NVIDIA GeForce GTX 1080 Ti", 11264 * MIB, 90 * MIB, 250.0, 9.0, "6.1", 1911, 5505, 96, fan=True,
        missing={**_GEFORCE, "utilization_percent": "not supported", "power_watts": "not supported", "energy_joules": "not supported"},
    ),
}  # fmt: skip

PEOPLE: Tuple[str, ...] = ("lisa", "chen.w", "sofia", "mkato", "a.novak", "i.petrov", "student7", "root")
PROGRAMS: Tuple[Tuple[str, float], ...] = (
    ("python train.py --config configs/vitdet_huge_coco_1536.yaml", 0.92),
    ("python finetune_llama3_8b.py --lora-r 64 --data /data/sft", 0.97),
    ("python -m torch.distributed.run main.py --stage 2 --resume /data/ckpt", 0.88),
    ("python3 run_nerf.py --scene bicycle --iters 200000", 0.55),
    ("gmx mdrun -deffnm npt_protein_membrane", 0.12),
    ("python sdxl_dreambooth.py --train_batch_size 4", 0.7),
)
"""(command line, share of the card's memory it takes)"""


@dataclass(frozen=True)
class Job:
    """What runs on a simulated GPU. ``load`` in percent; 0 with memory held is idle. Times in epoch seconds."""

    user: str
    command: str
    memory_bytes: int
    load: float
    age_seconds: float
    """How old it is when the simulation begins, unless ``started_at`` says when it started."""
    started_at: Optional[float] = None
    busy_until: Optional[float] = None
    """From then on it holds its memory without work; None = it works for as long as it runs."""

    def load_at(self, now: float) -> float:
        """Percent at a moment."""
        return self.load if self.busy_until is None or now < self.busy_until else 0.0


HALF_GIB = GIB // 2
