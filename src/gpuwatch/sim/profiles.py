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
    vbios_version: str
    sm_clock_max_mhz: int
    memory_clock_max_mhz: int
    slowdown_celsius: int
    fan: bool = False
    nvlinks: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)


def _without(*names: str) -> Mapping[str, str]:
    return dict.fromkeys(names, "not supported")


ACTIVITY = (
    "sm_activity_percent", "memory_activity_percent", "graphics_activity_percent", "tensor_activity_percent",
    "pcie_sent_bytes_per_second", "pcie_received_bytes_per_second", "nvlink_bytes_per_second",
)  # fmt: skip
"""What GPM tells, on Hopper and newer."""
_NO_GPM = _without(*ACTIVITY)
_NO_MIG = _without("mig_enabled", "mig_pending")
_NO_NVLINK = _without("nvlink_active", "nvlink_total")
_SXM = _without("fan_percent")
_GEFORCE = {
    **_NO_GPM, **_NO_MIG, **_NO_NVLINK,
    **_without("serial", "memory_temperature_celsius", "ecc_enabled", "ecc_pending", "ecc_corrected_errors", "ecc_uncorrected_errors"),
    **_without("remapped_rows_corrected", "remapped_rows_uncorrected", "remapped_rows_pending", "remapped_rows_failure"),
}  # fmt: skip
CARDS: Mapping[str, Card] = {
    "h100": Card("NVIDIA H100 80GB HBM3", 81559 * MIB, 551 * MIB, 700.0, 69.0, "9.0", "96.00.A5.00.01", 1980, 2619, 87, nvlinks=18, missing=_SXM),
    "a100": Card(
        "NVIDIA A100-SXM4-80GB", 81920 * MIB, 596 * MIB, 400.0, 52.0, "8.0", "92.00.45.00.05", 1410, 1593, 89, nvlinks=12, missing={**_SXM, **_NO_GPM}
    ),
    "l40s": Card(
        "NVIDIA L40S", 46068 * MIB, 521 * MIB, 350.0, 34.0, "8.9", "95.02.66.00.02", 2520, 9001, 92, missing={**_SXM, **_NO_GPM, **_NO_MIG, **_NO_NVLINK}
    ),
    "rtx4090": Card("NVIDIA GeForce RTX 4090", 24564 * MIB, 350 * MIB, 450.0, 18.0, "8.9", "95.02.3C.40.B8", 3105, 10501, 90, fan=True, missing=_GEFORCE),
    "rtx4080s": Card(
        "NVIDIA GeForce RTX 4080 SUPER", 16376 * MIB, 330 * MIB, 320.0, 12.0, "8.9", "95.03.44.00.B2", 3105, 11501, 90, fan=True, missing=_GEFORCE
    ),
    "rtx2080s": Card(
        "NVIDIA GeForce RTX 2080 SUPER", 8192 * MIB, 220 * MIB, 250.0, 9.0, "7.5", "90.04.7A.40.73", 2100, 7751, 93, fan=True, missing=_GEFORCE
    ),
    "gtx1080ti": Card(
        "NVIDIA GeForce GTX 1080 Ti", 11264 * MIB, 90 * MIB, 250.0, 9.0, "6.1", "86.02.39.00.90", 1911, 5505, 96, fan=True,
        missing={**_GEFORCE, **_without("utilization_percent", "power_watts", "energy_joules")},
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
