"""The table of NVML calls: which call fills which fields of a GpuReading, and in which group it is read.

A new metric is one field in ``model/snapshot.py`` and one row here. Converters turn a raw value into the field's unit and refuse what no
card can mean (``Missing``): a sentinel never becomes a reading. Nothing here calls NVML itself.
"""

from __future__ import annotations

from ctypes import c_int, c_uint, c_ulonglong
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from gpuwatch.collect import nvml
from gpuwatch.collect.nvml import Ask, Nvml, ProcessList


class Missing(str):
    """Stands in the place of a value: why there is none."""


Convert = Callable[[Any], Tuple[Any, ...]]


class Call(NamedTuple):
    """One NVML call: the fields it fills, how it is prepared for a library, how its raw value becomes theirs."""

    fields: Tuple[str, ...]
    prepare: Callable[[Nvml], Ask]
    convert: Convert


class Prepared(NamedTuple):
    """A call that is ready to be made."""

    fields: Tuple[str, ...]
    ask: Ask
    convert: Convert


def _number(least: float, most: float, unit: str, *, divisor: float = 1.0, digits: int = 0) -> Convert:
    def convert(raw: Any) -> Tuple[Any, ...]:
        value = raw if divisor == 1.0 else round(raw / divisor, digits)
        return (value if least <= value <= most else Missing(f"error: the driver says {value} {unit}"),)

    return convert


_MOST_FANS = 8
_percent = _number(0, 100, "%")
_celsius = _number(-50, 150, "C")
_megahertz = _number(0, 100_000, "MHz")
_watts = _number(0, 20_000, "W", divisor=1000.0, digits=1)
_joules = _number(0, 1e15, "J", divisor=1000.0, digits=1)


def _as_is(raw: Any) -> Tuple[Any, ...]:
    return (raw,)


def _text(raw: Any) -> Tuple[Any, ...]:
    return (raw.strip() or Missing("not reported"),)


def _percents(raw: Any) -> Tuple[Any, ...]:
    return _percent(raw[0]) + _percent(raw[1])


def _first_percent(raw: Any) -> Tuple[Any, ...]:
    return _percent(raw[0])


def memory_values(raw: Any) -> Tuple[Any, ...]:
    """(used, reserved, free, total) of (total, reserved, free, used), without what the driver reserves.

    The documents contradict each other on whether the second version's ``used`` holds the reserved part: where the three parts
    add up to more than the total it does, and it is taken out.
    """
    total, reserved, free, used = raw
    if reserved is None:
        return used, Missing("driver too old: used holds what it reserves"), free, total
    if used + free + reserved > total + reserved // 2:
        used = max(0, used - reserved)
    return used, reserved, free, total


def pci_address(raw: bytes) -> Optional[str]:
    """The address in an nvmlPciInfo_t: behind the numbers, or (before version 3) at the start."""
    address = raw[36:68].split(b"\0")[0] or raw[:16].split(b"\0")[0]
    return short_pci_address(address.decode("ascii", "replace")) if address else None


def _pci_address(raw: Any) -> Tuple[Any, ...]:
    return (pci_address(raw) or Missing("not reported"),)


def short_pci_address(text: str) -> str:
    """``00000000:65:00.0`` as the kernel writes it: ``0000:65:00.0``."""
    domain, _, rest = text.lower().strip().partition(":")
    return f"{domain[-4:] if domain[:-4].strip('0') == '' else domain}:{rest}"


def _fans(library: Nvml) -> Ask:
    """All fans of the card: the fastest counts."""
    ask_count, ask_first = library.number("nvmlDeviceGetNumFans"), library.number("nvmlDeviceGetFanSpeed")
    ask_each = [library.number("nvmlDeviceGetFanSpeed_v2", before=(fan,)) for fan in range(_MOST_FANS)]
    counts: Dict[Any, int] = {}

    def ask(handle: Any) -> Tuple[int, Any]:
        count = counts.get(handle.value)
        if count is None:
            code, count = ask_count(handle)
            count = counts[handle.value] = 0 if code else min(count, _MOST_FANS)
        if count < 2:
            return ask_first(handle)
        results = [ask_one(handle) for ask_one in ask_each[:count]]
        speeds = [speed for code, speed in results if code == nvml.SUCCESS]
        return (nvml.SUCCESS, max(speeds)) if speeds else results[0]

    return ask


