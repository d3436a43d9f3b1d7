"""A node's numbers as rows of /metrics: labels, and a value for each metric of a table. Pure; must never show a command line.

Labels are made when a node is first looked at, and again when a fact changes: a thousand hosts have 30,000, so they are made by hand. Numbers
go from a node's answer into ours as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from operator import itemgetter
from typing import Any, Callable, NamedTuple, Optional, Union

from gpuwatch.model.cluster import NodeState
from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.render import prometheus_families as metrics
from gpuwatch.render import words
from gpuwatch.render.gaps import texts_of
from gpuwatch.render.json_parts import number
from gpuwatch.render.prometheus_families import NULL, Family
from gpuwatch.render.text_words import Cache

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_FLAGS = {True: "1", False: "0", None: NULL}

Block = tuple[Sequence[str], Sequence[str]]
"""Of a table: the labels of each row, and the values of one row after the other; ``NULL`` = not reported."""
Value = Union[str, float, None]
"""Of one metric in a row: a text that stands as it is, or a number; of a snapshot in places the place of either in a pool of texts."""


class Source:
    """A node's readings, from which its rows are made."""

    def __init__(self, node: NodeState, snapshot: Snapshot, put: Callable[[str], Value]) -> None:
        """``put``: what stands in a row for a text that is no number of the snapshot."""
        self.name, self.tags, self.skew_seconds = node.name, node.target.tags, node.clock_skew_seconds
        self.snapshot, self.put = snapshot, put
        self.host = _common("Hostname", node.name)
        self.gpus = [f"{{{_joined(_common('gpu', str(gpu.index)), _pair('UUID', gpu.uuid))}" for gpu in snapshot.gpus]
        """How the labels of each GPU begin."""


class Table(NamedTuple):
    """Metrics that have the same labels, and where the rows of a node come from. Both give as many, in the same order."""

    families: tuple[Family, ...]
    labels: Callable[[Source], list[str]]
    values: Callable[[Source], Sequence[Sequence[Value]]]

    def rows(self, source: Source) -> tuple[Sequence[str], list[Value]]:
        """Labels, and the values of one row after the other. Prometheus refuses two series of the same labels; a node may name a disk twice."""
        labels, rows = self.labels(source), self.values(source)
        if len(set(labels)) < len(labels):
            first = dict(zip(reversed(labels), reversed(rows)))
            labels, rows = list(dict.fromkeys(labels)), [first[label] for label in dict.fromkeys(labels)]
        return tuple(labels), [value for row in rows for value in row]


class _Pool(dict[str, int]):
    """Texts that stand behind a node's numbers, by their place among both."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._numbers = numbers

    def __missing__(self, text: str) -> int:
        place = self[text] = self._numbers + len(self)
        return place


class Form:
    """The rows of a live node: labels, and where each value is in a pool of the node's numbers, its clock's skew, and the constants."""

    def __init__(self, node: NodeState, tables: Sequence[Table]) -> None:
        assert node.parts is not None
        snapshot = node.parts.places() if PROCESSES in tables else node.parts.outline()
        count = len(node.parts.values)
        self._constants = _Pool(count + 1)
        source = Source(node, snapshot, self._constants.__getitem__)
        source.skew_seconds = count
        rows = [table.rows(source) for table in tables]
        places: list[Any] = [place for _, values in rows for place in values]
        self._get = itemgetter(*places)
        ends = list(accumulate(len(values) for _, values in rows))
        self._slices = [(labels, slice(end - len(values), end)) for (labels, values), end in zip(rows, ends)]
        self.size = 500 + sum(len(label) + 50 for labels, _ in rows for label in labels) + 8 * ends[-1]
        """Bytes that it takes in memory, about."""

    def filled(self, numbers: Sequence[str]) -> list[Block]:
        """With a poll's numbers, as JSON writes them."""
        values = self._get([*numbers, *self._constants])
        return [(labels, values[part]) for labels, part in self._slices]


