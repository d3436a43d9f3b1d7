"""NVIDIA's dcgm-exporter: a page of its, or of one that speaks like it, as readings of GPUs. Pure.

Names, labels and units: its ``etc/default-counters.csv`` and DCGM's list of fields; fields that are not exported by default are read where
somebody added them. Newer names are read where they are another word for the same number. It tells no processes, and nothing of the host
but its name. Must never take a number whose unit is in doubt, nor a slice's memory for the card's.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.snapshot import GpuReading, HostReading, MigReading, Number, XidEvent
from gpuwatch.model.units import MIB
from gpuwatch.wire.exporters import page
from gpuwatch.wire.exporters.page import Page, Series
from gpuwatch.wire.foreign import Request, Told, made_up_uuid, not_told, number, snapshot_of, text


class Field(NamedTuple):
    """Which of our fields a metric fills."""

    field: str
    factor: float = 1.0
    """Our unit in terms of the metric's."""


FIELDS: Mapping[str, Field] = {
    "DCGM_FI_DEV_SM_CLOCK": Field("sm_clock_mhz"),
    "DCGM_FI_DEV_MEM_CLOCK": Field("memory_clock_mhz"),
    "DCGM_FI_DEV_MAX_SM_CLOCK": Field("sm_clock_max_mhz"),
    "DCGM_FI_DEV_MAX_MEM_CLOCK": Field("memory_clock_max_mhz"),
    "DCGM_FI_DEV_MEMORY_TEMP": Field("memory_temperature_celsius"),
    "DCGM_FI_DEV_MEMORY_TEMP_CELSIUS": Field("memory_temperature_celsius"),
    "DCGM_FI_DEV_GPU_TEMP": Field("temperature_celsius"),
    "DCGM_FI_DEV_GPU_TEMP_CELSIUS": Field("temperature_celsius"),
    "DCGM_FI_DEV_SLOWDOWN_TEMP": Field("temperature_slowdown_celsius"),
    "DCGM_FI_DEV_GPU_TEMP_SLOWDOWN_CELSIUS": Field("temperature_slowdown_celsius"),
    "DCGM_FI_DEV_SHUTDOWN_TEMP": Field("temperature_shutdown_celsius"),
    "DCGM_FI_DEV_GPU_TEMP_SHUTDOWN_CELSIUS": Field("temperature_shutdown_celsius"),
    "DCGM_FI_DEV_POWER_USAGE": Field("power_watts"),
    "DCGM_FI_DEV_BOARD_POWER_WATTS": Field("power_watts"),
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": Field("power_limit_watts"),
    "DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS": Field("power_limit_watts"),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Field("energy_joules", 1e-3),
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": Field("pcie_replays"),
    "DCGM_FI_DEV_PCIE_REPLAY_TOTAL": Field("pcie_replays"),
    "DCGM_FI_DEV_PCIE_LINK_GEN": Field("pcie_generation"),
    "DCGM_FI_DEV_PCIE_MAX_LINK_GEN": Field("pcie_generation_max"),
    "DCGM_FI_DEV_PCIE_LINK_WIDTH": Field("pcie_width"),
    "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH": Field("pcie_width_max"),
    "DCGM_FI_DEV_GPU_UTIL": Field("utilization_percent"),
    "DCGM_FI_DEV_MEM_COPY_UTIL": Field("memory_utilization_percent"),
    "DCGM_FI_DEV_ENC_UTIL": Field("encoder_percent"),
    "DCGM_FI_DEV_DEC_UTIL": Field("decoder_percent"),
    "DCGM_FI_DEV_PSTATE": Field("performance_state"),
    "DCGM_FI_DEV_GPU_PSTATE": Field("performance_state"),
    "DCGM_FI_DEV_FAN_SPEED": Field("fan_percent"),
    "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": Field("throttle_mask"),
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": Field("throttle_mask"),
    "DCGM_FI_DEV_FB_FREE": Field("memory_free_bytes", MIB),
    "DCGM_FI_DEV_FB_USED": Field("memory_used_bytes", MIB),
    "DCGM_FI_DEV_FB_RESERVED": Field("memory_reserved_bytes", MIB),
    "DCGM_FI_DEV_FB_TOTAL": Field("memory_total_bytes", MIB),
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": Field("ecc_corrected_errors"),
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": Field("ecc_uncorrected_errors"),
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": Field("remapped_rows_uncorrected"),
    "DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL": Field("remapped_rows_uncorrected"),
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": Field("remapped_rows_corrected"),
    "DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL": Field("remapped_rows_corrected"),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": Field("graphics_activity_percent", 100.0),
    "DCGM_FI_PROF_SM_ACTIVE": Field("sm_activity_percent", 100.0),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": Field("tensor_activity_percent", 100.0),
    "DCGM_FI_PROF_DRAM_ACTIVE": Field("memory_activity_percent", 100.0),
    "DCGM_FI_PROF_PCIE_TX_BYTES": Field("pcie_sent_bytes_per_second"),
    "DCGM_FI_PROF_PCIE_RX_BYTES": Field("pcie_received_bytes_per_second"),
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": Field("nvlink_bytes_per_second", 1e6),
}
"""The numbers. ``DCGM_FI_DEV_GPU_UTIL_RATIO`` is left out: it is percent in some versions and a ratio in others."""
FLAGS: Mapping[str, str] = {
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "remapped_rows_failure",
    "DCGM_FI_DEV_ROW_REMAP_FAILED": "remapped_rows_failure",
    "DCGM_FI_DEV_ROW_REMAP_PENDING": "remapped_rows_pending",
    "DCGM_FI_DEV_PERSISTENCE_MODE": "persistence_enabled",
    "DCGM_FI_DEV_GPU_PERSISTENCE_MODE": "persistence_enabled",
    "DCGM_FI_DEV_ECC_CURRENT": "ecc_enabled",
    "DCGM_FI_DEV_ECC_MODE": "ecc_enabled",
}
"""1 = so, 0 = not."""
XIDS = ("DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_XID_ERROR")
NOT_READ: Mapping[str, str] = {"DCGM_FI_DEV_VGPU_LICENSE_STATUS": "a matter of guests with a virtual GPU, which gpuwatch does not read"}
"""Default counters that fill nothing, and why."""
_WANTED: FrozenSet[str] = frozenset((*FIELDS, *FLAGS, *XIDS))
_SLICE = {"memory_used_bytes": "memory_used_bytes", "graphics_activity_percent": "sm_activity_percent"}
"""What a slice has of its own, and in which of its fields it goes. DCGM's engine activity is all that tells of a slice's load by default."""
_OF_SLICES = (*_SLICE, "memory_free_bytes", "memory_reserved_bytes", "memory_total_bytes", "sm_activity_percent", "tensor_activity_percent", "memory_activity_percent")
MOST_XIDS = 32
_BLANKS = frozenset(float(first + place) for first in (0x7FFFFFF0, 2**47) for place in range(4))
"""DCGM's own words for "no value", "not found", "not supported", "not permitted" (dcgm_structs.h); some exporters pass them on as numbers."""


