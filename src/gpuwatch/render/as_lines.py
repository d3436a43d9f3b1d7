"""A node's numbers as lines of InfluxDB's protocol, under the names and labels of /metrics. Pure.

A metric's name is split at its first underscore: ``DCGM,gpu=0,... FI_DEV_GPU_UTIL=97,FI_DEV_GPU_TEMP=59``. VictoriaMetrics joins both again, so
that a query for /metrics finds these; InfluxDB has one measurement with a field a metric. What is not reported has no field, never 0.
"""

from __future__ import annotations

import re
from typing import Iterator, Sequence

from gpuwatch.model.cluster import NodeState
from gpuwatch.render import prometheus_families as metrics
from gpuwatch.render import words
from gpuwatch.render.prometheus_families import NULL, Family
from gpuwatch.render.prometheus_rows import GPU_TABLE, TABLES, filled_blocks, states_block
from gpuwatch.render.text_words import Cache

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_UNESCAPED = re.compile(r"\\(.)")
_SPECIAL = re.compile(r"([ ,=])")


def node_lines(node: NodeState, now: float, cache: Cache | None = None) -> str:
    """All lines of a node; of one without fresh readings only that it is not up. ``now``: their time where it has no reading."""
    up = node.status == "up" and node.received_at is not None
    at = f" {round((node.received_at if up and node.received_at is not None else now) * 1000)}000000\n"
    host = f"{metrics.NODE_UP.name.partition('_')[0]},Hostname={_escaped(words.clean(node.name))}"
    lines = [f"{host} {_field(metrics.NODE_UP)}={int(up)}{at}"]
    if up:
        lines += _readings(node, at, cache)
    return "".join(lines)


def _readings(node: NodeState, at: str, cache: Cache | None) -> Iterator[str]:
    blocks = filled_blocks(node, TABLES, cache)
    for table, (labels, values) in zip(TABLES, blocks):
        yield from _lines(table.families, labels, values, at)
    if blocks:
        yield from _lines((metrics.GPU_STATE,), *states_block(node, blocks[GPU_TABLE][0]), at)


def _lines(families: Sequence[Family], labels: Sequence[str], values: Sequence[str], at: str) -> Iterator[str]:
    measurement = families[0].name.partition("_")[0]
    fields = [(f"{_field(family)}=", family.convert) for family in families]
    for row, label in enumerate(labels):
        own = values[row * len(fields) : (row + 1) * len(fields)]
        told = [field + (value if convert is None else convert(value)) for (field, convert), value in zip(fields, own) if value != NULL]
        if told:
            yield f"{measurement},{_tags(label)} {','.join(told)}{at}"


def _field(family: Family) -> str:
    return family.name.partition("_")[2]


def _tags(label: str) -> str:
    """``{gpu="0",Hostname="a b"} `` as ``gpu=0,Hostname=a\\ b``."""
    return ",".join([f"{name}={_escaped(_UNESCAPED.sub(_plain, text) if chr(92) in text else text)}" for name, text in _LABEL.findall(label)])


def _plain(match: re.Match[str]) -> str:
    return " " if match.group(1) == "n" else match.group(1)


def _escaped(text: str) -> str:
    """As the value of a tag. A backslash at its end would take the comma behind it, and there is no way to write one: it goes."""
    return _SPECIAL.sub(r"\\\1", text.replace("\n", " ").rstrip("\\")) or "-"