def form_of(node: NodeState, tables: Sequence[Table], cache: Cache | None) -> Form:
    """The form of a live node, kept as long as its facts hold: making one takes as long as filling it three times."""
    assert node.parts is not None
    make = partial(Form, node, tables)
    return make() if cache is None else cache.get(("prometheus", len(tables), node.name), (node.parts.key, node.target), make)


def filled_blocks(node: NodeState, tables: Sequence[Table], cache: Cache | None) -> list[Block]:
    """The rows of a node with its numbers as texts, a block for each table; none where it has no readings."""
    texts = texts_of(node)
    if texts is not None:
        return form_of(node, tables, cache).filled([*texts, number(node.clock_skew_seconds)])
    if node.snapshot is None:
        return []
    source = Source(node, node.snapshot, str)
    return [(labels, list(map(_text, values))) for labels, values in [table.rows(source) for table in tables]]


def _text(value: Value) -> str:
    return value if isinstance(value, str) else number(value)


def states_block(node: NodeState, gpu_labels: Sequence[str]) -> Block:
    """State of each GPU, which changes without a change of facts. A node by itself knows none."""
    if len(node.states) != len(gpu_labels):
        return (), ()
    return [f'{label[:-2]},state="{own.state}"}} ' for label, (own, _) in zip(gpu_labels, node.states)], ["1"] * len(gpu_labels)


# ---- labels


def _pair(name: str, text: Optional[str]) -> str:
    """``name="text"``; empty where the text is not told."""
    if not text:
        return ""
    text = words.clean(text)
    return f'{name}="{text.translate(_ESCAPES)}"' if '"' in text or "\\" in text or "\n" in text else f'{name}="{text}"'


_common = lru_cache(maxsize=4096)(_pair)
"""Of what many rows have alike."""


def _joined(*pairs: str) -> str:
    return ",".join(filter(None, pairs))


def _end(*pairs: str) -> str:
    """The rest of some labels."""
    rest = _joined(*pairs)
    return f",{rest}}} " if rest else "} "


def labelled(**texts: Optional[str]) -> str:
    """``{name="text"} ``, without what is not told."""
    return f"{{{_joined(*[_common(name, text) for name, text in texts.items()])}}} "


@lru_cache(maxsize=4096)
def full_pci_address(address: Optional[str]) -> str:
    """``0000:1b:00.0`` as dcgm-exporter writes it: ``00000000:1B:00.0``; empty where it is not told."""
    domain, colon, rest = (address or "").partition(":")
    return f"{domain:>08}:{rest}".upper() if colon else ""


def _number(value: Optional[int]) -> Optional[str]:
    return None if value is None else str(value)


def _node_info(source: Source) -> list[str]:
    snapshot, host = source.snapshot, source.snapshot.host
    label = labelled(
        Hostname=source.name, version=snapshot.version, driver_version=host.driver_version, cuda_version=host.cuda_version, os=host.os,
        kernel=host.kernel, architecture=host.architecture, cpu_model=host.cpu_model, tags=",".join(source.tags),
        simulated="true" if snapshot.simulated else None,
    )  # fmt: skip
    return [label]


def _node(source: Source) -> list[str]:
    return [f"{{{source.host}}} "]


def _dcgm(source: Source) -> list[str]:
    host = source.snapshot.host
    end = _end(source.host, *[_common(name, getattr(host, field)) for name, field in metrics.DCGM_LABELS.items()])
    return [f"{head},{_card(gpu.index, gpu.pci_bus_id, gpu.name)}{end}" for head, gpu in zip(source.gpus, source.snapshot.gpus)]


@lru_cache(maxsize=4096)
def _card(index: int, pci_bus_id: Optional[str], name: Optional[str]) -> str:
    return _joined(_pair("pci_bus_id", full_pci_address(pci_bus_id)), _pair("device", f"nvidia{index}"), _pair("modelName", name))


def _gpus(source: Source) -> list[str]:
    end = _end(source.host)
    return [head + end for head in source.gpus]


def _gpu_info(source: Source) -> list[str]:
    return [head + _end(source.host, *_board(gpu)) for head, gpu in zip(source.gpus, source.snapshot.gpus)]