class Seen(NamedTuple):
    """What is remembered between two pages."""

    codes: Mapping[str, int]
    """The newest Xid of each GPU."""
    events: Tuple[XidEvent, ...]


def request(target: Target, password: str) -> Request:
    """``GET /metrics``, without a password."""
    return page.request()


def read(body: bytes, target: Target, now: float, memory: Optional[Seen] = None) -> Told:
    """What the page tells. Raises WireError for a page of something else."""
    found = page.parse(body, _WANTED)
    if not found and not page.has_prefix(body, "DCGM_"):
        raise WireError("The page has no metric that begins with DCGM_.", "Next: is it dcgm-exporter that listens there?")
    cards = sorted(_cards(found).values(), key=lambda card: card.index)
    seen = _xids(cards, now, memory)
    labels: Mapping[str, str] = cards[0].labels if cards else {}
    host = HostReading(driver_version=text(labels.get("DCGM_FI_DRIVER_VERSION")), missing=not_told(target, "logins"))
    gpus = tuple([_gpu(card, target) for card in cards])
    return Told(snapshot_of(target, now, gpus, host, text(labels.get("Hostname")) or "", xids=seen.events), seen)


class _Card:
    """What the lines of one GPU say."""

    def __init__(self, index: str, place: int) -> None:
        self.labels: Dict[str, str] = {}
        self.index = int(index) if index.isascii() and index.isdigit() and len(index) < 5 else place
        self.values: Dict[str, Any] = {}
        self.flags: Dict[str, Any] = {}
        self.xid: Optional[int] = None
        self.slices: Dict[int, _Slice] = {}


