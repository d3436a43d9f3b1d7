"""InfluxDB lines: the names and labels of /metrics, cut at the first underscore; nothing for what is not reported, and no way out of a tag."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.render import samples
from tests.render.live import Live

from gpuwatch.render.as_lines import node_lines
from gpuwatch.render.as_prometheus import cluster_metrics
from gpuwatch.render.fragments import Fragments

NOW = 1_790_000_000.5
LINE = re.compile(r"(DCGM|gpuwatch)((?:,[A-Za-z_]\w*=(?:[^,= \\\n]|\\[ ,=]|\\(?![ ,=\n]))+)*) ([A-Za-z_]\w*=[-+0-9.e]+(?:,[A-Za-z_]\w*=[-+0-9.e]+)*) (\d{19})")


def series_of_lines(text):
    """(name, labels, value) of each field of each line."""
    found = set()
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        measurement, tags, fields, _ = match.groups()
        labels = tuple(sorted((name, re.sub(r"\\([ ,=])", r"\1", value)) for name, value in re.findall(r",(\w+)=((?:[^,= \\]|\\.)*)", tags)))
        found |= {(f"{measurement}_{name}", labels, float(value)) for name, value in (one.split("=") for one in fields.split(","))}
    return found


def series_of_metrics(text):
    found = set()
    for line in text.splitlines():
        if not line.startswith(("#", "gpuwatch_build_info")):
            name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
            pairs = tuple(sorted((label, re.sub(r"\\(.)", r"\1", value)) for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)))
            found.add((name, pairs, float(value)))
    return found


@pytest.mark.parametrize("made", ["built", "live"])
def test_the_same_series_as_in_metrics(made):
    if made == "live":
        live = Live()
        live.poll()
        cluster, cache = live.cluster("stranger"), Fragments()
    else:
        cluster, cache = samples.lab(), None
    for _ in range(2):  # the second time from what was kept
        lines = series_of_lines("".join(node_lines(node, NOW, cache) for node in cluster.nodes))
        assert lines == series_of_metrics("".join(cluster_metrics(cluster)))
    assert len(lines) > 100


def test_time_is_when_the_reading_came_in_nanoseconds():
    node = next(node for node in samples.lab().nodes if node.status == "up")
    lines = node_lines(replace(node, received_at=1_795_980_000.25), NOW).splitlines()
    assert {line.rpartition(" ")[2] for line in lines} == {"1795980000250000000"}


def test_of_a_node_without_fresh_readings_only_that_it_is_not_up():
    for node in samples.lab().nodes:
        if node.status != "up":
            assert node_lines(node, NOW) == f"gpuwatch,Hostname={node.name} node_up=0 1790000000500000000\n"


@pytest.mark.parametrize("name", ["a b", "a,b=c", "a\nb x=1 1", "a\\", 'a"b', "\\", "a\\,b"])
def test_no_name_breaks_out_of_its_tag(name):
    node = next(node for node in samples.lab().nodes if node.status == "up" and node.gpus)
    text = node_lines(replace(node, target=replace(node.target, name=name)), NOW)
    assert all(LINE.fullmatch(line) for line in text.splitlines())
    assert len(text.splitlines()) == len(node_lines(node, NOW).splitlines())