def _board(gpu: GpuReading) -> tuple[str, str, str]:
    slot, kind = _slot(gpu.name, gpu.pci_bus_id, gpu.minor_number), _kind(gpu.vbios_version, gpu.cuda_capability, gpu.compute_mode)
    return slot, _pair("serial", gpu.serial), kind


@lru_cache(maxsize=4096)
def _slot(name: Optional[str], pci_bus_id: Optional[str], minor_number: Optional[int]) -> str:
    return _joined(_pair("model", name), _pair("pci_bus_id", full_pci_address(pci_bus_id)), _pair("minor_number", _number(minor_number)))


@lru_cache(maxsize=4096)
def _kind(vbios_version: Optional[str], cuda_capability: Optional[str], compute_mode: Optional[str]) -> str:
    return _joined(_pair("vbios_version", vbios_version), _pair("cuda_capability", cuda_capability), _pair("compute_mode", compute_mode))


def _mig(source: Source) -> list[str]:
    return [
        head + _end(_pair("mig_uuid", part.uuid), _common("GPU_I_PROFILE", part.profile), _common("GPU_I_ID", _number(part.gpu_instance)), source.host)
        for head, gpu in zip(source.gpus, source.snapshot.gpus)
        for part in gpu.mig
    ]


def _disks(source: Source) -> list[str]:
    return [labelled(mount=disk.mount, device=disk.device, filesystem=disk.filesystem, Hostname=source.name) for disk in source.snapshot.host.disks]


def _networks(source: Source) -> list[str]:
    return [labelled(interface=network.name, Hostname=source.name) for network in source.snapshot.host.networks]


def _collectors(source: Source) -> list[str]:
    return [labelled(collector=collector.name, Hostname=source.name) for collector in source.snapshot.collectors]


def _processes(source: Source) -> list[str]:
    return [_process(head, process, source.host) for head, gpu in zip(source.gpus, source.snapshot.gpus) for process in gpu.processes]


def _process(gpu: str, process: ProcessReading, host: str) -> str:
    """Never the command line: it may hold secrets, and each one would be a series."""
    container = process.container
    return gpu + _end(
        _common("GPU_I_ID", _number(process.gpu_instance)), _pair("pid", str(process.pid)), _common("user", process.user),
        _common("name", process.name), _pair("job", process.job), _pair("container", (container.name or container.id) if container else None),
        _pair("pod", container.pod if container else None), host,
    )  # fmt: skip


# ---- values


class _Pick:
    """The values of a table's metrics, in their order, of a reading."""

    def __init__(self, families: Sequence[Family], *made: str) -> None:
        """``made``: the fields that the caller makes, in the order in which it gives them."""
        self._fields = [family.field for family in families]
        self._made = made
        self._getter = lru_cache(maxsize=64)(self._getter_of)  # a stranger may make new classes: old ones must go

    def __call__(self, source: Source, reading: Any, *made: Value) -> Sequence[Value]:
        """``made``: what the caller made."""
        if isinstance(reading, tuple):
            return self._getter(type(reading), len(reading))((*reading, *made, source.put(NULL)))  # type: ignore[no-any-return]
        told = dict(zip(self._made, made))
        return [told[field] if field in told else getattr(reading, field) for field in self._fields]

    def each(self, things: Callable[[Snapshot], Iterable[Any]]) -> Callable[[Source], Sequence[Sequence[Value]]]:
        """Rows of all these readings."""
        return lambda source: [self(source, one) for one in things(source.snapshot)]

    def _getter_of(self, kind: type, width: int) -> Any:
        """Readings of the hub are tuples whose attributes are their places: looked up once for all of a kind."""
        probe: Any = tuple.__new__(kind, range(width))
        found = [width + self._made.index(field) if field in self._made else getattr(probe, field) for field in self._fields]
        return itemgetter(*[width + len(self._made) if place is None else place for place in found])