class _Slice:
    """What the lines of one MIG slice say."""

    def __init__(self, profile: Optional[str]) -> None:
        self.profile = profile
        self.values: Dict[str, Any] = {}


def _cards(found: Page) -> Dict[str, _Card]:
    """By UUID, or by number where there is none; lines of single NVLinks are left out. With slices, a card's own numbers stand on their lines too."""
    cards: Dict[str, _Card] = {}
    for name, series in found.items():
        for one in series:
            key = one.labels.get("UUID") or one.labels.get("gpu")
            if key and "link" not in one.labels:
                card = cards.setdefault(key, _Card(one.labels.get("gpu", ""), len(cards)))
                card.labels.update(one.labels)
                _note(card, name, one)
    return cards


def _note(card: _Card, name: str, series: Series) -> None:
    instance = series.labels.get("GPU_I_ID", "")
    if name in XIDS:
        card.xid = int(series.value)
    elif name in FLAGS:
        card.flags[FLAGS[name]] = series.value != 0
    elif instance.isascii() and instance.isdigit() and len(instance) < 5:
        part = card.slices.setdefault(int(instance), _Slice(text(series.labels.get("GPU_I_PROFILE"))))
        field, factor = FIELDS[name]
        values = part.values if field in _OF_SLICES else card.values
        values[field] = _scaled(series.value, factor)
    else:
        field, factor = FIELDS[name]
        card.values[field] = _scaled(series.value, factor)


def _scaled(value: float, factor: float) -> Number:
    scaled = None if value in _BLANKS else number(value, factor)
    return None if scaled is None else round(scaled) if scaled == round(scaled) else round(scaled, 6)


def _gpu(card: _Card, target: Target) -> GpuReading:
    labels, values = card.labels, dict(card.values)
    uuid = text(labels.get("UUID")) or made_up_uuid(target, card.index)
    slices = tuple([_mig(uuid, place, instance, part) for place, (instance, part) in enumerate(sorted(card.slices.items()))])
    parts = [values.get(name) for name in ("memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes")]
    known = [part for part in parts if part is not None]
    if values.get("memory_total_bytes") is None and len(known) == len(parts):
        values["memory_total_bytes"] = sum(known)
    untold = ("processes",) if slices else ("processes", "mig_enabled")
    return GpuReading(
        uuid=uuid, index=card.index, name=text(labels.get("modelName")), pci_bus_id=text(labels.get("pci_bus_id")), mig=slices,
        mig_enabled=True if slices else None, missing=not_told(target, *untold), **values, **card.flags,
    )  # fmt: skip


def _mig(uuid: str, place: int, instance: int, part: _Slice) -> MigReading:
    """Its UUID is not told: the card's with the number of the slice stands for it."""
    values: Dict[str, Any] = {ours: part.values.get(theirs) for theirs, ours in _SLICE.items()}
    known = [part.values.get(name) for name in ("memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes")]
    told = [one for one in known if one is not None]
    total = part.values.get("memory_total_bytes", sum(told) if len(told) == len(known) else None)
    return MigReading(uuid=f"{uuid}:{instance}", index=place, profile=part.profile, gpu_instance=instance, memory_total_bytes=total, **values)


def _xids(cards: Sequence[_Card], now: float, memory: Optional[Seen]) -> Seen:
    """When an Xid came is not told: one that is there at the first look has no time, and only a change is an event, of now."""
    codes = {card.labels.get("UUID", str(card.index)): card.xid for card in cards if card.xid is not None}
    if memory is None:
        return Seen(codes, ())
    new = [card for card in cards if card.xid and memory.codes.get(card.labels.get("UUID", str(card.index)), 0) != card.xid]
    events = [XidEvent(at=now, code=card.xid or 0, pci_bus_id=text(card.labels.get("pci_bus_id")), message=f"told by dcgm-exporter, GPU {card.index}") for card in new]
    return Seen({**memory.codes, **codes}, (*memory.events, *events)[-MOST_XIDS:])
