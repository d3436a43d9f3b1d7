"""A hub's cluster, or one node's snapshot, as Prometheus scrapes it: dcgm-exporter's names and labels, and ``gpuwatch_*`` for the rest. Pure.

What is not reported has no line, never 0; of a node without fresh readings there is ``gpuwatch_node_up 0`` and not one old number. A metric's
lines must stand together, so a node's numbers are collected by column: a live node's labels are made once, as long as no fact changes, and
its numbers go from its answer into ours as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, repeat
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, Optional, Union

import gpuwatch
from gpuwatch.model.cluster import ClusterNow, NodeState, Target
from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.render import prometheus_families as metrics
from gpuwatch.render import words
from gpuwatch.render.gaps import facts_of, texts_of
from gpuwatch.render.json_parts import number
from gpuwatch.render.prometheus_families import NULL, Family
from gpuwatch.render.text_words import Cache

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
NODES_A_PIECE = 16
NONE_REFUSED: Mapping[str, int] = MappingProxyType({})
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

Value = Union[str, float, None]
"""Of one line: a text that stands as it is, or a number, or (of a snapshot in places) the number's place; None = not reported."""
Row = tuple[str, Sequence[Value]]
"""Labels, and a value for each metric of the table."""


class Table(NamedTuple):
    """Metrics that have the same labels, and where their rows come from."""

    families: tuple[Family, ...]
    rows: Callable[[NodeState, Snapshot], Iterable[Row]]


def wants_openmetrics(accept: str) -> bool:
    """What a scraper's Accept header asks for; Prometheus names OpenMetrics first."""
    return "application/openmetrics-text" in accept


def cluster_metrics(
    cluster: ClusterNow, *, processes: bool = False, openmetrics: bool = False, cache: Cache | None = None, refused: Mapping[str, int] = NONE_REFUSED
) -> Iterator[str]:
    """All metrics of all nodes, in pieces. ``processes``: also a series for each process on each GPU; ``refused``: by reason, of who answers."""
    tables = TABLES + ((_PROCESSES,) if processes else ())
    columns = [_Columns(table.families) for table in tables]
    states = _Columns((metrics.GPU_STATE,))
    for place, node in enumerate(cluster.nodes):
        if place % NODES_A_PIECE == NODES_A_PIECE - 1:
            yield ""  # whoever is in no hurry lets others come in
        if node.status == "up":
            blocks = filled_blocks(node, tables, cache)
            for one, block in zip(columns, blocks):
                one.add(*block)
            if blocks:
                states.add(*states_block(node, blocks[GPU_TABLE][0]))
    yield _one(metrics.BUILD, _labels(version=gpuwatch.__version__), openmetrics)
    if refused:
        told = [f"{metrics.REFUSED.name}{_labels(reason=reason)}{count}\n" for reason, count in refused.items()]
        yield metrics.REFUSED.head(openmetrics) + "".join(told)
    yield metrics.NODE_UP.head(openmetrics) + "".join([_up(node.name, node.status == "up") for node in cluster.nodes])
    for one in (*columns, states):
        yield from one.pieces(openmetrics)
    if openmetrics:
        yield "# EOF\n"


def node_metrics(
    snapshot: Optional[Snapshot], hostname: str, *, processes: bool = False, openmetrics: bool = False, refused: Mapping[str, int] = NONE_REFUSED
) -> str:
    """All metrics of this machine; ``snapshot`` None = there is no fresh one."""
    target = Target(hostname, "", 0)
    node = NodeState(target, "", "stale" if snapshot is None else "up", None, snapshot=snapshot)
    return "".join(cluster_metrics(ClusterNow(0.0, (node,)), processes=processes, openmetrics=openmetrics, refused=refused))


def _up(name: str, up: bool) -> str:
    return f"{metrics.NODE_UP.name}{_labels(Hostname=name)}{int(up)}\n"


def _one(family: Family, labels: str, openmetrics: bool) -> str:
    return f"{family.head(openmetrics)}{family.name}{labels}1\n"


class _Columns:
    """The rows of a table, over all nodes."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._families = families
        self._labels: list[str] = []
        self._values: list[str] = []

    def add(self, labels: Sequence[str], values: Sequence[str]) -> None:
        """The rows of one more node."""
        self._labels += labels
        self._values += values

    def pieces(self, openmetrics: bool) -> Iterator[str]:
        """Head and lines of each metric that has some."""
        for place, family in enumerate(self._families):
            labels, values = self._labels, self._values[place :: len(self._families)]
            if NULL in values:
                told = [(label, value) for label, value in zip(labels, values) if value != NULL]
                labels, values = [label for label, _ in told], [value for _, value in told]
            if values:
                yield family.head(openmetrics)
                yield _lines(family, labels, values)


def _lines(family: Family, labels: Sequence[str], values: Sequence[str]) -> str:
    told = values if family.convert is None else map(family.convert, values)
    return "".join(chain.from_iterable(zip(repeat(family.name), labels, told, repeat("\n"))))


# ---- a node's rows: labels once, numbers at each poll

Block = tuple[Sequence[str], Sequence[Any]]
"""The labels of a table's rows, and the values of one row after the other."""