_OF_HOST = tuple(family.field for family in metrics.NODE if family.name.startswith("gpuwatch_host_"))
_OF_NODE = ("taken_at", "interval_seconds", "clock_skew_seconds", "gpus")
_GPU_FLAGS = ("unified_memory", "ecc_enabled", "ecc_pending", "remapped_rows_pending", "mig_enabled", "mig_pending", "persistence_enabled")
_pick_dcgm = _Pick(metrics.DCGM, "xids", "remapped_rows_failure")
_pick_gpu = _Pick(metrics.GPU, "error", "processes", *_GPU_FLAGS)
_pick_node = _Pick(metrics.NODE, *_OF_NODE)
_pick_collector = _Pick(metrics.COLLECTOR, "ok")


def _dcgm_values(source: Source) -> Sequence[Sequence[Value]]:
    snapshot, put = source.snapshot, source.put
    newest = {full_pci_address(xid.pci_bus_id): str(xid.code) for xid in snapshot.xids if xid.pci_bus_id}
    none = "0" if any(one.name == "xid" and one.ok for one in snapshot.collectors) else NULL
    return [
        _pick_dcgm(source, gpu, put(newest.get(full_pci_address(gpu.pci_bus_id), none)), put(_FLAGS[gpu.remapped_rows_failure]))
        for gpu in snapshot.gpus
    ]


def _gpu_values(source: Source) -> Sequence[Sequence[Value]]:
    return [_pick_gpu(source, gpu, *map(source.put, _gpu_made(gpu))) for gpu in source.snapshot.gpus]


def _gpu_made(gpu: GpuReading) -> tuple[str, ...]:
    lost = gpu.error is not None
    return (
        "0" if lost else "1", NULL if lost or "processes" in gpu.missing else str(len(gpu.processes)), NULL if lost else _FLAGS[gpu.unified_memory],
        _FLAGS[gpu.ecc_enabled], _FLAGS[gpu.ecc_pending], _FLAGS[gpu.remapped_rows_pending], _FLAGS[gpu.mig_enabled], _FLAGS[gpu.mig_pending],
        _FLAGS[gpu.persistence_enabled],
    )  # fmt: skip


def _node_values(source: Source) -> Sequence[Sequence[Value]]:
    snapshot, put = source.snapshot, source.put
    made = (snapshot.taken_at, put(metrics.written(snapshot.interval_seconds)), source.skew_seconds, put(str(len(snapshot.gpus))))
    return [_pick_node(source, snapshot.host, *[put(NULL) if value is None else value for value in made])]


def _collector_values(source: Source) -> Sequence[Sequence[Value]]:
    return [_pick_collector(source, collector, source.put(_FLAGS[collector.ok])) for collector in source.snapshot.collectors]


def _one(source: Source) -> Sequence[Sequence[Value]]:
    return [(source.put("1"),)]


def _ones(source: Source) -> Sequence[Sequence[Value]]:
    return [(source.put("1"),)] * len(source.gpus)


TABLES = (
    Table((metrics.NODE_INFO,), _node_info, _one),
    Table(metrics.NODE, _node, _node_values),
    Table(metrics.DCGM, _dcgm, _dcgm_values),
    Table((metrics.GPU_INFO,), _gpu_info, _ones),
    Table(metrics.GPU, _gpus, _gpu_values),
    Table(metrics.MIG, _mig, _Pick(metrics.MIG).each(lambda snapshot: [part for gpu in snapshot.gpus for part in gpu.mig])),
    Table(metrics.DISK, _disks, _Pick(metrics.DISK).each(lambda snapshot: snapshot.host.disks)),
    Table(metrics.NETWORK, _networks, _Pick(metrics.NETWORK).each(lambda snapshot: snapshot.host.networks)),
    Table(metrics.COLLECTOR, _collectors, _collector_values),
)
"""In the order of the page."""
GPU_TABLE = 4
PROCESSES = Table(metrics.PROCESS, _processes, _Pick(metrics.PROCESS).each(lambda snapshot: [one for gpu in snapshot.gpus for one in gpu.processes]))
