"""What all readers of foreign programs share: how they are asked, what they hand back, and texts and numbers from strangers. Pure.

What a program does not tell is None, never 0; a GPU without a UUID gets a made-up one that says so. Must never believe a size or a type.
"""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from gpuwatch.model.cluster import Target
from gpuwatch.model.foreign import FOREIGN, NOT_TOLD
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, HostReading, Number, Snapshot, XidEvent
from gpuwatch.model.units import MIB

MOST_TEXT = 200
LARGEST = 2.0**63
"""Numbers from here on are no reading."""
MADE_UP = "no-uuid:"
"""So begins the identity of a GPU whose UUID is not told."""


class Request(NamedTuple):
    """How a program is asked."""

    method: str
    path: str
    body: Optional[bytes] = None
    headers: Mapping[str, str] = {}


class Told(NamedTuple):
    """What an answer said. Raise WireError instead where it cannot be understood."""

    snapshot: Optional[Snapshot]
    """None: there is no reading that may be shown; ``trouble`` says why."""
    memory: Any = None
    """Handed to the next call for the same target, which may compare."""
    trouble: Optional[str] = None
    """Why the readings are old, or why there are none: a sentence with its next step."""
    since_at: Optional[float] = None
    """Since when, by the hub's clock."""


def snapshot_of(
    target: Target, now: float, gpus: Tuple[GpuReading, ...] = (), host: Optional[HostReading] = None, hostname: str = "", *,
    xids: Tuple[XidEvent, ...] = (), interval_seconds: float = 0.0,
) -> Snapshot:
    """A snapshot that names its source as the one part of its collecting; it has no version of gpuwatch.

    ``interval_seconds``: how often the program reads by itself; 0 = whenever it is asked.
    """
    program = FOREIGN[target.scheme].program
    return Snapshot(taken_at=now, hostname=hostname, interval_seconds=interval_seconds, host=host or HostReading(), gpus=gpus, collectors=(CollectorStatus(program),), xids=xids)


def made_up_uuid(target: Target, index: int) -> str:
    """The identity of a GPU whose UUID is not told: the same as long as the target keeps its name and the GPU its number."""
    return f"{MADE_UP}{target.name}:{index}"


def not_told(target: Target, *fields: str) -> Mapping[str, str]:
    """``missing`` for fields that this kind of program never tells."""
    return dict.fromkeys(fields, NOT_TOLD + FOREIGN[target.scheme].program)


def number(value: object, factor: float = 1.0) -> Number:
    """A finite number times ``factor``, whole where both are; None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LARGEST < value < LARGEST or not math.isfinite(value * factor):
        return None
    product = value * factor
    return product if abs(product) < LARGEST else None


def mebibytes(value: object) -> Number:
    """MiB as bytes; None for what is no amount."""
    size = number(value, MIB)
    return None if size is None or size < 0 else round(size)


def text(value: object, most: int = MOST_TEXT) -> Optional[str]:
    """A text, cut; None for an empty one and for all else. Lone surrogates, which no database takes, become question marks."""
    if not isinstance(value, str):
        return None
    return value[:most].encode("utf-8", "replace").decode("utf-8").replace("\x00", "") or None


def index_of(value: object, place: int) -> int:
    """A GPU's number as it is told, else its place in the list."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10000 else place
