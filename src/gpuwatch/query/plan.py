"""Where the hub looks in the values of one shape, worked out once per shape, so that a poll costs no dataclasses.
"""

from __future__ import annotations

from itertools import count
from operator import itemgetter
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.model.cluster import GpuState
from gpuwatch.model.snapshot import CollectorStatus, GpuReading, ProcessReading, XidEvent
from gpuwatch.rules.limits import Limits
from gpuwatch.rules.permissions import STRANGER, visible_command
from gpuwatch.rules.rows import Row, place, rows
from gpuwatch.wire.flat import Builder, Shape

_KEYS = count(1)
States = Tuple[Tuple[GpuState, Tuple[GpuState, ...]], ...]
"""(state of a GPU, states of its slices), for each GPU."""
READ_FOR = ("lost", "unknown")
"""States whose reason stands in the reading."""
DRIVER_COLLECTORS = ("nvml", "driver")


class Gauges(NamedTuple):
    """Where the numbers of a GPU stand that may put a mark on it."""

    temperature_at: Optional[int]
    slowdown_at: Optional[int]
    throttle_at: Optional[int]
    slices: int
    """MIG slices whose rows follow the GPU's."""


class _Calm(NamedTuple):
    """The same numbers of all GPUs in one go, where every GPU has them."""

    gpus: int
    get: Callable[[Sequence[Any]], Sequence[Any]]
    """Their masks, then their temperatures, then from where they slow down."""

    @classmethod
    def of(cls, gauges: Sequence[Gauges]) -> Optional[_Calm]:
        """None where some GPU lacks one, or there are fewer than two."""
        places = [one[place] for place in (2, 0, 1) for one in gauges]
        return None if len(gauges) < 2 or None in places else cls(len(gauges), itemgetter(*places))

    def holds(self, values: Sequence[Any], limits: Limits) -> bool:
        """No clock is held back, and each GPU is cooler than any limit of any of them."""
        count, found = self.gpus, self.get(values)
        heat = found[count:]
        if any(found[:count]) or None in heat:
            return False
        lowest = min(heat[count:])
        return lowest > limits.hot_margin_celsius and bool(max(heat[:count]) < lowest - limits.hot_margin_celsius)


class Plan:
    """What the hub needs of a shape at each poll."""

    __slots__ = (
        "_calm", "_cut", "_plain", "buses", "errors", "gauges", "hostname", "interval_seconds", "key", "rows", "shape", "simulated", "taken_at_at", "trouble", "warning", "xids",
    )  # fmt: skip

    def __init__(self, shape: Shape) -> None:
        """Raises nothing for a shape that ``Shape.parse`` accepted."""
        places = shape.places()
        self.shape = shape
        self._cut: Optional[Builder] = None
        self._plain: Tuple[Any, Optional[States]] = (None, None)
        self.taken_at_at: Optional[int] = place(places.taken_at)
        self.interval_seconds = _interval(places.interval_seconds)
        self.hostname: str = places.hostname
        self.simulated: bool = places.simulated
        self.xids: Tuple[XidEvent, ...] = places.xids
        self.errors: Dict[str, Optional[str]] = {gpu.uuid: gpu.error for gpu in places.gpus}
        self.buses: Dict[str, Optional[str]] = {gpu.uuid: gpu.pci_bus_id for gpu in places.gpus}
        self.trouble, self.warning = driver_trouble(places.collectors, bool(places.gpus))
        self.key = next(_KEYS)
        """Another plan has another one, for ever."""
        self.gauges: Tuple[Gauges, ...] = tuple(map(_gauges, places.gpus))
        self._calm = _Calm.of(self.gauges)
        self.rows: Tuple[Row, ...] = tuple(row for gpu in places.gpus for row in rows(gpu))

    def taken_at(self, values: Sequence[Any]) -> Optional[float]:
        """When the sample was taken, by the node's clock; None = not said."""
        return None if self.taken_at_at is None else values[self.taken_at_at]

    def plain_states(self, settled: Tuple[GpuState, ...]) -> Optional[States]:
        """``settled`` of an up node as views show it, where no reading need be looked at but for marks; the same object for the same states."""
        if self._plain[0] is not settled:
            plain = not any(gauges.slices for gauges in self.gauges) and not any(one.state in READ_FOR for one in settled)
            self._plain = settled, tuple([(one, ()) for one in settled]) if plain else None
        return self._plain[1]

    def is_calm(self, values: Sequence[Any], limits: Limits) -> bool:
        """No GPU can have a mark: most of them, at most looks. False where it would take a closer look to tell."""
        return self._calm is not None and self._calm.holds(values, limits)

    def shape_for(self, audience: str) -> Builder:
        """The shape with the commands that ``audience`` may see: cut once per shape, not at each look."""
        if audience != STRANGER:
            return self.shape
        if self._cut is None:
            self._cut = self.shape.with_commands(_cut_command)
        return self._cut


def _cut_command(process: ProcessReading) -> Optional[str]:
    return None if process.command is None else visible_command(process, STRANGER) or None


def driver_trouble(collectors: Sequence[CollectorStatus], has_gpus: bool) -> Tuple[Optional[str], Optional[str]]:
    """(why the driver gave no GPUs at all, what else is wrong with it); None = nothing. A machine that simply has none is well."""
    said = [one.message or "The driver does not answer." for one in collectors if one.name in DRIVER_COLLECTORS and not one.ok]
    if not said:
        return None, None
    return (None, said[0]) if has_gpus else (said[0], None)


def _interval(seconds: float) -> float:
    return min(max(float(seconds), 0.1), 3600.0)


def _gauges(gpu: GpuReading) -> Gauges:
    return Gauges(place(gpu.temperature_celsius), place(gpu.temperature_slowdown_celsius), place(gpu.throttle_mask), len(gpu.mig))