def _blocks(node: NodeState, snapshot: Snapshot, tables: Sequence[Table]) -> list[Block]:
    blocks: list[Block] = []
    for table in tables:
        rows = _distinct(table.rows(node, snapshot))
        values = [value for _, row in rows for value in row]
        blocks.append((tuple([labels for labels, _ in rows]), values))
    return blocks


class Form:
    """The rows of a live node: labels, and where each value is in a pool of the node's numbers, its clock's skew, and the constants."""

    def __init__(self, node: NodeState, tables: Sequence[Table]) -> None:
        assert node.parts is not None
        count = len(node.parts.values)
        placed = NodeState(node.target, node.machine_id, node.status, None, clock_skew_seconds=count)
        blocks = _blocks(placed, node.parts.places(), tables)
        self._constants: dict[str, int] = {}
        self._get = itemgetter(
            *[value if type(value) is int else self._place(value, count + 1) for _, values in blocks for value in values]
        )
        ends = list(accumulate(len(values) for _, values in blocks))
        self._slices = [(labels, slice(end - len(values), end)) for (labels, values), end in zip(blocks, ends)]
        self.size = 500 + sum(len(label) + 50 for labels, _ in blocks for label in labels) + 8 * ends[-1]
        """Bytes that it takes in memory, about."""

    def _place(self, value: Value, numbers: int) -> int:
        if isinstance(value, (int, float)):
            return int(value)
        return self._constants.setdefault(NULL if value is None else value, numbers + len(self._constants))

    def filled(self, numbers: Sequence[str]) -> list[Block]:
        """With a poll's numbers, as JSON writes them."""
        values = self._get([*numbers, *self._constants])
        return [(labels, values[part]) for labels, part in self._slices]


def filled_blocks(node: NodeState, tables: Sequence[Table], cache: Cache | None) -> list[Block]:
    """The rows of a node with its numbers as texts, a block for each table; none where it has no readings."""
    texts = texts_of(node)
    if texts is not None:
        key = ("prometheus", len(tables), node.name)
        form = Form(node, tables) if cache is None else cache.get(key, facts_of(node), lambda: Form(node, tables))
        return form.filled([*texts, number(node.clock_skew_seconds)])
    if node.snapshot is None:
        return []
    return [(labels, list(map(_text, values))) for labels, values in _blocks(node, node.snapshot, tables)]


def _text(value: Value) -> str:
    return value if isinstance(value, str) else number(value)


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Prometheus refuses two series of the same labels; a node may name a disk twice."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row[0], row)
    return list(first.values())


def states_block(node: NodeState, gpu_labels: Sequence[str]) -> Block:
    """State of each GPU, which changes without a change of facts. A node by itself knows none."""
    if len(node.states) != len(gpu_labels):
        return (), ()
    labels = [f'{label[:-2]},state="{own.state}"}} ' for label, (own, _) in zip(gpu_labels, node.states)]
    return labels, ["1"] * len(labels)


# ---- labels


def _labels(**texts: Optional[str]) -> str:
    """``{name="text"} ``, without what is not told."""
    told = [f'{name}="{_escaped(words.clean(text))}"' for name, text in texts.items() if text]
    return f"{{{','.join(told)}}} "


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES) if '"' in text or "\\" in text or "\n" in text else text


def full_pci_address(address: Optional[str]) -> str:
    """``0000:1b:00.0`` as dcgm-exporter writes it: ``00000000:1B:00.0``; empty where it is not told."""
    domain, colon, rest = (address or "").partition(":")
    return f"{domain:>08}:{rest}".upper() if colon else ""


def _dcgm_labels(node: NodeState, snapshot: Snapshot, gpu: GpuReading) -> str:
    known = {name: getattr(snapshot.host, field) for name, field in metrics.DCGM_LABELS.items()}
    return _labels(
        gpu=str(gpu.index), UUID=gpu.uuid, pci_bus_id=full_pci_address(gpu.pci_bus_id), device=f"nvidia{gpu.index}", modelName=gpu.name,
        Hostname=node.name, **known,
    )  # fmt: skip


def _gpu_labels(node: NodeState, gpu: GpuReading) -> str:
    return _labels(gpu=str(gpu.index), UUID=gpu.uuid, Hostname=node.name)


# ---- rows of each table


def _flag(value: Optional[bool]) -> Optional[str]:
    return None if value is None else str(int(value))


def _values(families: Sequence[Family], made: Sequence[str] = ()) -> Callable[[Any], dict[str, Any]]:
    """The fields of these metrics by name, but for those that are ``made`` from others."""
    names = [family.field for family in families if family.field not in made]
    get = attrgetter(*names)
    if len(names) == 1:
        return lambda reading: {names[0]: get(reading)}
    return lambda reading: dict(zip(names, get(reading)))


def _row(families: Sequence[Family], labels: str, values: dict[str, Any]) -> Row:
    found = [values[family.field] for family in families]
    return labels, [_flag(value) if isinstance(value, bool) else value for value in found]


