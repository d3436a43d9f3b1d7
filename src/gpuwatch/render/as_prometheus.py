"""A hub's cluster, or one node's snapshot, as Prometheus scrapes it: dcgm-exporter's names and labels, and ``gpuwatch_*`` for the rest. Pure.

What is not reported has no line, never 0; of a node without fresh readings there is ``gpuwatch_node_up 0`` and not one old number. A metric's
lines must stand together, so a table's rows are collected over all nodes, and written column by column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Optional

import gpuwatch
from gpuwatch.model.cluster import ClusterNow, NodeState, Target
from gpuwatch.model.snapshot import Snapshot
from gpuwatch.render import prometheus_families as metrics
from gpuwatch.render.prometheus_families import NULL, Family
from gpuwatch.render.prometheus_rows import GPU_TABLE, PROCESSES, TABLES, filled_blocks, labelled, states_block
from gpuwatch.render.text_words import Cache

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
NODES_A_PIECE = 64
ROWS_A_PIECE = 512
"""Some 80 kB of text: it stays in the processor's caches until it is packed, and the allocator does not ask the system for it each time."""
NONE_REFUSED: Mapping[str, int] = MappingProxyType({})


def wants_openmetrics(accept: str) -> bool:
    """What a scraper's Accept header asks for; Prometheus names OpenMetrics first."""
    return "application/openmetrics-text" in accept


def cluster_metrics(
    cluster: ClusterNow, *, processes: bool = False, openmetrics: bool = False, cache: Cache | None = None, refused: Mapping[str, int] = NONE_REFUSED
) -> Iterator[str]:
    """All metrics of all nodes, in pieces. ``processes``: also a series for each process on each GPU; ``refused``: by reason, of who answers."""
    tables = (*TABLES, PROCESSES) if processes else TABLES
    yield _one(metrics.BUILD, labelled(version=gpuwatch.__version__), openmetrics)
    if refused:
        told = [f"{metrics.REFUSED.name}{labelled(reason=reason)}{count}\n" for reason, count in refused.items()]
        yield metrics.REFUSED.head(openmetrics) + "".join(told)
    yield metrics.NODE_UP.head(openmetrics) + "".join([_up(node.name, node.status == "up") for node in cluster.nodes])
    columns = [_Columns(table.families) for table in tables] + [_Columns((metrics.GPU_STATE,))]
    for place, node in enumerate(cluster.nodes, 1):
        if place % NODES_A_PIECE == 0:
            yield ""  # whoever is in no hurry lets others come in
        blocks = filled_blocks(node, tables, cache) if node.status == "up" else ()
        if blocks:
            for one, block in zip(columns, (*blocks, states_block(node, blocks[GPU_TABLE][0]))):
                one.add(*block)
    for one in columns:
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
    return f"{metrics.NODE_UP.name}{labelled(Hostname=name)}{int(up)}\n"


def _one(family: Family, labels: str, openmetrics: bool) -> str:
    return f"{family.head(openmetrics)}{family.name}{labels}1\n"


class _Columns:
    """The rows of a table, over all nodes."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._families = families
        self._parts: list[tuple[list[str], list[str]]] = []
        """Labels, and the values of one row after the other, of some nodes each."""

    def add(self, labels: Sequence[str], values: Sequence[str]) -> None:
        """The rows of one more node."""
        if not self._parts or len(self._parts[-1][0]) >= ROWS_A_PIECE:
            self._parts.append(([], []))
        last = self._parts[-1]
        last[0].extend(labels)
        last[1].extend(values)

    def pieces(self, openmetrics: bool) -> Iterator[str]:
        """Head and lines of each metric that has some."""
        for place, family in enumerate(self._families):
            head = family.head(openmetrics)
            for labels, values in self._parts:
                lines = _lines(family, labels, values[place :: len(self._families)])
                if lines:
                    yield head + lines
                    head = ""


def _lines(family: Family, labels: Sequence[str], values: Sequence[str]) -> str:
    if NULL in values:
        told = [(label, value) for label, value in zip(labels, values) if value != NULL]
        labels, values = [label for label, _ in told], [value for _, value in told]
    if not values:
        return ""
    pieces = [f"\n{family.name}"] * (3 * len(values) + 1)
    pieces[0], pieces[-1] = family.name, "\n"
    pieces[1::3] = labels
    pieces[2::3] = values if family.convert is None else map(family.convert, values)
    return "".join(pieces)