def _fields(*wanted: Tuple[int, int]) -> Callable[[Nvml], Ask]:
    """Field values; the card that knows none of them gives the first one's code."""

    def prepare(library: Nvml) -> Ask:
        ask_fields = library.fields(wanted)

        def ask(handle: Any) -> Tuple[int, Any]:
            code, values = ask_fields(handle)
            if code == nvml.SUCCESS and all(value_code for value_code, _ in values):
                return values[0][0], None
            return code, values

        return ask

    return prepare


def _each(*converts: Convert) -> Convert:
    """One converter for each field value."""

    def convert(raw: Any) -> Tuple[Any, ...]:
        return tuple(
            Missing(nvml.reason(code)) if code else one(value)[0] for one, (code, value) in zip(converts, raw)
        )

    return convert


def _memory_celsius(raw: Any) -> Tuple[Any, ...]:
    return _celsius(raw) if raw else (Missing("not reported: the driver says 0"),)


# Field ids of nvml.h: 82 MEMORY_TEMP, 83 TOTAL_ENERGY_CONSUMPTION (mJ); 5 and 6 ECC totals of the card's life; 142 to 145 remapped rows;
# 165 NVLINK_GET_STATE with the link as scope.
_NVLINKS = 36
_HEALTH_FIELDS = ((5, 0), (6, 0), (142, 0), (143, 0), (144, 0), (145, 0), *((165, link) for link in range(_NVLINKS)))


def _health(raw: Any) -> Tuple[Any, ...]:
    """Counters, flags, and the NVLinks: a link that answers belongs to the card, 1 (active) and 2 (asleep) are up."""
    values = [Missing(nvml.reason(code)) if code else value for code, value in raw[:6]]
    flags = [value if isinstance(value, Missing) else bool(value) for value in values[4:6]]
    links = [value for code, value in raw[6:] if code == nvml.SUCCESS]
    none = Missing(nvml.reason(raw[6][0]))
    return (*values[:4], *flags, sum(link > 0 for link in links) if links else none, len(links) or none)


def _mode(words: Dict[int, str]) -> Convert:
    return lambda raw: (words.get(raw) or Missing(f"error: the driver says mode {raw}"),)


def _flag(raw: Any) -> Tuple[Any, ...]:
    return (bool(raw),)


def _flags(raw: Any) -> Tuple[Any, ...]:
    return bool(raw[0]), bool(raw[1])


def _performance_state(raw: Any) -> Tuple[Any, ...]:
    return (raw if 0 <= raw <= 15 else Missing("not reported: the driver says unknown"),)


def _lanes(raw: Any) -> Tuple[Any, ...]:
    return (raw or Missing("not reported: the driver says 0"),)


def _node(raw: Any) -> Tuple[Any, ...]:
    return (raw if raw < 2**16 else Missing("not reported: the driver says none"),)


def _capability(raw: Any) -> Tuple[Any, ...]:
    return (f"{raw[0]}.{raw[1]}",)


def _one(field: str, convert: Convert, *names: str, kind: Any = c_uint, before: Sequence[Any] = ()) -> Call:
    return Call((field,), lambda library: library.number(*names, kind=kind, before=before), convert)


def _pair(field: str, convert: Convert, name: str, kind: Any = c_uint) -> Call:
    return Call((field,), lambda library: library.pair(name, kind), convert)


def _words(field: str, name: str, size: int = 96) -> Call:
    return Call((field,), lambda library: library.text(name, size), _text)


MEMORY = Call(
    ("memory_used_bytes", "memory_reserved_bytes", "memory_free_bytes", "memory_total_bytes"), lambda library: library.memory(), memory_values
)