_dcgm_values = _values(metrics.DCGM, ("xids",))
_gpu_values = _values(metrics.GPU, ("error", "processes"))
_HOST_FIELDS = tuple(family for family in metrics.NODE if family.name.startswith("gpuwatch_host_"))
_host_values = _values(_HOST_FIELDS)


def _dcgm(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    newest = {full_pci_address(xid.pci_bus_id): str(xid.code) for xid in snapshot.xids if xid.pci_bus_id}
    none = "0" if any(one.name == "xid" and one.ok for one in snapshot.collectors) else None
    for gpu in snapshot.gpus:
        xid = newest.get(full_pci_address(gpu.pci_bus_id), none)
        yield _row(metrics.DCGM, _dcgm_labels(node, snapshot, gpu), {**_dcgm_values(gpu), "xids": xid})


def _gpus(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    for gpu in snapshot.gpus:
        lost = gpu.error is not None
        made = {"error": _flag(not lost), "processes": None if lost or "processes" in gpu.missing else str(len(gpu.processes))}
        flags = {name: None for name in ("unified_memory",) if lost}
        yield _row(metrics.GPU, _gpu_labels(node, gpu), {**_gpu_values(gpu), **made, **flags})


def _gpu_info(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    for gpu in snapshot.gpus:
        labels = _labels(
            gpu=str(gpu.index), UUID=gpu.uuid, Hostname=node.name, model=gpu.name, pci_bus_id=full_pci_address(gpu.pci_bus_id),
            minor_number=None if gpu.minor_number is None else str(gpu.minor_number), serial=gpu.serial, vbios_version=gpu.vbios_version,
            cuda_capability=gpu.cuda_capability, compute_mode=gpu.compute_mode,
        )  # fmt: skip
        yield labels, ("1",)


def _mig(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    get = _values(metrics.MIG)
    for gpu in snapshot.gpus:
        for part in gpu.mig:
            instance = None if part.gpu_instance is None else str(part.gpu_instance)
            labels = _labels(
                gpu=str(gpu.index), UUID=gpu.uuid, mig_uuid=part.uuid, GPU_I_PROFILE=part.profile, GPU_I_ID=instance, Hostname=node.name
            )
            yield _row(metrics.MIG, labels, get(part))


def _node(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    made = {
        "taken_at": snapshot.taken_at,
        "interval_seconds": metrics.written(snapshot.interval_seconds),
        "clock_skew_seconds": node.clock_skew_seconds,
        "gpus": str(len(snapshot.gpus)),
    }
    yield _row(metrics.NODE, _labels(Hostname=node.name), {**_host_values(snapshot.host), **made})


def _node_info(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    host = snapshot.host
    labels = _labels(
        Hostname=node.name, version=snapshot.version, driver_version=host.driver_version, cuda_version=host.cuda_version, os=host.os,
        kernel=host.kernel, architecture=host.architecture, cpu_model=host.cpu_model, tags=",".join(node.target.tags),
        simulated="true" if snapshot.simulated else None,
    )  # fmt: skip
    yield labels, ("1",)


def _disks(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    get = _values(metrics.DISK)
    for disk in snapshot.host.disks:
        labels = _labels(mount=disk.mount, device=disk.device, filesystem=disk.filesystem, Hostname=node.name)
        yield _row(metrics.DISK, labels, get(disk))


def _networks(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    get = _values(metrics.NETWORK)
    for network in snapshot.host.networks:
        yield _row(metrics.NETWORK, _labels(interface=network.name, Hostname=node.name), get(network))


def _collectors(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    get = _values(metrics.COLLECTOR)
    for collector in snapshot.collectors:
        yield _row(metrics.COLLECTOR, _labels(collector=collector.name, Hostname=node.name), get(collector))


def _processes(node: NodeState, snapshot: Snapshot) -> Iterator[Row]:
    get = _values(metrics.PROCESS)
    for gpu in snapshot.gpus:
        for process in gpu.processes:
            yield _row(metrics.PROCESS, _process_labels(node, gpu, process), get(process))


def _process_labels(node: NodeState, gpu: GpuReading, process: ProcessReading) -> str:
    """Never the command line: it may hold secrets, and each one would be a series."""
    container = process.container
    instance = None if process.gpu_instance is None else str(process.gpu_instance)
    return _labels(
        gpu=str(gpu.index), UUID=gpu.uuid, GPU_I_ID=instance, pid=str(process.pid), user=process.user, name=process.name, job=process.job,
        container=(container.name or container.id) if container else None, pod=container.pod if container else None, Hostname=node.name,
    )  # fmt: skip


TABLES = (
    Table((metrics.NODE_INFO,), _node_info),
    Table(metrics.NODE, _node),
    Table(metrics.DCGM, _dcgm),
    Table((metrics.GPU_INFO,), _gpu_info),
    Table(metrics.GPU, _gpus),
    Table(metrics.MIG, _mig),
    Table(metrics.DISK, _disks),
    Table(metrics.NETWORK, _networks),
    Table(metrics.COLLECTOR, _collectors),
)
"""In the order of the page."""
GPU_TABLE = 4
_PROCESSES = Table(metrics.PROCESS, _processes)