CALLS: Dict[str, Tuple[Call, ...]] = {
    "live": (
        MEMORY,
        Call(("utilization_percent", "memory_utilization_percent"), lambda library: library.utilization_rates(), _percents),
        _one("temperature_celsius", _celsius, "nvmlDeviceGetTemperature", kind=c_int, before=(0,)),
        _one("power_watts", _watts, "nvmlDeviceGetPowerUsage"),
        _one(
            "throttle_mask", _as_is, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", kind=c_ulonglong
        ),
    ),
    "status": (
        _pair("encoder_percent", _first_percent, "nvmlDeviceGetEncoderUtilization"),
        _pair("decoder_percent", _first_percent, "nvmlDeviceGetDecoderUtilization"),
        Call(("memory_temperature_celsius", "energy_joules"), _fields((82, 0), (83, 0)), _each(_memory_celsius, _joules)),
        _one("graphics_clock_mhz", _megahertz, "nvmlDeviceGetClockInfo", before=(0,)),
        _one("sm_clock_mhz", _megahertz, "nvmlDeviceGetClockInfo", before=(1,)),
        _one("memory_clock_mhz", _megahertz, "nvmlDeviceGetClockInfo", before=(2,)),
        _one("performance_state", _performance_state, "nvmlDeviceGetPerformanceState"),
        Call(("fan_percent",), _fans, _number(0, 200, "%")),
    ),
    "health": (
        _one("power_limit_watts", _watts, "nvmlDeviceGetEnforcedPowerLimit"),
        _one("pcie_generation", _lanes, "nvmlDeviceGetCurrPcieLinkGeneration"),
        _one("pcie_width", _lanes, "nvmlDeviceGetCurrPcieLinkWidth"),
        _one("pcie_replays", _as_is, "nvmlDeviceGetPcieReplayCounter"),
        Call(("ecc_enabled", "ecc_pending"), lambda library: library.pair("nvmlDeviceGetEccMode"), _flags),
        Call(
            (
                "ecc_corrected_errors", "ecc_uncorrected_errors", "remapped_rows_corrected", "remapped_rows_uncorrected",
                "remapped_rows_pending", "remapped_rows_failure", "nvlink_active", "nvlink_total",
            ),
            _fields(*_HEALTH_FIELDS),
            _health,
        ),
        Call(("mig_enabled", "mig_pending"), lambda library: library.pair("nvmlDeviceGetMigMode"), _flags),
        _one(
            "compute_mode", _mode({0: "default", 1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}), "nvmlDeviceGetComputeMode"
        ),
        _one("persistence_enabled", _flag, "nvmlDeviceGetPersistenceMode"),
    ),
    "identity": (
        _words("name", "nvmlDeviceGetName"),
        _words("serial", "nvmlDeviceGetSerial", 30),
        _words("vbios_version", "nvmlDeviceGetVbiosVersion", 32),
        _one("minor_number", _as_is, "nvmlDeviceGetMinorNumber"),
        _one("numa_node", _node, "nvmlDeviceGetNumaNodeId"),
        Call(("pci_bus_id",), lambda library: library.pci_info(), _pci_address),
        _pair("cuda_capability", _capability, "nvmlDeviceGetCudaComputeCapability", c_int),
        _one("temperature_shutdown_celsius", _celsius, "nvmlDeviceGetTemperatureThreshold", before=(0,)),
        _one("temperature_slowdown_celsius", _celsius, "nvmlDeviceGetTemperatureThreshold", before=(1,)),
        _one("sm_clock_max_mhz", _megahertz, "nvmlDeviceGetMaxClockInfo", before=(1,)),
        _one("memory_clock_max_mhz", _megahertz, "nvmlDeviceGetMaxClockInfo", before=(2,)),
        _one("pcie_generation_max", _lanes, "nvmlDeviceGetMaxPcieLinkGeneration"),
        _one("pcie_width_max", _lanes, "nvmlDeviceGetMaxPcieLinkWidth"),
    ),
}  # fmt: skip
"""Group -> calls. ``live`` is read at each sample; the others when they would grow older than their age before the next one."""

LISTS = (("C", "Compute"), ("G", "Graphics"), ("M", "MPSCompute"))
"""Kind of process -> NVML's name of its list."""


class Calls:
    """Everything that is asked of a device, prepared once for the loaded library and shared by all GPUs."""

    def __init__(self, library: Nvml) -> None:
        self.functions = library
        self.groups = {
            group: tuple(Prepared(call.fields, call.prepare(library), call.convert) for call in calls) for group, calls in CALLS.items()
        }
        self.memory = library.memory()
        self.pci_info = library.pci_info()
        self.uuid = library.text("nvmlDeviceGetUUID")
        self.name = library.text("nvmlDeviceGetName")
        self.gpu_instance = library.number("nvmlDeviceGetGpuInstanceId")
        self.compute_instance = library.number("nvmlDeviceGetComputeInstanceId")
        self.most_slices = library.number("nvmlDeviceGetMaxMigDeviceCount")
        self.process_utilization = library.process_utilization()
        self.process_lists = tuple((kind, ProcessList(library, name)) for kind, name in LISTS)
